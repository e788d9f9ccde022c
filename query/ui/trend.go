package ui

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/query/native/fresh"
	"github.com/millrace/millrace/query/native/lab"
	"github.com/millrace/millrace/schemas/route"
)

const (
	// seriesShown is how many series of a machine one can pick from.
	seriesShown = 20_000
	// runsBehind is how many runs are listed behind a point.
	runsBehind = 200
)

func trendParams() []route.Param {
	text := func(name, description string) route.Param {
		return route.Param{Name: name, MaxLength: 1000, Description: description}
	}
	return []route.Param{
		{Name: "machine", Type: route.Integer, Description: "The machine's id."},
		text("config", "The configuration's id; one of TPC-H with tpch- before it."),
		{Name: "branch", Type: route.Integer, Description: "The branch's id."},
		text("metric", "The metric's name."),
		{Name: "last", Enum: rangeNames(), Description: "How far back; everything without it."},
		{Name: "resolution", Enum: lab.Resolutions(), Default: string(lab.Auto), Description: "What a point sums up."},
	}
}

func trendRunsParams() []route.Param {
	return append(trendParams()[:4],
		route.Param{Name: "from", Type: route.Time, Required: true, Description: "Start of the point."},
		route.Param{Name: "to", Type: route.Time, Required: true, Description: "End of the point."})
}

// ranges are how far back a trend can look.
var ranges = []struct {
	Name, Label string
	length      time.Duration
}{
	{"4w", "4 weeks", 28 * 24 * time.Hour},
	{"13w", "3 months", 91 * 24 * time.Hour},
	{"52w", "1 year", 364 * 24 * time.Hour},
}

func rangeNames() []string {
	var names []string
	for _, r := range ranges {
		names = append(names, r.Name)
	}
	return names
}

// option is an entry of a list to pick from.
type option struct {
	Value, Label string
	Chosen       bool
}

// optionGroup is a part of a list to pick from.
type optionGroup struct {
	Label   string
	Options []option
}

// trendData is what the trend page shows.
type trendData struct {
	Machines    []option
	Configs     []optionGroup
	Branches    []option
	Metrics     []optionGroup
	Ranges      []option
	Resolutions []option

	Series lab.Series
	// Found says that the series has samples.
	Found                   bool
	Machine, Config, Branch string
	Unit                    string
	Resolution              lab.Resolution
	Samples                 uint64
	Points                  []point
	// Sums says that points sum up several samples, and ByRun that each is of one run.
	Sums, ByRun bool
	// Refusal is why the trend is not shown.
	Refusal string
	// Missing is what the request names and the lab does not have.
	Missing []string
	Summary *summary
}

// point is a point of the chart and where it leads.
type point struct {
	lab.Point

	Href, When string
	// Commit is the one that the point's run measured; empty where a point is not one run.
	Commit string
}

// summary compares the newest point with those before.
type summary struct {
	Last, Best, Worst point
	Change            *float64
}

// asked is what a request for a trend names; zero fields are chosen for it.
type asked struct {
	machine, branch uint64
	config, metric  string
	last            string
	resolution      lab.Resolution
}

func readAsked(c *gin.Context) (a asked, err error) {
	fields := map[string]*uint64{"machine": &a.machine, "branch": &a.branch}
	for name, field := range fields {
		id, err := route.Int(c, name)
		if err != nil {
			return a, err
		}
		*field = uint64(id)
	}
	for name, field := range map[string]*string{"config": &a.config, "metric": &a.metric} {
		if *field, err = route.Text(c, name); err != nil {
			return a, err
		}
	}
	if _, ok := parseConfigKey(a.config); !ok && a.config != "" {
		return a, route.Errorf(http.StatusBadRequest, "query parameter config must be a configuration's id, such as 7 or tpch-1")
	}
	return a, nil
}

// configKey names a configuration in addresses.
func configKey(id uint64, metric string) string {
	if isTPCH(metric) {
		return "tpch-" + strconv.FormatUint(id, 10)
	}
	return strconv.FormatUint(id, 10)
}

func parseConfigKey(key string) (id uint64, ok bool) {
	id, err := strconv.ParseUint(strings.TrimPrefix(key, "tpch-"), 10, 63)
	return id, err == nil
}

