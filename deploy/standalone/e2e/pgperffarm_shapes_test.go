package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// wantEmptyLists is about a farm without anything, which the shared one is not.
func wantEmptyLists(t *testing.T, lab *Lab) {
	visitor := lab.visitor(t)
	visitor.get(t, "/benchmark/overview").is(t, http.StatusOK, "[{}]")
	for _, path := range []string{
		"/benchmark/machines", "/benchmark/history/1", "/benchmark/postgres/1", "/benchmark/pgbench_trends/1/1",
		"/benchmark/pgbench_results_commit/" + commitHash(1) + "/1/1", "/machine/list", "/tpch/machines", "/tpch/trend/1/10",
		"/tpch/trends/1/10", "/tpch/runs_commit/1/10/" + commitHash(1),
	} {
		a := visitor.get(t, path)
		a.is(t, http.StatusOK, "[]")
		if kind := a.Header.Get("Content-Type"); kind != "application/json" {
			t.Errorf("%s: Content-Type is %q, want application/json", path, kind)
		}
	}
	lab.browser(t, "newcomer").get(t, "/machine/user").is(t, http.StatusOK, "[]")
	for _, path := range []string{"/run/1", "/benchmark/pgbench_results_complete/1025", "/tpch/details/1"} {
		visitor.get(t, path).refuses(t, http.StatusNotFound, "there is no")
	}
}

// TestBodiesAreThoseOfTheContract plays one history on a farm of its own, whose ids therefore are always the same, and
// compares each endpoint's whole body: keys and their order, order of rows, numbers, texts. The answers must stay the same,
// byte for byte, through a restart and through a rebuild of all projections.
func TestBodiesAreThoseOfTheContract(t *testing.T) {
	covers(t, "GET /benchmark/overview", "GET /benchmark/machines", "GET /benchmark/history/:machine_id", "GET /benchmark/postgres/:machine_id",
		"GET /benchmark/pgbench_trends/:machine_id/:benchmark_config_id",
		"GET /benchmark/pgbench_results_commit/:git_commit/:machine_id/:benchmark_config_id",
		"GET /benchmark/pgbench_results_complete/:pgbench_result_id", "GET /machine/list", "GET /machine/user", "GET /run/:run_id",
		"GET /tpch/machines", "GET /tpch/details/:run_id", "GET /tpch/trend/:machine_id/:scale_factor",
		"GET /tpch/trends/:machine_id/:scale_factor", "GET /tpch/runs_commit/:machine_id/:scale_factor/:commit")
	begun := time.Now()
	lab := start(t, "standalone")
	t.Run("before the first write", func(t *testing.T) { wantEmptyLists(t, lab) })
	h := play(t, lab)
	first := h.bodies(t)
	names := newTimeNames(begun, first)
	for _, page := range h.pages() {
		t.Run(page.golden, func(t *testing.T) { compareGolden(t, "pgperffarm/"+page.golden, names.in(first[page.path])) })
	}
	t.Run("after a restart", func(t *testing.T) {
		lab.Restart(t)
		wantSameBodies(t, first, h.bodies(t))
	})
	t.Run("after a rebuild", func(t *testing.T) {
		lab.Admin(t, nil, "replay")
		wantSameBodies(t, first, h.bodies(t))
	})
}

// history is what was played on a farm of its own.
type history struct {
	lab                 *Lab
	jane                *caller
	otter, newt         machine
	full, custom, tpch1 uint64 // runs
}

// page is an endpoint that a golden file is about.
type page struct {
	golden, path string
	by           *caller
}

