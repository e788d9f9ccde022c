package pgbench

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/processor/pgperffarm"
)

// needPostgres skips a test on a machine without PostgreSQL's server.
func needPostgres(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs a real server for seconds")
	}
	if _, err := findInstallation(); err != nil {
		t.Skip(err)
	}
	if _, err := serverAccount(); err != nil {
		t.Skip(err)
	}
}

func smallRun() Options {
	return Options{
		Settings: map[string]string{"work_mem": "5MB", "application_name": "it's \\ odd"},
		Commit:   SettingsCommit(map[string]string{"work_mem": "5MB"}), Branch: "master", Iterations: 2,
		Tests: []Test{
			{Clients: []int{1, 2}, Scale: 1, DurationSeconds: 1, ReadOnly: true},
			{Clients: []int{2}, Scale: 1, DurationSeconds: 2},
		},
	}
}

func TestRunGivesADocumentThatTheFarmAccepts(t *testing.T) {
	needPostgres(t)
	path := scratchHome(t)
	before := time.Now().Truncate(time.Second)
	document, err := Run(t.Context(), smallRun())
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := pgperffarm.Parse(document, pgperffarm.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if parsed.Start.Before(before) || parsed.End.Before(parsed.Start) || parsed.End.After(time.Now()) {
		t.Errorf("run from %s to %s, but it was called at %s", parsed.Start, parsed.End, before)
	}
	checkResults(t, parsed.Results)
	checkServer(t, parsed)
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the scratch folder is still there (%v)", err)
	}
}

