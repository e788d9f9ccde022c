package pgbench

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	selectLine = "SELECT abalance FROM pgbench_accounts WHERE aid = :aid;"
	aidLine    = `\set aid random(1, 100000 * :scale)`
	bidLine    = `\set bid random(1, 1 * :scale)`
	updateLine = "UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;"
)

func latencies(pairs ...string) string {
	var lines strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		lines.WriteString("\n         " + pairs[i] + "  " + pairs[i+1])
	}
	return lines.String() + "\n"
}

func tpcbLatencies(ms ...string) string {
	statements := []string{
		aidLine, bidLine, `\set tid random(1, 10 * :scale)`, `\set delta random(-5000, 5000)`, "BEGIN;", updateLine,
		selectLine, "UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;",
		"UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;",
		"INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);",
		"END;",
	}
	var pairs []string
	for i, statement := range statements {
		pairs = append(pairs, ms[i], statement)
	}
	return latencies(pairs...)
}

func TestReportsOfEveryReleaseGiveTheSameMembers(t *testing.T) {
	for file, want := range map[string]Output{
		"pgbench-13-rw.txt": {
			Mode: "simple", Clients: "4", Threads: "4", Latency: "1.032", TPS: "3879.650017",
			StatementLatencies: tpcbLatencies("0.001", "0.000", "0.000", "0.000", "0.041", "0.092", "0.061", "0.131", "0.204",
				"0.056", "0.438"),
		},
		"pgbench-14-ro.txt": {
			Mode: "prepared", Clients: "2", Threads: "2", Latency: "0.098", TPS: "20451.180343",
			StatementLatencies: latencies("0.001", aidLine, "0.097", selectLine),
		},
		"pgbench-15-ro.txt": {
			Mode: "simple", Clients: "1", Threads: "1", Latency: "0.080", TPS: "12439.672060",
			StatementLatencies: latencies("0.000", aidLine, "0.080", selectLine),
		},
		"pgbench-15-rw.txt": {
			Mode: "simple", Clients: "8", Threads: "8", Latency: "4.201", TPS: "1904.280810",
			StatementLatencies: tpcbLatencies("0.001", "0.000", "0.000", "0.000", "0.103", "0.150", "0.148", "1.350", "1.898",
				"0.109", "0.428"),
		},
		"pgbench-16-ro.txt": {
			Mode: "extended", Clients: "16", Threads: "16", Latency: "0.187", TPS: "85711.902466",
			StatementLatencies: latencies("0.000", aidLine, "0.186", selectLine),
		},
		"pgbench-17-rw-retries.txt": {
			Mode: "simple", Clients: "8", Threads: "8", Latency: "2.633", TPS: "3038.470113",
			StatementLatencies: latencies("0.001", aidLine, "0.000", bidLine, "0.062", "BEGIN;", "0.412", updateLine,
				"0.071", selectLine, "1.921", "END;"),
		},
	} {
		t.Run(file, func(t *testing.T) {
			got, err := ParseOutput(readTestdata(t, file))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("ParseOutput (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReportWithAMemberMissingIsRefusedNamingIt(t *testing.T) {
	report := readTestdata(t, "pgbench-15-ro.txt")
	for _, test := range []struct{ line, name string }{
		{"query mode: simple", "query mode"},
		{"number of clients: 1", "number of clients"},
		{"number of threads: 1", "number of threads"},
		{"latency average = 0.080 ms", "latency average"},
		{"tps = 12439.672060 (without initial connection time)", "tps"},
		{"statement latencies in milliseconds and failures:", "statement latencies"},
	} {
		without := strings.Replace(report, test.line+"\n", "", 1)
		if without == report {
			t.Fatalf("the sample has no line %q", test.line)
		}
		_, err := ParseOutput(without)
		if err == nil || !strings.Contains(err.Error(), test.name) {
			t.Errorf("without %q: error %v, want one that names %q", test.line, err, test.name)
		}
	}
}

func TestNumbersThatAreNotDecimalsAreRefused(t *testing.T) {
	report := readTestdata(t, "pgbench-15-ro.txt")
	for _, bad := range []string{"nan", "inf", "-inf", "-1.5", "1e3", ".5", "5.", "1.2.3"} {
		_, err := ParseOutput(strings.Replace(report, "12439.672060", bad, 1))
		if err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("tps %q: error %v, want one that shows the number", bad, err)
		}
	}
}

func FuzzParseOutput(f *testing.F) {
	files, err := filepath.Glob("testdata/pgbench-*.txt")
	if err != nil || len(files) == 0 {
		f.Fatalf("no samples: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		out, err := ParseOutput(text)
		if err != nil {
			return
		}
		for _, number := range []string{out.Latency, out.TPS} {
			if value, err := strconv.ParseFloat(number, 64); err != nil || value < 0 {
				t.Errorf("accepted the number %q", number)
			}
		}
		for line := range strings.SplitSeq(strings.Trim(out.StatementLatencies, "\n"), "\n") {
			fields := strings.Fields(line)
			if len(fields) < 2 || !isDecimal(fields[0]) {
				t.Errorf("statement line %q is not a latency and a statement", line)
			}
		}
	})
}

func readTestdata(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
