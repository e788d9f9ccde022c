package pgperffarm

import (
	"bytes"
	"math"
	"strings"
)

const tableCount = 10

// collectdTables are the tables of system statistics in the order of the API's answer (section 5.1.7). No client's
// data fill disk.
var collectdTables = [tableCount]CollectdTable{
	{Name: "cpu", Float: true, Columns: []string{"percent_user", "percent_system", "percent_idle", "percent_wait",
		"percent_nice", "percent_interrupt", "percent_softirq", "percent_steal"}},
	{Name: "process", Columns: []string{"fork_rate", "ps_state_running", "ps_state_stopped", "ps_state_sleeping",
		"ps_state_paging", "ps_state_blocked", "ps_state_zombies"}},
	{Name: "contextswitch", Columns: []string{"contextswitch"}},
	{Name: "ipc_shm", Columns: []string{"segments", "bytes_total", "bytes_rss", "bytes_swapped"}},
	{Name: "ipc_msg", Columns: []string{"count_space", "count_queues", "count_headers"}},
	{Name: "ipc_sem", Columns: []string{"count_total", "count_arrays"}},
	{Name: "memory", Columns: []string{"memory_free", "memory_used", "memory_cached", "memory_buffered",
		"memory_slab_recl", "memory_slab_unrecl"}},
	{Name: "swap", Columns: []string{"swap_free", "swap_used", "swap_cached", "swap_io_in", "swap_io_out"}},
	{Name: "vmem", Columns: vmemColumns()},
	{Name: "disk", Columns: []string{"disk_octets_read", "disk_octets_write", "disk_merged_read", "disk_merged_write",
		"disk_ops_read", "disk_ops_write", "disk_io_time_io_time", "disk_io_time_weighted_io_time", "disk_time_read",
		"disk_time_write"}},
}

// CollectdTables returns the ten tables of system statistics in the order in which the API shows them.
func CollectdTables() []CollectdTable {
	tables := make([]CollectdTable, 0, tableCount)
	for _, t := range collectdTables {
		t.Columns = append([]string(nil), t.Columns...)
		tables = append(tables, t)
	}
	return tables
}

// vmemColumns returns the counters of appendix B.
func vmemColumns() []string {
	numbers := strings.Fields(`active_file inactive_file isolated_file active_anon inactive_anon isolated_anon
		file_pages file_hugepages file_pmdmapped kernel_stack kernel_misc_reclaimable slab_reclaimable
		slab_unreclaimable zone_write_pending zone_unevictable zone_active_anon zone_inactive_anon zone_active_file
		zone_inactive_file foll_pin_acquired foll_pin_released dirty dirty_threshold dirty_background_threshold
		vmscan_write vmscan_immediate_reclaim anon_pages anon_transparent_hugepages shmem shmem_hugepages
		shmem_pmdmapped writeback writeback_temp free_pages free_cma bounce unevictable page_table_pages mapped zspages
		mlock unstable`)
	columns := make([]string, 0, len(numbers)+2)
	for _, name := range numbers {
		columns = append(columns, "vmpage_number_"+name)
	}
	return append(columns, "vmpage_action_written", "vmpage_action_dirtied")
}

// tableOf returns the index of a plugin's table, or -1.
func tableOf(plugin []byte) int {
	switch string(plugin) {
	case "aggregation-cpu-average":
		return 0
	case "processes":
		return 1
	case "contextswitch":
		return 2
	case "ipc-shm":
		return 3
	case "ipc-msg":
		return 4
	case "ipc-sem":
		return 5
	case "memory":
		return 6
	case "swap":
		return 7
	case "vmem":
		return 8
	}
	return -1
}

// collectd reads the statistics of the first host. Every plugin is optional: a Mac has neither ipc nor vmem.
func (p *parser) collectd() []CollectdPlugin {
	var found [tableCount][]CollectdRow
	host := 0
	p.object(nil, func([]byte) bool {
		host++
		if host > 1 {
			return false
		}
		p.object(nil, func(plugin []byte) bool {
			table := tableOf(plugin)
			if table < 0 {
				return false
			}
			found[table] = p.collectdPlugin(table)
			return true
		})
		return true
	})
	var plugins []CollectdPlugin
	for i, rows := range found {
		if len(rows) > 0 {
			plugins = append(plugins, CollectdPlugin{CollectdTable: collectdTables[i], Rows: rows})
		}
	}
	return plugins
}

// collectdPlugin joins the files of a plugin into rows. A run across midnight has two files for each metric.
func (p *parser) collectdPlugin(table int) []CollectdRow {
	join := epochJoin{table: &collectdTables[table], rows: make(map[string]int)}
	p.object(nil, func(file []byte) bool {
		column := join.table.column(file)
		if column < 0 {
			return false
		}
		join.next = 0
		for range p.elements() {
			p.sample(&join, column)
		}
		return true
	})
	complete := join.complete()
	if !p.roomFor(&p.counts.collectd[table], complete, "rows of collectd's "+join.table.Name) {
		return nil
	}
	return join.build(complete)
}

// column finds the column of a file: its name is the metric, with hyphens, and a date. The whole metric must match, for
// one name may begin with another (weakness W17).
func (t *CollectdTable) column(file []byte) int {
	metric := bytes.ReplaceAll(withoutDate(file), []byte("-"), []byte("_"))
	return indexOf(t.Columns, metric)
}

