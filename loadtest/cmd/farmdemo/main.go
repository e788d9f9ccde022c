// Command farmdemo plays a machine of the PostgreSQL Performance Farm: it runs pgbench against a scratch PostgreSQL, with
// several server settings, and uploads each run, or records it in a folder.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/millrace/millrace/loadtest/pgbench"
	"github.com/millrace/millrace/loadtest/pgbench/uploader"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "farmdemo:", err)
		os.Exit(1)
	}
}

// secretVariable is where the machine's secret may come from, so that it need not stand on the command line.
const secretVariable = "MILLRACE_MACHINE_SECRET"

func run(ctx context.Context, arguments []string, out io.Writer) error {
	flags := flag.NewFlagSet("farmdemo", flag.ContinueOnError)
	server := flags.String("server", "", "upload each run to this server, as http://127.0.0.1:8080")
	secret := flags.String("secret", "", "the machine's secret (default: $"+secretVariable+")")
	folder := flags.String("record", "", "write each run to this folder, as NNN.json")
	rounds := flags.Int("rounds", 1, "runs with each of the server settings")
	seconds := flags.Int("seconds", 3, "duration of each invocation of pgbench")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if *secret == "" {
		*secret = os.Getenv(secretVariable)
	}
	destination, err := chooseDestination(*server, *secret, *folder)
	if err != nil {
		return err
	}
	if *rounds < 1 || *seconds < 1 {
		return fmt.Errorf("-rounds %d, -seconds %d: both must be at least 1", *rounds, *seconds)
	}
	return perform(ctx, *rounds, *seconds, destination, out)
}

// destination takes a document, and says in a few words what became of it.
type destination func(ctx context.Context, document []byte) (string, error)

func chooseDestination(server, secret, folder string) (destination, error) {
	switch {
	case (server == "") == (folder == ""):
		return nil, errors.New("give either -server URL or -record FOLDER")
	case folder != "":
		return recorder(folder)
	case secret == "":
		return nil, fmt.Errorf("the machine's secret is missing: give -secret or set %s; "+
			"`millrace admin pgperffarm machine add ALIAS --owner NAME --approved` prints one", secretVariable)
	}
	client := &uploader.Client{HTTP: &http.Client{Timeout: 2 * time.Minute}, BaseURL: server, Secret: secret}
	return func(ctx context.Context, document []byte) (string, error) {
		outcome, err := client.Upload(ctx, document)
		return outcome.String(), err
	}, nil
}

// perform makes the runs one after the other, each change's together, as commits follow each other.
func perform(ctx context.Context, rounds, seconds int, deliver destination, out io.Writer) error {
	total, number := len(changes())*rounds, 0
	for _, change := range changes() {
		commit := pgbench.SettingsCommit(change.settings)
		for range rounds {
			number++
			prefix := fmt.Sprintf("[%d/%d] ", number, total)
			fmt.Fprintf(out, "%s%s (as commit %s)\n", prefix, change.title, commit[:12])
			document, err := pgbench.Run(ctx, pgbench.Options{
				Settings: change.settings, Commit: commit, Branch: "master", Tests: tests(seconds), Iterations: 1,
				Progress: func(step string) { fmt.Fprintf(out, "%s  %s\n", prefix, step) },
			})
			if err != nil {
				return fmt.Errorf("run %d of %d: %w", number, total, err)
			}
			result, err := deliver(ctx, document)
			if err != nil {
				return fmt.Errorf("run %d of %d: %w", number, total, err)
			}
			fmt.Fprintf(out, "%s%d bytes: %s\n", prefix, len(document), result)
		}
	}
	return nil
}
