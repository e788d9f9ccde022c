package pgbench

import (
	"context"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/millrace/millrace/processor/pgperffarm"
)

const stat = "cpu  100 10 50 800 20 5 5 10 0 0\ncpu0 100 10 50 800 20 5 5 10 0 0\nctxt 123456789012\nbtime 1\nprocesses 777\n"

// procFiles is a /proc with everything that the plugins read.
func procFiles() fstest.MapFS {
	vmstat := "pswpin 3\npswpout 4\nnr_written 11\nnr_dirtied 12\n"
	for i, name := range pageCounters {
		if name != "bounce" && name != "writeback_temp" {
			vmstat += "nr_" + name + " " + strconv.Itoa(1000+i) + "\n"
		}
	}
	return files(map[string]string{
		"stat": stat, "meminfo": meminfo, "vmstat": vmstat,
		"1/stat": "1 (init) S 0", "2/stat": "2 (odd) name) R 0", "3/stat": "3 (kworker/0:1) I 2", "40/stat": "40 (x) D 1",
		"41/stat": "41 (y) Z 1", "42/stat": "42 (z) t 1", "self/stat": "1 (init) S 0",
		"sysvipc/shm": "       key      shmid perms       size  nattch        rss       swap\n" +
			"  1234  0  600  56  7  4096  0\n  1235  1  600  100  7  8192  4096\n",
		"sysvipc/msg": "       key      msqid perms      cbytes       qnum\n   1  0  600  512  3\n",
		"sysvipc/sem": "       key      semid perms      nsems\n   1  0  600  17\n   2  1  600  4\n",
	})
}

func TestPluginsReportWhatCollectdWould(t *testing.T) {
	proc := procFiles()
	page := strconv.Itoa(3 * os.Getpagesize())
	want := map[string]map[string]string{
		"contextswitch": {"contextswitch": "123456789012"},
		"ipc-shm":       {"segments": "2", "bytes-total": "156", "bytes-rss": "12288", "bytes-swapped": "4096"},
		"ipc-msg":       {"count-queues": "1", "count-headers": "3", "count-space": "512"},
		"ipc-sem":       {"count-arrays": "2", "count-total": "21"},
		"memory": {"memory-free": "409600", "memory-used": "307200", "memory-cached": "153600", "memory-buffered": "51200",
			"memory-slab_recl": "61440", "memory-slab_unrecl": "40960"},
		"processes": {"fork_rate": "777", "ps_state-running": "1", "ps_state-stopped": "1", "ps_state-sleeping": "2",
			"ps_state-paging": "0", "ps_state-blocked": "1", "ps_state-zombies": "1"},
		"swap": {"swap-free": "10240", "swap-used": "7168", "swap-cached": "3072", "swap_io-in": page,
			"swap_io-out": strconv.Itoa(4 * os.Getpagesize())},
	}
	for _, plugin := range plugins() {
		metrics, err := plugin.read(proc)
		if err != nil {
			t.Fatalf("%s: %v", plugin.name, err)
		}
		expected, listed := want[plugin.name]
		if !listed {
			continue // tests of their own
		}
		got := map[string]string{}
		for _, m := range metrics {
			got[m.name] = m.value
		}
		if diff := cmp.Diff(expected, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", plugin.name, diff)
		}
	}
}

func TestCPUPercentagesAreOfTheTimeSinceTheLastReading(t *testing.T) {
	usage := &cpuUsage{}
	first, err := usage.read(files(map[string]string{"stat": stat}))
	if err != nil || len(first) != 0 {
		t.Fatalf("the first reading gave %v, %v; nothing to count from is known yet", first, err)
	}
	// 100 ticks later: 50 user, 25 system, 25 wait; one idle tick was taken back.
	second, err := usage.read(files(map[string]string{"stat": "cpu  150 10 75 799 45 5 5 10 0 0\n"}))
	if err != nil {
		t.Fatal(err)
	}
	want := []metric{
		{"percent-user", "50.000000"}, {"percent-nice", "0.000000"}, {"percent-system", "25.000000"},
		{"percent-idle", "0.000000"}, {"percent-wait", "25.000000"}, {"percent-interrupt", "0.000000"},
		{"percent-softirq", "0.000000"}, {"percent-steal", "0.000000"},
	}
	if diff := cmp.Diff(want, second, cmp.AllowUnexported(metric{})); diff != "" {
		t.Errorf("second reading (-want +got):\n%s", diff)
	}
}

