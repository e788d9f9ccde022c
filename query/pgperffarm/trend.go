package pgperffarm

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/schemas/route"
)

// trendRow is a commit on a branch, with statistics over all its results of a machine and configuration (5.1.5).
type trendRow struct {
	AvgTPS      float64   `json:"avgtps"`
	AvgLatency  float64   `json:"avglat" doc:"milliseconds"`
	StdTPS      *float64  `json:"stdtps" doc:"sample standard deviation, null for a single result"`
	StdLatency  *float64  `json:"stdlat" doc:"sample standard deviation, null for a single result"`
	MinTPS      float64   `json:"mintps"`
	MinLatency  float64   `json:"minlat"`
	MaxTPS      float64   `json:"maxtps"`
	MaxLatency  float64   `json:"maxlat"`
	AddTime     timestamp `json:"add_time" doc:"of the earliest run"`
	Count       int       `json:"count" doc:"results"`
	GitCommit   string    `json:"git_commit"`
	ConfigID    uint64    `json:"pgbench_benchmark_id"`
	Name        string    `json:"name" doc:"branch"`
	Scale       int32     `json:"scale"`
	Duration    int32     `json:"duration" doc:"seconds"`
	ReadOnly    bool      `json:"read_only"`
	Clients     int32     `json:"clients"`
	MachineID   uint64    `json:"machine_id"`
	Alias       hole      `json:"alias"`
	Description *hole     `json:"description"`
	MachineType hole      `json:"machine_type"`
	Username    hole      `json:"username" doc:"of the owner"`
	Email       *hole     `json:"email" doc:"of the owner, for the owner and for staff"`
	URL         string    `json:"url" doc:"of the repository"`
	DistName    string    `json:"dist_name"`
	KernelName  string    `json:"kernel_name"`
	Compiler    string    `json:"compiler"`
}

func (f *Farm) trend(c *gin.Context) (page, error) {
	machine, config, err := machineAndConfig(c)
	if err != nil {
		return page{}, err
	}
	return page{
		key: fmt.Sprintf("trend/%d/%d", machine, config), newest: ofMachine(machine), none: "[]", personal: true,
		write: func(ctx context.Context, q *reader, out *array) (time.Duration, error) {
			return 0, q.writeTrend(ctx, machine, config, out)
		},
	}, nil
}

func machineAndConfig(c *gin.Context) (machine, config uint64, err error) {
	m, err := route.Int(c, "machine_id")
	if err != nil {
		return 0, 0, err
	}
	b, err := route.Int(c, "benchmark_config_id")
	return uint64(m), uint64(b), err
}

// writeTrend has ClickHouse group the results and give each group's samples in the order of their ids, since the digits
// of a sum depend on the order of its terms.
func (q *reader) writeTrend(ctx context.Context, machine, config uint64, out *array) error {
	h := holes(machine)
	return q.each(ctx, `WITH arraySort(groupArray((result_id, tps, latency))) AS samples
		SELECT commit, branch, repository, min(add_time) AS added, min(dist_name), min(kernel_name), max(compiler),
			any(scale), any(duration), any(read_only), any(clients), arrayMap(s -> s.2, samples), arrayMap(s -> s.3, samples)
		FROM {db}.result_series FINAL
		WHERE machine_id = {machine:UInt64} AND config_id = {config:UInt64} AND NOT custom AND official
			AND run_id <= {newest:UInt64}
		GROUP BY commit, branch, repository
		ORDER BY added DESC, min(result_id) DESC`, func(rows driver.Rows) error {
		row := trendRow{
			ConfigID: config, MachineID: machine, Alias: h.alias, Description: &h.description,
			MachineType: h.machineType, Username: h.username, Email: &h.email,
		}
		var tps, latency []float64
		err := rows.Scan(&row.GitCommit, &row.Name, &row.URL, &row.AddTime.Time, &row.DistName, &row.KernelName, &row.Compiler,
			&row.Scale, &row.Duration, &row.ReadOnly, &row.Clients, &tps, &latency)
		if err != nil {
			return err
		}
		t, l := summarize(tps), summarize(latency)
		row.Count = len(tps)
		row.AvgTPS, row.StdTPS, row.MinTPS, row.MaxTPS = t.mean, t.deviation, t.min, t.max
		row.AvgLatency, row.StdLatency, row.MinLatency, row.MaxLatency = l.mean, l.deviation, l.min, l.max
		return out.add(&row)
	}, number("machine", machine), number("config", config))
}
