// Package fresh gives answers that contain everything that was in the log when they were asked for, and keeps them while
// nothing that they depend on has moved.
//
// What an answer depends on is its watermark: the newest run of a machine, or of all, as the runs' fold knows it, the last
// place that touched a series, and the ends of the other topics that it is made of. A kept answer was computed when the projections had reached a point behind
// its watermark, so as long as the watermark stands it is what ClickHouse would give again.
package fresh

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/processor/runs"
	"github.com/millrace/millrace/query/cache"
	"github.com/millrace/millrace/query/gate"
	"github.com/millrace/millrace/query/native/touched"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// Runs is the replica of the runs' fold.
type Runs interface {
	View(look func(*runs.State))
	Reach(ctx context.Context, next int64) error
}

// Jobs is the replica of the jobs' fold.
type Jobs interface {
	Reach(ctx context.Context, next int64) error
}

// Config is what answers are made with. All of it is required.
type Config struct {
	Gate  *gate.Gate
	Cache *cache.Cache
	Runs  Runs
	Jobs  Jobs
	// Generation is the number of the projections' current generation, 0 while there is none.
	Generation func() uint32
	// LogID is the id of the log.
	LogID string
	// Touched tells when a series last got samples; without it, when any did.
	Touched *touched.Index[projection.Series]
}

// Answers is safe for concurrent use.
type Answers struct{ Config }

// New gives answers.
func New(c Config) *Answers { return &Answers{c} }

// Scope is what an answer depends on.
type Scope struct {
	// Topics are those whose events it is made of.
	Topics []string
	// Machine narrows topic runs to those of one machine, Run to one run, which never changes; 0 means all.
	Machine, Run uint64
	// Series narrows topic metrics to the samples of one series; nil means all.
	Series *projection.Series
}

// At is the moment that an answer is computed at.
type At struct {
	// Generation of the projections to read.
	Generation uint32
	// Position is what they contain of the scope's topics, at least; the empty one where nothing was waited for.
	Position eventlog.Position
}

// staleness is how long an answer is kept whose reader did not ask for everything that the log holds.
const staleness = time.Second

// Get gives the answer to a request, which names everything but the data that the answer depends on. It is computed
// unless it is kept; compute gives gate.ErrSuperseded when its generation is no more, and is then asked again for the next
// one. What the reader's header fields ask for is honoured: a position is waited for, consistency
// "eventual" waits for nothing; answers to both are kept for a second. Errors are *route.Error, or the context's.
func (a *Answers) Get(ctx context.Context, header http.Header, scope Scope, request string,
	compute func(context.Context, At) (cache.Value, error),
) ([]byte, error) {
	need, err := gate.Need(header)
	if err != nil {
		return nil, err
	}
	eventual, err := gate.Eventual(header)
	if err != nil {
		return nil, err
	}
	for {
		generation := a.Generation()
		if generation == 0 {
			return nil, route.Busy(time.Second, "the projections are being built; try again")
		}
		asked := &asked{Answers: a, generation: generation, scope: scope, request: request, compute: compute}
		var value cache.Value
		switch {
		case eventual:
			value, err = asked.relaxed(ctx, eventlog.Position{})
		case need.Log == a.LogID:
			value, err = asked.relaxed(ctx, need)
		default:
			value, err = asked.strong(ctx)
		}
		if !errors.Is(err, gate.ErrSuperseded) || a.Generation() == generation {
			return value.Body, err
		}
	}
}

// asked is a request at one generation.
type asked struct {
	*Answers

	generation uint32
	scope      Scope
	request    string
	compute    func(context.Context, At) (cache.Value, error)
}

// strong answers with everything that is in the log now.
func (a *asked) strong(ctx context.Context) (cache.Value, error) {
	ends, err := a.Gate.Target(ctx, eventlog.Position{}, a.scope.Topics...)
	if err != nil {
		return cache.Value{}, err
	}
	if err := a.catchUp(ctx, a.Runs, eventlog.Runs, ends); err != nil {
		return cache.Value{}, err
	}
	return a.Cache.Get(ctx, a.key(a.watermark(ctx, ends)), func(ctx context.Context) (cache.Value, error) {
		// The fold may know of more than the ends above: what it knows of is in the log by now.
		ends, err := a.Gate.Target(ctx, eventlog.Position{}, a.scope.Topics...)
		if err != nil {
			return cache.Value{}, err
		}
		return a.computed(ctx, ends, a.position(ends))
	})
}

