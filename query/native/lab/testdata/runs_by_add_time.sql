SELECT run_id, start_time
FROM `millrace_g1`.runs
WHERE run_id > ?
ORDER BY run_id
LIMIT ?

uint64 42
int 101
