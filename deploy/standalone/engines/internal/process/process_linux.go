// Package process starts processes that do not outlive this one, and tells processes apart.
package process

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// Attributes make the kernel kill a child when the thread that started it ends: start it from a goroutine that is locked to
// its thread and stays. They also keep the terminal's Ctrl-C from the child, for the parent drains first.
func Attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// StandBack makes the children that this thread starts stand back for other programs, 0 to 19 as of nice(1). The thread
// stands back with them.
func StandBack(nice int) error {
	if err := syscall.Setpriority(syscall.PRIO_PROCESS, 0, nice); err != nil {
		return fmt.Errorf("set the priority of a thread to %d: %w", nice, err)
	}
	return nil
}

// StartTime identifies a run of a process: the boot's id and the clock tick after it at which the process started (field
// 22 of /proc/PID/stat). A process that only waits to be reaped counts as ended.
func StartTime(pid int) (string, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // behind the name, which may hold anything
	if len(fields) < 20 || fields[0] == "Z" {
		return "", fmt.Errorf("process %d has ended", pid)
	}
	return strings.TrimSpace(string(boot)) + " " + fields[19], nil
}
