package pgperffarm

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/schemas/route"
)

// commitRow is a result behind a point of a trend (5.1.6).
type commitRow struct {
	RunID    uint64    `json:"run_id"`
	ResultID uint64    `json:"pgbench_result_id"`
	AddTime  timestamp `json:"add_time" doc:"of the run"`
}

func (f *Farm) commitResults(c *gin.Context) (page, error) {
	machine, config, err := machineAndConfig(c)
	if err != nil {
		return page{}, err
	}
	commit, err := route.Text(c, "git_commit")
	if err != nil {
		return page{}, err
	}
	return page{
		key: fmt.Sprintf("commit/%d/%d/%s", machine, config, commit), newest: ofMachine(machine), none: "[]",
		write: func(ctx context.Context, q *reader, out *array) (time.Duration, error) {
			return 0, q.writeCommitResults(ctx, machine, config, commit, out)
		},
	}, nil
}

// writeCommitResults looks among the results of one machine and configuration, which stand together (weakness W23), and
// takes the text to the letter.
func (q *reader) writeCommitResults(ctx context.Context, machine, config uint64, commit string, out *array) error {
	return q.each(ctx, `SELECT run_id, result_id, add_time FROM {db}.result_series FINAL
		WHERE machine_id = {machine:UInt64} AND config_id = {config:UInt64} AND NOT custom AND official
			AND endsWith(commit, {commit:String}) AND run_id <= {newest:UInt64}
		ORDER BY add_time, result_id`, func(rows driver.Rows) error {
		var row commitRow
		if err := rows.Scan(&row.RunID, &row.ResultID, &row.AddTime.Time); err != nil {
			return err
		}
		return out.add(&row)
	}, number("machine", machine), number("config", config), text("commit", commit))
}

// configRow is a pgbench configuration.
type configRow struct {
	ConfigID uint64 `json:"pgbench_benchmark_id"`
	Clients  int32  `json:"clients"`
	Scale    int32  `json:"scale"`
	Duration int32  `json:"duration" doc:"seconds"`
	ReadOnly bool   `json:"read_only"`
}

// resultRow is a pgbench result with everything that was measured (5.1.7).
type resultRow struct {
	ResultID       uint64         `json:"pgbench_result_id"`
	TPS            float64        `json:"tps"`
	Latency        float64        `json:"latency" doc:"milliseconds"`
	Start          float64        `json:"start" doc:"Unix seconds"`
	End            float64        `json:"end" doc:"Unix seconds"`
	Init           float64        `json:"init" doc:"seconds"`
	Mode           string         `json:"mode"`
	Iteration      int32          `json:"iteration"`
	Config         [1]configRow   `json:"benchmark_config"`
	RunID          uint64         `json:"run_id_id"`
	MachineID      uint64         `json:"run_id_id__machine_id"`
	MachineType    hole           `json:"run_id_id__machine_id__machine_type"`
	Alias          hole           `json:"run_id_id__machine_id__alias"`
	DistName       string         `json:"run_id_id__os_version_id__dist_id_id__dist_name"`
	Release        string         `json:"run_id_id__os_version_id__release"`
	Branch         string         `json:"run_id_id__git_branch_id__name"`
	GitCommit      string         `json:"run_id_id__git_commit"`
	KernelName     string         `json:"run_id_id__os_kernel_version_id_id__kernel_id__kernel_name"`
	KernelRelease  string         `json:"run_id_id__os_kernel_version_id__kernel_release"`
	Log            jsontext.Value `json:"pgbench_log" doc:"array: one row per second and pgbench thread"`
	Statements     jsontext.Value `json:"pgbench_run_statement" doc:"array: average latency of each statement"`
	StatStatements jsontext.Value `json:"pg_stat_statements" doc:"array: rows of that view"`
	Collectd       jsontext.Value `json:"collectd" doc:"object of ten arrays: what collectd measured"`
}

func (f *Farm) result(c *gin.Context) (page, error) {
	result, err := route.Int(c, "pgbench_result_id")
	if err != nil {
		return page{}, err
	}
	id := uint64(result)
	return page{
		key: fmt.Sprintf("result/%d", id), newest: ofRun(id / projection.ResultID(1, 0)), missing: errMissing("result", id),
		write: func(ctx context.Context, q *reader, out *array) (time.Duration, error) {
			return 0, q.writeResult(ctx, id, out)
		},
	}, nil
}

func (q *reader) writeResult(ctx context.Context, id uint64, out *array) error {
	row := resultRow{ResultID: id}
	config := &row.Config[0]
	var log, statements, statStatements, collectd string
	found, err := q.one(ctx, `SELECT run_id, machine_id, tps, latency, start, end, init, mode, iteration,
			config_id, clients, scale, duration, read_only, log, statements, stat_statements, collectd
		FROM {db}.results WHERE result_id = {result:UInt64} LIMIT 1`,
		[]any{&row.RunID, &row.MachineID, &row.TPS, &row.Latency, &row.Start, &row.End, &row.Init, &row.Mode, &row.Iteration,
			&config.ConfigID, &config.Clients, &config.Scale, &config.Duration, &config.ReadOnly,
			&log, &statements, &statStatements, &collectd}, number("result", id))
	if err != nil || !found {
		return err
	}
	found, err = q.one(ctx, `SELECT dist_name, os_release, branch, commit, kernel_name, kernel_release
		FROM {db}.runs WHERE run_id = {run:UInt64} LIMIT 1`,
		[]any{&row.DistName, &row.Release, &row.Branch, &row.GitCommit, &row.KernelName, &row.KernelRelease}, number("run", row.RunID))
	if err != nil || !found {
		return err
	}
	h := holes(row.MachineID)
	row.MachineType, row.Alias = h.machineType, h.alias
	row.Log, row.Statements = jsontext.Value(log), jsontext.Value(statements)
	row.StatStatements, row.Collectd = jsontext.Value(statStatements), jsontext.Value(collectd)
	return out.add(&row)
}
