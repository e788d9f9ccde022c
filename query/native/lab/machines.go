package lab

import (
	"context"
	"time"

	"github.com/millrace/millrace/processor/runs"
	"github.com/millrace/millrace/query/native/cursor"
)

// Machine is a registered computer.
type Machine struct {
	MachineID   uint64    `json:"machine_id" ch:"machine_id"`
	Alias       string    `json:"alias" ch:"alias"`
	Description string    `json:"description" ch:"description"`
	OwnerID     uint64    `json:"owner_id" ch:"owner_id" doc:"the user who owns it"`
	Approved    bool      `json:"approved" ch:"approved" doc:"it may upload"`
	Revoked     bool      `json:"revoked" ch:"revoked" doc:"its secret was revoked"`
	AddTime     time.Time `json:"add_time" ch:"add_time"`
	Type        string    `json:"type" ch:"-" doc:"kind of hardware, fixed by the first run; empty before it"`
	Runs        uint64    `json:"runs" ch:"-" doc:"number of stored runs"`
	LastRun     *LastRun  `json:"last_run" ch:"-" doc:"the newest run, null when there is none"`
}

// LastRun is the newest run of a machine.
type LastRun struct {
	RunID     uint64    `json:"run_id"`
	AddTime   time.Time `json:"add_time"`
	StartTime time.Time `json:"start_time"`
	Branch    string    `json:"branch"`
	Commit    string    `json:"commit"`
}

// MachineOrders are the orders of machines: by id, which is the order of their registration.
func MachineOrders() []Order { return both("machine_id", column{"machine_id", unsigned}) }

// MachineFilter says which machines are wanted; a zero field wants all.
type MachineFilter struct {
	ID       uint64
	Alias    string
	Approved *bool
}

// Machines reads a page of machines with their numbers of runs and their newest runs.
func (v *View) Machines(ctx context.Context, filter MachineFilter, page Page) ([]Machine, cursor.Key, error) {
	s := selection{columns: columnsOf[Machine](nil), from: "{db}.machines FINAL"}
	equal(&s.where, "machine_id", filter.ID)
	equal(&s.where, "alias", filter.Alias)
	s.where.is("approved", filter.Approved)
	machines, next, err := list(ctx, v, "machines", s, page, func(m *Machine) cursor.Key {
		return cursor.Key{{Number: m.MachineID}}
	})
	if err != nil {
		return nil, nil, err
	}
	return machines, next, v.addRuns(ctx, machines)
}

// addRuns fills in what the fold knows of the machines' runs.
func (v *View) addRuns(ctx context.Context, machines []Machine) error {
	latest := make([][3]uint64, len(machines))
	v.lab.runs.View(func(s *runs.State) {
		for i := range machines {
			if m := s.Machines[machines[i].MachineID]; m != nil {
				machines[i].Type, machines[i].Runs, latest[i] = m.Type, m.Runs, m.Latest
			}
		}
	})
	var ids []uint64
	for i := range latest {
		for _, id := range latest[i] {
			if id != 0 {
				ids = append(ids, id)
			}
		}
	}
	columns := []string{"run_id", "add_time", "start_time", "branch", "commit"}
	found, err := byID(ctx, v, "runs", "run_id", ids, func(r *Run) uint64 { return r.RunID }, columns)
	if err != nil {
		return err
	}
	for i := range machines {
		machines[i].LastRun = newest(latest[i], found)
	}
	return nil
}

// newest gives the newest of some runs that has a row: one that became a dead letter has none.
func newest(ids [3]uint64, found map[uint64]Run) *LastRun {
	for _, id := range ids {
		if r, ok := found[id]; ok {
			return &LastRun{RunID: id, AddTime: r.AddTime, StartTime: r.StartTime, Branch: r.Branch, Commit: r.Commit}
		}
	}
	return nil
}
