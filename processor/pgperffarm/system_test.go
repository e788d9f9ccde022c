package pgperffarm_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/processor/pgperffarm"
)

func TestMachineWhoseProcessorCannotBeReadKeepsItsUpload(t *testing.T) {
	cpu := "system.cpu.information"
	cases := map[string]struct {
		cpu   map[string]any
		brand string
		hz    int64
	}{
		"nothing but the count": {map[string]any{"count": 4}, "", 0},
		"null":                  {map[string]any{"count": 4, "brand_raw": nil, "hz_actual": nil}, "", 0},
		"empty array":           {map[string]any{"count": 4, "hz_actual": []any{}}, "", 0},
		"array of null":         {map[string]any{"count": 4, "hz_actual": []any{nil, 0}}, "", 0},
		"raw wins":              {map[string]any{"count": 4, "hz_actual": []any{1, 0}, "hz_actual_raw": []any{2, 0}}, "", 2},
		"raw unknown":           {map[string]any{"count": 4, "hz_actual": []any{1, 0}, "hz_actual_raw": []any{}}, "", 1},
		"brand wins":            {map[string]any{"count": 4, "brand": "a", "brand_raw": "b"}, "a", 0},
		"brand empty":           {map[string]any{"count": 4, "brand": "", "brand_raw": "b"}, "b", 0},
		"beyond 32 bits":        {map[string]any{"count": 4, "hz_actual": []any{5_000_000_000, 0}}, "", 5_000_000_000},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := accept(t, pgbenchDoc, set(cpu, c.cpu)).Hardware
			if got.CPUBrand != c.brand || got.Hz != c.hz {
				t.Errorf("brand %q, %d Hz, want %q, %d Hz", got.CPUBrand, got.Hz, c.brand, c.hz)
			}
		})
	}
}

func TestMacUploads(t *testing.T) {
	doc := accept(t, darwinDoc)
	if doc.Kernel.Name != "Darwin" || doc.Hardware.CPUBrand != "Example Mac CPU" || doc.Hardware.Hz != 0 || doc.OS.Codename != "" {
		t.Errorf("system is %+v %+v %+v", doc.Kernel, doc.Hardware, doc.OS)
	}
	if want := `{"kern.posix.sem.max":"10000","kern.sysv.shmmax":"4194304"}`; doc.Hardware.Sysctl != want {
		t.Errorf("sysctl is %s, want %s", doc.Hardware.Sysctl, want)
	}
	if want := "Apple clang version 12.0.5 (clang-1205.0.22.9)"; doc.Compiler != want {
		t.Errorf("compiler is %q, want %q", doc.Compiler, want)
	}
	var plugins []string
	for _, p := range doc.Results[0].Collectd {
		plugins = append(plugins, p.Name)
	}
	if diff := cmp.Diff([]string{"cpu", "contextswitch", "memory"}, plugins); diff != "" {
		t.Errorf("plugins differ (-want +got):\n%s", diff)
	}
}

func TestSysctlKeepsKnownParametersOfBothKernelsSortedByName(t *testing.T) {
	cases := map[string]struct{ log, want string }{
		"none known":   {`{"net.core.somaxconn": "128", "vm.swappiness_": "1"}`, `"known sysctl info not found"`},
		"empty":        {`{}`, `"known sysctl info not found"`},
		"sorted":       {`{"vm.swappiness": "10", "kernel.shmmax": "1", "a": {"b": [1, null]}}`, `{"kernel.shmmax":"1","vm.swappiness":"10"}`},
		"both kernels": {`{"vm.numa_stat": "1", "kern.sysv.semume": "2"}`, `{"kern.sysv.semume":"2","vm.numa_stat":"1"}`},
		"escapes":      {`{"vm.swappiness": "\"\u00e9\t"}`, `{"vm.swappiness":"\"é\t"}`},
		"escaped name": {`{"vm.swappi\u006eess": "1"}`, `{"vm.swappiness":"1"}`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := accept(t, pgbenchDoc, set("sysctl_log", c.log)).Hardware.Sysctl; got != c.want {
				t.Errorf("sysctl is %s, want %s", got, c.want)
			}
		})
	}
	t.Run("a value that is no string", func(t *testing.T) {
		wantRefused(t, body(t, pgbenchDoc, set("sysctl_log", `{"vm.swappiness": 10}`)), pgperffarm.DefaultLimits(),
			"sysctl_log.vm.swappiness", "must be a string, not a number")
	})
}

