package pgbench

import "syscall"

// childAttributes makes a child run as the account, apart from the terminal's process group, so that ctrl-C reaches only
// this program, and end with signal when this program dies without having ended it.
func childAttributes(as *account, signal syscall.Signal) *syscall.SysProcAttr {
	attributes := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: signal}
	if as != nil {
		attributes.Credential = &syscall.Credential{Uid: as.uid, Gid: as.gid}
	}
	return attributes
}
