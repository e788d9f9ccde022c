SELECT resolution, count() AS buckets, sum(count) AS samples
FROM {db}.trend_buckets FINAL
WHERE machine_id = ? AND config_id = ? AND branch_id = ? AND metric = ? AND addSeconds(bucket, resolution) > fromUnixTimestamp64Milli(toInt64(?), 'UTC') AND bucket < fromUnixTimestamp64Milli(toInt64(?), 'UTC')
GROUP BY resolution

uint64 1
uint64 2
uint64 3
string tps
int64 1769904000000
int64 1772323200000
