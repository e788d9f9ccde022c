package direct

import (
	"context"
	"fmt"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/millrace/millrace/processor/projection"
)

// Grid is a set of series of equal length that is made inside ClickHouse: millions of rows in seconds.
type Grid struct {
	Seed uint64
	// Machines are the ids of the machines that the series are dealt out to.
	Machines []uint64
	// Series is how many there are, Rows how many samples each has, Every the time between two.
	Series, Rows int
	Every        time.Duration
	Start        time.Time
}

// Branch is the branch of every series; their configuration is 0, none.
const Branch = 1

// Machine is the machine of a series.
func (g *Grid) Machine(series int) uint64 { return g.Machines[series%len(g.Machines)] }

// Metric is the metric of a series.
func (g *Grid) Metric(series int) string { return fmt.Sprintf("load.%d", series/len(g.Machines)) }

// End is the time after the last sample.
func (g *Grid) End() time.Time { return g.Start.Add(time.Duration(g.Rows) * g.Every) }

// rowsAtOnce is about how many rows one statement makes.
const rowsAtOnce = 1_000_000

// Chunk is how many series one statement makes.
func (g *Grid) Chunk() int { return max(1, rowsAtOnce/g.Rows) }

// Fill makes the rows of some series and the trends that follow from them, by the processor's own statement.
func (e *Engines) Fill(ctx context.Context, g *Grid, first, count int) error {
	database, err := e.Projections(ctx)
	if err != nil {
		return err
	}
	ctx = ch.Context(ctx, ch.WithSettings(ch.Settings{"insert_deduplicate": 0, "max_insert_threads": 1}))
	statements := []string{
		"INSERT INTO `" + database + "`.metrics (" + metricColumns + ") " + g.rowsQuery(first, count),
		"CREATE DATABASE IF NOT EXISTS loadtest",
		"CREATE OR REPLACE TABLE loadtest.touched ENGINE = Memory AS " + g.touchedQuery(first, count),
		"INSERT INTO `" + database + "`.trend_buckets (" + trendColumns + ") " + projection.TrendQuery(database, "loadtest.touched"),
		"DROP TABLE loadtest.touched",
	}
	for _, statement := range statements {
		if err := e.DB.Exec(ctx, statement); err != nil {
			return fmt.Errorf("make series %d to %d: %w", first, first+count-1, err)
		}
	}
	return nil
}

const trendColumns = "machine_id, config_id, branch_id, metric, resolution, bucket, version, count, mean, stddev, min, " +
	"median, p95, p99, max"

// series gives the columns that name series s, where s is an expression.
func (g *Grid) series(s string) string {
	machines := strings.Trim(strings.ReplaceAll(fmt.Sprint(g.Machines), " ", ", "), "[]")
	return fmt.Sprintf("arrayElement([%s]::Array(UInt64), %s %% %d + 1) AS machine_id, toUInt64(0) AS config_id, toUInt64(%d) AS branch_id, "+
		"concat('load.', toString(intDiv(%s, %d))) AS metric", machines, s, len(g.Machines), Branch, s, len(g.Machines))
}

// rowsQuery gives the samples: values that follow from the seed, and an event for each series.
func (g *Grid) rowsQuery(first, count int) string {
	return fmt.Sprintf(`SELECT %s,
    fromUnixTimestamp64Milli(toInt64(%d + n * %d), 'UTC') AS ts, reinterpretAsUUID(reinterpret(sipHash128(toUInt64(%d), s), 'FixedString(16)')) AS event_id,
    toUInt32(n) AS ordinal, toUInt64(1) AS run_id, toUInt64(0) AS result_id,
    round(100 + 20 * sin(n / 5000) + (sipHash64(toUInt64(%d), s, n) %% 10000) / 1000, 3) AS value
FROM (SELECT intDiv(number, %d) + %d AS s, number %% %d AS n FROM numbers(%d))`,
		g.series("s"), g.Start.UnixMilli(), g.Every.Milliseconds(), g.Seed, g.Seed, g.Rows, first, g.Rows, count*g.Rows)
}

