package ui

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/query/native/cursor"
	"github.com/millrace/millrace/query/native/fresh"
	"github.com/millrace/millrace/query/native/lab"
	"github.com/millrace/millrace/schemas/route"
)

const (
	// runsOnPage is how many runs a machine's page lists at a time.
	runsOnPage = 25
	// coursesShown is how many small charts a machine's page has.
	coursesShown = 48
	// settingsBack is how many runs are searched for changes of settings, and changesShown how many changes are shown.
	settingsBack = 300
	changesShown = 8
	// settingsShown bounds the settings of one change: a document may hold tens of thousands.
	settingsShown = 20
)

// machineData is what a machine's page shows.
type machineData struct {
	lab.Machine

	Courses []*course
	// MoreCourses says that there are series beyond those shown.
	MoreCourses bool
	Configs     []lab.Config
	Branches    []lab.Branch
	Lines       []runLine
	// Behind is the run behind which this page of runs begins; Older leads to the next one.
	Behind  uint64
	Older   string
	Changes []settingsChange
}

// settingsChange is a run whose server was set otherwise than in the run before.
type settingsChange struct {
	Run   lab.Run
	Items []settingDiff
	// More is how many settings changed beyond those shown.
	More int
}

// settingDiff is a setting that changed; a missing value is empty.
type settingDiff struct{ Name, Before, After string }

func (u *UI) machine(c *gin.Context) (sight, error) {
	id, err := route.Int(c, "id")
	if err != nil {
		return sight{}, err
	}
	var behind uint64
	if text := c.Query("after"); text != "" {
		if behind, err = strconv.ParseUint(text, 10, 63); err != nil {
			return sight{}, route.Errorf(http.StatusBadRequest, "query parameter after must be a run's id")
		}
	}
	return sight{
		scope: fresh.Scope{Topics: toSamples, Machine: uint64(id)}, template: "machine", tab: "overview",
		read: func(ctx context.Context, v *lab.View) (string, any, error) {
			data, err := readMachine(ctx, v, uint64(id), behind)
			if err != nil {
				return "", nil, err
			}
			return data.Alias, data, nil
		},
	}, nil
}

func readMachine(ctx context.Context, v *lab.View, id, behind uint64) (*machineData, error) {
	machines, _, err := v.Machines(ctx, lab.MachineFilter{ID: id}, lab.Page{Order: lab.MachineOrders()[0], Limit: 1})
	if err != nil {
		return nil, err
	}
	if len(machines) == 0 {
		return nil, route.Errorf(http.StatusNotFound, "there is no machine %d", id)
	}
	data := &machineData{Machine: machines[0], Behind: behind}
	group, within := errgroup.WithContext(ctx)
	group.Go(func() error { return data.addCourses(within, v) })
	group.Go(func() error { return data.addRuns(within, v) })
	group.Go(func() (err error) {
		data.Changes, err = readChanges(within, v, id)
		return err
	})
	return data, group.Wait()
}

func (d *machineData) addRuns(ctx context.Context, v *lab.View) error {
	page := lab.Page{Order: newestFirst(), Limit: runsOnPage}
	if d.Behind != 0 {
		page.After = cursor.Key{{Number: d.Behind}}
	}
	runs, next, err := v.Runs(ctx, lab.RunFilter{Machine: d.MachineID}, page, runFields...)
	d.Lines = lines(runs, map[uint64]string{d.MachineID: d.Alias})
	if next != nil {
		d.Older = link("/ui/machines/"+strconv.FormatUint(d.MachineID, 10), "after", next[0].Number) + "#runs"
	}
	return err
}

// headlines are the metrics that small charts show.
var headlines = []string{"tps", "tpch.composite", "custom.tps"}

