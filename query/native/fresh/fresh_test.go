package fresh_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/processor/runs"
	"github.com/millrace/millrace/query/cache"
	"github.com/millrace/millrace/query/gate"
	"github.com/millrace/millrace/query/native/fresh"
	"github.com/millrace/millrace/schemas/eventlog"
)

var runs0 = eventlog.Partition{Topic: eventlog.Runs}

// world is a log of topic runs, a fold that follows it and projections that follow the fold, each in its own time.
type world struct {
	mu sync.Mutex
	// appended, folded and projected count records; every record is a run of machine 1.
	appended, folded, projected int64
	generation                  uint32
	moved                       chan struct{}
	computed                    atomic.Int64
}

func (w *world) Partitions(...string) []eventlog.Partition { return []eventlog.Partition{runs0} }

func (w *world) Ends(ctx context.Context, _ ...eventlog.Partition) (map[eventlog.Partition]int64, error) {
	w.mu.Lock()
	end := w.appended
	w.mu.Unlock()
	<-time.After(time.Millisecond)
	return map[eventlog.Partition]int64{runs0: end}, ctx.Err()
}

func (w *world) Committed(_ context.Context, group string, _ ...eventlog.Partition) (map[eventlog.Partition]eventlog.Commit, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if group != groupOf(w.generation) {
		return map[eventlog.Partition]eventlog.Commit{}, nil
	}
	return map[eventlog.Partition]eventlog.Commit{runs0: {Offset: w.projected}}, nil
}

func (w *world) Generation() uint32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.generation
}

func groupOf(generation uint32) string { return fmt.Sprint("g", generation) }

func (w *world) View(look func(*runs.State)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	newest := uint64(w.folded)
	look(&runs.State{Requests: newest, Latest: newest, Machines: map[uint64]*runs.Machine{1: {Latest: [3]uint64{newest}}}})
}

