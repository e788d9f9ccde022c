package target

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// LogBytes is what the standalone's embedded log takes on disk.
func (t *Target) LogBytes() (int64, error) {
	total := int64(0)
	err := filepath.WalkDir(filepath.Join(t.data, "log"), func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = entry.Info(); err == nil {
				total += info.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it was trimmed meanwhile
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("measure the log's folder: %w", err)
	}
	return total, nil
}

// Memory is what the standalone's own process holds in memory, in bytes; 0 where the system does not tell.
func (t *Target) Memory() int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", t.standalone.PID()))
	if err != nil {
		return 0
	}
	return parseMemory(string(text))
}

// parseMemory reads the resident size in /proc/PID/status.
func parseMemory(text string) int64 {
	_, rest, _ := strings.Cut(text, "VmRSS:")
	line, _, _ := strings.Cut(rest, "\n")
	kilobytes, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(line), "kB")), 10, 64)
	if err != nil {
		return 0
	}
	return kilobytes << 10
}

// Inspect ends the standalone for good and serves the ClickHouse that it leaves, for a look at what is there: ClickHouse
// is its address then.
func (t *Target) Inspect(ctx context.Context) error {
	if err := t.standalone.Stop(ctx, 30*time.Second); err != nil {
		return err
	}
	t.standalone = nil
	_, err := t.startEngines(ctx, t.data)
	return err
}
