package process

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Attributes keep the terminal's Ctrl-C from a child, for the parent drains first. There is no death signal here.
func Attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

// StandBack does nothing here: a priority is the whole process's, and would be this one's too.
func StandBack(int) error { return nil }

// StartTime identifies a run of a process: the second and microsecond at which it started.
func StartTime(pid int) (string, error) {
	info, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil {
		return "", err
	}
	started := info.Proc.P_starttime
	return fmt.Sprintf("%d.%06d", started.Sec, started.Usec), nil
}