func checkResults(t *testing.T, results []pgperffarm.Result) {
	t.Helper()
	var got []string
	for _, r := range results {
		got = append(got, fmt.Sprintf("%d clients, read only %v, iteration %d", r.Clients, r.ReadOnly, r.Iteration))
		if r.TPS <= 0 || r.Latency <= 0 || r.Init <= 0 || r.End-r.Start < 1 {
			t.Errorf("%s: tps %v, latency %v ms, init %v s, %v s long", got[len(got)-1], r.TPS, r.Latency, r.Init, r.End-r.Start)
		}
		statements := 11
		if r.ReadOnly {
			statements = 2
		}
		// pgbench logs a second when it is over: of one second it may log nothing, of two at least one line for each thread.
		logLines := (r.Duration - 1) * r.Clients
		if len(r.Statements) != statements || len(r.StatStatements) == 0 || len(r.Log) < logLines {
			t.Errorf("%s: %d statements, %d rows of pg_stat_statements, %d lines of log", got[len(got)-1], len(r.Statements),
				len(r.StatStatements), len(r.Log))
		}
	}
	want := []string{
		"1 clients, read only true, iteration 0", "2 clients, read only true, iteration 0",
		"1 clients, read only true, iteration 1", "2 clients, read only true, iteration 1",
		"2 clients, read only false, iteration 0", "2 clients, read only false, iteration 1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
}

func checkServer(t *testing.T, parsed *pgperffarm.Document) {
	t.Helper()
	want := pgperffarm.Setting{Name: "work_mem", Source: "configuration file", Value: "5120"}
	if !slices.Contains(parsed.Settings, want) {
		t.Errorf("settings %v, want %v among them", parsed.Settings, want)
	}
	if strings.Contains(parsed.Compiler, "impossible") || parsed.Kernel.Name != "Linux" || parsed.Hardware.Cores < 1 {
		t.Errorf("compiler %q, kernel %+v, hardware %+v", parsed.Compiler, parsed.Kernel, parsed.Hardware)
	}
	if !strings.Contains(parsed.Logs.Postgres, "database system is shut down") {
		t.Errorf("the server's log does not tell its end: %s", tail(parsed.Logs.Postgres, 500))
	}
}

func TestCancelledRunLeavesNothingBehind(t *testing.T) {
	needPostgres(t)
	path := scratchHome(t)
	ctx, cancel := context.WithCancel(t.Context())
	options := smallRun()
	options.Tests[0].DurationSeconds = 600
	options.Progress = func(step string) {
		if strings.HasPrefix(step, "pgbench:") {
			cancel()
		}
	}
	document, err := Run(ctx, options)
	if !errors.Is(err, context.Canceled) || document != nil {
		t.Errorf("Run = %d bytes, %v; want %v", len(document), err, context.Canceled)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the scratch folder is still there (%v)", err)
	}
	again, err := openScratch(nil)
	if err != nil {
		t.Fatalf("the next run finds: %v", err)
	}
	if err := again.remove(); err != nil {
		t.Fatal(err)
	}
}

func TestSettingThatTheServerRefusesIsShownInItsWords(t *testing.T) {
	needPostgres(t)
	scratchHome(t)
	options := smallRun()
	options.Settings = map[string]string{"work_mem": "plenty"}
	_, err := Run(t.Context(), options)
	if err == nil || !strings.Contains(err.Error(), `invalid value for parameter "work_mem"`) {
		t.Errorf("error %v, want the server's complaint about work_mem", err)
	}
}

func TestOptionsAreRefusedBeforeAnythingStarts(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Options)
		want   string
	}{
		{"no commit", func(o *Options) { o.Commit = "" }, "commit"},
		{"no branch", func(o *Options) { o.Branch = "" }, "branch"},
		{"no iteration", func(o *Options) { o.Iterations = 0 }, "iterations 0"},
		{"no test", func(o *Options) { o.Tests = nil }, "no tests"},
		{"no clients", func(o *Options) { o.Tests[1].Clients = nil }, "test 1"},
		{"zero clients", func(o *Options) { o.Tests[0].Clients = []int{0} }, "test 0: clients [0]"},
		{"clients twice", func(o *Options) { o.Tests[0].Clients = []int{2, 1, 2} }, "twice"},
		{"scale", func(o *Options) { o.Tests[0].Scale = 0 }, "scale 0"},
		{"duration", func(o *Options) { o.Tests[0].DurationSeconds = -1 }, "duration -1 s"},
		{"setting's name", func(o *Options) { o.Settings["a = b\nc"] = "1" }, "not a name"},
		{"setting's value", func(o *Options) { o.Settings["work_mem"] = "1\nfsync=off" }, "line break"},
		{"setting of the scratch server", func(o *Options) { o.Settings["listen_addresses"] = "*" }, "listen_addresses"},
	} {
		t.Run(test.name, func(t *testing.T) {
			options := smallRun()
			test.change(&options)
			if _, err := Run(t.Context(), options); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestCommitStandsForTheSettingsAndNothingElse(t *testing.T) {
	commit := SettingsCommit(map[string]string{"a": "1", "b": "2"})
	if !regexp.MustCompile(`^[0-9a-f]{40}$`).MatchString(commit) {
		t.Errorf("%q is not a commit's hash", commit)
	}
	if again := SettingsCommit(map[string]string{"b": "2", "a": "1"}); again != commit {
		t.Errorf("the same settings gave %s and %s", commit, again)
	}
	for _, other := range []map[string]string{{}, {"a": "1"}, {"a": "2", "b": "1"}} {
		if SettingsCommit(other) == commit {
			t.Errorf("settings %v have the commit of others", other)
		}
	}
}

func TestSettingsAreSentAsCSVWithCRLF(t *testing.T) {
	text, err := settingsCSV([]setting{{"work_mem", "4096", "default"}, {"DateStyle", "ISO, MDY", "configuration file"}})
	if err != nil {
		t.Fatal(err)
	}
	want := "name,setting,source\r\nwork_mem,4096,default\r\nDateStyle,\"ISO, MDY\",configuration file\r\n"
	if text != want {
		t.Errorf("settingsCSV = %q, want %q", text, want)
	}
	if _, err := csv.NewReader(strings.NewReader(text)).ReadAll(); err != nil {
		t.Error(err)
	}
}

func TestLogsAreNamedAsTheFarmsClientNamesThem(t *testing.T) {
	one := invocation{test: Test{Scale: 20, DurationSeconds: 120, ReadOnly: true}, clients: 8, number: 1}
	prefix := one.logPrefix()
	for file, want := range map[string]string{
		"/work/" + prefix + ".4711":   "pgbench-ro-20-120-8-1-",
		"/work/" + prefix + ".4711.3": "pgbench-ro-20-120-8-1-.4711",
	} {
		if got := aggregateKey(file); got != want {
			t.Errorf("aggregateKey(%q) = %q, want %q", file, got, want)
		}
	}
	one.test.ReadOnly = false
	if got := one.logPrefix(); got != "pgbench-rw-20-120-8-1-" {
		t.Errorf("log prefix %q", got)
	}
}

func TestTimesHaveTheFarmsForms(t *testing.T) {
	at := time.Date(2021, 7, 2, 13, 0, 5, 678_900_000, time.FixedZone("CEST", 2*3600))
	if got := timeText(at); got != "2021-07-02T11:00:05+0000" {
		t.Errorf("timeText = %q", got)
	}
	for d, want := range map[time.Duration]string{
		125 * time.Millisecond: "0:00:00.125000",
		26*time.Hour + 3*time.Minute + 4*time.Second + 5*time.Microsecond: "26:03:04.000005",
	} {
		if got := runtimeText(d); got != want {
			t.Errorf("runtimeText(%s) = %q, want %q", d, got, want)
		}
	}
	if got := unixSeconds(at); got != 1625223605.678 {
		t.Errorf("unixSeconds = %v", got)
	}
}
