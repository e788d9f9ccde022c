package sink

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/schemas/eventlog"
)

// ProjectArchive projects all that is archived of a partition, of every log in turn, and sets the group's mark behind
// it. The number of records of each batch goes to counts. It is for a generation that nobody else works on; a failed
// one is thrown away and begun again as another generation.
func (s *Sink) ProjectArchive(ctx context.Context, partition eventlog.Partition, counts chan<- int64) error {
	skip, err := s.skipped(ctx, partition)
	if err != nil {
		return err
	}
	w := &worker{
		sink: s, partition: partition, skip: skip, batch: projection.NewBatch(), saved: time.Now(),
		member: eventlog.Member{Group: s.group, Generation: -1}, archived: true,
	}
	if w.projector, err = s.newProjector(ctx, partition, eventlog.Place{}); err != nil {
		return err
	}
	var next eventlog.Place
	err = s.archive.Read(ctx, partition, eventlog.Place{}, eventlog.Place{}, func(epoch uint32, records []eventlog.Record) error {
		next = eventlog.Place{Epoch: epoch, Offset: records[len(records)-1].Offset + 1}
		return w.project(ctx, epoch, records, counts)
	})
	if err == nil {
		err = w.flush(ctx, counts)
	}
	if err != nil {
		return fmt.Errorf("project the archive of %s: %w", partition, err)
	}
	if next.Epoch != s.epoch {
		next.Offset = 0
	}
	return w.commit(ctx, eventlog.Commit{Offset: next.Offset})
}

// project writes archived records in batches of their own, none over two logs. No journal is needed, since nobody takes
// them over.
func (w *worker) project(ctx context.Context, epoch uint32, records []eventlog.Record, counts chan<- int64) error {
	if epoch != w.epoch {
		if err := w.flush(ctx, counts); err != nil {
			return err
		}
		w.epoch = epoch
	}
	for i := range records {
		if err := w.add(ctx, &records[i]); err != nil {
			return err
		}
		if w.full() {
			if err := w.flush(ctx, counts); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *worker) flush(ctx context.Context, counts chan<- int64) error {
	if len(w.records) == 0 {
		return nil
	}
	batch := batchRange{first: w.records[0].Offset, last: w.records[len(w.records)-1].Offset}
	token := batch.token(w.sink.group, fmt.Sprintf("archive-%d", w.epoch), w.partition, w.left)
	if err := w.insert(ctx, token, false); err != nil {
		return err
	}
	select {
	case counts <- int64(len(w.records)):
	case <-ctx.Done():
		return ctx.Err()
	}
	w.empty()
	return nil
}
