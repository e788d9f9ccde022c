package cli

import (
	"net"
	"strings"
	"syscall"
	"testing"
)

func TestWhoCannotReachTheOperatorsSocketIsToldWhatToDo(t *testing.T) {
	for err, want := range map[error]string{
		syscall.EACCES: "run this command as its owner, or use --server with an operator's token",
		syscall.ENOENT: "start it, set MILLRACE_DATA to its data folder, or use --server",
	} {
		got := unreachable("/data/operator.sock", &net.OpError{Op: "dial", Net: "unix", Err: err}).Error()
		if !strings.Contains(got, want) || !strings.Contains(got, "/data/operator.sock") {
			t.Errorf("%v: told is %q, want %q", err, got, want)
		}
	}
}