func (h *history) pages() []page {
	anyone := func(golden, format string, args ...any) page {
		return page{golden: golden, path: fmt.Sprintf(format, args...)}
	}
	otter := h.otter.ID
	return []page{
		anyone("benchmark_overview", "/benchmark/overview"),
		anyone("benchmark_machines", "/benchmark/machines"),
		anyone("benchmark_history", "/benchmark/history/%d", otter),
		anyone("benchmark_history_darwin", "/benchmark/history/%d", h.newt.ID),
		{golden: "benchmark_history_for_the_owner", path: fmt.Sprintf("/benchmark/history/%d/", otter), by: h.jane},
		anyone("benchmark_postgres", "/benchmark/postgres/%d", otter),
		anyone("benchmark_pgbench_trends", "/benchmark/pgbench_trends/%d/1", otter),
		{golden: "benchmark_pgbench_trends_for_the_owner", path: fmt.Sprintf("/benchmark/pgbench_trends/%d/1/", otter), by: h.jane},
		anyone("benchmark_pgbench_results_commit", "/benchmark/pgbench_results_commit/%s/%d/1", commitHash(1), otter),
		anyone("benchmark_pgbench_results_complete", "/benchmark/pgbench_results_complete/%d", h.full<<10+1),
		anyone("benchmark_pgbench_results_complete_custom", "/benchmark/pgbench_results_complete/%d", h.custom<<10+1),
		anyone("machine_list", "/machine/list"),
		{golden: "machine_user", path: "/machine/user", by: h.jane},
		anyone("run", "/run/%d", h.full),
		anyone("run_custom", "/run/%d", h.custom),
		anyone("run_tpch", "/run/%d", h.tpch1),
		anyone("tpch_machines", "/tpch/machines"),
		anyone("tpch_details", "/tpch/details/%d", h.tpch1),
		anyone("tpch_trend", "/tpch/trend/%d/10", otter),
		anyone("tpch_trends", "/tpch/trends/%d/10.00", otter),
		anyone("tpch_runs_commit", "/tpch/runs_commit/%d/10/%s", otter, commitHash(1)),
	}
}

func (h *history) bodies(t *testing.T) map[string]string {
	t.Helper()
	bodies := map[string]string{}
	for _, page := range h.pages() {
		by := page.by
		if by == nil {
			by = h.lab.visitor(t)
		}
		a := by.get(t, page.path)
		bodies[page.path] = string(a.Want(t, http.StatusOK).Body)
	}
	return bodies
}

func wantSameBodies(t *testing.T, before, after map[string]string) {
	t.Helper()
	for path, body := range before {
		if after[path] != body {
			t.Errorf("%s was %s\nand is now %s", path, body, after[path])
		}
	}
}

// play writes the history. Between two writes the clock moves on by a millisecond at least, so that times tell them apart.
func play(t *testing.T, lab *Lab) *history {
	t.Helper()
	h := &history{lab: lab}
	awaitNextMillisecond()
	boss := lab.browser(t, staff)
	h.jane = lab.browser(t, "jdoe")
	h.otter = h.register(t, "otter", "lab box")
	boss.post(t, "/machine/approve", `{"alias": "otter"}`).is(t, http.StatusCreated, "Machine approved successfully!")
	h.register(t, "beaver", "") // waits for its approval
	lab.operate(t, "/pgperffarm/users", map[string]any{"name": "ada", "email": "ada@example.org"})
	made := lab.operate(t, "/pgperffarm/machines", map[string]any{"alias": "newt", "owner": "ada", "approved": true})
	h.newt = machine{lab: lab}
	made.JSON(t, &h.newt.Machine)
	h.playRuns(t)
	return h
}

// register adds a machine as its owner does.
func (h *history) register(t *testing.T, alias, description string) machine {
	t.Helper()
	awaitNextMillisecond()
	body := fmt.Sprintf(`{"alias": %q, "description": %q}`, alias, description)
	h.jane.post(t, "/machine/add", body).is(t, http.StatusCreated, "Machine added successfully!")
	for _, row := range h.jane.get(t, "/machine/user").rows(t) {
		if row["alias"] == alias {
			return machine{lab: h.lab, Machine: Machine{ID: uint64(row["machine_id"].(float64)), Alias: alias, Secret: row["machine_secret"].(string)}}
		}
	}
	t.Fatalf("machine %s was added and is not in /machine/user", alias)
	return machine{}
}

