package pgbench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func describeKernel() (kernel, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return kernel{}, fmt.Errorf("uname: %w", err)
	}
	return kernel{
		Name:    unix.ByteSliceToString(name.Sysname[:]),
		Release: unix.ByteSliceToString(name.Release[:]),
		Version: unix.ByteSliceToString(name.Version[:]),
		Machine: unix.ByteSliceToString(name.Machine[:]),
	}, nil
}

// describeOS reads os-release(5) from /etc and gives it the form of lsb_release, which the farm's client asks.
func describeOS(etc fs.FS) (osInformation, error) {
	text, err := fs.ReadFile(etc, "os-release")
	if err != nil {
		return osInformation{}, fmt.Errorf("read /etc/os-release: %w", err)
	}
	values := keyValues(text, "=")
	value := func(key string) string {
		if v := strings.Trim(values[key], `"'`); v != "" {
			return v
		}
		return "n/a"
	}
	distributor := strings.TrimSuffix(strings.TrimSuffix(value("NAME"), " Linux"), " GNU/Linux")
	return osInformation{
		Distributor: distributor,
		Description: value("PRETTY_NAME"),
		Release:     value("VERSION_ID"),
		Codename:    value("VERSION_CODENAME"),
	}, nil
}

func describeSystem(proc fs.FS) (described system, err error) {
	if described.CPU.Information, err = describeCPU(proc); err != nil {
		return system{}, err
	}
	text, err := fs.ReadFile(proc, "meminfo")
	if err != nil {
		return system{}, fmt.Errorf("read /proc/meminfo: %w", err)
	}
	sizes, err := meminfoBytes(text)
	if err != nil {
		return system{}, fmt.Errorf("read /proc/meminfo: %w", err)
	}
	described.Memory.Virtual.Total = sizes["MemTotal"]
	described.Memory.Swap.Total = sizes["SwapTotal"]
	described.Memory.Mounts, err = describeMounts(proc)
	return described, err
}

// describeCPU takes brand and momentary frequency from the first processor that tells them.
func describeCPU(proc fs.FS) (cpuInformation, error) {
	text, err := fs.ReadFile(proc, "cpuinfo")
	if err != nil {
		return cpuInformation{}, fmt.Errorf("read /proc/cpuinfo: %w", err)
	}
	values := keyValues(text, ":")
	described := cpuInformation{Brand: values["model name"]}
	if described.Brand == "" { // ARM has no model name
		described.Brand = "unknown"
	}
	if megahertz, err := strconv.ParseFloat(values["cpu MHz"], 64); err == nil {
		described.HzActual[0] = int64(megahertz * 1e6)
	}
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(line, []byte("processor\t")) {
			described.Count++
		}
	}
	if described.Count == 0 {
		return cpuInformation{}, errors.New("/proc/cpuinfo lists no processor")
	}
	return described, nil
}

// describeMounts lists what is mounted from a device, each device once.
func describeMounts(proc fs.FS) ([]mount, error) {
	text, err := fs.ReadFile(proc, "mounts")
	if err != nil {
		return nil, fmt.Errorf("read /proc/mounts: %w", err)
	}
	mounts := []mount{}
	seen := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "/dev/") || seen[fields[0]] {
			continue
		}
		seen[fields[0]] = true
		mounts = append(mounts, mount{Device: fields[0], Mountpoint: fields[1], FSType: fields[2], Options: fields[3]})
	}
	return mounts, nil
}

// sysctlPrefixes choose the parameters to send: memory, shared memory, semaphores and scheduling. They cover the farm's
// allow-list for Linux. Others are left out, since some tell more about a machine and its network than a benchmark needs.
var sysctlPrefixes = []string{"kernel.numa", "kernel.sched", "kernel.sem", "kernel.shm", "vm."}

// describeSysctl reads the parameters from /proc/sys into a JSON object of strings.
func describeSysctl(sys fs.FS) (string, error) {
	values := map[string]string{}
	for _, folder := range []string{"kernel", "vm"} {
		entries, err := fs.ReadDir(sys, folder)
		if err != nil {
			return "", fmt.Errorf("read /proc/sys/%s: %w", folder, err)
		}
		for _, entry := range entries {
			name := folder + "." + entry.Name()
			if entry.IsDir() || !hasAnyPrefix(name, sysctlPrefixes) {
				continue
			}
			// Some can only be written, some are root's alone: sysctl passes over them too.
			if text, err := fs.ReadFile(sys, path.Join(folder, entry.Name())); err == nil {
				values[name] = strings.TrimSpace(string(text))
			}
		}
	}
	text, err := json.Marshal(values)
	return string(text), err
}

func hasAnyPrefix(text string, prefixes []string) bool {
	for _, prefix := range prefixes {
		if strings.HasPrefix(text, prefix) {
			return true
		}
	}
	return false
}

// keyValues reads lines "key<separator>value"; of a key that comes again the first value stays.
func keyValues(text []byte, separator string) map[string]string {
	values := map[string]string{}
	scanner := bufio.NewScanner(bytes.NewReader(text))
	for scanner.Scan() {
		key, value, found := strings.Cut(scanner.Text(), separator)
		key = strings.TrimSpace(key)
		if _, known := values[key]; found && !known {
			values[key] = strings.TrimSpace(value)
		}
	}
	return values
}

// meminfoBytes reads /proc/meminfo, whose sizes are in kB, meaning 1024 bytes.
func meminfoBytes(text []byte) (map[string]uint64, error) {
	sizes := map[string]uint64{}
	for key, value := range keyValues(text, ":") {
		kilobytes, isSize := strings.CutSuffix(value, " kB")
		if !isSize {
			continue
		}
		number, err := strconv.ParseUint(kilobytes, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		sizes[key] = number * 1024
	}
	return sizes, nil
}
