package pgperffarm

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/go-json-experiment/json"

	"github.com/millrace/millrace/query/cache"
	"github.com/millrace/millrace/query/gate"
	"github.com/millrace/millrace/schemas/clickhouse"
)

// reader reads one generation of the projections, as of a watermark.
type reader struct {
	db         *clickhouse.DB
	generation uint32
	// newest is the watermark: no newer run is shown. Queries know it as {newest:UInt64}.
	newest uint64
	// cache keeps what many runs share and what never changes once it is there.
	cache *cache.Cache
}

// shared reads what many runs share through the cache, where it stays: a dictionary's value never changes. Nothing read is
// not kept.
func shared[T any](ctx context.Context, q *reader, key string, read func(context.Context) ([]T, error)) (values []T, err error) {
	name := "farm/" + strconv.FormatUint(uint64(q.generation), 10) + "/" + key
	value, err := q.cache.Get(ctx, name, func(ctx context.Context) (cache.Value, error) {
		values, err := read(ctx)
		if err != nil {
			return cache.Value{}, err
		}
		body, err := json.Marshal(values)
		value := cache.Value{Body: body}
		if len(values) == 0 {
			value.Expires = time.Now()
		}
		return value, err
	})
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(value.Body, &values); err != nil {
		return nil, fmt.Errorf("read %s from the cache: %w", name, err)
	}
	return values, nil
}

// each runs a query and calls row for each of its rows, which scans it. In the text, {db} is the generation's database.
// Values travel beside the text, as {name:Type}.
func (q *reader) each(ctx context.Context, text string, row func(driver.Rows) error, values ...driver.NamedValue) error {
	text = strings.ReplaceAll(text, "{db}", "`"+q.db.Generation(q.generation)+"`")
	args := []any{ch.Named("newest", q.newest)}
	for _, value := range values {
		args = append(args, value)
	}
	rows, err := q.db.Query(ctx, text, args...)
	if err != nil {
		return gate.Fault(ctx, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := row(rows); err != nil {
			return err
		}
	}
	return gate.Fault(ctx, rows.Err())
}

// one runs a query of at most one row and tells whether there was one.
func (q *reader) one(ctx context.Context, text string, into []any, values ...driver.NamedValue) (bool, error) {
	found := false
	err := q.each(ctx, text, func(rows driver.Rows) error {
		found = true
		return rows.Scan(into...)
	}, values...)
	return found, err
}

func number(name string, value uint64) driver.NamedValue { return ch.Named(name, value) }

func text(name, value string) driver.NamedValue { return ch.Named(name, value) }
