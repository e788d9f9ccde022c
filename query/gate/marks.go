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
	// pollEvery is how often the committed marks are looked up while a read waits for another process's projections.
	pollEvery = 3 * time.Millisecond
	// pollAnnounced is how often while the processor in this process announces them; only a change of hands is missed.
	pollAnnounced = 50 * time.Millisecond
)

// marks knows how far the projections are: the marks that the processors commit. A mark is the offset before which
// everything is projected, also while the note beside it says that a batch is being written.
type marks struct {
	read       func(context.Context, string, ...eventlog.Partition) (map[eventlog.Partition]eventlog.Commit, error)
	generation func() uint32
	group      func(uint32) string
	logger     *slog.Logger
	ctx        context.Context // of the poller
	cancel     context.CancelFunc
	running    sync.WaitGroup

	mu      sync.Mutex
	known   map[string]map[eventlog.Partition]int64 // by group; marks only grow
	changed chan struct{}                           // closed and replaced whenever a mark moved
	waiting map[eventlog.Partition]int              // reads that wait, by partition
	polling bool
	// announced are the partitions whose processor is in this process.
	announced map[eventlog.Partition]bool
}

func newMarks(read func(context.Context, string, ...eventlog.Partition) (map[eventlog.Partition]eventlog.Commit, error),
	generation func() uint32, group func(uint32) string, logger *slog.Logger,
) *marks {
	ctx, cancel := context.WithCancel(context.Background())
	return &marks{
		read: read, generation: generation, group: group, logger: logger, ctx: ctx, cancel: cancel,
		known: map[string]map[eventlog.Partition]int64{}, changed: make(chan struct{}),
		waiting: map[eventlog.Partition]int{}, announced: map[eventlog.Partition]bool{},
	}
}

func (m *marks) close() {
	m.cancel()
	m.running.Wait()
}

// wait waits until the generation's marks have reached a target.
func (m *marks) wait(ctx context.Context, generation uint32, target Target) error {
	group := m.group(generation)
	entered := false
	defer func() {
		if entered {
			m.leave(target)
		}
	}()
	for {
		m.mu.Lock()
		missing := m.missing(group, target)
		if len(missing) > 0 && !entered {
			m.enter(target)
			entered = true
		}
		changed := m.changed
		m.mu.Unlock()
		if len(missing) == 0 {
			return nil
		}
		if m.generation() != generation {
			return ErrSuperseded
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for group %s to reach %v: %w", group, missing, context.Cause(ctx))
		}
	}
}

// reached tells whether the current generation is known to have reached a target.
func (m *marks) reached(target Target) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.missing(m.group(m.generation()), target)) == 0
}

// missing gives what a group has not reached of a target.
func (m *marks) missing(group string, target Target) Target {
	var missing Target
	for partition, next := range target {
		if m.known[group][partition] < next {
			if missing == nil {
				missing = Target{}
			}
			missing[partition] = next
		}
	}
	return missing
}

// anybody tells whether a read waits.
func (m *marks) anybody() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.waiting) > 0
}

// enter counts a read among those that wait and makes sure that somebody looks for them.
func (m *marks) enter(target Target) {
	for partition := range target {
		m.waiting[partition]++
	}
	if !m.polling {
		m.polling = true
		m.running.Go(m.poll)
	}
}

func (m *marks) leave(target Target) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for partition := range target {
		if m.waiting[partition]--; m.waiting[partition] == 0 {
			delete(m.waiting, partition)
		}
	}
}

// poll looks the marks up while anybody waits.
func (m *marks) poll() {
	failing := false
	for {
		partitions, interval := m.wanted()
		if len(partitions) == 0 {
			return
		}
		_, err := m.look(m.ctx, partitions)
		if err != nil && !failing && m.ctx.Err() == nil {
			m.logger.Warn("looking up the projections' progress failed, retrying", "error", err)
		}
		failing = err != nil
		if failing {
			interval = retryPause
		}
		pause(m.ctx, interval)
	}
}

// wanted gives the partitions that reads wait for and how soon to look again; none ends the poller.
func (m *marks) wanted() ([]eventlog.Partition, time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.waiting) == 0 || m.ctx.Err() != nil {
		m.polling = false
		return nil, 0
	}
	interval := pollAnnounced
	for partition := range m.waiting {
		if !m.announced[partition] {
			interval = pollEvery
		}
	}
	return slices.Collect(maps.Keys(m.waiting)), interval
}

// look reads the current generation's marks from the log and notes them. Those who wait are woken in any case, since
// another generation may be current by now.
func (m *marks) look(ctx context.Context, partitions []eventlog.Partition) (map[eventlog.Partition]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	group := m.group(m.generation())
	commits, err := m.read(ctx, group, partitions...)
	m.mu.Lock()
	defer m.mu.Unlock()
	defer m.wake()
	if err != nil {
		return nil, err
	}
	found := make(map[eventlog.Partition]int64, len(commits))
	for partition, commit := range commits {
		m.note(group, partition, commit.Offset)
		found[partition] = m.known[group][partition]
	}
	return found, nil
}

func (m *marks) moved(group string, partition eventlog.Partition, next int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.announced[partition] = true
	m.note(group, partition, next)
	m.wake()
}

// note keeps a mark; of groups, only the newest two matter: the current one and one that is being built.
func (m *marks) note(group string, partition eventlog.Partition, next int64) {
	if m.known[group] == nil {
		current := m.group(m.generation())
		maps.DeleteFunc(m.known, func(other string, _ map[eventlog.Partition]int64) bool { return other != current })
		m.known[group] = map[eventlog.Partition]int64{}
	}
	m.known[group][partition] = max(m.known[group][partition], next)
}

func (m *marks) wake() {
	close(m.changed)
	m.changed = make(chan struct{})
}
