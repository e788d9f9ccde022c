package e2e

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// farmDocument is an upload that a test is still writing: one JSON object, whose members are named by dotted paths.
type farmDocument map[string]any

// firstStart is when the first run of a machine starts.
var firstStart = time.Date(2021, 7, 2, 11, 0, 0, 0, time.UTC)

// minute is the start of the nth run of a machine.
func minute(n int) time.Time { return firstStart.Add(time.Duration(n) * time.Minute) }

// Where commits come from.
const (
	officialRepository = "https://github.com/postgres/postgres.git"
	otherRepository    = "https://example.org/fork.git"
)

// commitHash is the nth commit of the tests.
func commitHash(n int) string { return fmt.Sprintf("%040x", 0xabc000+n) }

// pgbenchConfig is a configuration of pgbench.
type pgbenchConfig struct {
	clients, scale, duration int
	readOnly                 bool
}

var usualConfig = pgbenchConfig{clients: 8, scale: 20, duration: 120, readOnly: true}

// sample is what one invocation of pgbench measured.
type sample struct{ tps, latency float64 }

// system makes the members that all benchmarks share (contract 6.1).
func system(start time.Time, benchmark string) farmDocument {
	instant := func(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05-0700") }
	return farmDocument{
		"meta": map[string]any{"benchmark": benchmark, "name": "basic"},
		"git":  map[string]any{"remote": officialRepository, "branch": "master", "commit": commitHash(1)},
		"kernel": map[string]any{
			"uname_s": "Linux", "uname_r": "5.12.9", "uname_v": "#1 SMP", "uname_m": "aarch64",
		},
		"os_information": map[string]any{
			"distributor": "Fedora", "description": "Fedora release 34", "release": "34", "codename": "ThirtyFour",
		},
		"system": map[string]any{
			"cpu": map[string]any{"information": map[string]any{
				"brand_raw": "Example CPU", "hz_actual": []any{3000000000, 0}, "count": 16,
			}},
			"memory": map[string]any{
				"virtual": map[string]any{"total": int64(34359738368)}, "swap": map[string]any{"total": 0},
				"mounts": []any{map[string]any{"device": "/dev/nvme0n1p2", "mountpoint": "/", "fstype": "xfs", "opts": "rw"}},
			},
		},
		"sysctl_log":        `{"vm.swappiness": "10", "net.core.somaxconn": "128"}`,
		"compiler":          "PostgreSQL 15devel on aarch64-unknown-linux-gnu, compiled by clang 12.0.0, 64-bit",
		"postgres_settings": "name,setting,source\r\nwork_mem,65536,configuration file\r\nport,5432,default\r\n",
		"pg_ctl":            "",
		"run_received_time": instant(start.Add(-2 * time.Minute)), "run_start_time": instant(start), "run_end_time": instant(start.Add(5 * time.Minute)),
		"git_clone_runtime": nil, "git_pull_runtime": "0:00:02.250000", "configure_runtime": nil,
		"build_runtime": nil, "install_runtime": nil, "cleanup_runtime": "0:00:00.125000",
	}
}

// pgbenchDocument reports invocations of one configuration; addTest adds more.
func pgbenchDocument(start time.Time, config pgbenchConfig, samples ...sample) farmDocument {
	d := system(start, "pgbench")
	d["pgbench_log"], d["pgbench_log_aggregate"], d["pgbench"] = "", []any{}, []any{}
	d.addTest("pgbench", config, samples...)
	return d
}

// smallDocument is an upload with one result.
func smallDocument(n int) farmDocument {
	return pgbenchDocument(minute(n), usualConfig, sample{801.5, 9.9})
}

// addTest adds a test of pgbench, or of pgbench_custom, with the logs of its invocations.
func (d farmDocument) addTest(member string, config pgbenchConfig, samples ...sample) {
	iterations := make([]any, 0, len(samples))
	for i, s := range samples {
		start := float64(firstStart.Unix()) + 0.5
		iterations = append(iterations, map[string]any{
			"mode": "simple", "clients": strconv.Itoa(config.clients), "threads": strconv.Itoa(config.clients),
			"tps": number(s.tps), "latency": number(s.latency), "statement_latencies": "\n         0.003  SELECT 1;\n",
			"init": 4.25, "start": start, "end": start + float64(config.duration), "iteration": i,
			"pg_stat_statements": []any{}, "collectd": map[string]any{},
		})
		d.addLog(config, i, "", fmt.Sprintf("%d 799 7910100 78309990000 610 15020\n", firstStart.Unix()))
	}
	tests, _ := d[member].([]any)
	d[member] = append(tests, map[string]any{
		"clients": []any{config.clients}, "scale": config.scale, "duration": config.duration, "read_only": config.readOnly,
		"iterations": iterations,
	})
}

// addLog adds a per-second log of one pgbench thread.
func (d farmDocument) addLog(config pgbenchConfig, iteration int, rest, lines string) {
	kind := map[bool]string{true: "ro", false: "rw"}[config.readOnly]
	key := fmt.Sprintf("pgbench-%s-%d-%d-%d-%d-%s", kind, config.scale, config.duration, config.clients, iteration, rest)
	logs, _ := d["pgbench_log_aggregate"].([]any)
	d["pgbench_log_aggregate"] = append(logs, map[string]any{key: lines})
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// customDocument reports a custom script of pgbench (contract 6.4).
func customDocument(start time.Time, samples ...sample) farmDocument {
	d := pgbenchDocument(start, usualConfig)
	delete(d, "pgbench")
	d.addTest("pgbench_custom", usualConfig, samples...)
	test := d["pgbench_custom"].([]any)[0].(map[string]any)
	test["init_sql"] = "CREATE TABLE t (i int);"
	test["custom_queries"] = []any{map[string]any{"query": "SELECT count(*) FROM t;", "weight": "1"}}
	return d
}

// tpchDocument reports a TPC-H run (contract 6.3) with three of its queries.
func tpchDocument(start time.Time, scaleFactor string, streams int, scores [3]float64) farmDocument {
	d := system(start, "tpch")
	d["scale_factor"], d["num_streams"], d["date_submitted"], d["pgbench"] = scaleFactor, strconv.Itoa(streams), "2022-08-20", []any{}
	d["power_size"], d["throughput_size"], d["qphh_size"] = scores[0], number(scores[1]), scores[2]
	d["power"] = map[string]any{"10": 3.25, "2": 1.5, "1": 12.5}
	d["throughput"] = map[string]any{"1": 18.75, "2": 2, "10": 4.5}
	return d
}

// set changes a member: "git.branch", or "pgbench.0.iterations.1.tps".
func (d farmDocument) set(path string, value any) farmDocument {
	holder, last := d.holder(path)
	switch h := holder.(type) {
	case map[string]any:
		h[last] = value
	case []any:
		h[index(last)] = value
	}
	return d
}

// drop takes a member out.
func (d farmDocument) drop(path string) farmDocument {
	holder, last := d.holder(path)
	delete(holder.(map[string]any), last)
	return d
}

func (d farmDocument) holder(path string) (holder any, last string) {
	names := strings.Split(path, ".")
	holder = map[string]any(d)
	for _, name := range names[:len(names)-1] {
		switch h := holder.(type) {
		case map[string]any:
			holder = h[name]
		case []any:
			holder = h[index(name)]
		default:
			panic("a document has no " + path)
		}
	}
	return holder, names[len(names)-1]
}

func index(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return n
}

// object is the document's one object as JSON.
func (d farmDocument) object() []byte {
	encoded, err := json.Marshal(d)
	if err != nil {
		panic(err)
	}
	return encoded
}

// body is the document as it is sent.
func (d farmDocument) body() []byte { return append(append([]byte{'['}, d.object()...), ']') }
