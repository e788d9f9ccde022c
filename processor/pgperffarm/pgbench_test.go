package pgperffarm_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/processor/pgperffarm"
)

const first = "pgbench[0].iterations[0]."

func TestMeasuresComeAsNumbersOrText(t *testing.T) {
	cases := map[string]struct {
		sent any
		want float64
	}{
		"text":           {"801.25", 801.25},
		"number":         {801.25, 801.25},
		"integer":        {801, 801},
		"zero":           {"0", 0},
		"padded":         {" 801.25\n", 801.25},
		"exponent":       {"8.0125e2", 801.25},
		"point first":    {".5", 0.5},
		"signed":         {"+1", 1},
		"negative zero":  {"-0.0", 0},
		"beyond 32 bits": {"1e150", 1e150},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			doc := accept(t, pgbenchDoc, set(first+"tps", c.sent), set(first+"latency", c.sent), set(first+"init", c.sent))
			got := doc.Results[0]
			if got.TPS != c.want || got.Latency != c.want || got.Init != c.want {
				t.Errorf("tps %v, latency %v, init %v, want %v", got.TPS, got.Latency, got.Init, c.want)
			}
		})
	}
}

func TestMeasuresThatAreNegativeOrNoFiniteNumberRefuseTheUpload(t *testing.T) {
	cases := map[string]struct {
		sent   any
		reason string
	}{
		"not found":      {-1, "is -1, it must be at least 0"},
		"negative":       {"-0.001", "it must be at least 0"},
		"text":           {"fast", "must be a finite number"},
		"empty":          {"", "must be a finite number"},
		"NaN":            {"NaN", "must be a finite number"},
		"nan":            {"nan", "must be a finite number"},
		"infinity":       {"Infinity", "must be a finite number"},
		"inf":            {"-inf", "must be a finite number"},
		"too large":      {"1e309", "must be a finite number"},
		"too large, raw": {json.Number("1e309"), "must be a finite number"},
		"hexadecimal":    {"0x1p3", "must be a finite number"},
		"digit groups":   {"1_000", "must be a finite number"},
		"decimal comma":  {"801,5", "must be a finite number"},
		"unit":           {"801 tps", "must be a finite number"},
		"null":           {nil, "must be a number, not null"},
		"boolean":        {true, "must be a number, not a boolean"},
		"array":          {[]any{1}, "must be a number, not an array"},
	}
	for _, member := range []string{"tps", "latency", "init"} {
		for name, c := range cases {
			t.Run(member+" "+name, func(t *testing.T) {
				wantRefused(t, body(t, pgbenchDoc, set(first+member, c.sent)), pgperffarm.DefaultLimits(), first+member, c.reason)
			})
		}
	}
}

func TestClientListIsASet(t *testing.T) {
	doc := accept(t, pgbenchDoc, set("pgbench[0].clients", []any{8, 8, 16, 8}))
	if len(doc.Results) != 1 {
		t.Errorf("%d results, want 1", len(doc.Results))
	}
}

func TestResultsOfClientCountsThatTheTestDoesNotListAreDropped(t *testing.T) {
	doc := accept(t, pgbenchDoc, set("pgbench[0].iterations", []any{
		result(map[string]any{"clients": "9"}), result(map[string]any{"clients": 8, "tps": 1}), result(map[string]any{"clients": 7}),
	}))
	if len(doc.Results) != 1 || doc.Results[0].TPS != 1 {
		t.Errorf("results are %+v", doc.Results)
	}
}

