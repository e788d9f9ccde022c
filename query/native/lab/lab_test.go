package lab_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/processor/pgperffarm/farmdoc"
	"github.com/millrace/millrace/query/native/cursor"
	"github.com/millrace/millrace/query/native/lab"
	"github.com/millrace/millrace/query/native/labtest"
)

var configs = []farmdoc.Config{{Clients: 1, Scale: 10, Duration: 60}, {Clients: 8, Scale: 10, Duration: 60, ReadOnly: true}}

// document is what a machine uploads of a day's run.
func document(day int, branch string) []byte {
	return farmdoc.Synthetic(farmdoc.Options{
		Seed: uint64(day), Branch: branch, Configs: configs, Results: 4, LogSeconds: 20,
		Start: time.Date(2026, 2, 1+day, 6, 0, 0, 0, time.UTC),
	})
}

// order finds an order by its name.
func order(orders []lab.Order, name string) lab.Order {
	return orders[slices.IndexFunc(orders, func(o lab.Order) bool { return o.Name == name })]
}

// all reads a list to its end in pages of some rows.
func all[T any](t *testing.T, limit int, o lab.Order, read func(lab.Page) ([]T, cursor.Key, error)) []T {
	t.Helper()
	var found []T
	var after cursor.Key
	for range 1000 {
		rows, next, err := read(lab.Page{Order: o, After: after, Limit: limit})
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) > limit {
			t.Fatalf("a page has %d rows, the limit is %d", len(rows), limit)
		}
		found = append(found, rows...)
		if next == nil {
			return found
		}
		after = next
	}
	t.Fatal("the list has no end")
	return nil
}

// filled gives a lab with runs of two machines; the start times of the second's fall.
func filled(t *testing.T) *labtest.Lab {
	l := labtest.New(t)
	l.Together(func() {
		first, second := l.AddMachine("kestrel", true), l.AddMachine("merlin", true)
		for i := range 9 {
			l.Now = l.Now.Add(time.Hour)
			l.Upload(first, document(i, []string{"master", "REL_13_STABLE"}[i%2]))
			l.Upload(second, document(20-i, "master"))
		}
	})
	return l
}

func ids(runs []lab.Run) (ids []uint64) {
	for i := range runs {
		ids = append(ids, runs[i].RunID)
	}
	return ids
}

func TestEveryOrderOfRunsGivesEachRunOnceInOrder(t *testing.T) {
	l := filled(t)
	for _, o := range lab.RunOrders() {
		t.Run(o.Name, func(t *testing.T) {
			runs := all(t, 4, o, func(p lab.Page) ([]lab.Run, cursor.Key, error) { return l.View().Runs(t.Context(), lab.RunFilter{}, p) })
			if len(runs) != 18 {
				t.Fatalf("%d runs, want 18: %v", len(runs), ids(runs))
			}
			by := map[string]func(a, b lab.Run) int{
				"run_id":     func(a, b lab.Run) int { return int(a.RunID) - int(b.RunID) },
				"add_time":   func(a, b lab.Run) int { return a.AddTime.Compare(b.AddTime) },
				"start_time": func(a, b lab.Run) int { return a.StartTime.Compare(b.StartTime) },
			}
			compare, name := by[o.Name], o.Name
			if name[0] == '-' {
				forward := by[name[1:]]
				compare = func(a, b lab.Run) int { return forward(b, a) }
			}
			if !slices.IsSortedFunc(runs, compare) {
				t.Errorf("runs are not in order: %v", ids(runs))
			}
			unique := slices.Compact(slices.Sorted(slices.Values(ids(runs))))
			if len(unique) != 18 {
				t.Errorf("runs are listed more than once: %v", ids(runs))
			}
		})
	}
}

func TestRunsThatComeInBetweenPagesMoveNothing(t *testing.T) {
	l := filled(t)
	for _, name := range []string{"-run_id", "run_id", "-start_time", "start_time"} {
		o := order(lab.RunOrders(), name)
		before := all(t, 100, o, func(p lab.Page) ([]lab.Run, cursor.Key, error) { return l.View().Runs(t.Context(), lab.RunFilter{}, p) })
		day := 40
		during := all(t, 3, o, func(p lab.Page) ([]lab.Run, cursor.Key, error) {
			day++
			l.Upload(1, farmdoc.Synthetic(farmdoc.Options{Seed: uint64(day), Start: time.Date(2026, 2, day%25, day, len(name), 0, 0, time.UTC)}))
			return l.View().Runs(t.Context(), lab.RunFilter{}, p)
		})
		var known []uint64
		for _, id := range ids(during) {
			if slices.Contains(ids(before), id) {
				known = append(known, id)
			}
		}
		if diff := cmp.Diff(ids(before), known); diff != "" {
			t.Errorf("order %s: the runs that were there (-before +while others came in):\n%s", name, diff)
		}
		if len(slices.Compact(slices.Sorted(slices.Values(ids(during))))) != len(during) {
			t.Errorf("order %s: a run is listed twice: %v", name, ids(during))
		}
	}
}

