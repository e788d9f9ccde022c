package sink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/schemas/eventlog"
)

// fetchBytes bounds one read ahead of the batch being written.
const fetchBytes = 8 << 20

// ErrLost means that the log deleted records before they were archived.
var ErrLost = errors.New("records are gone from the log and are not in the archive, " +
	"so restore ClickHouse's folder (or its database) as it was, or a backup of Millrace")

// read sends a partition's records from an offset on, in order, until ctx ends or the log fails for good. What the log
// was trimmed of comes from the archive.
func (s *Sink) read(ctx context.Context, partition eventlog.Partition, from int64, out chan<- []eventlog.Record) error {
	send := func(records []eventlog.Record) error {
		select {
		case out <- records:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for {
		err := s.client.Tail(ctx, partition, from, s.logger, func(records []eventlog.Record) error {
			from = records[len(records)-1].Offset + 1
			return send(records)
		})
		if !errors.Is(err, eventlog.ErrTrimmed) {
			return err
		}
		before := from
		start, until := eventlog.Place{Epoch: s.epoch, Offset: from}, eventlog.Place{Epoch: s.epoch + 1}
		err = s.archive.Read(ctx, partition, start, until, func(_ uint32, records []eventlog.Record) error {
			from = records[len(records)-1].Offset + 1
			return send(records)
		})
		if err != nil {
			return err
		}
		if from == before {
			return fmt.Errorf("%w: %s from offset %d on", ErrLost, partition, from)
		}
	}
}

// readRange gives exactly the records of a batch that was begun before.
func (s *Sink) readRange(ctx context.Context, partition eventlog.Partition, batch batchRange) ([]eventlog.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	out := make(chan []eventlog.Record)
	failed := make(chan error, 1)
	go func() { failed <- s.read(ctx, partition, batch.first, out) }()
	var records []eventlog.Record
	for {
		select {
		case err := <-failed:
			return nil, fmt.Errorf("read the pending batch %d to %d of %s again: %w", batch.first, batch.last, partition, err)
		case chunk := <-out:
			for _, record := range chunk {
				if record.Offset <= batch.last {
					records = append(records, record)
				}
			}
			if chunk[len(chunk)-1].Offset >= batch.last {
				return records, nil
			}
		}
	}
}
