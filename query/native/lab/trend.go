package lab

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace/millrace/processor/projection"
)

// Resolution says what a point of a trend sums up.
type Resolution string

// The resolutions, from the finest to the coarsest. Days begin at midnight UTC, weeks on Monday.
const (
	// Auto is the finest that keeps a trend within the number of points wanted.
	Auto Resolution = "auto"
	Raw  Resolution = "raw"
	// PerRun has a point for each run.
	PerRun Resolution = "run"
	Hour   Resolution = "hour"
	Day    Resolution = "day"
	Week   Resolution = "week"
)

// Resolutions lists all resolutions by their names.
func Resolutions() []string {
	return []string{string(Auto), string(Raw), string(PerRun), string(Hour), string(Day), string(Week)}
}

const (
	// DefaultPoints is how many points Auto keeps a trend within, unless told otherwise.
	DefaultPoints = 500
	// MaxPoints bounds a trend.
	MaxPoints = 10_000
	// maxSummed bounds the samples that are summed up by run, for which all of them are read.
	maxSummed = 5_000_000
	// maxGuessed bounds them where Auto tries whether there are few enough runs.
	maxGuessed = 1_000_000
)

// buckets are the resolutions whose statistics are kept, with their length.
var buckets = []struct {
	Resolution
	seconds uint32
}{{Hour, projection.Hour}, {Day, projection.Day}, {Week, projection.Week}}

// Point is a point of a trend: statistics over the samples of one bucket.
type Point struct {
	Time   time.Time `json:"time" ch:"time" doc:"the bucket's start; the sample's time; the time of a run's first sample"`
	RunID  uint64    `json:"run_id,omitempty" ch:"run_id" doc:"in resolutions raw and run"`
	Count  uint64    `json:"count" ch:"count" doc:"number of samples"`
	Mean   float64   `json:"mean" ch:"mean"`
	Median float64   `json:"median" ch:"median"`
	P95    float64   `json:"p95" ch:"p95" doc:"linear between the samples next to it, as the other quantiles"`
	P99    float64   `json:"p99" ch:"p99"`
	StdDev *float64  `json:"stddev" ch:"stddev" doc:"of a sample (n-1); null when there is one value"`
	Min    float64   `json:"min" ch:"min"`
	Max    float64   `json:"max" ch:"max"`
}

// TrendQuery asks for a trend.
type TrendQuery struct {
	Series Series
	// From and To bound it; zero times do not. Buckets that overlap the range are shown whole.
	From, To   time.Time
	Resolution Resolution
	// Points is what Auto keeps the trend within.
	Points int
	// Summed lets Auto begin with runs: single samples are not shown.
	Summed bool
}

// Trend is a series' course.
type Trend struct {
	// Resolution is the one that was taken, never Auto.
	Resolution Resolution
	// Samples is about how many samples the range has.
	Samples uint64
	Points  []Point
}

// TooManyPoints is returned for a trend that would be too fine.
type TooManyPoints struct {
	Resolution   Resolution
	What         string
	Count, Limit uint64
}

func (e *TooManyPoints) Error() string {
	return fmt.Sprintf("resolution %s has %d %s in this range and the limit is %d: take a coarser resolution or a shorter range",
		e.Resolution, e.Count, e.What, e.Limit)
}

// extent is how many buckets and samples a range has in one resolution.
type extent struct {
	Seconds uint32 `ch:"resolution"`
	Buckets uint64 `ch:"buckets"`
	Samples uint64 `ch:"samples"`
}

// Trend reads a trend.
func (v *View) Trend(ctx context.Context, q TrendQuery) (*Trend, error) {
	if err := v.settleSeries(ctx, q.Series); err != nil {
		return nil, err
	}
	extents, err := v.extents(ctx, q)
	if err != nil {
		return nil, err
	}
	samples := extents[projection.Hour].Samples
	if q.Resolution == Auto {
		return v.finest(ctx, q, extents, samples)
	}
	if err := allowed(q.Resolution, extents, samples); err != nil {
		return nil, err
	}
	trend := &Trend{Resolution: q.Resolution, Samples: samples}
	trend.Points, err = v.points(ctx, q, q.Resolution, MaxPoints)
	return trend, err
}

// extents counts buckets and samples by resolution.
func (v *View) extents(ctx context.Context, q TrendQuery) (map[uint32]extent, error) {
	text, values := extentsSQL(q)
	rows, err := scan[extent](ctx, v, "the extent of a trend", in(v.database, text), values...)
	found := make(map[uint32]extent, len(rows))
	for _, row := range rows {
		found[row.Seconds] = row
	}
	return found, err
}

