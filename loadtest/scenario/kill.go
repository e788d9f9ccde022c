package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/loadtest/farm"
	"github.com/millrace/millrace/loadtest/fault"
	"github.com/millrace/millrace/loadtest/load"
	"github.com/millrace/millrace/loadtest/report"
	"github.com/millrace/millrace/loadtest/target"
)

// kill ends the standalone, then its ClickHouse alone, at random moments under load, and counts afterwards what was
// acknowledged.
type kill struct {
	Common     `yaml:",inline"`
	Standalone fault.Schedule `yaml:"standalone"`
	ClickHouse fault.Schedule `yaml:"clickhouse"`
	// Document is the size of the uploads, Rate how many are sent a second, InFlight how many at most wait for an answer.
	Document farm.Size `yaml:"document"`
	Rate     float64   `yaml:"rate"`
	InFlight int       `yaml:"in_flight"`
	// Policies are the machines' in turn.
	Policies []farm.Policy `yaml:"policies"`
	// ReadBack is the share of acknowledged uploads that are read at once.
	ReadBack float64 `yaml:"read_back"`
	// Replay builds all projections again at the end and verifies once more.
	Replay bool `yaml:"replay"`
	// Patience bounds the wait until everything is well after a kill, and until uploads are settled at the end.
	Patience time.Duration `yaml:"patience"`
}

func (k *kill) validate() error {
	errs := []error{k.Standalone.Validate(), k.ClickHouse.Validate(), k.Document.Validate(), checkLoad(k.Rate, k.InFlight), checkShare("read_back", k.ReadBack)}
	for _, policy := range k.Policies {
		errs = append(errs, policy.Validate())
	}
	errs = append(errs, between("number of policies", len(k.Policies), 1, 3))
	if k.Target.Start == "" || k.Target.Engines == "apart" {
		errs = append(errs, errors.New("target: only a standalone that is started here with its own engines can be killed"))
	}
	if k.Patience <= 0 {
		errs = append(errs, fmt.Errorf("patience: %s is no time to wait", k.Patience))
	}
	return errors.Join(errs...)
}

func checkShare(key string, share float64) error {
	if !(share >= 0 && share <= 1) {
		return fmt.Errorf("%s: %g is not a share between 0 and 1", key, share)
	}
	return nil
}

func checkLoad(rate float64, inFlight int) error {
	if !(rate > 0 && rate <= 100_000) {
		return fmt.Errorf("rate: %g is not between 0 and 100000 a second", rate)
	}
	return between("in_flight", inFlight, 1, 10_000)
}

func (k *kill) run(l *lab) error {
	machines := farm.Machines{Count: len(l.target.Machines)}
	plan := farm.Plan{Seed: l.seed, Size: k.Document}
	uploads := l.newOpenUploads(machines, plan, k.Policies, load.Open{Rate: k.Rate, InFlight: k.InFlight})
	back := l.newReadBack(k.ReadBack)
	uploads.stored = back.check
	stop := uploads.start()
	if err := k.killAll(l, uploads); err != nil {
		stop(0)
		return err
	}
	l.progress.Phase("waiting for the last answers", uploads.status)
	stop(k.Patience)
	uploads.promiseSettled()
	back.promise(l)
	l.promiseNoFaults(uploads, back)
	k.tell(l, uploads)
	if err := l.verify("", uploads.sender.Ledger, plan, machines); err != nil || !k.Replay {
		return err
	}
	l.progress.Phase("replaying", nil)
	var report struct{}
	if err := l.target.Admin(l.ctx, &report, "replay"); err != nil {
		return err
	}
	return l.verify("after a replay, ", uploads.sender.Ledger, plan, machines)
}

// killAll kills one victim after the other.
func (k *kill) killAll(l *lab, uploads *openUploads) error {
	table := l.result.Table("Kills under load", "victim", "kills", "well again p50 ms", "p99 ms", "max ms")
	standalone := fault.Victim{Kill: l.target.Kill, Restart: l.target.Start}
	if err := k.killOne(l, "standalone", k.Standalone, standalone, uploads, table); err != nil {
		return err
	}
	engine := fault.Victim{Kill: func() error { return k.killClickHouse(l) }}
	return k.killOne(l, "clickhouse", k.ClickHouse, engine, uploads, table)
}

func (k *kill) killOne(l *lab, name string, schedule fault.Schedule, victim fault.Victim, uploads *openUploads, table *report.Table) error {
	if schedule.Kills == 0 {
		return nil
	}
	kills, recovery := 0, load.NewLatencies()
	victim.Well = func(ctx context.Context) error {
		began := time.Now()
		err := k.well(ctx, l)
		if err == nil && kills > 0 {
			recovery.Record(time.Since(began))
		}
		return err
	}
	l.progress.Phase("killing "+name, func() string { return fmt.Sprintf("%d of %d kills; %s", kills, schedule.Kills, uploads.status()) })
	if err := schedule.Run(l.ctx, l.seed, victim, func(n int) { kills = n }); err != nil {
		return fmt.Errorf("killing %s: %w", name, err)
	}
	times := recovery.Summary()
	table.Row(name, fmt.Sprint(kills), fmt.Sprintf("%.0f", times.P50), fmt.Sprintf("%.0f", times.P99), fmt.Sprintf("%.0f", times.Max))
	l.result.Figure("kill."+name+".kills", float64(kills), "")
	l.result.Figure("kill."+name+".well_p50", times.P50, "ms")
	l.result.Figure("kill."+name+".well_max", times.Max, "ms")
	return nil
}

// well waits until the target says that it is ready and answers a read of what was just written.
func (k *kill) well(ctx context.Context, l *lab) error {
	ctx, cancel := context.WithTimeoutCause(ctx, k.Patience, fmt.Errorf("it was not well again within %s", k.Patience))
	defer cancel()
	err := l.target.AwaitReady(ctx)
	if err == nil {
		reader := &farm.Reader{Target: l.target, HTTP: client(1, 20*time.Second)}
		err = reader.Get(ctx, "/benchmark/overview", nil)
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// killClickHouse waits for the engine to be there: after it died it is started again, sooner or later.
func (k *kill) killClickHouse(l *lab) error {
	deadline := time.Now().Add(k.Patience)
	for {
		err := l.target.KillClickHouse()
		if !errors.Is(err, target.ErrNoChild) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-l.ctx.Done():
			return l.ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (k *kill) tell(l *lab, uploads *openUploads) {
	times, counts := uploads.latencies.Summary(), &uploads.sender.Counts
	table := l.result.Table("Uploads meanwhile, times from when each was meant to be sent",
		"sent", "stored", "attempts", "without answer", "busy", "repeat named the run", "p50 ms", "p99 ms", "max ms")
	table.Row(fmt.Sprint(uploads.sent.Load()), fmt.Sprint(counts.Stored.Load()), fmt.Sprint(counts.Attempts.Load()),
		fmt.Sprint(counts.Broken.Load()), fmt.Sprint(counts.Busy.Load()), fmt.Sprint(counts.Duplicates.Load()),
		fmt.Sprintf("%.1f", times.P50), fmt.Sprintf("%.0f", times.P99), fmt.Sprintf("%.0f", times.Max))
	l.result.Figure("kill.uploads", float64(counts.Stored.Load()), "")
}
