package eventlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/segmentio/kafka-go"
)

// ErrTrimmed means that the log no longer holds the offset asked for: the archive has it.
var ErrTrimmed = errors.New("the log no longer holds this offset")

// fetchWait is how long a broker may hold a fetch open while nothing new comes.
const fetchWait = 500 * time.Millisecond

// Fetch reads records of one partition from an offset on: what is there, or what arrives within half a second; it may
// be none. It returns ErrTrimmed when the offset is older than the log's start.
func (c *Client) Fetch(ctx context.Context, partition Partition, offset int64, maxBytes int) ([]Record, error) {
	response, err := c.kafka.Fetch(ctx, &kafka.FetchRequest{
		Topic:     partition.Topic,
		Partition: partition.ID,
		Offset:    offset,
		MinBytes:  1,
		MaxBytes:  int64(maxBytes),
		MaxWait:   fetchWait,
	})
	if err == nil {
		err = response.Error
	}
	if errors.Is(err, kafka.OffsetOutOfRange) {
		return nil, c.outOfRange(ctx, partition, offset)
	}
	if err != nil {
		return nil, fmt.Errorf("fetch %s from %d: %w", partition, offset, err)
	}
	return readRecords(partition, offset, response.Records)
}

func (c *Client) outOfRange(ctx context.Context, partition Partition, offset int64) error {
	starts, err := c.Starts(ctx, partition)
	if err != nil {
		return err
	}
	if offset < starts[partition] {
		return fmt.Errorf("%w: %s begins at %d, wanted %d", ErrTrimmed, partition, starts[partition], offset)
	}
	return fmt.Errorf("fetch %s from %d: the log ends before it; was another log restored under this one?", partition, offset)
}

func readRecords(partition Partition, from int64, reader kafka.RecordReader) ([]Record, error) {
	var records []Record
	for {
		raw, err := reader.ReadRecord()
		if errors.Is(err, io.EOF) {
			return records, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read a record of %s: %w", partition, err)
		}
		key, err := readBytes(raw.Key)
		if err != nil {
			return nil, fmt.Errorf("read a key of %s: %w", partition, err)
		}
		value, err := readBytes(raw.Value)
		if err != nil {
			return nil, fmt.Errorf("read a value of %s: %w", partition, err)
		}
		// A batch may begin before the offset asked for.
		if raw.Offset >= from {
			records = append(records, NewRecord(partition, raw.Offset, raw.Time.UnixMilli(), key, raw.Headers, value))
		}
	}
}

func readBytes(bytes kafka.Bytes) ([]byte, error) {
	if bytes == nil {
		return nil, nil
	}
	defer func() { _ = bytes.Close() }()
	return kafka.ReadAll(bytes)
}

// Tail calls handle with every record of a partition from an offset on, in order, until ctx ends or handle fails.
// Faults of the engine are waited out; ErrTrimmed and the handler's errors are returned.
func (c *Client) Tail(ctx context.Context, partition Partition, from int64, logger *slog.Logger, handle func([]Record) error) error {
	failures := 0
	for ctx.Err() == nil {
		records, err := c.Fetch(ctx, partition, from, maxFetchBytes)
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, ErrTrimmed):
			return err
		case err != nil:
			failures++
			logger.Warn("reading the log failed, retrying", "partition", partition.String(), "offset", from, "error", err)
			pause(ctx, min(time.Duration(failures)*50*time.Millisecond, time.Second))
		case len(records) > 0:
			failures = 0
			if err := handle(records); err != nil {
				return err
			}
			from = records[len(records)-1].Offset + 1
		}
	}
	return ctx.Err()
}

const maxFetchBytes = 8 << 20

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
