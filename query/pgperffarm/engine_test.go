package pgperffarm

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/processor/access"
	upload "github.com/millrace/millrace/processor/pgperffarm"
	"github.com/millrace/millrace/query/pgperffarm/farmtest"
	"github.com/millrace/millrace/schemas/event"
)

// The tests in this file need a ClickHouse; see newEngineLab.

var update = flag.Bool("update", false, "write the golden files anew")

func TestAnswersAreThoseInTestdata(t *testing.T) {
	l := newEngineLab(t)
	l.farmOfThree()
	for name, path := range paths {
		t.Run(name, func(t *testing.T) {
			got := l.body(path)
			file := filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(file, []byte(got+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.TrimSuffix(string(want), "\n"), got); diff != "" {
				t.Errorf("GET %s (-want +got):\n%s", path, diff)
			}
		})
	}
}

func (l *lab) answers() map[string]string {
	l.Helper()
	answers := map[string]string{}
	for name, path := range paths {
		answers[name] = l.body(path)
	}
	return answers
}

func TestRebuiltGenerationAnswersByteForByteTheSame(t *testing.T) {
	l := newEngineLab(t)
	l.farmOfThree()
	before := l.answers()
	l.addGeneration(2)
	for _, project := range l.uploads {
		project(2)
	}
	l.log.generation = 2
	if err := l.db.Exec(t.Context(), "DROP DATABASE `"+l.db.Generation(1)+"`"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, l.answers()); diff != "" {
		t.Errorf("the rebuilt generation (-before +after):\n%s", diff)
	}
}

func TestRepeatedRequestDoesNoClickHouseWorkUntilTheWatermarkMoves(t *testing.T) {
	l := newEngineLab(t)
	l.farmOfThree()
	before := l.answers()
	if err := l.db.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, l.answers()); diff != "" {
		t.Errorf("without ClickHouse (-before +after):\n%s", diff)
	}
	doc := document(at(6, 11, 0, 0))
	l.fold(1, at(6, 11, 5, 0), doc)
	l.log.project(runsLog)
	for path, want := range map[string]int{
		paths["trend"]:            http.StatusServiceUnavailable,
		paths["overview"]:         http.StatusServiceUnavailable,
		paths["history_of_other"]: http.StatusOK, // another machine's watermark has not moved
		paths["run"]:              http.StatusOK, // a run never changes
	} {
		if answer := l.get(path); answer.Code != want {
			t.Errorf("GET %s after machine 1's watermark moved: %d %s, want %d", path, answer.Code, answer.Body, want)
		} else if want == http.StatusServiceUnavailable && answer.Header().Get("Retry-After") == "" {
			t.Errorf("GET %s: 503 without Retry-After", path)
		}
	}
}

func TestAnswerWaitsForTheProjectionOfWhatTheFoldShows(t *testing.T) {
	l := newEngineLab(t)
	l.farmOfThree()
	before := l.body(paths["trend"])
	doc := document(at(6, 11, 0, 0))
	doc.Commit, doc.Results = commitB, []upload.Result{measured(configRO, 0, 910, 9)}
	_, project := l.fold(1, at(6, 11, 5, 0), doc)
	answered := make(chan string, 1)
	go func() { answered <- l.body(paths["trend"]) }()
	select {
	case body := <-answered:
		t.Fatalf("answered before the run was projected: %s", body)
	case <-time.After(300 * time.Millisecond):
	}
	project(1)
	l.log.project(runsLog)
	if after := <-answered; after == before || !strings.Contains(after, `"maxtps":910`) {
		t.Errorf("the answer does not show the run that was acknowledged before: %s", after)
	}
}

func TestAnswerIsRefusedWhenTheProjectionsDoNotCatchUp(t *testing.T) {
	l := newEngineLab(t)
	l.farmOfThree()
	l.fold(1, at(6, 11, 5, 0), document(at(6, 11, 0, 0)))
	answer := l.get(paths["trend"])
	if answer.Code != http.StatusServiceUnavailable || answer.Header().Get("Retry-After") == "" {
		t.Errorf("got %d %v, want 503 with Retry-After and never a stale answer", answer.Code, answer.Header())
	}
}

