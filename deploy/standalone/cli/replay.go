package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/deploy/standalone/app"
)

func (c *Command) replay() *cobra.Command {
	replay := &cobra.Command{
		Use: "replay", Args: arguments(),
		Short: "Build all projections again from the log, beside the live ones, and swap",
		Long: "Builds a new generation of the projections from the archive and the log while reads go on from the present one, " +
			"then makes it current. On one machine the running Millrace does it; in a cluster (MILLRACE_KAFKA and MILLRACE_CLICKHOUSE set) " +
			"this process does.",
	}
	o := c.operator(replay)
	replay.RunE = func(cmd *cobra.Command, _ []string) error {
		settings, err := c.load()
		if err != nil {
			return err
		}
		if o.server == "" && settings.Kafka != "" && settings.ClickHouse != "" {
			return app.Replay(cmd.Context(), app.Options{
				Role: app.Processor, Config: settings, Version: c.version, Progress: c.err, Logger: c.quiet(),
			}, func(p app.ReplayProgress) error { return c.showReplay(o, p) })
		}
		return c.watchReplay(cmd, o)
	}
	return replay
}

// watchReplay asks the running Millrace for a replay and shows its progress, a JSON object in each line.
func (c *Command) watchReplay(cmd *cobra.Command, o *operator) error {
	response, err := o.send(cmd.Context(), http.MethodPost, app.ReplayPath, nil)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	lines := bufio.NewScanner(response.Body)
	finished := false
	for lines.Scan() {
		if err := refusal(response.StatusCode, lines.Bytes()); err != nil {
			return err
		}
		var progress app.ReplayProgress
		if err := json.Unmarshal(lines.Bytes(), &progress); err != nil {
			return fmt.Errorf("read the progress of the replay: %w", err)
		}
		if progress.Error != "" {
			return errors.New(progress.Error)
		}
		if err := c.showReplay(o, progress); err != nil {
			return err
		}
		finished = progress.Report != nil
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read the progress of the replay: %w", err)
	}
	if !finished {
		return errors.New("the answer ended before the replay did: the projections in use are the former ones")
	}
	return nil
}

func (c *Command) showReplay(o *operator, p app.ReplayProgress) error {
	var err error
	switch {
	case p.Report == nil:
		_, err = fmt.Fprintf(c.err, "\rreplayed %d records", p.Records)
	case o.asJSON:
		err = json.NewEncoder(c.out).Encode(p.Report)
	default:
		rate := float64(p.Report.Records) / max(p.Report.Seconds, 1e-3)
		_, err = fmt.Fprintf(c.out, "\ngeneration %d is current: %d records in %.1f s (%.0f a second)\n",
			p.Report.Generation, p.Report.Records, p.Report.Seconds, rate)
	}
	return err
}
