package eventlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/segmentio/kafka-go"
)

// GroupConfig says how members of a consumer group notice each other's end.
type GroupConfig struct {
	// SessionTimeout is how long a member that says nothing keeps its partitions.
	SessionTimeout time.Duration
	// Topics are those that the group reads; none for all.
	Topics []string
}

// Consume joins a consumer group and calls work for each partition that this member is given, with a context that ends
// when the partition is taken away. Work runs once for each partition and assignment; it must return when its context
// ends, and what it returns ends the membership unless it is the context's end or a commit that was fenced off.
func (c *Client) Consume(ctx context.Context, group string, config GroupConfig, logger *slog.Logger,
	work func(ctx context.Context, member Member, partition Partition) error,
) error {
	consumers, err := kafka.NewConsumerGroup(c.groupConfig(group, config, logger))
	if err != nil {
		return fmt.Errorf("join consumer group %s: %w", group, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer func() { _ = consumers.Close() }()
	for {
		generation, err := consumers.Next(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			logger.Warn("joining the consumer group failed, retrying", "group", group, "error", err)
			pause(ctx, 200*time.Millisecond)
			continue
		}
		member := Member{Group: group, Generation: int(generation.ID), ID: generation.MemberID}
		for topic, assignments := range generation.Assignments {
			for _, assignment := range assignments {
				partition := Partition{Topic: topic, ID: assignment.ID}
				generation.Start(func(assigned context.Context) {
					run(ctx, assigned, cancel, member, partition, work)
				})
			}
		}
	}
}

// run works on one partition until the assignment or the consumer ends.
func run(ctx, assigned context.Context, fail context.CancelCauseFunc, member Member, partition Partition,
	work func(ctx context.Context, member Member, partition Partition) error,
) {
	both, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(assigned, cancel)
	defer stop()
	err := work(both, member, partition)
	if err == nil || both.Err() != nil || Fenced(err) {
		return
	}
	fail(fmt.Errorf("partition %s: %w", partition, err))
}

// Fenced says whether a commit was refused because the group has moved on.
func Fenced(err error) bool {
	return errors.Is(err, kafka.IllegalGeneration) || errors.Is(err, kafka.UnknownMemberId) || errors.Is(err, kafka.RebalanceInProgress)
}

func (c *Client) groupConfig(group string, config GroupConfig, logger *slog.Logger) kafka.ConsumerGroupConfig {
	topics := config.Topics
	if len(topics) == 0 {
		for _, topic := range c.topics {
			topics = append(topics, topic.Name)
		}
	}
	timeout := config.SessionTimeout
	if timeout <= 0 {
		timeout = 10 * time.Second
	}
	dialer := &kafka.Dialer{Timeout: 5 * time.Second, DualStack: true}
	if transport, ok := c.kafka.Transport.(*kafka.Transport); ok {
		dialer.TLS, dialer.SASLMechanism = transport.TLS, transport.SASL
	}
	return kafka.ConsumerGroupConfig{
		ID:                group,
		Brokers:           c.config.Brokers,
		Dialer:            dialer,
		Topics:            topics,
		HeartbeatInterval: timeout / 5,
		SessionTimeout:    timeout,
		RebalanceTimeout:  timeout,
		JoinGroupBackoff:  200 * time.Millisecond,
		StartOffset:       kafka.FirstOffset,
		ErrorLogger: kafka.LoggerFunc(func(format string, args ...any) {
			logger.Debug("consumer group: "+fmt.Sprintf(format, args...), "group", group)
		}),
	}
}
