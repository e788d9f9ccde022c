package sink

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/schemas/eventlog"
)

// worker owns one partition while it is assigned to this member.
type worker struct {
	sink      *Sink
	member    eventlog.Member
	partition eventlog.Partition
	projector *projector
	// epoch is that of the records being gathered.
	epoch uint32
	// archived says that the records come from the archive, and need not be written to it.
	archived bool
	skip     map[eventlog.Place]bool
	batch    *projection.Batch
	// records are those of the batch being gathered, and left the offsets among them that give no rows.
	records []eventlog.Record
	left    []int64
	bytes   int
	// started is when the last write began, saved when the fold's state was encoded for storing.
	started, saved time.Time
	// rest is how long the fold's state is not stored again, and storing the storing of one, beside the batches.
	rest    time.Duration
	storing errgroup.Group
}

// work runs one partition until its assignment ends.
func (s *Sink) work(ctx context.Context, member eventlog.Member, partition eventlog.Partition) error {
	var w *worker
	var next int64
	err := s.retry(ctx, "take over "+partition.String(), func() (err error) {
		w, next, err = s.takeOver(ctx, member, partition)
		return err
	})
	if err != nil {
		return err
	}
	return w.run(ctx, next)
}

// takeOver restores what the partition needs and finishes the batch that a former member may have begun.
func (s *Sink) takeOver(ctx context.Context, member eventlog.Member, partition eventlog.Partition) (*worker, int64, error) {
	marks, err := s.client.Committed(ctx, member.Group, partition)
	if err != nil {
		return nil, 0, err
	}
	mark := marks[partition]
	next := max(0, mark.Offset)
	w := &worker{
		sink: s, member: member, partition: partition, epoch: s.epoch, batch: projection.NewBatch(), saved: time.Now(),
		rest: s.config.SnapshotEvery,
	}
	w.storing.SetLimit(1)
	if w.projector, err = s.newProjector(ctx, partition, eventlog.Place{Epoch: s.epoch, Offset: next}); err != nil {
		return nil, 0, err
	}
	if w.skip, err = s.skipped(ctx, partition); err != nil {
		return nil, 0, err
	}
	pending, begun := pendingBatch(mark.Note)
	if !begun {
		s.report(partition, next)
		return w, next, nil
	}
	s.logger.Info("finishing a batch that was begun", "partition", partition.String(), "first", pending.first, "last", pending.last)
	records, err := s.readRange(ctx, partition, pending)
	if err != nil {
		return nil, 0, err
	}
	for i := range records {
		if err := w.add(ctx, &records[i]); err != nil {
			return nil, 0, err
		}
	}
	if err := w.write(ctx, true); err != nil {
		return nil, 0, err
	}
	return w, pending.last + 1, nil
}

func (s *Sink) report(partition eventlog.Partition, next int64) {
	if s.moved != nil {
		s.moved(s.group, partition, next)
	}
}

func (w *worker) run(ctx context.Context, next int64) error {
	group, ctx := errgroup.WithContext(ctx)
	chunks := make(chan []eventlog.Record, 1)
	group.Go(func() error { return w.sink.read(ctx, w.partition, next, chunks) })
	group.Go(func() error { return w.gather(ctx, chunks) })
	err := group.Wait()
	_ = w.storing.Wait()
	return err
}

// gather owns the batch: it adds records as they come and writes when the batch is full or due.
func (w *worker) gather(ctx context.Context, chunks <-chan []eventlog.Record) error {
	due := time.NewTimer(time.Hour)
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case records := <-chunks:
			w.giveWay(ctx)
			if err := w.addAll(ctx, records); err != nil {
				return err
			}
			if len(w.records) > 0 {
				due.Reset(time.Until(w.started.Add(w.sink.config.Interval)))
			}
		case <-due.C:
			if err := w.write(ctx, false); err != nil {
				return err
			}
		}
	}
}

func (w *worker) giveWay(ctx context.Context) {
	if w.sink.giveWay != nil {
		w.sink.giveWay(ctx)
	}
}

