package lab

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/query/native/cursor"
)

// Run is an accepted upload: what was measured where.
type Run struct {
	RunID            uint64     `json:"run_id" ch:"run_id" doc:"ordinal of the upload in the log"`
	EventID          string     `json:"event_id" ch:"event_id" doc:"id of the upload's event"`
	MachineID        uint64     `json:"machine_id" ch:"machine_id"`
	MachineType      string     `json:"machine_type" ch:"machine_type"`
	AddTime          time.Time  `json:"add_time" ch:"add_time" doc:"when the log took it"`
	StartTime        time.Time  `json:"start_time" ch:"start_time" doc:"when the run began, by the machine's clock"`
	EndTime          *time.Time `json:"end_time" ch:"end_time"`
	ReceivedTime     *time.Time `json:"received_time" ch:"received_time" doc:"as the document says"`
	Benchmark        string     `json:"benchmark" ch:"benchmark" doc:"pgbench or tpch"`
	Custom           bool       `json:"custom" ch:"custom" doc:"it ran scripts of its own, which cannot be compared"`
	RepositoryID     uint64     `json:"repository_id" ch:"repository_id"`
	Repository       string     `json:"repository" ch:"repository" doc:"URL"`
	Official         bool       `json:"official" ch:"official" doc:"the repository is PostgreSQL's own"`
	BranchID         uint64     `json:"branch_id" ch:"branch_id"`
	Branch           string     `json:"branch" ch:"branch"`
	Commit           string     `json:"commit" ch:"commit"`
	DistName         string     `json:"dist_name" ch:"dist_name"`
	OSDescription    string     `json:"os_description" ch:"os_description"`
	OSRelease        string     `json:"os_release" ch:"os_release"`
	OSCodename       string     `json:"os_codename" ch:"os_codename"`
	KernelName       string     `json:"kernel_name" ch:"kernel_name"`
	KernelRelease    string     `json:"kernel_release" ch:"kernel_release"`
	KernelVersion    string     `json:"kernel_version" ch:"kernel_version"`
	Compiler         string     `json:"compiler" ch:"compiler"`
	HardwareID       uint64     `json:"hardware_id" ch:"hardware_id"`
	SettingsID       uint64     `json:"settings_id" ch:"settings_id"`
	GitCloneSeconds  *float64   `json:"git_clone_seconds" ch:"git_clone_seconds"`
	GitPullSeconds   *float64   `json:"git_pull_seconds" ch:"git_pull_seconds"`
	ConfigureSeconds *float64   `json:"configure_seconds" ch:"configure_seconds"`
	BuildSeconds     *float64   `json:"build_seconds" ch:"build_seconds"`
	InstallSeconds   *float64   `json:"install_seconds" ch:"install_seconds"`
	CleanupSeconds   *float64   `json:"cleanup_seconds" ch:"cleanup_seconds"`
	Results          uint32     `json:"results" ch:"results" doc:"number of pgbench results"`
}

var (
	runID     = column{"run_id", unsigned}
	startTime = column{"start_time", micros}
	addTime   = column{"add_time", millis}
)

// RunOrders are the orders of runs: by id, which is the order in which they came (add_time), and by start time, both as
// the table and its projections are stored.
func RunOrders() []Order {
	orders := append(both("run_id", runID), both("start_time", startTime, runID)...)
	return append(orders, both("add_time", runID)...)
}

// RunFilter says which runs are wanted; a zero field wants all.
type RunFilter struct {
	Machine    uint64
	Benchmark  string
	Branch     uint64
	BranchName string
	Commit     string
	Repository string
	// Config wants runs that have a result of a pgbench configuration.
	Config           uint64
	Official, Custom *bool
	// From and To bound the start time, or the add time when ByAddTime is set.
	From, To  time.Time
	ByAddTime bool
}

