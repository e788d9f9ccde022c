package lab

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// QueueMetric is what a queue's trend shows.
type QueueMetric string

// The metrics. Jobs that wait and jobs that are out are counted at every moment; the wait is that of each hand-out.
const (
	QueueWaiting QueueMetric = "waiting"
	QueueOut     QueueMetric = "out"
	QueueWait    QueueMetric = "wait"
)

// QueueMetrics lists all of them by their names.
func QueueMetrics() []string {
	return []string{string(QueueWaiting), string(QueueOut), string(QueueWait)}
}

// The resolutions of a queue's trend besides Hour, Day and Week.
const (
	Minute      Resolution = "minute"
	QuarterHour Resolution = "quarter_hour"
)

// queueBuckets are the resolutions of a queue's trend from the finest to the coarsest, with their length.
var queueBuckets = []struct {
	Resolution
	length time.Duration
}{{Minute, time.Minute}, {QuarterHour, 15 * time.Minute}, {Hour, time.Hour}, {Day, 24 * time.Hour}, {Week, week}}

const week = 7 * 24 * time.Hour

// QueueResolutions lists the resolutions by their names.
func QueueResolutions() []string {
	names := []string{string(Auto)}
	for _, b := range queueBuckets {
		names = append(names, string(b.Resolution))
	}
	return names
}

// QueuePoint is a point of a queue's trend: statistics over one bucket. Those of waiting and out weigh each length by the time
// that it lasted.
type QueuePoint struct {
	Time   time.Time `json:"time" ch:"time" doc:"the bucket's start"`
	Count  uint64    `json:"count" ch:"count" doc:"number of changes in it; of hand-outs for wait"`
	Mean   float64   `json:"mean" ch:"mean" doc:"jobs; seconds for wait"`
	Median float64   `json:"median" ch:"median"`
	P95    float64   `json:"p95" ch:"p95"`
	P99    float64   `json:"p99" ch:"p99"`
	Min    float64   `json:"min" ch:"min"`
	Max    float64   `json:"max" ch:"max"`
}

// QueueTrendQuery asks for a queue's trend.
type QueueTrendQuery struct {
	Queue  string
	Metric QueueMetric
	// From and To bound it. A zero From begins with the queue's first change; To must be set.
	From, To   time.Time
	Resolution Resolution
	// Points is what Auto keeps the trend within.
	Points int
}

// QueueTrend is a queue's course.
type QueueTrend struct {
	// Resolution is the one that was taken, never Auto.
	Resolution Resolution
	From       time.Time
	Points     []QueuePoint
}

// queueExtent is what a range has of a queue's changes.
type queueExtent struct {
	Changes uint64    `ch:"changes"`
	First   time.Time `ch:"first"`
}

// QueueTrend reads a queue's trend. It is computed from the queue's changes, which are never summed up before: so it is the
// same after a rebuild.
func (v *View) QueueTrend(ctx context.Context, q QueueTrendQuery) (*QueueTrend, error) {
	changes, err := v.queueExtent(ctx, &q)
	if err != nil {
		return nil, err
	}
	if q.Resolution == Auto {
		q.Resolution = chooseQueue(q.To.Sub(q.From), q.Points)
	}
	trend, length := &QueueTrend{Resolution: q.Resolution, From: q.From, Points: []QueuePoint{}}, queueLength(q.Resolution)
	if err := within(q.Resolution, "buckets", uint64(max(0, q.To.Sub(q.From)/length)), MaxPoints); err != nil {
		return nil, err
	}
	before, err := v.lengthBefore(ctx, q)
	if err != nil || before == 0 && changes == 0 {
		return trend, err
	}
	text, values := queueTrendSQL(q, length, before)
	trend.Points, err = scan[QueuePoint](ctx, v, "a queue's trend", in(v.database, text), values...)
	return trend, err
}

// queueExtent counts the changes of the range, and finds its beginning where none is given.
func (v *View) queueExtent(ctx context.Context, q *QueueTrendQuery) (changes uint64, err error) {
	var w where
	w.and("queue = ?", q.Queue)
	w.since(jobChanged, q.From, q.To)
	extents, err := scan[queueExtent](ctx, v, "the extent of a queue's trend",
		in(v.database, "SELECT count() AS changes, min(at) AS first\nFROM {db}.queue_changes"+w.sql()), w.values...)
	if err != nil {
		return 0, err
	}
	extent := extents[0]
	switch {
	case !q.From.IsZero():
	case extent.Changes == 0:
		q.From = q.To
	default:
		q.From = extent.First
	}
	return extent.Changes, within(q.Resolution, "changes to sum up", extent.Changes, maxSummed)
}

// chooseQueue takes the finest resolution that keeps a range within a number of points; weeks when none does.
func chooseQueue(span time.Duration, points int) Resolution {
	for _, b := range queueBuckets {
		if span/b.length < time.Duration(points) {
			return b.Resolution
		}
	}
	return Week
}