func TestRunsNewerThanTheWatermarkAreNotShown(t *testing.T) {
	l := newEngineLab(t)
	l.farmOfThree()
	doc := document(at(6, 11, 0, 0))
	doc.Results = []upload.Result{measured(configRO, 0, 910, 9)}
	old := *l.runs.state.Machines[1]
	latest := l.runs.state.Latest
	l.upload(1, at(6, 11, 5, 0), doc)
	l.runs.state.Machines[1], l.runs.state.Latest = &old, latest // a replica that has not seen it yet
	for name, path := range paths {
		want, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(strings.TrimSuffix(string(want), "\n"), l.body(path)); diff != "" {
			t.Errorf("GET %s shows what is newer than its watermark (-want +got):\n%s", path, diff)
		}
	}
}

func TestRequestFollowsToTheNewGeneration(t *testing.T) {
	l := newEngineLab(t)
	l.farmOfThree()
	want := l.body(paths["trend"])
	l.addGeneration(2)
	for _, project := range l.uploads {
		project(2)
	}
	// The tables of the former generation are gone before this replica knows of the new one.
	if err := l.db.Exec(t.Context(), "DROP DATABASE `"+l.db.Generation(1)+"`"); err != nil {
		t.Fatal(err)
	}
	doc := document(at(6, 11, 0, 0))
	_, project := l.fold(1, at(6, 11, 5, 0), doc)
	project(2)
	answered := make(chan string, 1)
	go func() { answered <- l.body(paths["trend"]) }() // waits for the former generation's group
	<-time.After(100 * time.Millisecond)
	l.log.mu.Lock()
	l.log.generation = 2
	l.log.projected[runsLog] = l.log.ends[runsLog]
	l.log.mu.Unlock()
	if got := <-answered; got != want {
		t.Errorf("got %s", got)
	}
}

func TestCommitIsAWholeHashOrItsEndTakenToTheLetter(t *testing.T) {
	l := newEngineLab(t)
	l.farmOfThree()
	tests := map[string]int{
		commitA:                4,
		commitA[20:]:           4,
		commitA[:20]:           0, // a prefix
		commitB:                1,
		"%_f4e5":               1,
		"_f4e5":                1,
		"%":                    0,
		"%f4e5":                0,
		"a%f4e5":               0,
		"%e":                   0,
		`\`:                    0,
		"'":                    0,
		"x" + commitA:          0,
		"é":                    0,
		strings.ToUpper("f4e"): 0,
	}
	for commit, want := range tests {
		body := l.body("/benchmark/pgbench_results_commit/" + url.PathEscape(commit) + "/1/1")
		if got := strings.Count(body, `"run_id"`); got != want {
			t.Errorf("commit %q finds %d results, want %d: %s", commit, got, want, body)
		}
		wantRuns := map[int]int{4: 3}[want]
		body = l.body("/tpch/runs_commit/1/10/" + url.PathEscape(commit))
		if got := strings.Count(body, `"run_id"`); got != wantRuns {
			t.Errorf("commit %q finds %d TPC-H runs, want %d: %s", commit, got, wantRuns, body)
		}
	}
}

func TestScaleFactorsAreComparedAsNumbers(t *testing.T) {
	l := newEngineLab(t)
	l.farmOfThree()
	small := tpch(at(6, 11, 0, 0), commitA, 1, 10)
	small.TPCH.ScaleFactor = 0.1
	l.upload(1, at(6, 11, 5, 0), small)
	tests := map[string]int{
		"10": 2, "10.0": 2, "010.00": 2, "10.": 2, "0.1": 1, ".1": 1, "0.10000": 1, "1": 0, "0.2": 0, "10.0000001": 0,
	}
	for scale, want := range tests {
		for _, spelling := range []string{"trend", "trends"} {
			body := l.body("/tpch/" + spelling + "/1/" + scale)
			if got := strings.Count(body, `"git_commit"`); got != want {
				t.Errorf("/tpch/%s/1/%s gives %d rows, want %d: %s", spelling, scale, got, want, body)
			}
		}
	}
	for _, scale := range []string{"ten", "1e1", "-10", "+10", "1_0", "0x10", "Inf", "NaN", "1,0", "."} {
		if answer := l.get("/tpch/trend/1/" + scale); answer.Code != http.StatusNotFound {
			t.Errorf("scale factor %q: %d, want 404", scale, answer.Code)
		}
	}
}

func TestWhatIsNotThereIsAnEmptyListOrNotFound(t *testing.T) {
	l := newEngineLab(t)
	l.farmOfThree()
	for _, path := range []string{
		"/benchmark/history/99", "/benchmark/history/3", "/benchmark/history/0", "/benchmark/postgres/99", "/benchmark/postgres/2",
		"/benchmark/pgbench_trends/1/99", "/benchmark/pgbench_trends/99/1", "/benchmark/pgbench_trends/1/9223372036854775807",
		"/benchmark/pgbench_results_commit/abc/1/1", "/benchmark/pgbench_results_commit/abc/99/1",
		"/tpch/trend/2/10", "/tpch/trend/99/10", "/tpch/runs_commit/1/10/abc", "/tpch/runs_commit/99/10/" + commitA,
	} {
		if body := l.body(path); body != "[]" {
			t.Errorf("GET %s: %s, want []", path, body)
		}
	}
	for _, path := range []string{
		"/run/3", "/run/99", "/run/0", "/benchmark/pgbench_results_complete/1", "/benchmark/pgbench_results_complete/1028",
		"/benchmark/pgbench_results_complete/1024", "/benchmark/pgbench_results_complete/3073", "/benchmark/pgbench_results_complete/9223372036854775807",
		"/benchmark/pgbench_results_complete/8193", "/tpch/details/1", "/tpch/details/3", "/tpch/details/99",
	} {
		answer := l.get(path)
		if answer.Code != http.StatusNotFound || !strings.HasPrefix(answer.Body.String(), `{"error":"`) {
			t.Errorf("GET %s: %d %s, want 404 with an error", path, answer.Code, answer.Body)
		}
	}
}