func (f *RunFilter) where() where {
	var w where
	equal(&w, "machine_id", f.Machine)
	equal(&w, "benchmark", f.Benchmark)
	equal(&w, "branch_id", f.Branch)
	equal(&w, "branch", f.BranchName)
	equal(&w, "commit", f.Commit)
	equal(&w, "repository", f.Repository)
	w.is("official", f.Official)
	w.is("custom", f.Custom)
	if f.Config != 0 {
		within, values := "config_id = ?", []any{f.Config}
		if f.Machine != 0 {
			within, values = "machine_id = ? AND config_id = ?", []any{f.Machine, f.Config}
		}
		w.and("run_id IN (SELECT run_id FROM {db}.result_series WHERE "+within+")", values...)
	}
	if f.ByAddTime {
		w.since(addTime, f.From, f.To)
	} else {
		w.since(startTime, f.From, f.To)
	}
	return w
}

// selection selects the keys of runs.
func (f *RunFilter) selection(order Order) selection {
	s := selection{columns: []string{"run_id", "start_time"}, from: "{db}.runs", where: f.where()}
	if order.columns[0] != startTime {
		return s
	}
	if f.Machine != 0 {
		s.projection = "by_machine"
		return s
	}
	s.projection = "by_start_time"
	// A projection is considered for queries with a condition on what it is sorted by.
	s.where.and("start_time >= "+parameters[micros], 0)
	return s
}

// runKey is what a list of runs is read by.
type runKey struct {
	RunID     uint64    `ch:"run_id"`
	StartTime time.Time `ch:"start_time"`
}

// Runs reads a page of runs: first the keys, then the fields (named as in JSON; all when there are none) of those few.
func (v *View) Runs(ctx context.Context, filter RunFilter, page Page, fields ...string) ([]Run, cursor.Key, error) {
	s := filter.selection(page.Order)
	keys, next, err := list(ctx, v, "runs", s, page, func(k *runKey) cursor.Key {
		if len(page.Order.columns) == 1 {
			return cursor.Key{{Number: k.RunID}}
		}
		return cursor.Key{{Number: uint64(k.StartTime.UnixMicro())}, {Number: k.RunID}}
	})
	if err != nil {
		return nil, nil, err
	}
	ids := make([]uint64, len(keys))
	for i := range keys {
		ids[i] = keys[i].RunID
	}
	runs, err := v.RunsByID(ctx, ids, fields...)
	return runs, next, err
}

// RunsByID reads runs in the order of their ids' list; those that do not exist are left out.
func (v *View) RunsByID(ctx context.Context, ids []uint64, fields ...string) ([]Run, error) {
	rows, err := byID(ctx, v, "runs", "run_id", ids, func(r *Run) uint64 { return r.RunID }, columnsOf[Run](fields, "run_id"))
	if err != nil {
		return nil, err
	}
	found := make([]Run, 0, len(rows))
	for _, id := range ids {
		if run, ok := rows[id]; ok {
			found = append(found, run)
		}
	}
	return found, nil
}

// RunDetail is a run with all that belongs to it.
type RunDetail struct {
	Run      Run       `json:"run"`
	Results  []Result  `json:"results" doc:"its pgbench results, in the order of the document"`
	TPCH     *TPCH     `json:"tpch" doc:"its TPC-H result, null when it has none"`
	Settings []Setting `json:"settings" doc:"the server's settings"`
	Hardware *Hardware `json:"hardware"`
}

// maxResults is how many results a run has at the most.
const maxResults = 1023

// RunDetail reads a run with all that belongs to it, nil when there is none.
func (v *View) RunDetail(ctx context.Context, id uint64) (*RunDetail, error) {
	found, err := v.RunsByID(ctx, []uint64{id})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	d := &RunDetail{Run: found[0]}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		page := Page{Order: ResultOrders()[0], Limit: maxResults}
		d.Results, _, err = v.Results(ctx, ResultFilter{Machine: d.Run.MachineID, Run: id}, page)
		return err
	})
	group.Go(func() (err error) {
		d.TPCH, err = v.TPCH(ctx, d.Run.MachineID, id)
		return err
	})
	group.Go(func() (err error) {
		d.Settings, err = v.Settings(ctx, d.Run.SettingsID)
		return err
	})
	group.Go(func() (err error) {
		d.Hardware, err = v.Hardware(ctx, d.Run.HardwareID)
		return err
	})
	return d, group.Wait()
}