func TestTestsBringTheirOwnConfigurationWhateverTheOrderOfMembers(t *testing.T) {
	upload := strings.Replace(string(readFile(t, pgbenchDoc)), `"pgbench": [`,
		`"pgbench": [{"iterations": [{"collectd": {}, "pg_stat_statements": [], "iteration": 3, "end": 2, "start": 1,
		"init": 0, "statement_latencies": -1, "tps": 5, "latency": 6, "mode": -1, "clients": 2}],
		"read_only": false, "duration": 7, "scale": 9, "clients": [2]}, `, 1)
	upload = strings.Replace(upload, `"pgbench_log_aggregate": [`,
		`"pgbench_log_aggregate": [{"pgbench-rw-9-7-2-3-": ""}, `, 1)
	doc, err := pgperffarm.Parse([]byte(upload), pgperffarm.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	want := pgperffarm.Result{Clients: 2, Scale: 9, Duration: 7, TPS: 5, Latency: 6, Start: 1, End: 2, Iteration: 3}
	if diff := cmp.Diff(want, doc.Results[0]); diff != "" || len(doc.Results) != 2 {
		t.Errorf("%d results, the first differs (-want +got):\n%s", len(doc.Results), diff)
	}
}

func TestDocumentWithoutResultsIsAccepted(t *testing.T) {
	doc := accept(t, pgbenchDoc, set("pgbench", []any{}), set("pgbench_log_aggregate", []any{}))
	if doc.Benchmark != pgperffarm.BenchmarkPgbench || len(doc.Results) != 0 {
		t.Errorf("document is %+v", doc)
	}
}

func TestOldestClientsDoNotNameTheBenchmark(t *testing.T) {
	for _, e := range []edit{remove("meta"), remove("meta.benchmark"), set("meta", map[string]any{})} {
		if got := accept(t, pgbenchDoc, e).Benchmark; got != pgperffarm.BenchmarkPgbench {
			t.Errorf("benchmark is %q", got)
		}
		if got := accept(t, tpchDoc, e).Benchmark; got != pgperffarm.BenchmarkTPCH {
			t.Errorf("benchmark with scores is %q", got)
		}
	}
	if got := accept(t, pgbenchDoc, set("qphh_size", "1")).Benchmark; got != pgperffarm.BenchmarkPgbench {
		t.Errorf("named benchmark is %q", got)
	}
}

func TestModeThatTheClientDidNotFindIsEmpty(t *testing.T) {
	if got := accept(t, pgbenchDoc, set(first+"mode", -1)).Results[0].Mode; got != "" {
		t.Errorf("mode is %q", got)
	}
}

func TestStatementLatenciesAreReadLineByLine(t *testing.T) {
	cases := map[string]struct {
		sent any
		want []pgperffarm.Statement
	}{
		"lines": {"\n         0.003  SELECT 1;\n\n\t12.5\tEND;\r\n", []pgperffarm.Statement{
			{Line: 0, Latency: 0.003, Text: "SELECT 1;"}, {Line: 1, Latency: 12.5, Text: "END;"}}},
		"last line without end":   {"\n1.0 a", []pgperffarm.Statement{{Latency: 1, Text: "a"}}},
		"own latency in the text": {"\n0.5 SELECT 0.5, 0.5;\n", []pgperffarm.Statement{{Latency: 0.5, Text: "SELECT 0.5, 0.5;"}}},
		"heading":                 {"statement latencies in milliseconds:\n0.1 a\n", []pgperffarm.Statement{{Latency: 0.1, Text: "a"}}},
		"number without fraction": {"7 a\n0.1 b\n", []pgperffarm.Statement{{Latency: 0.1, Text: "b"}}},
		"digits around":           {"a1.b .5 3. 0.25 c\n", []pgperffarm.Statement{{Latency: 0.25, Text: "c"}}},
		"latency alone":           {"0.1\n", []pgperffarm.Statement{{Latency: 0.1}}},
		"not found":               {-1, nil},
		"null":                    {nil, nil},
		"array":                   {[]any{"0.1 a\n"}, nil},
		"one line":                {"0.1 a", nil},
		"empty":                   {"", nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := accept(t, pgbenchDoc, set(first+"statement_latencies", c.sent)).Results[0].Statements
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("statements differ (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("beyond all range", func(t *testing.T) {
		wantRefused(t, body(t, pgbenchDoc, set(first+"statement_latencies", strings.Repeat("9", 400)+".0 a\n")),
			pgperffarm.DefaultLimits(), first+"statement_latencies", "no finite number")
	})
}

func TestLogsGoToTheResultOfTheirOwnIteration(t *testing.T) {
	line := func(n int) string { return fmt.Sprintf("%d 1 2 3 4 5\n", n) }
	doc := accept(t, pgbenchDoc,
		set("pgbench[0].clients", []any{8, 16}),
		set("pgbench[0].iterations", []any{
			result(nil), result(map[string]any{"iteration": 1}), result(map[string]any{"clients": "16"}),
		}),
		set("pgbench_log_aggregate", []any{
			map[string]any{"pgbench-ro-20-120-8-1-": line(10)},
			map[string]any{"pgbench-ro-20-120-8-0-.123": line(20) + line(21)},
			map[string]any{"pgbench-ro-20-120-16-0-": line(30)},
			map[string]any{"pgbench-ro-20-120-8-0-": line(22)},
			map[string]any{"pgbench-rw-20-120-8-0-": line(1)},  // another mode
			map[string]any{"pgbench-ro-10-120-8-0-": line(1)},  // another scale
			map[string]any{"pgbench-ro-20-120-8-2-": "no log"}, // no such result
			map[string]any{"pgbench-ro-20-120-8-x-": []any{}},  // not a key
			map[string]any{"pgbench-xx-20-120-8-0-": line(1)},  // not a key
			map[string]any{"unrelated": nil}, map[string]any{},
		}))
	var got [][]int64
	for _, r := range doc.Results {
		var seconds []int64
		for _, l := range r.Log {
			seconds = append(seconds, l.Second)
		}
		got = append(got, seconds)
	}
	if diff := cmp.Diff([][]int64{{20, 21, 22}, {10}, {30}}, got); diff != "" {
		t.Errorf("seconds differ (-want +got):\n%s", diff)
	}
}

func TestResultWithoutLogIsRefused(t *testing.T) {
	wantRefused(t, body(t, pgbenchDoc, set("pgbench_log_aggregate", []any{map[string]any{"pgbench-ro-20-120-8-1-": logLine}})),
		pgperffarm.DefaultLimits(), "pgbench_log_aggregate", "has no log of the result pgbench-ro-20-120-8-0-")
	accept(t, pgbenchDoc, set("pgbench_log_aggregate", []any{map[string]any{"pgbench-ro-20-120-8-0-": ""}}))
}

func TestLogLineIsReadInFull64Bits(t *testing.T) {
	sent := "1625223600 9223372036854775807 -9223372036854775808 0 +7 2147483648 1 2 3 -\r\n\n  1625223601\t1  2 3 4 5\n"
	want := []pgperffarm.LogLine{
		{Second: 1625223600, Transactions: 1<<63 - 1, Sum: -1 << 63, Sum2: 0, Min: 7, Max: 1 << 31},
		{Second: 1625223601, Transactions: 1, Sum: 2, Sum2: 3, Min: 4, Max: 5},
	}
	got := accept(t, pgbenchDoc, set("pgbench_log_aggregate", []any{map[string]any{"pgbench-ro-20-120-8-0-": sent}})).Results[0].Log
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("log differs (-want +got):\n%s", diff)
	}
}

func TestLogLineThatIsNoneIsRefusedByNumber(t *testing.T) {
	cases := map[string]struct{ line, reason string }{
		"five numbers":   {"1625223600 1 2 3 4", "line 2 has no integer at place 6"},
		"fraction":       {"1625223600 1.5 2 3 4 5", "line 2 has no integer at place 2"},
		"text":           {"hello", "line 2 has no integer at place 1"},
		"beyond 64 bits": {"1625223600 9223372036854775808 2 3 4 5", "line 2 has no integer at place 2"},
		"sign alone":     {"1625223600 - 2 3 4 5", "line 2 has no integer at place 2"},
		"before 1970":    {"-1 1 2 3 4 5", "line 2 is of second -1, it must be from 1970 to 2261"},
		"after 2261":     {"9214646400 1 2 3 4 5", "it must be from 1970 to 2261"},
	}
	key := "pgbench-ro-20-120-8-0-"
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			logs := []any{map[string]any{key: logLine + c.line + "\n"}}
			wantRefused(t, body(t, pgbenchDoc, set("pgbench_log_aggregate", logs)), pgperffarm.DefaultLimits(),
				"pgbench_log_aggregate[0]."+key, c.reason)
		})
	}
	wantRefused(t, body(t, pgbenchDoc, set("pgbench_log_aggregate", []any{map[string]any{key: 5}})),
		pgperffarm.DefaultLimits(), "pgbench_log_aggregate[0]."+key, "must be a string, not a number")
}

