package pgperffarm

import (
	"context"
	"fmt"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/schemas/route"
)

// runRow is a run with its environment, settings and results (5.4.2).
type runRow struct {
	RunID         uint64         `json:"run_id"`
	AddTime       timestamp      `json:"add_time"`
	Branch        string         `json:"git_branch_id__name"`
	URL           string         `json:"git_branch_id__git_repo_id__url"`
	GitCommit     string         `json:"git_commit"`
	DistName      string         `json:"os_version_id__dist_id__dist_name"`
	OSDescription string         `json:"os_version_id__description"`
	Release       string         `json:"os_version_id__release"`
	Codename      string         `json:"os_version_id__codename"`
	KernelRelease string         `json:"os_kernel_version_id__kernel_release"`
	KernelVersion string         `json:"os_kernel_version_id__kernel_version"`
	KernelName    string         `json:"os_kernel_version_id__kernel_id__kernel_name"`
	Compiler      string         `json:"compiler_id__compiler"`
	MachineID     uint64         `json:"machine_id"`
	Alias         hole           `json:"machine_id__alias"`
	MachineType   hole           `json:"machine_id__machine_type"`
	Description   *hole          `json:"machine_id__description"`
	MachineAdded  instantHole    `json:"machine_id__add_time"`
	Username      hole           `json:"machine_id__owner_id__username"`
	SettingsID    uint64         `json:"postgres_info_id"`
	CPUBrand      string         `json:"hardware_info_id__cpu_brand"`
	Hz            int64          `json:"hardware_info_id__hz"`
	CPUCores      int32          `json:"hardware_info_id__cpu_cores"`
	TotalMemory   int64          `json:"hardware_info_id__total_memory" doc:"bytes"`
	TotalSwap     int64          `json:"hardware_info_id__total_swap" doc:"bytes"`
	Mounts        jsontext.Value `json:"hardware_info_id__mounts" doc:"array of objects"`
	Sysctl        jsontext.Value `json:"hardware_info_id__sysctl" doc:"object of strings, or one string"`
	Settings      []settingRow   `json:"postgres_info"`
	Results       []runResultRow `json:"pgbench_result"`
}

// settingRow is a PostgreSQL setting of a run.
type settingRow struct {
	ID     uint64 `json:"postgres_settings_id"`
	SetID  uint64 `json:"db_settings_id_id"`
	Name   string `json:"setting_name"`
	Source string `json:"setting_unit" doc:"where the value comes from"`
	Value  string `json:"setting_value"`
}

// runResultRow is a pgbench result of a run.
type runResultRow struct {
	ResultID  uint64       `json:"pgbench_result_id"`
	RunID     uint64       `json:"run_id_id"`
	ConfigID  uint64       `json:"benchmark_config_id"`
	TPS       float64      `json:"tps"`
	Mode      string       `json:"mode"`
	Latency   float64      `json:"latency" doc:"milliseconds"`
	Start     float64      `json:"start" doc:"Unix seconds"`
	End       float64      `json:"end" doc:"Unix seconds"`
	Iteration int32        `json:"iteration"`
	Init      float64      `json:"init" doc:"seconds"`
	Config    [1]configRow `json:"benchmark_config"`
}

func (f *Farm) run(c *gin.Context) (page, error) {
	run, err := route.Int(c, "run_id")
	if err != nil {
		return page{}, err
	}
	id := uint64(run)
	return page{
		key: fmt.Sprintf("run/%d", id), newest: ofRun(id), missing: errMissing("run", id),
		write: func(ctx context.Context, q *reader, out *array) (time.Duration, error) {
			return 0, f.writeRun(ctx, q, id, out)
		},
	}, nil
}

// runKey names a run in a generation of the projections.
type runKey struct {
	generation uint32
	run        uint64
}

// storedRun is what is read of a run. What it shares with others is read on its own.
type storedRun struct {
	row      runRow
	hardware uint64
}

