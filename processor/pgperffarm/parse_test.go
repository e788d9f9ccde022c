package pgperffarm_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/processor/pgperffarm"
)

func TestContractDocumentIsReadWhole(t *testing.T) {
	want := &pgperffarm.Document{
		Benchmark:  pgperffarm.BenchmarkPgbench,
		Repository: "https://github.com/postgres/postgres.git",
		Branch:     "master",
		Commit:     "5d0e6b1f0c9a4b7e8d2f3a6c1b0e9d8c7b6a5f4e",
		System: pgperffarm.System{
			Kernel:      pgperffarm.Kernel{Name: "Linux", Release: "5.12.9", Version: "#1 SMP"},
			OS:          pgperffarm.OS{Distributor: "Fedora", Description: "Fedora release 34", Release: "34", Codename: "ThirtyFour"},
			MachineType: "aarch64",
			Hardware: pgperffarm.Hardware{
				CPUBrand: "Example CPU", Hz: 3000000000, Cores: 16, TotalMemory: 34359738368,
				Mounts: "[]", Sysctl: `{"vm.swappiness":"10"}`,
			},
			SysctlLog: `{"vm.swappiness": "10", "net.core.somaxconn": "128"}`,
			Compiler:  "clang 12.0.0",
			Settings:  []pgperffarm.Setting{{Name: "work_mem", Source: "configuration file", Value: "65536"}},
		},
		Received: time.Date(2021, 7, 2, 10, 58, 0, 0, time.UTC),
		Start:    time.Date(2021, 7, 2, 11, 0, 0, 0, time.UTC),
		End:      time.Date(2021, 7, 2, 11, 5, 0, 0, time.UTC),
		Runtimes: pgperffarm.Runtimes{GitPull: ptr(2250 * time.Millisecond), Cleanup: ptr(125 * time.Millisecond)},
		Results: []pgperffarm.Result{{
			Clients: 8, Scale: 20, Duration: 120, ReadOnly: true, TPS: 801, Latency: 9.9, Mode: "simple",
			Start: 1625223600.5, End: 1625223720.75, Init: 4.25,
			Statements: []pgperffarm.Statement{{Latency: 0.003, Text: "SELECT 1;"}},
			Log: []pgperffarm.LogLine{
				{Second: 1625223600, Transactions: 799, Sum: 7910100, Sum2: 78309990000, Min: 610, Max: 15020},
			},
		}},
	}
	got, err := pgperffarm.Parse(readFile(t, pgbenchDoc), pgperffarm.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("document differs (-want +got):\n%s", diff)
	}
}

func TestBodyThatIsNoUploadIsMalformed(t *testing.T) {
	good := string(readFile(t, pgbenchDoc))
	cases := map[string]struct{ body, reason string }{
		"empty":                  {"", "empty or ends too early"},
		"white space":            {" \n", "empty or ends too early"},
		"text":                   {"hello", "not JSON"},
		"truncated":              {good[:len(good)/2], "not JSON"},
		"two values":             {good + "[]", "more data after the end"},
		"trailing letter":        {good + "x", "more data after the end"},
		"byte order mark":        {"\ufeff" + good, "not JSON"},
		"null":                   {"null", "the top level is null"},
		"string":                 {`"[{}]"`, "the top level is a string"},
		"number":                 {"1", "the top level is a number"},
		"object":                 {"{}", "the top level is an object"},
		"empty array":            {"[]", "the array is empty"},
		"array of null":          {"[null]", "the array's element is null"},
		"array of arrays":        {"[[]]", "the array's element is an array"},
		"two objects":            {"[{},{}]", "more than one element"},
		"object and null":        {"[{},null]", "more than one element"},
		"object, broken rest":    {"[{},nul]", "not JSON"},
		"NaN":                    {strings.Replace(good, `"801.0"`, "NaN", 1), "pgbench[0].iterations[0].tps): not JSON: numbers must be finite"},
		"Infinity":               {strings.Replace(good, `4.25`, "Infinity", 1), "numbers must be finite"},
		"invalid UTF-8":          {strings.Replace(good, "Fedora", "F\xe9dora", 1), "not UTF-8"},
		"control character":      {strings.Replace(good, "Fedora", "Fed\nora", 1), "not JSON"},
		"unknown member, broken": {strings.Replace(good, `"meta"`, `"x": [1,}, "meta"`, 1), "not JSON"},
		"repeated name, broken":  {`[{"git": 1, "git": 2`, "not JSON"},
		"repeated name, shape":   {`[{"git": 1, "git": 2}, 1]`, "more than one element"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { wantMalformed(t, []byte(c.body), c.reason) })
	}
}

