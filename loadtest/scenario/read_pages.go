package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/loadtest/farm"
	"github.com/millrace/millrace/loadtest/ledger"
	"github.com/millrace/millrace/loadtest/load"
	"github.com/millrace/millrace/loadtest/report"
	"github.com/millrace/millrace/loadtest/wire"
)

// readPages measures how many of the farm's pages the target answers a second: its list of machines, runs picked at
// random and trends.
type readPages struct {
	Common `yaml:",inline"`
	// Runs is how many are uploaded before, RunsPerCommit how many of a machine show one commit and make one point of its
	// trend.
	Runs          int `yaml:"runs"`
	RunsPerCommit int `yaml:"runs_per_commit"`
	// Connections and Uploads are measured each with each; Uploads are how many come in a second meanwhile.
	Connections []int         `yaml:"connections"`
	Uploads     []float64     `yaml:"uploads"`
	Duration    time.Duration `yaml:"duration"`
	// Aim is the rate to compare with, pages a second.
	Aim float64 `yaml:"aim"`
}

func (r *readPages) validate() error {
	errs := []error{
		between("runs", r.Runs, len(r.Connections)*len(r.Uploads), 100_000), between("runs_per_commit", r.RunsPerCommit, 1, 10_000),
		between("number of connections", len(r.Connections), 1, 10), between("number of uploads", len(r.Uploads), 1, 10),
		between("target: machines", r.Target.Machines, 2, 1000),
	}
	for _, n := range r.Connections {
		errs = append(errs, between("connections", n, 1, 1024))
	}
	for _, rate := range r.Uploads {
		if !(rate >= 0 && rate <= 10_000) {
			errs = append(errs, fmt.Errorf("uploads: %g is not between 0 and 10000 a second", rate))
		}
	}
	if r.Duration <= 0 {
		errs = append(errs, fmt.Errorf("duration: %s is no time to measure in", r.Duration))
	}
	return errors.Join(errs...)
}

// page is one kind of page: its paths, which are asked for in turn.
type page struct {
	name  string
	paths []string
	// once says that each path is asked for once.
	once bool
}

func (r *readPages) run(l *lab) error {
	// The last machine uploads while pages are read; the others have the history.
	history := farm.Machines{Count: len(l.target.Machines) - 1}
	ids, err := r.upload(l, history)
	if err != nil {
		return err
	}
	trends, err := trendPaths(l, history)
	if err != nil {
		return err
	}
	cells := len(r.Uploads) * len(r.Connections)
	table := l.result.Table("Pages a second of the Performance Farm's API", "page", "connections", "uploads a second", "pages a second",
		"aim", "p50 ms", "p99 ms", "bytes")
	next, cell := 0, 0
	for _, rate := range r.Uploads {
		stop := func() int { return 0 }
		if rate > 0 {
			stop = r.trickle(l, rate, next)
		}
		for _, connections := range r.Connections {
			runs := runPaths(ids[cell*len(ids)/cells : (cell+1)*len(ids)/cells])
			cell++
			for _, p := range []page{
				{name: "list", paths: []string{"/machine/list"}}, {name: "run, first read", paths: runs, once: true},
				{name: "run", paths: runs}, {name: "trend", paths: trends},
			} {
				if err := r.measure(l, p, connections, rate, table); err != nil {
					stop()
					return err
				}
			}
		}
		next += stop()
	}
	return nil
}

// upload brings the history in and gives the ids of its runs.
func (r *readPages) upload(l *lab, machines farm.Machines) ([]uint64, error) {
	uploads := &closedUploads{
		lab: l, ledger: ledger.New(len(l.target.Machines)), machines: machines, count: r.Runs,
		plan: farm.Plan{Seed: l.seed, Size: farm.Small, RunsPerCommit: r.RunsPerCommit},
	}
	l.progress.Phase(fmt.Sprintf("uploading %d runs", r.Runs), nil)
	if err := uploads.prepare(false); err != nil {
		return nil, err
	}
	if _, err := uploads.millrace(8); err != nil {
		return nil, err
	}
	if _, err := l.settle(); err != nil {
		return nil, err
	}
	return uploads.ledger.Runs(), nil
}

func trendPaths(l *lab, machines farm.Machines) ([]string, error) {
	reader := &farm.Reader{Target: l.target, HTTP: client(1, time.Minute)}
	configs, err := reader.Configs(l.ctx)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, machine := range l.target.Machines[:machines.Count] {
		paths = append(paths, fmt.Sprintf("/benchmark/pgbench_trends/%d/%d", machine.ID, configs[machine.ID]))
	}
	return paths, nil
}

func runPaths(ids []uint64) []string {
	paths := make([]string, len(ids))
	for i, id := range ids {
		paths[i] = "/run/" + strconv.FormatUint(id, 10)
	}
	return paths
}

// trickle uploads at a rate in the background, from a number on; the returned function ends it and says how many there
// were.
func (r *readPages) trickle(l *lab, rate float64, from int) func() int {
	last := farm.Machines{First: len(l.target.Machines) - 1, Count: 1, From: from}
	uploads := l.newOpenUploads(last, farm.Plan{Seed: l.seed, Size: farm.Small}, []farm.Policy{farm.Careful}, load.Open{Rate: rate, InFlight: 64})
	stop := uploads.start()
	return func() int {
		stop(time.Minute)
		return int(uploads.sent.Load())
	}
}

func (r *readPages) measure(l *lab, p page, connections int, rate float64, table *report.Table) error {
	l.progress.Phase(fmt.Sprintf("page %s, %d connections, %g uploads a second", p.name, connections, rate), nil)
	heads := make([][]byte, len(p.paths))
	for i, path := range p.paths {
		heads[i] = wire.Head(http.MethodGet, l.target.Host, path, 0)
	}
	bytes := make([]int, connections)
	closed := load.Closed{Senders: connections, Time: r.Duration}
	if p.once {
		closed = load.Closed{Senders: connections, Requests: len(p.paths)}
	}
	round, err := closed.Run(l.ctx, func(ctx context.Context, sender int) (func(int) error, func(), error) {
		conn, err := wire.Dial(ctx, l.target.Host, attemptTimeout)
		if err != nil {
			return nil, nil, err
		}
		return func(i int) error {
			answer, err := conn.Do(heads[i%len(heads)], nil)
			if err == nil && answer.Status != http.StatusOK {
				err = fmt.Errorf("GET %s: status %d: %s", p.paths[i%len(heads)], answer.Status, answer.Body)
			}
			bytes[sender] = max(bytes[sender], len(answer.Body))
			return err
		}, func() { _ = conn.Close() }, nil
	})
	if err != nil {
		return err
	}
	times := round.Latencies.Summary()
	table.Row(p.name, strconv.Itoa(connections), fmt.Sprint(rate), fmt.Sprintf("%.0f", round.Rate()), fmt.Sprintf("%.0f", r.Aim),
		fmt.Sprintf("%.2f", times.P50), fmt.Sprintf("%.2f", times.P99), strconv.Itoa(bytes[0]))
	name := fmt.Sprintf("pages.%s.%d.%g", strings.ReplaceAll(p.name, ", ", "_"), connections, rate)
	l.result.Figure(name+".rate", round.Rate(), "pages/s")
	l.result.Figure(name+".p50", times.P50, "ms")
	l.result.Figure(name+".p99", times.P99, "ms")
	return nil
}
