package farm

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/loadtest/ledger"
	"github.com/millrace/millrace/loadtest/target"
	"github.com/millrace/millrace/processor/pgperffarm"
)

func TestDocumentsCarryTheirNumber(t *testing.T) {
	for _, size := range []Size{Small, Large} {
		plan := Plan{Seed: 7, Size: size}
		for _, u := range []ledger.Upload{{}, {Machine: 3, Number: 12_345}, {Machine: 999, Number: MaxNumber - 1}} {
			document, err := pgperffarm.Parse(plan.Document(u), pgperffarm.DefaultLimits())
			if err != nil {
				t.Fatalf("%s document of %s: %v", size, u, err)
			}
			if got, err := ParseCommit(document.Commit); err != nil || got != u {
				t.Errorf("commit of %s reads back as %s: %v", u, got, err)
			}
			if !document.Start.Equal(Start(u.Number)) {
				t.Errorf("%s starts at %s, want %s", u, document.Start, Start(u.Number))
			}
			if results := len(document.Results); results != size.Results() {
				t.Errorf("a %s document has %d results, want %d", size, results, size.Results())
			}
		}
	}
	if last := Start(MaxNumber - 1); last.After(time.Now()) {
		t.Errorf("the last upload starts at %s, in the future", last)
	}
}

func TestTheSamePlanMakesTheSameDocuments(t *testing.T) {
	u := ledger.Upload{Machine: 1, Number: 2}
	document := string(Plan{Seed: 1, Size: Small}.Document(u))
	if document != string(Plan{Seed: 1, Size: Small}.Document(u)) {
		t.Error("one plan makes two documents of an upload")
	}
	if document == string(Plan{Seed: 2, Size: Small}.Document(u)) {
		t.Error("another seed makes the same document")
	}
}

func TestRunsShareCommitsWhereThePlanSaysSo(t *testing.T) {
	plan := Plan{Seed: 1, Size: Small, RunsPerCommit: 5}
	commits := map[string]int{}
	for number := range 20 {
		document, err := pgperffarm.Parse(plan.Document(ledger.Upload{Number: number}), pgperffarm.DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		commits[document.Commit]++
	}
	if len(commits) != 4 {
		t.Errorf("20 runs show %d commits, want 4", len(commits))
	}
}

func TestCommitsOfOthersAreToldApart(t *testing.T) {
	for _, commit := range []string{"", "x", strings.Repeat("0", 40), Commit(1, 2)[:38], Commit(1, 2) + "00"} {
		if u, err := ParseCommit(commit); err == nil {
			t.Errorf("commit %q reads as %s", commit, u)
		}
	}
}

func TestMachinesTakeTurns(t *testing.T) {
	m := Machines{First: 2, Count: 3, From: 10}
	var got []ledger.Upload
	for i := range 4 {
		got = append(got, m.Upload(i))
	}
	want := []ledger.Upload{{Machine: 2, Number: 10}, {Machine: 3, Number: 10}, {Machine: 4, Number: 10}, {Machine: 2, Number: 11}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("uploads %v, want %v", got, want)
	}
}

func TestJudgeSaysWhatAnAnswerSettles(t *testing.T) {
	const duplicate = `{"error": "run 7 began at the same time", "run_id": 7}`
	tests := []struct {
		name     string
		status   int
		location string
		body     string
		policy   Policy
		repeated bool
		want     verdict
		run      uint64
	}{
		{"stored", 201, "/run/12", "", Once, false, settledStored, 12},
		{"stored, found out by a repeat", 201, "/run/12", "", Careful, true, settledStored, 12},
		{"a repeat without a key names the run", 406, "", duplicate, Plain, true, settledStored, 7},
		{"a first attempt cannot be a duplicate", 406, "", duplicate, Plain, false, settledRefused, 0},
		{"a repeat with a key must get the first answer", 406, "", duplicate, Careful, true, settledRefused, 0},
		{"refused", 406, "", `{"error": "compiler: is missing"}`, Plain, true, settledRefused, 0},
		{"refused without a word", 406, "", "", Plain, true, settledRefused, 0},
		{"wrong JSON", 400, "", "{}", Careful, false, settledRefused, 0},
		{"unsettled", 503, "", "{}", Careful, false, again, 0},
		{"too busy", 429, "", "", Careful, false, again, 0},
		{"a fault of the server's", 500, "", "", Careful, false, again, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, run, reason := judge(test.status, test.location, []byte(test.body), test.policy, test.repeated)
			if got != test.want || run != test.run {
				t.Errorf("verdict %d with run %d, want %d with %d", got, run, test.want, test.run)
			}
			if (reason == "") != (got == settledStored) {
				t.Errorf("reason %q", reason)
			}
		})
	}
}

