package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// played is a run of the model: what was sent, and what the farm made of it.
type played struct {
	id       uint64
	addTime  string // as /run/ID shows it
	remote   string
	branch   string
	commit   string
	kernel   string // release
	compiler string
	settings string // value of work_mem
	dist     string
	results  []playedResult
	tpch     *playedTPCH
}

type playedResult struct {
	id     uint64
	config pgbenchConfig
	custom bool
	sample
}

type playedTPCH struct {
	scale   float64
	streams int
	scores  [3]float64
}

func (p *played) official() bool { return p.remote == officialRepository }

// model is what a machine's history should look like. It computes everything again, in the plainest way, from what the
// test has sent, the ids and the times that the farm gave.
type model struct {
	machine machine
	runs    []played
	configs map[pgbenchConfig]uint64 // ids, as /run/ID shows them
}

// playModel sends a random history of several repositories, branches, commits, settings, kernels and configurations.
func playModel(t *testing.T, lab *Lab, seed uint64, runs int) *model {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 7))
	pick := func(choices ...string) string { return choices[random.IntN(len(choices))] }
	m := &model{machine: lab.newMachine(t), configs: map[pgbenchConfig]uint64{}}
	configs := []pgbenchConfig{usualConfig, {16, 20, 120, true}, {8, 20, 120, false}}
	for n := range runs {
		p := played{
			remote: pick(officialRepository, officialRepository, officialRepository, otherRepository),
			branch: pick("master", "master", "REL_13_STABLE"), commit: commitHash(random.IntN(3)),
			kernel: pick("5.12.9", "5.12.9", "6.1.0"), compiler: pick("clang 12.0.0", "gcc 11"), settings: pick("4096", "65536", "1"),
			dist: pick("Fedora", "Debian"),
		}
		d := m.document(&p, n, random, configs)
		p.id = m.machine.store(t, d)
		m.runs = append(m.runs, p)
	}
	for i := range m.runs {
		m.learn(t, lab, &m.runs[i])
	}
	return m
}

// document makes an upload of what the model has drawn, and notes the results that it holds.
func (m *model) document(p *played, n int, random *rand.Rand, configs []pgbenchConfig) farmDocument {
	var d farmDocument
	switch kind := random.IntN(10); {
	case kind < 2:
		scores := [3]float64{random.Float64() * 5000, random.Float64() * 5000, random.Float64() * 5000}
		scale := []float64{1, 10}[random.IntN(2)]
		p.tpch = &playedTPCH{scale: scale, streams: 2 + random.IntN(2), scores: scores}
		d = tpchDocument(minute(n), number(scale), p.tpch.streams, scores)
	default:
		config := configs[random.IntN(len(configs))]
		samples := make([]sample, 1+random.IntN(3))
		for i := range samples {
			samples[i] = sample{500 + 1000*random.Float64(), 20 * random.Float64()}
			p.results = append(p.results, playedResult{config: config, custom: kind == 2, sample: samples[i]})
		}
		if kind == 2 {
			config = usualConfig
			for i := range p.results {
				p.results[i].config = config
			}
			d = customDocument(minute(n), samples...)
		} else {
			d = pgbenchDocument(minute(n), config, samples...)
		}
	}
	return d.set("git.remote", p.remote).set("git.branch", p.branch).set("git.commit", p.commit).set("kernel.uname_r", p.kernel).
		set("compiler", "PostgreSQL 15devel, compiled by "+p.compiler+", 64-bit").set("os_information.distributor", p.dist).
		set("postgres_settings", "name,setting,source\r\nwork_mem,"+p.settings+",configuration file\r\n")
}

// learn reads what only the farm can know: ids and the time.
func (m *model) learn(t *testing.T, lab *Lab, p *played) {
	t.Helper()
	row := lab.runRow(t, p.id)
	p.addTime = row["add_time"].(string)
	results := list(row, "pgbench_result")
	if len(results) != len(p.results) {
		t.Fatalf("run %d has %d results, %d were sent", p.id, len(results), len(p.results))
	}
	for i := range results {
		result := results[i].(map[string]any)
		p.results[i].id = uint64(result["pgbench_result_id"].(float64))
		m.configs[p.results[i].config] = uint64(result["benchmark_config_id"].(float64))
		if result["tps"] != p.results[i].tps || result["latency"] != p.results[i].latency {
			t.Errorf("result %d has %v transactions a second and a latency of %v, sent were %v", i, result["tps"], result["latency"], p.results[i].sample)
		}
	}
}

