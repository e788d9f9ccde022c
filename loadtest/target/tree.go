package target

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ErrNoChild means that a process has no such child just now.
var ErrNoChild = errors.New("no such child process")

// childOf finds the child of a process whose command line contains a word, by Linux's /proc.
func childOf(parent int, word string) (int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, fmt.Errorf("list processes: %w", err)
	}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended meanwhile
		}
		pid, of, ok := parseStat(string(text))
		if !ok || of != parent {
			continue
		}
		command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && bytes.Contains(command, []byte(word)) {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("%w: %q of process %d", ErrNoChild, word, parent)
}

// parseStat reads the ids of a process and of its parent from /proc/PID/stat. Zombies do not count: they have ended.
func parseStat(text string) (pid, parent int, ok bool) {
	// The second field is the name in parentheses, which may hold spaces and parentheses itself.
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return 0, 0, false
	}
	rest := strings.Fields(text[end+1:])
	if len(rest) < 2 || rest[0] == "Z" || rest[0] == "X" {
		return 0, 0, false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(text[:open]))
	if err != nil {
		return 0, 0, false
	}
	parent, err = strconv.Atoi(rest[1])
	return pid, parent, err == nil
}
