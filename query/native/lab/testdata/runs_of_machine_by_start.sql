SELECT run_id, start_time
FROM `millrace_g1`.runs
WHERE machine_id = ?
ORDER BY start_time, run_id
LIMIT ?
SETTINGS preferred_optimize_projection_name = 'by_machine'

uint64 1
int 101