func TestRunsAreFiltered(t *testing.T) {
	l := filled(t)
	yes, no := true, false
	at := func(day int) time.Time { return time.Date(2026, 2, 1+day, 6, 0, 0, 0, time.UTC) }
	for name, tc := range map[string]struct {
		filter lab.RunFilter
		want   int
	}{
		"none":                {lab.RunFilter{}, 18},
		"machine":             {lab.RunFilter{Machine: 2}, 9},
		"branch name":         {lab.RunFilter{BranchName: "REL_13_STABLE"}, 4},
		"branch":              {lab.RunFilter{Branch: 2, Machine: 1}, 4},
		"other branch":        {lab.RunFilter{Branch: 77}, 0},
		"config":              {lab.RunFilter{Config: 1}, 18},
		"config of a machine": {lab.RunFilter{Machine: 1, Config: 2}, 9},
		"unknown config":      {lab.RunFilter{Config: 9}, 0},
		"benchmark":           {lab.RunFilter{Benchmark: "tpch"}, 0},
		"official":            {lab.RunFilter{Official: &yes}, 18},
		"not official":        {lab.RunFilter{Official: &no}, 0},
		"custom":              {lab.RunFilter{Custom: &yes}, 0},
		"from":                {lab.RunFilter{From: at(12)}, 9},
		"from later":          {lab.RunFilter{From: at(12).Add(time.Microsecond)}, 8},
		"to":                  {lab.RunFilter{To: at(8)}, 8},
		"range":               {lab.RunFilter{From: at(1), To: at(4)}, 3},
		"add time":            {lab.RunFilter{ByAddTime: true, From: l.Now}, 2},
		"commit":              {lab.RunFilter{Commit: "'; DROP TABLE runs; --\\"}, 0},
		"repository":          {lab.RunFilter{Repository: "https://github.com/postgres/postgres.git"}, 18},
	} {
		for _, o := range []string{"-run_id", "start_time"} {
			runs, _, err := l.View().Runs(t.Context(), tc.filter, lab.Page{Order: order(lab.RunOrders(), o), Limit: 100})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if len(runs) != tc.want {
				t.Errorf("%s in order %s: %d runs, want %d", name, o, len(runs), tc.want)
			}
		}
	}
}

func TestOnlyNamedFieldsAreRead(t *testing.T) {
	l := filled(t)
	page := lab.Page{Order: order(lab.RunOrders(), "run_id"), Limit: 1}
	runs, _, err := l.View().Runs(t.Context(), lab.RunFilter{}, page, "branch")
	if err != nil {
		t.Fatal(err)
	}
	if want := (lab.Run{RunID: 1, Branch: "master"}); !cmp.Equal(runs[0], want) {
		t.Errorf("run is %+v, want %+v", runs[0], want)
	}
	results, _, err := l.View().Results(t.Context(), lab.ResultFilter{Run: 1}, lab.Page{Order: lab.ResultOrders()[0], Limit: 1}, "mode")
	if err != nil {
		t.Fatal(err)
	}
	if got := results[0]; got.Mode != "simple" || got.Branch != "" || got.ResultID != 1025 {
		t.Errorf("result is %+v, want id and mode only", got)
	}
}

func TestEveryOrderOfResultsGivesEachResultOnceInOrder(t *testing.T) {
	l := filled(t)
	for _, o := range lab.ResultOrders() {
		t.Run(o.Name, func(t *testing.T) {
			filter, want := lab.ResultFilter{}, 72
			if o.Compares() {
				filter, want = lab.ResultFilter{Machine: 1, Config: 2}, 18
			}
			results := all(t, 7, o, func(p lab.Page) ([]lab.Result, cursor.Key, error) { return l.View().Results(t.Context(), filter, p) })
			if len(results) != want {
				t.Fatalf("%d results, want %d", len(results), want)
			}
			by := map[string]func(r lab.Result) float64{
				"result_id": func(r lab.Result) float64 { return float64(r.ResultID) },
				"add_time":  func(r lab.Result) float64 { return float64(r.AddTime.UnixMilli()) },
				"tps":       func(r lab.Result) float64 { return r.TPS },
				"latency":   func(r lab.Result) float64 { return r.Latency },
			}
			name, sign := o.Name, 1.0
			if name[0] == '-' {
				name, sign = name[1:], -1
			}
			last := math.Inf(-1)
			seen := map[uint64]bool{}
			for _, r := range results {
				value := sign * by[name](r)
				if value < last || seen[r.ResultID] {
					t.Errorf("result %d is out of order or listed twice", r.ResultID)
				}
				last, seen[r.ResultID] = value, true
			}
		})
	}
}

