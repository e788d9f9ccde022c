// Package touched knows when the records of a topic last touched something, such as a series of samples or the output of a
// job: the watermark of what is computed from it.
//
// An Index follows a topic from the moment it is first asked. It keeps the last offset at which a record touched a key, by
// a hash of the key: two that share one move together, which costs a computation and is never wrong. What was touched
// before the index began to follow counts as touched there. So the index needs nothing stored, and any number of processes
// have one each.
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
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

const (
	// slots is the number of hashes.
	slots = 1 << 14
	// patience bounds the wait for the index to come to the log's end.
	patience = 100 * time.Millisecond
	// idle is how long the index follows after it was last asked: it reads all records that come.
	idle = 10 * time.Minute
)

// Index is safe for concurrent use. Run keeps it at the log's end.
type Index[K comparable] struct {
	log    *eventlog.Client
	topic  string
	key    func(proto.Message) (K, bool)
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

// New gives an index of a topic. key tells what a message touches; what it does not know may touch anything.
func New[K comparable](log *eventlog.Client, topic string, key func(proto.Message) (K, bool), logger *slog.Logger) *Index[K] {
	return &Index[K]{
		log: log, topic: topic, key: key, logger: logger.With("topic", topic), wake: make(chan struct{}, 1), moved: make(chan struct{}), seed: maphash.MakeSeed(),
		parts: map[eventlog.Partition]*part{},
	}
}

// Series tells which series of samples a message of topic metrics touches.
func Series(m proto.Message) (projection.Series, bool) {
	samples, known := m.(*event.RunSamplesRecorded)
	return projection.Series{
		Machine: samples.GetMachineId(), Config: samples.GetConfigId(), Branch: samples.GetBranchId(), Metric: samples.GetMetric(),
	}, known
}

// Output tells the output of which job, by the id that its client knows, a message of topic job_output touches.
func Output(m proto.Message) (string, bool) {
	appended, known := m.(*event.JobOutputAppended)
	return appended.GetJobId(), known
}

// Watermark gives the watermark of a key, which contains all records before the ends of the topic that are given. While it
// stands, nothing touched the key. ok is false when the index is not that far.
func (x *Index[K]) Watermark(ctx context.Context, key K, ends map[eventlog.Partition]int64) (mark string, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		mark, ok, moved := x.look(key, ends)
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

func (x *Index[K]) look(key K, ends map[eventlog.Partition]int64) (mark string, ok bool, moved <-chan struct{}) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.asked = time.Now()
	select {
	case x.wake <- struct{}{}:
	default:
	}
	slot := maphash.Comparable(x.seed, key) % slots
	var text strings.Builder
	for _, partition := range x.log.Partitions(x.topic) {
		p := x.parts[partition]
		if p == nil || p.next < ends[partition] {
			return "", false, x.moved
		}
		text.WriteString(partition.String() + "~" + strconv.FormatInt(max(p.floor, p.last[slot]), 10) + ",")
	}
	return text.String(), true, x.moved
}

// Moved waits until a key has another watermark than mark.
func (x *Index[K]) Moved(ctx context.Context, key K, mark string) error {
	for {
		now, ok, moved := x.look(key, nil)
		if ok && now != mark {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Run follows the log while somebody asks, until ctx ends.
func (x *Index[K]) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-x.wake:
		}
		if err := x.follow(ctx); ctx.Err() == nil {
			x.logger.Debug("the index of what was touched rests", "reason", err)
		}
	}
}

// follow follows all partitions from their present ends on.
func (x *Index[K]) follow(ctx context.Context) error {
	partitions := x.log.Partitions(x.topic)
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
func (x *Index[K]) begin(partition eventlog.Partition, at int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.parts[partition] = &part{floor: at, next: at}
	x.tell()
}

func (x *Index[K]) add(partition eventlog.Partition, records []eventlog.Record) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	p := x.parts[partition]
	for i := range records {
		p.next = records[i].Offset + 1
		message, err := records[i].Decode()
		key, known := x.key(message)
		switch {
		case known:
			p.last[maphash.Comparable(x.seed, key)%slots] = p.next
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

func (x *Index[K]) tell() {
	close(x.moved)
	x.moved = make(chan struct{})
}