// statistics are mean, sample standard deviation (nil for one value), least and greatest.
func statistics(values []float64) (mean float64, deviation any, least, greatest float64) {
	for _, v := range values {
		mean += v / float64(len(values))
	}
	if len(values) > 1 {
		squares := 0.0
		for _, v := range values {
			squares += (v - mean) * (v - mean)
		}
		deviation = math.Sqrt(squares / float64(len(values)-1))
	}
	return mean, deviation, slices.Min(values), slices.Max(values)
}

// group gathers runs by a key, in the order of their ids.
func group[K comparable](runs []played, key func(*played) (K, bool)) (keys []K, groups map[K][]played) {
	groups = map[K][]played{}
	for i := range runs {
		k, in := key(&runs[i])
		if !in {
			continue
		}
		if groups[k] == nil {
			keys = append(keys, k)
		}
		groups[k] = append(groups[k], runs[i])
	}
	return keys, groups
}

func (m *model) trend(config pgbenchConfig) []map[string]any {
	type point struct{ commit, branch, remote string }
	keys, groups := group(m.runs, func(p *played) (point, bool) {
		has := slices.ContainsFunc(p.results, func(r playedResult) bool { return r.config == config && !r.custom })
		return point{p.commit, p.branch, p.remote}, has && p.official()
	})
	var rows []map[string]any
	for _, key := range keys {
		var tps, latency []float64
		var dists, compilers []string
		for _, p := range groups[key] {
			for _, r := range p.results {
				tps, latency = append(tps, r.tps), append(latency, r.latency)
			}
			dists, compilers = append(dists, p.dist), append(compilers, p.compiler)
		}
		row := map[string]any{
			"add_time": groups[key][0].addTime, "count": len(tps), "git_commit": key.commit, "name": key.branch, "url": key.remote,
			"pgbench_benchmark_id": m.configs[config], "scale": config.scale, "duration": config.duration, "clients": config.clients,
			"read_only": config.readOnly, "machine_id": m.machine.ID, "alias": m.machine.Alias, "description": "lab box",
			"machine_type": "aarch64", "username": m.machine.Owner, "email": nil, "dist_name": slices.Min(dists), "kernel_name": "Linux",
			"compiler": slices.Max(compilers),
		}
		row["avgtps"], row["stdtps"], row["mintps"], row["maxtps"] = statistics(tps)
		row["avglat"], row["stdlat"], row["minlat"], row["maxlat"] = statistics(latency)
		rows = append(rows, row)
	}
	slices.Reverse(rows) // newest first
	return rows
}

func (m *model) history() []map[string]any {
	type environment struct {
		remote, branch, kernel, compiler, settings, dist string
		config                                           pgbenchConfig
	}
	keys, groups := group(m.runs, func(p *played) (environment, bool) {
		if len(p.results) == 0 || p.results[0].custom {
			return environment{}, false
		}
		return environment{p.remote, p.branch, p.kernel, p.compiler, p.settings, p.dist, p.results[0].config}, true
	})
	var rows []map[string]any
	for _, key := range keys {
		count := 0
		for _, p := range groups[key] {
			count += len(p.results)
		}
		rows = append(rows, map[string]any{
			"run_id": groups[key][0].id, "count": count, "url": key.remote, "name": key.branch, "kernel_release": key.kernel,
			"compiler": key.compiler, "dist_name": key.dist, "pgbench_benchmark_id": m.configs[key.config], "clients": key.config.clients,
			"scale": key.config.scale, "duration": key.config.duration, "read_only": key.config.readOnly, "machine_id": m.machine.ID,
			"alias": m.machine.Alias, "kernel_version": "#1 SMP", "hz": 3000000000, "sysctl": map[string]any{"vm.swappiness": "10"},
		})
	}
	slices.Reverse(rows)
	return rows
}