func (h *history) playRuns(t *testing.T) {
	t.Helper()
	write := pgbenchConfig{clients: 16, scale: 20, duration: 120}
	h.full = h.store(t, h.otter, fullDocument())
	h.store(t, h.otter, pgbenchDocument(minute(1), usualConfig, sample{790, 10.125}).
		set("postgres_settings", "name,setting,source\r\nwork_mem,4096,command line\r\nport,5433,configuration file\r\n"))
	h.otter.upload(t, smallDocument(1).body()).says(t, http.StatusNotAcceptable, "stored before") // uses an id up
	h.store(t, h.otter, smallDocument(2).set("git.branch", "REL_13_STABLE"))
	h.store(t, h.otter, smallDocument(3).set("git.remote", otherRepository).set("git.branch", "mine"))
	h.store(t, h.otter, pgbenchDocument(minute(4), usualConfig, sample{700.25, 12}).set("git.commit", commitHash(2)))
	h.store(t, h.otter, pgbenchDocument(minute(5), write, sample{301, 50.5}).set("git.commit", commitHash(2)))
	h.tpch1 = h.store(t, h.otter, tpchDocument(minute(6), "10", 3, [3]float64{2500.5, 1600, 2000.2}))
	h.store(t, h.otter, tpchDocument(minute(7), "10.0", 3, [3]float64{2600, 1500.5, 1975.125}))
	h.store(t, h.otter, tpchDocument(minute(8), "10", 5, [3]float64{2400, 1900, 2135.25}).set("git.commit", commitHash(2)))
	h.store(t, h.otter, tpchDocument(minute(9), "0.5", 1, [3]float64{100, 200, 141.5}))
	h.custom = h.store(t, h.otter, customDocument(minute(10), sample{12.5, 640}))
	h.store(t, h.newt, darwinDocument(minute(0)))
}

func (h *history) store(t *testing.T, m machine, d farmDocument) uint64 {
	t.Helper()
	awaitNextMillisecond()
	return m.store(t, d)
}

func awaitNextMillisecond() {
	for now := time.Now().UnixMilli(); time.Now().UnixMilli() <= now; {
		runtime.Gosched()
	}
}

// fullDocument shows every kind of measurement.
func fullDocument() farmDocument {
	d := pgbenchDocument(minute(0), usualConfig, sample{801.5, 9.9}, sample{812.25, 9.8})
	d.addTest("pgbench", pgbenchConfig{clients: 16, scale: 20, duration: 120}, sample{310.125, 48})
	d.addLog(usualConfig, 0, ".4711", fmt.Sprintf("%d 5 50000 500000000 9000 11000 1 2 3\n", firstStart.Unix()+1))
	first := "pgbench.0.iterations.0."
	d.set(first+"statement_latencies", "\n         0.003  \\set aid random(1, 100000 * :scale)\n\n         9.871  SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n")
	d.set(first+"pg_stat_statements", []any{
		map[string]any{
			"userid": 10, "dbid": 16384, "queryid": json.Number("-9223372036854775807"), "query": "SELECT $1", "calls": 4294967296, "rows": 3,
			"total_exec_time": 0.5, "mean_exec_time": 1e-7, "wal_bytes": json.Number("9007199254740993"), "toplevel": true,
		},
		map[string]any{"query": "BEGIN", "queryid": nil},
	})
	d.set(first+"collectd", collectd())
	return d
}

// collectd is what each plugin measured, at two times.
func collectd() map[string]any {
	metrics := map[string][]string{
		"aggregation-cpu-average": {
			"percent-user", "percent-system", "percent-idle", "percent-wait", "percent-nice", "percent-interrupt", "percent-softirq", "percent-steal",
		},
		"processes": {
			"fork_rate", "ps_state-running", "ps_state-stopped", "ps_state-sleeping", "ps_state-paging", "ps_state-blocked", "ps_state-zombies",
		},
		"contextswitch": {"contextswitch"},
		"ipc-shm":       {"segments", "bytes-total", "bytes-rss", "bytes-swapped"},
		"ipc-msg":       {"count-space", "count-queues", "count-headers"},
		"ipc-sem":       {"count-total", "count-arrays"},
		"memory": {
			"memory-free", "memory-used", "memory-cached", "memory-buffered", "memory-slab_recl", "memory-slab_unrecl",
		},
		"swap":  {"swap-free", "swap-used", "swap-cached", "swap_io-in", "swap_io-out"},
		"vmem":  vmemMetrics(),
		"other": {"ignored"},
	}
	plugins := map[string]any{}
	for plugin, names := range metrics {
		files := map[string]any{}
		for i, name := range names {
			files[name+"-2021-07-02"] = []any{
				map[string]any{"epoch": "1625223600.5", "value": fmt.Sprintf("%d.75", 100+i)},
				map[string]any{"epoch": "1625223610.5", "value": strconv.Itoa(200 + i)},
			}
		}
		plugins[plugin] = files
	}
	return map[string]any{"otter": plugins}
}