// withoutDate cuts -YYYY-MM-DD off the end of a name.
func withoutDate(name []byte) []byte {
	const pattern = "-dddd-dd-dd"
	start := len(name) - len(pattern)
	if start < 0 {
		return name
	}
	for i, c := range name[start:] {
		digit := c >= '0' && c <= '9'
		if pattern[i] == '-' && c != '-' || pattern[i] == 'd' && !digit {
			return name
		}
	}
	return name[:start]
}

// sample reads one {"epoch": ..., "value": ...}. Without a value it is no sample of this metric, and collectd writes nan
// where it has none.
func (p *parser) sample(join *epochJoin, column int) {
	var epoch, value []byte
	p.object(nil, func(name []byte) bool {
		switch string(name) {
		case "epoch":
			epoch = p.numeral()
		case "value":
			value = p.numeral()
		default:
			return false
		}
		return true
	})
	if p.err != nil || value == nil {
		return
	}
	bits, ok := join.table.encode(value)
	switch {
	case !ok && notANumber(value):
		return
	case !ok:
		p.failAt("value", "must be a finite number within 64 bits, not "+shown(value))
		return
	case epoch == nil:
		p.failAt("epoch", "is missing")
		return
	}
	row := join.row(epoch)
	if row < 0 {
		p.failAt("epoch", "must be Unix seconds from 1970 to 2261, not "+shown(epoch))
		return
	}
	join.add(row, column, bits)
}

func notANumber(value []byte) bool {
	return bytes.EqualFold(bytes.TrimLeft(value, "+-"), []byte("nan"))
}

// encode parses a value of the table: a number, or an integer cut towards zero.
func (t *CollectdTable) encode(value []byte) (uint64, bool) {
	if t.Float {
		f, ok := parseFloat(value)
		return math.Float64bits(f), ok && math.Abs(f) <= greatest
	}
	n, ok := truncated(value)
	return uint64(n), ok
}

// epochJoin joins the samples of several files into rows by the text of their epoch. It holds samples, not rows, until
// it knows which rows are complete: a sample for each of a million epochs must not cost a million wide rows.
type epochJoin struct {
	table   *CollectdTable
	rows    map[string]int // epoch text -> index in epochs
	epochs  []epochRow
	samples []epochSample
	next    int // the row of the next sample when files list the same epochs in the same order
}

type epochRow struct {
	text    string
	seconds float64
	columns uint64 // a bit for each column that has a value
}

type epochSample struct {
	row, column int32
	bits        uint64
}

// row finds the row of an epoch or begins it. It returns -1 when the epoch is no time that the tables can hold.
func (j *epochJoin) row(epoch []byte) int {
	if j.next < len(j.epochs) && j.epochs[j.next].text == string(epoch) {
		return j.next
	}
	if row, ok := j.rows[string(epoch)]; ok {
		return row
	}
	seconds, ok := parseFloat(epoch)
	if !ok || seconds < 0 || seconds >= endOfTime {
		return -1
	}
	row, text := len(j.epochs), string(epoch)
	j.rows[text] = row
	j.epochs = append(j.epochs, epochRow{text: text, seconds: seconds})
	return row
}

func (j *epochJoin) add(row, column int, bits uint64) {
	j.next = row + 1
	j.epochs[row].columns |= 1 << column
	j.samples = append(j.samples, epochSample{row: int32(row), column: int32(column), bits: bits})
}

func (j *epochJoin) all() uint64 { return 1<<len(j.table.Columns) - 1 }

// complete counts the rows that have all columns.
func (j *epochJoin) complete() int {
	n := 0
	for i := range j.epochs {
		if j.epochs[i].columns == j.all() {
			n++
		}
	}
	return n
}

// build makes the complete rows. Of two values for one place the later one stays.
func (j *epochJoin) build(complete int) []CollectdRow {
	if complete == 0 {
		return nil
	}
	rows, place := j.emptyRows(complete)
	for _, s := range j.samples {
		switch at := place[s.row]; {
		case at < 0:
		case j.table.Float:
			rows[at].Floats[s.column] = math.Float64frombits(s.bits)
		default:
			rows[at].Ints[s.column] = int64(s.bits)
		}
	}
	return rows
}

// emptyRows makes the complete rows without their values. It returns the place of each epoch among them, -1 for an
// epoch that is not complete.
func (j *epochJoin) emptyRows(complete int) (rows []CollectdRow, place []int) {
	width := len(j.table.Columns)
	var floats []float64
	var ints []int64
	if j.table.Float {
		floats = make([]float64, complete*width)
	} else {
		ints = make([]int64, complete*width)
	}
	rows = make([]CollectdRow, 0, complete)
	place = make([]int, len(j.epochs))
	for i := range j.epochs {
		place[i] = -1
		if j.epochs[i].columns != j.all() {
			continue
		}
		place[i] = len(rows)
		row := CollectdRow{Epoch: j.epochs[i].seconds}
		if j.table.Float {
			row.Floats, floats = floats[:width:width], floats[width:]
		} else {
			row.Ints, ints = ints[:width:width], ints[width:]
		}
		rows = append(rows, row)
	}
	return rows, place
}