// changes walks the settings of each branch in the order of their first use (contract 5.1.4).
func (m *model) changes(sets map[string]uint64) []map[string]any {
	var rows []map[string]any
	for _, branch := range []string{"REL_13_STABLE", "master"} {
		values, groups := group(m.runs, func(p *played) (string, bool) { return p.settings, p.branch == branch })
		for i := 1; i < len(values); i++ {
			before, after := values[i-1], values[i]
			if sets[before] > sets[after] {
				continue
			}
			first := groups[after][0]
			rows = append(rows, map[string]any{
				"min": first.id, "add_time": first.addTime, "settings1": sets[before], "settings2": sets[after], "setting_name": "work_mem",
				"unit1": "configuration file", "unit2": "configuration file", "value1": before, "value2": after, "machine_id": m.machine.ID,
				"name": branch, "machine_type": "aarch64", "alias": m.machine.Alias, "kernel_name": "Linux", "first_run": m.runs[0].id,
				"last_run": m.runs[len(m.runs)-1].id, "min_add_time": m.runs[0].addTime, "max_add_time": m.runs[len(m.runs)-1].addTime,
			})
		}
	}
	slices.SortStableFunc(rows, func(a, b map[string]any) int { return cmp.Compare(a["min"].(uint64), b["min"].(uint64)) })
	return rows
}

func (m *model) commitResults(commit string, config pgbenchConfig) []map[string]any {
	var rows []map[string]any
	for _, p := range m.runs {
		for _, r := range p.results {
			if p.official() && strings.HasSuffix(p.commit, commit) && r.config == config && !r.custom {
				rows = append(rows, map[string]any{"run_id": p.id, "pgbench_result_id": r.id, "add_time": p.addTime})
			}
		}
	}
	return rows
}

func (m *model) tpchTrend(scale float64) []map[string]any {
	type point struct {
		commit, branch, remote string
		streams                int
	}
	keys, groups := group(m.runs, func(p *played) (point, bool) {
		if p.tpch == nil || p.tpch.scale != scale {
			return point{}, false
		}
		return point{p.commit, p.branch, p.remote, p.tpch.streams}, true
	})
	var rows []map[string]any
	for _, key := range keys {
		row := map[string]any{
			"alias": m.machine.Alias, "username": m.machine.Owner, "git_commit": key.commit, "scale_factor": scale, "streams": key.streams,
			"name": key.branch, "machine_id": m.machine.ID, "add_time": groups[key][0].addTime, "count": len(groups[key]),
		}
		for i, score := range []string{"power", "throughput", "composite"} {
			var values []float64
			for _, p := range groups[key] {
				values = append(values, p.tpch.scores[i])
			}
			mean, _, least, greatest := statistics(values)
			row["ave_"+score+"_score"], row["min_"+score+"_score"], row["max_"+score+"_score"] = mean, least, greatest
		}
		rows = append(rows, row)
	}
	slices.Reverse(rows)
	return rows
}

// wantRows compares an answer with the model's rows: in order, each member that the model knows.
func wantRows(t *testing.T, a Answer, want []map[string]any) {
	t.Helper()
	rows := a.rows(t)
	if len(rows) != len(want) {
		t.Errorf("%s has %d rows, want %d: %.600s", a.Asked, len(rows), len(want), a.Body)
		return
	}
	for i := range want {
		for _, key := range slices.Sorted(maps.Keys(want[i])) {
			if !alike(rows[i][key], want[i][key]) {
				t.Errorf("%s: row %d has the %s %v, want %v", a.Asked, i, key, rows[i][key], want[i][key])
			}
		}
	}
}

// alike compares decoded JSON with a Go value; floats may differ in their last digits.
func alike(got, want any) bool {
	encoded, err := json.Marshal(want)
	if err != nil {
		return false
	}
	var plain any
	if err := json.Unmarshal(encoded, &plain); err != nil {
		return false
	}
	g, number := got.(float64)
	w, wanted := plain.(float64)
	if number && wanted {
		return math.Abs(g-w) <= 1e-9*math.Max(math.Abs(g), math.Abs(w))
	}
	return fmt.Sprint(got) == fmt.Sprint(plain)
}

