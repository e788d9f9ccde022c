SELECT ts, value
FROM `millrace_g1`.metrics
WHERE machine_id = ? AND config_id = ? AND branch_id = ? AND metric = ? AND ts >= fromUnixTimestamp64Milli(toInt64(?), 'UTC') AND (ts, event_id, ordinal) > (fromUnixTimestamp64Milli(toInt64(?), 'UTC'), toUUID(?), ?)
ORDER BY ts, event_id, ordinal
LIMIT ?

uint64 1
uint64 2
uint64 3
string log.tps
uint64 1770000000123
uint64 1770000000123
string 0198c0de-0000-7000-8000-000000000000
uint64 7
int 101