func TestStatStatementsKeepAllBitsAndTellAbsentFromZero(t *testing.T) {
	upload := strings.Replace(string(readFile(t, pgbenchDoc)), `"pg_stat_statements": []`, `"pg_stat_statements": [
		{"query": "SELECT $1", "queryid": -9223372036854775807, "userid": 10, "dbid": "5", "plans": 0, "calls": 4294967296,
		 "rows": 7.0, "wal_bytes": "9223372036854775807", "total_exec_time": "1.5", "min_exec_time": 0, "blk_read_time": null,
		 "toplevel": true, "jit_functions": 1},
		{"query": ""}]`, 1)
	doc, err := pgperffarm.Parse([]byte(upload), pgperffarm.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	want := []pgperffarm.StatStatement{
		{
			Query: "SELECT $1", QueryID: ptr(int64(-9223372036854775807)), UserID: ptr(int64(10)), DBID: ptr(int64(5)),
			Plans: ptr(int64(0)), Calls: ptr(int64(4294967296)), Rows: ptr(int64(7)), WALBytes: ptr(int64(9223372036854775807)),
			TotalExecTime: ptr(1.5), MinExecTime: ptr(0.0),
		},
		{},
	}
	if diff := cmp.Diff(want, doc.Results[0].StatStatements); diff != "" {
		t.Errorf("rows differ (-want +got):\n%s", diff)
	}
}

func TestEveryColumnOfStatStatementsIsRead(t *testing.T) {
	row := map[string]any{"query": "q"}
	integers := strings.Fields(`queryid userid dbid plans calls rows shared_blks_hit shared_blks_read shared_blks_dirtied
		shared_blks_written local_blks_hit local_blks_read local_blks_dirtied local_blks_written temp_blks_read
		temp_blks_written wal_records wal_fpi wal_bytes`)
	times := strings.Fields(`total_plan_time min_plan_time max_plan_time mean_plan_time stddev_plan_time total_exec_time
		min_exec_time max_exec_time mean_exec_time stddev_exec_time blk_read_time blk_write_time`)
	for i, name := range append(integers, times...) {
		row[name] = i + 1
	}
	got := accept(t, pgbenchDoc, set(first+"pg_stat_statements", []any{row})).Results[0].StatStatements[0]
	i := func(n int64) *int64 { return &n }
	f := func(n float64) *float64 { return &n }
	want := pgperffarm.StatStatement{
		Query: "q", QueryID: i(1), UserID: i(2), DBID: i(3), Plans: i(4), Calls: i(5), Rows: i(6),
		SharedBlksHit: i(7), SharedBlksRead: i(8), SharedBlksDirtied: i(9), SharedBlksWritten: i(10),
		LocalBlksHit: i(11), LocalBlksRead: i(12), LocalBlksDirtied: i(13), LocalBlksWritten: i(14),
		TempBlksRead: i(15), TempBlksWritten: i(16), WALRecords: i(17), WALFPI: i(18), WALBytes: i(19),
		TotalPlanTime: f(20), MinPlanTime: f(21), MaxPlanTime: f(22), MeanPlanTime: f(23), StddevPlanTime: f(24),
		TotalExecTime: f(25), MinExecTime: f(26), MaxExecTime: f(27), MeanExecTime: f(28), StddevExecTime: f(29),
		BlkReadTime: f(30), BlkWriteTime: f(31),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("row differs (-want +got):\n%s", diff)
	}
}

func TestStatStatementThatIsInvalidIsRefusedByName(t *testing.T) {
	cases := map[string]struct {
		row            map[string]any
		member, reason string
	}{
		"no query":         {map[string]any{"calls": 1}, "query", "is missing"},
		"query null":       {map[string]any{"query": nil}, "query", "must be a string, not null"},
		"half a call":      {map[string]any{"query": "q", "calls": 1.5}, "calls", "must be an integer"},
		"id over 64 bits":  {map[string]any{"query": "q", "queryid": json.Number("9223372036854775808")}, "queryid", "must be an integer"},
		"time not a time":  {map[string]any{"query": "q", "total_exec_time": "long"}, "total_exec_time", "must be a finite number"},
		"time not a value": {map[string]any{"query": "q", "min_exec_time": []any{}}, "min_exec_time", "must be a number, not an array"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			wantRefused(t, body(t, pgbenchDoc, set(first+"pg_stat_statements", []any{c.row})), pgperffarm.DefaultLimits(),
				first+"pg_stat_statements[0]."+c.member, c.reason)
		})
	}
}

