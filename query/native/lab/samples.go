package lab

import (
	"context"
	"slices"
	"time"

	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/query/native/cursor"
)

// Series names a series of samples: what was measured on a machine in a configuration of a branch.
type Series struct {
	MachineID uint64 `json:"machine_id" ch:"machine_id"`
	ConfigID  uint64 `json:"config_id" ch:"config_id" doc:"of pgbench, or of TPC-H where the metric's name begins with tpch."`
	BranchID  uint64 `json:"branch_id" ch:"branch_id"`
	Metric    string `json:"metric" ch:"metric"`
}

func (s *Series) where() (w where) {
	w.and("machine_id = ?", s.MachineID)
	w.and("config_id = ?", s.ConfigID)
	w.and("branch_id = ?", s.BranchID)
	w.and("metric = ?", s.Metric)
	return w
}

// Sample is a measured value.
type Sample struct {
	Time     time.Time `json:"time" ch:"ts"`
	Value    float64   `json:"value" ch:"value"`
	RunID    uint64    `json:"run_id" ch:"run_id"`
	ResultID uint64    `json:"result_id" ch:"result_id" doc:"0 when it belongs to the run as a whole"`
	EventID  string    `json:"event_id" ch:"event_id" doc:"id of the event that brought it"`
	Ordinal  uint32    `json:"ordinal" ch:"ordinal" doc:"its place in that event"`
}

var sampleTime = column{"ts", millis}

// SampleOrders are the orders of samples: by time, as the table is stored.
func SampleOrders() []Order {
	return both("time", sampleTime, column{"event_id", identifier}, column{"ordinal", unsigned})
}

// SampleFilter says which samples of a series are wanted; a zero field wants all.
type SampleFilter struct {
	Series      Series
	Run, Result uint64
	From, To    time.Time
}

// Samples reads a page of a series' samples with the fields that are named (as in JSON; all when there are none).
func (v *View) Samples(ctx context.Context, filter SampleFilter, page Page, fields ...string) ([]Sample, cursor.Key, error) {
	s := selection{
		columns: columnsOf[Sample](fields, "ts", "event_id", "ordinal"), from: "{db}.metrics", where: filter.Series.where(),
	}
	equal(&s.where, "run_id", filter.Run)
	equal(&s.where, "result_id", filter.Result)
	s.where.since(sampleTime, filter.From, filter.To)
	return list(ctx, v, "samples", s, page, func(m *Sample) cursor.Key {
		return cursor.Key{{Number: uint64(m.Time.UnixMilli())}, {Text: m.EventID}, {Number: uint64(m.Ordinal)}}
	})
}

// SeriesCount is a series and how many samples it has.
type SeriesCount struct {
	MachineID uint64 `json:"machine_id" ch:"machine_id"`
	ConfigID  uint64 `json:"config_id" ch:"config_id" doc:"of pgbench, or of TPC-H where the metric's name begins with tpch."`
	BranchID  uint64 `json:"branch_id" ch:"branch_id"`
	Metric    string `json:"metric" ch:"metric"`
	Samples   uint64 `json:"samples" ch:"samples"`
}

// SeriesOrders are the orders of series: as their samples are stored.
func SeriesOrders() []Order {
	return both("series", column{"machine_id", unsigned}, column{"config_id", unsigned}, column{"branch_id", unsigned},
		column{"metric", text})[:1]
}

// SeriesFilter says which series are wanted; a zero field wants all.
type SeriesFilter struct {
	Machine, Config, Branch uint64
	// Prefix is how the metric's name begins.
	Prefix string
	// Rough is content with counts that a flood of samples has run ahead of.
	Rough bool
}

func (f *SeriesFilter) where() (w where) {
	equal(&w, "machine_id", f.Machine)
	equal(&w, "config_id", f.Config)
	equal(&w, "branch_id", f.Branch)
	if f.Prefix != "" {
		w.and("startsWith(metric, ?)", f.Prefix)
	}
	return w
}

// Series reads a page of the series that have samples. They are counted by the weeks of their trends, of which there are
// few; weeks that the processor has postponed are recomputed first.
func (v *View) Series(ctx context.Context, filter SeriesFilter, page Page) ([]SeriesCount, cursor.Key, error) {
	series, next, err := v.listSeries(ctx, filter, page)
	if err != nil || filter.Rough {
		return series, next, err
	}
	settled, err := v.settle(ctx, filter, series)
	if err != nil || !settled {
		return series, next, err
	}
	return v.listSeries(ctx, filter, page)
}

func (v *View) listSeries(ctx context.Context, filter SeriesFilter, page Page) ([]SeriesCount, cursor.Key, error) {
	const key = "machine_id, config_id, branch_id, metric"
	s := selection{columns: []string{key, "sum(count) AS samples"}, from: "{db}.trend_buckets FINAL", where: filter.where(), group: key}
	s.where.and("resolution = ?", projection.Week)
	return list(ctx, v, "series", s, page, func(c *SeriesCount) cursor.Key {
		return cursor.Key{{Number: c.MachineID}, {Number: c.ConfigID}, {Number: c.BranchID}, {Text: c.Metric}}
	})
}

// settle recomputes what is postponed of some series, and tells whether there was any.
func (v *View) settle(ctx context.Context, filter SeriesFilter, series []SeriesCount) (settled bool, err error) {
	w := filter.where()
	text := "SELECT DISTINCT machine_id, config_id, branch_id, metric\nFROM {db}.postponed_trends" + w.sql()
	postponed, err := scan[Series](ctx, v, "postponed trends", in(v.database, text), w.values...)
	for _, p := range postponed {
		if slices.ContainsFunc(series, func(s SeriesCount) bool {
			return Series{s.MachineID, s.ConfigID, s.BranchID, s.Metric} == p
		}) {
			if err := v.settleSeries(ctx, p); err != nil {
				return settled, err
			}
			settled = true
		}
	}
	return settled, err
}

// settleSeries recomputes what is postponed of a series.
func (v *View) settleSeries(ctx context.Context, s Series) error {
	err := v.writer.SettleSeries(ctx, projection.Series{Machine: s.MachineID, Config: s.ConfigID, Branch: s.BranchID, Metric: s.Metric})
	if err != nil {
		return fault(ctx, "trends that were postponed", err)
	}
	return nil
}

// RunsWithin lists the runs that gave a series samples in a time range, newest first, at most limit of them.
func (v *View) RunsWithin(ctx context.Context, of Series, from, to time.Time, limit int) ([]uint64, error) {
	w := of.where()
	w.since(sampleTime, from, to)
	text := "SELECT DISTINCT run_id\nFROM {db}.metrics" + w.sql() + "\nORDER BY run_id DESC\nLIMIT ?"
	rows, err := scan[runKey](ctx, v, "the runs of a series", in(v.database, text), append(w.values, limit)...)
	ids := make([]uint64, len(rows))
	for i := range rows {
		ids[i] = rows[i].RunID
	}
	return ids, err
}