func (u *UI) trend(c *gin.Context) (sight, error) {
	a, err := readAsked(c)
	if err != nil {
		return sight{}, err
	}
	if a.last, err = route.Text(c, "last"); err != nil {
		return sight{}, err
	}
	resolution, err := route.Text(c, "resolution")
	if err != nil {
		return sight{}, err
	}
	a.resolution = lab.Resolution(resolution)
	s := sight{scope: fresh.Scope{Topics: toSamples, Machine: a.machine}, template: "trend", tab: "trend"}
	q := lab.TrendQuery{Resolution: a.resolution, Points: lab.DefaultPoints, Summed: true}
	for _, r := range ranges {
		if r.Name == a.last {
			s.expires = minute(u.Now())
			q.From, q.To = s.expires.Add(-r.length), s.expires
		}
	}
	s.read = func(ctx context.Context, v *lab.View) (string, any, error) {
		data, err := readTrend(ctx, v, a, q)
		if err != nil {
			return "", nil, err
		}
		if !data.Found {
			return "Trend", data, nil
		}
		return metricTitle(data.Series.Metric) + " on " + data.Machine, data, nil
	}
	return s, nil
}

func readTrend(ctx context.Context, v *lab.View, a asked, q lab.TrendQuery) (*trendData, error) {
	machines, _, err := v.Machines(ctx, lab.MachineFilter{}, lab.Page{Order: lab.MachineOrders()[0], Limit: namesShown})
	if err != nil {
		return nil, err
	}
	d := &trendData{}
	if machines, err = withMachine(ctx, v, machines, a.machine); err != nil {
		return nil, err
	}
	a.machine = d.offerMachines(machines, a.machine)
	d.offerRanges(a)
	if a.machine == 0 {
		return d, nil
	}
	names, err := readNames(ctx, v, a.machine)
	if err != nil {
		return nil, err
	}
	series, _, err := v.Series(ctx, lab.SeriesFilter{Machine: a.machine, Rough: true}, lab.Page{Order: lab.SeriesOrders()[0], Limit: seriesShown})
	if err != nil || len(series) == 0 {
		return d, err
	}
	d.Series = pick(series, a)
	d.addMissing(a)
	d.offer(series, names)
	q.Series = d.Series
	return d, d.addTrend(ctx, v, q)
}

// withMachine adds a machine that is behind those that are offered, if there is one with the id.
func withMachine(ctx context.Context, v *lab.View, machines []lab.Machine, id uint64) ([]lab.Machine, error) {
	if len(machines) < namesShown || id == 0 || slices.ContainsFunc(machines, func(m lab.Machine) bool { return m.MachineID == id }) {
		return machines, nil
	}
	found, _, err := v.Machines(ctx, lab.MachineFilter{ID: id}, lab.Page{Order: lab.MachineOrders()[0], Limit: 1})
	return append(machines, found...), err
}

// addMissing names what was asked for and is not what is shown.
func (d *trendData) addMissing(a asked) {
	if a.config != "" && a.config != configKey(d.Series.ConfigID, d.Series.Metric) {
		d.Missing = append(d.Missing, "configuration "+clip(a.config, textShown))
	}
	if a.branch != 0 && a.branch != d.Series.BranchID {
		d.Missing = append(d.Missing, "branch "+strconv.FormatUint(a.branch, 10))
	}
	if a.metric != "" && a.metric != d.Series.Metric {
		d.Missing = append(d.Missing, "metric "+clip(a.metric, textShown))
	}
}

// addTrend reads the points.
func (d *trendData) addTrend(ctx context.Context, v *lab.View, q lab.TrendQuery) error {
	d.Found, d.Unit = true, unit(d.Series.Metric)
	trend, err := v.Trend(ctx, q)
	if tooMany, ok := errors.AsType[*lab.TooManyPoints](err); ok {
		d.Refusal = tooMany.Error()
		return nil
	}
	if err != nil {
		return err
	}
	d.Resolution, d.Samples = trend.Resolution, trend.Samples
	d.Points = make([]point, len(trend.Points))
	for i, p := range trend.Points {
		d.Points[i] = d.point(p)
		d.Sums = d.Sums || p.Count > 1
	}
	d.ByRun = d.Resolution == lab.Raw || d.Resolution == lab.PerRun
	if err := d.addCommits(ctx, v); err != nil {
		return err
	}
	d.Summary = summarize(d.Points)
	return nil
}

// commitsShown bounds the runs whose commits are looked up.
const commitsShown = 2000

// addCommits tells which commits the points' runs measured.
func (d *trendData) addCommits(ctx context.Context, v *lab.View) error {
	var ids []uint64
	for i := range d.Points {
		if id := d.Points[i].RunID; id != 0 && (len(ids) == 0 || ids[len(ids)-1] != id) {
			ids = append(ids, id)
		}
	}
	if !d.ByRun || len(ids) > commitsShown {
		return nil
	}
	runs, err := v.RunsByID(ctx, ids, "run_id", "commit")
	if err != nil {
		return err
	}
	commits := make(map[uint64]string, len(runs))
	for i := range runs {
		commits[runs[i].RunID] = runs[i].Commit
	}
	for i := range d.Points {
		d.Points[i].Commit = commits[d.Points[i].RunID]
	}
	return nil
}

