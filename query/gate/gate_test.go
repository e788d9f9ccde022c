package gate

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

var (
	registry0 = eventlog.Partition{Topic: eventlog.Registry}
	runs0     = eventlog.Partition{Topic: eventlog.Runs}
	metrics0  = eventlog.Partition{Topic: eventlog.Metrics}
	metrics1  = eventlog.Partition{Topic: eventlog.Metrics, ID: 1}
)

// fakeLog is a log whose answers take a millisecond.
type fakeLog struct {
	mu      sync.Mutex
	ends    map[eventlog.Partition]int64
	marks   map[string]map[eventlog.Partition]eventlog.Commit
	lookups int
	polls   int
	down    bool
	current uint32
}

func (l *fakeLog) Partitions(topics ...string) []eventlog.Partition {
	var found []eventlog.Partition
	for _, p := range []eventlog.Partition{registry0, runs0, metrics0, metrics1} {
		for _, topic := range topics {
			if p.Topic == topic {
				found = append(found, p)
			}
		}
	}
	return found
}

func (l *fakeLog) Ends(ctx context.Context, partitions ...eventlog.Partition) (map[eventlog.Partition]int64, error) {
	l.mu.Lock()
	l.lookups++
	seen, down := maps.Clone(l.ends), l.down
	l.mu.Unlock()
	advance(time.Millisecond)
	if down {
		return nil, errors.New("no leader")
	}
	return seen, ctx.Err()
}

func (l *fakeLog) Committed(_ context.Context, group string, _ ...eventlog.Partition) (map[eventlog.Partition]eventlog.Commit, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.polls++
	return maps.Clone(l.marks[group]), nil
}

func (l *fakeLog) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

// advance lets fake time pass: tests that use it run in a bubble of synctest.
func advance(d time.Duration) { <-time.After(d) }

func newFakeLog() *fakeLog {
	return &fakeLog{
		ends:    map[eventlog.Partition]int64{},
		marks:   map[string]map[eventlog.Partition]eventlog.Commit{"g1": {}, "g2": {}},
		current: 1,
	}
}

func newTestGate(t *testing.T, l *fakeLog) *Gate {
	g := New(Config{
		Log: l, LogID: "this",
		Generation: func() uint32 { l.mu.Lock(); defer l.mu.Unlock(); return l.current },
		Group:      func(n uint32) string { return map[uint32]string{1: "g1", 2: "g2"}[n] },
		Registry:   prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
	})
	t.Cleanup(g.Close)
	return g
}

func TestReadSeesEndsOfALookupThatStartedAfterItArrived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog()
		g := newTestGate(t, l)
		l.ends[runs0] = 1
		first := make(chan Target, 1)
		go func() {
			target, err := g.Target(t.Context(), eventlog.Position{}, eventlog.Runs)
			if err != nil {
				t.Error(err)
			}
			first <- target
		}()
		synctest.Wait() // the first look-up is under way and has seen 1
		l.set(func() { l.ends[runs0] = 2 })
		second, err := g.Target(t.Context(), eventlog.Position{}, eventlog.Runs)
		if err != nil {
			t.Fatal(err)
		}
		if got := (<-first)[runs0]; got != 1 {
			t.Errorf("the first read's look-up gave %d, want 1", got)
		}
		if second[runs0] != 2 {
			t.Errorf("a read that arrived after record 1 was acknowledged waits for %d, want 2", second[runs0])
		}
	})
}

func TestManyReadsShareLookups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog()
		g := newTestGate(t, l)
		var wait sync.WaitGroup
		for range 500 {
			wait.Go(func() {
				if _, err := g.Target(t.Context(), eventlog.Position{}, eventlog.Runs, eventlog.Registry); err != nil {
					t.Error(err)
				}
			})
		}
		wait.Wait()
		if l.lookups > 2 {
			t.Errorf("500 reads at once made %d look-ups, want at most 2", l.lookups)
		}
	})
}

func TestReadThatLeavesDoesNotFailThoseWhoShareItsLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog()
		g := newTestGate(t, l)
		ctx, leave := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		go func() {
			_, err := g.Target(ctx, eventlog.Position{}, eventlog.Runs)
			gone <- err
		}()
		stays := make(chan error, 1)
		go func() {
			_, err := g.Target(t.Context(), eventlog.Position{}, eventlog.Runs)
			stays <- err
		}()
		synctest.Wait()
		leave()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("the read that left got %v", err)
		}
		if err := <-stays; err != nil {
			t.Errorf("the read that stayed got %v", err)
		}
	})
}