func TestMoreRowsOfAKindThanTheLimitAreRefusedNamingIt(t *testing.T) {
	limits := pgperffarm.DefaultLimits()
	limits.MaxRows = 4
	logs := func(n int) edit {
		return set("pgbench_log_aggregate", []any{map[string]any{"pgbench-ro-20-120-8-0-": strings.Repeat(logLine, n)}})
	}
	settings := func(n int) edit {
		var csv strings.Builder
		csv.WriteString("name,setting,source\n")
		for i := range n {
			fmt.Fprintf(&csv, "s%d,1,file\n", i)
		}
		return set("postgres_settings", csv.String())
	}
	queries := func(n int) edit {
		rows := make([]any, n)
		for i := range rows {
			rows[i] = map[string]any{"query": "q"}
		}
		return set(first+"pg_stat_statements", rows)
	}
	switches := func(n int) edit {
		samples := make([]any, n)
		for i := range samples {
			samples[i] = map[string]any{"epoch": fmt.Sprint(i), "value": "1"}
		}
		return set(first+"collectd", map[string]any{"h": map[string]any{"contextswitch": map[string]any{"contextswitch-2021-07-02": samples}}})
	}
	cases := map[string]struct {
		rows           func(n int) edit
		member, reason string
	}{
		"log":        {logs, "pgbench_log_aggregate[0].pgbench-ro-20-120-8-0-", "more log lines"},
		"settings":   {settings, "postgres_settings", "more settings"},
		"statements": {func(n int) edit { return set(first+"statement_latencies", strings.Repeat("0.1 a\n", n)) }, first + "statement_latencies", "more statements"},
		"queries":    {queries, first + "pg_stat_statements[4]", "more rows of pg_stat_statements"},
		"collectd":   {switches, first + "collectd.h.contextswitch", "more rows of collectd's contextswitch"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if _, err := pgperffarm.Parse(body(t, pgbenchDoc, c.rows(4)), limits); err != nil {
				t.Errorf("rows to the limit are refused: %v", err)
			}
			wantRefused(t, body(t, pgbenchDoc, c.rows(5)), limits, c.member, c.reason)
			wantRefused(t, body(t, pgbenchDoc, c.rows(5)), limits, c.member, "the limit is 4")
		})
	}
}

