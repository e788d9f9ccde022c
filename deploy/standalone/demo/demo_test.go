package demo

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/loadtest/pgbench/uploader"
	"github.com/millrace/millrace/processor/pgperffarm"
)

// parsed reads the whole history with the parser of the upload door.
func parsed(t *testing.T) []*pgperffarm.Document {
	t.Helper()
	var runs []*pgperffarm.Document
	for document, err := range Documents() {
		if err != nil {
			t.Fatal(err)
		}
		run, err := pgperffarm.Parse(document.Body, pgperffarm.DefaultLimits())
		if err != nil {
			t.Fatalf("%s: %v", document.Name, err)
		}
		runs = append(runs, run)
	}
	return runs
}

func TestHistoryIsLargeEnoughForTrends(t *testing.T) {
	type configuration struct {
		clients, scale, duration int
		readOnly                 bool
	}
	runs := parsed(t)
	samples := map[string]map[configuration]int{} // by commit
	for _, run := range runs {
		if samples[run.Commit] == nil {
			samples[run.Commit] = map[configuration]int{}
		}
		for _, r := range run.Results {
			samples[run.Commit][configuration{r.Clients, r.Scale, r.Duration, r.ReadOnly}]++
		}
	}
	if len(runs) != Runs || Runs < 36 {
		t.Errorf("%d runs, want Runs = %d and at least 36", len(runs), Runs)
	}
	if len(samples) < 5 {
		t.Errorf("%d commits, want at least 5", len(samples))
	}
	for commit, configurations := range samples {
		if len(configurations) < 6 {
			t.Errorf("commit %s was tried in %d configurations, want at least 6", commit, len(configurations))
		}
		for c, count := range configurations {
			if count < 5 {
				t.Errorf("commit %s, %+v: %d results, too few for a spread", commit, c, count)
			}
		}
	}
}

func TestRunsAreInTheOrderInWhichTheyWereMade(t *testing.T) {
	var last time.Time
	for i, run := range parsed(t) {
		if !run.Start.After(last) {
			t.Errorf("run %d began at %s, the one before it at %s", i, run.Start, last)
		}
		last = run.Start
	}
}

func TestEveryResultHasWhatTheResultPageShows(t *testing.T) {
	for i, run := range parsed(t) {
		if run.Repository != "https://github.com/postgres/postgres.git" || run.Branch != "master" {
			t.Errorf("run %d is of %s, branch %s: trends leave it out", i, run.Repository, run.Branch)
		}
		for _, r := range run.Results {
			if len(r.Log) == 0 || len(r.Statements) == 0 || len(r.StatStatements) == 0 {
				t.Errorf("run %d, %d clients: %d lines of log, %d statements, %d rows of pg_stat_statements",
					i, r.Clients, len(r.Log), len(r.Statements), len(r.StatStatements))
			}
			if len(r.Collectd) != len(pgperffarm.CollectdTables())-1 { // none has disks
				t.Errorf("run %d, %d clients: samples of %d tables", i, r.Clients, len(r.Collectd))
			}
		}
	}
}

func TestCommitsAreExplainedBesideTheHistory(t *testing.T) {
	readme, err := os.ReadFile("history/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, run := range parsed(t) {
		if !bytes.Contains(readme, []byte(run.Commit)) {
			t.Errorf("run %d: history/README.md does not explain commit %s", i, run.Commit)
		}
	}
}

func TestHistoryStaysSmall(t *testing.T) {
	if limit := 600_000; len(history) > limit {
		t.Errorf("the history has %d bytes, the limit is %d", len(history), limit)
	}
}

func TestDamagedHistoryIsAnErrorAndNotAShorterHistory(t *testing.T) {
	for name, archive := range map[string][]byte{
		"cut off": history[:len(history)/2], "not an archive": []byte("hello"), "no compression": make([]byte, 2048),
	} {
		var last error
		for _, err := range documents(archive) {
			last = err
		}
		if last == nil {
			t.Errorf("%s: read without an error", name)
		}
	}
}

// farm answers uploads like the upload door does: 201, or 406 with the stored run.
type farm struct {
	secret string
	stored map[string]bool
	order  []string
}

func (f *farm) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.URL.Path != "/run/upload/" || r.Header.Get("Authorization") != f.secret {
		w.WriteHeader(http.StatusNotAcceptable)
		_, _ = io.WriteString(w, `{"error": "unknown machine"}`)
		return
	}
	if f.stored[string(body)] {
		w.WriteHeader(http.StatusNotAcceptable)
		_, _ = io.WriteString(w, `{"error": "run_start_time: run 3 has it", "run_id": 3}`)
		return
	}
	f.stored[string(body)] = true
	f.order = append(f.order, string(body))
	w.WriteHeader(http.StatusCreated)
}

func TestLoadUploadsEveryRunInOrderAndCanBeRepeated(t *testing.T) {
	f := &farm{secret: "s", stored: map[string]bool{}}
	server := httptest.NewServer(f)
	defer server.Close()
	for _, want := range []Summary{{Stored: Runs}, {Present: Runs}} {
		var told []Progress
		got, err := Load(t.Context(), server.Client(), server.URL, "s", func(p Progress) { told = append(told, p) })
		if err != nil || got != want {
			t.Fatalf("Load = %+v, %v; want %+v", got, err, want)
		}
		if len(told) != Runs || told[Runs-1].Number != Runs || told[0].Document != "001.json" {
			t.Errorf("progress %+v", told)
		}
	}
	i := 0
	for document := range Documents() {
		if f.order[i] != string(document.Body) {
			t.Errorf("document %d uploaded is not %s", i, document.Name)
		}
		i++
	}
}

func TestLoadEndsAtTheFirstRefusalWithItsReason(t *testing.T) {
	server := httptest.NewServer(&farm{secret: "s"})
	defer server.Close()
	summary, err := Load(t.Context(), server.Client(), server.URL, "wrong", func(p Progress) { t.Errorf("progress %+v", p) })
	refusal, ok := errors.AsType[*uploader.Refusal](err)
	if !ok || refusal.Reason != "unknown machine" || !strings.Contains(err.Error(), "001.json") || summary != (Summary{}) {
		t.Errorf("Load = %+v, %v; want the refusal of 001.json", summary, err)
	}
}
