package load

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestLatenciesAreCountedWithThreeDigits(t *testing.T) {
	l := NewLatencies()
	for i := range 1000 {
		l.Record(time.Duration(i+1) * time.Millisecond)
	}
	s := l.Summary()
	if s.Count != 1000 {
		t.Fatalf("%d times counted, 1000 were recorded", s.Count)
	}
	for name, figure := range map[string]struct{ got, want float64 }{
		"mean": {s.Mean, 500.5}, "p50": {s.P50, 500}, "p90": {s.P90, 900}, "p99": {s.P99, 990}, "p99.9": {s.P999, 999}, "max": {s.Max, 1000},
	} {
		if math.Abs(figure.got-figure.want) > figure.want/500 {
			t.Errorf("%s is %g ms, want %g", name, figure.got, figure.want)
		}
	}
}

func TestTimesBeyondTheBoundsStillCount(t *testing.T) {
	l := NewLatencies()
	for _, d := range []time.Duration{-time.Second, 0, time.Nanosecond, longest, 10 * longest} {
		l.Record(d)
	}
	s := l.Summary()
	if s.Count != 5 {
		t.Errorf("%d times counted, 5 were recorded", s.Count)
	}
	if want := float64(longest.Milliseconds()); math.Abs(s.Max-want) > want/500 {
		t.Errorf("the longest is %g ms, want %g", s.Max, want)
	}
}

func TestMergedHistogramsHoldTheTimesOfBoth(t *testing.T) {
	a, b := NewLatencies(), NewLatencies()
	for range 10 {
		a.Record(time.Millisecond)
		b.Record(time.Second)
	}
	a.Merge(b)
	if s := a.Summary(); s.Count != 20 || s.P50 > 2 || s.P90 < 990 {
		t.Errorf("summary %+v, want 20 times, half of 1 ms and half of 1000 ms", s)
	}
}

func TestAnEmptyHistogramHasNoTimes(t *testing.T) {
	if s := NewLatencies().Summary(); s != (Summary{}) {
		t.Errorf("summary %+v, want zeros", s)
	}
}

func first(n int, seed uint64, rate float64) []time.Duration {
	var times []time.Duration
	for at := range Arrivals(seed, rate) {
		if times = append(times, at); len(times) == n {
			break
		}
	}
	return times
}

func TestArrivalsFollowFromTheSeedAndKeepTheRate(t *testing.T) {
	const n, rate = 10_000, 250
	times := first(n, 1, rate)
	if !slices.IsSorted(times) {
		t.Error("arrivals go back in time")
	}
	if !slices.Equal(times, first(n, 1, rate)) {
		t.Error("the same seed gives other times")
	}
	if slices.Equal(times, first(n, 2, rate)) {
		t.Error("another seed gives the same times")
	}
	got := n / times[n-1].Seconds()
	if math.Abs(got-rate) > rate*0.05 {
		t.Errorf("%.1f arrivals a second, want about %d", got, rate)
	}
}

func TestOpenLoopSendsAtItsTimesWhateverTheAnswersDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := Open{Rate: 100, Seed: 1, InFlight: 100_000}
		stop := make(chan struct{})
		start := time.Now()
		var mu sync.Mutex
		var late []time.Duration
		time.AfterFunc(10*time.Second, func() { close(stop) })
		sent := open.Run(t.Context(), stop, func(_ context.Context, _ int, meant time.Time) {
			mu.Lock()
			late = append(late, time.Since(meant))
			mu.Unlock()
			<-time.After(time.Minute) // the server hangs
		})
		if sent < 900 || sent > 1100 || len(late) != sent {
			t.Errorf("%d requests in 10 s at 100 a second, %d sent", sent, len(late))
		}
		if worst := slices.Max(late); worst != 0 {
			t.Errorf("a request was sent %s late", worst)
		}
		if took := time.Since(start); took < time.Minute {
			t.Errorf("the load ended after %s, before its requests were settled", took)
		}
	})
}

