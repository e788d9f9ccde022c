package ui

import (
	"context"
	"strings"

	"github.com/gin-gonic/gin"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/query/native/fresh"
	"github.com/millrace/millrace/query/native/lab"
)

const (
	// machinesShown is how many machines the overview has; the rest are found by the API.
	machinesShown = 60
	// runsShown is how many of the newest runs it lists.
	runsShown = 8
	// atOnce bounds the queries of one page that run side by side.
	atOnce = 6
)

// overviewData is what the overview shows.
type overviewData struct {
	Machines []machineCard
	More     bool
	Newest   []runLine
	Runs     uint64
}

// machineCard is a machine with the course of its newest benchmark.
type machineCard struct {
	lab.Machine

	Course *course
}

// runLine is a run in a list, with its machine's alias.
type runLine struct {
	lab.Run

	Alias string
}

// runFields are those that lists of runs show.
var runFields = []string{"run_id", "machine_id", "add_time", "start_time", "benchmark", "custom", "branch_id", "branch", "commit", "settings_id", "results"}

func (u *UI) overview(*gin.Context) (sight, error) {
	return sight{
		scope: fresh.Scope{Topics: toSamples}, template: "overview", tab: "overview",
		read: func(ctx context.Context, v *lab.View) (string, any, error) {
			data, err := readOverview(ctx, v)
			return "The lab", data, err
		},
	}, nil
}

func readOverview(ctx context.Context, v *lab.View) (*overviewData, error) {
	machines, next, err := v.Machines(ctx, lab.MachineFilter{}, lab.Page{Order: lab.MachineOrders()[0], Limit: machinesShown})
	if err != nil {
		return nil, err
	}
	data := &overviewData{More: next != nil, Machines: make([]machineCard, len(machines))}
	aliases := make(map[uint64]string, len(machines))
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i := range machines {
		data.Machines[i].Machine = machines[i]
		data.Runs += machines[i].Runs
		aliases[machines[i].MachineID] = machines[i].Alias
		group.Go(func() (err error) {
			data.Machines[i].Course, err = newestCourse(within, v, &machines[i])
			return err
		})
	}
	group.Go(func() error {
		runs, _, err := v.Runs(within, lab.RunFilter{}, lab.Page{Order: newestFirst(), Limit: runsShown}, runFields...)
		data.Newest = lines(runs, aliases)
		return err
	})
	return data, group.Wait()
}

func lines(runs []lab.Run, aliases map[uint64]string) []runLine {
	list := make([]runLine, len(runs))
	for i := range runs {
		list[i] = runLine{Run: runs[i], Alias: aliases[runs[i].MachineID]}
	}
	return list
}

// newestFirst is the order of runs with the newest first.
func newestFirst() lab.Order {
	for _, order := range lab.RunOrders() {
		if order.Name == "-run_id" {
			return order
		}
	}
	panic("ui: runs have no order -run_id")
}

// newestCourse gives the course of the first benchmark in a machine's newest run, nil when there is none.
func newestCourse(ctx context.Context, v *lab.View, m *lab.Machine) (*course, error) {
	if m.LastRun == nil {
		return nil, nil
	}
	results, _, err := v.Results(ctx, lab.ResultFilter{Machine: m.MachineID, Run: m.LastRun.RunID}, lab.Page{Order: lab.ResultOrders()[0], Limit: 1},
		"config_id", "branch_id", "branch", "custom", "clients", "scale", "duration", "read_only")
	if err != nil || len(results) == 0 {
		return nil, err
	}
	r := &results[0]
	metric := "tps"
	if r.Custom {
		metric = "custom.tps"
	}
	of := lab.Series{MachineID: m.MachineID, ConfigID: r.ConfigID, BranchID: r.BranchID, Metric: metric}
	return readCourse(ctx, v, of, pgbenchLabel(r.Clients, r.Scale, r.Duration, r.ReadOnly), r.Branch)
}

// courseLength is how many of a series' newest samples a small chart shows.
const courseLength = 60

// course is a series in brief.
type course struct {
	Label, Branch string
	Metric        string
	Href          string
	Last          float64
	// Change is how far the last sample is from the median of those before, as a fraction; nil when there are few.
	Change *float64
	Count  int
	Spark  spark
}

func readCourse(ctx context.Context, v *lab.View, of lab.Series, label, branch string) (*course, error) {
	descending := lab.SampleOrders()[1]
	samples, _, err := v.Samples(ctx, lab.SampleFilter{Series: of}, lab.Page{Order: descending, Limit: courseLength}, "time", "value")
	if err != nil || len(samples) == 0 {
		return nil, err
	}
	values := make([]float64, len(samples))
	for i := range samples {
		values[len(values)-1-i] = samples[i].Value
	}
	last := values[len(values)-1]
	return &course{
		Label: label, Branch: branch, Metric: of.Metric, Href: trendLink(of), Last: last, Change: change(values), Count: len(values), Spark: sparkOf(values),
	}, nil
}

// trendLink leads to the trend of a series.
func trendLink(of lab.Series) string {
	return link("/ui/trend", "machine", of.MachineID, "config", configKey(of.ConfigID, of.Metric), "branch", of.BranchID, "metric", of.Metric)
}

// isTPCH says whether a metric is TPC-H's, whose configurations are numbered apart.
func isTPCH(metric string) bool { return strings.HasPrefix(metric, "tpch.") }
