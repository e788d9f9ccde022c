package pgperffarm

import (
	"context"
	"time"

	"github.com/gin-gonic/gin"
)

// overviewRow are counters of the whole farm (5.1.1).
type overviewRow struct {
	LastRun          uint64    `json:"last_run" doc:"highest run with pgbench results"`
	LastRunTime      timestamp `json:"last_run_time"`
	Runs             uint64    `json:"runs" doc:"runs with pgbench results"`
	OSCount          uint64    `json:"os_count"`
	ResultsCount     uint64    `json:"results_count"`
	Configs          uint64    `json:"configs"`
	Branches         uint64    `json:"branches"`
	Repos            uint64    `json:"repos"`
	MachinesCount    countHole `json:"machines_count"`
	Users            countHole `json:"users" doc:"owners of machines"`
	RecentRuns       uint64    `json:"recent_runs" doc:"runs of any kind in the last month"`
	LastMachineID    uint64    `json:"last_machine_id"`
	LastMachineAlias hole      `json:"last_machine_alias"`
	MachineID        uint64    `json:"machine_id_id" doc:"with pgbench_benchmark_id the pair that has most results"`
	ConfigID         uint64    `json:"pgbench_benchmark_id"`
	Count            uint64    `json:"count"`
	Scale            int32     `json:"scale"`
	Clients          int32     `json:"clients"`
	Duration         int32     `json:"duration" doc:"seconds"`
	ReadOnly         bool      `json:"read_only"`
}

// overviewAge is how long an overview stays right: runs leave the last month as time passes.
const overviewAge = time.Minute

func (f *Farm) overview(*gin.Context) (page, error) {
	return page{key: "overview", newest: everything, none: "[{}]", write: f.writeOverview}, nil
}

func (f *Farm) writeOverview(ctx context.Context, q *reader, out *array) (time.Duration, error) {
	now := f.Now()
	row := overviewRow{MachinesCount: countHole{hole{kind: holeMachines}}, Users: countHole{hole{kind: holeOwners}}}
	if err := q.totals(ctx, &row); err != nil {
		return 0, err
	}
	if row.ResultsCount == 0 {
		return overviewAge, out.add(&struct{}{})
	}
	if err := q.mostResults(ctx, &row); err != nil {
		return 0, err
	}
	_, err := q.one(ctx, `SELECT uniqExact(run_id) FROM {db}.runs
		WHERE run_id <= {newest:UInt64} AND toUnixTimestamp64Milli(add_time) >= {since:UInt64}`,
		[]any{&row.RecentRuns}, number("since", uint64(monthBefore(now).UnixMilli())))
	if err != nil {
		return 0, err
	}
	_, err = q.one(ctx, `SELECT machine_id FROM {db}.runs WHERE run_id <= {newest:UInt64} ORDER BY run_id DESC LIMIT 1`,
		[]any{&row.LastMachineID})
	if err != nil {
		return 0, err
	}
	row.LastMachineAlias = holes(row.LastMachineID).alias
	return overviewAge, out.add(&row)
}

// totals counts what has pgbench results; custom scripts are not compared with others and count nowhere (6.4).
func (q *reader) totals(ctx context.Context, row *overviewRow) error {
	_, err := q.one(ctx, `SELECT max(run_id), max(add_time), uniqExact(run_id), uniqExact(dist_name), count(),
			uniqExact(config_id), uniqExact(branch), uniqExact(repository)
		FROM {db}.result_series FINAL WHERE NOT custom AND run_id <= {newest:UInt64}`,
		[]any{&row.LastRun, &row.LastRunTime.Time, &row.Runs, &row.OSCount, &row.ResultsCount,
			&row.Configs, &row.Branches, &row.Repos})
	return err
}

func (q *reader) mostResults(ctx context.Context, row *overviewRow) error {
	_, err := q.one(ctx, `SELECT machine_id, config_id, count() AS results, any(scale), any(clients), any(duration), any(read_only)
		FROM {db}.result_series FINAL WHERE NOT custom AND run_id <= {newest:UInt64}
		GROUP BY machine_id, config_id ORDER BY results DESC, config_id, machine_id LIMIT 1`,
		[]any{&row.MachineID, &row.ConfigID, &row.Count, &row.Scale, &row.Clients, &row.Duration, &row.ReadOnly})
	return err
}

// monthBefore is a calendar month earlier, on the last day of a month that is too short.
func monthBefore(t time.Time) time.Time {
	t = t.UTC()
	before := t.AddDate(0, -1, 0)
	if before.Day() != t.Day() {
		before = before.AddDate(0, 0, -before.Day()) // the month overflowed: back to its predecessor's last day
	}
	return before
}
