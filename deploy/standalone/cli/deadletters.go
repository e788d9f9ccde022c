package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"
)

const deadLettersPath = "/millrace/v1/dead-letters"

func (c *Command) deadLetters() *cobra.Command {
	letters := &cobra.Command{Use: "deadletters", Short: "List, show and requeue records that could not be projected"}
	o := c.operator(letters)
	var limit int
	var cursor string
	list := &cobra.Command{
		Use: "list", Short: "List dead letters, newest first", Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{"limit": {strconv.Itoa(limit)}}
			if cursor != "" {
				query.Set("cursor", cursor)
			}
			return o.listLetters(cmd.Context(), query)
		},
	}
	list.Flags().IntVar(&limit, "limit", 100, "letters on a page")
	list.Flags().StringVar(&cursor, "cursor", "", "the page after this one's next")
	letters.AddCommand(list, &cobra.Command{
		Use: "show ID", Short: "Show a dead letter with its record", Args: arguments("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.show(cmd.Context(), http.MethodGet, deadLettersPath+"/"+url.PathEscape(args[0]), nil)
		},
	}, &cobra.Command{
		Use: "requeue ID", Short: "Append a dead letter's record to the log again", Args: arguments("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.post(cmd, deadLettersPath+"/"+url.PathEscape(args[0])+"/requeue", nil)
		},
	})
	return letters
}

// listLetters prints each letter's members line by line, and a blank line after each.
func (o *operator) listLetters(ctx context.Context, query url.Values) error {
	path := deadLettersPath + "?" + query.Encode()
	if o.asJSON {
		return o.show(ctx, http.MethodGet, path, nil)
	}
	answer, err := o.call(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	var page struct {
		Items []json.RawMessage `json:"items"`
		Next  string            `json:"next"`
	}
	if err := json.Unmarshal(answer, &page); err != nil {
		return fmt.Errorf("read the list: %w", err)
	}
	if len(page.Items) == 0 {
		_, err := fmt.Fprintln(o.command.out, "there are no dead letters")
		return err
	}
	for _, letter := range page.Items {
		if err := printReadable(o.command.out, letter); err != nil {
			return err
		}
		_, _ = fmt.Fprintln(o.command.out)
	}
	if page.Next != "" {
		_, err = fmt.Fprintf(o.command.out, "more: --cursor %s\n", page.Next)
	}
	return err
}
