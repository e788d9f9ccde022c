package pgperffarm_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/processor/pgperffarm"
)

// samples makes a collectd file: epochs and values in turn.
func samples(pairs ...string) []any {
	var file []any
	for i := 0; i < len(pairs); i += 2 {
		file = append(file, map[string]any{"epoch": pairs[i], "value": pairs[i+1]})
	}
	return file
}

// plugins returns what the result of the contract's document keeps of a host's plugins.
func plugins(t *testing.T, host map[string]any) []pgperffarm.CollectdPlugin {
	t.Helper()
	return accept(t, pgbenchDoc, set(first+"collectd", map[string]any{"h": host})).Results[0].Collectd
}

func TestCollectdTablesAreTheTenOfTheAPI(t *testing.T) {
	want := map[string]int{
		"cpu": 8, "process": 7, "contextswitch": 1, "ipc_shm": 4, "ipc_msg": 3, "ipc_sem": 2, "memory": 6, "swap": 5,
		"vmem": 44, "disk": 10,
	}
	got := map[string]int{}
	for _, table := range pgperffarm.CollectdTables() {
		got[table.Name] = len(table.Columns)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("columns differ (-want +got):\n%s", diff)
	}
	pgperffarm.CollectdTables()[0].Columns[0] = "changed"
	if got := pgperffarm.CollectdTables()[0].Columns[0]; got != "percent_user" {
		t.Errorf("a caller changed the table's column to %q", got)
	}
}

func TestEveryPluginFillsItsTable(t *testing.T) {
	files := map[string]string{ // plugin and how its columns are named as files
		"aggregation-cpu-average": "cpu", "processes": "process", "contextswitch": "contextswitch", "ipc-shm": "ipc_shm",
		"ipc-msg": "ipc_msg", "ipc-sem": "ipc_sem", "memory": "memory", "swap": "swap", "vmem": "vmem",
	}
	tables := map[string]pgperffarm.CollectdTable{}
	for _, table := range pgperffarm.CollectdTables() {
		tables[table.Name] = table
	}
	host := map[string]any{}
	for plugin, name := range files {
		content := map[string]any{}
		for i, column := range tables[name].Columns {
			content[metric(column)+"-2021-07-02"] = samples("1625223600.5", fmt.Sprintf("%d.750000", i))
		}
		host[plugin] = content
	}
	got := plugins(t, host)
	if len(got) != len(files) {
		t.Fatalf("%d plugins, want %d", len(got), len(files))
	}
	for _, plugin := range got {
		if len(plugin.Rows) != 1 || plugin.Rows[0].Epoch != 1625223600.5 {
			t.Errorf("%s has rows %v", plugin.Name, plugin.Rows)
			continue
		}
		for i, column := range plugin.Columns {
			var value float64
			if want := float64(i) + 0.75; plugin.Float {
				value = plugin.Rows[0].Floats[i] - want
			} else {
				value = float64(plugin.Rows[0].Ints[i]) - float64(i)
			}
			if value != 0 {
				t.Errorf("%s.%s is off by %v", plugin.Name, column, value)
			}
		}
	}
}

// metric returns a column's metric as collectd names it.
func metric(column string) string {
	switch {
	case strings.HasPrefix(column, "vmpage_"):
		rest := strings.TrimPrefix(column, "vmpage_")
		return "vmpage_" + strings.Replace(rest, "_", "-", 1)
	case strings.HasPrefix(column, "ps_state"), strings.HasPrefix(column, "swap_io"):
		at := strings.LastIndex(column, "_")
		return column[:at] + "-" + column[at+1:]
	case column == "fork_rate":
		return column
	}
	return strings.Replace(column, "_", "-", 1)
}

func TestMetricNamesMatchWhole(t *testing.T) {
	content := map[string]any{}
	for _, table := range pgperffarm.CollectdTables() {
		if table.Name != "vmem" {
			continue
		}
		for i, column := range table.Columns {
			content[metric(column)+"-2021-07-02"] = samples("1", fmt.Sprint(i))
		}
	}
	delete(content, "vmpage_number-dirty-2021-07-02")
	if got := plugins(t, map[string]any{"vmem": content}); len(got) != 0 {
		t.Errorf("dirty was taken from another metric: %v", got)
	}
	content["vmpage_number-dirty-2021-07-02"] = samples("1", "77")
	content["vmpage_number-dirty-more-2021-07-02"] = samples("1", "88")
	content["xvmpage_number-dirty-2021-07-02"] = samples("1", "99")
	got := plugins(t, map[string]any{"vmem": content})
	for i, column := range got[0].Columns {
		if column == "vmpage_number_dirty" && got[0].Rows[0].Ints[i] != 77 {
			t.Errorf("dirty is %d, want 77", got[0].Rows[0].Ints[i])
		}
	}
}

func TestIntegersAreCutTowardsZeroAndKeepTheirBits(t *testing.T) {
	cases := map[string]int64{
		"0": 0, "1.999999": 1, "-1.999999": -1, "9007199254740993.5": 9007199254740993, "4294967296": 4294967296,
		"9223372036854775807.000000": 9223372036854775807, "-9223372036854775808": -9223372036854775808, "1.5e3": 1500, ".9": 0,
		"5.": 5, "1e-3": 0, " 7 ": 7,
	}
	for sent, want := range cases {
		got := plugins(t, map[string]any{"contextswitch": map[string]any{"contextswitch-2021-07-02": samples("1", sent)}})
		if got[0].Rows[0].Ints[0] != want {
			t.Errorf("%s is %d, want %d", sent, got[0].Rows[0].Ints[0], want)
		}
	}
}

