package native

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/query/native/cursor"
	"github.com/millrace/millrace/query/native/lab"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// The bodies of lists, as they are described.
type (
	// MachinesPage is a page of machines.
	MachinesPage struct {
		Items []lab.Machine `json:"items"`
		paging
	}
	// RunsPage is a page of runs.
	RunsPage struct {
		Items []lab.Run `json:"items"`
		paging
	}
	// ResultsPage is a page of results.
	ResultsPage struct {
		Items []lab.Result `json:"items"`
		paging
	}
	// SamplesPage is a page of a series' samples.
	SamplesPage struct {
		Items []lab.Sample `json:"items"`
		paging
	}
	// SeriesPage is a page of series.
	SeriesPage struct {
		Items []lab.SeriesCount `json:"items"`
		paging
	}
	// ConfigsPage is a page of configurations.
	ConfigsPage struct {
		Items []lab.Config `json:"items"`
		paging
	}
	// BranchesPage is a page of branches.
	BranchesPage struct {
		Items []lab.Branch `json:"items"`
		paging
	}
	// DeadLettersPage is a page of dead letters.
	DeadLettersPage struct {
		Items []lab.DeadLetter `json:"items"`
		paging
	}
	// RefusalsPage is a page of refused uploads.
	RefusalsPage struct {
		Items []lab.Refusal `json:"items"`
		paging
	}
	paging struct {
		Next     *string `json:"next" doc:"cursor of the next page; null at the list's end"`
		Position string  `json:"position" doc:"position of the log that the answer contains; empty for an eventual read"`
	}
)

// toRuns and toSamples are the topics that runs, and samples, come from.
var (
	toRuns    = []string{eventlog.Runs}
	toSamples = []string{eventlog.Runs, eventlog.Metrics}
)

func (n *Native) machines() route.Route {
	return listing[lab.Machine]{
		path: "/machines", summary: "List the machines", access: route.LoopbackOrViewer, body: MachinesPage{},
		filters: []route.Param{
			idParam("machine", "The machine with this id."), textParam("alias", "The machine with this alias."),
			flagParam("approved", "Those that may upload, or those that may not."),
		},
		orders: lab.MachineOrders(), limit: maxLimit, topics: []string{eventlog.Registry, eventlog.Runs},
		understand: func(r *reader) query[lab.Machine] {
			filter := lab.MachineFilter{ID: r.id("machine"), Alias: r.text("alias"), Approved: r.flag("approved")}
			return query[lab.Machine]{read: func(ctx context.Context, v *lab.View, page lab.Page, _ ...string) ([]lab.Machine, cursor.Key, error) {
				return v.Machines(ctx, filter, page)
			}}
		},
	}.route(n)
}

func (n *Native) runs() route.Route {
	return listing[lab.Run]{
		path: "/runs", summary: "List runs", access: route.LoopbackOrViewer, body: RunsPage{},
		filters: slices.Concat([]route.Param{
			idParam("machine", "Those of a machine, by id."), textParam("benchmark", "Those of a benchmark: pgbench or tpch."),
			idParam("branch", "Those of a branch, by id."), textParam("branch_name", "Those of branches with this name."),
			textParam("commit", "Those of a commit."), textParam("repository", "Those of a repository, by URL."),
			idParam("config", "Those with a result of a pgbench configuration, by id."),
			flagParam("official", "Those of PostgreSQL's own repositories, or of others."),
			flagParam("custom", "Those that ran scripts of their own, or the others."),
			{Name: "time", Enum: []string{"start_time", "add_time"}, Default: "start_time", Description: "The time that from and to bound."},
		}, rangeParams("time")),
		orders: lab.RunOrders(), limit: maxLimit, topics: toRuns,
		understand: func(r *reader) query[lab.Run] {
			filter := lab.RunFilter{
				Machine: r.id("machine"), Benchmark: r.text("benchmark"), Branch: r.id("branch"), BranchName: r.text("branch_name"),
				Commit: r.text("commit"), Repository: r.text("repository"), Config: r.id("config"), Official: r.flag("official"),
				Custom: r.flag("custom"), ByAddTime: r.text("time") == "add_time",
			}
			filter.From, filter.To = r.timeRange()
			return query[lab.Run]{machine: filter.Machine, read: func(ctx context.Context, v *lab.View, page lab.Page, fields ...string) ([]lab.Run, cursor.Key, error) {
				return v.Runs(ctx, filter, page, fields...)
			}}
		},
	}.route(n)
}

