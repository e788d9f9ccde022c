package clickhouse

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/millrace/millrace/deploy/standalone/engines/internal/process"
)

// record names a child so that another run can tell it from a process that got its pid later.
type record struct {
	PID     int    `json:"pid"`
	Started string `json:"started"` // see process.StartTime
}

const leaveTimeout = 30 * time.Second

func recordPath(dir string) string { return filepath.Join(dir, "child.json") }

func recordChild(dir string, pid int) error {
	started, err := process.StartTime(pid)
	if err != nil {
		return fmt.Errorf("record the child process: %w", err)
	}
	text, err := json.Marshal(record{PID: pid, Started: started})
	if err != nil {
		return fmt.Errorf("record the child process: %w", err)
	}
	if err := writePrivate(recordPath(dir), string(text)); err != nil {
		return fmt.Errorf("record the child process: %w", err)
	}
	return nil
}

// endLeftover ends the child of an earlier run that outlived its parent, for it holds the folder. A process is only
// touched when it has the recorded pid and the recorded start time.
func endLeftover(dir string, log *slog.Logger) error {
	text, err := os.ReadFile(recordPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for a child of an earlier run: %w", err)
	}
	var left record
	if err := json.Unmarshal(text, &left); err != nil || !left.alive() {
		return nil // a record that was cut off by a crash names nobody
	}
	log.Warn("ending the ClickHouse process of an earlier run", "pid", left.PID)
	if err := syscall.Kill(left.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end process %d, the ClickHouse of an earlier run: %w", left.PID, err)
	}
	deadline := time.Now().Add(leaveTimeout)
	for left.alive() {
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d, the ClickHouse of an earlier run, does not end; end it by hand", left.PID)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

func (r record) alive() bool {
	started, err := process.StartTime(r.PID)
	return err == nil && r.PID > 0 && started == r.Started
}
