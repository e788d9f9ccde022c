package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	settings "github.com/millrace/millrace/deploy/standalone/config"
	"github.com/millrace/millrace/deploy/standalone/worker"
)

// outputBytes is far below files.max_bytes, and more than a person reads.
const outputBytes = 16 << 20

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
is told to end.

What the command writes is shown here, and stored with the job as its artifact output.log:
GET /millrace/v1/jobs/ID/artifacts/output.log. A job whose command writes nothing has none.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return fmt.Errorf("COMMAND is missing: name the command to run for each job after --, as in: %s", cmd.UseLine())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if len(config.Queues) == 0 {
				return errors.New("name a queue with --queue")
			}
			if config.OutputBytes < 0 {
				return fmt.Errorf("--output-bytes: %d is less than 0", config.OutputBytes)
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
	flags.StringVar(&tokenFile, "token-file", "", "file with a token of role writer for --server; default: $"+settings.TokenVariable)
	flags.BoolVar(&config.Once, "once", false, "take one job and end; end at once when none waits")
	flags.Int64Var(&config.OutputBytes, "output-bytes", outputBytes, "bytes of the command's output to store with a job; what is beyond is cut; 0: none")
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
