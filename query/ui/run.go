package ui

import (
	"context"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/query/native/fresh"
	"github.com/millrace/millrace/query/native/lab"
	"github.com/millrace/millrace/schemas/route"
)

// secondsShown bounds the seconds of a result that its chart shows.
const secondsShown = 5000

// runData is what a run's page shows.
type runData struct {
	*lab.RunDetail

	Alias string
	// Own are the settings that were not left at their defaults.
	Own     []lab.Setting
	Results []resultLine
	// Chosen is the result whose seconds are shown, nil when no result has any.
	Chosen  *resultLine
	Charts  []secondsChart
	TPCH    *lab.TPCH
	Trend   string
	Slowest float64
}

// resultLine is a result with where it leads.
type resultLine struct {
	lab.Result

	Config string
	Trend  string
	Chosen bool
}

// secondsChart is the course of a metric within a result.
type secondsChart struct {
	Title, Unit string
	Samples     []lab.Sample
}

func (u *UI) run(c *gin.Context) (sight, error) {
	id, err := route.Int(c, "id")
	if err != nil {
		return sight{}, err
	}
	chosen, err := route.Int(c, "result")
	if err != nil {
		return sight{}, err
	}
	return sight{
		scope: fresh.Scope{Topics: toRuns, Run: uint64(id)}, template: "run", tab: "overview",
		read: func(ctx context.Context, v *lab.View) (string, any, error) {
			detail, err := v.RunDetail(ctx, uint64(id))
			if err != nil {
				return "", nil, err
			}
			if detail == nil {
				return "", nil, route.Errorf(http.StatusNotFound, "there is no run %d", id)
			}
			data, err := readRun(ctx, v, detail, uint64(chosen))
			if err != nil {
				return "", nil, err
			}
			return plainNumber("Run ", uint64(id)), data, nil
		},
	}, nil
}

func readRun(ctx context.Context, v *lab.View, detail *lab.RunDetail, chosen uint64) (*runData, error) {
	d := &runData{RunDetail: detail, TPCH: detail.TPCH}
	machines, _, err := v.Machines(ctx, lab.MachineFilter{ID: detail.Run.MachineID}, lab.Page{Order: lab.MachineOrders()[0], Limit: 1})
	if err != nil {
		return nil, err
	}
	if len(machines) > 0 {
		d.Alias = machines[0].Alias
	}
	for _, s := range detail.Settings {
		if s.Source != "default" && s.Source != "override" {
			d.Own = append(d.Own, s)
		}
	}
	d.addTPCH()
	d.addResults(chosen)
	return d, d.addCharts(ctx, v)
}

func (d *runData) addTPCH() {
	if d.TPCH == nil {
		return
	}
	d.Trend = trendLink(lab.Series{MachineID: d.Run.MachineID, ConfigID: d.TPCH.ConfigID, BranchID: d.Run.BranchID, Metric: "tpch.composite"})
	for _, q := range d.TPCH.Queries {
		for _, s := range []*float64{q.Power, q.Throughput} {
			if s != nil {
				d.Slowest = max(d.Slowest, *s)
			}
		}
	}
}

func (d *runData) addResults(chosen uint64) {
	d.Results = make([]resultLine, len(d.RunDetail.Results))
	for i := range d.Results {
		r := d.RunDetail.Results[i]
		metric := "tps"
		if r.Custom {
			metric = "custom.tps"
		}
		d.Results[i] = resultLine{
			Result: r, Config: pgbenchLabel(r.Clients, r.Scale, r.Duration, r.ReadOnly),
			Trend: trendLink(lab.Series{MachineID: r.MachineID, ConfigID: r.ConfigID, BranchID: r.BranchID, Metric: metric}),
		}
		if r.ResultID == chosen || chosen == 0 && i == 0 {
			d.Results[i].Chosen = true
			d.Chosen = &d.Results[i]
		}
	}
}

// addCharts reads the seconds of the chosen result.
func (d *runData) addCharts(ctx context.Context, v *lab.View) error {
	if d.Chosen == nil {
		return nil
	}
	r := &d.Chosen.Result
	prefix := "log."
	if r.Custom {
		prefix = "custom.log."
	}
	start := time.Unix(int64(r.Start), 0)
	for _, name := range []string{"tps", "latency"} {
		filter := lab.SampleFilter{
			Series: lab.Series{MachineID: r.MachineID, ConfigID: r.ConfigID, BranchID: r.BranchID, Metric: prefix + name},
			Result: r.ResultID, From: start.Add(-time.Hour), To: start.Add(time.Duration(r.Duration)*time.Second + 2*time.Hour),
		}
		samples, _, err := v.Samples(ctx, filter, lab.Page{Order: lab.SampleOrders()[0], Limit: secondsShown}, "time", "value")
		if err != nil {
			return err
		}
		if len(samples) > 1 {
			d.Charts = append(d.Charts, secondsChart{Title: metricTitle(prefix + name), Unit: unit(prefix + name), Samples: samples})
		}
	}
	return nil
}
