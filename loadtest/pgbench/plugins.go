package pgbench

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
)

// metric is a number as collectd names it and writes it.
type metric struct{ name, value string }

// plugin reads what one of collectd's plugins would. Counters are sent as they stand, not as rates.
type plugin struct {
	name string
	read func(proc fs.FS) ([]metric, error)
}

// plugins are those that the farm stores (contract section 6.2).
func plugins() []plugin {
	return []plugin{
		{"aggregation-cpu-average", (&cpuUsage{}).read},
		{"contextswitch", readContextSwitches},
		{"ipc-msg", readMessageQueues},
		{"ipc-sem", readSemaphores},
		{"ipc-shm", readSharedMemory},
		{"memory", readMemory},
		{"processes", readProcesses},
		{"swap", readSwap},
		{"vmem", readVirtualMemory},
	}
}

func count(name string, value uint64) metric { return metric{name, strconv.FormatUint(value, 10)} }

// cpuStates are the first columns of the "cpu" line of /proc/stat, in its order, by collectd's names.
var cpuStates = []string{"user", "nice", "system", "idle", "wait", "interrupt", "softirq", "steal"}

// cpuUsage remembers the last reading: percentages are of the time since then.
type cpuUsage struct{ last []uint64 }

func (c *cpuUsage) read(proc fs.FS) ([]metric, error) {
	fields, err := statFields(proc, "cpu")
	if err != nil {
		return nil, err
	}
	if len(fields) < len(cpuStates) {
		return nil, fmt.Errorf("/proc/stat has %d columns for cpu, %d are needed", len(fields), len(cpuStates))
	}
	last := c.last
	c.last = fields[:len(cpuStates)]
	if last == nil {
		return nil, nil
	}
	return cpuPercentages(last, c.last), nil
}

func cpuPercentages(from, to []uint64) []metric {
	var all float64
	spent := make([]float64, len(to))
	for i := range to {
		// The kernel may take back some idle time.
		if to[i] > from[i] {
			spent[i] = float64(to[i] - from[i])
		}
		all += spent[i]
	}
	if all == 0 {
		return nil
	}
	var metrics []metric
	for i, state := range cpuStates {
		metrics = append(metrics, metric{"percent-" + state, strconv.FormatFloat(100*spent[i]/all, 'f', 6, 64)})
	}
	return metrics
}

// statFields returns the numbers of the line of /proc/stat that begins with key.
func statFields(proc fs.FS, key string) ([]uint64, error) {
	text, err := fs.ReadFile(proc, "stat")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) > 1 && fields[0] == key {
			return parseAll(fields[1:])
		}
	}
	return nil, fmt.Errorf("/proc/stat has no line %q", key)
}

func parseAll(fields []string) ([]uint64, error) {
	numbers := make([]uint64, len(fields))
	for i, field := range fields {
		number, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return nil, err
		}
		numbers[i] = number
	}
	return numbers, nil
}

func readContextSwitches(proc fs.FS) ([]metric, error) {
	fields, err := statFields(proc, "ctxt")
	if err != nil {
		return nil, err
	}
	return []metric{count("contextswitch", fields[0])}, nil
}

