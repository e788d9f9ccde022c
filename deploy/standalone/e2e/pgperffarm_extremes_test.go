package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// extremes are values at the edges of what an upload may hold, and beyond, by the member that they go to.
func extremes() map[string][]any {
	long, wide := strings.Repeat("x", 1<<20), strings.Repeat("ä", 100)
	odd := "\u2028 \"quoted\" \\ back <b>&amp; 🐘 \uffff \u200b \t"
	result := "pgbench.0.iterations.0."
	collectd := func(epoch, value string) any {
		return map[string]any{"h": map[string]any{
			"contextswitch": map[string]any{"contextswitch-2021-07-02": []any{map[string]any{"epoch": epoch, "value": value}}},
			"swap":          map[string]any{"swap-free-2021-07-02": []any{map[string]any{"epoch": epoch, "value": value}}},
		}}
	}
	statement := func(member string, value any) any { return []any{map[string]any{"query": odd, member: value}} }
	return map[string][]any{
		"run_start_time": {
			"0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "1970-01-01T00:00:00+2300", "2261-12-31T23:59:59.999999Z",
			"2262-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2021-02-29T00:00:00Z", "2021-07-02T24:00:00Z", "2021-07-02 11:00:00.123456789+00:00",
		},
		"run_end_time":                 {"1969-01-01T00:00:00Z", "2300-01-01T00:00:00Z", nil},
		"git_pull_runtime":             {"0:00:00", "999999 days, 23:59:59.999999", "-1 day, 0:00:01", "999999999999 days, 0:00:00"},
		"git.branch":                   {wide, wide + "x", "ü/🐘", "a"},
		"git.commit":                   {"1", wide, "%2f", "_%", "日本", "..", "."},
		"git.remote":                   {"x", "file:///etc/passwd", strings.Repeat("y", 100), strings.Repeat("y", 101)},
		"kernel.uname_m":               {"", wide, odd},
		"os_information.release":       {"", wide, odd},
		"compiler":                     {"", long, "compiled by " + strings.Repeat("ü", 200) + ", x", "compiled by " + strings.Repeat("ü", 201) + ", x", odd},
		"sysctl_log":                   {"{}", `{"vm.swappiness": ""}`, `{"vm.swappiness": "` + long + `"}`, `{"vm.swappiness": 10}`, "null", "[]", "{"},
		"postgres_settings":            {"name,setting,source\r\n", "name,setting,source\r\na,\"x\r\ny\",b\r\n", "name,setting,source\r\na," + long + ",b\r\n", "x"},
		"pg_ctl":                       {long, odd},
		"system.cpu.information.count": {0, -1, 1, 2147483647, 2147483648, json.Number("1e3"), json.Number("1.5")},
		"system.memory.virtual.total":  {0, -1, json.Number("9223372036854775807"), json.Number("9223372036854775808")},
		"system.memory.mounts":         {[]any{}, []any{map[string]any{}}, []any{map[string]any{"a": json.Number("1e300"), "b": []any{nil, true, odd}}}, []any{7}, nil},
		"system.cpu.information.brand": {"", wide, odd, nil},
		"pgbench.0.scale":              {0, 1, -1, 2147483647, 2147483648},
		"pgbench.0.duration":           {0, 1, 2147483647, 2147483648},
		result + "tps":                 {0, "0", "5e-324", "1e150", "1.1e150", "1e-400", "00012", "1_000", "0x10", "١"},
		result + "latency":             {0, "0.000", "1e150", json.Number("1e-300")},
		result + "init":                {0, json.Number("1e150"), json.Number("1e151")},
		result + "start":               {0, -1, json.Number("9214646399.999"), json.Number("9214646400"), json.Number("1e300"), "1625223600.5"},
		result + "end":                 {0, -1, json.Number("9214646399.999"), json.Number("1e300")},
		result + "mode":                {"", odd, wide, wide + "x", -1},
		result + "iteration":           {0, -1, 2147483647, 2147483648},
		result + "statement_latencies": {"\n 1e999 SELECT 1;\n", "\n 0.1 " + odd + "\n", "\n 0.1 " + long + "\n", "\n -1.5 x\n", "\n" + strings.Repeat(" 0.5 SELECT 1;\n", 10_000)},
		result + "pg_stat_statements": {
			statement("calls", json.Number("9223372036854775807")), statement("calls", json.Number("-9223372036854775808")), statement("calls", json.Number("9223372036854775808")),
			statement("total_exec_time", json.Number("1e150")), statement("total_exec_time", json.Number("1e308")), statement("query", long), statement("queryid", "x"),
		},
		result + "collectd": {
			collectd("0", "0"), collectd("1625223600.123", "-5"), collectd("9214646399", "1e18"), collectd("9214646400", "1"), collectd("-1", "1"),
			collectd("1625223600", "9223372036854775807"), collectd("1625223600", "9223372036854775808"), collectd("1625223600", "1e300"), collectd("x", "1"),
		},
	}
}

// Whatever is answered with 201 is shown: no value that a door takes may be too much for what is behind it.
func TestExtremeUploadIsEitherRefusedOrShownWhole(t *testing.T) {
	covers(t, "POST /run/upload", "GET /run/:run_id", "GET /benchmark/pgbench_results_complete/:pgbench_result_id", "GET /benchmark/history/:machine_id")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		values := extremes()
		accepted, refused := map[uint64]string{}, 0
		n := 0
		for _, member := range slices.Sorted(maps.Keys(values)) {
			m := lab.newMachine(t) // a machine's type is one of the members
			for _, value := range values[member] {
				n++
				answer := m.upload(t, smallDocument(n).set(member, value).body())
				switch what := fmt.Sprintf("%s %.60q", member, fmt.Sprint(value)); answer.Status {
				case http.StatusCreated:
					id, _ := strconv.ParseUint(strings.TrimPrefix(answer.Header.Get("Location"), "/run/"), 10, 64)
					accepted[id] = what
				case http.StatusNotAcceptable:
					refused++
				default:
					t.Errorf("%s: status %d, want 201 or 406: %s", what, answer.Status, answer.Body)
				}
			}
			lab.visitor(t).get(t, fmt.Sprintf("/benchmark/history/%d", m.ID)).rows(t)
		}
		if len(accepted) < 40 || refused < 40 {
			t.Errorf("%d uploads were accepted and %d refused; the values are not at the edges any more", len(accepted), refused)
		}
		for id, what := range accepted {
			for _, path := range []string{fmt.Sprintf("/run/%d", id), fmt.Sprintf("/benchmark/pgbench_results_complete/%d", id<<10+1)} {
				if answer := lab.visitor(t).get(t, path); answer.Status != http.StatusOK || !json.Valid(answer.Body) {
					t.Errorf("%s was accepted, and %s is %d %.300s", what, path, answer.Status, answer.Body)
				}
			}
		}
	})
}
