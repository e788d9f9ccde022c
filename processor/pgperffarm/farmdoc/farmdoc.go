// Package farmdoc makes upload documents of the PostgreSQL Performance Farm as its client would send them, for load and
// for tests. The same options give the same bytes.
package farmdoc

import (
	"math/rand/v2"
	"strconv"
	"time"
)

// Options describe one pgbench document. A zero field takes the value in brackets.
type Options struct {
	Seed        uint64    // all numbers that are not given are drawn from it
	MachineType string    // uname -m [x86_64]
	Repository  string    // [PostgreSQL's on GitHub, an official one]
	Branch      string    // [master]
	Commit      string    // [40 hexadecimal digits drawn from Seed]
	Start       time.Time // run_start_time, cut to seconds [2021-07-02T11:00:00Z]

	Configs    []Config // pgbench configurations, different ones [8 clients, scale 20, 120 s, read only]
	Results    int      // invocations of pgbench, dealt out to Configs in turn [one for each]
	TPS        float64  // of every result [drawn]
	LogSeconds int      // lines of the per-second log of each result
	Statements int      // statement latencies of each result, at most 7
}

// Config is a pgbench configuration.
type Config struct {
	Clients, Scale int
	Duration       int // seconds
	ReadOnly       bool
}

// Small returns o with the contents of a document of about 2 KB: one result with a log of five seconds.
func Small(o Options) Options {
	o.Results, o.LogSeconds, o.Statements = 1, 5, 1
	return o
}

// Large returns o with the contents of a document of about 100 KB: four results with a log of 515 seconds each.
func Large(o Options) Options {
	o.Results, o.LogSeconds, o.Statements = 4, 515, 7
	return o
}

// Synthetic makes the document.
func Synthetic(o Options) []byte {
	w := newWriter(o)
	w.head()
	w.logs()
	w.tests()
	return append(w.buf, "}]"...)
}

type writer struct {
	o     Options
	rand  *rand.Rand
	buf   []byte
	start int64 // Unix seconds
}

func newWriter(o Options) *writer {
	w := &writer{rand: rand.New(rand.NewPCG(o.Seed, 1))}
	if o.MachineType == "" {
		o.MachineType = "x86_64"
	}
	if o.Repository == "" {
		o.Repository = "https://github.com/postgres/postgres.git"
	}
	if o.Branch == "" {
		o.Branch = "master"
	}
	if o.Commit == "" {
		o.Commit = w.hex(40)
	}
	if o.Start.IsZero() {
		o.Start = time.Date(2021, 7, 2, 11, 0, 0, 0, time.UTC)
	}
	if len(o.Configs) == 0 {
		o.Configs = []Config{{Clients: 8, Scale: 20, Duration: 120, ReadOnly: true}}
	}
	if o.Results == 0 {
		o.Results = len(o.Configs)
	}
	w.o, w.start = o, o.Start.Unix()
	w.buf = make([]byte, 0, 2048+o.Results*(512+o.LogSeconds*48+o.Statements*96))
	return w
}

func (w *writer) hex(n int) string {
	const digits = "0123456789abcdef"
	b := make([]byte, n)
	for i := range b {
		b[i] = digits[w.rand.IntN(len(digits))]
	}
	return string(b)
}

func (w *writer) text(s string) { w.buf = append(w.buf, s...) }

func (w *writer) integer(n int64) { w.buf = strconv.AppendInt(w.buf, n, 10) }

func (w *writer) number(f float64) { w.buf = strconv.AppendFloat(w.buf, f, 'f', -1, 64) }

// quoted writes a string of the options. They name branches and the like: what needs escapes is escaped by strconv,
// whose result is JSON for all printable text.
func (w *writer) quoted(s string) { w.buf = strconv.AppendQuote(w.buf, s) }

func (w *writer) time(t time.Time) {
	w.buf = append(w.buf, '"')
	w.buf = t.UTC().AppendFormat(w.buf, "2006-01-02T15:04:05-0700")
	w.buf = append(w.buf, '"')
}

