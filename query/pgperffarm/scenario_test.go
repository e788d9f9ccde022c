package pgperffarm

import (
	"fmt"
	"time"

	upload "github.com/millrace/millrace/processor/pgperffarm"
)

const official = "https://github.com/postgres/postgres.git"

const (
	commitA = "5d0e6b1f0c9a4b7e8d2f3a6c1b0e9d8c7b6a5f4e"
	commitB = "0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa%_f4e5"
)

var (
	configRO = upload.Result{Clients: 8, Scale: 20, Duration: 120, ReadOnly: true}
	configRW = upload.Result{Clients: 16, Scale: 20, Duration: 120}
)

var (
	settingsFirst = []upload.Setting{
		{Name: "max_connections", Source: "configuration file", Value: "100"},
		{Name: "work_mem", Source: "configuration file", Value: "4096"},
		{Name: "only_first", Source: "configuration file", Value: "x"},
	}
	settingsSecond = []upload.Setting{
		{Name: "max_connections", Source: "command line", Value: "100"},
		{Name: "work_mem", Source: "configuration file", Value: "65536"},
		{Name: "only_second", Source: "configuration file", Value: "y"},
	}
)

func at(day, hour, minute, ms int) time.Time {
	return time.Date(2021, 7, day, hour, minute, 0, ms*1e6, time.UTC)
}

// document is a run of master without results.
func document(start time.Time) *upload.Document {
	return &upload.Document{
		Benchmark: upload.BenchmarkPgbench, Repository: official, Branch: "master", Commit: commitA, Start: start,
		System: upload.System{
			Kernel:      upload.Kernel{Name: "Linux", Release: "5.12.9", Version: "#1 SMP"},
			OS:          upload.OS{Distributor: "Fedora", Description: "Fedora release 34", Release: "34", Codename: "ThirtyFour"},
			MachineType: "aarch64", Compiler: "clang 12.0.0", Settings: settingsFirst,
			Hardware: upload.Hardware{
				CPUBrand: "Example CPU", Hz: 3_000_000_000, Cores: 16, TotalMemory: 34_359_738_368,
				Mounts: `[{"device":"/dev/nvme0n1p2","fstype":"xfs","mountpoint":"/","opts":"rw"}]`, Sysctl: `{"vm.swappiness":"10"}`,
			},
		},
	}
}

// measured is a result of a configuration.
func measured(config upload.Result, iteration int, tps, latency float64) upload.Result {
	r := config
	r.Iteration, r.TPS, r.Latency, r.Mode = iteration, tps, latency, "simple"
	r.Start, r.End, r.Init = 1625223600.5, 1625223720.75, 4.25
	r.Log = []upload.LogLine{{Second: 1625223600, Transactions: 799, Sum: 7910100, Sum2: 78309990000, Min: 610, Max: 15020}}
	r.Statements = []upload.Statement{{Line: 0, Latency: 0.003, Text: "SELECT 1;"}}
	queryID, calls, mean := int64(-3141592653589793238), int64(7), 0.25
	r.StatStatements = []upload.StatStatement{{Query: "SELECT $1", QueryID: &queryID, Calls: &calls, MeanExecTime: &mean}}
	return r
}

func tpch(start time.Time, commit string, streams int, power float64) *upload.Document {
	doc := document(start)
	doc.Benchmark, doc.Commit = upload.BenchmarkTPCH, commit
	first, other := 12.5, 18.75
	doc.TPCH = &upload.TPCH{
		ScaleFactor: 10, Streams: streams, Power: power, Throughput: 1600, QphH: 2000.25,
		Queries: []upload.TPCHQuery{{Index: 1, Power: &first, Throughput: &other}, {Index: 2, Throughput: &first}},
	}
	return doc
}

