SELECT result_id, tps
FROM `millrace_g1`.result_series
WHERE result_id BETWEEN ? AND ?
ORDER BY result_id
LIMIT ?

uint64 5120
uint64 6143
int 101