func TestIncompleteRowsAreSkippedAndNothingElse(t *testing.T) {
	got := plugins(t, map[string]any{"ipc-sem": map[string]any{
		"count-total-2021-07-02": samples("1", "10", "2", "20", "3", "nan", "4", "40"),
		"count-arrays-2021-07-02": []any{
			map[string]any{"epoch": "1", "value": "11"},
			map[string]any{"epoch": "2", "read": "1", "write": "2"},
			map[string]any{"epoch": "3", "value": "31"},
			map[string]any{"epoch": "4", "value": 41},
			map[string]any{"epoch": "5", "value": "51"},
		},
	}})
	want := []pgperffarm.CollectdRow{{Epoch: 1, Ints: []int64{10, 11}}, {Epoch: 4, Ints: []int64{40, 41}}}
	if diff := cmp.Diff(want, got[0].Rows); diff != "" {
		t.Errorf("rows differ (-want +got):\n%s", diff)
	}
}

func TestRowsAreJoinedByTheTextOfTheEpoch(t *testing.T) {
	got := plugins(t, map[string]any{"ipc-sem": map[string]any{
		"count-total-2021-07-02":  samples("3", "30", "1", "10", "2.0", "20"),
		"count-arrays-2021-07-02": samples("1", "11", "2", "21", "3", "31"),
	}})
	byEpoch := map[float64][]int64{}
	for _, row := range got[0].Rows {
		byEpoch[row.Epoch] = row.Ints
	}
	if diff := cmp.Diff(map[float64][]int64{1: {10, 11}, 3: {30, 31}}, byEpoch); diff != "" {
		t.Errorf("rows differ (-want +got):\n%s", diff)
	}
}

func TestRowsOfARunAcrossMidnightComeFromBothFiles(t *testing.T) {
	got := plugins(t, map[string]any{"contextswitch": map[string]any{
		"contextswitch-2021-07-02": samples("1", "10"), "contextswitch-2021-07-03": samples("2", "20"),
	}})
	want := []pgperffarm.CollectdRow{{Epoch: 1, Ints: []int64{10}}, {Epoch: 2, Ints: []int64{20}}}
	if diff := cmp.Diff(want, got[0].Rows); diff != "" {
		t.Errorf("rows differ (-want +got):\n%s", diff)
	}
}

func TestOnlyTheFirstHostCounts(t *testing.T) {
	upload := strings.Replace(string(readFile(t, pgbenchDoc)), `"collectd": {}`,
		`"collectd": {"b": {"contextswitch": {"contextswitch-2021-07-02": [{"epoch": "1", "value": "10"}]}},
		"a": {"contextswitch": {"contextswitch-2021-07-02": [{"epoch": "2", "value": "20"}]}, "memory": 5}}`, 1)
	doc, err := pgperffarm.Parse([]byte(upload), pgperffarm.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	got := doc.Results[0].Collectd
	if len(got) != 1 || len(got[0].Rows) != 1 || got[0].Rows[0].Epoch != 1 {
		t.Errorf("plugins are %v", got)
	}
}

func TestOtherPluginsAndDiskAreIgnored(t *testing.T) {
	got := plugins(t, map[string]any{
		"disk": map[string]any{"disk_octets-2021-07-02": samples("1", "1")}, "disk-sda": []any{}, "load": nil,
		"df-root": "text", "cpu-0": 1, "memory": map[string]any{"memory-free-2021-07-02": samples("1", "1"), "other": "x"},
	})
	if len(got) != 0 {
		t.Errorf("plugins are %v", got)
	}
}

func TestSampleThatIsNoneIsRefusedByName(t *testing.T) {
	file := first + "collectd.h.contextswitch.contextswitch-2021-07-02"
	cases := map[string]struct {
		sample         any
		member, reason string
	}{
		"no object":      {"1", "[0]", "must be an object, not a string"},
		"no epoch":       {map[string]any{"value": "1"}, "[0].epoch", "is missing"},
		"epoch no time":  {map[string]any{"epoch": "now", "value": "1"}, "[0].epoch", "from 1970 to 2261"},
		"epoch infinite": {map[string]any{"epoch": "1e999", "value": "1"}, "[0].epoch", "from 1970 to 2261"},
		"epoch too far":  {map[string]any{"epoch": "1e12", "value": "1"}, "[0].epoch", "from 1970 to 2261"},
		"value text":     {map[string]any{"epoch": "1", "value": "many"}, "[0].value", "must be a finite number"},
		"value infinite": {map[string]any{"epoch": "1", "value": "inf"}, "[0].value", "must be a finite number"},
		"value too big":  {map[string]any{"epoch": "1", "value": "9223372036854775808"}, "[0].value", "within 64 bits"},
		"value too bad":  {map[string]any{"epoch": "1", "value": "1e300"}, "[0].value", "within 64 bits"},
		"value null":     {map[string]any{"epoch": "1", "value": nil}, "[0].value", "must be a number, not null"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			host := map[string]any{"contextswitch": map[string]any{"contextswitch-2021-07-02": []any{c.sample}}}
			wantRefused(t, body(t, pgbenchDoc, set(first+"collectd", map[string]any{"h": host})), pgperffarm.DefaultLimits(),
				file+c.member, c.reason)
		})
	}
	wantRefused(t, body(t, pgbenchDoc, set(first+"collectd", map[string]any{"h": []any{}})), pgperffarm.DefaultLimits(),
		first+"collectd.h", "must be an object, not an array")
}
