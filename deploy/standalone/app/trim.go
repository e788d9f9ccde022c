package app

import (
	"context"
	"log/slog"
	"time"

	"github.com/millrace/millrace/deploy/standalone/engines/kafka"
	"github.com/millrace/millrace/processor/archive"
	"github.com/millrace/millrace/processor/sink"
	"github.com/millrace/millrace/schemas/clickhouse"
	"github.com/millrace/millrace/schemas/eventlog"
)

// trimmer keeps the embedded log small: what is archived and projected is removed from it. A batch that is being
// written still counts as not projected, since its mark stands before it.
type trimmer struct {
	broker     *kafka.Broker
	log        *eventlog.Client
	archive    *archive.Archive
	epoch      uint32
	generation *clickhouse.Generation
	every      time.Duration
	logger     *slog.Logger
}

// Run trims until ctx ends.
func (t *trimmer) Run(ctx context.Context) error {
	ticker := time.NewTicker(t.every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			if err := t.trim(ctx); err != nil && ctx.Err() == nil {
				t.logger.Warn("trimming the embedded log failed, trying again later", "error", err)
			}
		}
	}
}

func (t *trimmer) trim(ctx context.Context) error {
	marks, err := t.log.Committed(ctx, sink.Group(t.generation.Number()), t.log.Partitions()...)
	if err != nil {
		return err
	}
	before := map[string]map[int]int64{}
	for partition, mark := range marks {
		if mark.Offset <= 0 {
			continue
		}
		archived, err := t.archive.End(ctx, partition)
		if err != nil {
			return err
		}
		if archived.Epoch != t.epoch {
			continue
		}
		if before[partition.Topic] == nil {
			before[partition.Topic] = map[int]int64{}
		}
		before[partition.Topic][partition.ID] = min(mark.Offset, archived.Offset)
	}
	return t.broker.TrimTo(ctx, before)
}