func TestResultsAreFiltered(t *testing.T) {
	l := filled(t)
	for name, tc := range map[string]struct {
		filter lab.ResultFilter
		want   int
	}{
		"machine":     {lab.ResultFilter{Machine: 1}, 36},
		"config":      {lab.ResultFilter{Config: 1}, 36},
		"both":        {lab.ResultFilter{Machine: 1, Config: 1}, 18},
		"run":         {lab.ResultFilter{Run: 3}, 4},
		"branch name": {lab.ResultFilter{BranchName: "REL_13_STABLE"}, 16},
		"branch":      {lab.ResultFilter{Branch: 1, Machine: 1}, 20},
		"time":        {lab.ResultFilter{From: l.Now}, 8},
		"to":          {lab.ResultFilter{To: l.Now}, 64},
	} {
		results, _, err := l.View().Results(t.Context(), tc.filter, lab.Page{Order: lab.ResultOrders()[1], Limit: 100})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(results) != tc.want {
			t.Errorf("%s: %d results, want %d", name, len(results), tc.want)
		}
		if len(results) > 0 && (results[0].Mode == "" || results[0].Start == 0) {
			t.Errorf("%s: result %+v lacks what the wide table has", name, results[0])
		}
	}
}

func TestSamplesOfASeriesArePagedByTime(t *testing.T) {
	l := filled(t)
	of := lab.Series{MachineID: 1, ConfigID: 1, BranchID: 1, Metric: "log.tps"}
	for _, o := range lab.SampleOrders() {
		samples := all(t, 33, o, func(p lab.Page) ([]lab.Sample, cursor.Key, error) {
			return l.View().Samples(t.Context(), lab.SampleFilter{Series: of}, p)
		})
		if len(samples) != 200 { // 5 runs with 2 results of 20 seconds
			t.Errorf("order %s: %d samples, want 200", o.Name, len(samples))
		}
		seen := map[string]bool{}
		for _, s := range samples {
			key := fmt.Sprint(s.EventID, s.Ordinal)
			if seen[key] {
				t.Fatalf("order %s: sample %+v is listed twice", o.Name, s)
			}
			seen[key] = true
		}
	}
}

func TestSamplesAtOneMomentAreToldApart(t *testing.T) {
	l := labtest.New(t)
	of := lab.Series{MachineID: 1, ConfigID: 1, BranchID: 1, Metric: "m"}
	for range 4 {
		l.AddSamples(of, 1, []int64{1_770_000_000_000, 1_770_000_000_000, 1_770_000_000_000}, []float64{1, 2, 3})
	}
	for _, o := range lab.SampleOrders() {
		samples := all(t, 2, o, func(p lab.Page) ([]lab.Sample, cursor.Key, error) {
			return l.View().Samples(t.Context(), lab.SampleFilter{Series: of}, p)
		})
		sum := 0.0
		for _, s := range samples {
			sum += s.Value
		}
		if len(samples) != 12 || sum != 24 {
			t.Errorf("order %s: %d samples with sum %v, want 12 with sum 24", o.Name, len(samples), sum)
		}
	}
}

func TestSeriesAreListedWithTheirCounts(t *testing.T) {
	l := filled(t)
	series := all(t, 3, lab.SeriesOrders()[0], func(p lab.Page) ([]lab.SeriesCount, cursor.Key, error) {
		return l.View().Series(t.Context(), lab.SeriesFilter{Machine: 1, Prefix: "log."}, p)
	})
	want := []lab.SeriesCount{}
	for _, s := range []struct{ config, branch, samples uint64 }{{1, 1, 200}, {1, 2, 160}, {2, 1, 200}, {2, 2, 160}} {
		for _, metric := range []string{"log.latency", "log.tps"} {
			want = append(want, lab.SeriesCount{MachineID: 1, ConfigID: s.config, BranchID: s.branch, Metric: metric, Samples: s.samples})
		}
	}
	if diff := cmp.Diff(want, series); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
}