// scripted answers uploads as told, one after the other.
func scripted(t *testing.T, policy Policy, answers ...func(http.ResponseWriter, *http.Request)) (*Sender, *atomic.Int64) {
	t.Helper()
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answers[asked.Add(1)-1](w, r)
	}))
	t.Cleanup(server.Close)
	return &Sender{
		Plan: Plan{Seed: 1, Size: Small}, Policies: []Policy{policy}, Ledger: ledger.New(1), HTTP: server.Client(),
		Target: &target.Target{URL: server.URL, Machines: []target.Machine{{ID: 1, Secret: "secret"}}},
	}, &asked
}

func broken(w http.ResponseWriter, _ *http.Request) {
	connection, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_ = connection.Close()
	}
}

func status(code int) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func stored(run int) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", fmt.Sprintf("/run/%d", run))
		w.WriteHeader(http.StatusCreated)
	}
}

func TestACarefulSenderRepeatsUnderTheSameKeyUntilItIsSettled(t *testing.T) {
	var keys []string
	noting := func(next func(http.ResponseWriter, *http.Request)) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) {
			keys = append(keys, r.Header.Get("Idempotency-Key"))
			next(w, r)
		}
	}
	sender, _ := scripted(t, Careful, noting(broken), noting(status(503)), noting(stored(4)))
	run, err := sender.Upload(t.Context(), ledger.Upload{})
	if err != nil || run != 4 {
		t.Fatalf("run %d, error %v; want run 4", run, err)
	}
	if len(keys) != 3 || keys[0] == "" || keys[1] != keys[0] || keys[2] != keys[0] {
		t.Errorf("keys %q, want one key three times", keys)
	}
	if c := &sender.Counts; c.Attempts.Load() != 3 || c.Broken.Load() != 1 || c.Busy.Load() != 1 || c.Stored.Load() != 1 {
		t.Errorf("%d attempts, %d broken, %d busy, %d stored", c.Attempts.Load(), c.Broken.Load(), c.Busy.Load(), c.Stored.Load())
	}
}

func TestADuplicateAfterAnUnknownOutcomeCountsAsStored(t *testing.T) {
	sender, _ := scripted(t, Plain, broken, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Idempotency-Key") != "" {
			t.Error("a plain sender sends a key")
		}
		w.WriteHeader(http.StatusNotAcceptable)
		_ = json.NewEncoder(w).Encode(map[string]any{"error": "stored before", "run_id": 9})
	})
	run, err := sender.Upload(t.Context(), ledger.Upload{})
	if err != nil || run != 9 || sender.Counts.Duplicates.Load() != 1 {
		t.Errorf("run %d, error %v, %d duplicates; want run 9 and 1", run, err, sender.Counts.Duplicates.Load())
	}
	if sender.Ledger.Count(ledger.Stored) != 1 {
		t.Error("the ledger does not count it as stored")
	}
}

func TestWhoNeverRepeatsLeavesAnUnknownOutcomeOpen(t *testing.T) {
	sender, asked := scripted(t, Once, broken)
	run, err := sender.Upload(t.Context(), ledger.Upload{})
	if err != nil || run != 0 || asked.Load() != 1 || sender.Ledger.Count(ledger.Unknown) != 1 {
		t.Errorf("run %d, error %v after %d requests; want one upload that is left open", run, err, asked.Load())
	}
}

func TestARefusalIsTold(t *testing.T) {
	sender, _ := scripted(t, Careful, status(406))
	if _, err := sender.Upload(t.Context(), ledger.Upload{}); err == nil || sender.Ledger.Count(ledger.Refused) != 1 {
		t.Errorf("error %v, %d refused", err, sender.Ledger.Count(ledger.Refused))
	}
}