func (w *writer) head() {
	o := w.o
	w.text(`[{"meta": {"benchmark": "pgbench", "name": "pgbench-basic"}, "git": {"remote": `)
	w.quoted(o.Repository)
	w.text(`, "branch": `)
	w.quoted(o.Branch)
	w.text(`, "commit": `)
	w.quoted(o.Commit)
	w.text(`}, "kernel": {"uname_s": "Linux", "uname_r": "5.12.9", "uname_v": "#1 SMP", "uname_m": `)
	w.quoted(o.MachineType)
	w.text(`}, "os_information": {"distributor": "Fedora", "description": "Fedora release 34", "release": "34", ` +
		`"codename": "ThirtyFour"}, "system": {"cpu": {"information": {"brand_raw": "Example CPU", "hz_actual": [`)
	w.integer(2_000_000_000 + w.rand.Int64N(1_000_000_000))
	w.text(`, 0], "count": 16}}, "memory": {"virtual": {"total": 34359738368}, "swap": {"total": 0}, "mounts": []}}, ` +
		`"sysctl_log": "{\"vm.swappiness\": \"10\", \"net.core.somaxconn\": \"128\"}", ` +
		`"compiler": "PostgreSQL 15devel on aarch64-unknown-linux-gnu, compiled by clang 12.0.0, 64-bit", ` +
		`"postgres_settings": "name,setting,source\r\nwork_mem,65536,configuration file\r\nport,5432,default\r\n", ` +
		`"pg_ctl": "", "pgbench_log": "", "run_received_time": `)
	w.time(o.Start.Add(-2 * time.Minute))
	w.text(`, "run_start_time": `)
	w.time(o.Start)
	w.text(`, "run_end_time": `)
	w.time(o.Start.Add(5 * time.Minute))
	w.text(`, "git_clone_runtime": null, "git_pull_runtime": "0:00:02.250000", "configure_runtime": null, ` +
		`"build_runtime": null, "install_runtime": null, "cleanup_runtime": "0:00:00.125000"`)
}

// logs writes the per-second logs, one for each result.
func (w *writer) logs() {
	w.text(`, "pgbench_log_aggregate": [`)
	for i := range w.o.Results {
		c := w.config(i)
		if i > 0 {
			w.text(", ")
		}
		w.text(`{"pgbench-`)
		w.text(map[bool]string{true: "ro", false: "rw"}[c.ReadOnly])
		for _, n := range []int{c.Scale, c.Duration, c.Clients, w.iteration(i)} {
			w.text("-")
			w.integer(int64(n))
		}
		w.text(`-": "`)
		for second := range w.o.LogSeconds {
			w.logLine(w.start + int64(second))
		}
		w.text(`"}`)
	}
	w.text(`]`)
}

func (w *writer) logLine(second int64) {
	transactions := 700 + w.rand.Int64N(200)
	mean := 9_000 + w.rand.Int64N(2_000)
	for _, n := range []int64{second, transactions, transactions * mean, transactions * mean * mean, 500 + mean/100} {
		w.integer(n)
		w.text(" ")
	}
	w.integer(mean + 5_000)
	w.text(`\n`)
}

// tests writes the results, those of one configuration together.
func (w *writer) tests() {
	w.text(`, "pgbench": [`)
	for c, config := range w.o.Configs {
		if c > 0 {
			w.text(", ")
		}
		w.text(`{"clients": [`)
		w.integer(int64(config.Clients))
		w.text(`], "scale": `)
		w.integer(int64(config.Scale))
		w.text(`, "duration": `)
		w.integer(int64(config.Duration))
		w.text(`, "read_only": `)
		w.buf = strconv.AppendBool(w.buf, config.ReadOnly)
		w.text(`, "iterations": [`)
		for i := c; i < w.o.Results; i += len(w.o.Configs) {
			if i > c {
				w.text(", ")
			}
			w.result(i)
		}
		w.text(`]}`)
	}
	w.text(`]`)
}

func (w *writer) config(result int) Config { return w.o.Configs[result%len(w.o.Configs)] }

func (w *writer) iteration(result int) int { return result / len(w.o.Configs) }

func (w *writer) result(i int) {
	tps := w.o.TPS
	if tps == 0 {
		tps = 700 + float64(w.rand.Int64N(200_000))/1_000
	}
	clients := strconv.Itoa(w.config(i).Clients)
	w.text(`{"mode": "simple", "clients": "` + clients + `", "threads": "` + clients + `", "latency": "`)
	w.number(8 + float64(w.rand.Int64N(4_000))/1_000)
	w.text(`", "tps": "`)
	w.number(tps)
	w.text(`", "statement_latencies": "\n`)
	for _, statement := range statements[:min(w.o.Statements, len(statements))] {
		w.text("         ")
		w.buf = strconv.AppendFloat(w.buf, float64(1+w.rand.Int64N(3_000))/1_000, 'f', 3, 64)
		w.text("  " + statement + `\n`)
	}
	w.text(`", "init": 4.25, "start": `)
	w.integer(w.start)
	w.text(`.5, "end": `)
	w.integer(w.start + int64(w.config(i).Duration))
	w.text(`.75, "iteration": `)
	w.integer(int64(w.iteration(i)))
	w.text(`, "pg_stat_statements": [], "collectd": {}}`)
}

// statements are those of a transaction of the built-in script.
var statements = [...]string{
	"SELECT abalance FROM pgbench_accounts WHERE aid = :aid;",
	"BEGIN;",
	"UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;",
	"UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;",
	"UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;",
	"INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);",
	"END;",
}