// sysvTable reads a table of /proc/sysvipc into the number of its rows and the sums of the named columns.
func sysvTable(proc fs.FS, name string, columns ...string) (rows uint64, sums []uint64, err error) {
	text, err := fs.ReadFile(proc, "sysvipc/"+name)
	if err != nil {
		return 0, nil, err
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	heading := strings.Fields(lines[0])
	sums = make([]uint64, len(columns))
	for _, line := range lines[1:] {
		fields := strings.Fields(line)
		for i, column := range columns {
			at := slices.Index(heading, column)
			if at < 0 || at >= len(fields) {
				return 0, nil, fmt.Errorf("/proc/sysvipc/%s has no column %s in line %q", name, column, line)
			}
			number, err := strconv.ParseUint(fields[at], 10, 64)
			if err != nil {
				return 0, nil, fmt.Errorf("/proc/sysvipc/%s, column %s: %w", name, column, err)
			}
			sums[i] += number
		}
		rows++
	}
	return rows, sums, nil
}

func readSharedMemory(proc fs.FS) ([]metric, error) {
	segments, sums, err := sysvTable(proc, "shm", "size", "rss", "swap")
	if err != nil {
		return nil, err
	}
	return []metric{count("segments", segments), count("bytes-total", sums[0]), count("bytes-rss", sums[1]),
		count("bytes-swapped", sums[2])}, nil
}

func readMessageQueues(proc fs.FS) ([]metric, error) {
	queues, sums, err := sysvTable(proc, "msg", "qnum", "cbytes")
	if err != nil {
		return nil, err
	}
	return []metric{count("count-queues", queues), count("count-headers", sums[0]), count("count-space", sums[1])}, nil
}

func readSemaphores(proc fs.FS) ([]metric, error) {
	arrays, sums, err := sysvTable(proc, "sem", "nsems")
	if err != nil {
		return nil, err
	}
	return []metric{count("count-arrays", arrays), count("count-total", sums[0])}, nil
}

// readMemory: used is what remains when free, buffers, cache and slab are taken off.
func readMemory(proc fs.FS) ([]metric, error) {
	sizes, err := readMeminfo(proc)
	if err != nil {
		return nil, err
	}
	known := sizes["MemFree"] + sizes["Buffers"] + sizes["Cached"] + sizes["SReclaimable"] + sizes["SUnreclaim"]
	return []metric{
		count("memory-free", sizes["MemFree"]),
		count("memory-used", sizes["MemTotal"]-min(known, sizes["MemTotal"])),
		count("memory-cached", sizes["Cached"]),
		count("memory-buffered", sizes["Buffers"]),
		count("memory-slab_recl", sizes["SReclaimable"]),
		count("memory-slab_unrecl", sizes["SUnreclaim"]),
	}, nil
}

func readMeminfo(proc fs.FS) (map[string]uint64, error) {
	text, err := fs.ReadFile(proc, "meminfo")
	if err != nil {
		return nil, err
	}
	return meminfoBytes(text)
}

// processStates gives collectd's name to each state letter of proc_pid_stat(5). An idle kernel thread sleeps.
var processStates = map[byte]string{
	'R': "running", 'S': "sleeping", 'I': "sleeping", 'D': "blocked", 'Z': "zombies", 'T': "stopped", 't': "stopped",
	'W': "paging",
}

func readProcesses(proc fs.FS) ([]metric, error) {
	forks, err := statFields(proc, "processes")
	if err != nil {
		return nil, err
	}
	entries, err := fs.ReadDir(proc, ".")
	if err != nil {
		return nil, err
	}
	states := map[string]uint64{}
	for _, entry := range entries {
		if !isDigits(entry.Name()) {
			continue
		}
		// A process may have ended since the folder was listed.
		if text, err := fs.ReadFile(proc, entry.Name()+"/stat"); err == nil {
			states[processStates[processState(string(text))]]++
		}
	}
	metrics := []metric{count("fork_rate", forks[0])}
	for _, state := range []string{"running", "stopped", "sleeping", "paging", "blocked", "zombies"} {
		metrics = append(metrics, count("ps_state-"+state, states[state]))
	}
	return metrics, nil
}

// processState finds the letter behind the program's name, which is in parentheses and may contain any character.
func processState(stat string) byte {
	_, rest, found := cutLast(stat, ") ")
	if !found || rest == "" {
		return 0
	}
	return rest[0]
}

func cutLast(text, separator string) (before, after string, found bool) {
	at := strings.LastIndex(text, separator)
	if at < 0 {
		return text, "", false
	}
	return text[:at], text[at+len(separator):], true
}

func readSwap(proc fs.FS) ([]metric, error) {
	sizes, err := readMeminfo(proc)
	if err != nil {
		return nil, err
	}
	counters, err := readVMStat(proc)
	if err != nil {
		return nil, err
	}
	page := uint64(os.Getpagesize())
	unused := sizes["SwapFree"] + sizes["SwapCached"]
	return []metric{
		count("swap-free", sizes["SwapFree"]),
		count("swap-used", sizes["SwapTotal"]-min(unused, sizes["SwapTotal"])),
		count("swap-cached", sizes["SwapCached"]),
		count("swap_io-in", counters["pswpin"]*page),
		count("swap_io-out", counters["pswpout"]*page),
	}, nil
}

func readVMStat(proc fs.FS) (map[string]uint64, error) {
	text, err := fs.ReadFile(proc, "vmstat")
	if err != nil {
		return nil, err
	}
	counters := map[string]uint64{}
	for key, value := range keyValues(text, " ") {
		number, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("/proc/vmstat, %s: %w", key, err)
		}
		counters[key] = number
	}
	return counters, nil
}

// pageCounters are the columns that the farm's table of virtual memory has (contract appendix B).
var pageCounters = []string{
	"active_file", "inactive_file", "isolated_file", "active_anon", "inactive_anon", "isolated_anon", "file_pages",
	"file_hugepages", "file_pmdmapped", "kernel_stack", "kernel_misc_reclaimable", "slab_reclaimable",
	"slab_unreclaimable", "zone_write_pending", "zone_unevictable", "zone_active_anon", "zone_inactive_anon",
	"zone_active_file", "zone_inactive_file", "foll_pin_acquired", "foll_pin_released", "dirty", "dirty_threshold",
	"dirty_background_threshold", "vmscan_write", "vmscan_immediate_reclaim", "anon_pages",
	"anon_transparent_hugepages", "shmem", "shmem_hugepages", "shmem_pmdmapped", "writeback", "writeback_temp",
	"free_pages", "free_cma", "bounce", "unevictable", "page_table_pages", "mapped", "zspages", "mlock", "unstable",
}

// retiredCounters left the kernel together with what they counted, so that zero is their true value. The kernel itself
// does the same with nr_unstable. Without them the farm would drop the whole row.
var retiredCounters = []string{"bounce", "unstable", "writeback_temp"}

func readVirtualMemory(proc fs.FS) ([]metric, error) {
	counters, err := readVMStat(proc)
	if err != nil {
		return nil, err
	}
	var metrics []metric
	for _, name := range pageCounters {
		value, found := counters["nr_"+name]
		if !found && !slices.Contains(retiredCounters, name) {
			continue
		}
		metrics = append(metrics, count("vmpage_number-"+name, value))
	}
	for _, name := range []string{"written", "dirtied"} {
		metrics = append(metrics, count("vmpage_action-"+name, counters["nr_"+name]))
	}
	return metrics, nil
}