// lengths are those of buckets.
var lengths = map[lab.Resolution]time.Duration{lab.Hour: time.Hour, lab.Day: 24 * time.Hour, lab.Week: 7 * 24 * time.Hour}

// point adds where a point leads: to its run, or to the list of its runs.
func (d *trendData) point(p lab.Point) point {
	shown := point{Point: p, When: moment(p.Time), Href: link("/ui/runs/" + strconv.FormatUint(p.RunID, 10))}
	if length := lengths[d.Resolution]; length > 0 {
		shown.Href = link("/ui/trend/runs", "machine", d.Series.MachineID, "config", configKey(d.Series.ConfigID, d.Series.Metric),
			"branch", d.Series.BranchID, "metric", d.Series.Metric, "from", p.Time.Unix(), "to", p.Time.Add(length).Unix())
	}
	switch d.Resolution {
	case lab.Day:
		shown.When = date(p.Time)
	case lab.Week:
		shown.When = "week of " + date(p.Time)
	case lab.Raw:
		shown.When = p.Time.Format("2 Jan 2006 15:04:05")
	}
	return shown
}

func summarize(points []point) *summary {
	if len(points) == 0 {
		return nil
	}
	s := &summary{Last: points[len(points)-1], Best: points[0], Worst: points[0]}
	means := make([]float64, len(points))
	for i, p := range points {
		means[i] = p.Mean
		if p.Mean > s.Best.Mean {
			s.Best = p
		}
		if p.Mean < s.Worst.Mean {
			s.Worst = p
		}
	}
	s.Change = change(means)
	return s
}

// offerMachines lists the machines to pick from, and gives the chosen one: the one asked for, else the first with runs.
func (d *trendData) offerMachines(machines []lab.Machine, wanted uint64) uint64 {
	chosen := slices.IndexFunc(machines, func(m lab.Machine) bool { return m.MachineID == wanted })
	if wanted == 0 {
		chosen = slices.IndexFunc(machines, func(m lab.Machine) bool { return m.Runs > 0 })
	}
	for i := range machines {
		d.Machines = append(d.Machines, option{strconv.FormatUint(machines[i].MachineID, 10), machines[i].Alias, i == chosen})
	}
	if chosen < 0 && wanted != 0 {
		id := strconv.FormatUint(wanted, 10)
		d.Missing = []string{"machine " + id}
		d.Machines = append(d.Machines, option{id, "machine " + id + ", not here", true})
	}
	if chosen < 0 {
		return 0
	}
	d.Machine = machines[chosen].Alias
	return machines[chosen].MachineID
}

func (d *trendData) offerRanges(a asked) {
	d.Ranges = []option{{"", "everything", a.last == ""}}
	for _, r := range ranges {
		d.Ranges = append(d.Ranges, option{r.Name, r.Label, r.Name == a.last})
	}
	labels := map[lab.Resolution]string{
		lab.Auto: "automatic", lab.Raw: "every sample", lab.PerRun: "run", lab.Hour: "hour", lab.Day: "day", lab.Week: "week",
	}
	for _, name := range lab.Resolutions() {
		r := lab.Resolution(name)
		d.Resolutions = append(d.Resolutions, option{name, labels[r], r == a.resolution})
	}
}

// pick gives the series asked for. Where it does not exist, the configuration matters most, then the branch, then the
// metric; what is not said is what most people look at first.
func pick(series []lab.SeriesCount, a asked) lab.Series {
	narrow := func(fits func(*lab.SeriesCount) bool) {
		var some []lab.SeriesCount
		for i := range series {
			if fits(&series[i]) {
				some = append(some, series[i])
			}
		}
		if len(some) > 0 {
			series = some
		}
	}
	narrow(func(s *lab.SeriesCount) bool { return configKey(s.ConfigID, s.Metric) == a.config })
	narrow(func(s *lab.SeriesCount) bool { return s.BranchID == a.branch })
	for _, metric := range append([]string{a.metric}, headlines...) {
		narrow(func(s *lab.SeriesCount) bool { return s.Metric == metric })
	}
	s := series[0]
	return lab.Series{MachineID: s.MachineID, ConfigID: s.ConfigID, BranchID: s.BranchID, Metric: s.Metric}
}

