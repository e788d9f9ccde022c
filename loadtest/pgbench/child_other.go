//go:build !linux

package pgbench

import "syscall"

// childAttributes serves to compile elsewhere; a run needs Linux, whose /proc it describes.
func childAttributes(*account, syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
