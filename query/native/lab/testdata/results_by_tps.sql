SELECT result_id, tps
FROM `millrace_g1`.result_series
WHERE machine_id = ? AND config_id = ? AND tps <= reinterpretAsFloat64(toUInt64(?)) AND (tps, result_id) < (reinterpretAsFloat64(toUInt64(?)), ?)
ORDER BY tps DESC, result_id DESC
LIMIT ?

uint64 1
uint64 2
uint64 4636737291354636288
uint64 4636737291354636288
uint64 1025
int 101