func TestLogThatDoesNotAnswerIsAskedAgainUntilTheBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog()
		l.down = true
		g := newTestGate(t, l)
		back := time.AfterFunc(time.Second, func() { l.set(func() { l.down = false }) })
		if _, err := g.Target(t.Context(), eventlog.Position{}, eventlog.Runs); err != nil {
			t.Errorf("a log that came back after a second: %v", err)
		}
		back.Stop()
		l.set(func() { l.down = true })
		started := time.Now()
		_, err := g.Target(t.Context(), eventlog.Position{}, eventlog.Runs)
		wantBusy(t, err)
		if waited := time.Since(started); waited < DefaultBound || waited > DefaultBound+time.Second {
			t.Errorf("waited %s for a log that is down, want %s", waited, DefaultBound)
		}
	})
}

func wantBusy(t *testing.T, err error) {
	t.Helper()
	var refusal *route.Error
	if !errors.As(err, &refusal) || refusal.Status != http.StatusServiceUnavailable || refusal.RetryAfter <= 0 {
		t.Errorf("got %v, want a 503 with Retry-After", err)
	}
}

func TestPositionNamesWhatAReadWaitsFor(t *testing.T) {
	tests := []struct {
		name, header string
		topics       []string
		want         Target
		status       int
	}{
		{"read topics only", "this;registry/0=3,runs/0=7,results/2=9", []string{eventlog.Runs}, Target{runs0: 8}, 0},
		{"several topics", "this;registry/0=3,runs/0=7", []string{eventlog.Runs, eventlog.Registry}, Target{runs0: 8, registry0: 4}, 0},
		{"nothing of the topic", "this;registry/0=3", []string{eventlog.Runs}, Target{}, 0},
		{"another log: the ends", "older;runs/0=7000", []string{eventlog.Runs}, Target{runs0: 8}, 0},
		{"none: the ends", "", []string{eventlog.Metrics}, Target{metrics0: 6, metrics1: 0}, 0},
		{"partition that is not there", "this;metrics/2=1", []string{eventlog.Metrics}, nil, http.StatusBadRequest},
		{"the log's last record", "this;metrics/0=5", []string{eventlog.Metrics}, Target{metrics0: 6}, 0},
		{"behind the log's end", "this;metrics/0=6", []string{eventlog.Metrics}, nil, http.StatusBadRequest},
		{"far behind the log's end", "this;runs/0=999999999", []string{eventlog.Runs}, nil, http.StatusBadRequest},
		{"offset that no record has", "this;runs/0=9223372036854775807", []string{eventlog.Runs}, nil, http.StatusBadRequest},
		{"not a position", "runs=3", nil, nil, http.StatusBadRequest},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := newFakeLog()
			l.ends[runs0], l.ends[metrics0], l.ends[registry0] = 8, 6, 4
			g := newTestGate(t, l)
			need, err := Need(http.Header{eventlog.PositionHeader: {test.header}})
			var got Target
			if err == nil {
				got, err = g.Target(t.Context(), need, test.topics...)
			}
			var refusal *route.Error
			switch {
			case test.status == 0 && err != nil:
				t.Fatal(err)
			case test.status != 0 && (!errors.As(err, &refusal) || refusal.Status != test.status):
				t.Fatalf("got %v, want status %d", err, test.status)
			case !maps.Equal(got, test.want):
				t.Errorf("waits for %v, want %v", got, test.want)
			}
		})
	}
}

func TestPositionThatIsProjectedNeedsNoLookup(t *testing.T) {
	l := newFakeLog()
	g := newTestGate(t, l)
	g.Moved("g1", runs0, 8)
	position := eventlog.Position{Log: "this", Offsets: map[eventlog.Partition]int64{runs0: 7}}
	if _, err := g.Target(t.Context(), position, eventlog.Runs); err != nil || l.lookups != 0 {
		t.Errorf("%d look-ups and %v for a position that the projections have reached, want none", l.lookups, err)
	}
}

func TestPositionGivenWhileALookupIsUnderWayIsWithinTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog()
		g := newTestGate(t, l)
		first := make(chan error, 1)
		go func() {
			_, err := g.Target(t.Context(), eventlog.Position{}, eventlog.Runs)
			first <- err
		}()
		synctest.Wait() // the look-up is under way and has seen an empty log
		l.set(func() { l.ends[runs0] = 1 })
		position := eventlog.Position{Log: "this", Offsets: map[eventlog.Partition]int64{runs0: 0}}
		if _, err := g.Target(t.Context(), position, eventlog.Runs); err != nil {
			t.Errorf("the position of a record that was acknowledged just before is refused: %v", err)
		}
		if err := <-first; err != nil {
			t.Error(err)
		}
	})
}

func TestWaitEndsWhenTheMarksAreCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog()
		g := newTestGate(t, l)
		l.marks["g1"][runs0] = eventlog.Commit{Offset: -1}
		done := make(chan error, 1)
		go func() { done <- g.Wait(t.Context(), 1, Target{runs0: 8}) }()
		advance(time.Second)
		l.set(func() { l.marks["g1"][runs0] = eventlog.Commit{Offset: 5, Note: "pending 5 7"} })
		advance(time.Second)
		select {
		case err := <-done:
			t.Fatalf("the wait ended (%v) while the batch with the record was still being written", err)
		default:
		}
		l.set(func() { l.marks["g1"][runs0] = eventlog.Commit{Offset: 8} })
		started := time.Now()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(started); waited > 2*pollEvery {
			t.Errorf("noticed the commit after %s, want within %s", waited, 2*pollEvery)
		}
	})
}

func TestKnownMarksAreNotLookedUpAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog()
		g := newTestGate(t, l)
		g.Moved("g1", runs0, 8)
		if err := g.Wait(t.Context(), 1, Target{runs0: 8}); err != nil {
			t.Fatal(err)
		}
		if l.polls != 0 {
			t.Errorf("%d look-ups for a mark that was announced", l.polls)
		}
	})
}

func TestAnnouncedMoveEndsTheWaitAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog()
		g := newTestGate(t, l)
		g.Moved("g1", runs0, 3)
		done := make(chan error, 1)
		go func() { done <- g.Wait(t.Context(), 1, Target{runs0: 8}) }()
		synctest.Wait()
		started := time.Now()
		g.Moved("g1", runs0, 8)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(started); waited != 0 {
			t.Errorf("waited %s after the move was announced", waited)
		}
	})
}

func TestProgressOfAGenerationBeingBuiltDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog()
		g := newTestGate(t, l)
		g.Moved("g1", runs0, 3)
		g.Moved("g2", runs0, 8)
		wantBusy(t, g.Wait(t.Context(), 1, Target{runs0: 8}))
		if err := g.Wait(t.Context(), 1, Target{runs0: 3}); err != nil {
			t.Errorf("the current generation's own progress was forgotten: %v", err)
		}
	})
}

func TestWaitForASupersededGenerationStartsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog()
		g := newTestGate(t, l)
		done := make(chan error, 1)
		go func() { done <- g.Wait(t.Context(), 1, Target{runs0: 8}) }()
		synctest.Wait()
		l.set(func() { l.current = 2 })
		if err := <-done; !errors.Is(err, ErrSuperseded) {
			t.Errorf("got %v, want ErrSuperseded", err)
		}
	})
}

func TestWaitPastTheBoundIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog()
		g := newTestGate(t, l)
		started := time.Now()
		wantBusy(t, g.Wait(t.Context(), 1, Target{runs0: 8}))
		if waited := time.Since(started); waited != DefaultBound {
			t.Errorf("waited %s, want %s", waited, DefaultBound)
		}
	})
}

func TestNobodyIsAskedWhileNobodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog()
		g := newTestGate(t, l)
		ctx, leave := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- g.Wait(ctx, 1, Target{runs0: 8}) }()
		synctest.Wait()
		leave()
		<-done
		advance(time.Second)
		asked := l.polls
		advance(time.Minute)
		if l.polls != asked {
			t.Errorf("%d look-ups while nobody waits", l.polls-asked)
		}
	})
}

func TestConsistencyHeaderTakesStrongAndEventual(t *testing.T) {
	for value, want := range map[string]bool{"": false, "strong": false, "eventual": true, "Eventual": true} {
		if got, err := Eventual(http.Header{ConsistencyHeader: {value}}); err != nil || got != want {
			t.Errorf("%q: %v, %v, want %v", value, got, err, want)
		}
	}
	if _, err := Eventual(http.Header{ConsistencyHeader: {"sometimes"}}); err == nil {
		t.Error("an unknown consistency was accepted")
	}
}

func TestHugePositionIsRefusedAndNotWrappedAround(t *testing.T) {
	position := eventlog.Position{Log: "this", Offsets: map[eventlog.Partition]int64{runs0: math.MaxInt64}}
	if _, err := newTestGate(t, newFakeLog()).Target(t.Context(), position, eventlog.Runs); err == nil {
		t.Error("the target behind the largest offset wraps around to a negative one")
	}
}