func TestOverviewWithoutResultsIsOneEmptyObject(t *testing.T) {
	l := newEngineLab(t)
	l.user("jdoe", "jane@example.org", false)
	machine := l.machine(labStart, "jdoe", "otter", "", true)
	if body := l.body("/benchmark/overview"); body != "[{}]" {
		t.Errorf("a farm without runs: %s", body)
	}
	l.upload(machine, at(4, 11, 5, 0), tpch(at(4, 11, 0, 0), commitA, 3, 1))
	if body := l.body("/benchmark/overview"); body != "[{}]" {
		t.Errorf("a farm without pgbench results: %s", body)
	}
}

func TestRecentRunsLeaveAfterACalendarMonth(t *testing.T) {
	l := newEngineLab(t)
	l.farmOfThree()
	for _, test := range []struct {
		now  time.Time
		want int
	}{
		{at(10, 0, 0, 0), 10},
		{time.Date(2021, 8, 2, 11, 5, 0, 0, time.UTC), 10},
		{time.Date(2021, 8, 2, 11, 5, 1, 0, time.UTC), 9},
		{time.Date(2021, 8, 5, 11, 5, 1, 0, time.UTC), 0},
	} {
		l.now = test.now
		l.serve() // an overview is right for a while; begin with an empty cache
		l.farm.DB = l.db
		if body := l.body("/benchmark/overview"); !strings.Contains(body, fmt.Sprintf(`"recent_runs":%d,`, test.want)) {
			t.Errorf("at %s: %s, want %d recent runs", test.now, body, test.want)
		}
	}
}

func TestAddressIsForTheOwnerAndForStaff(t *testing.T) {
	l := newEngineLab(t)
	l.farmOfThree()
	for _, path := range []string{paths["trend"], paths["history"]} {
		for visitor, want := range map[string]string{
			"":       `"email":null`,
			"nobody": `"email":null`,
			"jdoe":   `"email":"jane@example.org"`,
			"boss":   `"email":"jane@example.org"`,
		} {
			answer := l.get(path, visitor)
			if !strings.Contains(answer.Body.String(), want) {
				t.Errorf("GET %s as %q: no %s in %s", path, visitor, want, answer.Body)
			}
			if answer.Header().Get("Vary") != "Cookie" {
				t.Errorf("GET %s: Vary is %q", path, answer.Header().Get("Vary"))
			}
		}
	}
	if body := l.body(paths["history_of_other"], "jdoe"); !strings.Contains(body, `"email":null`) {
		t.Errorf("a user who owns another machine sees its owner's address: %s", body)
	}
}