func TestCountersThatTheKernelRetiredAreZeroAndOthersAreNotMadeUp(t *testing.T) {
	proc := procFiles()
	names := func() map[string]string {
		metrics, err := readVirtualMemory(proc)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, m := range metrics {
			got[m.name] = m.value
		}
		return got
	}
	got := names()
	if len(got) != 44 {
		t.Errorf("%d counters, the farm's table has 44", len(got))
	}
	for name, want := range map[string]string{
		"vmpage_number-bounce": "0", "vmpage_number-writeback_temp": "0", "vmpage_number-active_file": "1000",
		"vmpage_action-written": "11", "vmpage_action-dirtied": "12",
	} {
		if got[name] != want {
			t.Errorf("%s = %q, want %q", name, got[name], want)
		}
	}
	proc["vmstat"].Data = []byte(strings.Replace(string(proc["vmstat"].Data), "nr_mlock ", "nr_other ", 1))
	if value, there := names()["vmpage_number-mlock"]; there {
		t.Errorf("vmpage_number-mlock = %q, but the kernel does not count it", value)
	}
}

func TestMachineIsSampledOnceAnIntervalUntilStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3500*time.Millisecond)
		defer cancel()
		begin := time.Now()
		stop := startSampling(ctx, procFiles(), time.Second)
		<-ctx.Done()
		samples, err := stop()
		if err != nil {
			t.Fatal(err)
		}
		var want []point
		for second := range 3 {
			epoch := strconv.FormatInt(begin.Unix()+int64(second)+1, 10) + ".000"
			want = append(want, point{Epoch: epoch, Value: "123456789012"})
		}
		file := "contextswitch" + begin.UTC().Format("-2006-01-02")
		if diff := cmp.Diff(want, samples[sampleHost]["contextswitch"][file]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	})
}

func TestPluginWhoseFilesAreMissingIsLeftOut(t *testing.T) {
	proc := procFiles()
	delete(proc, "sysvipc/shm")
	s := &sampler{proc: proc, plugins: plugins()}
	readings, err := s.read()
	if err != nil {
		t.Fatal(err)
	}
	if _, there := readings["ipc-shm"]; there || len(readings["ipc-sem"]) != 2 {
		t.Errorf("readings %v: want ipc-sem and no ipc-shm", readings)
	}
}

func TestUnreadableCounterStopsTheSamplingWithItsName(t *testing.T) {
	proc := procFiles()
	proc["vmstat"].Data = []byte("nr_dirty many\n")
	_, err := startSampling(t.Context(), proc, time.Hour)()
	if err == nil || !strings.Contains(err.Error(), "nr_dirty") {
		t.Errorf("error %v, want one that names nr_dirty", err)
	}
}

// The farm's tables and the sampler must agree on the columns, or rows are dropped without a word.
func TestEverySampledMetricIsAColumnOfTheFarmsTables(t *testing.T) {
	proc := procFiles()
	all := plugins()
	tables := map[string]pgperffarm.CollectdTable{}
	for _, table := range pgperffarm.CollectdTables() {
		tables[table.Name] = table
	}
	tableOf := map[string]string{"aggregation-cpu-average": "cpu", "processes": "process"}
	for _, plugin := range all {
		name := tableOf[plugin.name]
		if name == "" {
			name = strings.ReplaceAll(plugin.name, "-", "_")
		}
		if _, err := plugin.read(proc); err != nil {
			t.Fatal(err)
		}
		proc["stat"].Data = []byte(strings.Replace(stat, "cpu  100", "cpu  200", 1))
		metrics, err := plugin.read(proc)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range metrics {
			got = append(got, strings.ReplaceAll(m.name, "-", "_"))
		}
		if diff := cmp.Diff(tables[name].Columns, got, cmpopts.SortSlices(strings.Compare)); diff != "" {
			t.Errorf("%s (-columns +sampled):\n%s", plugin.name, diff)
		}
		proc["stat"].Data = []byte(stat)
	}
}
