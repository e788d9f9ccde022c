package sink

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// deadLetterSpace makes the id of a dead letter from its place, so that a batch projected again makes the same letter.
var deadLetterSpace = uuid.MustParse("6a3c1f0e-8d57-4b7e-9a55-0c2f1b6de7aa")

// maxLetter is the largest payload that a dead letter repeats: the letter must fit a record with its headers.
const maxLetter = eventlog.MaxRecordBytes / 2

// bury appends a dead letter for a record that cannot be projected.
func (s *Sink) bury(ctx context.Context, epoch uint32, record *eventlog.Record, reason error) error {
	place := &event.Place{
		Epoch: epoch, Topic: record.Partition.Topic, Partition: int32(record.Partition.ID), Offset: record.Offset,
	}
	letter := &event.DeadLetter{
		Place: place, EventId: record.ID.String(), EventType: record.Type, Reason: reason.Error(), CodeVersion: s.version,
		Key: record.Key, Value: record.Data,
	}
	if len(record.Data) > maxLetter {
		letter.Value = nil
		letter.Reason += fmt.Sprintf(" (the record of %d bytes is too large to repeat here; the archive has it at this place)", len(record.Data))
	}
	for _, h := range record.Headers {
		letter.Headers = append(letter.Headers, &event.RecordHeader{Key: h.Key, Value: h.Value})
	}
	buried, err := eventlog.NewEvent("/processor", letter)
	if err != nil {
		return err
	}
	buried.ID = uuid.NewSHA1(deadLetterSpace, fmt.Appendf(nil, "%d/%s/%d", epoch, record.Partition, record.Offset))
	buried.Key = letterKey(record.Partition, eventlog.Place{Epoch: epoch, Offset: record.Offset})
	s.logger.Error("record cannot be projected: it becomes a dead letter", "event", record.ID, "type", record.Type,
		"partition", record.Partition.String(), "offset", record.Offset, "dead_letter", buried.ID, "reason", reason)
	s.metrics.deadLetters.WithLabelValues(record.Partition.Topic).Inc()
	return s.retry(ctx, "append a dead letter", func() error {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		_, err := s.appender.Append(ctx, eventlog.Partition{Topic: eventlog.DeadLetters}, buried)
		return err
	})
}

// letterKey is the key of a dead letter: the place of its record, so that who asks for places need not read letters.
func letterKey(partition eventlog.Partition, place eventlog.Place) []byte {
	return fmt.Appendf(nil, "%s@%s", partition, place)
}

// letterPlace reads a dead letter's key back; ok is false when its record is of another partition.
func letterPlace(key string, partition eventlog.Partition) (place eventlog.Place, ok bool) {
	text, ok := strings.CutPrefix(key, partition.String()+"@")
	if !ok {
		return place, false
	}
	_, err := fmt.Sscanf(text, "%d:%d", &place.Epoch, &place.Offset)
	return place, err == nil
}

// skipped lists the places of a partition that are dead letters already: they are left out for good, so that newer
// code does not give a letter's record an effect of its own beside the requeued one.
func (s *Sink) skipped(ctx context.Context, partition eventlog.Partition) (map[eventlog.Place]bool, error) {
	places := map[eventlog.Place]bool{}
	note := func(key string) {
		if place, ok := letterPlace(key, partition); ok {
			places[place] = true
		}
	}
	letters := eventlog.Partition{Topic: eventlog.DeadLetters}
	// The log's start before the archive: what is trimmed meanwhile is archived by then.
	starts, err := s.client.Starts(ctx, letters)
	if err != nil {
		return nil, err
	}
	if err := s.archive.Keys(ctx, letters, note); err != nil {
		return nil, err
	}
	return places, s.readTail(ctx, letters, starts[letters], func(records []eventlog.Record) {
		for i := range records {
			note(string(records[i].Key))
		}
	})
}

// readTail shows what the log holds of a partition from an offset on.
func (s *Sink) readTail(ctx context.Context, partition eventlog.Partition, next int64, note func([]eventlog.Record)) error {
	ends, err := s.client.Ends(ctx, partition)
	if err != nil {
		return err
	}
	for next < ends[partition] {
		records, err := s.client.Fetch(ctx, partition, next, fetchBytes)
		if err != nil {
			return err
		}
		note(records)
		if len(records) > 0 {
			next = records[len(records)-1].Offset + 1
		}
	}
	return nil
}
