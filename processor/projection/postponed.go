package projection

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas/clickhouse"
)

var postponedTable = table{"postponed_trends", "machine_id, config_id, branch_id, metric, week, note_id"}

// postpone leaves notes for the weeks that the hours are in.
func (w *Writer) postpone(ctx context.Context, hours []touchedHour) error {
	if len(hours) == 0 {
		return nil
	}
	weeks, _ := firstWeeks(hours, len(hours))
	// Another try may postpone other weeks, so each has a token of its own.
	err := w.db.InsertBlock(ctx, clickhouse.Block{
		Database: w.database, Table: postponedTable.name, Columns: postponedTable.columns, Token: uuid.NewString(),
		Fill: func(batch driver.Batch) error {
			for _, p := range weeks {
				if err := batch.Append(p.Machine, p.Config, p.Branch, p.Metric, time.Unix(p.start, 0).UTC(), uuid.New()); err != nil {
					return err
				}
			}
			return nil
		},
	})
	w.pace.note()
	return err
}

// Settle recomputes all trends that are postponed and returns when none is left.
func (w *Writer) Settle(ctx context.Context) error { return w.settleAll(ctx, everySeries()) }

// SettleSeries recomputes the postponed trends of one series, if there are any: what is read of it afterwards contains
// every sample that was written before.
func (w *Writer) SettleSeries(ctx context.Context, s Series) error {
	return w.settleAll(ctx, oneSeries(s))
}

func (w *Writer) settleAll(ctx context.Context, of selection) error {
	for {
		left, err := w.settle(ctx, of, func(week) bool { return true })
		if err != nil || left == 0 {
			return err
		}
	}
}

// selection is a condition on notes.
type selection struct {
	where string
	args  []any
}

func everySeries() selection { return selection{where: "1"} }

func oneSeries(s Series) selection {
	return selection{
		"machine_id = ? AND config_id = ? AND branch_id = ? AND metric = ?", []any{s.Machine, s.Config, s.Branch, s.Metric},
	}
}

// notesAtOnce bounds the notes that are taken up together.
const notesAtOnce = 4096

// settle recomputes those selected postponed weeks that are due, takes their notes away, and says how many notes may be
// left.
func (w *Writer) settle(ctx context.Context, of selection, due func(week) bool) (left int, err error) {
	notes, count, err := w.notes(ctx, of)
	if err != nil {
		return 0, fmt.Errorf("read what trends are postponed: %w", err)
	}
	var hours []touchedHour
	var weeks []week
	for _, p := range slices.SortedFunc(maps.Keys(notes), week.compare) {
		if due(p) {
			hours = append(hours, p.hours()...)
			weeks = append(weeks, p)
		}
	}
	unfinished := w.recompute(ctx, hours)
	if _, some := errors.AsType[*TooLargeError](unfinished); !some && unfinished != nil {
		return count, unfinished
	}
	var settled []string
	for _, p := range weeks {
		if !tooLarge(unfinished, p) {
			settled = append(settled, notes[p]...)
		}
	}
	if err := w.forget(ctx, settled); err != nil {
		return count, fmt.Errorf("take notes of postponed trends away: %w", err)
	}
	if count == notesAtOnce {
		return count, unfinished
	}
	return count - len(settled), unfinished
}

// notes reads the ids of notes by week.
func (w *Writer) notes(ctx context.Context, of selection) (ids map[week][]string, count int, err error) {
	rows, err := w.db.Query(ctx, fmt.Sprintf("SELECT %s FROM %s WHERE %s LIMIT %d", postponedTable.columns,
		w.qualified(postponedTable.name), of.where, notesAtOnce), of.args...)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = rows.Close() }()
	ids = make(map[week][]string)
	for rows.Next() {
		var p week
		var start time.Time
		var id uuid.UUID
		if err := rows.Scan(&p.Machine, &p.Config, &p.Branch, &p.Metric, &start, &id); err != nil {
			return nil, 0, err
		}
		p.start = start.Unix()
		ids[p] = append(ids[p], id.String())
		count++
	}
	return ids, count, rows.Err()
}

func (w *Writer) forget(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	return w.db.Exec(ctx, "DELETE FROM "+w.qualified(postponedTable.name)+" WHERE note_id IN (?)", ids)
}
