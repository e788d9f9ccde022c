package projection

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/processor/pgperffarm"
	"github.com/millrace/millrace/processor/runs"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestRunGivesTheGoldenRows(t *testing.T) {
	for name, doc := range map[string]*pgperffarm.Document{"pgbench": pgbenchDocument(), "tpch": tpchDocument()} {
		t.Run(name, func(t *testing.T) {
			l, b := newLab(t), NewBatch()
			if err := l.add(b, l.accept(doc)); err != nil {
				t.Fatal(err)
			}
			golden(t, name+".rows", dump(b))
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("rows differ from %s (-want +got), -update writes it anew:\n%s", path, diff)
	}
}

// dump shows the rows of all tables, a line for each value.
func dump(b *Batch) string {
	var out strings.Builder
	for i := range b.tables {
		columns := strings.Split(tables[i].columns, ", ")
		for _, row := range b.tables[i].values {
			fmt.Fprintf(&out, "%s\n", tables[i].name)
			for c, value := range row {
				fmt.Fprintf(&out, "  %s = %s\n", columns[c], show(value))
			}
		}
	}
	m := &b.metrics
	for i := range m.segments {
		s := &m.segments[i]
		for j := range m.length(i) {
			fmt.Fprintf(&out, "metrics %d %d %d %s run %d result %d event %s ordinal %d: %s = %v\n", s.Machine, s.Config, s.Branch,
				s.Metric, s.run, s.result, s.event, int(s.ordinal)+j, time.UnixMilli(m.times[s.first+j]).UTC().Format(time.RFC3339Nano),
				m.values[s.first+j])
		}
	}
	return out.String()
}

func show(value any) string {
	v := reflect.ValueOf(value)
	switch {
	case v.Kind() == reflect.Pointer && v.IsNil():
		return "null"
	case v.Kind() == reflect.Pointer:
		return show(v.Elem().Interface())
	}
	switch value := value.(type) {
	case time.Time:
		return value.Format(time.RFC3339Nano)
	case []*float64:
		all := make([]string, len(value))
		for i, f := range value {
			all[i] = show(f)
		}
		return strings.Join(all, ", ")
	}
	return fmt.Sprint(value)
}

// The front end reads these keys (section 5.1.7).
var memberKeys = map[string]string{
	"log":        "pgbench_log_id pgbench_result_id_id interval_start num_transactions sum_latency sum_latency_2 min_latency max_latency",
	"statements": "line_id latency pgbench_run_statement_id result_id statements",
	"stat_statements": "pg_stat_statements_id pgbench_result_id_id query_id queryid query userid dbid plans calls rows " +
		"shared_blks_hit shared_blks_read shared_blks_dirtied shared_blks_written local_blks_hit local_blks_read " +
		"local_blks_dirtied local_blks_written temp_blks_read temp_blks_written wal_records wal_fpi wal_bytes " +
		"total_plan_time min_plan_time max_plan_time mean_plan_time stddev_plan_time total_exec_time min_exec_time " +
		"max_exec_time mean_exec_time stddev_exec_time blk_read_time blk_write_time",
}

func TestRenderedMembersHaveTheKeysOfTheContract(t *testing.T) {
	l, b := newLab(t), NewBatch()
	if err := l.add(b, l.accept(pgbenchDocument())); err != nil {
		t.Fatal(err)
	}
	for member, keys := range memberKeys {
		for _, element := range members[[]map[string]any](t, b, 0, member) {
			wantKeys(t, member, element, strings.Fields(keys))
		}
	}
	plugins := members[map[string][]map[string]any](t, b, 0, "collectd")
	for _, table := range pgperffarm.CollectdTables() {
		rows, there := plugins[table.Name]
		if !there || rows == nil {
			t.Errorf("collectd has no array %s", table.Name)
		}
		for _, row := range rows {
			wantKeys(t, table.Name, row, append([]string{"collectd_" + table.Name + "_id", "pgbench_result_id_id", "epoch"}, table.Columns...))
		}
	}
	if len(plugins) != 10 {
		t.Errorf("collectd has %d members, want 10", len(plugins))
	}
}

// members parses a rendered column of a result.
func members[T any](t *testing.T, b *Batch, result int, column string) (parsed T) {
	t.Helper()
	for i, name := range strings.Split(tables[results].columns, ", ") {
		if name == column {
			text := b.tables[results].values[result][i].(string)
			if err := json.Unmarshal([]byte(text), &parsed); err != nil {
				t.Fatalf("%s is not JSON: %v\n%s", column, err, text)
			}
			return parsed
		}
	}
	t.Fatalf("results have no column %s", column)
	return parsed
}

func wantKeys(t *testing.T, what string, element map[string]any, keys []string) {
	t.Helper()
	for _, key := range keys {
		if _, there := element[key]; !there {
			t.Errorf("%s has no key %s", what, key)
		}
	}
	if len(element) != len(keys) {
		t.Errorf("%s has %d keys, want %d: %v", what, len(element), len(keys), element)
	}
}

func TestRowIdsCountOverTheWholeDocument(t *testing.T) {
	l, b := newLab(t), NewBatch()
	for range 2 { // the second upload is run 2
		doc := pgbenchDocument()
		doc.Start = doc.Start.Add(time.Duration(l.next) * time.Hour)
		if err := l.add(b, l.accept(doc)); err != nil {
			t.Fatal(err)
		}
	}
	var ids []uint64
	for result := range 6 {
		for _, line := range members[[]struct {
			ID     uint64 `json:"pgbench_log_id"`
			Result uint64 `json:"pgbench_result_id_id"`
		}](t, b, result, "log") {
			ids = append(ids, line.Result, line.ID)
		}
	}
	run1, run2 := uint64(1)<<20, uint64(2)<<20
	want := []uint64{
		1025, run1 + 1, 1025, run1 + 2, 1025, run1 + 3, 1026, run1 + 4, 1026, run1 + 5, 1026, run1 + 6,
		2049, run2 + 1, 2049, run2 + 2, 2049, run2 + 3, 2050, run2 + 4, 2050, run2 + 5, 2050, run2 + 6,
	}
	if diff := cmp.Diff(want, ids); diff != "" {
		t.Errorf("result ids and log ids (-want +got):\n%s", diff)
	}
}

func TestFrequencyOfTheEarliestRunHasTheGreatestVersion(t *testing.T) {
	l := newLab(t)
	var versions []uint64
	for i := range 2 {
		doc := pgbenchDocument()
		doc.Start = doc.Start.Add(time.Duration(i) * time.Hour)
		doc.Hardware.Hz += int64(i)
		b := NewBatch()
		if err := l.add(b, l.accept(doc)); err != nil {
			t.Fatal(err)
		}
		row := b.tables[hardware].values[0]
		versions = append(versions, row[len(row)-1].(uint64))
	}
	if versions[0] <= versions[1] {
		t.Errorf("versions are %d", versions)
	}
}

func TestDictionaryRowsComeOncePerBatch(t *testing.T) {
	l, b := newLab(t), NewBatch()
	for i := range 3 {
		doc := pgbenchDocument()
		doc.Start = doc.Start.Add(time.Duration(i) * time.Hour)
		if err := l.add(b, l.accept(doc)); err != nil {
			t.Fatal(err)
		}
	}
	got := map[int]int{configs: len(b.tables[configs].values), hardware: len(b.tables[hardware].values), settings: len(b.tables[settings].values)}
	if diff := cmp.Diff(map[int]int{configs: 2, hardware: 1, settings: 2}, got); diff != "" {
		t.Errorf("dictionary rows (-want +got):\n%s", diff)
	}
	b.Reset()
	doc := pgbenchDocument()
	doc.Start = doc.Start.Add(9 * time.Hour)
	if err := l.add(b, l.accept(doc)); err != nil {
		t.Fatal(err)
	}
	if len(b.tables[hardware].values) != 1 {
		t.Error("the next batch has no hardware row")
	}
}

func TestRunThatCannotBeProjectedLeavesTheBatchAsItWas(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(u *upload, l *lab)
		want  string
	}{
		"not accepted":       {func(u *upload, _ *lab) { u.outcome.Result = runs.Duplicate }, "was not accepted"},
		"other start":        {func(u *upload, _ *lab) { u.message.StartTime++ }, "the document starts at 1625223600000500 µs after 1970, its event says 1625223600000501"},
		"other machine type": {func(u *upload, _ *lab) { u.message.MachineType = "x86_64" }, `machine type "aarch64", its event says "x86_64"`},
		"unnumbered statement": {
			func(u *upload, _ *lab) { u.doc.Results[1].Statements[0].Text = "VACUUM" },
			"the document shows a statement that its event does not name",
		},
		"log time": {func(u *upload, _ *lab) { u.rec.LogTime = -1 }, "the record's time is -1 ms after 1970"},
		"start of a result": {
			func(u *upload, _ *lab) { u.doc.Results[2].Start = 1e300 }, "result 3: start is 1e+300 seconds after 1970, it must be from 1970 to 2261",
		},
		"value of a metric": {func(u *upload, _ *lab) { u.doc.Results[2].TPS = 1e151 }, `result 3: metric "custom.tps": its value is 1e+151`},
		"not a number":      {func(u *upload, _ *lab) { u.doc.Results[2].Latency = math.NaN() }, `result 3: metric "custom.latency": its value is NaN`},
		"end":               {func(u *upload, _ *lab) { u.doc.Results[2].End = math.Inf(1) }, "result 3: end is +Inf, it must be finite"},
		"iteration":         {func(u *upload, _ *lab) { u.doc.Results[2].Iteration = 1 << 31 }, "result 3: iteration is 2147483648, it must fit 32 bits"},
		"epoch": {
			func(u *upload, _ *lab) { u.doc.Results[2].Collectd[0].Rows[0].Epoch = -1 },
			"result 3: an epoch of collectd's contextswitch is -1 seconds after 1970",
		},
		"cores": {
			func(u *upload, l *lab) {
				doc := tpchDocument()
				doc.Start = doc.Start.Add(time.Hour)
				doc.Hardware.Cores = 1 << 40
				*u = l.accept(doc)
			}, "cpu count is 1099511627776, it must fit 32 bits",
		},
		"end time": {func(u *upload, _ *lab) { u.doc.End = time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC) }, "run_end_time is"},
		"too many results": {
			func(u *upload, _ *lab) { u.doc.Results = make([]pgperffarm.Result, 1024) }, "the document has 1024 results, the limit is 1023",
		},
		"query of TPC-H": {
			func(u *upload, l *lab) {
				doc := tpchDocument()
				doc.Start = doc.Start.Add(time.Hour)
				doc.TPCH.Queries[0].Index = 256
				*u = l.accept(doc)
			}, "query 256 is no query of TPC-H",
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, b := newLab(t), NewBatch()
			if err := l.add(b, l.accept(tpchDocument())); err != nil {
				t.Fatal(err)
			}
			if err := b.AddSamples(samplesMessage("a", 1, 2), l.record(samplesMessage("a", 1, 2))); err != nil {
				t.Fatal(err)
			}
			before, rows, bytes := dump(b), b.Rows(), b.Bytes()
			doc := pgbenchDocument()
			doc.Hardware.Cores++ // so that the run brings a hardware row, which must go again
			doc.Start = runStart
			u := l.accept(doc)
			spoiled := u
			test.spoil(&spoiled, l)
			err := b.AddRun(spoiled.outcome.Run, spoiled.message, spoiled.doc, spoiled.outcome, l.state, spoiled.rec)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want %q", err, test.want)
			}
			if diff := cmp.Diff(before, dump(b)); diff != "" || rows != b.Rows() || bytes != b.Bytes() {
				t.Errorf("the batch has changed (%d rows, %d bytes; were %d, %d):\n%s", b.Rows(), b.Bytes(), rows, bytes, diff)
			}
			good := pgbenchDocument()
			good.Hardware.Cores++
			good.Start = runStart.Add(24 * time.Hour)
			if err := l.add(b, l.accept(good)); err != nil {
				t.Fatal(err)
			}
			if n := len(b.tables[hardware].values); n != 2 {
				t.Errorf("after a good upload there are %d hardware rows, want 2", n)
			}
		})
	}
}
