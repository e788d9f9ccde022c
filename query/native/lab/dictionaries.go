package lab

import (
	"context"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/millrace/millrace/query/native/cursor"
)

// Config is a benchmark's configuration. Those of pgbench and of TPC-H are numbered apart.
type Config struct {
	Benchmark   string   `json:"benchmark" ch:"benchmark" doc:"pgbench or tpch"`
	ConfigID    uint64   `json:"config_id" ch:"config_id"`
	Clients     *int32   `json:"clients,omitempty" ch:"clients" doc:"of pgbench"`
	Scale       *int32   `json:"scale,omitempty" ch:"scale" doc:"of pgbench"`
	Duration    *int32   `json:"duration,omitempty" ch:"duration" doc:"of pgbench, seconds"`
	ReadOnly    *bool    `json:"read_only,omitempty" ch:"read_only" doc:"of pgbench"`
	ScaleFactor *float64 `json:"scale_factor,omitempty" ch:"scale_factor" doc:"of TPC-H"`
	Streams     *int32   `json:"streams,omitempty" ch:"streams" doc:"of TPC-H"`
}

// ConfigOrders are the orders of configurations.
func ConfigOrders() []Order {
	return both("config_id", column{"benchmark", text}, column{"config_id", unsigned})[:1]
}

// configs lists both kinds of configurations in one form.
const configs = `(
	SELECT 'pgbench' AS benchmark, config_id, toNullable(clients) AS clients, toNullable(scale) AS scale,
		toNullable(duration) AS duration, toNullable(read_only) AS read_only,
		CAST(NULL, 'Nullable(Float64)') AS scale_factor, CAST(NULL, 'Nullable(Int32)') AS streams
	FROM {db}.configs FINAL{pgbench}
	UNION ALL
	SELECT 'tpch', config_id, NULL, NULL, NULL, NULL, toNullable(any(t.scale_factor)), toNullable(any(t.streams))
	FROM {db}.tpch_results AS t{tpch}
	GROUP BY config_id
)`

// Configs reads a page of configurations, those that a machine has results of unless it is 0.
func (v *View) Configs(ctx context.Context, machine uint64, page Page) ([]Config, cursor.Key, error) {
	pgbench, tpch := "", ""
	s := selection{columns: columnsOf[Config](nil)}
	if machine != 0 {
		pgbench = "\n\tWHERE config_id IN (SELECT config_id FROM {db}.result_series WHERE machine_id = ?)"
		tpch = "\n\tWHERE machine_id = ?"
		s.given = []any{machine, machine}
	}
	s.from = strings.NewReplacer("{pgbench}", pgbench, "{tpch}", tpch).Replace(configs)
	return list(ctx, v, "configurations", s, page, func(c *Config) cursor.Key {
		return cursor.Key{{Text: c.Benchmark}, {Number: c.ConfigID}}
	})
}

// Branch is a branch of a repository that runs have shown.
type Branch struct {
	BranchID     uint64 `json:"branch_id" ch:"branch_id"`
	Branch       string `json:"branch" ch:"name"`
	RepositoryID uint64 `json:"repository_id" ch:"in_repository_id"`
	Repository   string `json:"repository" ch:"in_repository" doc:"URL"`
	Official     bool   `json:"official" ch:"is_official" doc:"the repository is PostgreSQL's own"`
	Runs         uint64 `json:"runs" ch:"runs" doc:"number of runs, of the machine if one is asked for"`
}

// BranchOrders are the orders of branches: by id, which is the order in which they were first seen.
func BranchOrders() []Order { return both("branch_id", column{"branch_id", unsigned}) }

// Branches reads a page of the branches that have runs, of a machine unless it is 0.
func (v *View) Branches(ctx context.Context, machine uint64, page Page) ([]Branch, cursor.Key, error) {
	s := selection{
		columns: []string{
			"branch_id", "any(branch) AS name", "any(repository_id) AS in_repository_id", "any(repository) AS in_repository",
			"any(official) AS is_official", "uniqExact(run_id) AS runs",
		},
		from: "{db}.runs", group: "branch_id",
	}
	equal(&s.where, "machine_id", machine)
	return list(ctx, v, "branches", s, page, func(b *Branch) cursor.Key { return cursor.Key{{Number: b.BranchID}} })
}

// Setting is one of a server's settings in a run.
type Setting struct {
	Name   string `json:"name" ch:"name"`
	Value  string `json:"value" ch:"value"`
	Source string `json:"source" ch:"source" doc:"where the value came from, as pg_settings has it"`
}

// Settings reads the settings of a set, in the order of the document.
func (v *View) Settings(ctx context.Context, id uint64) ([]Setting, error) {
	text := "SELECT name, value, source\nFROM {db}.settings FINAL\nWHERE settings_id = ?\nORDER BY ordinal"
	return scan[Setting](ctx, v, "settings", in(v.database, text), id)
}

// Hardware is what a run's machine was made of.
type Hardware struct {
	HardwareID  uint64 `json:"hardware_id" ch:"hardware_id"`
	CPUBrand    string `json:"cpu_brand" ch:"cpu_brand"`
	Hz          int64  `json:"hz" ch:"hz" doc:"momentary frequency when the hardware was first seen"`
	CPUCores    int32  `json:"cpu_cores" ch:"cpu_cores"`
	TotalMemory int64  `json:"total_memory" ch:"total_memory" doc:"bytes"`
	TotalSwap   int64  `json:"total_swap" ch:"total_swap" doc:"bytes"`
	Mounts      Stored `json:"mounts" ch:"mounts" doc:"list of mounted file systems"`
	Sysctl      Stored `json:"sysctl" ch:"sysctl" doc:"the kernel's parameters that matter"`
}

// Stored is JSON that is stored as text.
type Stored string

// Scan takes a column's text.
func (s *Stored) Scan(from any) error {
	text, ok := from.(string)
	if !ok {
		return fmt.Errorf("stored JSON is %T, want a text", from)
	}
	*s = Stored(text)
	return nil
}

// MarshalJSONTo writes the text as the JSON that it is.
func (s Stored) MarshalJSONTo(e *jsontext.Encoder) error { return e.WriteValue(jsontext.Value(s)) }

// Hardware reads hardware by its id, nil when there is none.
func (v *View) Hardware(ctx context.Context, id uint64) (*Hardware, error) {
	text := "SELECT " + strings.Join(columnsOf[Hardware](nil), ", ") + "\nFROM {db}.hardware FINAL\nWHERE hardware_id = ?"
	rows, err := scan[Hardware](ctx, v, "hardware", in(v.database, text), id)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return &rows[0], nil
}
