package kafka

import (
	"context"
	"errors"
	"fmt"
)

var errClosed = errors.New("the embedded log is closed")

// TrimTo deletes the records of each given topic and partition before the given offset, and the files in which nothing
// is left. What is trimmed already is passed over. The batch with the last record always stays.
//
// The exact offset holds until the broker stops. After a crash, a partition begins where its oldest file does, so that
// records which were trimmed may be there again.
func (b *Broker) TrimTo(ctx context.Context, before map[string]map[int]int64) error {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.cluster == nil {
		return errClosed
	}
	for topic, partitions := range before {
		for partition, offset := range partitions {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := b.trim(topic, int32(partition), offset); err != nil {
				return fmt.Errorf("trim partition %d of topic %s to %d: %w", partition, topic, offset, err)
			}
		}
	}
	return nil
}

func (b *Broker) trim(topic string, partition int32, offset int64) error {
	info := b.cluster.PartitionInfo(topic, partition)
	if info == nil {
		return errors.New("there is no such partition")
	}
	offset = min(offset, info.HighWatermark-1)
	if offset <= info.LogStartOffset {
		return nil
	}
	return b.cluster.DeleteRecords(topic, partition, offset)
}