func TestRowsOfALogThatSeveralResultsShareCountForEach(t *testing.T) {
	upload := body(t, pgbenchDoc, set("pgbench[0].iterations", []any{result(nil), result(nil), result(nil)}),
		set("pgbench_log_aggregate", []any{map[string]any{"pgbench-ro-20-120-8-0-": logLine + logLine}}))
	doc, err := pgperffarm.Parse(upload, pgperffarm.Limits{MaxRows: 6})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range doc.Results {
		if len(r.Log) != 2 {
			t.Errorf("%d lines, want 2", len(r.Log))
		}
	}
	wantRefused(t, upload, pgperffarm.Limits{MaxRows: 5}, "pgbench_log_aggregate[0].pgbench-ro-20-120-8-0-", "the limit is 5")
}

func TestCustomScriptsAreAcceptedAndMarked(t *testing.T) {
	doc := accept(t, customDoc)
	if !doc.Custom || len(doc.Results) != 1 || !doc.Results[0].Custom || len(doc.Results[0].Log) != 1 {
		t.Errorf("document is %+v", doc)
	}
	doc = accept(t, customDoc, set("pgbench_log_aggregate", []any{map[string]any{"pgbench-custom-1": "x"}}))
	if len(doc.Results) != 1 {
		t.Error("custom results need no log of a known name")
	}
	doc = accept(t, pgbenchDoc)
	if doc.Custom || doc.Results[0].Custom {
		t.Error("a built-in script is marked as custom")
	}
	doc = accept(t, customDoc, set("pgbench", []any{map[string]any{
		"clients": []any{8}, "scale": 20, "duration": 120, "read_only": true, "iterations": []any{result(nil)},
	}}))
	if len(doc.Results) != 2 || !doc.Results[0].Custom || doc.Results[1].Custom {
		t.Errorf("results of both kinds are %+v", doc.Results)
	}
}

// The client's largest default document has 463,000 lines (section 6). The bound is generous: quadratic work would take
// minutes.
func TestLargestDefaultDocumentIsParsedInSeconds(t *testing.T) {
	const lines = 463_000
	upload := body(t, pgbenchDoc, set("pgbench_log_aggregate", []any{
		map[string]any{"pgbench-ro-20-120-8-0-": strings.Repeat(logLine, lines)},
	}))
	began := time.Now()
	doc, err := pgperffarm.Parse(upload, pgperffarm.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(doc.Results[0].Log); n != lines {
		t.Errorf("%d lines, want %d", n, lines)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestWhatTheTablesCannotHoldIsRefusedAtTheDoor(t *testing.T) {
	for member, value := range map[string]any{"tps": "1e151", "latency": 1e200, "init": "1e300", "start": 1e12, "end": "-1"} {
		wantRefused(t, body(t, pgbenchDoc, set(first+member, value)), pgperffarm.DefaultLimits(), first+member, "it must be")
	}
}
