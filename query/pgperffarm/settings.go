package pgperffarm

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/schemas/route"
)

// changeRow is a setting that changed from one settings set of a branch to the next (5.1.4).
type changeRow struct {
	Min         uint64    `json:"min" doc:"first run with the later set"`
	AddTime     timestamp `json:"add_time" doc:"of that run"`
	Settings1   uint64    `json:"settings1" doc:"the earlier set"`
	Settings2   uint64    `json:"settings2" doc:"the later set"`
	SettingName string    `json:"setting_name"`
	Unit1       string    `json:"unit1" doc:"source of the value in the earlier set"`
	Unit2       string    `json:"unit2" doc:"source of the value in the later set"`
	Value1      string    `json:"value1"`
	Value2      string    `json:"value2"`
	MachineID   uint64    `json:"machine_id"`
	Name        string    `json:"name" doc:"branch"`
	MachineType hole      `json:"machine_type"`
	Alias       hole      `json:"alias"`
	KernelName  string    `json:"kernel_name"`
	FirstRun    uint64    `json:"first_run" doc:"of the machine"`
	LastRun     uint64    `json:"last_run" doc:"of the machine"`
	MinAddTime  timestamp `json:"min_add_time"`
	MaxAddTime  timestamp `json:"max_add_time"`
}

func (f *Farm) settingsHistory(c *gin.Context) (page, error) {
	machine, err := route.Int(c, "machine_id")
	if err != nil {
		return page{}, err
	}
	id := uint64(machine)
	return page{
		key: fmt.Sprintf("postgres/%d", id), newest: ofMachine(id), none: "[]",
		write: func(ctx context.Context, q *reader, out *array) (time.Duration, error) {
			return 0, q.writeSettingsHistory(ctx, id, out)
		},
	}, nil
}

// setUse is the use of a settings set on a branch of a machine.
type setUse struct {
	branch     string
	set        uint64
	first      uint64 // run
	firstTime  time.Time
	kernelName string // at the first run
}

// setChange is a pair of neighbours among the sets of a branch: where settings may have changed.
type setChange struct{ from, to setUse }

// span are the first and the last run of a machine.
type span struct {
	first, last       uint64
	earliest, newest  time.Time
	machine           uint64
	machineType, name hole
}

// pairsAtOnce bounds the sets whose settings are in memory together.
const pairsAtOnce = 500

// writeSettingsHistory works on sets and their neighbours; it never looks at the runs one by one, let alone joins them
// (weakness W22).
func (q *reader) writeSettingsHistory(ctx context.Context, machine uint64, out *array) error {
	h := holes(machine)
	all := span{machine: machine, machineType: h.machineType, name: h.alias}
	uses, err := q.setUses(ctx, &all)
	if err != nil {
		return err
	}
	for pairs := range slices.Chunk(setChanges(uses), pairsAtOnce) {
		sets, err := q.settingsOf(ctx, pairs)
		if err != nil {
			return err
		}
		for _, pair := range pairs {
			if err := all.writeChanges(pair, sets[pair.from.set], sets[pair.to.set], out); err != nil {
				return err
			}
		}
	}
	return nil
}

// setUses gives the sets that each branch of a machine has used, and fills in the span of its runs.
func (q *reader) setUses(ctx context.Context, all *span) ([]setUse, error) {
	var uses []setUse
	err := q.each(ctx, `SELECT branch, settings_id, min(run_id), argMin(add_time, run_id), argMin(kernel_name, run_id),
			max(run_id), argMax(add_time, run_id)
		FROM {db}.runs WHERE machine_id = {machine:UInt64} AND run_id <= {newest:UInt64}
		GROUP BY branch, settings_id`, func(rows driver.Rows) error {
		var use setUse
		var last uint64
		var lastTime time.Time
		err := rows.Scan(&use.branch, &use.set, &use.first, &use.firstTime, &use.kernelName, &last, &lastTime)
		if all.first == 0 || use.first < all.first {
			all.first, all.earliest = use.first, use.firstTime
		}
		if last > all.last {
			all.last, all.newest = last, lastTime
		}
		uses = append(uses, use)
		return err
	}, number("machine", all.machine))
	return uses, err
}

// setChanges gives the neighbours among each branch's sets in the order of their first runs, where the set's id grows
// (5.1.4); by the run that came second, then by branch.
func setChanges(uses []setUse) []setChange {
	slices.SortFunc(uses, func(a, b setUse) int {
		return cmp.Or(cmp.Compare(a.branch, b.branch), cmp.Compare(a.first, b.first), cmp.Compare(a.set, b.set))
	})
	var changes []setChange
	for i := 1; i < len(uses); i++ {
		from, to := uses[i-1], uses[i]
		if from.branch == to.branch && from.set < to.set {
			changes = append(changes, setChange{from, to})
		}
	}
	slices.SortFunc(changes, func(a, b setChange) int {
		return cmp.Or(cmp.Compare(a.to.first, b.to.first), cmp.Compare(a.to.branch, b.to.branch))
	})
	return changes
}

// setting is a setting's value and where it came from.
type setting struct{ source, value string }

// settingsOf gives the settings of the sets in some pairs, by set and name.
func (q *reader) settingsOf(ctx context.Context, pairs []setChange) (map[uint64]map[string]setting, error) {
	sets := map[uint64]map[string]setting{}
	for _, pair := range pairs {
		sets[pair.from.set], sets[pair.to.set] = map[string]setting{}, map[string]setting{}
	}
	ids := slices.Sorted(maps.Keys(sets))
	err := q.each(ctx, `SELECT settings_id, name, source, value FROM {db}.settings WHERE settings_id IN {sets:Array(UInt64)}`,
		func(rows driver.Rows) error {
			var id uint64
			var name string
			var s setting
			err := rows.Scan(&id, &name, &s.source, &s.value)
			if err == nil {
				sets[id][name] = s
			}
			return err
		}, ch.Named("sets", ids))
	return sets, err
}

// writeChanges compares the settings that both sets have.
func (all *span) writeChanges(pair setChange, from, to map[string]setting, out *array) error {
	for _, name := range slices.Sorted(maps.Keys(to)) {
		before, both := from[name]
		after := to[name]
		if !both || before == after {
			continue
		}
		err := out.add(&changeRow{
			Min: pair.to.first, AddTime: timestamp{pair.to.firstTime}, Settings1: pair.from.set, Settings2: pair.to.set,
			SettingName: name, Unit1: before.source, Unit2: after.source, Value1: before.value, Value2: after.value,
			MachineID: all.machine, Name: pair.to.branch, MachineType: all.machineType, Alias: all.name,
			KernelName: pair.to.kernelName, FirstRun: all.first, LastRun: all.last,
			MinAddTime: timestamp{all.earliest}, MaxAddTime: timestamp{all.newest},
		})
		if err != nil {
			return err
		}
	}
	return nil
}