func (n *Native) results() route.Route {
	return listing[lab.Result]{
		path: "/results", summary: "List pgbench results", access: route.LoopbackOrViewer, body: ResultsPage{},
		filters: slices.Concat([]route.Param{
			idParam("machine", "Those of a machine, by id."), idParam("config", "Those of a pgbench configuration, by id."),
			idParam("branch", "Those of a branch, by id."), textParam("branch_name", "Those of branches with this name."),
			textParam("commit", "Those of a commit."), {Name: "run", Type: route.Integer, Min: 1, Max: 1 << 53, Description: "Those of a run, by id."},
			flagParam("official", "Those of PostgreSQL's own repositories, or of others."),
			flagParam("custom", "Those of scripts of their own, or the others."),
		}, rangeParams("add time")),
		orders: lab.ResultOrders(), limit: maxLimit, topics: toRuns,
		understand: func(r *reader) query[lab.Result] {
			filter := lab.ResultFilter{
				Machine: r.id("machine"), Config: r.id("config"), Branch: r.id("branch"), BranchName: r.text("branch_name"),
				Commit: r.text("commit"), Run: r.id("run"), Official: r.flag("official"), Custom: r.flag("custom"),
			}
			filter.From, filter.To = r.timeRange()
			return query[lab.Result]{machine: filter.Machine, allows: comparing(filter),
				read: func(ctx context.Context, v *lab.View, page lab.Page, fields ...string) ([]lab.Result, cursor.Key, error) {
					return v.Results(ctx, filter, page, fields...)
				}}
		},
	}.route(n)
}

// comparing refuses to compare results of all kinds: that would read all of them, and tell nothing.
func comparing(filter lab.ResultFilter) func(lab.Order) error {
	return func(order lab.Order) error {
		if !order.Compares() || filter.Machine != 0 && filter.Config != 0 {
			return nil
		}
		var free []string
		for _, o := range lab.ResultOrders() {
			if !o.Compares() {
				free = append(free, o.Name)
			}
		}
		return route.Errorf(http.StatusBadRequest, "query parameter sort may be %s only together with machine and config: "+
			"results of one machine and configuration can be compared. Otherwise it must be one of %s", order.Name, strings.Join(free, ", "))
	}
}

// seriesParams name a series.
func seriesParams() []route.Param {
	return []route.Param{
		required(idParam("machine", "The machine's id.")),
		{Name: "config", Type: route.Integer, Required: true, Description: "The configuration's id; 0 for what belongs to no configuration."},
		required(idParam("branch", "The branch's id.")),
		required(textParam("metric", "The metric's name, such as tps; /millrace/v1/metrics/names lists them.")),
	}
}

func (r *reader) series() lab.Series {
	return lab.Series{MachineID: r.id("machine"), ConfigID: r.id("config"), BranchID: r.id("branch"), Metric: r.text("metric")}
}

// maxSamples is the largest number of samples on a page.
const maxSamples = 10_000

func (n *Native) samples() route.Route {
	return listing[lab.Sample]{
		path: "/metrics", summary: "List the samples of a series", access: route.LoopbackOrViewer, body: SamplesPage{},
		filters: slices.Concat(seriesParams(), []route.Param{
			idParam("run", "Those of a run, by id."), idParam("result", "Those of a result, by id."),
		}, rangeParams("time")),
		orders: lab.SampleOrders(), limit: maxSamples, topics: toSamples,
		understand: func(r *reader) query[lab.Sample] {
			filter := lab.SampleFilter{Series: r.series(), Run: r.id("run"), Result: r.id("result")}
			filter.From, filter.To = r.timeRange()
			return query[lab.Sample]{machine: filter.Series.MachineID,
				read: func(ctx context.Context, v *lab.View, page lab.Page, fields ...string) ([]lab.Sample, cursor.Key, error) {
					return v.Samples(ctx, filter, page, fields...)
				}}
		},
	}.route(n)
}

func (n *Native) series() route.Route {
	return listing[lab.SeriesCount]{
		path: "/metrics/names", summary: "List the series that have samples", access: route.LoopbackOrViewer, body: SeriesPage{},
		filters: []route.Param{
			idParam("machine", "Those of a machine, by id."), idParam("config", "Those of a configuration, by id."),
			idParam("branch", "Those of a branch, by id."), textParam("prefix", "Those of metrics whose name begins like this."),
		},
		orders: lab.SeriesOrders(), limit: maxLimit, topics: toSamples,
		understand: func(r *reader) query[lab.SeriesCount] {
			filter := lab.SeriesFilter{Machine: r.id("machine"), Config: r.id("config"), Branch: r.id("branch"), Prefix: r.text("prefix")}
			return query[lab.SeriesCount]{machine: filter.Machine,
				read: func(ctx context.Context, v *lab.View, page lab.Page, _ ...string) ([]lab.SeriesCount, cursor.Key, error) {
					return v.Series(ctx, filter, page)
				}}
		},
	}.route(n)
}

