// Package direct reaches the engines behind a target that runs with engines apart: it appends events straight to the log,
// and reads and writes ClickHouse, for figures that compare Millrace with its engines alone.
package direct

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/loadtest/target"
	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/processor/sink"
	"github.com/millrace/millrace/schemas/clickhouse"
	"github.com/millrace/millrace/schemas/eventlog"
)

// Engines are connections to the log and to ClickHouse.
type Engines struct {
	Log      *eventlog.Client
	Appender *eventlog.Appender
	DB       *clickhouse.DB
}

// Connect connects to the engines of a target.
func Connect(ctx context.Context, t *target.Target) (*Engines, error) {
	log, err := eventlog.Dial(ctx, eventlog.Config{Brokers: []string{t.Kafka}, VolumePartitions: 1})
	if err != nil {
		return nil, err
	}
	db, err := clickhouse.Open(clickhouse.Config{URL: t.ClickHouse})
	if err != nil {
		log.Close()
		return nil, err
	}
	appender := eventlog.NewAppender(log, eventlog.AppenderConfig{MaxWaiting: 256 << 20}, prometheus.NewRegistry(), slog.Default())
	return &Engines{Log: log, Appender: appender, DB: db}, nil
}

// Close ends the connections.
func (e *Engines) Close() {
	e.Appender.Close()
	e.Log.Close()
	_ = e.DB.Close() // nothing is under way
}

// Projections is the database of the current generation of the projections.
func (e *Engines) Projections(ctx context.Context) (string, error) {
	generation, err := e.DB.Current(ctx)
	return e.DB.Generation(generation), err
}

// lag is how many records of each partition the current generation has not projected.
func (e *Engines) lag(ctx context.Context) (map[eventlog.Partition]int64, error) {
	generation, err := e.DB.Current(ctx)
	if err != nil {
		return nil, err
	}
	ends, err := e.Log.Ends(ctx, e.Log.Partitions()...)
	if err != nil {
		return nil, err
	}
	marks, err := e.Log.Committed(ctx, sink.Group(generation), e.Log.Partitions()...)
	if err != nil {
		return nil, err
	}
	lags := map[eventlog.Partition]int64{}
	for partition, end := range ends {
		if lag := end - max(0, marks[partition].Offset); lag > 0 {
			lags[partition] = lag
		}
	}
	return lags, nil
}

// Lag tells a person what is not projected yet.
func (e *Engines) Lag(ctx context.Context) string {
	lags, err := e.lag(ctx)
	if err != nil {
		return err.Error()
	}
	var parts []string
	for _, partition := range slices.SortedFunc(maps.Keys(lags), func(a, b eventlog.Partition) int { return strings.Compare(a.Topic, b.Topic) }) {
		parts = append(parts, fmt.Sprintf("%d records of %s to go", lags[partition], partition))
	}
	return strings.Join(parts, ", ")
}

// Projected waits until everything that the log holds now is projected.
func (e *Engines) Projected(ctx context.Context) error {
	return poll(ctx, "everything is projected", func() (bool, error) {
		lags, err := e.lag(ctx)
		return len(lags) == 0, err
	})
}

// Settle waits until everything is projected and no trend waits to be computed.
func (e *Engines) Settle(ctx context.Context) error {
	if err := e.Projected(ctx); err != nil {
		return err
	}
	return poll(ctx, "all trends are computed", func() (bool, error) {
		database, err := e.Projections(ctx)
		if err != nil {
			return false, err
		}
		var waiting uint64
		err = e.DB.QueryRow(ctx, "SELECT count() FROM `"+database+"`.postponed_trends").Scan(&waiting)
		return waiting == 0, err
	})
}

// poll asks again and again. An engine that fails is asked again too: it may be busy.
func poll(ctx context.Context, what string, reached func() (bool, error)) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		done, err := reached()
		if done && err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w (last failure: %w)", what, ctx.Err(), err)
		case <-ticker.C:
		}
	}
}

// Checksum gives a checksum of each table of the current generation.
func (e *Engines) Checksum(ctx context.Context) (map[string]string, error) {
	generation, err := e.DB.Current(ctx)
	if err != nil {
		return nil, err
	}
	return projection.Checksum(ctx, e.DB, generation)
}