func TestSamplesWhoseTrendsArePostponedAreCounted(t *testing.T) {
	l := labtest.New(t)
	probes(l, 1, monday, 1, 2, 3)
	database := "`" + l.DB.Generation(1) + "`"
	for _, statement := range []string{
		"INSERT INTO {db}.metrics SELECT * REPLACE (toDateTime64('2026-02-03 00:00:00', 3, 'UTC') AS ts) FROM {db}.metrics FINAL",
		"INSERT INTO {db}.postponed_trends VALUES (1, 1, 1, 'probe', '2026-02-02 00:00:00', generateUUIDv4())",
	} {
		if err := l.DB.Exec(t.Context(), strings.ReplaceAll(statement, "{db}", database)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		filter lab.SeriesFilter
		want   uint64
	}{{lab.SeriesFilter{Rough: true}, 3}, {lab.SeriesFilter{Machine: 2}, 0}, {lab.SeriesFilter{Machine: 1, Prefix: "pro"}, 6}, {lab.SeriesFilter{Rough: true}, 6}} {
		found, _, err := l.View().Series(t.Context(), tc.filter, lab.Page{Order: lab.SeriesOrders()[0], Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		got := uint64(0)
		for _, s := range found {
			got += s.Samples
		}
		if got != tc.want {
			t.Errorf("filter %+v: %d samples are counted, want %d", tc.filter, got, tc.want)
		}
	}
}

func TestMachinesShowTheirRuns(t *testing.T) {
	l := filled(t)
	l.AddMachine("hobby", false)
	machines := all(t, 2, lab.MachineOrders()[0], func(p lab.Page) ([]lab.Machine, cursor.Key, error) {
		return l.View().Machines(t.Context(), lab.MachineFilter{}, p)
	})
	if len(machines) != 3 {
		t.Fatalf("%d machines, want 3", len(machines))
	}
	if m := machines[0]; m.Alias != "kestrel" || m.Runs != 9 || m.LastRun == nil || m.LastRun.RunID != 17 || m.LastRun.Branch != "master" || m.Type != "x86_64" {
		t.Errorf("first machine is %+v with last run %+v", m, m.LastRun)
	}
	if m := machines[2]; m.Approved || m.Runs != 0 || m.LastRun != nil {
		t.Errorf("a machine without runs is %+v", m)
	}
	no := false
	found, _, err := l.View().Machines(t.Context(), lab.MachineFilter{Approved: &no}, lab.Page{Order: lab.MachineOrders()[0], Limit: 9})
	if err != nil || len(found) != 1 || found[0].Alias != "hobby" {
		t.Errorf("machines that are not approved: %+v, %v", found, err)
	}
}

func TestConfigsAndBranchesAreThoseOfTheMachine(t *testing.T) {
	l := filled(t)
	for machine, wantBranches := range map[uint64][]lab.Branch{
		0: {{BranchID: 1, Branch: "master", Runs: 14}, {BranchID: 2, Branch: "REL_13_STABLE", Runs: 4}},
		2: {{BranchID: 1, Branch: "master", Runs: 9}},
		5: nil,
	} {
		found := all(t, 1, lab.BranchOrders()[0], func(p lab.Page) ([]lab.Branch, cursor.Key, error) { return l.View().Branches(t.Context(), machine, p) })
		for i := range wantBranches {
			wantBranches[i].RepositoryID, wantBranches[i].Repository, wantBranches[i].Official = found[i].RepositoryID, found[i].Repository, true
		}
		if diff := cmp.Diff(wantBranches, found); diff != "" {
			t.Errorf("branches of machine %d (-want +got):\n%s", machine, diff)
		}
		wantConfigs := 2
		if machine == 5 {
			wantConfigs = 0
		}
		of := all(t, 1, lab.ConfigOrders()[0], func(p lab.Page) ([]lab.Config, cursor.Key, error) { return l.View().Configs(t.Context(), machine, p) })
		if len(of) != wantConfigs {
			t.Errorf("machine %d has %d configurations, want %d: %+v", machine, len(of), wantConfigs, of)
		}
		if machine == 0 && (*of[1].Clients != 8 || !*of[1].ReadOnly || of[1].Benchmark != "pgbench" || of[1].Streams != nil) {
			t.Errorf("second configuration is %+v", of[1])
		}
	}
}

func TestRunIsShownWithAllThatBelongsToIt(t *testing.T) {
	l := filled(t)
	d, err := l.View().RunDetail(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	if d.Run.RunID != 3 || len(d.Results) != 4 || d.Hardware == nil || len(d.Settings) == 0 || d.TPCH != nil {
		t.Errorf("run is %+v with %d results, hardware %+v, %d settings", d.Run, len(d.Results), d.Hardware, len(d.Settings))
	}
	if d, err := l.View().RunDetail(t.Context(), 99); d != nil || err != nil {
		t.Errorf("a run that does not exist is %+v, %v", d, err)
	}
}
