SELECT run_id, start_time
FROM `millrace_g1`.runs
WHERE start_time >= fromUnixTimestamp64Micro(toInt64(?), 'UTC') AND start_time <= fromUnixTimestamp64Micro(toInt64(?), 'UTC') AND (start_time, run_id) < (fromUnixTimestamp64Micro(toInt64(?), 'UTC'), ?)
ORDER BY start_time DESC, run_id DESC
LIMIT ?
SETTINGS preferred_optimize_projection_name = 'by_start_time'

int 0
uint64 1770000000123456
uint64 1770000000123456
uint64 42
int 101
