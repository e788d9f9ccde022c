package app

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// writers is a courtesy with writes that a test makes up, four of which queue.
type writers struct {
	*courtesy
	writes atomic.Int64
	hurry  atomic.Bool
}

func newWriters(most time.Duration) *writers {
	w := new(writers)
	w.courtesy = &courtesy{inFlight: w.writes.Load, urgent: w.hurry.Load, most: most, queue: 4}
	return w
}

// rested is how long the projections rest.
func (w *writers) rested(ctx context.Context) time.Duration {
	began := time.Now()
	w.giveWay(ctx)
	return time.Since(began)
}

const look = courtesySamples * courtesyPause

func TestProjectionsDoNotRestWhileNothingOrLittleIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWriters(time.Minute)
		if rested := w.rested(t.Context()); rested != 0 {
			t.Errorf("without writes they rest for %s", rested)
		}
		w.writes.Store(3)
		if rested := w.rested(t.Context()); rested != look {
			t.Errorf("with fewer writes than would queue they rest for %s, want the %s of a look", rested, look)
		}
	})
}

func TestProjectionsRestUntilWritesNoLongerQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWriters(time.Minute)
		w.writes.Store(4)
		time.AfterFunc(10*time.Second+time.Millisecond, func() { w.writes.Store(0) })
		if rested := w.rested(t.Context()); rested < 10*time.Second || rested > 10*time.Second+2*look {
			t.Errorf("they rest for %s, want 10s", rested)
		}
	})
}

func TestWritesThatAreAnsweredTogetherStillCountAsQueueing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWriters(10 * time.Second)
		w.writes.Store(8)
		time.AfterFunc(time.Second, func() { w.writes.Store(0) })
		time.AfterFunc(time.Second+2*courtesyPause, func() { w.writes.Store(8) })
		if rested := w.rested(t.Context()); rested < 10*time.Second || rested > 10*time.Second+look {
			t.Errorf("they rest for %s, want 10s", rested)
		}
	})
}

func TestProjectionsRestNoLongerThanTheyMayAndAgainAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWriters(10 * time.Second)
		w.writes.Store(100)
		if rested := w.rested(t.Context()); rested < 10*time.Second || rested > 10*time.Second+look {
			t.Errorf("they rest for %s, want 10s", rested)
		}
		if rested := w.rested(t.Context()); rested != look {
			t.Errorf("of the same burst they rest again, for %s", rested)
		}
		w.writes.Store(1)
		w.giveWay(t.Context())
		w.writes.Store(100)
		if rested := w.rested(t.Context()); rested < 10*time.Second {
			t.Errorf("in the next burst they rest for %s, want 10s", rested)
		}
	})
}

func TestProjectionsGoOnWhenTheyAreUrgentOrEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWriters(time.Minute)
		w.writes.Store(100)
		time.AfterFunc(time.Second, func() { w.hurry.Store(true) })
		if rested := w.rested(t.Context()); rested < time.Second || rested > time.Second+look {
			t.Errorf("they rest for %s, want 1s", rested)
		}
		w.hurry.Store(false)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if rested := w.rested(ctx); rested != time.Second {
			t.Errorf("they rest for %s after their end at 1s", rested)
		}
		if rested := newWriters(0).rested(t.Context()); rested != 0 {
			t.Errorf("they rest for %s where that is turned off", rested)
		}
	})
}
