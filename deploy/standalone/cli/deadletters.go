package cli

import (
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
		Use: "list", Short: "List dead letters, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{"limit": {strconv.Itoa(limit)}}
			if cursor != "" {
				query.Set("cursor", cursor)
			}
			return o.show(cmd.Context(), http.MethodGet, deadLettersPath+"?"+query.Encode(), nil)
		},
	}
	list.Flags().IntVar(&limit, "limit", 100, "letters on a page")
	list.Flags().StringVar(&cursor, "cursor", "", "the page after this one's next")
	letters.AddCommand(list, &cobra.Command{
		Use: "show ID", Short: "Show a dead letter with its record", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.show(cmd.Context(), http.MethodGet, deadLettersPath+"/"+url.PathEscape(args[0]), nil)
		},
	}, &cobra.Command{
		Use: "requeue ID", Short: "Append a dead letter's record to the log again", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.post(cmd, deadLettersPath+"/"+url.PathEscape(args[0])+"/requeue", nil)
		},
	})
	return letters
}
