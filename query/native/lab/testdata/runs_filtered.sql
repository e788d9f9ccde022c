SELECT run_id, start_time
FROM `millrace_g1`.runs
WHERE machine_id = ? AND benchmark = ? AND branch_id = ? AND branch = ? AND commit = ? AND repository = ? AND official = ? AND custom = ? AND run_id IN (SELECT run_id FROM `millrace_g1`.result_series WHERE machine_id = ? AND config_id = ?) AND start_time >= fromUnixTimestamp64Micro(toInt64(?), 'UTC') AND start_time < fromUnixTimestamp64Micro(toInt64(?), 'UTC')
ORDER BY run_id
LIMIT ?

uint64 1
string pgbench
uint64 2
string master
string abc
string https://x
bool true
bool true
uint64 1
uint64 3
int64 1769904000000500
int64 1772323200000000
int 101
