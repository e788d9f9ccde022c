package lab

import (
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/query/native/cursor"
)

// Result is one pgbench invocation of a run.
type Result struct {
	ResultID   uint64    `json:"result_id" ch:"result_id" doc:"run_id * 1024 + its place in the run, from 1"`
	RunID      uint64    `json:"run_id" ch:"run_id"`
	MachineID  uint64    `json:"machine_id" ch:"machine_id"`
	ConfigID   uint64    `json:"config_id" ch:"config_id"`
	AddTime    time.Time `json:"add_time" ch:"add_time" doc:"when the log took the run"`
	Custom     bool      `json:"custom" ch:"custom" doc:"it ran scripts of its own, which cannot be compared"`
	Official   bool      `json:"official" ch:"official" doc:"the repository is PostgreSQL's own"`
	Repository string    `json:"repository" ch:"repository" doc:"URL"`
	BranchID   uint64    `json:"branch_id" ch:"branch_id"`
	Branch     string    `json:"branch" ch:"branch"`
	Commit     string    `json:"commit" ch:"commit"`
	Clients    int32     `json:"clients" ch:"clients"`
	Scale      int32     `json:"scale" ch:"scale"`
	Duration   int32     `json:"duration" ch:"duration" doc:"seconds"`
	ReadOnly   bool      `json:"read_only" ch:"read_only"`
	TPS        float64   `json:"tps" ch:"tps" doc:"transactions a second"`
	Latency    float64   `json:"latency" ch:"latency" doc:"mean latency of a transaction, ms"`
	Mode       string    `json:"mode" ch:"mode" doc:"query mode: simple, extended or prepared"`
	Start      float64   `json:"start" ch:"start" doc:"Unix seconds"`
	End        float64   `json:"end" ch:"end" doc:"Unix seconds"`
	Iteration  int32     `json:"iteration" ch:"iteration"`
	Init       float64   `json:"init" ch:"init" doc:"seconds that it took to fill the tables"`
}

// wideColumns are those that table results has alone; the others are in result_series, in the orders that lists have.
var wideColumns = []string{"mode", "start", "end", "iteration", "init"}

var (
	resultID = column{"result_id", unsigned}
	tps      = column{"tps", float}
	latency  = column{"latency", float}
)

// ResultOrders are the orders of results: by id, which is the order in which they came (add_time); and by what they
// measured, for which all results of the machine's configuration are compared.
func ResultOrders() []Order {
	orders := append(both("result_id", resultID), both("add_time", resultID)...)
	orders = append(orders, both("tps", tps, resultID)...)
	return append(orders, both("latency", latency, resultID)...)
}

// Compares says whether the order compares what results measured: it is offered within a machine's configuration only.
func (o Order) Compares() bool { return o.columns[0] == tps || o.columns[0] == latency }

// ResultFilter says which results are wanted; a zero field wants all.
type ResultFilter struct {
	Machine, Config  uint64
	Branch           uint64
	BranchName       string
	Commit           string
	Run              uint64
	Official, Custom *bool
	// From and To bound the add time.
	From, To time.Time
}

func (f *ResultFilter) where() where {
	var w where
	equal(&w, "machine_id", f.Machine)
	equal(&w, "config_id", f.Config)
	equal(&w, "branch_id", f.Branch)
	equal(&w, "branch", f.BranchName)
	equal(&w, "commit", f.Commit)
	if f.Run != 0 {
		w.and("result_id BETWEEN ? AND ?", projection.ResultID(f.Run, 0), projection.ResultID(f.Run+1, 0)-1)
	}
	w.is("official", f.Official)
	w.is("custom", f.Custom)
	w.since(addTime, f.From, f.To)
	return w
}

// Results reads a page of results with the fields that are named (as in JSON; all when there are none).
func (v *View) Results(ctx context.Context, filter ResultFilter, page Page, fields ...string) ([]Result, cursor.Key, error) {
	columns := columnsOf[Result](fields, "result_id", "tps", "latency")
	isWide := func(name string) bool { return slices.Contains(wideColumns, name) }
	narrow := slices.DeleteFunc(slices.Clone(columns), isWide)
	s := selection{columns: narrow, from: "{db}.result_series", where: filter.where()}
	results, next, err := list(ctx, v, "results", s, page, page.Order.ofResult)
	if err != nil || len(narrow) == len(columns) {
		return results, next, err
	}
	ids := make([]uint64, len(results))
	for i := range results {
		ids[i] = results[i].ResultID
	}
	wide := append([]string{"result_id"}, slices.DeleteFunc(columns, func(name string) bool { return !isWide(name) })...)
	rest, err := byID(ctx, v, "results", "result_id", ids, func(r *Result) uint64 { return r.ResultID }, wide)
	for i := range results {
		r, w := &results[i], rest[results[i].ResultID]
		r.Mode, r.Start, r.End, r.Iteration, r.Init = w.Mode, w.Start, w.End, w.Iteration, w.Init
	}
	return results, next, err
}

func (o Order) ofResult(r *Result) cursor.Key {
	switch o.columns[0] {
	case tps:
		return cursor.Key{{Number: math.Float64bits(r.TPS)}, {Number: r.ResultID}}
	case latency:
		return cursor.Key{{Number: math.Float64bits(r.Latency)}, {Number: r.ResultID}}
	}
	return cursor.Key{{Number: r.ResultID}}
}

// TPCH is the result of a TPC-H run.
type TPCH struct {
	ConfigID    uint64      `json:"config_id"`
	ScaleFactor float64     `json:"scale_factor"`
	Streams     int32       `json:"streams"`
	Power       float64     `json:"power"`
	Throughput  float64     `json:"throughput"`
	Composite   float64     `json:"composite"`
	Queries     []TPCHQuery `json:"queries"`
}

// TPCHQuery is how long one of the 22 queries took, in seconds; null where it was not measured.
type TPCHQuery struct {
	Query      uint8    `json:"query"`
	Power      *float64 `json:"power"`
	Throughput *float64 `json:"throughput"`
}

// tpchRow is a row of tpch_results.
type tpchRow struct {
	ConfigID    uint64     `ch:"config_id"`
	ScaleFactor float64    `ch:"scale_factor"`
	Streams     int32      `ch:"streams"`
	Power       float64    `ch:"power_score"`
	Throughput  float64    `ch:"throughput_score"`
	Composite   float64    `ch:"composite_score"`
	Index       []uint8    `ch:"query_idx"`
	Powers      []*float64 `ch:"power"`
	Throughputs []*float64 `ch:"throughput"`
}

// TPCH reads the TPC-H result of a run, nil when it has none.
func (v *View) TPCH(ctx context.Context, machine, run uint64) (*TPCH, error) {
	text := "SELECT " + strings.Join(columnsOf[tpchRow](nil), ", ") + "\nFROM {db}.tpch_results\nWHERE machine_id = ? AND run_id = ?\nLIMIT 1"
	rows, err := scan[tpchRow](ctx, v, "a TPC-H result", in(v.database, text), machine, run)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	r := &rows[0]
	found := &TPCH{
		ConfigID: r.ConfigID, ScaleFactor: r.ScaleFactor, Streams: r.Streams, Power: r.Power, Throughput: r.Throughput,
		Composite: r.Composite, Queries: make([]TPCHQuery, len(r.Index)),
	}
	for i := range r.Index {
		found.Queries[i] = TPCHQuery{r.Index[i], r.Powers[i], r.Throughputs[i]}
	}
	return found, nil
}
