package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// healthTimeout is longer than /readyz takes to try every engine.
const healthTimeout = 4 * time.Second

// health is for container health checks: an image without a shell has no curl.
func (c *Command) health() *cobra.Command {
	return &cobra.Command{
		Use: "health [URL]", Args: cobra.MaximumNArgs(1),
		Short: "Ask a Millrace whether it is ready; exit status 1 says no",
		Long:  "Asks URL/readyz. Without URL it asks the process that serves where the settings say (MILLRACE_LISTEN) on this machine.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return c.askReady(cmd.Context(), args[0])
			}
			settings, err := c.load()
			if err != nil {
				return err
			}
			host, err := reachable(settings.Listen)
			if err != nil {
				return err
			}
			return c.askReady(cmd.Context(), "http://"+host)
		},
	}
}

// reachable turns an address to listen on into one to connect to: a process that listens on every address of the
// machine is found on loopback.
func reachable(listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", fmt.Errorf("listen: %q is not host:port: %w", listen, err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
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
