package scenario

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/millrace/millrace/loadtest/direct"
	"github.com/millrace/millrace/loadtest/farm"
)

// replay fills the log, builds all projections again by millrace replay while reads go on, and compares their content
// with that of the live ones.
type replay struct {
	Common `yaml:",inline"`
	// Events is how many are appended, straight to the log: uploads of 2 KB documents, and samples of their runs.
	Events int `yaml:"events"`
	// Uploads is their share among the events, from 0 to 1.
	Uploads float64 `yaml:"uploads"`
	// Samples is how many each other event has.
	Samples int `yaml:"samples"`
}

func (r *replay) validate() error {
	errs := []error{between("events", r.Events, 1, 100_000_000), between("samples", r.Samples, 1, 10_000), apart(&r.Common)}
	if !(r.Uploads > 0 && r.Uploads <= 1) {
		errs = append(errs, fmt.Errorf("uploads: %g is not a share above 0, at most 1", r.Uploads))
	}
	if float64(r.Events)*r.Uploads > float64(r.Target.Machines)*farm.MaxNumber {
		errs = append(errs, fmt.Errorf("target: machines: %d machines have at most %d uploads each", r.Target.Machines, farm.MaxNumber))
	}
	return errors.Join(errs...)
}

// apart wants engines that the harness reaches too.
func apart(c *Common) error {
	if c.Target.Start == "" || c.Target.Engines != "apart" {
		return errors.New("target: start a standalone with engines apart, which this reaches too")
	}
	return nil
}

func (r *replay) run(l *lab) error {
	engines, err := direct.Connect(l.ctx, l.target)
	if err != nil {
		return err
	}
	defer engines.Close()
	appended, err := r.fill(l, engines)
	if err != nil {
		return err
	}
	l.progress.Phase("projecting live", func() string { return engines.Lag(l.ctx) })
	began := time.Now()
	if err := engines.Settle(l.ctx); err != nil {
		return err
	}
	projected := appended + time.Since(began)
	live, err := engines.Checksum(l.ctx)
	if err != nil {
		return err
	}
	return r.rebuild(l, engines, live, projected)
}

// fill appends the events and says how long that took.
func (r *replay) fill(l *lab, engines *direct.Engines) (time.Duration, error) {
	filler, err := direct.NewFiller(engines, l.target.Machines, farm.Plan{Seed: l.seed, Size: farm.Small}, r.Samples)
	if err != nil {
		return 0, err
	}
	l.progress.Phase("filling the log", func() string { return fmt.Sprintf("%d of %d events", filler.Appended(), r.Events) })
	began := time.Now()
	if err := filler.Fill(l.ctx, r.Events, r.Uploads); err != nil {
		return 0, err
	}
	took := time.Since(began)
	l.result.Figure("replay.fill", float64(r.Events)/took.Seconds(), "events/s")
	return took, nil
}

// rebuild replays and compares.
func (r *replay) rebuild(l *lab, engines *direct.Engines, live map[string]string, projected time.Duration) error {
	l.progress.Phase("replaying", nil)
	reads := l.watchReads()
	var report struct {
		Generation uint32  `json:"generation"`
		Former     uint32  `json:"former_generation"`
		Records    int64   `json:"records"`
		Seconds    float64 `json:"seconds"`
	}
	err := l.target.Admin(l.ctx, &report, "replay")
	reads.end()
	if err != nil {
		return err
	}
	if err := engines.Settle(l.ctx); err != nil {
		return err
	}
	rebuilt, err := engines.Checksum(l.ctx)
	if err != nil {
		return err
	}
	var differ []string
	for table, sum := range live {
		if rebuilt[table] != sum {
			differ = append(differ, fmt.Sprintf("%s: live %s, rebuilt %s", table, sum, rebuilt[table]))
		}
	}
	l.result.Promise("a full replay gives the same content as the live projections", len(differ) == 0 && len(live) > 0 && report.Generation != report.Former,
		live, "%d tables compared, %d differ%s", len(live), len(differ), prefixed(": ", strings.Join(differ, "; ")))
	reads.promise(l)
	rate := float64(report.Records) / report.Seconds
	l.result.Figure("replay.live_rate", float64(r.Events)/projected.Seconds(), "events/s")
	l.result.Figure("replay.rate", rate, "events/s")
	table := l.result.Table("Full replay beside the live projections", "events", "live events/s", "replayed", "seconds", "events/s", "generation")
	table.Row(fmt.Sprint(r.Events), fmt.Sprintf("%.0f", float64(r.Events)/projected.Seconds()), fmt.Sprint(report.Records),
		fmt.Sprintf("%.1f", report.Seconds), fmt.Sprintf("%.0f", rate), fmt.Sprintf("%d after %d", report.Generation, report.Former))
	return nil
}

func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}
