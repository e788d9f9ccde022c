// Package pgbench makes real input for the PostgreSQL Performance Farm's API: it starts a scratch PostgreSQL, runs the
// real pgbench against it, and builds the upload document that the farm's own client would send.
//
// It needs Linux and PostgreSQL's server programs (initdb, postgres, pgbench). The scratch server listens on a Unix
// socket in a private folder only, and is stopped and removed when [Run] returns, whatever ended it.
package pgbench

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Repository is the remote that every document names. It is one of the farm's official repositories, because the
// farm's trends leave all others out.
const Repository = "https://github.com/postgres/postgres.git"

// Test is one element of the farm's list of tests: one data set, tried with several numbers of clients.
type Test struct {
	Clients         []int // numbers of clients, each at least 1; pgbench gets as many threads
	Scale           int   // pgbench's scale factor, at least 1
	DurationSeconds int   // of each invocation, at least 1
	ReadOnly        bool  // the select-only script instead of the TPC-B-like one
}

// Options says what to run.
type Options struct {
	Settings   map[string]string // server settings by name, written to postgresql.conf
	Commit     string            // the commit that the document names
	Branch     string            // the branch that the document names
	Tests      []Test
	Iterations int          // how often each test is repeated, at least 1
	Progress   func(string) // told of each step in one line; may be nil
}

// SettingsCommit gives a set of server settings a name in the form of a commit: the SHA-1, in hexadecimal, of the line
// "server settings" and the lines "name = value", sorted. Runs of one PostgreSQL with different settings can so stand for
// runs of different commits.
func SettingsCommit(settings map[string]string) string {
	var text strings.Builder
	text.WriteString("server settings\n")
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&text, "%s = %s\n", name, settings[name])
	}
	sum := sha1.Sum([]byte(text.String()))
	return hex.EncodeToString(sum[:])
}

// Run performs one run of the farm and returns its upload document, a JSON array of one object (contract section 6).
// It takes Iterations times the sum over all tests of clients times duration, and a few seconds to set up. Cancelling
// ctx ends pgbench and the server; nothing is left behind. One run at a time is possible for each user of a machine.
func Run(ctx context.Context, options Options) (document []byte, err error) {
	if err := options.validate(); err != nil {
		return nil, err
	}
	programs, err := findInstallation()
	if err != nil {
		return nil, err
	}
	received := time.Now()
	cluster, err := newCluster(programs)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cluster.remove()) }()

	r := &run{options: options, cluster: cluster, proc: os.DirFS("/proc")}
	if err := r.perform(ctx, received); err != nil {
		return nil, err
	}
	document, err = json.Marshal([]*upload{&r.upload})
	if err != nil {
		return nil, fmt.Errorf("encode the upload document: %w", err)
	}
	return document, nil
}

// settingName is what PostgreSQL takes as the name of a setting, extensions' included.
var settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?$`)

func (o Options) validate() error {
	var problems []error
	refuse := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if o.Commit == "" || o.Branch == "" {
		refuse("commit %q and branch %q: both are needed", o.Commit, o.Branch)
	}
	if o.Iterations < 1 {
		refuse("iterations %d: at least 1 is needed", o.Iterations)
	}
	if len(o.Tests) == 0 {
		refuse("no tests: at least one is needed")
	}
	for name, value := range o.Settings {
		if !settingName.MatchString(name) {
			refuse("setting %q: not a name of a PostgreSQL setting", name)
		}
		if strings.ContainsAny(value, "\n\r\x00") {
			refuse("setting %s: value %q has a line break or NUL in it", name, value)
		}
		if _, ours := scratchSettings("")[name]; ours {
			refuse("setting %s: the scratch server needs its own value of it", name)
		}
	}
	for i, test := range o.Tests {
		if err := test.validate(); err != nil {
			refuse("test %d: %w", i, err)
		}
	}
	return errors.Join(problems...)
}

func (t Test) validate() error {
	if t.Scale < 1 || t.DurationSeconds < 1 || len(t.Clients) == 0 {
		return fmt.Errorf("scale %d, duration %d s, %d numbers of clients: each must be at least 1",
			t.Scale, t.DurationSeconds, len(t.Clients))
	}
	if slices.Min(t.Clients) < 1 {
		return fmt.Errorf("clients %v: each must be at least 1", t.Clients)
	}
	if len(slices.Compact(slices.Sorted(slices.Values(t.Clients)))) != len(t.Clients) {
		return fmt.Errorf("clients %v: a number is there twice, and its results could not be told apart", t.Clients)
	}
	return nil
}
