SELECT first AS time, run_id, n AS count, mean, quantiles[1] AS median, quantiles[2] AS p95, quantiles[3] AS p99,
	if(n = 1, NULL, sqrt(arraySum(x -> (x - mean) * (x - mean), v) / (n - 1))) AS stddev, least AS min, v[n] AS max
FROM (SELECT *, least + arraySum(x -> x - least, v) / n AS mean
FROM (SELECT *, length(v) AS n, v[1] AS least, arrayReduce('quantilesExactInclusive(0.5, 0.95, 0.99)', v) AS quantiles
FROM (SELECT run_id, min(ts) AS first, arraySort(groupArray(zeroed)) AS v
FROM (SELECT run_id, ts, if(value = 0, 0, value) AS zeroed
FROM {db}.metrics FINAL
WHERE machine_id = ? AND config_id = ? AND branch_id = ? AND metric = ? AND ts >= fromUnixTimestamp64Milli(toInt64(?), 'UTC') AND ts < fromUnixTimestamp64Milli(toInt64(?), 'UTC')
) GROUP BY run_id)))
ORDER BY first, run_id

uint64 1
uint64 2
uint64 3
string tps
int64 1769904000000
int64 1772323200000
