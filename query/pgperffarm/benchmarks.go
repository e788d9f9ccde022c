package pgperffarm

import (
	"context"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/gin-gonic/gin"
)

// benchmarkRow is a machine with a configuration that it has results of (5.1.2).
type benchmarkRow struct {
	ConfigID    uint64      `json:"pgbench_benchmark_id"`
	Scale       int32       `json:"scale"`
	Duration    int32       `json:"duration" doc:"seconds"`
	ReadOnly    bool        `json:"read_only"`
	Clients     int32       `json:"clients"`
	MachineID   uint64      `json:"machine_id"`
	Alias       hole        `json:"alias"`
	Description *hole       `json:"description"`
	AddTime     instantHole `json:"add_time" doc:"of the machine"`
	MachineType hole        `json:"machine_type"`
	Username    hole        `json:"username" doc:"of the owner"`
	Count       uint64      `json:"count" doc:"results"`
}

func (f *Farm) benchmarks(*gin.Context) (page, error) {
	return page{key: "benchmarks", newest: everything, none: "[]", write: writeBenchmarks}, nil
}

func writeBenchmarks(ctx context.Context, q *reader, out *array) (time.Duration, error) {
	return 0, q.each(ctx, `SELECT config_id, any(scale), any(duration), any(read_only), any(clients), machine_id, count()
		FROM {db}.result_series FINAL WHERE NOT custom AND run_id <= {newest:UInt64}
		GROUP BY config_id, machine_id ORDER BY config_id, machine_id`, func(rows driver.Rows) error {
		var row benchmarkRow
		err := rows.Scan(&row.ConfigID, &row.Scale, &row.Duration, &row.ReadOnly, &row.Clients, &row.MachineID, &row.Count)
		if err != nil {
			return err
		}
		h := holes(row.MachineID)
		row.Alias, row.Description, row.AddTime = h.alias, &h.description, instantHole{h.addTime}
		row.MachineType, row.Username = h.machineType, h.username
		return out.add(&row)
	})
}
