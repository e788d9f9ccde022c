// Package cli is the command line of millrace.
package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/deploy/standalone/app"
	"github.com/millrace/millrace/deploy/standalone/config"
	"github.com/millrace/millrace/schemas/telemetry"
)

// Command is the command line, ready to run once.
type Command struct {
	root    *cobra.Command
	version string
	out     io.Writer
	err     io.Writer
	file    string
}

// New gives the command line of a version. Answers go to out, logs and progress to err.
func New(version string, out, err io.Writer) *Command {
	c := &Command{version: version, out: out, err: err}
	c.root = &cobra.Command{
		Use:           "millrace",
		Short:         "The back end of a performance lab",
		Long:          "Millrace takes in benchmark runs, probes and jobs, and answers for their trends, histories and comparisons.",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	c.root.SetOut(out)
	c.root.SetErr(err)
	c.root.PersistentFlags().StringVar(&c.file, "config", "", "settings file (YAML); default: $"+config.FileVariable)
	for _, service := range services {
		c.root.AddCommand(c.serve(service))
	}
	c.root.AddCommand(c.worker(), c.admin(), c.replay(), c.deadLetters(), c.settings(), c.health())
	c.root.InitDefaultCompletionCmd()
	refuseUnknown(c.root)
	return c
}

// ExecuteContext runs the command that args name.
func (c *Command) ExecuteContext(ctx context.Context, args []string) error {
	c.root.SetArgs(args)
	return c.root.ExecuteContext(ctx)
}

// load reads the settings; a file named by the flag goes before one named by the environment.
func (c *Command) load() (config.Config, error) {
	environment := config.Environment()
	if c.file != "" {
		environment = append(environment, config.FileVariable+"="+c.file)
	}
	return config.Load(environment)
}

type service struct {
	role  app.Role
	short string
}

var services = []service{
	{app.Standalone, "Serve everything in one process, on embedded engines where no others are named"},
	{app.Ingest, "Serve the write side of all APIs"},
	{app.Processor, "Move the log into the projections"},
	{app.Query, "Serve the read side of all APIs and the pages"},
	{app.Proxy, "Put the services on one origin"},
}

// gcPercent lets a service's heap grow to three times of what lives before it is collected: that is little beside its bodies and
// batches, and collecting at every doubling took a tenth of the time under load. GOGC says otherwise.
const gcPercent = 200

func (c *Command) serve(s service) *cobra.Command {
	return &cobra.Command{
		Use:   string(s.role),
		Short: s.short,
		Long: s.short + ".\n\n" + `Settings come from the environment and a file. MILLRACE_LISTEN is the address to serve on (127.0.0.1:8080), MILLRACE_DATA the
data folder (./data). millrace config settings lists all of them, millrace config check reports every mistake in them.`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, err := c.load()
			if err != nil {
				return err
			}
			logger, err := telemetry.NewLogger(c.err, settings.Log.Format, settings.Log.Level)
			if err != nil {
				return err
			}
			if os.Getenv("GOGC") == "" {
				debug.SetGCPercent(gcPercent)
			}
			return app.Run(cmd.Context(), app.Options{
				Role: s.role, Config: settings, Version: c.version, Progress: c.err, Logger: logger,
			})
		},
	}
}

func (c *Command) settings() *cobra.Command {
	parent := &cobra.Command{Use: "config", Short: "Check and explain the settings"}
	parent.AddCommand(&cobra.Command{
		Use: "check", Short: "Read the settings and report every mistake", Args: arguments(),
		RunE: func(*cobra.Command, []string) error {
			for _, name := range config.Unknown(config.Environment()) {
				_, _ = fmt.Fprintf(c.err, "warning: the variable %s is ignored: it is no setting (millrace config settings lists these)\n", name)
			}
			if _, err := c.load(); err != nil {
				return err
			}
			_, err := fmt.Fprintln(c.out, "the settings are sound")
			return err
		},
	}, &cobra.Command{
		Use: "settings", Short: "List every setting, in Markdown", Args: arguments(),
		RunE: func(*cobra.Command, []string) error {
			_, err := io.WriteString(c.out, config.Markdown())
			return err
		},
	})
	return parent
}

// quiet is a logger for commands that answer on the terminal: only what went wrong.
func (c *Command) quiet() *slog.Logger {
	return slog.New(slog.NewTextHandler(c.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
}
