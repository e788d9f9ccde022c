package pgbench

import (
	"encoding/json"
	"errors"
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func files(contents map[string]string) fstest.MapFS {
	system := fstest.MapFS{}
	for name, content := range contents {
		system[name] = &fstest.MapFile{Data: []byte(content)}
	}
	return system
}

func TestDistributionIsNamedAsLSBReleaseNamesIt(t *testing.T) {
	for _, test := range []struct {
		release string
		want    osInformation
	}{
		{
			"PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n",
			osInformation{"Debian", "Debian GNU/Linux 12 (bookworm)", "12", "bookworm"},
		},
		{
			"NAME='Fedora Linux'\nVERSION_ID=40\nVERSION_CODENAME=\"\"\nPRETTY_NAME=\"Fedora Linux 40\"\n",
			osInformation{"Fedora", "Fedora Linux 40", "40", "n/a"},
		},
		{"# nothing known\n", osInformation{"n/a", "n/a", "n/a", "n/a"}},
	} {
		got, err := describeOS(files(map[string]string{"os-release": test.release}))
		if err != nil {
			t.Fatal(err)
		}
		if got != test.want {
			t.Errorf("describeOS of %q = %+v, want %+v", test.release, got, test.want)
		}
	}
}

const (
	cpuinfo = "processor\t: 0\nmodel name\t: Example CPU: fast\ncpu MHz\t\t: 2299.998\n\n" +
		"processor\t: 1\nmodel name\t: Example CPU: fast\ncpu MHz\t\t: 1200.000\n"
	meminfo = "MemTotal:       1000 kB\nMemFree:         400 kB\nBuffers:          50 kB\nCached:          150 kB\n" +
		"SwapCached:        3 kB\nSwapTotal:        20 kB\nSwapFree:         10 kB\nSReclaimable:     60 kB\n" +
		"SUnreclaim:       40 kB\nHugePages_Total:   7\n"
	mounts = "proc /proc proc rw 0 0\n/dev/sda1 / ext4 rw,relatime 0 0\n/dev/sda1 /mnt/again ext4 ro 0 0\n" +
		"/dev/sdb /data xfs rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n"
)

func TestSystemIsDescribedFromProc(t *testing.T) {
	got, err := describeSystem(files(map[string]string{"cpuinfo": cpuinfo, "meminfo": meminfo, "mounts": mounts}))
	if err != nil {
		t.Fatal(err)
	}
	var want system
	want.CPU.Information = cpuInformation{Brand: "Example CPU: fast", HzActual: [2]int64{2299998000, 0}, Count: 2}
	want.Memory.Virtual.Total = 1000 * 1024
	want.Memory.Swap.Total = 20 * 1024
	want.Memory.Mounts = []mount{{"/dev/sda1", "/", "ext4", "rw,relatime"}, {"/dev/sdb", "/data", "xfs", "rw"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("describeSystem (-want +got):\n%s", diff)
	}
}

func TestProcessorWithoutNameOrFrequencyIsStillDescribed(t *testing.T) {
	got, err := describeCPU(files(map[string]string{"cpuinfo": "processor\t: 0\nBogoMIPS\t: 50.00\n\nprocessor\t: 1\n"}))
	if err != nil {
		t.Fatal(err)
	}
	if want := (cpuInformation{Brand: "unknown", Count: 2}); got != want {
		t.Errorf("describeCPU = %+v, want %+v", got, want)
	}
}

func TestMachineWithoutProcIsRefusedNamingTheFile(t *testing.T) {
	for _, missing := range []string{"cpuinfo", "meminfo", "mounts"} {
		contents := map[string]string{"cpuinfo": cpuinfo, "meminfo": meminfo, "mounts": mounts}
		delete(contents, missing)
		_, err := describeSystem(files(contents))
		if pathError, ok := errors.AsType[*fs.PathError](err); !ok || pathError.Path != missing {
			t.Errorf("without %s: error %v, want one that names the file", missing, err)
		}
	}
}

func TestOnlyParametersThatConcernABenchmarkAreSent(t *testing.T) {
	text, err := describeSysctl(files(map[string]string{
		"vm/swappiness":              "60\n",
		"vm/lowmem_reserve_ratio":    "256\t256\t32\n",
		"kernel/shmmax":              "18446744073692774399\n",
		"kernel/sched_rt_runtime_us": "950000\n",
		"kernel/hostname":            "secret-name\n",
		"kernel/random/boot_id":      "0123\n",
		"kernel/core_pattern":        "|/usr/lib/handler\n",
	}))
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"vm.swappiness": "60", "vm.lowmem_reserve_ratio": "256\t256\t32", "kernel.shmmax": "18446744073692774399",
		"kernel.sched_rt_runtime_us": "950000",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("describeSysctl (-want +got):\n%s", diff)
	}
}
