SELECT run_id, start_time
FROM `millrace_g1`.runs
WHERE run_id IN (SELECT run_id FROM `millrace_g1`.result_series WHERE config_id = ?) AND add_time >= fromUnixTimestamp64Milli(toInt64(?), 'UTC')
ORDER BY run_id
LIMIT ?

uint64 3
int64 1769904000000
int 101
