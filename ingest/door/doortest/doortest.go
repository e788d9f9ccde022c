// Package doortest is a log in memory, with the real folds over it, for tests of write endpoints without a broker. Each
// fold is one replica: it sees what others appended only once it catches up, as a replica that lags behind does.
package doortest

import (
	"context"
	"sync"
	"time"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/processor/fold"
	"github.com/millrace/millrace/schemas/eventlog"
)

// LogID is the log's id in positions.
const LogID = "test-log"

// Log is a log with one partition for each topic.
type Log struct {
	now func() time.Time

	mu      sync.Mutex
	records map[string][]eventlog.Record
	// grown is closed and replaced whenever the log has grown.
	grown chan struct{}
	fail  func(event eventlog.Event) error
}

// NewLog gives an empty log, whose time is that of now.
func NewLog(now func() time.Time) *Log {
	return &Log{now: now, records: map[string][]eventlog.Record{}, grown: make(chan struct{})}
}

// Fail makes appends fail with what fault says about them; nil for none. Catching up fails with what it says about the
// zero event.
func (l *Log) Fail(fault func(event eventlog.Event) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = fault
}

// Door is the log as doors see it.
func (l *Log) Door() door.Log {
	return door.Log{
		ID: LogID, Append: l.append,
		PartitionFor: func(topic string, _ []byte) eventlog.Partition { return eventlog.Partition{Topic: topic} },
	}
}

// Records gives what stands in a topic.
func (l *Log) Records(topic string) []eventlog.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]eventlog.Record(nil), l.records[topic]...)
}

func (l *Log) append(ctx context.Context, partition eventlog.Partition, event eventlog.Event) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if l.fail != nil {
		if err := l.fail(event); err != nil {
			return 0, err
		}
	}
	offset := int64(len(l.records[partition.Topic]))
	l.records[partition.Topic] = append(l.records[partition.Topic],
		eventlog.Record{Event: event, Partition: partition, Offset: offset, LogTime: l.now().UnixMilli()})
	close(l.grown)
	l.grown = make(chan struct{})
	return offset, nil
}

func (l *Log) reachable() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail == nil {
		return nil
	}
	return l.fail(eventlog.Event{})
}

// Fold is a replica of a fold.
type Fold[S, O any] struct {
	log        *Log
	definition *fold.Definition[S, O]

	mu       sync.Mutex
	progress *fold.Progress[S, O]
	stored   door.StoredKeys
}

// NewFold gives a replica that has read nothing.
func NewFold[S, O any](log *Log, definition *fold.Definition[S, O]) *Fold[S, O] {
	none := func(context.Context, string, []byte, uint64) (*door.StoredKey, error) { return nil, nil }
	return &Fold[S, O]{log: log, definition: definition, progress: definition.Start(), stored: none}
}

// Stored says what the projections know of idempotency keys; a new fold's know none.
func (f *Fold[S, O]) Stored(find door.StoredKeys) { f.stored = find }

// Keys is how the fold answers by idempotency keys.
func (f *Fold[S, O]) Keys() *fold.Keys[S, O] { return f.definition.Keys }

// StoredKey finds a key in what Stored says.
func (f *Fold[S, O]) StoredKey(ctx context.Context, key []byte, through uint64) (*door.StoredKey, error) {
	return f.stored(ctx, f.definition.Topic, key, through)
}

// Topic is the fold's topic.
func (f *Fold[S, O]) Topic() string { return f.definition.Topic }

// View shows the state.
func (f *Fold[S, O]) View(look func(S)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	look(f.progress.State)
}

// CatchUp folds what is in the log.
func (f *Fold[S, O]) CatchUp(ctx context.Context) error {
	if err := f.log.reachable(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readTo(int64(len(f.log.Records(f.definition.Topic))) - 1)
	return nil
}

// Await folds what comes into the log until the state is as look wants it.
func (f *Fold[S, O]) Await(ctx context.Context, look func(S) bool) error {
	for {
		f.log.mu.Lock()
		grown := f.log.grown
		f.log.mu.Unlock()
		if err := f.CatchUp(ctx); err != nil {
			return err
		}
		reached := false
		f.View(func(s S) { reached = look(s) })
		if reached {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Decide appends a request and folds it.
func (f *Fold[S, O]) Decide(ctx context.Context, event eventlog.Event) (O, int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	offset, err := f.log.append(ctx, f.definition.Partition(), event)
	if err != nil {
		var none O
		return none, 0, err
	}
	outcome := f.readTo(offset)
	return outcome, offset, nil
}

// readTo folds up to an offset and gives the outcome of the record there.
func (f *Fold[S, O]) readTo(offset int64) (outcome O) {
	for _, record := range f.log.Records(f.definition.Topic)[f.progress.Next.Offset : offset+1] {
		outcome = f.progress.Apply(1, &record)
	}
	return outcome
}
