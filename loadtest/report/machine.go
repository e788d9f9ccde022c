package report

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// Machine describes where figures were made. What the system does not tell is empty.
type Machine struct {
	CPUs        int    `json:"cpus"`
	CPU         string `json:"cpu,omitempty"`
	MemoryBytes int64  `json:"memory_bytes,omitempty"`
	System      string `json:"system"`
	Kernel      string `json:"kernel,omitempty"`
	// Load is the load average of the last minute when the scenario began: figures of a busy machine mean little.
	Load float64 `json:"load_average"`
}

func (m Machine) String() string {
	text := fmt.Sprintf("%d CPUs", m.CPUs)
	if m.CPU != "" {
		text += " (" + m.CPU + ")"
	}
	return fmt.Sprintf("%s, %d GB, load average %.1f at the start", text, m.MemoryBytes>>30, m.Load)
}

// Versions are the programs that took part.
type Versions struct {
	Loadtest string `json:"loadtest"`
	Millrace string `json:"millrace,omitempty"`
	Go       string `json:"go"`
}

// ThisMachine describes this machine.
func ThisMachine() Machine {
	m := Machine{CPUs: runtime.NumCPU(), System: runtime.GOOS + "/" + runtime.GOARCH}
	m.CPU = field("/proc/cpuinfo", "model name")
	if kilobytes, err := strconv.ParseInt(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"), 10, 64); err == nil {
		m.MemoryBytes = kilobytes << 10
	}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(text))
	}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		first, _, _ := strings.Cut(string(text), " ")
		m.Load, _ = strconv.ParseFloat(first, 64)
	}
	return m
}

// field reads the first "name : value" of a file.
func field(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		key, value, found := strings.Cut(line, ":")
		if found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