func TestAServerThatStandsStillIsChargedForEveryoneWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := Open{Rate: 10, Seed: 1, InFlight: 1}
		stop := make(chan struct{})
		time.AfterFunc(10*time.Second, func() { close(stop) })
		latencies := NewLatencies()
		open.Run(t.Context(), stop, func(_ context.Context, i int, meant time.Time) {
			if i == 0 {
				<-time.After(5 * time.Second)
			}
			latencies.Record(time.Since(meant))
		})
		// Some 50 of 100 requests were meant to be sent while the first one hung.
		if s := latencies.Summary(); s.P90 < 3000 {
			t.Errorf("90 of 100 requests took at most %g ms: the wait of those that could not be sent is missing", s.P90)
		}
	})
}

func TestOpenLoopEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		Open{Rate: 10, Seed: 1, InFlight: 1}.Run(ctx, nil, func(ctx context.Context, _ int, _ time.Time) { <-ctx.Done() })
		if took := time.Since(start); took != time.Second {
			t.Errorf("the load ended after %s, its context after 1s", took)
		}
	})
}

// sleeper opens senders whose requests take a time.
func sleeper(d time.Duration, ended *atomic.Int64) Opener {
	return func(context.Context, int) (func(int) error, func(), error) {
		return func(int) error { <-time.After(d); return nil }, func() { ended.Add(1) }, nil
	}
}

func TestClosedLoopAnswersEveryRequestOnceAtTheRateOfItsSenders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Int64
		round, err := Closed{Senders: 4, Requests: 400}.Run(t.Context(), sleeper(10*time.Millisecond, &ended))
		if err != nil {
			t.Fatal(err)
		}
		if round.Requests != 400 || round.Elapsed != time.Second || round.Rate() != 400 {
			t.Errorf("%d requests in %s, %g a second; want 400 in 1s", round.Requests, round.Elapsed, round.Rate())
		}
		if s := round.Latencies.Summary(); s.Count != 400 || math.Abs(s.P99-10) > 0.1 {
			t.Errorf("latencies %+v, want 400 of 10 ms", s)
		}
		if ended.Load() != 4 {
			t.Errorf("%d of 4 senders were ended", ended.Load())
		}
	})
}

func TestClosedLoopEndsWhenItsTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Int64
		round, err := Closed{Senders: 2, Time: time.Second}.Run(t.Context(), sleeper(300*time.Millisecond, &ended))
		if err != nil {
			t.Fatal(err)
		}
		if round.Requests != 8 || round.Elapsed != 1200*time.Millisecond {
			t.Errorf("%d requests in %s, want 8 in 1.2s: one under way is finished", round.Requests, round.Elapsed)
		}
	})
}

func TestClosedLoopEndsWithTheFirstFailure(t *testing.T) {
	broken := errors.New("broken")
	var sent atomic.Int64
	_, err := Closed{Senders: 4, Requests: 1_000_000}.Run(t.Context(), func(context.Context, int) (func(int) error, func(), error) {
		return func(i int) error {
			if sent.Add(1); i == 10 {
				return broken
			}
			return nil
		}, func() {}, nil
	})
	if !errors.Is(err, broken) || sent.Load() == 1_000_000 {
		t.Errorf("error %v after %d requests", err, sent.Load())
	}
}

func TestClosedLoopEndsSendersThatWereOpenedWhenOneCannotBe(t *testing.T) {
	refused := errors.New("refused")
	ended := 0
	_, err := Closed{Senders: 3, Requests: 1}.Run(t.Context(), func(_ context.Context, sender int) (func(int) error, func(), error) {
		if sender == 2 {
			return nil, nil, refused
		}
		return func(int) error { return nil }, func() { ended++ }, nil
	})
	if !errors.Is(err, refused) || ended != 2 {
		t.Errorf("error %v, %d of 2 senders ended", err, ended)
	}
}