func TestCompilerIsCutOutOfTheVersion(t *testing.T) {
	cases := map[string]string{
		"PostgreSQL 15devel on x86_64, compiled by gcc (Debian 10.2.1-6) 10.2.1 20210110, 64-bit": "gcc (Debian 10.2.1-6) 10.2.1 20210110",
		"PostgreSQL, compiled by clang, version 12, 64-bit":                                       "clang, version 12",
		"PostgreSQL, compiled by clang":                                                           "impossible to parse compiler",
		"PostgreSQL 15devel":                                                                      "impossible to parse compiler",
		"":                                                                                        "impossible to parse compiler",
	}
	for version, want := range cases {
		if got := accept(t, pgbenchDoc, set("compiler", version)).Compiler; got != want {
			t.Errorf("compiler of %q is %q, want %q", version, got, want)
		}
	}
}

func TestMountsAreKeptInCanonicalForm(t *testing.T) {
	upload := strings.Replace(string(readFile(t, pgbenchDoc)), `"mounts": []`,
		`"mounts": [{"opts": "rw", "device": "\u002fdev\/sda", "size": 9007199254740993, "x": {"b": [1, 2], "a": null}}, {}]`, 1)
	doc, err := pgperffarm.Parse([]byte(upload), pgperffarm.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"device":"/dev/sda","opts":"rw","size":9007199254740993,"x":{"a":null,"b":[1,2]}},{}]`
	if doc.Hardware.Mounts != want {
		t.Errorf("mounts are %s, want %s", doc.Hardware.Mounts, want)
	}
}

func TestMountsWithANumberBeyondAllRangeAreRefused(t *testing.T) {
	upload := strings.Replace(string(readFile(t, pgbenchDoc)), `"mounts": []`, `"mounts": [{"x": [1e999]}]`, 1)
	wantRefused(t, []byte(upload), pgperffarm.DefaultLimits(), "system.memory.mounts[0].x[0]", "must be a finite number")
}

func TestSettingsKeepWhatSomebodyHasSet(t *testing.T) {
	csv := "name,setting,source\r\nport,5432,default\r\nwork_mem,4096,configuration file\r\n" +
		"search_path,\"\"\"$user\"\", public\",database\r\nTimeZone,UTC,client\r\nlog_line_prefix,\"a\r\nb\",command line\r\n"
	want := []pgperffarm.Setting{
		{Name: "work_mem", Value: "4096", Source: "configuration file"},
		{Name: "search_path", Value: `"$user", public`, Source: "database"},
		{Name: "log_line_prefix", Value: "a\nb", Source: "command line"},
	}
	if diff := cmp.Diff(want, accept(t, pgbenchDoc, set("postgres_settings", csv)).Settings); diff != "" {
		t.Errorf("settings differ (-want +got):\n%s", diff)
	}
	reordered := "source,name,unit,setting\nfile,work_mem,kB,4096\n"
	want = []pgperffarm.Setting{{Name: "work_mem", Value: "4096", Source: "file"}}
	if diff := cmp.Diff(want, accept(t, pgbenchDoc, set("postgres_settings", reordered)).Settings); diff != "" {
		t.Errorf("settings in other columns differ (-want +got):\n%s", diff)
	}
	if got := accept(t, pgbenchDoc, set("postgres_settings", "name,setting,source\r\n")).Settings; len(got) != 0 {
		t.Errorf("settings without rows are %v", got)
	}
}

func TestSettingsThatAreNoSuchCSVAreRefused(t *testing.T) {
	cases := map[string]struct{ csv, reason string }{
		"empty":          {"", "CSV header name,setting,source"},
		"no header":      {"work_mem,4096,file\r\n", "CSV header name,setting,source"},
		"missing column": {"name,setting\r\nwork_mem,4096\r\n", "CSV header name,setting,source"},
		"short row":      {"name,setting,source\r\nwork_mem,4096\r\n", "line 2"},
		"open quote":     {"name,setting,source\r\nwork_mem,\"4096,file\r\n", "is not the CSV of the settings"},
		"repeated":       {"name,setting,source\na,1,file\na,2,file\n", `names the setting "a" twice`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			wantRefused(t, body(t, pgbenchDoc, set("postgres_settings", c.csv)), pgperffarm.DefaultLimits(),
				"postgres_settings", c.reason)
		})
	}
}

func TestOnlyPostgreSQLsOwnRepositoriesAreOfficial(t *testing.T) {
	cases := map[string]bool{
		"https://github.com/postgres/postgres.git":        true,
		"https://github.com/postgres/postgres":            true,
		"http://git.postgresql.org/git/postgresql.git":    true,
		"git://git.postgresql.org/git/postgresql.git":     true,
		"https://git.postgresql.org/git/postgresql.git":   false,
		"https://github.com/postgres/postgres/":           false,
		"https://github.com/Postgres/postgres":            false,
		"https://github.com/postgres/postgres.git.evil.x": false,
		"": false,
	}
	for url, want := range cases {
		if got := pgperffarm.OfficialRepository(url); got != want {
			t.Errorf("%q: official is %v, want %v", url, got, want)
		}
	}
}

func TestBranchNamesThatGitOrAPageWouldNotTakeAreRefused(t *testing.T) {
	bad := []string{
		"", "a b", "a..b", ".a", "a/.b", "/a", "a/", "a//b", "a.lock", "a.lock/b", "a.", "@", "a@{1}", "-a", "a~1", "a^", "a:b",
		"a?", "a*", "a[b", `a\b`, "a\tb", "a\nb", "a\x7fb", "a\u0085b", "a\u00a0b", "a\u202eb", "a\u200bb",
		"<script>", "a>b", "a&b", `a"b`, "a'b", "a`b",
	}
	for _, name := range bad {
		t.Run(name, func(t *testing.T) {
			reason := "not allowed"
			switch {
			case name == "":
				reason = "is empty"
			case strings.ContainsAny(name, "./@-"):
				reason = ""
			}
			wantRefused(t, body(t, pgbenchDoc, set("git.branch", name)), pgperffarm.DefaultLimits(), "git.branch", reason)
		})
	}
	for _, name := range []string{"master", "REL_13_STABLE", "feature/x-1", "a@b", "v1.2", "bücher", "a,b(c)=$d%e;f!g#h{i}+j|k]"} {
		if got := accept(t, pgbenchDoc, set("git.branch", name)).Branch; got != name {
			t.Errorf("branch %q became %q", name, got)
		}
	}
}