func extentsSQL(q TrendQuery) (string, []any) {
	w := q.Series.where()
	if !q.From.IsZero() {
		w.and("addSeconds(bucket, resolution) > "+parameters[millis], q.From.UnixMilli())
	}
	w.since(bucket, time.Time{}, q.To)
	return "SELECT resolution, count() AS buckets, sum(count) AS samples\nFROM {db}.trend_buckets FINAL" + w.sql() +
		"\nGROUP BY resolution", w.values
}

var bucket = column{"bucket", millis}

// allowed refuses a resolution that would give too many points, or take too long to sum up.
func allowed(r Resolution, extents map[uint32]extent, samples uint64) error {
	switch r {
	case Raw:
		return within(r, "samples", samples, MaxPoints)
	case PerRun:
		return within(r, "samples to sum up", samples, maxSummed)
	}
	return within(r, "buckets", extents[length(r)].Buckets, MaxPoints)
}

func within(r Resolution, what string, count, limit uint64) error {
	if count > limit {
		return &TooManyPoints{Resolution: r, What: what, Count: count, Limit: limit}
	}
	return nil
}

func length(r Resolution) uint32 {
	for _, b := range buckets {
		if b.Resolution == r {
			return b.seconds
		}
	}
	return 0
}

// finest takes the finest resolution that keeps the trend within the points wanted; weeks when none does.
func (v *View) finest(ctx context.Context, q TrendQuery, extents map[uint32]extent, samples uint64) (*Trend, error) {
	most := uint64(q.Points)
	if (q.Summed || samples > most) && samples <= maxGuessed {
		points, err := v.points(ctx, q, PerRun, q.Points)
		if err != nil || len(points) <= q.Points {
			return &Trend{Resolution: PerRun, Samples: samples, Points: points}, err
		}
	}
	chosen := choose(extents, samples, most, q.Summed)
	points, err := v.points(ctx, q, chosen, MaxPoints)
	return &Trend{Resolution: chosen, Samples: samples, Points: points}, err
}

// choose picks among the resolutions whose points are counted.
func choose(extents map[uint32]extent, samples, most uint64, summed bool) Resolution {
	if samples <= most && !summed {
		return Raw
	}
	for _, b := range buckets {
		if extents[b.seconds].Buckets <= most {
			return b.Resolution
		}
	}
	return Week
}

// points reads at most limit points, and one more where there are more.
func (v *View) points(ctx context.Context, q TrendQuery, r Resolution, limit int) ([]Point, error) {
	text, values := pointsSQL(q, r)
	return scan[Point](ctx, v, "a trend", in(v.database, text+"\nLIMIT ?"), append(values, limit+1)...)
}

func pointsSQL(q TrendQuery, r Resolution) (string, []any) {
	w := q.Series.where()
	switch r {
	case Raw:
		w.since(sampleTime, q.From, q.To)
		return rawPoints + w.sql() + "\nORDER BY ts, event_id, ordinal", w.values
	case PerRun:
		w.since(sampleTime, q.From, q.To)
		return fmt.Sprintf(runPoints, w.sql()), w.values
	}
	seconds := length(r)
	w.and("resolution = ?", seconds)
	if !q.From.IsZero() {
		w.and("bucket > "+parameters[millis], q.From.Add(-time.Duration(seconds)*time.Second).UnixMilli())
	}
	w.since(bucket, time.Time{}, q.To)
	return bucketPoints + w.sql() + "\nORDER BY bucket", w.values
}

const rawPoints = `SELECT ts AS time, run_id, toUInt64(1) AS count, value AS mean, value AS median, value AS p95, value AS p99,
	CAST(NULL, 'Nullable(Float64)') AS stddev, value AS min, value AS max
FROM {db}.metrics FINAL`

const bucketPoints = `SELECT bucket AS time, count, mean, median, p95, p99, stddev, min, max
FROM {db}.trend_buckets FINAL`

// runPoints computes what is kept for buckets (see projection.TrendQuery) for runs.
const runPoints = `SELECT first AS time, run_id, n AS count, mean, quantiles[1] AS median, quantiles[2] AS p95, quantiles[3] AS p99,
	if(n = 1, NULL, sqrt(arraySum(x -> (x - mean) * (x - mean), v) / (n - 1))) AS stddev, least AS min, v[n] AS max
FROM (SELECT *, least + arraySum(x -> x - least, v) / n AS mean
FROM (SELECT *, length(v) AS n, v[1] AS least, arrayReduce('quantilesExactInclusive(0.5, 0.95, 0.99)', v) AS quantiles
FROM (SELECT run_id, min(ts) AS first, arraySort(groupArray(zeroed)) AS v
FROM (SELECT run_id, ts, if(value = 0, 0, value) AS zeroed
FROM {db}.metrics FINAL%s
) GROUP BY run_id)))
ORDER BY first, run_id`
