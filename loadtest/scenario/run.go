package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/millrace/millrace/loadtest/report"
	"github.com/millrace/millrace/loadtest/target"
)

// Options are what a scenario runs with.
type Options struct {
	// Version is the harness's own.
	Version  string
	Programs target.Programs
	// Folder is where data and logs go; empty: a new folder for temporary files, removed at the end unless Keep is set or
	// something went wrong.
	Folder   string
	Keep     bool
	Progress *report.Progress
}

// lab is a running scenario: its target, and where it reports.
type lab struct {
	ctx      context.Context
	options  Options
	folder   string
	seed     uint64
	target   *target.Target
	result   *report.Result
	progress *report.Progress
}

// Run runs the scenario and gives its result, also when it ended early: then the error is in it.
func (s *Scenario) Run(ctx context.Context, o Options) *report.Result {
	c := s.kind.common()
	result := &report.Result{
		Scenario: s.Name, Kind: c.Kind, About: c.About, Seed: c.Seed, Started: time.Now().UTC(), Machine: report.ThisMachine(),
		Versions: report.Versions{Loadtest: o.Version, Go: runtime.Version()}, Settings: settingsOf(s.kind),
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.Limit, fmt.Errorf("the scenario's limit of %s is over", c.Limit))
	defer cancel()
	err := s.run(ctx, o, result)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = fmt.Errorf("%w (%w)", err, cause)
	}
	result.Finish(err)
	return result
}

func (s *Scenario) run(ctx context.Context, o Options, result *report.Result) (err error) {
	l := &lab{ctx: ctx, options: o, folder: o.Folder, seed: s.kind.common().Seed, result: result, progress: o.Progress}
	if l.folder == "" {
		if l.folder, err = os.MkdirTemp("", "loadtest-"); err != nil {
			return fmt.Errorf("make a folder: %w", err)
		}
		defer func() { err = errors.Join(err, l.tidy(err)) }()
	} else if err := os.MkdirAll(l.folder, 0o700); err != nil {
		return fmt.Errorf("make the folder: %w", err)
	}
	l.progress.Phase("starting the target", nil)
	if l.target, err = target.Open(ctx, s.kind.common().Target, o.Programs, l.folder); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.target.Close()) }()
	result.Versions.Millrace = l.target.Version(ctx)
	return s.kind.run(l)
}

// tidy removes the temporary folder after a good run; after another it shows what happened.
func (l *lab) tidy(err error) error {
	if err != nil || l.options.Keep || !l.result.Kept() {
		l.result.Folder = l.folder
		return nil
	}
	return os.RemoveAll(l.folder)
}

// settingsOf gives a scenario as a program reads it, times as text.
func settingsOf(k kind) any {
	text, err := yaml.Marshal(k)
	if err != nil {
		return err.Error()
	}
	var settings map[string]any
	if err := yaml.Unmarshal(text, &settings); err != nil {
		return err.Error()
	}
	return settings
}

// client is an HTTP client for many requests at a time; timeout bounds each.
func client(connections int, timeout time.Duration) *http.Client {
	return &http.Client{Timeout: timeout, Transport: &http.Transport{
		MaxIdleConns: connections, MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections,
		IdleConnTimeout: time.Minute, DisableCompression: true,
	}}
}

// logOf names a file for a child's log.
func (l *lab) logOf(name string) string { return filepath.Join(l.folder, name+".log") }