// farmOfThree fills the lab: two people, three machines, eleven requests.
func (l *lab) farmOfThree() {
	l.Helper()
	l.user("jdoe", "jane@example.org", false)
	l.user("boss", "boss@example.org", true)
	otter := l.machine(labStart, "jdoe", "otter", "lab box", true)
	heron := l.machine(labStart.Add(1500*time.Millisecond), "boss", "heron", `with "quotes"`, true)
	l.machine(labStart.Add(2*time.Second), "jdoe", "newt", "", false)

	one := document(at(2, 11, 0, 0))
	one.Results = []upload.Result{measured(configRO, 0, 801, 9.9), measured(configRO, 1, 825.5, 9.5), measured(configRW, 0, 400, 20)}
	l.upload(otter, at(2, 11, 5, 250), one)

	two := document(at(2, 12, 0, 0))
	two.Results = []upload.Result{measured(configRO, 0, 812.25, 9.75)}
	l.upload(otter, at(2, 12, 5, 0), two)
	if run := l.upload(otter, at(2, 12, 6, 0), two); run != 2 {
		l.Fatalf("the repeated upload is run %d", run) // it uses up the id 3
	}

	changed := document(at(3, 11, 0, 0))
	changed.Commit, changed.Settings, changed.Compiler = commitB, settingsSecond, "gcc 11.1.0"
	changed.Results = []upload.Result{measured(configRO, 0, 900, 9)}
	l.upload(otter, at(3, 11, 5, 1), changed)

	stable := document(at(3, 12, 0, 0))
	stable.Branch = "REL_13_STABLE"
	stable.Results = []upload.Result{measured(configRO, 0, 700, 11)}
	l.upload(otter, at(3, 12, 5, 0), stable)

	fork := document(at(3, 13, 0, 0))
	fork.Repository = "https://example.org/fork.git"
	fork.Results = []upload.Result{measured(configRO, 0, 10, 100)}
	l.upload(otter, at(3, 13, 5, 0), fork)

	custom := document(at(3, 14, 0, 0))
	custom.Custom = true
	script := measured(configRO, 0, 9999, 1)
	script.Custom = true
	custom.Results = []upload.Result{script}
	l.upload(otter, at(3, 14, 5, 0), custom)

	l.upload(otter, at(4, 11, 5, 0), tpch(at(4, 11, 0, 0), commitA, 3, 2500.5))
	l.upload(otter, at(4, 12, 5, 125), tpch(at(4, 12, 0, 0), commitA, 3, 2600))
	l.upload(otter, at(4, 13, 5, 0), tpch(at(4, 13, 0, 0), commitA, 5, 3000))

	other := document(at(5, 11, 0, 0))
	other.MachineType, other.OS.Distributor = "x86_64", "Debian"
	for i := range 5 {
		other.Results = append(other.Results, measured(configRO, i, 1000+float64(i), 8))
	}
	l.upload(heron, at(5, 11, 5, 0), other)
}

// paths are the questions whose answers are kept in testdata.
var paths = map[string]string{
	"overview":               "/benchmark/overview",
	"benchmarks":             "/benchmark/machines",
	"history":                "/benchmark/history/1",
	"settings":               "/benchmark/postgres/1",
	"trend":                  "/benchmark/pgbench_trends/1/1",
	"trend_of_few":           "/benchmark/pgbench_trends/1/2",
	"commit":                 "/benchmark/pgbench_results_commit/" + commitA + "/1/1",
	"result":                 fmt.Sprintf("/benchmark/pgbench_results_complete/%d", 1*1024+1),
	"result_of_custom":       fmt.Sprintf("/benchmark/pgbench_results_complete/%d", 7*1024+1),
	"machines":               "/machine/list",
	"run":                    "/run/1",
	"run_tpch":               "/run/8",
	"tpch_machines":          "/tpch/machines",
	"tpch_details":           "/tpch/details/8",
	"tpch_trend":             "/tpch/trend/1/10",
	"tpch_runs":              "/tpch/runs_commit/1/10/" + commitA,
	"history_of_other":       "/benchmark/history/2",
	"trend_nothing_official": "/benchmark/pgbench_trends/2/2",
}
