SELECT bucket AS time, count, mean, median, p95, p99, stddev, min, max
FROM {db}.trend_buckets FINAL
WHERE machine_id = ? AND config_id = ? AND branch_id = ? AND metric = ? AND resolution = ? AND bucket > fromUnixTimestamp64Milli(toInt64(?), 'UTC') AND bucket < fromUnixTimestamp64Milli(toInt64(?), 'UTC')
ORDER BY bucket

uint64 1
uint64 2
uint64 3
string tps
uint32 604800
int64 1769299200000
int64 1772323200000
