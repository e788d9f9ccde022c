package fold

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/google/uuid"

	"github.com/millrace/millrace/processor/archive"
	"github.com/millrace/millrace/schemas/eventlog"
)

// Replica keeps a fold at the log's end and answers from its state. Any number of replicas agree.
type Replica[S, O any] struct {
	definition *Definition[S, O]
	client     *eventlog.Client
	archive    *archive.Archive
	store      *Store
	epoch      uint32
	logger     *slog.Logger

	mu       sync.RWMutex
	progress *Progress[S, O]
	// moved is closed and replaced whenever the fold has moved on.
	moved chan struct{}
	// watch is told of every record with its outcome; nil when nobody watches.
	watch   func(record *eventlog.Record, outcome O)
	waiting map[uuid.UUID]chan decided[O]
}

// NewReplica loads the fold's stored state and folds the archive behind it. Run keeps it at the log's end.
func NewReplica[S, O any](ctx context.Context, d *Definition[S, O], client *eventlog.Client, a *archive.Archive, store *Store,
	epoch uint32, logger *slog.Logger,
) (*Replica[S, O], error) {
	progress, err := Load(ctx, store, d)
	if err != nil {
		return nil, err
	}
	if err := progress.ReadArchive(ctx, a, eventlog.Place{}); err != nil {
		return nil, err
	}
	return &Replica[S, O]{
		definition: d, client: client, archive: a, store: store, epoch: epoch, logger: logger.With("fold", d.Name),
		progress: progress, moved: make(chan struct{}), waiting: map[uuid.UUID]chan decided[O]{},
	}, nil
}

// Run folds what comes, until ctx ends. It fails when the log has lost records that were never archived.
func (r *Replica[S, O]) Run(ctx context.Context) error {
	for {
		err := r.client.Tail(ctx, r.definition.Partition(), r.next(), r.logger, func(records []eventlog.Record) error {
			r.apply(r.epoch, records)
			return nil
		})
		if !errors.Is(err, eventlog.ErrTrimmed) {
			return err
		}
		if err := r.readArchive(ctx, err); err != nil {
			return err
		}
	}
}

// next is the offset of the current log to tail from.
func (r *Replica[S, O]) next() int64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.progress.Next.Epoch < r.epoch {
		return 0
	}
	return r.progress.Next.Offset
}

// readArchive bridges what the log was trimmed of while this replica was behind.
func (r *Replica[S, O]) readArchive(ctx context.Context, trimmed error) error {
	before := r.next()
	r.mu.RLock()
	from := r.progress.Next
	r.mu.RUnlock()
	err := r.archive.Read(ctx, r.definition.Partition(), from, eventlog.Place{}, func(epoch uint32, records []eventlog.Record) error {
		r.apply(epoch, records)
		return nil
	})
	if err != nil {
		return err
	}
	if r.next() == before {
		return fmt.Errorf("fold %s: records are gone from the log and are not in the archive, "+
			"so restore ClickHouse's folder (or its database) as it was, or a backup of Millrace: %w", r.definition.Name, trimmed)
	}
	return nil
}

func (r *Replica[S, O]) apply(epoch uint32, records []eventlog.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range records {
		outcome := r.progress.Apply(epoch, &records[i])
		if r.watch != nil {
			r.watch(&records[i], outcome)
		}
		if waiter, ok := r.waiting[records[i].ID]; ok {
			delete(r.waiting, records[i].ID)
			waiter <- decided[O]{outcome, records[i].Offset}
		}
	}
	close(r.moved)
	r.moved = make(chan struct{})
}

// View lets fn read the state. fn must not keep what it is shown, nor block.
func (r *Replica[S, O]) View(fn func(S)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	fn(r.progress.State)
}

// Watch lets fn see every record that Run folds, with its outcome. It is called before Run, and fn must not block.
func (r *Replica[S, O]) Watch(fn func(record *eventlog.Record, outcome O)) { r.watch = fn }

// Await waits until the state is as fn wants it, and looks again whenever the fold has moved. fn must not keep what it is
// shown, nor block.
func (r *Replica[S, O]) Await(ctx context.Context, fn func(S) bool) error {
	for {
		r.mu.RLock()
		reached, moved := fn(r.progress.State), r.moved
		r.mu.RUnlock()
		if reached {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Keys is how the fold answers by idempotency keys.
func (r *Replica[S, O]) Keys() *Keys[S, O] { return r.definition.Keys }

// Lag is the number of records that the replica has not folded yet.
func (r *Replica[S, O]) Lag(ctx context.Context) (int64, error) {
	end, err := r.end(ctx)
	if err != nil {
		return 0, err
	}
	return max(0, end-r.next()), nil
}

func (r *Replica[S, O]) end(ctx context.Context) (int64, error) {
	ends, err := r.client.Ends(ctx, r.definition.Partition())
	if err != nil {
		return 0, err
	}
	return ends[r.definition.Partition()], nil
}

// CatchUp waits until the replica has folded everything that was in the log when it was called.
func (r *Replica[S, O]) CatchUp(ctx context.Context) error {
	end, err := r.end(ctx)
	if err != nil {
		return err
	}
	return r.Reach(ctx, end)
}

// Reach waits until the next offset to fold is at least next.
func (r *Replica[S, O]) Reach(ctx context.Context, next int64) error {
	for {
		r.mu.RLock()
		reached := r.progress.Next.Epoch == r.epoch && r.progress.Next.Offset >= next
		moved := r.moved
		r.mu.RUnlock()
		if reached || next == 0 {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("wait for fold %s to reach offset %d: %w", r.definition.Name, next, context.Cause(ctx))
		}
	}
}

// Decide appends a request and gives the outcome that the log decides for it, with the request's offset. An error that
// is eventlog.ErrUnsettled leaves open whether the request took effect.
func (r *Replica[S, O]) Decide(ctx context.Context, appender *eventlog.Appender, event eventlog.Event) (O, int64, error) {
	waiter := r.expect(event.ID)
	var none O
	// The acknowledgement is waited for although the fold may be quicker: readers of Kafka see what the in-sync replicas
	// have, which may be fewer than an acknowledgement needs.
	if _, err := appender.Append(ctx, r.definition.Partition(), event); err != nil {
		r.forget(event.ID)
		return none, 0, err
	}
	select {
	case d := <-waiter:
		return d.outcome, d.offset, nil
	case <-ctx.Done():
		r.forget(event.ID)
		return none, 0, fmt.Errorf("%w: event %s is in the log, its outcome is not known yet: %w",
			eventlog.ErrUnsettled, event.ID, context.Cause(ctx))
	}
}

// decided is an outcome and where its event stands.
type decided[O any] struct {
	outcome O
	offset  int64
}

func (r *Replica[S, O]) expect(id uuid.UUID) <-chan decided[O] {
	waiter := make(chan decided[O], 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting[id] = waiter
	return waiter
}

func (r *Replica[S, O]) forget(id uuid.UUID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting, id)
}