func (w *world) Reach(ctx context.Context, next int64) error {
	for {
		w.mu.Lock()
		reached, moved := w.folded >= next, w.moved
		w.mu.Unlock()
		if reached {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// change changes the world and wakes who waits for the fold.
func (w *world) change(by func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	by()
	close(w.moved)
	w.moved = make(chan struct{})
}

func newWorld(t *testing.T) (*world, *fresh.Answers) {
	w := &world{generation: 1, moved: make(chan struct{})}
	metrics, quiet := prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
	kept, err := cache.New(cache.Config{Bytes: 1 << 20, Registry: metrics, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	g := gate.New(gate.Config{Log: w, LogID: "log", Generation: w.Generation, Group: groupOf, Registry: metrics, Logger: quiet})
	t.Cleanup(func() {
		kept.Close()
		g.Close()
	})
	return w, fresh.New(fresh.Config{Gate: g, Cache: kept, Runs: w, Jobs: w, Generation: w.Generation, LogID: "log"})
}

// read asks how many records are projected.
func (w *world) read(ctx context.Context, a *fresh.Answers, header http.Header, scope fresh.Scope) (int64, error) {
	body, err := a.Get(ctx, header, scope, "count", func(context.Context, fresh.At) (cache.Value, error) {
		w.computed.Add(1)
		w.mu.Lock()
		defer w.mu.Unlock()
		return cache.Value{Body: binary.BigEndian.AppendUint64(nil, uint64(w.projected))}, nil
	})
	if err != nil {
		return 0, err
	}
	return int64(binary.BigEndian.Uint64(body)), nil
}

var all = fresh.Scope{Topics: []string{eventlog.Runs}}

// Whatever the fold, the projections and the cache do meanwhile, an answer contains what was in the log when it was
// asked for.
func TestAnswerContainsWhatTheLogHeldWhenItWasAskedFor(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			w, a := newWorld(t)
			random := rand.New(rand.NewPCG(seed, 1))
			var readers sync.WaitGroup
			for range 200 {
				w.change(func() {
					switch random.IntN(4) {
					case 0:
						w.appended++
					case 1:
						w.folded += random.Int64N(w.appended - w.folded + 1)
					case 2:
						w.projected += random.Int64N(w.appended - w.projected + 1)
					}
				})
				w.mu.Lock()
				held := w.appended
				w.mu.Unlock()
				scope := fresh.Scope{Topics: all.Topics, Machine: random.Uint64N(2)}
				readers.Go(func() {
					got, err := w.read(t.Context(), a, nil, scope)
					if err != nil || got < held {
						t.Errorf("seed %d: the answer has %d records, the log held %d: %v", seed, got, held, err)
					}
				})
				<-time.After(time.Duration(random.IntN(3)) * time.Millisecond)
			}
			w.change(func() { w.folded, w.projected = w.appended, w.appended })
			readers.Wait()
		})
	}
}

func TestAnswerIsKeptWhileItsWatermarkStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a := newWorld(t)
		w.change(func() { w.appended, w.folded, w.projected = 3, 3, 3 })
		for range 5 {
			if got, err := w.read(t.Context(), a, nil, all); got != 3 || err != nil {
				t.Fatalf("the answer is %d, %v, want 3", got, err)
			}
		}
		if n := w.computed.Load(); n != 1 {
			t.Errorf("the answer was computed %d times, want once", n)
		}
		w.change(func() { w.appended, w.folded, w.projected = 4, 4, 4 })
		if got, err := w.read(t.Context(), a, nil, all); got != 4 || err != nil {
			t.Errorf("behind another run the answer is %d, %v, want 4", got, err)
		}
		if got, err := w.read(t.Context(), a, nil, fresh.Scope{Topics: all.Topics, Run: 2}); got != 4 || err != nil {
			t.Errorf("of one run the answer is %d, %v, want 4", got, err)
		}
		before := w.computed.Load()
		w.change(func() { w.appended, w.folded, w.projected = 5, 5, 5 })
		if _, err := w.read(t.Context(), a, nil, fresh.Scope{Topics: all.Topics, Run: 2}); err != nil || w.computed.Load() != before {
			t.Errorf("what is known of a run was computed again behind another run: %v", err)
		}
	})
}

func TestRelaxedReadsAreAtMostASecondOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a := newWorld(t)
		w.change(func() { w.appended, w.folded, w.projected = 3, 2, 2 })
		for name, header := range map[string]http.Header{
			"eventual": {"Millrace-Consistency": {"eventual"}},
			"position": {"Millrace-Position": {"log;runs/0=1"}},
		} {
			w.change(func() { w.projected = 2 })
			<-time.After(2 * time.Second)
			for i, want := range []int64{2, 2, 3} {
				if i == 1 {
					w.change(func() { w.projected = 3 })
				}
				if i == 2 {
					<-time.After(time.Second)
				}
				if got, err := w.read(t.Context(), a, header, all); got != want || err != nil {
					t.Errorf("%s, read %d: %d, %v, want %d", name, i, got, err, want)
				}
			}
		}
	})
}

func TestReadStartsOverWithTheNextGeneration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a := newWorld(t)
		w.change(func() { w.appended, w.folded, w.projected = 3, 3, 1 })
		answer := make(chan int64, 1)
		go func() {
			got, err := w.read(t.Context(), a, nil, all)
			if err != nil {
				t.Error(err)
			}
			answer <- got
		}()
		<-time.After(100 * time.Millisecond) // it waits for the projections
		w.change(func() { w.generation, w.projected = 2, 3 })
		if got := <-answer; got != 3 {
			t.Errorf("the answer is %d, want 3 of the next generation", got)
		}
	})
}

func TestReadBeforeThereAreProjectionsIsToldToComeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a := newWorld(t)
		w.change(func() { w.generation = 0 })
		if _, err := w.read(t.Context(), a, nil, all); err == nil || err.Error() != "503 the projections are being built; try again" {
			t.Errorf("error is %v, want 503", err)
		}
	})
}