func TestListsAndStatisticsAreThoseOfAPlainComputation(t *testing.T) {
	covers(t, "GET /benchmark/history/:machine_id", "GET /benchmark/postgres/:machine_id", "GET /benchmark/machines",
		"GET /benchmark/pgbench_trends/:machine_id/:benchmark_config_id",
		"GET /benchmark/pgbench_results_commit/:git_commit/:machine_id/:benchmark_config_id", "GET /tpch/machines",
		"GET /tpch/trend/:machine_id/:scale_factor", "GET /tpch/trends/:machine_id/:scale_factor",
		"GET /tpch/runs_commit/:machine_id/:scale_factor/:commit", "GET /run/:run_id")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		for seed := range uint64(2) {
			m := playModel(t, lab, seed, 40)
			visitor, id := lab.visitor(t), m.machine.ID
			wantRows(t, visitor.get(t, fmt.Sprintf("/benchmark/history/%d", id)), m.history())
			wantRows(t, visitor.get(t, fmt.Sprintf("/benchmark/postgres/%d", id)), m.changes(m.settingsSets(t, lab)))
			for config, configID := range m.configs {
				wantRows(t, visitor.get(t, fmt.Sprintf("/benchmark/pgbench_trends/%d/%d", id, configID)), m.trend(config))
				for _, commit := range []string{commitHash(0), commitHash(1), commitHash(1)[20:], commitHash(1)[:20], "c%", "_bc001", "abc001", "1"} {
					path := fmt.Sprintf("/benchmark/pgbench_results_commit/%s/%d/%d", strings.ReplaceAll(commit, "%", "%25"), id, configID)
					wantRows(t, visitor.get(t, path), m.commitResults(commit, config))
				}
			}
			m.wantTPCH(t, visitor)
			m.wantMachineRows(t, visitor)
		}
	})
}

// settingsSets are the ids of the settings sets, by the value of work_mem in them.
func (m *model) settingsSets(t *testing.T, lab *Lab) map[string]uint64 {
	t.Helper()
	sets := map[string]uint64{}
	for _, p := range m.runs {
		sets[p.settings] = uint64(lab.runRow(t, p.id)["postgres_info_id"].(float64))
	}
	return sets
}

func (m *model) wantTPCH(t *testing.T, visitor *caller) {
	t.Helper()
	for _, scale := range []string{"1", "1.0", "10", "10.000", "2"} {
		value := 0.0
		fmt.Sscan(scale, &value)
		for _, spelling := range []string{"trend", "trends"} {
			wantRows(t, visitor.get(t, fmt.Sprintf("/tpch/%s/%d/%s", spelling, m.machine.ID, scale)), m.tpchTrend(value))
		}
		var runs []map[string]any
		for _, p := range slices.Backward(m.runs) {
			if p.tpch != nil && p.tpch.scale == value && p.commit == commitHash(1) {
				runs = append(runs, map[string]any{"run_id": p.id, "add_time": p.addTime})
			}
		}
		wantRows(t, visitor.get(t, fmt.Sprintf("/tpch/runs_commit/%d/%s/%s", m.machine.ID, scale, commitHash(1)[10:])), runs)
	}
}

// wantMachineRows looks at this machine's rows of the lists that show all machines.
func (m *model) wantMachineRows(t *testing.T, visitor *caller) {
	t.Helper()
	counts, last, scales := map[uint64]int{}, map[float64]string{}, map[float64]int{}
	for _, p := range m.runs {
		for _, r := range p.results {
			if !r.custom {
				counts[m.configs[r.config]]++
			}
		}
		if p.tpch != nil {
			scales[p.tpch.scale]++
			last[p.tpch.scale] = p.addTime
		}
	}
	found := 0
	for _, row := range visitor.get(t, "/benchmark/machines").rows(t) {
		if row["machine_id"] == float64(m.machine.ID) {
			found++
			wantMembers(t, row, map[string]any{"count": counts[uint64(row["pgbench_benchmark_id"].(float64))], "alias": m.machine.Alias})
		}
	}
	if found != len(counts) {
		t.Errorf("/benchmark/machines has %d rows of the machine, want %d", found, len(counts))
	}
	found = 0
	for _, row := range visitor.get(t, "/tpch/machines").rows(t) {
		if row["machine_id"] == float64(m.machine.ID) {
			found++
			scale := row["scale_factor"].(float64)
			wantMembers(t, row, map[string]any{"count": scales[scale], "last_run_time": last[scale], "username": m.machine.Owner})
		}
	}
	if found != len(scales) {
		t.Errorf("/tpch/machines has %d rows of the machine, want %d", found, len(scales))
	}
}

