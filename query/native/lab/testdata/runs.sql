SELECT run_id, start_time
FROM `millrace_g1`.runs
ORDER BY run_id DESC
LIMIT ?

int 101