// vmemMetrics are the counters of appendix B.
func vmemMetrics() []string {
	numbers := strings.Fields(`active_file inactive_file isolated_file active_anon inactive_anon isolated_anon file_pages
		file_hugepages file_pmdmapped kernel_stack kernel_misc_reclaimable slab_reclaimable slab_unreclaimable
		zone_write_pending zone_unevictable zone_active_anon zone_inactive_anon zone_active_file zone_inactive_file
		foll_pin_acquired foll_pin_released dirty dirty_threshold dirty_background_threshold vmscan_write
		vmscan_immediate_reclaim anon_pages anon_transparent_hugepages shmem shmem_hugepages shmem_pmdmapped writeback
		writeback_temp free_pages free_cma bounce unevictable page_table_pages mapped zspages mlock unstable`)
	metrics := []string{"vmpage_action-written", "vmpage_action-dirtied"}
	for _, name := range numbers {
		metrics = append(metrics, "vmpage_number-"+name)
	}
	return metrics
}

// darwinDocument is what a Mac sends: no frequency, no collectd plugins that only Linux has.
func darwinDocument(start time.Time) farmDocument {
	d := pgbenchDocument(start, usualConfig, sample{1500, 5})
	d.set("kernel", map[string]any{"uname_s": "Darwin", "uname_r": "20.6.0", "uname_v": "Darwin Kernel Version 20.6.0", "uname_m": "x86_64"})
	d.set("os_information", map[string]any{"distributor": "Apple", "description": "macOS 11.5", "release": "11.5", "codename": "Big Sur"})
	d.set("system.cpu.information", map[string]any{"brand": "Apple CPU", "count": 8})
	d.set("sysctl_log", `{"hw.ncpu": "8"}`)
	d.set("compiler", "PostgreSQL 14")
	d.set("pgbench.0.iterations.0.collectd", map[string]any{"mac": map[string]any{
		"contextswitch": map[string]any{"contextswitch-2021-07-02": []any{map[string]any{"epoch": "1625223600", "value": "4294967296"}}},
	}})
	return d
}

// timeNames gives the times that the farm's own clock made names by their order.
type timeNames struct{ names map[string]string }

var timestampForm = regexp.MustCompile(`"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{3})?Z"`)

func newTimeNames(started time.Time, bodies map[string]string) timeNames {
	seen := map[string]time.Time{}
	for _, body := range bodies {
		for _, text := range timestampForm.FindAllString(body, -1) {
			at, err := time.Parse(`"2006-01-02T15:04:05Z"`, text)
			if err == nil && at.After(started.Add(-time.Minute)) {
				seen[text] = at
			}
		}
	}
	order := make([]string, 0, len(seen))
	for text := range seen {
		order = append(order, text)
	}
	slices.SortFunc(order, func(a, b string) int { return seen[a].Compare(seen[b]) })
	n := timeNames{names: map[string]string{}}
	for i, text := range order {
		n.names[text] = fmt.Sprintf(`"time %02d"`, i+1)
	}
	return n
}

var secretForm = regexp.MustCompile(`"machine_secret":"[0-9a-f]{32}"`)

// in names the times in a body, and hides its secrets.
func (n timeNames) in(body string) string {
	body = timestampForm.ReplaceAllStringFunc(body, func(text string) string {
		if name, known := n.names[text]; known {
			return name
		}
		return text
	})
	return secretForm.ReplaceAllString(body, `"machine_secret":"32 hexadecimal digits"`)
}

// compareGolden compares a body with its golden file, which is laid out for people.
func compareGolden(t *testing.T, name, body string) {
	t.Helper()
	var laidOut bytes.Buffer
	if err := json.Indent(&laidOut, []byte(body), "", "  "); err != nil {
		t.Fatalf("the body is no JSON: %v: %s", err, body)
	}
	laidOut.WriteByte('\n')
	path := filepath.Join("testdata", name+".golden.json")
	if *updateGolden {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, laidOut.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(golden, laidOut.Bytes()) {
		t.Errorf("the body is not that of %s:\n%s", path, firstDifference(golden, laidOut.Bytes()))
	}
}

// firstDifference shows the first line in which two texts differ.
func firstDifference(want, got []byte) string {
	wanted, gotten := strings.Split(string(want), "\n"), strings.Split(string(got), "\n")
	for i := range wanted {
		if i >= len(gotten) || wanted[i] != gotten[i] {
			return fmt.Sprintf("line %d: want %s\n         got  %s", i+1, wanted[i], append(gotten, "the end")[min(i, len(gotten))])
		}
	}
	return fmt.Sprintf("line %d: want the end\n         got  %s", len(wanted)+1, gotten[len(wanted)])
}
