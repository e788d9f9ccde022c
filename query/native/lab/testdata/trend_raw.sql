SELECT ts AS time, run_id, toUInt64(1) AS count, value AS mean, value AS median, value AS p95, value AS p99,
	CAST(NULL, 'Nullable(Float64)') AS stddev, value AS min, value AS max
FROM {db}.metrics FINAL
WHERE machine_id = ? AND config_id = ? AND branch_id = ? AND metric = ? AND ts >= fromUnixTimestamp64Milli(toInt64(?), 'UTC') AND ts < fromUnixTimestamp64Milli(toInt64(?), 'UTC')
ORDER BY ts, event_id, ordinal

uint64 1
uint64 2
uint64 3
string tps
int64 1769904000000
int64 1772323200000
