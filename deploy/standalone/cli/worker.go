package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/deploy/standalone/worker"
)

func (c *Command) worker() *cobra.Command {
	o := &operator{command: c}
	var config worker.Config
	var tokenFile string
	cmd := &cobra.Command{
		Use:   "worker --queue QUEUE -- COMMAND [ARGUMENT…]",
		Short: "Take jobs of a queue and run a command for each",
		Long: `Take jobs of a queue, one at a time, and run a command for each: the payload is its standard input, MILLRACE_JOB_ID and
MILLRACE_JOB_QUEUE name the job, and its exit status is the result. For debci/SUITE/ARCHITECTURE that is autopkgtest's: 0 and 2
pass, 4, 6, 12 and 14 fail, 8 neutral, others tmpfail; else 0 pass, others fail. A job that was begun is finished when the worker
is told to end.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if len(config.Queues) == 0 {
				return errors.New("name a queue with --queue")
			}
			if config.Token, err = workerToken(o, tokenFile); err != nil {
				return err
			}
			if config.Client, config.URL, err = o.client(); err != nil {
				return err
			}
			config.Command, config.Environ, config.Out = args, os.Environ(), c.out
			config.Logger = slog.New(slog.NewTextHandler(c.err, nil))
			return worker.Run(cmd.Context(), config)
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&config.Queues, "queue", nil, "queue to take jobs from; several by commas or by repeating the flag")
	flags.StringVar(&o.server, "server", "", "URL of a Millrace elsewhere; default: the one whose data folder this is")
	flags.StringVar(&tokenFile, "token-file", "", "file with a token of role writer for --server; default: $"+tokenVariable)
	flags.BoolVar(&config.Once, "once", false, "end when there is no job")
	return cmd
}

// workerToken gives the token that a server elsewhere wants; the socket in a data folder wants none.
func workerToken(o *operator, file string) (string, error) {
	if file == "" {
		return o.bearer(), nil
	}
	token, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	return strings.TrimSpace(string(token)), nil
}
