// Package touched knows when a series of samples last got any: the watermark of what is computed from it.
//
// An Index follows topic metrics from the moment it is first asked. It keeps the last offset at which a record touched a
// series, by a hash of the series: two that share one move together, which costs a computation and is never wrong. What
// was touched before the index began to follow counts as touched there. So the index needs nothing stored, and any
// number of processes have one each.
package touched

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

const (
	// slots is the number of hashes.
	slots = 1 << 14
	// patience bounds the wait for the index to come to the log's end.
	patience = 100 * time.Millisecond
	// idle is how long the index follows after it was last asked: it reads all samples that come.
	idle = 10 * time.Minute
)

// Index is safe for concurrent use. Run keeps it at the log's end.
type Index struct {
	log    *eventlog.Client
	logger *slog.Logger
	wake   chan struct{}
	seed   maphash.Seed

	mu    sync.Mutex
	asked time.Time
	moved chan struct{} // closed and replaced whenever the index has moved on
	parts map[eventlog.Partition]*part
}

// part is what is known of one partition: everything before next, since floor.
type part struct {
	floor, next int64
	last        [slots]int64 // the offset behind the last record of a slot; before floor: none since
}

// New gives an index of a log.
func New(log *eventlog.Client, logger *slog.Logger) *Index {
	return &Index{
		log: log, logger: logger, wake: make(chan struct{}, 1), moved: make(chan struct{}), seed: maphash.MakeSeed(),
		parts: map[eventlog.Partition]*part{},
	}
}

// Watermark gives the watermark of a series, which contains all records before the ends of topic metrics that are given.
// While it stands, no sample of the series was added. ok is false when the index is not that far.
func (x *Index) Watermark(ctx context.Context, series projection.Series, ends map[eventlog.Partition]int64) (mark string, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		mark, ok, moved := x.look(series, ends)
		if ok {
			return mark, true
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return "", false
		}
	}
}

func (x *Index) look(series projection.Series, ends map[eventlog.Partition]int64) (mark string, ok bool, moved <-chan struct{}) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.asked = time.Now()
	select {
	case x.wake <- struct{}{}:
	default:
	}
	slot := x.slot(series)
	var text strings.Builder
	for _, partition := range x.log.Partitions(eventlog.Metrics) {
		p := x.parts[partition]
		if p == nil || p.next < ends[partition] {
			return "", false, x.moved
		}
		text.WriteString(partition.String() + "~" + strconv.FormatInt(max(p.floor, p.last[slot]), 10) + ",")
	}
	return text.String(), true, x.moved
}

func (x *Index) slot(series projection.Series) uint64 {
	return maphash.Comparable(x.seed, series) % slots
}

// Run follows the log while somebody asks, until ctx ends.
func (x *Index) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-x.wake:
		}
		if err := x.follow(ctx); ctx.Err() == nil {
			x.logger.Debug("the index of touched series rests", "reason", err)
		}
	}
}

// follow follows all partitions from their present ends on.
func (x *Index) follow(ctx context.Context) error {
	partitions := x.log.Partitions(eventlog.Metrics)
	ends, err := x.log.Ends(ctx, partitions...)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, partition := range partitions {
		x.begin(partition, ends[partition])
		group.Go(func() error {
			return x.log.Tail(ctx, partition, ends[partition], x.logger, func(records []eventlog.Record) error {
				return x.add(partition, records)
			})
		})
	}
	return group.Wait()
}

// begin forgets what was known of a partition.
func (x *Index) begin(partition eventlog.Partition, at int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.parts[partition] = &part{floor: at, next: at}
	x.tell()
}

func (x *Index) add(partition eventlog.Partition, records []eventlog.Record) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	p := x.parts[partition]
	for i := range records {
		p.next = records[i].Offset + 1
		message, err := records[i].Decode()
		switch samples, known := message.(*event.RunSamplesRecorded); {
		case known:
			p.last[x.slot(projection.Series{
				Machine: samples.GetMachineId(), Config: samples.GetConfigId(), Branch: samples.GetBranchId(), Metric: samples.GetMetric(),
			})] = p.next
		case err != nil || message != nil:
			p.floor = p.next // who knows what it touches
		}
	}
	x.tell()
	if time.Since(x.asked) > idle {
		return fmt.Errorf("nobody asks for what %s touches", partition)
	}
	return nil
}

func (x *Index) tell() {
	close(x.moved)
	x.moved = make(chan struct{})
}
