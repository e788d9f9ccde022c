package gate

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/millrace/millrace/schemas/eventlog"
)

const (
	// lookupSpacing is the least time between the starts of two look-ups: it bounds their cost and costs a read half of
	// it in the mean.
	lookupSpacing = time.Millisecond
	// lookupTimeout bounds one look-up, so that a broker that hangs is asked again within a read's bound.
	lookupTimeout = 2 * time.Second
	// retryPause is the pause after a failed look-up.
	retryPause = 50 * time.Millisecond
)

// lookups finds the ends of partitions. Reads share a look-up that started after each of them arrived: an older one
// might not show what was acknowledged just before.
type lookups struct {
	read   func(context.Context, ...eventlog.Partition) (map[eventlog.Partition]int64, error)
	logger *slog.Logger
	ctx    context.Context // of the look-ups; those who wait may leave
	cancel context.CancelFunc
	wait   sync.WaitGroup

	mu      sync.Mutex
	running bool
	next    *lookup
}

// lookup is one question to the log. Its result is there when done is closed.
type lookup struct {
	partitions map[eventlog.Partition]struct{}
	done       chan struct{}
	ends       map[eventlog.Partition]int64
	err        error
}

func newLookups(read func(context.Context, ...eventlog.Partition) (map[eventlog.Partition]int64, error), logger *slog.Logger) *lookups {
	ctx, cancel := context.WithCancel(context.Background())
	return &lookups{read: read, logger: logger, ctx: ctx, cancel: cancel}
}

func (l *lookups) close() {
	l.cancel()
	l.wait.Wait()
}

// look gives the ends as they are at some moment after it was called. It asks again until ctx ends.
func (l *lookups) look(ctx context.Context, partitions []eventlog.Partition) (map[eventlog.Partition]int64, error) {
	for {
		asked := l.join(partitions)
		select {
		case <-asked.done:
		case <-ctx.Done():
			return nil, fmt.Errorf("look up the log's ends: %w", context.Cause(ctx))
		}
		if asked.err == nil {
			return asked.of(partitions), nil
		}
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
			return nil, asked.err
		case <-l.ctx.Done():
			return nil, asked.err
		}
	}
}

func (k *lookup) of(partitions []eventlog.Partition) map[eventlog.Partition]int64 {
	ends := make(map[eventlog.Partition]int64, len(partitions))
	for _, partition := range partitions {
		ends[partition] = k.ends[partition]
	}
	return ends
}

// join takes part in the look-up that starts next.
func (l *lookups) join(partitions []eventlog.Partition) *lookup {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next == nil {
		l.next = &lookup{partitions: map[eventlog.Partition]struct{}{}, done: make(chan struct{})}
	}
	for _, partition := range partitions {
		l.next.partitions[partition] = struct{}{}
	}
	if !l.running {
		l.running = true
		l.wait.Go(l.run)
	}
	return l.next
}

// run makes look-ups while somebody asks for one.
func (l *lookups) run() {
	failing := false
	for asked := l.take(); asked != nil; asked = l.take() {
		started := time.Now()
		ctx, cancel := context.WithTimeout(l.ctx, lookupTimeout)
		asked.ends, asked.err = l.read(ctx, slices.Collect(maps.Keys(asked.partitions))...)
		cancel()
		close(asked.done)
		if asked.err != nil && !failing {
			l.logger.Warn("looking up the log's ends failed, retrying", "error", asked.err)
		}
		failing = asked.err != nil
		pause(l.ctx, lookupSpacing-time.Since(started))
	}
}

// take begins the next look-up: from here on nobody joins it.
func (l *lookups) take() *lookup {
	l.mu.Lock()
	defer l.mu.Unlock()
	asked := l.next
	l.next = nil
	l.running = asked != nil
	return asked
}

func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