func queueLength(r Resolution) time.Duration {
	for _, b := range queueBuckets {
		if b.Resolution == r {
			return b.length
		}
	}
	return week
}

type queueLengthRow struct {
	Value uint64 `ch:"value"`
}

// lengthBefore is how long the queue was when the range began.
func (v *View) lengthBefore(ctx context.Context, q QueueTrendQuery) (uint64, error) {
	if q.Metric == QueueWait {
		return 0, nil
	}
	var w where
	w.and("queue = ?", q.Queue)
	w.since(jobChanged, time.Time{}, q.From)
	rows, err := scan[queueLengthRow](ctx, v, "a queue's length", in(v.database, "SELECT "+string(q.Metric)+" AS value\nFROM {db}.queue_changes"+
		w.sql()+"\nORDER BY queue DESC, at DESC, epoch DESC, offset DESC\nLIMIT 1"), w.values...)
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	return rows[0].Value, nil
}

func queueTrendSQL(q QueueTrendQuery, length time.Duration, before uint64) (text string, values []any) {
	ms, origin := length.Milliseconds(), int64(0)
	if length == week {
		origin = monday
	}
	place := strings.NewReplacer("{ms}", fmt.Sprint(ms), "{origin}", fmt.Sprint(origin), "{metric}", string(q.Metric))
	from, to := q.From.UnixMilli(), q.To.UnixMilli()
	if q.Metric == QueueWait {
		return place.Replace(waitPoints), []any{q.Queue, from, to}
	}
	return place.Replace(lengthPoints), []any{to, from, before, q.Queue, from, to}
}

// monday is the first Monday of Unix time, in milliseconds.
const monday = 4 * 24 * 3600 * 1000

// waitPoints sums up the waits of hand-outs. They are whole milliseconds, whose sums are exact in any order.
const waitPoints = `SELECT fromUnixTimestamp64Milli(n * {ms} + {origin}, 'UTC') AS time, count() AS count, sum(waited) / count / 1000 AS mean,
	(quantilesExactInclusive(0.5, 0.95, 0.99)(waited) AS quantiles)[1] / 1000 AS median, quantiles[2] / 1000 AS p95, quantiles[3] / 1000 AS p99,
	min(waited) / 1000 AS min, max(waited) / 1000 AS max
FROM (SELECT intDiv(toUnixTimestamp64Milli(at) - {origin}, {ms}) AS n, assumeNotNull(waited_ms) AS waited
FROM {db}.queue_changes FINAL
WHERE queue = ? AND at >= fromUnixTimestamp64Milli(toInt64(?), 'UTC') AND at < fromUnixTimestamp64Milli(toInt64(?), 'UTC') AND waited_ms IS NOT NULL)
GROUP BY n
ORDER BY n`

// lengthPoints sums up how long a queue was: each length holds until the next change, is cut at the ends of buckets, and
// weighs the milliseconds that it lasted there.
const lengthPoints = `SELECT fromUnixTimestamp64Milli(n * {ms} + {origin}, 'UTC') AS time, sum(counts AND n = first) AS count,
	sum(value * lasted) / sum(lasted) AS mean,
	toFloat64((quantilesExactWeighted(0.5, 0.95, 0.99)(value, lasted) AS quantiles)[1]) AS median, toFloat64(quantiles[2]) AS p95,
	toFloat64(quantiles[3]) AS p99, toFloat64(minIf(value, lasted > 0)) AS min, toFloat64(maxIf(value, lasted > 0)) AS max
FROM (SELECT value, counts, first, arrayJoin(range(first, intDiv(greatest(end - 1, begin) - {origin}, {ms}) + 1)) AS n,
	toUInt64(greatest(0, least(end, (n + 1) * {ms} + {origin}) - greatest(begin, n * {ms} + {origin}))) AS lasted
FROM (SELECT value, counts, begin, leadInFrame(begin, 1, toInt64(?)) OVER w AS end, intDiv(begin - {origin}, {ms}) AS first
FROM (SELECT toInt64(?) AS begin, toUInt64(?) AS value, false AS counts, toUInt32(0) AS epoch, toInt64(-1) AS offset
UNION ALL
SELECT toUnixTimestamp64Milli(at) AS begin, {metric} AS value, true AS counts, epoch, offset
FROM {db}.queue_changes FINAL
WHERE queue = ? AND at >= fromUnixTimestamp64Milli(toInt64(?), 'UTC') AND at < fromUnixTimestamp64Milli(toInt64(?), 'UTC'))
WINDOW w AS (ORDER BY begin, epoch, offset ROWS BETWEEN CURRENT ROW AND 1 FOLLOWING)))
GROUP BY n
HAVING sum(lasted) > 0
ORDER BY n`
