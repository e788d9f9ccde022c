package target

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// prepare makes what every start of the standalone needs: its folder, its port, its settings and its engines.
func (t *Target) prepare(ctx context.Context, spec Spec, folder string) error {
	var err error
	t.data = filepath.Join(folder, "data")
	if t.log, err = os.OpenFile(filepath.Join(folder, "millrace.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return fmt.Errorf("make the standalone's log: %w", err)
	}
	if t.Host, err = freeAddress(); err != nil {
		return err
	}
	t.URL = "http://" + t.Host
	settings := []string{"MILLRACE_LISTEN=" + t.Host, "MILLRACE_DEMO=off", "MILLRACE_LOG_LEVEL=info"}
	for key, value := range spec.Settings {
		settings = append(settings, "MILLRACE_"+strings.ToUpper(strings.ReplaceAll(key, ".", "_"))+"="+value)
	}
	if spec.Engines == "apart" {
		addresses, err := t.startEngines(ctx, filepath.Join(folder, "engines"))
		if err != nil {
			return err
		}
		settings = append(settings, addresses...)
	}
	t.environ = append(t.baseEnviron(), settings...)
	return nil
}

// startEngines runs the embedded engines in a process of their own and gives the settings that lead to them.
func (t *Target) startEngines(ctx context.Context, folder string) ([]string, error) {
	names := []string{"MILLRACE_KAFKA", "MILLRACE_CLICKHOUSE", "MILLRACE_REDIS"}
	var err error
	if t.engines, err = StartHelper(ctx, t.programs, "engines", []string{folder}, t.log, names...); err != nil {
		return nil, err
	}
	t.Kafka, t.ClickHouse = t.engines.Values[names[0]], t.engines.Values[names[1]]
	var settings []string
	for _, name := range names {
		settings = append(settings, name+"="+t.engines.Values[name])
	}
	return settings, nil
}

// baseEnviron is this process's environment without Millrace's settings, which are not meant for the target, and the
// target's data folder.
func (t *Target) baseEnviron() []string {
	var environ []string
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "MILLRACE_") {
			environ = append(environ, entry)
		}
	}
	return append(environ, "MILLRACE_DATA="+t.data)
}

// freeAddress finds a port of this machine on which nobody listens.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return listener.Addr().String(), listener.Close()
}

// Start runs the standalone, at the same address and on the same data each time.
func (t *Target) Start() error {
	program, err := t.programs.Path("millrace")
	if err != nil {
		return err
	}
	cmd := exec.Command(program, "standalone")
	cmd.Env, cmd.Stdout, cmd.Stderr = t.environ, t.log, t.log
	t.standalone, err = startProcess(cmd)
	return err
}

// ended is closed when the standalone has ended; it never is when there is none.
func (t *Target) ended() <-chan struct{} {
	if t.standalone == nil {
		return nil
	}
	return t.standalone.Ended()
}

// Kill ends the standalone as kill -9 does.
func (t *Target) Kill() error { return t.standalone.Kill() }

// KillClickHouse ends the standalone's ClickHouse alone, as kill -9 does; the standalone starts it again by itself. When
// there is none just now the error is ErrNoChild.
func (t *Target) KillClickHouse() error {
	pid, err := childOf(t.standalone.PID(), "clickhouse")
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); errors.Is(err, syscall.ESRCH) {
		return ErrNoChild
	} else if err != nil {
		return fmt.Errorf("kill ClickHouse, process %d: %w", pid, err)
	}
	return nil
}
