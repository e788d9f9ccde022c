// Command loadtest measures a Millrace and checks its promises under load, as scenario files say.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/loadtest/report"
	"github.com/millrace/millrace/loadtest/scenario"
)

// version is set by the linker.
var version = "development"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(os.Stdout, os.Stderr).ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "loadtest:", err)
		os.Exit(1)
	}
}

func command(out io.Writer, progress *os.File) *cobra.Command {
	root := &cobra.Command{
		Use:           "loadtest",
		Short:         "Measure a Millrace and check its promises under load",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetOut(out)
	root.AddCommand(list(out), show(out), run(out, progress))
	return root
}

func list(out io.Writer) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the scenarios that come with the harness", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			names, err := scenario.Names()
			if err != nil {
				return err
			}
			for _, name := range names {
				s, err := scenario.Load(name, nil)
				if err != nil {
					return err
				}
				fmt.Fprintf(out, "%s\n    %s\n", name, s.About())
			}
			return nil
		},
	}
}

func show(out io.Writer) *cobra.Command {
	return &cobra.Command{
		Use: "show SCENARIO", Short: "Print a scenario file, to write another after it", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := scenario.Load(args[0], nil)
			if err != nil {
				return err
			}
			_, err = out.Write(s.Text())
			return err
		},
	}
}

// errBroken ends the program with exit status 1 when the result has said why.
var errBroken = errors.New("a promise is broken")

func run(out io.Writer, progress *os.File) *cobra.Command {
	var o scenario.Options
	var jsonFile string
	var settings []string
	cmd := &cobra.Command{
		Use: "run SCENARIO", Short: "Run a scenario: the name of one that comes with the harness, or a file's path",
		Long: "Runs a scenario and prints what it found. Ends with status 1 when a promise is broken or the run ended early.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := scenario.Load(args[0], settings)
			if err != nil {
				return err
			}
			o.Version, o.Progress = version, report.NewProgress(progress)
			result := s.Run(cmd.Context(), o)
			o.Progress.Close()
			return tell(out, result, jsonFile)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&jsonFile, "json", "", "write the result to this file")
	flags.StringArrayVar(&settings, "set", nil, "KEY=VALUE in place of what the file says, as --set rounds=1 (repeatable)")
	flags.StringVar(&o.Programs.Folder, "bin", programFolder(), "folder of the programs millrace, bareappend and engines")
	flags.StringVar(&o.Folder, "folder", "", "folder for data and logs; default: a temporary one")
	flags.BoolVar(&o.Keep, "keep", false, "keep the temporary folder")
	return cmd
}

// programFolder is where the harness itself is: make builds all programs into one folder.
func programFolder() string {
	path, err := os.Executable()
	if err != nil {
		return "."
	}
	return filepath.Dir(path)
}

func tell(out io.Writer, result *report.Result, jsonFile string) error {
	errs := []error{result.Print(out)}
	if jsonFile != "" {
		errs = append(errs, result.WriteJSON(jsonFile))
	}
	switch {
	case result.Error != "":
		errs = append(errs, errors.New(result.Error))
	case !result.OK:
		errs = append(errs, errBroken)
	}
	return errors.Join(errs...)
}
