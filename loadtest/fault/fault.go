// Package fault decides when processes are killed: at random moments, the same for the same seed.
package fault

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"time"
)

// Schedule says how often something is killed, and when.
type Schedule struct {
	// Kills is how many there are.
	Kills int `yaml:"kills"`
	// Within is the longest time between a moment at which everything is well again and the next kill; the times are
	// drawn evenly from 0 to it.
	Within time.Duration `yaml:"within"`
	// Unready is the share of kills, from 0 to 1, that do not wait until everything is well again: they hit a process that
	// is still starting.
	Unready float64 `yaml:"unready"`
}

// Validate reports what cannot work.
func (s Schedule) Validate() error {
	switch {
	case s.Kills < 0 || s.Kills > 100_000:
		return fmt.Errorf("kills: %d is not between 0 and 100000", s.Kills)
	case s.Kills > 0 && s.Within <= 0:
		return fmt.Errorf("within: %s is not a time to draw from", s.Within)
	case s.Unready < 0 || s.Unready > 1:
		return fmt.Errorf("unready: %g is not a share between 0 and 1", s.Unready)
	}
	return nil
}

// Moment is when one kill happens.
type Moment struct {
	// After is counted from when everything is well, or from the start of the process that was killed before when the kill
	// does not wait for that.
	After   time.Duration
	Unready bool
}

// Moments gives the kills of a seed, each as it is due.
func (s Schedule) Moments(seed uint64) iter.Seq[Moment] {
	return func(yield func(Moment) bool) {
		random := rand.New(rand.NewPCG(seed, 1))
		for range s.Kills {
			after, unready := random.Float64(), random.Float64() < s.Unready
			if !yield(Moment{After: time.Duration(after * float64(s.Within)), Unready: unready}) {
				return
			}
		}
	}
}

// Victim is what is killed.
type Victim struct {
	// Kill ends it at once; Restart starts it again and may be nil when somebody else does.
	Kill    func() error
	Restart func() error
	// Well waits until everything is well again.
	Well func(ctx context.Context) error
}

// Run kills the victim as scheduled and leaves it well. killed is told of each kill.
func (s Schedule) Run(ctx context.Context, seed uint64, victim Victim, killed func(n int)) error {
	n := 0
	for moment := range s.Moments(seed) {
		if n == 0 || !moment.Unready {
			if err := victim.Well(ctx); err != nil {
				return fmt.Errorf("after %d kills: %w", n, err)
			}
		}
		if err := sleep(ctx, moment.After); err != nil {
			return err
		}
		if err := victim.Kill(); err != nil {
			return fmt.Errorf("kill %d: %w", n+1, err)
		}
		n++
		killed(n)
		if victim.Restart == nil {
			continue
		}
		if err := victim.Restart(); err != nil {
			return fmt.Errorf("restart after kill %d: %w", n, err)
		}
	}
	return victim.Well(ctx)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
