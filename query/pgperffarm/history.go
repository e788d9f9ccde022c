package pgperffarm

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/millrace/millrace/schemas/route"
)

// historyRow is a combination of environment, branch, settings and configuration that a machine has results of (5.1.3).
type historyRow struct {
	MachineID     uint64         `json:"machine_id"`
	Alias         hole           `json:"alias"`
	Description   *hole          `json:"description"`
	AddTime       instantHole    `json:"add_time" doc:"of the machine"`
	MachineType   hole           `json:"machine_type"`
	Username      hole           `json:"username" doc:"of the owner"`
	Email         *hole          `json:"email" doc:"of the owner, for the owner and for staff"`
	URL           string         `json:"url" doc:"of the repository"`
	DistName      string         `json:"dist_name"`
	KernelName    string         `json:"kernel_name"`
	KernelRelease string         `json:"kernel_release"`
	KernelVersion string         `json:"kernel_version"`
	Release       string         `json:"release"`
	Codename      string         `json:"codename"`
	Compiler      string         `json:"compiler"`
	Name          string         `json:"name" doc:"branch"`
	RunID         uint64         `json:"run_id" doc:"the first run"`
	Count         uint64         `json:"count" doc:"results"`
	SettingsID    uint64         `json:"postgres_info_id"`
	Mounts        jsontext.Value `json:"mounts" doc:"array of objects"`
	Sysctl        jsontext.Value `json:"sysctl" doc:"object of strings, or one string"`
	HardwareID    uint64         `json:"hardware_info_id"`
	ConfigID      uint64         `json:"pgbench_benchmark_id"`
	Scale         int32          `json:"scale"`
	Duration      int32          `json:"duration" doc:"seconds"`
	ReadOnly      bool           `json:"read_only"`
	Clients       int32          `json:"clients"`
	CPUBrand      string         `json:"cpu_brand"`
	Hz            int64          `json:"hz"`
	CPUCores      int32          `json:"cpu_cores"`
	TotalMemory   int64          `json:"total_memory" doc:"bytes"`
	TotalSwap     int64          `json:"total_swap" doc:"bytes"`
}

func (f *Farm) history(c *gin.Context) (page, error) {
	machine, err := route.Int(c, "machine_id")
	if err != nil {
		return page{}, err
	}
	id := uint64(machine)
	return page{
		key: fmt.Sprintf("history/%d", id), newest: ofMachine(id), none: "[]", personal: true,
		write: func(ctx context.Context, q *reader, out *array) (time.Duration, error) {
			return 0, q.writeHistory(ctx, id, out)
		},
	}, nil
}

func (q *reader) writeHistory(ctx context.Context, machine uint64, out *array) error {
	known, err := q.hardwareOf(ctx, machine)
	if err != nil {
		return err
	}
	h := holes(machine)
	return q.each(ctx, `SELECT repository, dist_name, kernel_name, kernel_release, kernel_version, os_release, os_codename,
			compiler, branch, settings_id, hardware_id, config_id, min(run_id) AS first, count(),
			any(scale), any(duration), any(read_only), any(clients)
		FROM {db}.result_series FINAL
		WHERE machine_id = {machine:UInt64} AND NOT custom AND run_id <= {newest:UInt64}
		GROUP BY repository, dist_name, kernel_name, kernel_release, kernel_version, os_release, os_codename, compiler,
			branch, settings_id, hardware_id, config_id
		ORDER BY first DESC, config_id`, func(rows driver.Rows) error {
		row := historyRow{
			MachineID: machine, Alias: h.alias, Description: &h.description, AddTime: instantHole{h.addTime},
			MachineType: h.machineType, Username: h.username, Email: &h.email,
		}
		err := rows.Scan(&row.URL, &row.DistName, &row.KernelName, &row.KernelRelease, &row.KernelVersion, &row.Release,
			&row.Codename, &row.Compiler, &row.Name, &row.SettingsID, &row.HardwareID, &row.ConfigID, &row.RunID, &row.Count,
			&row.Scale, &row.Duration, &row.ReadOnly, &row.Clients)
		if err != nil {
			return err
		}
		hw := known[row.HardwareID]
		row.Mounts, row.Sysctl = hw.Mounts, hw.Sysctl
		row.CPUBrand, row.Hz, row.CPUCores = hw.CPUBrand, hw.Hz, hw.Cores
		row.TotalMemory, row.TotalSwap = hw.Memory, hw.Swap
		return out.add(&row)
	}, number("machine", machine))
}

// hardware is a computer's description, shared by all runs that report the same.
type hardware struct {
	CPUBrand         string
	Hz, Memory, Swap int64
	Cores            int32
	Mounts, Sysctl   jsontext.Value
}

// hardwareOf gives the hardware of a machine's pgbench results, by id.
func (q *reader) hardwareOf(ctx context.Context, machine uint64) (map[uint64]hardware, error) {
	known := map[uint64]hardware{}
	err := q.each(ctx, `SELECT hardware_id, cpu_brand, hz, cpu_cores, total_memory, total_swap, mounts, sysctl
		FROM {db}.hardware FINAL WHERE hardware_id IN
			(SELECT hardware_id FROM {db}.result_series WHERE machine_id = {machine:UInt64})`, func(rows driver.Rows) error {
		var id uint64
		hw, err := scanHardware(rows, &id)
		known[id] = hw
		return err
	}, number("machine", machine))
	return known, err
}

func scanHardware(rows driver.Rows, before ...any) (hw hardware, err error) {
	var mounts, sysctl string
	err = rows.Scan(append(before, &hw.CPUBrand, &hw.Hz, &hw.Cores, &hw.Memory, &hw.Swap, &mounts, &sysctl)...)
	hw.Mounts, hw.Sysctl = jsontext.Value(mounts), jsontext.Value(sysctl)
	return hw, err
}
