// Package lab reads what the lab holds: machines, runs, results, samples, trends, jobs and queues, and what could not be
// taken in. It reads one generation of the projections in ClickHouse, a page at a time.
//
// Pages are read by the sort key of the row before, never by a number of rows to skip, so that a page costs the same
// wherever it is in a list, and rows that come in meanwhile move nothing. Which orders a list has is said beside it:
// those that a table or one of its projections is stored in, and those whose rows are few by nature.
package lab

import (
	"context"
	"slices"
	"strings"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/processor/runs"
	"github.com/millrace/millrace/query/gate"
	"github.com/millrace/millrace/query/native/cursor"
	"github.com/millrace/millrace/schemas/clickhouse"
)

// Runs is the replica of the runs' fold.
type Runs interface {
	View(look func(*runs.State))
}

// Reader reads the projections.
type Reader struct {
	db   *clickhouse.DB
	runs Runs
	jobs Jobs
}

// NewReader gives a reader. The folds tell how many runs a machine has, and how many jobs a queue.
func NewReader(db *clickhouse.DB, runs Runs, jobs Jobs) *Reader {
	return &Reader{db: db, runs: runs, jobs: jobs}
}

// At reads one generation.
func (r *Reader) At(generation uint32) *View {
	return &View{
		Generation: generation, db: r.db, lab: r, database: r.db.Generation(generation), writer: projection.NewWriter(r.db, generation),
	}
}

// View reads one generation of the projections.
type View struct {
	// Generation is its number.
	Generation uint32

	db       *clickhouse.DB
	lab      *Reader
	database string
	// writer recomputes the trends of a series that the processor has postponed, before they are shown.
	writer *projection.Writer
}

// Page says which part of a list is wanted.
type Page struct {
	Order Order
	// After is the sort key of the row before; nil begins the list.
	After cursor.Key
	// Limit is the number of rows, at least 1.
	Limit int
}

// scan runs a query and gives its rows. Columns go to the fields that are tagged with their names.
func scan[T any](ctx context.Context, v *View, what, text string, values ...any) ([]T, error) {
	settings := gate.Settings()
	// Compiled expressions may round otherwise than interpreted ones, which computed the trends that are kept.
	settings["compile_expressions"], settings["compile_aggregate_expressions"] = 0, 0
	// A page of groups in the table's order needs no more than their rows.
	settings["optimize_aggregation_in_order"] = 1
	rows, err := v.db.Query(ch.Context(ctx, ch.WithSettings(settings)), text, values...)
	if err != nil {
		return nil, fault(ctx, what, err)
	}
	defer func() { _ = rows.Close() }()
	found := []T{}
	for rows.Next() {
		var row T
		if err := rows.ScanStruct(&row); err != nil {
			return nil, fault(ctx, what, err)
		}
		found = append(found, row)
	}
	if err := rows.Err(); err != nil {
		return nil, fault(ctx, what, err)
	}
	return found, nil
}

// list reads a page of a selection and gives the key to continue behind, nil at the list's end. A row may stand in its
// table several times until parts are merged; it is listed once.
func list[T any](ctx context.Context, v *View, what string, s selection, page Page, key func(*T) cursor.Key) ([]T, cursor.Key, error) {
	found := make([]T, 0, page.Limit+1)
	var last cursor.Key
	for len(found) <= page.Limit {
		wanted := page.Limit + 1 - len(found)
		text, values := s.sql(v.database, page.Order, page.After, wanted)
		rows, err := scan[T](ctx, v, what, text, values...)
		if err != nil {
			return nil, nil, err
		}
		for i := range rows {
			if k := key(&rows[i]); !slices.Equal(k, last) {
				found, last = append(found, rows[i]), k
			}
		}
		if len(rows) < wanted {
			return found, nil, nil
		}
		page.After = last
	}
	found = found[:page.Limit]
	return found, key(&found[page.Limit-1]), nil
}

// byID reads the rows of a table whose ids are listed.
func byID[T any](ctx context.Context, v *View, table, key string, ids []uint64, id func(*T) uint64, columns []string) (map[uint64]T, error) {
	found := make(map[uint64]T, len(ids))
	if len(ids) == 0 {
		return found, nil
	}
	text := "SELECT " + strings.Join(columns, ", ") + "\nFROM {db}." + table + "\nWHERE " + key + " IN (?)"
	rows, err := scan[T](ctx, v, table, in(v.database, text), ids)
	for i := range rows {
		found[id(&rows[i])] = rows[i]
	}
	return found, err
}
