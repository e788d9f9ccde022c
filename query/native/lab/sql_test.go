package lab

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/query/native/cursor"
)

var update = flag.Bool("update", false, "write the golden SQL anew")

// golden compares a query with the one that is kept.
func golden(t *testing.T, name, text string, values []any) {
	t.Helper()
	got := text + "\n\n"
	for _, value := range values {
		got += fmt.Sprintf("%T %v\n", value, value)
	}
	file := filepath.Join("testdata", name+".sql")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-kept +made):\n%s", file, diff)
	}
}

var (
	from = time.Date(2026, 2, 1, 0, 0, 0, 500_000, time.UTC)
	to   = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
)

func TestQueriesOfRuns(t *testing.T) {
	yes := true
	everything := RunFilter{
		Machine: 1, Benchmark: "pgbench", Branch: 2, BranchName: "master", Commit: "abc", Repository: "https://x", Config: 3,
		Official: &yes, Custom: &yes, From: from, To: to,
	}
	for name, tc := range map[string]struct {
		filter RunFilter
		order  Order
		after  cursor.Key
	}{
		"runs":                     {order: RunOrders()[1]},
		"runs_next":                {order: RunOrders()[1], after: cursor.Key{{Number: 42}}},
		"runs_filtered":            {filter: everything, order: RunOrders()[0]},
		"runs_config":              {filter: RunFilter{Config: 3, ByAddTime: true, From: from}, order: RunOrders()[0]},
		"runs_by_start":            {order: RunOrders()[3], after: cursor.Key{{Number: 1_770_000_000_123_456}, {Number: 42}}},
		"runs_of_machine_by_start": {filter: RunFilter{Machine: 1}, order: RunOrders()[2]},
		"runs_by_add_time":         {order: RunOrders()[4], after: cursor.Key{{Number: 42}}},
	} {
		text, values := tc.filter.selection(tc.order).sql("millrace_g1", tc.order, tc.after, 101)
		golden(t, name, text, values)
	}
}

func TestQueriesOfResults(t *testing.T) {
	for name, tc := range map[string]struct {
		filter ResultFilter
		order  Order
		after  cursor.Key
	}{
		"results_run":    {filter: ResultFilter{Run: 5}, order: ResultOrders()[0]},
		"results_by_tps": {filter: ResultFilter{Machine: 1, Config: 2}, order: ResultOrders()[5], after: cursor.Key{{Number: 0x4059000000000000}, {Number: 1025}}},
	} {
		s := selection{columns: []string{"result_id", "tps"}, from: "{db}.result_series", where: tc.filter.where()}
		text, values := s.sql("millrace_g1", tc.order, tc.after, 101)
		golden(t, name, text, values)
	}
}

func TestQueriesOfSamples(t *testing.T) {
	of := Series{MachineID: 1, ConfigID: 2, BranchID: 3, Metric: "log.tps"}
	s := selection{columns: []string{"ts", "value"}, from: "{db}.metrics", where: of.where()}
	after := cursor.Key{{Number: 1_770_000_000_123}, {Text: "0198c0de-0000-7000-8000-000000000000"}, {Number: 7}}
	text, values := s.sql("millrace_g1", SampleOrders()[0], after, 101)
	golden(t, "samples_next", text, values)
}

func TestQueriesOfTrends(t *testing.T) {
	q := TrendQuery{Series: Series{MachineID: 1, ConfigID: 2, BranchID: 3, Metric: "tps"}, From: from, To: to}
	text, values := extentsSQL(q)
	golden(t, "trend_extents", text, values)
	for _, r := range []Resolution{Raw, PerRun, Hour, Week} {
		text, values := pointsSQL(q, r)
		golden(t, "trend_"+string(r), text, values)
	}
}

func TestChoiceOfAResolution(t *testing.T) {
	of := func(samples, hours, days, weeks uint64) map[uint32]extent {
		return map[uint32]extent{3600: {3600, hours, samples}, 86400: {86400, days, samples}, 604800: {604800, weeks, samples}}
	}
	for _, tc := range []struct {
		name    string
		extents map[uint32]extent
		most    uint64
		want    Resolution
	}{
		{"nothing", map[uint32]extent{}, 500, Raw},
		{"few samples", of(500, 80, 40, 9), 500, Raw},
		{"one more", of(501, 80, 40, 9), 500, Hour},
		{"many hours", of(9000, 501, 40, 9), 500, Day},
		{"many days", of(90000, 9000, 501, 72), 500, Week},
		{"many weeks", of(1e9, 1e6, 1e5, 15000), 500, Week},
	} {
		if got := choose(tc.extents, tc.extents[3600].Samples, tc.most, false); got != tc.want {
			t.Errorf("%s: resolution %s, want %s", tc.name, got, tc.want)
		}
	}
}

func TestKeyThatIsNoPlaceInTheOrderIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		order Order
		key   cursor.Key
		want  bool
	}{
		"run":           {RunOrders()[0], cursor.Key{{Number: 1<<64 - 1}}, true},
		"start time":    {RunOrders()[2], cursor.Key{{Number: 1_770_000_000_123_456}, {Number: 1}}, true},
		"after the end": {RunOrders()[2], cursor.Key{{Number: 1 << 63}, {Number: 1}}, false},
		"sample":        {SampleOrders()[0], cursor.Key{{Number: 1}, {Text: "0198c0de-0000-7000-8000-000000000000"}, {Number: 1}}, true},
		"no UUID":       {SampleOrders()[0], cursor.Key{{Number: 1}, {Text: "0198c0de"}, {Number: 1}}, false},
		"odd UUID":      {SampleOrders()[0], cursor.Key{{Number: 1}, {Text: "0198C0DE-0000-7000-8000-000000000000"}, {Number: 1}}, false},
		"sample late":   {SampleOrders()[0], cursor.Key{{Number: 1 << 60}, {Text: "0198c0de-0000-7000-8000-000000000000"}, {Number: 1}}, false},
	} {
		if got := tc.order.Accepts(tc.key); got != tc.want {
			t.Errorf("%s: accepted is %v, want %v", name, got, tc.want)
		}
	}
}
