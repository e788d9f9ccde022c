package projection

import "strings"

// Trends are kept for buckets of an hour, a day and a week, in seconds. Days begin at midnight UTC, weeks on Monday.
const (
	Hour = 3600
	Day  = 24 * Hour
	Week = 7 * Day
)

// monday is where the buckets are counted from: 1969-12-29, in Unix seconds. Hours and days begin there too. The query
// has it as a number.
const monday = -3 * Day

// BucketStart gives the start of the bucket that an instant is in, in Unix seconds. The instant is in Unix milliseconds
// and not before 1970.
func BucketStart(ms int64, resolution int64) int64 {
	second := ms / 1000
	return second - (second-monday)%resolution
}

// TrendQuery gives the query that computes trends from raw samples: one row for each series and bucket that the table
// expression touched lists, with the columns of table trend_buckets. touched has the columns machine_id, config_id,
// branch_id, metric, resolution and bucket (Unix seconds, Int64).
//
// Every sample counts once, however often its row was written. The statistics are computed over the sorted values, one
// after the other, so that the same samples give the same bits whatever order they are stored in:
//
//   - mean: the least value, and the mean distance from it
//   - stddev: the standard deviation of a sample (n-1), null for a single value
//   - median, p95, p99: the quantile at p is the value at rank (n-1)p, counted from 0, and linear between two ranks
//
// A row's version is its count. Samples are only ever added, so of two rows the one that has seen more is the newer,
// in whatever order they were computed and written.
func TrendQuery(database, touched string) string {
	return strings.NewReplacer("{database}", "`"+database+"`", "{touched}", touched).Replace(trendQuery)
}

const trendColumns = "machine_id, config_id, branch_id, metric, resolution, bucket, version, count, mean, stddev, min, " +
	"median, p95, p99, max"

// Read from the inside: the samples of each hour, of each touched bucket, sorted, the statistics. indexHint makes the
// primary key find the series without comparing every row; what else it reads is left out with the buckets that are not
// listed. Zeros lose their sign, which sorting does not order. The steps are nested because a lambda must see ready
// numbers: what it computes itself, it computes for every element. Compiled expressions may round otherwise than
// interpreted ones, and compiling begins after some executions.
const trendQuery = `
SELECT machine_id, config_id, branch_id, metric, resolution, toDateTime64(start, 0, 'UTC') AS bucket,
    n AS version, n AS count, mean,
    if(n = 1, NULL, sqrt(arraySum(x -> (x - mean) * (x - mean), v) / (n - 1))) AS stddev,
    least AS min, quantiles[1] AS median, quantiles[2] AS p95, quantiles[3] AS p99, v[n] AS max
FROM (SELECT *, least + arraySum(x -> x - least, v) / n AS mean
FROM (SELECT *, length(v) AS n, v[1] AS least, arrayReduce('quantilesExactInclusive(0.5, 0.95, 0.99)', v) AS quantiles
FROM (
    SELECT machine_id, config_id, branch_id, metric, resolution, hour - (hour + 259200) % resolution AS start,
        arraySort(groupArrayArray(samples)) AS v
    FROM (
        SELECT machine_id, config_id, branch_id, metric, intDiv(toUnixTimestamp64Milli(ts), 3600000) * 3600 AS hour,
            groupArray(if(value = 0, 0, value)) AS samples
        FROM {database}.metrics FINAL
        WHERE indexHint((machine_id, config_id, branch_id, metric) IN
                (SELECT machine_id, config_id, branch_id, metric FROM {touched}))
            AND ts >= (SELECT toDateTime64(min(bucket), 3, 'UTC') FROM {touched})
            AND ts < (SELECT toDateTime64(max(bucket + resolution), 3, 'UTC') FROM {touched})
        GROUP BY machine_id, config_id, branch_id, metric, hour
    )
    ARRAY JOIN [3600, 86400, 604800] AS resolution
    WHERE (machine_id, config_id, branch_id, metric, resolution, start) IN
        (SELECT machine_id, config_id, branch_id, metric, resolution, bucket FROM {touched})
    GROUP BY machine_id, config_id, branch_id, metric, resolution, start
)))
SETTINGS compile_expressions = 0, compile_aggregate_expressions = 0`
