package subscription

import (
	"context"
	"sync"
	"time"

	"github.com/millrace/millrace/processor/sink"
	"github.com/millrace/millrace/schemas/eventlog"
)

// lookEvery is the time between two looks for how far the projections are.
const lookEvery = 200 * time.Millisecond

// marks are how far the projections are: the rows of all records before a mark are there.
type marks struct {
	mu         sync.Mutex
	generation uint32
	ends       map[eventlog.Partition]eventlog.Commit
	moved      chan struct{} // closed and replaced whenever a mark has moved
}

func newMarks() *marks { return &marks{moved: make(chan struct{})} }

// await gives the first mark of a partition that lies behind an offset, and the generation that it is of.
func (m *marks) await(ctx context.Context, partition eventlog.Partition, offset int64) (generation uint32, end int64, err error) {
	for {
		m.mu.Lock()
		generation, end = m.generation, m.ends[partition].Offset
		moved := m.moved
		m.mu.Unlock()
		if generation > 0 && end > offset {
			return generation, end, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		}
	}
}

func (m *marks) set(generation uint32, ends map[eventlog.Partition]eventlog.Commit) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.generation, m.ends = generation, ends
	close(m.moved)
	m.moved = make(chan struct{})
}

// follow keeps the marks while there are subscriptions.
func (d *Deliverer) follow(ctx context.Context) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		if err := d.Registry.Await(ctx, anySubscription); err != nil {
			return err
		}
		generation := d.Generation()
		if generation > 0 {
			ends, err := d.Client.Committed(ctx, sink.Group(generation), d.Client.Partitions(topics()...)...)
			if err != nil && ctx.Err() == nil {
				d.Logger.Debug("how far the projections are is not known", "error", err)
			} else {
				d.marks.set(generation, ends)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}
