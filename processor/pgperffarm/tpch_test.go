package pgperffarm_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/processor/pgperffarm"
)

func TestTPCHResultIsReadInBothGenerations(t *testing.T) {
	want := &pgperffarm.TPCH{ScaleFactor: 10, Streams: 3, Power: 2500.5, Throughput: 1600, QphH: 2000.2}
	for i := 1; i <= 22; i++ {
		want.Queries = append(want.Queries, pgperffarm.TPCHQuery{
			Index: i, Power: ptr(12.5 + float64(i)), Throughput: ptr(18.75 + float64(i)),
		})
	}
	for _, file := range []string{tpchDoc, tpchDDoc} {
		doc := accept(t, file)
		if doc.Benchmark != pgperffarm.BenchmarkTPCH || len(doc.Results) != 0 {
			t.Errorf("%s is %q with %d results", file, doc.Benchmark, len(doc.Results))
		}
		if want := time.Date(2022, 8, 20, 5, 0, 0, 0, time.UTC); !doc.Start.Equal(want) {
			t.Errorf("%s starts at %v, want %v", file, doc.Start, want)
		}
		if diff := cmp.Diff(want, doc.TPCH); diff != "" {
			t.Errorf("%s differs (-want +got):\n%s", file, diff)
		}
	}
}

func TestTPCHDocumentIgnoresPgbenchMembers(t *testing.T) {
	doc := accept(t, tpchDoc, set("pgbench", "anything"), set("pgbench_log_aggregate", 5), set("pgbench_log", nil))
	if len(doc.Results) != 0 || doc.TPCH == nil {
		t.Errorf("document is %+v", doc)
	}
	accept(t, tpchDoc, remove("pgbench"))
}

func TestQueriesArePairedByIndex(t *testing.T) {
	doc := accept(t, tpchDoc, set("power", map[string]any{"22": 3, "1": "1.5"}), set("throughput", map[string]any{"1": 2, "7": 4}))
	want := []pgperffarm.TPCHQuery{
		{Index: 1, Power: ptr(1.5), Throughput: ptr(2.0)}, {Index: 7, Throughput: ptr(4.0)}, {Index: 22, Power: ptr(3.0)},
	}
	if diff := cmp.Diff(want, doc.TPCH.Queries); diff != "" {
		t.Errorf("queries differ (-want +got):\n%s", diff)
	}
}

func TestTPCHNumberOutOfItsRangeIsRefusedByName(t *testing.T) {
	cases := []struct {
		member string
		value  any
		reason string
	}{
		{"scale_factor", "-1", "must be at least 0"}, {"scale_factor", "NaN", "finite number"},
		{"scale_factor", "ten", "finite number"}, {"scale_factor", nil, "must be a number, not null"},
		{"num_streams", -1, "is -1, it must be from 1 to 2147483647"}, {"num_streams", "0", "from 1 to"},
		{"num_streams", 2147483648, "from 1 to 2147483647"}, {"num_streams", "2.5", "must be an integer"},
		{"power_size", -0.5, "must be at least 0"}, {"throughput_size", "inf", "finite number"},
		{"qphh_size", json.Number("1e400"), "finite number"}, {"qphh_size", []any{}, "must be a number, not an array"},
		{"power", []any{}, "must be an object, not an array"}, {"throughput", nil, "must be an object, not null"},
	}
	for _, c := range cases {
		t.Run(c.member+" "+c.reason, func(t *testing.T) {
			wantRefused(t, body(t, tpchDoc, set(c.member, c.value)), pgperffarm.DefaultLimits(), c.member, c.reason)
		})
	}
	for _, index := range []string{"0", "23", "-1", "01", "1.0", "", "x", "+1"} {
		t.Run("query "+index, func(t *testing.T) {
			wantRefused(t, body(t, tpchDoc, set("power", map[string]any{index: 1})), pgperffarm.DefaultLimits(),
				"power."+index, "the queries are 1 to 22")
		})
	}
	for _, seconds := range []any{-1, "nan", nil} {
		wantRefused(t, body(t, tpchDoc, set("throughput", map[string]any{"5": seconds})), pgperffarm.DefaultLimits(),
			"throughput.5", "must be")
	}
	accept(t, tpchDoc, set("scale_factor", 0), set("power_size", 0))
}

func TestErrorsShowOnlyTheBeginningOfLongNamesAndValues(t *testing.T) {
	long := strings.Repeat("ü", 100_000)
	_, err := pgperffarm.Parse(body(t, tpchDoc, set("power", map[string]any{long: 1})), pgperffarm.DefaultLimits())
	if err == nil || len(err.Error()) > 500 {
		t.Errorf("error of a long name: %d bytes", len(err.Error()))
	}
	_, err = pgperffarm.Parse(body(t, pgbenchDoc, set("run_start_time", long)), pgperffarm.DefaultLimits())
	if err == nil || len(err.Error()) > 500 {
		t.Errorf("error of a long value: %d bytes", len(err.Error()))
	}
	twice := `[{"` + long + `": {"a": 1, "a": 1}}]`
	_, err = pgperffarm.Parse([]byte(twice), pgperffarm.DefaultLimits())
	if err == nil || len(err.Error()) > 500 {
		t.Errorf("error of a long pointer: %d bytes", len(err.Error()))
	}
}