func TestErasedPersonIsShownAsErasedAtOnce(t *testing.T) {
	l := newEngineLab(t)
	l.farmOfThree()
	l.answers()
	name := access.HashUser(l.ring, "jdoe")
	if err := l.ring.Erase(access.Subject(name)); err != nil {
		t.Fatal(err)
	}
	l.tell(l.now, &event.FarmUserErased{NameHash: name[:]})
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		body := l.body(paths[name], "boss")
		if strings.Contains(body, "jdoe") || strings.Contains(body, "jane@example.org") {
			t.Errorf("%s still names the person: %s", name, body)
		}
	}
	if body := l.body(paths["trend"], "boss"); !strings.Contains(body, `"username":"erased","email":null`) {
		t.Errorf("the trend does not say that its owner was erased: %s", body)
	}
}

func TestCachedAnswersHoldNoNames(t *testing.T) {
	l := newEngineLab(t)
	l.farmOfThree()
	var bodies []string
	for _, path := range []string{"history/1", "trend/1/1", "run/1", "benchmarks", "tpch", "tpch/trend/1/10"} {
		q := &reader{db: l.db, generation: 1, newest: 11, cache: l.farm.Cache}
		out := newArray(l.farm.MaxRows)
		p := map[string]page{
			"benchmarks": {write: writeBenchmarks}, "tpch": {write: writeTPCHMachines},
		}[path]
		var err error
		switch path {
		case "history/1":
			err = q.writeHistory(t.Context(), 1, out)
		case "trend/1/1":
			err = q.writeTrend(t.Context(), 1, 1, out)
		case "run/1":
			err = l.farm.writeRun(t.Context(), q, 1, out)
		case "tpch/trend/1/10":
			err = q.writeTPCHTrend(t.Context(), series{machine: 1, scaleFactor: 10}, out)
		default:
			_, err = p.write(t.Context(), q, out)
		}
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, out.buffer.String())
	}
	for _, body := range bodies {
		if strings.Contains(body, "jdoe") || strings.Contains(body, "jane") {
			t.Errorf("a body for the cache holds personal data: %s", body)
		}
	}
}

// TestSettingsHistoryOfManySets shows that the history's cost follows the sets and not the runs, nor their square: each
// of these runs brings a set of its own.
func TestSettingsHistoryOfManySets(t *testing.T) {
	l := newEngineLab(t)
	l.user("jdoe", "jane@example.org", false)
	machine := l.machine(labStart, "jdoe", "otter", "", true)
	const sets = 3 * pairsAtOnce
	rows := make([]string, 0, sets)
	docs := rand.New(rand.NewPCG(1, 1))
	for i := range sets {
		rows = append(rows, fmt.Sprintf("(%d, 1, 'work_mem', 'file', '%d'), (%d, 2, 'port', 'file', '5432')", i+1, docs.Int64(), i+1))
	}
	db := l.db.Generation(1)
	if err := l.db.Exec(t.Context(), "INSERT INTO `"+db+"`.settings VALUES "+strings.Join(rows, ",")); err != nil {
		t.Fatal(err)
	}
	for i := range sets {
		rows[i] = fmt.Sprintf("(%d, %d, 'master', %d, 'Linux')", i+1, machine, i+1)
	}
	err := l.db.Exec(t.Context(), "INSERT INTO `"+db+"`.runs (run_id, machine_id, branch, settings_id, kernel_name) VALUES "+strings.Join(rows, ","))
	if err != nil {
		t.Fatal(err)
	}
	q := &reader{db: l.db, generation: 1, newest: sets}
	out := newArray(l.farm.MaxRows)
	if err := q.writeSettingsHistory(t.Context(), machine, out); err != nil {
		t.Fatal(err)
	}
	if out.rows != sets-1 {
		t.Errorf("%d sets give %d changes, want %d: the port never changes", sets, out.rows, sets-1)
	}
}

func TestContractCasesHold(t *testing.T) {
	l := newEngineLab(t)
	l.farmOfThree()
	cases := farmtest.Cases(farmtest.Farm{
		Machine: 1, Config: 1, Run: 1, Result: 1025, Commit: commitA, TPCHRun: 8, Scale: 10, TPCHCommit: commitA, Absent: 987654,
	})
	for _, c := range cases {
		answer := l.ask(c.Method, c.Path)
		if err := c.Check(answer.Code, answer.Header(), answer.Body.Bytes()); err != nil {
			t.Errorf("%s: %v", c.Name(), err)
		}
	}
	if err := farmtest.CheckShape("5.2.2", []byte(l.body("/machine/user", "jdoe"))); err != nil {
		t.Error(err)
	}
}
