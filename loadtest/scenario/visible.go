package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/loadtest/farm"
	"github.com/millrace/millrace/loadtest/load"
)

// visible measures the time from an upload's acknowledgement to the end of a read that shows it: a client that has been
// told 201 asks for its run at once.
type visible struct {
	Common `yaml:",inline"`
	// Document is the size of the uploads, Rates are how many are sent a second, one after the other.
	Document farm.Size `yaml:"document"`
	Rates    []float64 `yaml:"rates"`
	InFlight int       `yaml:"in_flight"`
	// ReadBack is the share of acknowledged uploads that are read at once.
	ReadBack float64 `yaml:"read_back"`
	// Duration is how long each rate is kept up.
	Duration time.Duration `yaml:"duration"`
}

func (v *visible) validate() error {
	errs := []error{v.Document.Validate(), checkShare("read_back", v.ReadBack), between("number of rates", len(v.Rates), 1, v.Target.Machines)}
	for _, rate := range v.Rates {
		errs = append(errs, checkLoad(rate, v.InFlight))
	}
	if v.Duration <= 0 {
		errs = append(errs, fmt.Errorf("duration: %s is no time to measure in", v.Duration))
	}
	return errors.Join(errs...)
}

func (v *visible) run(l *lab) error {
	table := l.result.Table("From the acknowledgement of an upload to the end of the read that shows it",
		"uploads a second", "read", "p50 ms", "p90 ms", "p99 ms", "max ms", "upload p50 ms", "upload p99 ms")
	each := len(l.target.Machines) / len(v.Rates)
	for i, rate := range v.Rates {
		machines := farm.Machines{First: i * each, Count: each}
		plan := farm.Plan{Seed: l.seed, Size: v.Document}
		uploads := l.newOpenUploads(machines, plan, []farm.Policy{farm.Careful}, load.Open{Rate: rate, InFlight: v.InFlight})
		back := l.newReadBack(v.ReadBack)
		uploads.stored = back.check
		l.progress.Phase(fmt.Sprintf("%g uploads a second", rate), uploads.status)
		stop := uploads.start()
		err := wait(l.ctx, v.Duration)
		stop(time.Minute)
		if err != nil {
			return err
		}
		shown, sent := back.latencies.Summary(), uploads.latencies.Summary()
		table.Row(fmt.Sprint(rate), fmt.Sprint(shown.Count), fmt.Sprintf("%.1f", shown.P50), fmt.Sprintf("%.1f", shown.P90),
			fmt.Sprintf("%.1f", shown.P99), fmt.Sprintf("%.1f", shown.Max), fmt.Sprintf("%.1f", sent.P50), fmt.Sprintf("%.1f", sent.P99))
		name := fmt.Sprintf("visible.%s.%g", v.Document, rate)
		l.result.Figure(name+".p50", shown.P50, "ms")
		l.result.Figure(name+".p99", shown.P99, "ms")
		uploads.promiseSettled()
		back.promise(l)
		l.promiseNoFaults(uploads, back)
		if err := l.verify(fmt.Sprintf("at %g a second, ", rate), uploads.sender.Ledger, plan, machines); err != nil {
			return err
		}
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