// offer lists what can be picked: the machine's configurations, the branches that have the one, and the metrics of both.
func (d *trendData) offer(series []lab.SeriesCount, n *names) {
	chosen := configKey(d.Series.ConfigID, d.Series.Metric)
	var configs, branches, metrics []string
	for i := range series {
		s := &series[i]
		key, branch := configKey(s.ConfigID, s.Metric), strconv.FormatUint(s.BranchID, 10)
		if !slices.Contains(configs, key) {
			configs = append(configs, key)
			d.addConfig(s, n, key == chosen)
		}
		if key != chosen {
			continue
		}
		if !slices.Contains(branches, branch) {
			branches = append(branches, branch)
			d.Branches = append(d.Branches, option{branch, n.branch(s.BranchID), s.BranchID == d.Series.BranchID})
		}
		if s.BranchID == d.Series.BranchID {
			metrics = append(metrics, s.Metric)
		}
	}
	d.Config, d.Branch = n.config(d.Series.ConfigID, d.Series.Metric), n.branch(d.Series.BranchID)
	d.Metrics = groupMetrics(metrics, d.Series.Metric)
}

func (d *trendData) addConfig(s *lab.SeriesCount, n *names, chosen bool) {
	benchmark := "pgbench"
	if isTPCH(s.Metric) {
		benchmark = "TPC-H"
	}
	entry := option{configKey(s.ConfigID, s.Metric), n.config(s.ConfigID, s.Metric), chosen}
	for i := range d.Configs {
		if d.Configs[i].Label == benchmark {
			d.Configs[i].Options = append(d.Configs[i].Options, entry)
			return
		}
	}
	d.Configs = append(d.Configs, optionGroup{benchmark, []option{entry}})
}

// metricGroups are the parts of the list of metrics, by how names begin; what fits none is in the last.
var metricGroups = []struct{ prefix, label string }{
	{"tps", "Result"}, {"latency", "Result"}, {"init", "Result"}, {"log.", "In each second"}, {"tpch.", "TPC-H"},
	{"custom.", "Custom scripts"}, {"collectd.", "System"}, {"", "Samples"},
}

// groupMetrics puts metrics into parts, in the order of these.
func groupMetrics(metrics []string, chosen string) []optionGroup {
	options := map[string][]option{}
	for _, metric := range metrics {
		for _, group := range metricGroups {
			if strings.HasPrefix(metric, group.prefix) {
				options[group.label] = append(options[group.label], option{metric, metricTitle(metric), metric == chosen})
				break
			}
		}
	}
	var groups []optionGroup
	for _, group := range metricGroups {
		if len(options[group.label]) > 0 {
			groups = append(groups, optionGroup{group.label, options[group.label]})
			delete(options, group.label)
		}
	}
	return groups
}

// trendRunsData is what the list of runs behind a point shows.
type trendRunsData struct {
	Machine, Config, Branch, Metric string
	From, To                        time.Time
	Trend                           string
	Lines                           []runLine
	More                            bool
}

func (u *UI) trendRuns(c *gin.Context) (sight, error) {
	a, err := readAsked(c)
	if err != nil {
		return sight{}, err
	}
	from, err := route.Instant(c, "from")
	if err != nil {
		return sight{}, err
	}
	to, err := route.Instant(c, "to")
	if err != nil {
		return sight{}, err
	}
	config, _ := parseConfigKey(a.config)
	of := lab.Series{MachineID: a.machine, ConfigID: config, BranchID: a.branch, Metric: a.metric}
	return sight{
		scope: fresh.Scope{Topics: toSamples, Machine: a.machine}, template: "trendruns", tab: "trend",
		read: func(ctx context.Context, v *lab.View) (string, any, error) {
			data, err := readTrendRuns(ctx, v, of, from, to)
			return "Runs behind a point", data, err
		},
	}, nil
}

func readTrendRuns(ctx context.Context, v *lab.View, of lab.Series, from, to time.Time) (*trendRunsData, error) {
	ids, err := v.RunsWithin(ctx, of, from, to, runsBehind+1)
	if err != nil {
		return nil, err
	}
	d := &trendRunsData{Metric: metricTitle(of.Metric), From: from, To: to, Trend: trendLink(of)}
	if d.More = len(ids) > runsBehind; d.More {
		ids = ids[:runsBehind]
	}
	runs, err := v.RunsByID(ctx, ids, runFields...)
	if err != nil {
		return nil, err
	}
	machines, _, err := v.Machines(ctx, lab.MachineFilter{ID: of.MachineID}, lab.Page{Order: lab.MachineOrders()[0], Limit: 1})
	if err != nil {
		return nil, err
	}
	names, err := readNames(ctx, v, of.MachineID)
	if err != nil {
		return nil, err
	}
	d.Config, d.Branch = names.config(of.ConfigID, of.Metric), names.branch(of.BranchID)
	aliases := map[uint64]string{}
	for i := range machines {
		d.Machine = machines[i].Alias
		aliases[machines[i].MachineID] = machines[i].Alias
	}
	d.Lines = lines(runs, aliases)
	return d, nil
}
