package lab_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/query/native/cursor"
	"github.com/millrace/millrace/query/native/lab"
	"github.com/millrace/millrace/query/native/labtest"
)

// manyJobs are in a hundred queues; one in a thousand waits, the others have ended.
var manyJobs = []string{
	`INSERT INTO {db}.jobs (seq, event_id, submitted_at, family, queue, priority, owner)
SELECT number + 1, generateUUIDv4(), fromUnixTimestamp64Milli(toInt64(1700000000000 + number * 1000), 'UTC'), 'native', toString(number % 100), 0,
	unhex(hex(toString(number % 1000)))
FROM numbers(400000)`,
	`INSERT INTO {db}.job_states (seq, version, at, state, attempt, ended)
SELECT number + 1, number, fromUnixTimestamp64Milli(toInt64(1700000000000 + number * 1000), 'UTC'), if(number % 1000 = 0, 'waiting', 'complete'), 1, number % 1000 != 0
FROM numbers(400000)`,
	`INSERT INTO {db}.queue_changes (queue, at, epoch, offset, seq, change, jobs, waiting, out, waited_ms)
SELECT 'busy', fromUnixTimestamp64Milli(toInt64(1700000000000 + number * 1000), 'UTC'), 1, number, number, 'handed_out', 1, number % 10, number % 3, number % 1000
FROM numbers(400000)`,
}

func TestPageOfJobsCostsTheSameWhereverItIs(t *testing.T) {
	l := labtest.New(t)
	for _, insert := range manyJobs {
		if err := l.DB.Exec(t.Context(), strings.ReplaceAll(insert, "{db}", "`"+l.DB.Generation(1)+"`")); err != nil {
			t.Fatal(err)
		}
	}
	v := l.View()
	live := false
	for name, tc := range map[string]struct {
		filter lab.JobFilter
		// reads is the share of all rows that a page may read.
		reads float64
	}{
		"all":                      {lab.JobFilter{}, 0.1},
		"those everybody may see":  {lab.JobFilter{Public: true}, 0.1},
		"of a queue":               {lab.JobFilter{Queue: "7"}, 0.1},
		"of an owner":              {lab.JobFilter{Owner: "37"}, 0.1},
		"that live":                {lab.JobFilter{Ended: &live}, 2.2}, // the states are looked through
		"of a queue that complete": {lab.JobFilter{Queue: "7", State: "complete"}, 1.2},
	} {
		for where, after := range map[string]cursor.Key{"first": nil, "deep": {{Number: many / 2}}} {
			started := time.Now()
			rows := reading(t, func(ctx context.Context) {
				if found, _, err := v.Jobs(ctx, tc.filter, lab.Page{Order: order(lab.JobOrders(), "-submitted_at"), After: after, Limit: 10}); err != nil || len(found) != 10 {
					t.Errorf("jobs %s, %s page: %d rows, %v", name, where, len(found), err)
				}
			})
			if float64(rows) > tc.reads*many {
				t.Errorf("jobs %s: the %s page reads %d of %d rows", name, where, rows, many)
			}
			t.Logf("jobs %s: the %s page reads %d rows in %s", name, where, rows, time.Since(started))
		}
	}
}

func TestTrendOfABusyQueueReadsItsRangeAlone(t *testing.T) {
	l := labtest.New(t)
	if err := l.DB.Exec(t.Context(), strings.ReplaceAll(manyJobs[2], "{db}", "`"+l.DB.Generation(1)+"`")); err != nil {
		t.Fatal(err)
	}
	end := time.UnixMilli(1700000000000 + many*1000).UTC()
	for _, metric := range []lab.QueueMetric{lab.QueueWaiting, lab.QueueWait} {
		for name, tc := range map[string]struct {
			from  time.Time
			reads uint64
		}{"an hour": {end.Add(-time.Hour), many / 8}, "everything": {time.Time{}, 3 * many}} {
			started := time.Now()
			rows := reading(t, func(ctx context.Context) {
				trend, err := l.View().QueueTrend(ctx, lab.QueueTrendQuery{Queue: "busy", Metric: metric, From: tc.from, To: end, Resolution: lab.Auto, Points: 500})
				if err != nil || len(trend.Points) < 60 {
					t.Errorf("%s of %s: %v", metric, name, err)
				}
			})
			if rows > tc.reads {
				t.Errorf("%s of %s reads %d rows", metric, name, rows)
			}
			t.Logf("%s of %s reads %d of %d rows in %s", metric, name, rows, many, time.Since(started))
		}
	}
}
