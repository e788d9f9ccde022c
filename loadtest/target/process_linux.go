package target

import "syscall"

// childAttributes keeps a child out of the terminal's process group, so that ctrl-C reaches only this program, and ends
// it when this program dies.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
