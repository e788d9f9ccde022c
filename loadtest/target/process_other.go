//go:build !linux

package target

import "syscall"

// childAttributes keeps a child out of the terminal's process group, so that ctrl-C reaches only this program.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