func TestCommitsAndRepositoriesAreKeptPlain(t *testing.T) {
	for _, commit := range []string{"", "a b", "a/b", `a\b`, "<b>", "a\nb", "a'b"} {
		wantRefused(t, body(t, pgbenchDoc, set("git.commit", commit)), pgperffarm.DefaultLimits(), "git.commit", "")
	}
	for _, commit := range []string{"5d0e6b1", "a_b%c", "v1.2-rc"} {
		accept(t, pgbenchDoc, set("git.commit", commit))
	}
	for _, url := range []string{"", "https://x/<b>", "https://x/a b", "https://x/\"", "https://x/\n"} {
		wantRefused(t, body(t, pgbenchDoc, set("git.remote", url)), pgperffarm.DefaultLimits(), "git.remote", "")
	}
	for _, url := range []string{"git@example.org:pg.git", "/srv/git/pg", "https://x/y?a=b&c=d"} {
		accept(t, pgbenchDoc, set("git.remote", url))
	}
}

func TestRemotesAreAddressesOfGitWithoutSecrets(t *testing.T) {
	for _, address := range append(pgperffarm.OfficialRepositories(),
		"http://example.org/pg.git", "HTTPS://example.org:8443/pg.git", "https://x/y?a=b&c=d", "https://[2001:db8::1]/pg", "git://example.org/pg",
		"ssh://example.org/pg", "ssh://git@example.org:22/pg", "ssh+git://git@example.org/pg", "git+ssh://example.org/pg",
		"git@example.org:pg.git", "git@[2001:db8::1]:pg.git", "/srv/git/pg",
	) {
		if err := pgperffarm.CheckRemote(address); err != nil {
			t.Errorf("%s is refused: %v", address, err)
		}
	}
	for _, address := range []string{
		"", "pg", "javascript:alert(1)", "javascript://x/%0aalert(1)", "JavaScript:a@b:c", "data:text/html,x", "file:///srv/git/pg",
		"vbscript:x", "rsync://example.org/pg", "ftp://example.org/pg", "ext::sh", "example.org:pg.git", "//evil.example/pg", `/\evil.example/pg`,
		"https:", "https:///pg", "https:x@y:z", "https://:80/pg", "../pg", "git@example.org", "git:s3cret@example.org:pg",
		"https://jane:s3cret@example.org/pg", "https://s3cret@example.org/pg", "git://s3cret@example.org/pg", "ssh://git:s3cret@example.org/pg",
		"https://jane:s3cret@example.org/%zz", "https://:s3cret@example.org/pg",
	} {
		err := pgperffarm.CheckRemote(address)
		var document *pgperffarm.DocumentError
		if !errors.As(err, &document) || document.Member != "git.remote" || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s gives %v, want a refusal of git.remote that repeats no secret", address, err)
		}
	}
}
