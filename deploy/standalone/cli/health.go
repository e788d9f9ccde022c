package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/deploy/standalone/app"
)

// healthTimeout is longer than /readyz takes to try every engine.
const healthTimeout = 4 * time.Second

// health is for container health checks: an image without a shell has no curl.
func (c *Command) health() *cobra.Command {
	return &cobra.Command{
		Use: "health [URL]", Args: arguments("[URL]"),
		Short: "Ask a Millrace whether it is ready; exit status 1 says no",
		Long:  "Asks URL/readyz. Without URL it asks the process that serves where the settings say (MILLRACE_LISTEN) on this machine.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				if err := checkURL(args[0]); err != nil {
					return err
				}
				return c.askReady(cmd.Context(), args[0])
			}
			settings, err := c.load()
			if err != nil {
				return err
			}
			return c.askReady(cmd.Context(), "http://"+app.Reachable(settings.Listen))
		},
	}
}

func (c *Command) askReady(ctx context.Context, base string) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(base, "/")+"/readyz", nil)
	if err != nil {
		return fmt.Errorf("ask whether it is ready: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("ask whether it is ready: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("ask whether it is ready: %w", err)
	}
	text := strings.TrimSpace(string(answer))
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s is not ready, status %d: %s", base, response.StatusCode, text)
	}
	_, err = fmt.Fprintln(c.out, text)
	return err
}