func TestMalformedBodyIsReportedAsSuchEvenWhenAMemberIsInvalidToo(t *testing.T) {
	bad := string(body(t, pgbenchDoc, remove("git")))
	wantMalformed(t, []byte(bad[:len(bad)-1]), "not JSON")
}

func TestNestingBeyondTheLimitIsMalformedAndNamesTheLimit(t *testing.T) {
	nested := func(levels int) string {
		return strings.Replace(string(readFile(t, pgbenchDoc)), `"meta"`,
			`"x": `+strings.Repeat("[", levels)+strings.Repeat("]", levels)+`, "meta"`, 1)
	}
	limits := pgperffarm.DefaultLimits()
	if _, err := pgperffarm.Parse([]byte(nested(limits.MaxDepth-2)), limits); err != nil {
		t.Errorf("nesting to the limit is refused: %v", err)
	}
	wantMalformed(t, []byte(nested(limits.MaxDepth-1)), "the limit is 64 levels")
	wantMalformed(t, []byte(strings.Repeat("[", 10_000_000)), "the limit is 64 levels")
	wantMalformed(t, []byte(strings.Repeat(`[{"a":`, 1_000_000)), "the limit is 64 levels")
}

func TestBracketsWithinStringsDoNotCountAsNesting(t *testing.T) {
	accept(t, pgbenchDoc, set("pg_ctl", strings.Repeat(`[{"\`, 1000)))
}

func TestMemberThatStandsTwiceIsRefusedByName(t *testing.T) {
	good := string(readFile(t, pgbenchDoc))
	cases := map[string]struct{ old, new, member string }{
		"top":     {`"compiler":`, `"compiler": "x", "compiler":`, "compiler"},
		"nested":  {`"branch":`, `"branch": "x", "branch":`, "git.branch"},
		"escaped": {`"branch":`, `"branc\u0068": "x", "branch":`, "git.branch"},
		"deep":    {`"tps":`, `"tps": "1", "tps":`, "pgbench[0].iterations[0].tps"},
		"unknown": {`"compiler":`, `"x": {"y": 1, "y": 1}, "compiler":`, "x.y"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			twice := strings.Replace(good, c.old, c.new, 1)
			wantRefused(t, []byte(twice), pgperffarm.DefaultLimits(), c.member, "appears twice")
		})
	}
}

func TestUnknownMembersAreIgnoredWhateverTheyHold(t *testing.T) {
	want := accept(t, pgbenchDoc)
	got := accept(t, pgbenchDoc,
		set("git_pull_log", "text"), set("pg_settings_log", "with \x00 inside"), set("x", map[string]any{"y": []any{1, nil}}),
		set("meta.x", 1), set("git.x", nil), set("kernel.x", 1), set("os_information.x", 1), set("system.x", 1),
		set("system.cpu.x", 1), set("system.cpu.information.x", 1), set("system.memory.x", 1),
		set("system.memory.swap.x", 1), set("pgbench[0].x", 1), set("pgbench[0].iterations[0].x", 1),
		set("power", "a log file of this name"), set("num_streams", nil), set("meta.name", 7), set("meta.date", nil))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("document differs (-without +with):\n%s", diff)
	}
	surrogate := strings.Replace(string(readFile(t, pgbenchDoc)), `"meta"`, `"x": "\ud800", "meta"`, 1)
	if _, err := pgperffarm.Parse([]byte(surrogate), pgperffarm.DefaultLimits()); err != nil {
		t.Errorf("refused for text that is not kept: %v", err)
	}
}

func TestMissingMemberIsRefusedByName(t *testing.T) {
	cases := map[string][]string{
		pgbenchDoc: {
			"git", "git.remote", "git.branch", "git.commit",
			"kernel", "kernel.uname_s", "kernel.uname_r", "kernel.uname_v", "kernel.uname_m",
			"os_information", "os_information.distributor", "os_information.description", "os_information.release",
			"os_information.codename",
			"system", "system.cpu", "system.cpu.information", "system.cpu.information.count",
			"system.memory", "system.memory.virtual", "system.memory.virtual.total", "system.memory.swap",
			"system.memory.swap.total", "system.memory.mounts",
			"sysctl_log", "compiler", "postgres_settings", "pg_ctl", "pgbench_log", "pgbench_log_aggregate", "pgbench",
			"run_received_time", "run_start_time", "run_end_time",
			"git_clone_runtime", "git_pull_runtime", "configure_runtime", "build_runtime", "install_runtime", "cleanup_runtime",
			"pgbench[0].clients", "pgbench[0].scale", "pgbench[0].duration", "pgbench[0].read_only", "pgbench[0].iterations",
			"pgbench[0].iterations[0].clients", "pgbench[0].iterations[0].tps", "pgbench[0].iterations[0].latency",
			"pgbench[0].iterations[0].mode", "pgbench[0].iterations[0].statement_latencies",
			"pgbench[0].iterations[0].start", "pgbench[0].iterations[0].end", "pgbench[0].iterations[0].init",
			"pgbench[0].iterations[0].iteration", "pgbench[0].iterations[0].pg_stat_statements",
			"pgbench[0].iterations[0].collectd",
		},
		tpchDoc: {
			"scale_factor", "num_streams", "power_size", "throughput_size", "qphh_size", "power", "throughput",
		},
	}
	for file, members := range cases {
		for _, member := range members {
			t.Run(member, func(t *testing.T) {
				wantRefused(t, body(t, file, remove(member)), pgperffarm.DefaultLimits(), member, "is missing")
			})
		}
	}
}

func TestMemberOfAnotherTypeIsRefusedByName(t *testing.T) {
	first := "pgbench[0].iterations[0]."
	cases := []struct {
		member string
		value  any
		reason string
	}{
		{"meta", "pgbench", "must be an object, not a string"},
		{"meta.benchmark", nil, "must be a string, not null"},
		{"meta.benchmark", "sysbench", `must be "pgbench" or "tpch", not "sysbench"`},
		{"git", []any{}, "must be an object, not an array"},
		{"git.commit", 5, "must be a string, not a number"},
		{"kernel.uname_s", "FreeBSD", `must be Linux or Darwin, not "FreeBSD"`},
		{"kernel.uname_m", "", "is empty"},
		{"os_information.distributor", nil, "must be a string, not null"},
		{"system", true, "must be an object, not a boolean"},
		{"system.cpu.information.count", "16", "must be an integer, not a string"},
		{"system.cpu.information.count", 1.5, "must be an integer, not"},
		{"system.cpu.information.count", 0, "is 0, it must be from 1 to 2147483647"},
		{"system.cpu.information.hz_actual", "3 GHz", "must be an array, not a string"},
		{"system.memory.virtual.total", -1, "is -1, it must be from 0 to 9223372036854775807"},
		{"system.memory.swap.total", nil, "must be an integer, not null"},
		{"system.memory.mounts", map[string]any{}, "must be an array, not an object"},
		{"system.memory.mounts", nil, "must be an array, not null"},
		{"sysctl_log", []any{}, "must be a string, not an array"},
		{"sysctl_log", map[string]any{}, "must be a string, not an object"},
		{"sysctl_log", "[]", "must be an object, not an array"},
		{"sysctl_log", "{", "does not hold JSON"},
		{"sysctl_log", "", "does not hold JSON"},
		{"sysctl_log", "{} {}", "does not hold JSON"},
		{"sysctl_log", `{"a": "1", "a": "2"}`, "does not hold JSON: duplicate"},
		{"sysctl_log", `{"a": ` + strings.Repeat("[", 65) + strings.Repeat("]", 65) + `}`, "the limit is 64 levels"},
		{"compiler", nil, "must be a string, not null"},
		{"postgres_settings", nil, "must be a string, not null"},
		{"pg_ctl", nil, "must be a string, not null"},
		{"build_log", 1, "must be a string, not a number"},
		{"run_start_time", 1625223600, "must be a string, not a number"},
		{"run_start_time", nil, "is null"},
		{"run_end_time", "soon", "must be an ISO 8601 date and time"},
		{"build_runtime", 12.5, "must be a string, not a number"},
		{"build_runtime", "12.5", "must be a duration"},
		{"pgbench_log_aggregate", map[string]any{}, "must be an array, not an object"},
		{"pgbench", map[string]any{}, "must be an array, not an object"},
		{"pgbench", nil, "must be an array, not null"},
		{"pgbench[0].clients", 8, "must be an array, not a number"},
		{"pgbench[0].scale", "20", "must be an integer, not a string"},
		{"pgbench[0].scale", 0, "it must be from 1 to"},
		{"pgbench[0].duration", 4294967296, "it must be from 1 to 2147483647"},
		{"pgbench[0].read_only", "true", "must be a boolean, not a string"},
		{"pgbench[0].read_only", 1, "must be a boolean, not a number"},
		{"pgbench[0].iterations", nil, "must be an array, not null"},
		{first + "clients", "many", "must be an integer"},
		{first + "mode", nil, "must be a string, not null"},
		{first + "mode", 2, "is 2, it must be from -1 to -1"},
		{first + "start", "then", "must be a finite number"},
		{first + "iteration", -1, "is -1, it must be from 0"},
		{first + "pg_stat_statements", map[string]any{}, "must be an array, not an object"},
		{first + "collectd", []any{}, "must be an object, not an array"},
	}
	for _, c := range cases {
		t.Run(c.member, func(t *testing.T) {
			wantRefused(t, body(t, pgbenchDoc, set(c.member, c.value)), pgperffarm.DefaultLimits(), c.member, c.reason)
		})
	}
}

func TestElementOfAnotherTypeIsRefusedByIndex(t *testing.T) {
	cases := []struct{ member, into string }{
		{"pgbench[0]", "pgbench"},
		{"pgbench[0].iterations[0]", "pgbench[0].iterations"},
		{"pgbench[0].clients[0]", "pgbench[0].clients"},
		{"pgbench_log_aggregate[0]", "pgbench_log_aggregate"},
		{"system.memory.mounts[0]", "system.memory.mounts"},
		{"pgbench[0].iterations[0].pg_stat_statements[0]", "pgbench[0].iterations[0].pg_stat_statements"},
	}
	for _, c := range cases {
		t.Run(c.member, func(t *testing.T) {
			changed := body(t, pgbenchDoc, set(c.into, []any{"text"}))
			wantRefused(t, changed, pgperffarm.DefaultLimits(), c.member, "must be an")
		})
	}
}

func TestTextOverTheLimitOfTheDataModelIsRefusedNamingTheLimit(t *testing.T) {
	cases := []struct {
		member string
		limit  int
	}{
		{"git.remote", 100}, {"git.branch", 100}, {"git.commit", 100},
		{"kernel.uname_r", 100}, {"kernel.uname_v", 100}, {"kernel.uname_m", 100},
		{"os_information.distributor", 100}, {"os_information.description", 100}, {"os_information.release", 100},
		{"os_information.codename", 100}, {"system.cpu.information.brand_raw", 100},
		{"pgbench[0].iterations[0].mode", 100},
	}
	for _, c := range cases {
		t.Run(c.member, func(t *testing.T) {
			accept(t, pgbenchDoc, set(c.member, strings.Repeat("é", c.limit)))
			wantRefused(t, body(t, pgbenchDoc, set(c.member, strings.Repeat("é", c.limit+1))),
				pgperffarm.DefaultLimits(), c.member, "is 101 characters long, the limit is 100")
		})
	}
	t.Run("compiler", func(t *testing.T) {
		accept(t, pgbenchDoc, set("compiler", "x compiled by "+strings.Repeat("é", 200)+", 64-bit"))
		wantRefused(t, body(t, pgbenchDoc, set("compiler", "x compiled by "+strings.Repeat("é", 201)+", 64-bit")),
			pgperffarm.DefaultLimits(), "compiler", "201 characters, the limit is 200")
	})
}

func TestTextThatTheTablesCannotHoldIsRefusedByName(t *testing.T) {
	members := []string{
		"git.remote", "git.branch", "git.commit", "kernel.uname_v", "os_information.release", "compiler",
		"postgres_settings", "sysctl_log", "pg_ctl", "pgbench_log", "build_log", "run_end_time",
		"system.cpu.information.brand_raw", "pgbench[0].iterations[0].mode", "pgbench[0].iterations[0].tps",
		"pgbench[0].iterations[0].statement_latencies",
	}
	escapes := map[string]string{
		`\u0000`: "NUL", `\ud800`: "half of a surrogate pair", `\udc00x`: "half of a surrogate pair",
		`\ud800\ud800`: "half of a surrogate pair",
	}
	for _, member := range members {
		for escape, reason := range escapes {
			t.Run(member+escape, func(t *testing.T) {
				marked := string(body(t, pgbenchDoc, set(member, "0.1\nMARK\n")))
				changed := strings.Replace(marked, "MARK", escape, 1)
				wantRefused(t, []byte(changed), pgperffarm.DefaultLimits(), member, reason)
			})
		}
	}
	t.Run("mounts", func(t *testing.T) {
		marked := string(body(t, pgbenchDoc, set("system.memory.mounts", []any{map[string]any{"device": "MARK"}})))
		wantRefused(t, []byte(strings.Replace(marked, "MARK", `\u0000`, 1)), pgperffarm.DefaultLimits(),
			"system.memory.mounts[0].device", "NUL")
	})
	t.Run("log", func(t *testing.T) {
		key := "pgbench-ro-20-120-8-0-"
		marked := string(body(t, pgbenchDoc, set("pgbench_log_aggregate", []any{map[string]any{key: "MARK"}})))
		wantRefused(t, []byte(strings.Replace(marked, "MARK", `\u0000`, 1)), pgperffarm.DefaultLimits(),
			"pgbench_log_aggregate[0]."+key, "NUL")
	})
}

func TestEscapesAndSurrogatePairsAreDecoded(t *testing.T) {
	marked := string(body(t, pgbenchDoc, set("pg_ctl", "MARK")))
	doc, err := pgperffarm.Parse([]byte(strings.Replace(marked, "MARK", `\ud83d\ude00\t\u00e9`, 1)), pgperffarm.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if doc.Logs.Postgres != "😀\té" {
		t.Errorf("text is %q", doc.Logs.Postgres)
	}
}

func TestOptionalLogsAreEmptyWhenAbsentOrNull(t *testing.T) {
	doc := accept(t, pgbenchDoc, set("git_clone_log", "a"), set("configure_log", nil), set("build_log", "b"),
		set("install_log", "c"), set("cleanup_log", "d"), set("pg_ctl", "e"), set("pgbench_log", "f"))
	want := pgperffarm.Logs{GitClone: "a", Build: "b", Install: "c", Cleanup: "d", Postgres: "e", Benchmark: "f"}
	if diff := cmp.Diff(want, doc.Logs); diff != "" {
		t.Errorf("logs differ (-want +got):\n%s", diff)
	}
}

func TestMoreResultsThanTheLimitAreRefusedNamingIt(t *testing.T) {
	results := func(n int) []byte {
		iterations := make([]any, n)
		for i := range iterations {
			iterations[i] = result(nil)
		}
		return body(t, pgbenchDoc, set("pgbench[0].iterations", iterations))
	}
	for _, limits := range []pgperffarm.Limits{
		pgperffarm.DefaultLimits(), {}, {MaxDepth: 1 << 30, MaxResults: 1 << 30, MaxRows: 1 << 30},
	} {
		if _, err := pgperffarm.Parse(results(1023), limits); err != nil {
			t.Errorf("refused: %v", err)
		}
		wantRefused(t, results(1024), limits, "pgbench[0].iterations[1023]", "the limit is 1023")
	}
	wantRefused(t, results(3), pgperffarm.Limits{MaxResults: 2}, "pgbench[0].iterations[2]", "the limit is 2")
}

func TestDocumentSharesNoMemoryWithTheBody(t *testing.T) {
	upload := body(t, darwinDoc)
	want := accept(t, darwinDoc)
	got, err := pgperffarm.Parse(upload, pgperffarm.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	for i := range upload {
		upload[i] = 'x'
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("document changed with the body (-want +got):\n%s", diff)
	}
}