func TestListsOfAllMachinesAreOrderedByConfigThenMachine(t *testing.T) {
	covers(t, "GET /benchmark/machines", "GET /tpch/machines")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		for range 3 {
			newRun(t, lab)
		}
		for path, keys := range map[string][2]string{
			"/benchmark/machines": {"pgbench_benchmark_id", "machine_id"}, "/tpch/machines": {"scale_factor", "machine_id"},
		} {
			rows := lab.visitor(t).get(t, path).rows(t)
			ordered := slices.IsSortedFunc(rows, func(a, b map[string]any) int {
				return cmp.Or(cmp.Compare(a[keys[0]].(float64), b[keys[0]].(float64)), cmp.Compare(a[keys[1]].(float64), b[keys[1]].(float64)))
			})
			if !ordered || len(rows) < 3 {
				t.Errorf("%s is not ordered by %v", path, keys)
			}
		}
	})
}

func TestOverviewCountsWhatTheFarmHolds(t *testing.T) {
	covers(t, "GET /benchmark/overview")
	lab := start(t, "standalone")
	visitor := lab.visitor(t)
	visitor.get(t, "/benchmark/overview").is(t, http.StatusOK, "[{}]")
	a, b := lab.newMachine(t), lab.newMachine(t)
	visitor.get(t, "/benchmark/overview").is(t, http.StatusOK, "[{}]")
	b.store(t, tpchDocument(minute(0), "1", 1, [3]float64{1, 2, 3}))
	b.store(t, customDocument(minute(1), sample{1, 1}))
	visitor.get(t, "/benchmark/overview").is(t, http.StatusOK, "[{}]") // neither is a result of the built-in pgbench
	write := pgbenchConfig{clients: 4, scale: 5, duration: 60}
	b.store(t, pgbenchDocument(minute(2), usualConfig, sample{1, 1}, sample{2, 2}))
	b.store(t, pgbenchDocument(minute(3), write, sample{1, 1}, sample{2, 2}))
	last := a.store(t, pgbenchDocument(minute(2), usualConfig, sample{1, 1}, sample{2, 2}).set("git.branch", "REL_12_STABLE").
		set("git.remote", otherRepository).set("os_information.distributor", "Debian"))
	newest := b.store(t, tpchDocument(minute(4), "1", 1, [3]float64{1, 2, 3}))
	rows := visitor.get(t, "/benchmark/overview").rows(t)
	if len(rows) != 1 {
		t.Fatalf("the overview has %d objects, want one", len(rows))
	}
	config := lab.runRow(t, last)["pgbench_result"].([]any)[0].(map[string]any)["benchmark_config_id"]
	wantMembers(t, rows[0], map[string]any{
		"last_run": last, "last_run_time": lab.runRow(t, last)["add_time"], "runs": 3, "os_count": 2, "results_count": 6, "configs": 2,
		"branches": 2, "repos": 2, "machines_count": 2, "users": 2, "recent_runs": 6, "last_machine_id": b.ID, "last_machine_alias": b.Alias,
		// Three pairs have two results each: the one with the lowest configuration, then the lowest machine counts.
		"machine_id_id": a.ID, "pgbench_benchmark_id": config, "count": 2, "scale": 20, "clients": 8, "duration": 120, "read_only": true,
	})
	if newest < last {
		t.Errorf("run %d was stored behind run %d", newest, last)
	}
}