// addCourses adds a small chart for each configuration and branch.
func (d *machineData) addCourses(ctx context.Context, v *lab.View) error {
	names, err := readNames(ctx, v, d.MachineID)
	if err != nil {
		return err
	}
	d.Configs, d.Branches = names.configs, names.branches
	var wanted []lab.Series
	for _, prefix := range headlines {
		series, _, err := v.Series(ctx, lab.SeriesFilter{Machine: d.MachineID, Prefix: prefix, Rough: true}, lab.Page{Order: lab.SeriesOrders()[0], Limit: coursesShown + 1})
		if err != nil {
			return err
		}
		for _, s := range series {
			if s.Metric == prefix {
				wanted = append(wanted, lab.Series{MachineID: s.MachineID, ConfigID: s.ConfigID, BranchID: s.BranchID, Metric: s.Metric})
			}
		}
	}
	if d.MoreCourses = len(wanted) > coursesShown; d.MoreCourses {
		wanted = wanted[:coursesShown]
	}
	d.Courses = make([]*course, len(wanted))
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i, of := range wanted {
		group.Go(func() (err error) {
			d.Courses[i], err = readCourse(within, v, of, names.config(of.ConfigID, of.Metric), names.branch(of.BranchID))
			return err
		})
	}
	err = group.Wait()
	d.Courses = slices.DeleteFunc(d.Courses, func(c *course) bool { return c == nil })
	return err
}

// readChanges finds the newest runs of a machine whose settings are other than in the run before.
func readChanges(ctx context.Context, v *lab.View, machine uint64) ([]settingsChange, error) {
	runs, _, err := v.Runs(ctx, lab.RunFilter{Machine: machine}, lab.Page{Order: newestFirst(), Limit: settingsBack},
		"run_id", "start_time", "branch", "commit", "settings_id")
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(runs, func(a, b lab.Run) int { return b.StartTime.Compare(a.StartTime) })
	var changes []settingsChange
	sets := map[uint64][]lab.Setting{}
	for i := 0; i+1 < len(runs) && len(changes) < changesShown; i++ {
		if runs[i].SettingsID == runs[i+1].SettingsID {
			continue
		}
		for _, id := range []uint64{runs[i].SettingsID, runs[i+1].SettingsID} {
			if sets[id] == nil {
				if sets[id], err = v.Settings(ctx, id); err != nil {
					return nil, err
				}
			}
		}
		items := diff(sets[runs[i+1].SettingsID], sets[runs[i].SettingsID])
		shown := min(len(items), settingsShown)
		changes = append(changes, settingsChange{Run: runs[i], Items: items[:shown], More: len(items) - shown})
	}
	return changes, nil
}

// diff lists the settings whose values differ, by name.
func diff(before, after []lab.Setting) []settingDiff {
	values := make(map[string]*settingDiff, len(after))
	at := func(name string) *settingDiff {
		if values[name] == nil {
			values[name] = &settingDiff{Name: name}
		}
		return values[name]
	}
	for _, s := range before {
		at(s.Name).Before = s.Value
	}
	for _, s := range after {
		at(s.Name).After = s.Value
	}
	var changed []settingDiff
	for _, d := range values {
		if d.Before != d.After {
			changed = append(changed, *d)
		}
	}
	slices.SortFunc(changed, func(a, b settingDiff) int { return cmp.Compare(a.Name, b.Name) })
	return changed
}

// names are those of a machine's configurations and branches.
type names struct {
	configs  []lab.Config
	branches []lab.Branch
}

// namesShown bounds the configurations and the branches of a machine that have names on its pages.
const namesShown = 1000

func readNames(ctx context.Context, v *lab.View, machine uint64) (*names, error) {
	n := &names{}
	var err error
	n.configs, _, err = v.Configs(ctx, machine, lab.Page{Order: lab.ConfigOrders()[0], Limit: namesShown})
	if err != nil {
		return nil, err
	}
	n.branches, _, err = v.Branches(ctx, machine, lab.Page{Order: lab.BranchOrders()[0], Limit: namesShown})
	return n, err
}

func (n *names) config(id uint64, metric string) string {
	if id == 0 {
		return "the run as a whole"
	}
	for i := range n.configs {
		if c := &n.configs[i]; c.ConfigID == id && (c.Benchmark == "tpch") == isTPCH(metric) {
			return label(c)
		}
	}
	return "configuration " + strconv.FormatUint(id, 10)
}

// branch names a branch; one of another repository than PostgreSQL's own with the repository.
func (n *names) branch(id uint64) string {
	for _, b := range n.branches {
		if b.BranchID == id {
			if b.Official {
				return b.Branch
			}
			return b.Branch + " of " + b.Repository
		}
	}
	return "branch " + strconv.FormatUint(id, 10)
}

// minute rounds a time up, so that what depends on it can be kept for a while.
func minute(t time.Time) time.Time { return t.UTC().Truncate(time.Minute).Add(time.Minute) }
