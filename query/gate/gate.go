// Package gate lets reads see the writes that were acknowledged before them: a read waits until the projections contain
// what the log held when the read arrived, or what its Millrace-Position header names.
package gate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// ConsistencyHeader carries how much a native read asks for; "eventual" waits for nothing.
const ConsistencyHeader = "Millrace-Consistency"

// DefaultBound is how long a read waits at most.
const DefaultBound = 5 * time.Second

// ErrSuperseded means that another generation of the projections became current while a read waited for the former one,
// which nobody may be working on any more. The read starts over with the new generation.
var ErrSuperseded = errors.New("another generation of the projections became current")

// Log is what the gate asks the log, the methods of eventlog.Client.
type Log interface {
	Partitions(topics ...string) []eventlog.Partition
	Ends(ctx context.Context, partitions ...eventlog.Partition) (map[eventlog.Partition]int64, error)
	Committed(ctx context.Context, group string, partitions ...eventlog.Partition) (map[eventlog.Partition]eventlog.Commit, error)
}

// Config is what a gate works with. All but Bound is required.
type Config struct {
	Log Log
	// LogID is the id of the log.
	LogID string
	// Generation is the number of the projections' current generation, Group the consumer group of a generation.
	Generation func() uint32
	Group      func(generation uint32) string
	// Bound is how long a read waits at most; 0 means DefaultBound.
	Bound    time.Duration
	Registry prometheus.Registerer
	Logger   *slog.Logger
}

// Target says for each partition how far a read wants it: the offset behind the last record that must be contained.
type Target map[eventlog.Partition]int64

// Gate is safe for concurrent use. Close ends it.
type Gate struct {
	log     Log
	logID   string
	bound   time.Duration
	ends    *lookups
	marks   *marks
	waits   *prometheus.HistogramVec
	refused prometheus.Counter
	logger  *slog.Logger
}

// New prepares a gate. It asks the log nothing until somebody waits.
func New(c Config) *Gate {
	g := &Gate{
		log: c.Log, logID: c.LogID, bound: c.Bound, logger: c.Logger,
		ends:  newLookups(c.Log.Ends, c.Logger),
		marks: newMarks(c.Log.Committed, c.Generation, c.Group, c.Logger),
		waits: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "millrace_gate_wait_seconds", Help: "Time that reads wait: for the log's ends, and for the projections to reach them.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
		}, []string{"for"}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "millrace_gate_refused_total", Help: "Reads refused because the projections did not catch up in time.",
		}),
	}
	if g.bound <= 0 {
		g.bound = DefaultBound
	}
	c.Registry.MustRegister(g.waits, g.refused)
	return g
}

// Waiting tells whether a read waits for the projections.
func (g *Gate) Waiting() bool { return g.marks.anybody() }

// Close ends what runs in the background. Nobody may be waiting.
func (g *Gate) Close() {
	g.ends.close()
	g.marks.close()
}

// Need reads the position that a request carries; the empty one when it carries none. Errors are *route.Error.
func Need(header http.Header) (eventlog.Position, error) {
	need, err := eventlog.ParsePosition(header.Get(eventlog.PositionHeader))
	if err != nil {
		return need, route.Errorf(http.StatusBadRequest, "header %s: %v", eventlog.PositionHeader, err)
	}
	return need, nil
}

// Eventual tells whether a request is content with what the projections hold now. Only the native API honours it.
// Errors are *route.Error.
func Eventual(header http.Header) (bool, error) {
	switch value := header.Get(ConsistencyHeader); {
	case value == "" || strings.EqualFold(value, "strong"):
		return false, nil
	case strings.EqualFold(value, "eventual"):
		return true, nil
	default:
		return false, route.Errorf(http.StatusBadRequest, "header %s must be strong or eventual", ConsistencyHeader)
	}
}

// Bounded gives a context that ends when a read has waited long enough.
func (g *Gate) Bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, g.bound)
}

// Target works out what a read of some topics must contain: what its position names, or else everything that is in the
// log now. A position behind the log's end is refused: nobody was given it. A position of another log names nothing here:
// every log but this one is older and wholly contained, and the read waits as if it carried none. Errors are *route.Error,
// or the context's.
func (g *Gate) Target(ctx context.Context, need eventlog.Position, topics ...string) (Target, error) {
	partitions := g.log.Partitions(topics...)
	if need.Log == g.logID && g.logID != "" {
		target, err := named(need, partitions)
		if err != nil || g.marks.reached(target) {
			return target, err
		}
		if err := g.within(ctx, target); err != nil {
			return nil, err
		}
		return target, nil
	}
	return g.look(ctx, partitions)
}

// look gives the log's ends as they are now.
func (g *Gate) look(ctx context.Context, partitions []eventlog.Partition) (Target, error) {
	started := time.Now()
	ctx, cancel := g.Bounded(ctx)
	defer cancel()
	ends, err := g.ends.look(ctx, partitions)
	if err != nil {
		return nil, g.refuse(ctx, "the log does not say where it ends", err)
	}
	g.waits.WithLabelValues("ends").Observe(time.Since(started).Seconds())
	return ends, nil
}

// within refuses a target behind the log's end: the wait for it would be in vain. The look-up begins after the read
// arrived, so that it shows every record whose position was given before.
func (g *Gate) within(ctx context.Context, target Target) error {
	ends, err := g.look(ctx, slices.Collect(maps.Keys(target)))
	if err != nil {
		return err
	}
	for partition, next := range target {
		if next > ends[partition] {
			return noRecord(partition, next-1)
		}
	}
	return nil
}

func noRecord(partition eventlog.Partition, offset int64) error {
	return route.Errorf(http.StatusBadRequest, "header %s: there is no record %s=%d in this log", eventlog.PositionHeader, partition, offset)
}

// named turns a position of this log into a target. What it says of other topics does not matter to the read.
func named(need eventlog.Position, partitions []eventlog.Partition) (Target, error) {
	target := Target{}
	read := map[string]int{}
	for _, partition := range partitions {
		read[partition.Topic]++
	}
	for partition, offset := range need.Offsets {
		count, isRead := read[partition.Topic]
		switch {
		case !isRead:
		case partition.ID >= count || offset == math.MaxInt64:
			return nil, noRecord(partition, offset)
		default:
			target[partition] = offset + 1
		}
	}
	return target, nil
}

// Wait waits until a generation of the projections contains a target. It fails with ErrSuperseded when another
// generation became current meanwhile; other errors are *route.Error, or the context's.
func (g *Gate) Wait(ctx context.Context, generation uint32, target Target) error {
	started := time.Now()
	ctx, cancel := g.Bounded(ctx)
	defer cancel()
	err := g.marks.wait(ctx, generation, target)
	switch {
	case err == nil:
		g.waits.WithLabelValues("projections").Observe(time.Since(started).Seconds())
		return nil
	case errors.Is(err, ErrSuperseded):
		return err
	}
	return g.refuse(ctx, "the projections have not caught up with the log", err)
}

// refuse makes the refusal of a read whose wait failed: never a stale answer.
func (g *Gate) refuse(ctx context.Context, what string, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	g.refused.Inc()
	return fmt.Errorf("%w: %w", route.Busy(time.Second, "%s within %s; try again", what, g.bound), err)
}

// Moved tells that a group's projections contain everything of a partition before next. A processor in the same process
// calls it; what others commit is looked up.
func (g *Gate) Moved(group string, partition eventlog.Partition, next int64) {
	g.marks.moved(group, partition, next)
}
