package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/millrace/millrace/deploy/standalone/app"
)

func (c *Command) backup() *cobra.Command {
	backup := &cobra.Command{
		Use: "backup FILE", Args: arguments("FILE"),
		Short: "Save the running Millrace in one file: log, blobs and keys",
		Long: "The file holds the installation's keys: whoever has it can read every secret. It is written with mode 0600, and " +
			"appears under its name once it is whole.",
	}
	o := c.operator(backup)
	backup.RunE = func(cmd *cobra.Command, args []string) error {
		settings, err := c.load()
		if err != nil {
			return err
		}
		var write func(to io.Writer) error
		if settings.Kafka != "" && settings.ClickHouse != "" && o.server == "" {
			write = func(to io.Writer) error {
				return app.Backup(cmd.Context(), app.Options{
					Role: app.Processor, Config: settings, Version: c.version, Progress: c.err, Logger: c.quiet(),
				}, to)
			}
		} else {
			write = func(to io.Writer) error { return o.download(cmd.Context(), app.BackupPath, to, terminal(c.err)) }
		}
		return c.saveTo(o, args[0], write)
	}
	return backup
}

// saveTo writes a file that appears under its name when it is whole.
func (c *Command) saveTo(o *operator, path string, write func(io.Writer) error) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is there already: name another file for the backup, or remove this one", path)
	}
	part := path + ".part"
	file, err := os.OpenFile(part, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("create the backup: %w", err)
	}
	err = write(file)
	if err == nil {
		err = file.Sync()
	}
	info, statErr := file.Stat()
	if closeErr := file.Close(); err == nil && (closeErr != nil || statErr != nil) {
		err = fmt.Errorf("write the backup: %w", closeErr)
	}
	if err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		_ = os.Remove(part)
		return err
	}
	if o.asJSON {
		return json.NewEncoder(c.out).Encode(map[string]any{"file": path, "bytes": info.Size()})
	}
	_, err = fmt.Fprintf(c.out, "saved %d bytes in %s\n", info.Size(), path)
	return err
}

// terminal gives a stream if a person looks at it, nil otherwise.
func terminal(stream io.Writer) io.Writer {
	if file, ok := stream.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		return file
	}
	return nil
}

// received shows a person how many bytes have come.
type received struct {
	to    io.Writer
	bytes int64
	shown time.Time
}

func (r *received) Write(b []byte) (int, error) {
	r.bytes += int64(len(b))
	if time.Since(r.shown) > 100*time.Millisecond {
		r.show("")
	}
	return len(b), nil
}

func (r *received) show(end string) {
	r.shown = time.Now()
	_, _ = fmt.Fprintf(r.to, "\rreceived %.1f MB%s", float64(r.bytes)/1e6, end) // who cannot be shown it gets the backup all the same
}

// download streams an answer, and shows how much of it has come unless progress is nil. A backup that was cut off is told
// by its missing end mark.
func (o *operator) download(ctx context.Context, path string, to, progress io.Writer) error {
	response, err := o.send(ctx, http.MethodPost, path, nil)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		answer, _ := io.ReadAll(io.LimitReader(response.Body, 1<<20))
		return refusal(response.StatusCode, answer)
	}
	if progress != nil {
		shown := &received{to: progress}
		defer shown.show("\n")
		to = io.MultiWriter(to, shown)
	}
	if _, err := io.Copy(to, response.Body); err != nil {
		return fmt.Errorf("receive the backup: %w", err)
	}
	if failure := response.Trailer.Get(app.FailureTrailer); failure != "" {
		return fmt.Errorf("the backup failed on the server: %s", failure)
	}
	return nil
}

func (c *Command) restore() *cobra.Command {
	restore := &cobra.Command{
		Use: "restore FILE", Args: arguments("FILE"),
		Short: "Bring a backup back into an empty data folder (and empty engines); then start Millrace",
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flag("server").Changed || cmd.Flag("token").Changed {
				return errors.New("restore fills the data folder and the engines that the settings name here, before a Millrace runs on them: " +
					"run it on that machine, without --server and --token")
			}
			settings, err := c.load()
			if err != nil {
				return err
			}
			file, err := os.Open(args[0])
			if err != nil {
				return fmt.Errorf("open the backup: %w", err)
			}
			defer func() { _ = file.Close() }()
			summary, err := app.Restore(cmd.Context(), app.Options{
				Role: app.Standalone, Config: settings, Version: c.version, Progress: c.err, Logger: c.quiet(),
			}, file)
			if err != nil {
				return err
			}
			if strings.EqualFold(cmd.Flag("json").Value.String(), "true") {
				return json.NewEncoder(c.out).Encode(summary)
			}
			_, err = fmt.Fprintf(c.out, "restored %d records and %d blobs; start Millrace to build the projections\n",
				summary.Records, summary.Blobs)
			return err
		},
	}
	// Those of the other commands are known here to be refused, and are not offered.
	for _, name := range []string{"server", "token"} {
		restore.Flags().String(name, "", "")
		must(restore.Flags().MarkHidden(name))
	}
	return restore
}
