package lab_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/millrace/millrace/query/native/cursor"
	"github.com/millrace/millrace/query/native/lab"
	"github.com/millrace/millrace/query/native/labtest"
)

// many is how many runs, results and samples the lists below have.
const many = 400_000

// manyRuns start at times that go up and down within an hour, on a hundred machines.
const manyRuns = `INSERT INTO {db}.runs (run_id, machine_id, add_time, start_time, branch_id, branch, settings_id)
SELECT number + 1, number % 100, fromUnixTimestamp64Milli(toInt64(1700000000000 + number * 1000), 'UTC'),
	fromUnixTimestamp64Micro(toInt64(1700000000000000 + number * 1000000 - cityHash64(number) % 3600000000), 'UTC'), 1, 'master', 1
FROM numbers(400000)`

const manyResults = `INSERT INTO {db}.result_series (machine_id, config_id, result_id, run_id, add_time, branch_id, branch, tps)
SELECT number % 100, number % 7, number * 1024, number, fromUnixTimestamp64Milli(toInt64(1700000000000 + number * 1000), 'UTC'),
	1, 'master', cityHash64(number) % 10000
FROM numbers(400000)`

const manySamples = `INSERT INTO {db}.metrics (machine_id, config_id, branch_id, metric, ts, event_id, ordinal, value)
SELECT 1, 1, 1, 'probe', fromUnixTimestamp64Milli(toInt64(1700000000000 + number * 100), 'UTC'), generateUUIDv4(), 0, number
FROM numbers(400000)`

// reading counts the rows that ClickHouse reads for a call.
func reading(t *testing.T, call func(context.Context)) uint64 {
	t.Helper()
	var rows atomic.Uint64
	call(ch.Context(t.Context(), ch.WithProgress(func(p *ch.Progress) { rows.Add(p.Rows) })))
	return rows.Load()
}

func TestPageCostsTheSameWhereverItIs(t *testing.T) {
	l := labtest.New(t)
	database := "`" + l.DB.Generation(1) + "`"
	for _, insert := range []string{manyRuns, manyResults, manySamples} {
		if err := l.DB.Exec(t.Context(), strings.ReplaceAll(insert, "{db}", database)); err != nil {
			t.Fatal(err)
		}
	}
	v := l.View()
	runs := func(filter lab.RunFilter) func(context.Context, lab.Page) (int, error) {
		return func(ctx context.Context, p lab.Page) (int, error) {
			found, _, err := v.Runs(ctx, filter, p, "run_id")
			return len(found), err
		}
	}
	results := func(ctx context.Context, p lab.Page) (int, error) {
		found, _, err := v.Results(ctx, lab.ResultFilter{}, p, "result_id")
		return len(found), err
	}
	samples := func(ctx context.Context, p lab.Page) (int, error) {
		found, _, err := v.Samples(ctx, lab.SampleFilter{Series: lab.Series{MachineID: 1, ConfigID: 1, BranchID: 1, Metric: "probe"}}, p)
		return len(found), err
	}
	middle := uint64(many / 2)
	start := cursor.Value{Number: 1_700_000_000_000_000 + middle*1_000_000}
	moment := cursor.Value{Number: 1_700_000_000_000 + middle*100}
	for name, tc := range map[string]struct {
		read func(context.Context, lab.Page) (int, error)
		in   lab.Order
		deep cursor.Key
	}{
		"runs by id":               {runs(lab.RunFilter{}), order(lab.RunOrders(), "run_id"), cursor.Key{{Number: middle}}},
		"newest runs":              {runs(lab.RunFilter{}), order(lab.RunOrders(), "-run_id"), cursor.Key{{Number: middle}}},
		"runs by start time":       {runs(lab.RunFilter{}), order(lab.RunOrders(), "start_time"), cursor.Key{start, {Number: middle}}},
		"latest runs":              {runs(lab.RunFilter{BranchName: "master"}), order(lab.RunOrders(), "-start_time"), cursor.Key{start, {Number: middle}}},
		"newest runs of a machine": {runs(lab.RunFilter{Machine: 7}), order(lab.RunOrders(), "-run_id"), cursor.Key{{Number: middle}}},
		"results by id":            {results, order(lab.ResultOrders(), "result_id"), cursor.Key{{Number: middle << 10}}},
		"newest results":           {results, order(lab.ResultOrders(), "-add_time"), cursor.Key{{Number: middle << 10}}},
		"samples by time":          {samples, order(lab.SampleOrders(), "time"), cursor.Key{moment, {Text: "00000000-0000-4000-8000-000000000000"}, {}}},
		"latest samples":           {samples, order(lab.SampleOrders(), "-time"), cursor.Key{moment, {Text: "00000000-0000-4000-8000-000000000000"}, {}}},
	} {
		for where, after := range map[string]cursor.Key{"first": nil, "deep": tc.deep} {
			rows := reading(t, func(ctx context.Context) {
				if n, err := tc.read(ctx, lab.Page{Order: tc.in, After: after, Limit: 100}); err != nil || n != 100 {
					t.Errorf("%s, %s page: %d rows, %v", name, where, n, err)
				}
			})
			if rows > many/8 {
				t.Errorf("%s: the %s page reads %d of %d rows", name, where, rows, many)
			}
			t.Logf("%s: the %s page reads %d rows", name, where, rows)
		}
	}
}

func TestTimeRangeReadsLittleElse(t *testing.T) {
	l := labtest.New(t)
	if err := l.DB.Exec(t.Context(), strings.ReplaceAll(manyRuns, "{db}", "`"+l.DB.Generation(1)+"`")); err != nil {
		t.Fatal(err)
	}
	from := time.Unix(1_700_200_000, 0)
	for _, name := range []string{"-run_id", "start_time"} {
		rows := reading(t, func(ctx context.Context) {
			page := lab.Page{Order: order(lab.RunOrders(), name), Limit: 100}
			found, _, err := l.View().Runs(ctx, lab.RunFilter{From: from, To: from.Add(time.Hour)}, page, "run_id")
			if err != nil || len(found) != 100 {
				t.Errorf("order %s: %d runs, %v", name, len(found), err)
			}
		})
		if rows > many/2 {
			t.Errorf("order %s: an hour of four days reads %d of %d rows", name, rows, many)
		}
		t.Logf("order %s: reads %d rows", name, rows)
	}
}