func (w *worker) addAll(ctx context.Context, records []eventlog.Record) error {
	for i := range records {
		if err := w.add(ctx, &records[i]); err != nil {
			return err
		}
		if w.full() {
			if err := w.write(ctx, false); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *worker) full() bool {
	c := w.sink.config
	return len(w.records) >= c.MaxRecords || w.batch.Rows() >= c.MaxRows || w.bytes+w.batch.Bytes() >= c.MaxBytes
}

// add folds a record and adds its rows; one that cannot be projected is buried and left out.
func (w *worker) add(ctx context.Context, record *eventlog.Record) error {
	s := w.sink
	skip := w.skip[eventlog.Place{Epoch: w.epoch, Offset: record.Offset}]
	err := w.projector.project(ctx, w.epoch, record, w.batch, skip)
	if dead := (*poison)(nil); errors.As(err, &dead) {
		if err := s.bury(ctx, w.epoch, record, dead); err != nil {
			return err
		}
		skip = true
	} else if err != nil {
		return fmt.Errorf("project %s at %d: %w", w.partition, record.Offset, err)
	}
	if skip {
		w.left = append(w.left, record.Offset)
	}
	w.records = append(w.records, *record)
	w.bytes += len(record.Data)
	return nil
}

// write brings the gathered batch into ClickHouse between two commits. again says that a former member may have begun to.
func (w *worker) write(ctx context.Context, again bool) error {
	if len(w.records) == 0 {
		return nil
	}
	w.started = time.Now()
	ctx, span := w.sink.startSpan(ctx, w.partition, w.records)
	defer span.End()
	batch := batchRange{first: w.records[0].Offset, last: w.records[len(w.records)-1].Offset}
	if err := w.commit(ctx, eventlog.Commit{Offset: batch.first, Note: batch.note()}); err != nil {
		return err
	}
	token := batch.token(w.sink.group, w.sink.client.LogID, w.partition, w.left)
	if err := w.insert(ctx, token, again); err != nil {
		return err
	}
	if err := w.commit(ctx, eventlog.Commit{Offset: batch.last + 1}); err != nil {
		return err
	}
	w.sink.report(w.partition, batch.last+1)
	w.observe()
	w.empty()
	return w.snapshot(ctx)
}

func (w *worker) empty() {
	w.records, w.left, w.bytes = w.records[:0], w.left[:0], 0
	w.batch.Reset()
}

// insert writes the batch until it is written. again says that it may have been tried before.
func (w *worker) insert(ctx context.Context, token string, again bool) error {
	return w.sink.retry(ctx, "write a batch of "+w.partition.String(), func() error {
		err := w.tryInsert(ctx, token, again)
		again = true
		return err
	})
}

func (w *worker) tryInsert(ctx context.Context, token string, again bool) error {
	ctx, span := w.sink.tracer.Start(ctx, "insert rows")
	defer span.End()
	group, ctx := errgroup.WithContext(ctx)
	if !w.archived {
		group.Go(func() error {
			return w.sink.archive.Write(ctx, w.epoch, w.sink.client.LogID, token, w.records, again)
		})
	}
	group.Go(func() error { return w.sink.writer.Write(ctx, w.batch, token, again) })
	return group.Wait()
}

func (w *worker) commit(ctx context.Context, mark eventlog.Commit) error {
	return w.sink.retry(ctx, "commit "+w.partition.String(), func() error {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		return w.sink.client.Commit(ctx, w.member, w.partition, mark)
	})
}

func (w *worker) observe() {
	m, topic := w.sink.metrics, w.partition.Topic
	m.batchRecords.Observe(float64(len(w.records)))
	m.batchRows.Observe(float64(w.batch.Rows()))
	m.writeSeconds.WithLabelValues(topic).Observe(time.Since(w.started).Seconds())
	age := time.Since(time.UnixMilli(w.records[0].LogTime)).Seconds()
	m.freshness.WithLabelValues(topic).Observe(age)
}

// encodeShare bounds the share of the time that encoding states may take, while no batch is written.
const encodeShare = 50

// snapshot stores the fold's state now and then. A large state is stored less often, and beside the batches that follow.
func (w *worker) snapshot(ctx context.Context) error {
	if time.Since(w.saved) < w.rest {
		return nil
	}
	w.saved = time.Now()
	state, err := w.projector.snapshot()
	if state == nil || err != nil {
		return err
	}
	w.rest = max(w.sink.config.SnapshotEvery, encodeShare*time.Since(w.saved))
	w.storing.TryGo(func() error {
		return w.sink.retry(ctx, "store a fold's state", func() error {
			return w.sink.store.Save(ctx, w.sink.client.LogID, state)
		})
	})
	return nil
}

// retry repeats an action until it succeeds, ctx ends, or the group has moved on: an engine's trouble delays a batch
// and never drops it.
func (s *Sink) retry(ctx context.Context, action string, try func() error) error {
	for delay := 20 * time.Millisecond; ; delay = min(2*delay, 5*time.Second) {
		err := try()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case eventlog.Fenced(err):
			return err
		}
		s.metrics.retries.Inc()
		s.logger.Warn("processor: "+action+" failed, retrying", "error", err)
		timer := time.NewTimer(delay/2 + rand.N(delay))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}