// readRuns reads runs with their results. Each read costs milliseconds, whether of one run or of hundreds.
func (f *Farm) readRuns(ctx context.Context, keys []runKey) (map[runKey]*storedRun, error) {
	byGeneration := map[uint32][]uint64{}
	for _, key := range keys {
		byGeneration[key.generation] = append(byGeneration[key.generation], key.run)
	}
	found := make(map[runKey]*storedRun, len(keys))
	for generation, ids := range byGeneration {
		q := &reader{db: f.DB, generation: generation, cache: f.Cache}
		err := q.storedRuns(ctx, ids, found)
		if err == nil {
			err = q.runResults(ctx, ids, found)
		}
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

func (q *reader) storedRuns(ctx context.Context, ids []uint64, found map[runKey]*storedRun) error {
	return q.each(ctx, `SELECT run_id, add_time, branch, repository, commit, dist_name, os_description, os_release, os_codename,
			kernel_release, kernel_version, kernel_name, compiler, machine_id, settings_id, hardware_id
		FROM {db}.runs WHERE run_id IN {runs:Array(UInt64)} LIMIT 1 BY run_id`, func(rows driver.Rows) error {
		run := new(storedRun)
		row := &run.row
		err := rows.Scan(&row.RunID, &row.AddTime.Time, &row.Branch, &row.URL, &row.GitCommit, &row.DistName, &row.OSDescription,
			&row.Release, &row.Codename, &row.KernelRelease, &row.KernelVersion, &row.KernelName, &row.Compiler, &row.MachineID,
			&row.SettingsID, &run.hardware)
		found[runKey{q.generation, row.RunID}] = run
		return err
	}, ch.Named("runs", ids))
}

func (f *Farm) writeRun(ctx context.Context, q *reader, id uint64, out *array) error {
	run, err := f.runRows.Get(ctx, runKey{q.generation, id})
	if err != nil || run == nil {
		return err
	}
	row := run.row
	h := holes(row.MachineID)
	row.Alias, row.MachineType, row.Description = h.alias, h.machineType, &h.description
	row.MachineAdded, row.Username = instantHole{h.addTime}, h.username
	if err := q.runHardware(ctx, run.hardware, &row); err != nil {
		return err
	}
	if row.Settings, err = q.runSettings(ctx, row.SettingsID); err != nil {
		return err
	}
	return out.add(&row)
}

func (q *reader) runHardware(ctx context.Context, id uint64, row *runRow) error {
	hw, err := shared(ctx, q, fmt.Sprintf("hardware/%d", id), func(ctx context.Context) (known []hardware, err error) {
		err = q.each(ctx, `SELECT cpu_brand, hz, cpu_cores, total_memory, total_swap, mounts, sysctl
			FROM {db}.hardware FINAL WHERE hardware_id = {hardware:UInt64}`, func(rows driver.Rows) error {
			hw, err := scanHardware(rows)
			known = append(known, hw)
			return err
		}, number("hardware", id))
		return known, err
	})
	for _, hw := range hw {
		row.CPUBrand, row.Hz, row.CPUCores = hw.CPUBrand, hw.Hz, hw.Cores
		row.TotalMemory, row.TotalSwap, row.Mounts, row.Sysctl = hw.Memory, hw.Swap, hw.Mounts, hw.Sysctl
	}
	return err
}

func (q *reader) runSettings(ctx context.Context, set uint64) ([]settingRow, error) {
	return shared(ctx, q, fmt.Sprintf("settings/%d", set), func(ctx context.Context) (settings []settingRow, err error) {
		err = q.each(ctx, `SELECT ordinal, name, source, value FROM {db}.settings
			WHERE settings_id = {set:UInt64} ORDER BY ordinal LIMIT 1 BY ordinal`, func(rows driver.Rows) error {
			var ordinal uint32
			row := settingRow{SetID: set}
			err := rows.Scan(&ordinal, &row.Name, &row.Source, &row.Value)
			row.ID = projection.RowID(set, int(ordinal))
			settings = append(settings, row)
			return err
		}, number("set", set))
		return settings, err
	})
}

// runResults adds results to the runs that were found. The key's condition finds the granules.
func (q *reader) runResults(ctx context.Context, ids []uint64, found map[runKey]*storedRun) error {
	return q.each(ctx, `SELECT result_id, run_id, config_id, tps, mode, latency, start, end, iteration, init, clients, scale,
			duration, read_only
		FROM {db}.results WHERE intDiv(result_id, 1024) IN {runs:Array(UInt64)}
		ORDER BY result_id LIMIT 1 BY result_id`, func(rows driver.Rows) error {
		var row runResultRow
		config := &row.Config[0]
		err := rows.Scan(&row.ResultID, &row.RunID, &row.ConfigID, &row.TPS, &row.Mode, &row.Latency, &row.Start, &row.End,
			&row.Iteration, &row.Init, &config.Clients, &config.Scale, &config.Duration, &config.ReadOnly)
		config.ConfigID = row.ConfigID
		if run := found[runKey{q.generation, row.RunID}]; run != nil {
			run.row.Results = append(run.row.Results, row)
		}
		return err
	}, ch.Named("runs", ids))
}