// catchUp waits until the fold over a topic has seen what a target names of it.
func (a *asked) catchUp(ctx context.Context, fold Jobs, topic string, target gate.Target) error {
	end, depends := target[eventlog.Partition{Topic: topic}]
	if !depends {
		return nil
	}
	bounded, cancel := a.Gate.Bounded(ctx)
	defer cancel()
	if err := fold.Reach(bounded, end); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return fmt.Errorf("%w: %w", route.Busy(time.Second, "this replica has not caught up with the log; try again"), err)
	}
	return nil
}

// watermark tells how far the data is that the answer depends on.
func (a *asked) watermark(ctx context.Context, ends gate.Target) string {
	var mark strings.Builder
	narrow := false
	if a.scope.Series != nil && a.Touched != nil {
		var series string
		if series, narrow = a.Touched.Watermark(ctx, *a.scope.Series, ends); narrow {
			mark.WriteString(series)
		}
	}
	for _, partition := range sorted(ends) {
		if partition.Topic == eventlog.Runs {
			mark.WriteString("run" + strconv.FormatUint(a.newestRun(), 10) + ",")
			continue
		}
		if narrow && partition.Topic == eventlog.Metrics {
			continue
		}
		mark.WriteString(partition.String() + "=" + strconv.FormatInt(ends[partition], 10) + ",")
	}
	return mark.String()
}

func (a *asked) newestRun() (newest uint64) {
	a.Runs.View(func(s *runs.State) {
		switch {
		case a.scope.Run != 0:
			newest = min(a.scope.Run, s.Requests)
		case a.scope.Machine == 0:
			newest = s.Latest
		case s.Machines[a.scope.Machine] != nil:
			newest = s.Machines[a.scope.Machine].Latest[0]
		}
	})
	return newest
}

func sorted(ends gate.Target) []eventlog.Partition {
	partitions := make([]eventlog.Partition, 0, len(ends))
	for partition := range ends {
		partitions = append(partitions, partition)
	}
	eventlog.SortPartitions(partitions)
	return partitions
}

func (a *asked) key(mark string) string {
	return "native/" + strconv.FormatUint(uint64(a.generation), 10) + "/" + mark + "/" + a.request
}

// position is the place of the newest records before some ends.
func (a *asked) position(ends gate.Target) eventlog.Position {
	position := eventlog.Position{Log: a.LogID, Offsets: map[eventlog.Partition]int64{}}
	for partition, end := range ends {
		if end > 0 {
			position.Offsets[partition] = end - 1
		}
	}
	return position
}

// relaxed answers with what the projections hold once they contain a position, and keeps that for a moment.
func (a *asked) relaxed(ctx context.Context, need eventlog.Position) (cache.Value, error) {
	target := gate.Target{}
	if need.Log != "" {
		var err error
		if target, err = a.Gate.Target(ctx, need, a.scope.Topics...); err != nil {
			return cache.Value{}, err
		}
	}
	position := eventlog.Position{}
	if len(target) > 0 {
		position = a.position(target)
	}
	return a.Cache.Get(ctx, a.key("at "+position.String()), func(ctx context.Context) (cache.Value, error) {
		value, err := a.computed(ctx, target, position)
		if soon := time.Now().Add(staleness); value.Expires.IsZero() || soon.Before(value.Expires) {
			value.Expires = soon
		}
		return value, err
	})
}

// computed computes the answer once the projections contain a target.
func (a *asked) computed(ctx context.Context, target gate.Target, position eventlog.Position) (cache.Value, error) {
	if err := a.Gate.Wait(ctx, a.generation, target); err != nil {
		return cache.Value{}, err
	}
	if err := a.catchUp(ctx, a.Jobs, eventlog.Jobs, target); err != nil {
		return cache.Value{}, err
	}
	return a.compute(ctx, At{Generation: a.generation, Position: position})
}