// touchedQuery lists every bucket of the series, as projection.TrendQuery wants it.
func (g *Grid) touchedQuery(first, count int) string {
	start, end := g.Start.UnixMilli(), g.End().UnixMilli()-1
	var arms []string
	for _, resolution := range []int64{projection.Hour, projection.Day, projection.Week} {
		from, to := projection.BucketStart(start, resolution), projection.BucketStart(end, resolution)
		buckets := (to-from)/resolution + 1
		arms = append(arms, fmt.Sprintf("SELECT %s, toUInt32(%d) AS resolution, toInt64(%d + b * %d) AS bucket FROM "+
			"(SELECT intDiv(number, %d) + %d AS s, number %% %d AS b FROM numbers(%d))",
			g.series("s"), resolution, from, resolution, buckets, first, buckets, int64(count)*buckets))
	}
	return strings.Join(arms, " UNION ALL ")
}

// AwaitMerges waits until the tables of the projections are not being merged any more, for a time at most, and says how
// many parts metrics and trends have.
func (e *Engines) AwaitMerges(ctx context.Context, patience time.Duration) (metrics, trends uint64, err error) {
	database, err := e.Projections(ctx)
	if err != nil {
		return 0, 0, err
	}
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_ = poll(bounded, "merges have ended", func() (bool, error) { // what is still merged after that time is measured as it is
		var merging uint64
		err := e.DB.QueryRow(bounded, "SELECT count() FROM system.merges WHERE database = ?", database).Scan(&merging)
		return merging == 0, err
	})
	err = e.DB.QueryRow(ctx, "SELECT countIf(table = 'metrics'), countIf(table = 'trend_buckets') FROM system.parts "+
		"WHERE active AND database = ?", database).Scan(&metrics, &trends)
	if err != nil {
		return 0, 0, fmt.Errorf("count parts: %w", err)
	}
	return metrics, trends, nil
}

// TrendPoint is a point of a trend, as far as it is compared.
type TrendPoint struct {
	Time  time.Time `ch:"time" json:"time"`
	Count uint64    `ch:"count" json:"count"`
	Mean  float64   `ch:"mean" json:"mean"`
	P99   float64   `ch:"p99" json:"p99"`
}

// TrendRequest asks for the trend of a series in buckets of a resolution in seconds.
type TrendRequest struct {
	Machine    uint64
	Metric     string
	From, To   time.Time
	Resolution uint32
}

// trendExtent and trendPoints are the statements that /millrace/v1/trend sends: how fine the trend would be, and its points.
const (
	trendExtent = "SELECT resolution, count() AS buckets, sum(count) AS samples FROM `%s`.trend_buckets FINAL " +
		"WHERE machine_id = ? AND config_id = ? AND branch_id = ? AND metric = ? " +
		"AND addSeconds(bucket, resolution) > fromUnixTimestamp64Milli(toInt64(?), 'UTC') " +
		"AND bucket < fromUnixTimestamp64Milli(toInt64(?), 'UTC') GROUP BY resolution"
	trendPoints = "SELECT bucket AS time, count, mean, median, p95, p99, stddev, min, max FROM `%s`.trend_buckets FINAL " +
		"WHERE machine_id = ? AND config_id = ? AND branch_id = ? AND metric = ? AND resolution = ? " +
		"AND bucket > fromUnixTimestamp64Milli(toInt64(?), 'UTC') AND bucket < fromUnixTimestamp64Milli(toInt64(?), 'UTC') " +
		"ORDER BY bucket LIMIT 10001"
)

// Trend sends the statements of a trend straight to ClickHouse.
func (e *Engines) Trend(ctx context.Context, database string, r TrendRequest) ([]TrendPoint, error) {
	var extents []struct {
		Resolution uint32 `ch:"resolution"`
		Buckets    uint64 `ch:"buckets"`
		Samples    uint64 `ch:"samples"`
	}
	err := e.DB.Select(ctx, &extents, fmt.Sprintf(trendExtent, database), r.Machine, uint64(0), uint64(Branch), r.Metric,
		r.From.UnixMilli(), r.To.UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("read the extent of a trend: %w", err)
	}
	var points []struct {
		TrendPoint
		Median float64  `ch:"median"`
		P95    float64  `ch:"p95"`
		StdDev *float64 `ch:"stddev"`
		Min    float64  `ch:"min"`
		Max    float64  `ch:"max"`
	}
	after := r.From.Add(-time.Duration(r.Resolution) * time.Second)
	err = e.DB.Select(ctx, &points, fmt.Sprintf(trendPoints, database), r.Machine, uint64(0), uint64(Branch), r.Metric, r.Resolution,
		after.UnixMilli(), r.To.UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("read a trend: %w", err)
	}
	found := make([]TrendPoint, len(points))
	for i := range points {
		found[i] = points[i].TrendPoint
	}
	return found, nil
}
