// Package replay builds a new generation of the projections from the log's archive and its tail, beside the live one,
// and makes it current. Readers notice nothing.
package replay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/processor/sink"
	"github.com/millrace/millrace/schemas/clickhouse"
	"github.com/millrace/millrace/schemas/eventlog"
)

// Report is what a rebuild did.
type Report struct {
	Generation uint32  `json:"generation"`
	Former     uint32  `json:"former_generation"`
	Records    int64   `json:"records"`
	Seconds    float64 `json:"seconds"`
}

// Rebuilder builds generations.
type Rebuilder struct {
	DB     *clickhouse.DB
	Config sink.Config
	// Sink is what the builder's sink works with; its writer is made for each generation.
	Sink   sink.Dependencies
	Logger *slog.Logger
	// Progress is told the number of records that were read; it may be nil.
	Progress func(records int64)
}

// Rebuild builds the next generation, waits until it has caught up with the log and makes it current. Until hand, which
// may be nil, returns, the builder stays a member of the generation's group, so that it never falls behind.
func (r *Rebuilder) Rebuild(ctx context.Context, hand func(context.Context) error) (Report, error) {
	started := time.Now()
	generation, err := r.DB.Allocate(ctx)
	if err != nil {
		return Report{}, err
	}
	if err := r.DB.MigrateGeneration(ctx, generation); err != nil {
		return Report{}, err
	}
	dependencies := r.Sink
	dependencies.Writer = projection.NewWriter(r.DB, generation)
	records, former, err := r.build(ctx, dependencies, generation, hand)
	if err != nil {
		return Report{}, err
	}
	// The former generation stays until the next rebuild: a request that began in it may still read there.
	if err := r.DB.DropOlder(ctx, generation, former); err != nil {
		return Report{}, err
	}
	return Report{Generation: generation, Former: former, Records: records, Seconds: time.Since(started).Seconds()}, nil
}

// build fills a generation and gives the one that was current before it. Trends that touch much are postponed while the
// archive is read, and settled before anybody sees them.
func (r *Rebuilder) build(ctx context.Context, d sink.Dependencies, generation uint32, hand func(context.Context) error,
) (records int64, former uint32, err error) {
	group, ctx := errgroup.WithContext(ctx)
	behind, stop := context.WithCancel(ctx)
	defer stop()
	for _, work := range []func() error{
		func() error { return d.Writer.Run(behind, r.Logger, d.GiveWay) },
		func() error { return r.awaitNewer(behind, generation) },
	} {
		group.Go(func() error {
			if err := work(); !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		})
	}
	group.Go(func() error {
		defer stop()
		builder := sink.New(r.Config, d, generation, true)
		var err error
		if records, err = r.readArchive(ctx, builder); err != nil {
			return err
		}
		former, err = r.follow(ctx, builder, d.Writer, generation, hand)
		return err
	})
	err = group.Wait()
	return records, former, err
}

// ErrOvertaken means that a rebuild that began later became current, and has dropped what this one was building.
var ErrOvertaken = errors.New("a rebuild that began later is current already")

// awaitNewer returns when a newer generation is current.
func (r *Rebuilder) awaitNewer(ctx context.Context, generation uint32) error {
	ticker := time.NewTicker(500 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		current, err := r.DB.Current(ctx)
		if err != nil {
			r.Logger.Debug("whether another rebuild is current is not known", "error", err)
		} else if current > generation {
			return fmt.Errorf("%w: generation %d was being built, %d is current", ErrOvertaken, generation, current)
		}
	}
}

// readArchive projects everything that is archived and sets the group's marks behind it.
func (r *Rebuilder) readArchive(ctx context.Context, builder *sink.Sink) (int64, error) {
	group, ctx := errgroup.WithContext(ctx)
	counts := make(chan int64, 64)
	for _, partition := range r.Sink.Client.Partitions() {
		group.Go(func() error { return builder.ProjectArchive(ctx, partition, counts) })
	}
	done := make(chan error, 1)
	go func() {
		done <- group.Wait()
		close(counts)
	}()
	var total int64
	for n := range counts {
		total += n
		if r.Progress != nil {
			r.Progress(total)
		}
	}
	return total, <-done
}

// follow tails the log until the new generation has reached the end that the log has now, then makes it current and
// gives the one that was current before.
func (r *Rebuilder) follow(ctx context.Context, builder *sink.Sink, writer *projection.Writer, generation uint32,
	hand func(context.Context) error,
) (former uint32, err error) {
	group, ctx := errgroup.WithContext(ctx)
	tailing, stop := context.WithCancel(ctx)
	defer stop()
	group.Go(func() error {
		if err := builder.Run(tailing); !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		defer stop()
		if err := r.caughtUp(ctx, generation); err != nil {
			return err
		}
		err := writer.Settle(ctx)
		if large, ok := errors.AsType[*projection.TooLargeError](err); ok {
			r.Logger.Error("a trend is left out of the new generation until there is memory for it", "error", large)
		} else if err != nil {
			return err
		}
		if former, err = r.DB.Current(ctx); err != nil {
			return err
		}
		if err := r.DB.MakeCurrent(ctx, generation); err != nil {
			return err
		}
		r.Logger.Info("generation is current", "generation", generation)
		if hand == nil {
			return nil
		}
		return hand(ctx)
	})
	err = group.Wait()
	return former, err
}

// caughtUp waits until the generation's group has reached the ends of the log as they are now.
func (r *Rebuilder) caughtUp(ctx context.Context, generation uint32) error {
	client := r.Sink.Client
	ends, err := client.Ends(ctx, client.Partitions()...)
	if err != nil {
		return err
	}
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		marks, err := client.Committed(ctx, sink.Group(generation), client.Partitions()...)
		if err != nil {
			r.Logger.Warn("reading the new generation's progress failed, retrying", "error", err)
		} else if reached(marks, ends) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for generation %d to catch up: %w", generation, ctx.Err())
		case <-ticker.C:
		}
	}
}

func reached(marks map[eventlog.Partition]eventlog.Commit, ends map[eventlog.Partition]int64) bool {
	for partition, end := range ends {
		if max(0, marks[partition].Offset) < end {
			return false
		}
	}
	return true
}
