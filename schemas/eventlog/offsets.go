package eventlog

import (
	"context"
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go"
)

// Ends gives, for each partition, the offset that the next record will get.
func (c *Client) Ends(ctx context.Context, partitions ...Partition) (map[Partition]int64, error) {
	return c.offsets(ctx, partitions, kafka.LastOffset)
}

// Starts gives, for each partition, the offset of the oldest record that is still there.
func (c *Client) Starts(ctx context.Context, partitions ...Partition) (map[Partition]int64, error) {
	return c.offsets(ctx, partitions, kafka.FirstOffset)
}

func (c *Client) offsets(ctx context.Context, partitions []Partition, which int64) (map[Partition]int64, error) {
	request := &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{}}
	for _, p := range partitions {
		request.Topics[p.Topic] = append(request.Topics[p.Topic], kafka.OffsetRequest{Partition: p.ID, Timestamp: which})
	}
	response, err := c.kafka.ListOffsets(ctx, request)
	if err != nil {
		return nil, fmt.Errorf("look up offsets: %w", err)
	}
	found := make(map[Partition]int64, len(partitions))
	for topic, list := range response.Topics {
		for _, offsets := range list {
			partition := Partition{Topic: topic, ID: offsets.Partition}
			if offsets.Error != nil {
				return nil, fmt.Errorf("look up offsets of %s: %w", partition, offsets.Error)
			}
			found[partition] = offsets.LastOffset
			if which == kafka.FirstOffset {
				found[partition] = offsets.FirstOffset
			}
		}
	}
	for _, partition := range partitions {
		if _, ok := found[partition]; !ok {
			return nil, fmt.Errorf("look up offsets of %s: the broker does not answer for it", partition)
		}
	}
	return found, nil
}

// Commit is a consumer group's mark in a partition: the next offset to read, and a note of the committer's.
type Commit struct {
	// Offset is -1 when nothing was committed yet.
	Offset int64
	Note   string
}

// Member is a membership of a consumer group. Its commits are refused once the group has moved on.
type Member struct {
	Group      string
	Generation int
	ID         string
}

// Committed reads a group's marks.
func (c *Client) Committed(ctx context.Context, group string, partitions ...Partition) (map[Partition]Commit, error) {
	request := &kafka.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{}}
	for _, p := range partitions {
		request.Topics[p.Topic] = append(request.Topics[p.Topic], p.ID)
	}
	response, err := c.kafka.OffsetFetch(ctx, request)
	if err == nil {
		err = response.Error
	}
	marks := make(map[Partition]Commit, len(partitions))
	if errors.Is(err, kafka.GroupIdNotFound) {
		for _, partition := range partitions {
			marks[partition] = Commit{Offset: -1}
		}
		return marks, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read committed offsets of group %s: %w", group, err)
	}
	for topic, list := range response.Topics {
		for _, p := range list {
			partition := Partition{Topic: topic, ID: p.Partition}
			if p.Error != nil {
				return nil, fmt.Errorf("read committed offset of %s: %w", partition, p.Error)
			}
			marks[partition] = Commit{Offset: p.CommittedOffset, Note: p.Metadata}
		}
	}
	return marks, nil
}

// Commit sets a group's mark in one partition.
func (c *Client) Commit(ctx context.Context, member Member, partition Partition, mark Commit) error {
	response, err := c.kafka.OffsetCommit(ctx, &kafka.OffsetCommitRequest{
		GroupID:      member.Group,
		GenerationID: member.Generation,
		MemberID:     member.ID,
		Topics: map[string][]kafka.OffsetCommit{
			partition.Topic: {{Partition: partition.ID, Offset: mark.Offset, Metadata: mark.Note}},
		},
	})
	if err != nil {
		return fmt.Errorf("commit %s at %d for group %s: %w", partition, mark.Offset, member.Group, err)
	}
	for _, p := range response.Topics[partition.Topic] {
		if p.Error != nil {
			return fmt.Errorf("commit %s at %d for group %s: %w", partition, mark.Offset, member.Group, p.Error)
		}
	}
	return nil
}