func (n *Native) configs() route.Route {
	return listing[lab.Config]{
		path: "/configs", summary: "List the configurations of pgbench and TPC-H", access: route.LoopbackOrViewer, body: ConfigsPage{},
		filters: []route.Param{idParam("machine", "Those that a machine has results of, by id.")},
		orders:  lab.ConfigOrders(), limit: maxLimit, topics: toRuns,
		understand: func(r *reader) query[lab.Config] {
			machine := r.id("machine")
			return query[lab.Config]{machine: machine, read: func(ctx context.Context, v *lab.View, page lab.Page, _ ...string) ([]lab.Config, cursor.Key, error) {
				return v.Configs(ctx, machine, page)
			}}
		},
	}.route(n)
}

func (n *Native) branches() route.Route {
	return listing[lab.Branch]{
		path: "/branches", summary: "List the branches that have runs", access: route.LoopbackOrViewer, body: BranchesPage{},
		filters: []route.Param{idParam("machine", "Those that a machine has runs of, by id.")},
		orders:  lab.BranchOrders(), limit: maxLimit, topics: toRuns,
		understand: func(r *reader) query[lab.Branch] {
			machine := r.id("machine")
			return query[lab.Branch]{machine: machine, read: func(ctx context.Context, v *lab.View, page lab.Page, _ ...string) ([]lab.Branch, cursor.Key, error) {
				return v.Branches(ctx, machine, page)
			}}
		},
	}.route(n)
}

// descending puts the newest first.
func descending(orders []lab.Order) []lab.Order {
	slices.Reverse(orders)
	return orders
}

func (n *Native) deadLetters() route.Route {
	return listing[lab.DeadLetter]{
		path: "/dead-letters", summary: "List records of the log that could not be projected", access: route.TokenOperator, body: DeadLettersPage{},
		filters: []route.Param{
			textParam("topic", "Those of a topic."),
			{Name: "state", Enum: []string{lab.Open, lab.Requeued}, Description: "Those that were appended again, or the others."},
		},
		orders: descending(lab.LetterOrders()), limit: maxLimit, topics: []string{eventlog.DeadLetters},
		understand: func(r *reader) query[lab.DeadLetter] {
			filter := lab.LetterFilter{Topic: r.text("topic"), State: r.text("state")}
			return query[lab.DeadLetter]{read: func(ctx context.Context, v *lab.View, page lab.Page, _ ...string) ([]lab.DeadLetter, cursor.Key, error) {
				return v.DeadLetters(ctx, filter, page)
			}}
		},
	}.route(n)
}

func (n *Native) refusals() route.Route {
	return listing[lab.Refusal]{
		path: "/refused-uploads", summary: "List uploads that were turned away", access: route.TokenOperator, body: RefusalsPage{},
		filters: append([]route.Param{idParam("machine", "Those of a machine, by id.")}, rangeParams("time")...),
		orders:  descending(lab.RefusalOrders()), limit: maxLimit, topics: []string{eventlog.Results},
		understand: func(r *reader) query[lab.Refusal] {
			filter := lab.RefusalFilter{Machine: r.id("machine")}
			filter.From, filter.To = r.timeRange()
			return query[lab.Refusal]{read: func(ctx context.Context, v *lab.View, page lab.Page, _ ...string) ([]lab.Refusal, cursor.Key, error) {
				return v.Refusals(ctx, filter, page)
			}}
		},
	}.route(n)
}

// age is a length of time before now, in a request: 90d, 12h or 2w.
func age(text string) (time.Duration, bool) {
	if len(text) < 2 || len(text) > 6 {
		return 0, false
	}
	n := 0
	for _, digit := range text[:len(text)-1] {
		if digit < '0' || digit > '9' {
			return 0, false
		}
		n = 10*n + int(digit-'0')
	}
	unit, ok := map[byte]time.Duration{'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}[text[len(text)-1]]
	length := time.Duration(n) * unit
	return length, ok && n > 0 && length <= maxAge
}

// maxAge is the longest time that last may look back.
const maxAge = 100 * 365 * 24 * time.Hour