func TestAnUploadThatIsNeverSettledStaysUnknown(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	sender, _ := scripted(t, Careful, func(w http.ResponseWriter, _ *http.Request) {
		cancel()
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	if _, err := sender.Upload(ctx, ledger.Upload{}); err == nil || sender.Ledger.Count(ledger.Unknown) != 1 {
		t.Errorf("error %v, %d unknown", err, sender.Ledger.Count(ledger.Unknown))
	}
}

// lists serves fixed answers by path, each once 503 before.
func lists(t *testing.T, answers map[string]string) *Reader {
	t.Helper()
	busy := map[string]bool{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, known := answers[r.URL.RequestURI()]
		switch {
		case !known:
			t.Errorf("asked for %s", r.URL.RequestURI())
			w.WriteHeader(http.StatusNotFound)
		case !busy[r.URL.RequestURI()]:
			busy[r.URL.RequestURI()] = true
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			_, _ = w.Write([]byte(answer))
		}
	}))
	t.Cleanup(server.Close)
	return &Reader{
		HTTP: server.Client(), Plan: Plan{Size: Large},
		Target: &target.Target{URL: server.URL, Machines: []target.Machine{{ID: 4}, {ID: 5}}},
	}
}

func TestTrendsCountRunsByTheirCommit(t *testing.T) {
	reader := lists(t, map[string]string{
		"/benchmark/machines":           `[{"machine_id": 4, "pgbench_benchmark_id": 2}, {"machine_id": 9, "pgbench_benchmark_id": 1}]`,
		"/benchmark/pgbench_trends/4/2": fmt.Sprintf(`[{"git_commit": %q, "count": 4}, {"git_commit": %q, "count": 8}]`, Commit(0, 1), Commit(0, 2)),
	})
	sightings, err := reader.Trends(t.Context(), Machines{Count: 2})
	if err != nil {
		t.Fatal(err)
	}
	want := []ledger.Sighting{{Upload: ledger.Upload{Number: 1}, Times: 1}, {Upload: ledger.Upload{Number: 2}, Times: 2}}
	if fmt.Sprint(sightings) != fmt.Sprint(want) {
		t.Errorf("sightings %v, want %v", sightings, want)
	}
}

func TestARunOfWhichAPartIsCountedIsAFault(t *testing.T) {
	if _, err := (trendRow{Commit: Commit(0, 1), Count: 3}).sighting(4); err == nil {
		t.Error("a run of four results that counts three passes")
	}
}

func TestListsAreReadToTheirEnd(t *testing.T) {
	first := "/millrace/v1/runs?fields=run_id%2Ccommit&limit=1000&machine=4"
	reader := lists(t, map[string]string{
		first: fmt.Sprintf(`{"items": [{"run_id": 1, "commit": %q}], "next": "abc"}`, Commit(0, 0)),
		"/millrace/v1/runs?cursor=abc&fields=run_id%2Ccommit&limit=1000&machine=4": fmt.Sprintf(
			`{"items": [{"run_id": 2, "commit": %q}], "next": null}`, Commit(0, 1)),
	})
	sightings, err := reader.Runs(t.Context(), Machines{Count: 1})
	if err != nil {
		t.Fatal(err)
	}
	if len(sightings) != 2 || sightings[0].Run != 1 || sightings[1].Number != 1 {
		t.Errorf("sightings %v, want two runs", sightings)
	}
}

func FuzzParseCommit(f *testing.F) {
	f.Add(Commit(1, 2))
	f.Add(strings.Repeat("0", 40))
	f.Fuzz(func(t *testing.T, commit string) {
		if u, err := ParseCommit(commit); err == nil && !strings.EqualFold(Commit(u.Machine, u.Number), commit) {
			t.Errorf("commit %q reads as %s, whose commit is %s", commit, u, Commit(u.Machine, u.Number))
		}
	})
}

func FuzzJudge(f *testing.F) {
	f.Add(406, "", []byte(`{"run_id": 7}`))
	f.Add(201, "/run/1", []byte{})
	f.Fuzz(func(t *testing.T, status int, location string, body []byte) {
		if got, run, _ := judge(status, location, body, Careful, true); got == settledStored && status != http.StatusCreated {
			t.Errorf("status %d counts as stored, run %d", status, run)
		}
	})
}
