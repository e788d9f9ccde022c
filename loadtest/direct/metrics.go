package direct

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// Rows are metric rows as they travel both ways: in events, and in the columns of an insert.
type Rows struct {
	events []eventlog.Event
	blocks []block
	count  int
}

// block is what one insert sends.
type block struct {
	machine, config, branch, run, result []uint64
	metric                               []string
	ts                                   []int64
	event                                []uuid.UUID
	ordinal                              []uint32
	value                                []float64
}

const metricColumns = "machine_id, config_id, branch_id, metric, ts, event_id, ordinal, run_id, result_id, value"

// Prepare makes rows in events, of which from are in the log already, and lays them out in blocks for inserts.
func (f *Filler) Prepare(from, count, blockRows int) (*Rows, error) {
	rows := &Rows{}
	for n := from; rows.count < count; n++ {
		e, _, err := f.samplesEvent(n, 1, "load.rows")
		if err != nil {
			return nil, err
		}
		if len(rows.blocks) == 0 || len(rows.blocks[len(rows.blocks)-1].value) >= blockRows {
			rows.blocks = append(rows.blocks, block{})
		}
		if err := rows.blocks[len(rows.blocks)-1].add(&e); err != nil {
			return nil, err
		}
		rows.events = append(rows.events, e)
		rows.count += f.samples
	}
	return rows, nil
}

func (b *block) add(e *eventlog.Event) error {
	decoded, err := e.Decode()
	if err != nil {
		return err
	}
	m := decoded.(*event.RunSamplesRecorded) // samplesEvent made it
	for i, value := range m.GetValues() {
		b.machine, b.config, b.branch = append(b.machine, m.GetMachineId()), append(b.config, m.GetConfigId()), append(b.branch, m.GetBranchId())
		b.run, b.result = append(b.run, m.GetRunId()), append(b.result, m.GetResultId())
		b.metric, b.ts = append(b.metric, m.GetMetric()), append(b.ts, m.GetTimes()[i])
		b.event, b.ordinal, b.value = append(b.event, e.ID), append(b.ordinal, uint32(i)), append(b.value, value)
	}
	return nil
}

// Events is how many events the rows travel in.
func (r *Rows) Events() int { return len(r.events) }

// Count is how many rows there are.
func (r *Rows) Count() int { return r.count }

// ThroughLog appends the rows' events and waits until they are projected. It says how long the appends took, and all.
func (e *Engines) ThroughLog(ctx context.Context, rows *Rows) (appended, projected time.Duration, err error) {
	began := time.Now()
	group, appending := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range appenders {
		group.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(rows.events) {
					return nil
				}
				partition := e.Log.PartitionFor(eventlog.Metrics, rows.events[i].Key)
				if _, err := e.Appender.Append(appending, partition, rows.events[i]); err != nil {
					return err
				}
			}
		})
	}
	if err := group.Wait(); err != nil {
		return 0, 0, err
	}
	appended = time.Since(began)
	err = e.Projected(ctx)
	return appended, time.Since(began), err
}

// bareTable is where Insert puts rows: a table like the projections' own.
const bareTable = "loadtest.metrics"

// MakeBareTable makes the table for Insert, with the engine and settings of the projections' table of metrics.
func (e *Engines) MakeBareTable(ctx context.Context) error {
	database, err := e.Projections(ctx)
	if err != nil {
		return err
	}
	for _, statement := range []string{
		"CREATE DATABASE IF NOT EXISTS loadtest",
		"CREATE TABLE IF NOT EXISTS " + bareTable + " AS `" + database + "`.metrics",
	} {
		if err := e.DB.Exec(ctx, statement); err != nil {
			return fmt.Errorf("make the table to compare with: %w", err)
		}
	}
	return nil
}

// Insert sends the rows' blocks one after the other with clickhouse-go, column by column.
func (e *Engines) Insert(ctx context.Context, rows *Rows) (time.Duration, error) {
	began := time.Now()
	for i := range rows.blocks {
		if err := e.insertBlock(ctx, &rows.blocks[i]); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

func (e *Engines) insertBlock(ctx context.Context, b *block) error {
	batch, err := e.DB.Insert(ctx, bareTable, metricColumns, b.event[0].String())
	if err != nil {
		return err
	}
	defer func() { _ = batch.Close() }()
	columns := []any{b.machine, b.config, b.branch, b.metric, b.ts, b.event, b.ordinal, b.run, b.result, b.value}
	for i, column := range columns {
		if err := batch.Column(i).Append(column); err != nil {
			return fmt.Errorf("fill column %d: %w", i, err)
		}
	}
	if err := batch.Send(); err != nil {
		return fmt.Errorf("insert %d rows: %w", len(b.value), err)
	}
	return nil
}

// CountMetric counts the raw samples of a metric, and those that its trends of hours count.
func (e *Engines) CountMetric(ctx context.Context, metric string) (raw, hours int64, err error) {
	database, err := e.Projections(ctx)
	if err != nil {
		return 0, 0, err
	}
	query := fmt.Sprintf("SELECT (SELECT toInt64(count()) FROM `%[1]s`.metrics FINAL WHERE metric = ?), "+
		"(SELECT toInt64(sum(count)) FROM `%[1]s`.trend_buckets FINAL WHERE metric = ? AND resolution = 3600)", database)
	if err := e.DB.QueryRow(ctx, query, metric, metric).Scan(&raw, &hours); err != nil {
		return 0, 0, fmt.Errorf("count the samples of %s: %w", metric, err)
	}
	return raw, hours, nil
}
