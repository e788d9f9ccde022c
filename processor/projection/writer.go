package projection

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/schemas/clickhouse"
)

// Writer writes batches into one generation of the projections. It is safe for concurrent use.
type Writer struct {
	db       *clickhouse.DB
	database string
	pace     pace
	// trendMemory is how many bytes a statement that recomputes several weeks may take.
	trendMemory int
	// weekMemory is how many one that recomputes a single week may take.
	weekMemory int
}

const (
	// inserts bounds how many tables of a batch are written at the same time.
	inserts = 4
	// metricsAtOnce bounds the rows of one insert of metrics: the engine splits greater blocks, and a token speaks of one.
	metricsAtOnce = 500_000
)

// NewWriter gives a writer for a generation, whose tables must be there.
func NewWriter(db *clickhouse.DB, generation uint32) *Writer {
	return &Writer{
		db: db, database: db.Generation(generation), pace: pace{rests: make(map[week]rest)}, trendMemory: trendMemory,
		weekMemory: weekMemory,
	}
}

// Write brings a batch into its tables, each under a token of its own that follows from the given one, then recomputes
// the trends that the batch's samples touched (or postpones that, see Run). After a failure the same batch may be written
// again under the same token; whatever was written before, the effect is that of one write. again says that this may be so.
func (w *Writer) Write(ctx context.Context, b *Batch, token string, again bool) error {
	group, inserting := errgroup.WithContext(ctx)
	group.SetLimit(inserts)
	for from := 0; from < b.metrics.rows(); from += metricsAtOnce {
		group.Go(func() error { return w.insertMetrics(inserting, &b.metrics, from, token, again) })
	}
	for i := range b.tables {
		if len(b.tables[i].values) > 0 {
			group.Go(func() error { return w.insertRows(inserting, tables[i], b.tables[i].values, token, again) })
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	atOnce, postponed := w.pace.split(b.metrics.touched(), time.Now())
	err := w.recompute(ctx, atOnce)
	if _, left := errors.AsType[*TooLargeError](err); !left && err != nil {
		return err
	}
	for _, t := range atOnce {
		if tooLarge(err, t.week()) {
			postponed = append(postponed, t)
		}
	}
	slices.SortFunc(postponed, touchedHour.compare)
	return w.postpone(ctx, postponed)
}

func (w *Writer) qualified(table string) string { return "`" + w.database + "`." + table }

func (w *Writer) insertRows(ctx context.Context, t table, values [][]any, token string, again bool) error {
	return w.db.InsertOnce(ctx, clickhouse.Block{
		Database: w.database, Table: t.name, Columns: t.columns, Token: token + "/" + t.name,
		Fill: func(batch driver.Batch) error {
			for _, row := range values {
				if err := batch.Append(row...); err != nil {
					return err
				}
			}
			return nil
		},
		Witnesses: func() [][]any { return values },
	}, again)
}

var metricsTable = table{"metrics", "machine_id, config_id, branch_id, metric, ts, event_id, ordinal, run_id, result_id, value"}

// insertMetrics sends the samples that begin at an index, as many as go at once.
func (w *Writer) insertMetrics(ctx context.Context, s *samples, from int, token string, again bool) error {
	to := min(from+metricsAtOnce, s.rows())
	return w.db.InsertOnce(ctx, clickhouse.Block{
		Database: w.database, Table: metricsTable.name, Columns: metricsTable.columns, Token: token + "/" + strconv.Itoa(from) + "/" + metricsTable.name,
		Fill:      func(batch driver.Batch) error { return s.fill(batch, from, to) },
		Witnesses: func() [][]any { return s.firsts(from, to) },
	}, again)
}

// firsts gives the first sample of each segment in a range, with all its columns. One segment alone would not do: an event
// that stands twice in the log may have been written with another batch.
func (s *samples) firsts(from, to int) (rows [][]any) {
	at := from
	for _, p := range s.parts(from, to) {
		rows = append(rows, []any{
			p.Machine, p.Config, p.Branch, p.Metric, s.times[at], p.event, p.ordinal, p.run, p.result, s.values[at],
		})
		at += p.length
	}
	return rows
}

// fill appends the samples of a range column by column. What a segment shares is spread out here, in memory that the
// columns use one after the other.
func (s *samples) fill(batch driver.Batch, from, to int) error {
	parts := s.parts(from, to)
	ids := make([]uint64, to-from)
	shared := func(id func(*segment) uint64) []uint64 { return spread(ids, parts, id) }
	for column, values := range []func() any{
		func() any { return shared(func(s *segment) uint64 { return s.Machine }) },
		func() any { return shared(func(s *segment) uint64 { return s.Config }) },
		func() any { return shared(func(s *segment) uint64 { return s.Branch }) },
		func() any { return spread(make([]string, to-from), parts, func(s *segment) string { return s.Metric }) },
		func() any { return s.times[from:to] },
		func() any {
			return spread(make([]uuid.UUID, to-from), parts, func(s *segment) uuid.UUID { return s.event })
		},
		func() any { return ordinals(parts, to-from) },
		func() any { return shared(func(s *segment) uint64 { return s.run }) },
		func() any { return shared(func(s *segment) uint64 { return s.result }) },
		func() any { return s.values[from:to] },
	} {
		if err := batch.Column(column).Append(values()); err != nil {
			return err
		}
	}
	return nil
}

// part is how much of a segment lies in a range of samples.
type part struct {
	*segment
	ordinal uint32
	length  int
}

func (s *samples) parts(from, to int) []part {
	var parts []part
	for i := range s.segments {
		segment := &s.segments[i]
		begin, end := max(from, segment.first), min(to, segment.first+s.length(i))
		if begin < end {
			parts = append(parts, part{segment, segment.ordinal + uint32(begin-segment.first), end - begin})
		}
	}
	return parts
}

// spread fills a column with a value for each sample.
func spread[T any](column []T, parts []part, value func(*segment) T) []T {
	next := 0
	for _, p := range parts {
		v := value(p.segment)
		for i := range column[next : next+p.length] {
			column[next+i] = v
		}
		next += p.length
	}
	return column
}

func ordinals(parts []part, n int) []uint32 {
	column := make([]uint32, 0, n)
	for _, p := range parts {
		for i := range p.length {
			column = append(column, p.ordinal+uint32(i))
		}
	}
	return column
}
