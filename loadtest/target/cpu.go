package target

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of /proc's processor times: USER_HZ, which is 100 on every Linux.
const tick = 10 * time.Millisecond

// CPU is the processor time that a process has used; 0 where the system does not tell.
func CPU(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	return parseCPU(string(text))
}

// parseCPU adds up a process's user and system time in /proc/PID/stat.
func parseCPU(text string) time.Duration {
	// Behind the name in parentheses come the state, ten numbers, utime and stime.
	rest := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(rest) < 13 {
		return 0
	}
	user, userErr := strconv.ParseInt(rest[11], 10, 64)
	system, systemErr := strconv.ParseInt(rest[12], 10, 64)
	if userErr != nil || systemErr != nil {
		return 0
	}
	return time.Duration(user+system) * tick
}

// CPU is the processor time that the target's own process and its ClickHouse have used.
func (t *Target) CPU() (own, clickhouse time.Duration) {
	if t.standalone == nil {
		return 0, 0
	}
	parent := t.standalone.PID()
	own = CPU(parent)
	if t.engines != nil {
		parent = t.engines.process.PID()
	}
	if pid, err := childOf(parent, "clickhouse"); err == nil {
		clickhouse = CPU(pid)
	}
	return own, clickhouse
}

// CPU is the processor time that the helper has used.
func (h *Helper) CPU() time.Duration { return CPU(h.process.PID()) }
