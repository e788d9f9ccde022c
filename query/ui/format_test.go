package ui

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/query/native/lab"
)

func TestNumbersAreShownWithAboutFourDigits(t *testing.T) {
	for value, want := range map[float64]string{
		0: "0", 1: "1", 1234567.8: "1\u2009234\u2009568", 999.96: "1000", 12.345: "12.35", 0.123456: "0.1235", 0.00012346: "0.0001235",
		-4321: "−4\u2009321", 1e-9: "1.00e-09", 3e14: "3.00e+14", 100: "100", 0.5: "0.5",
	} {
		if got := number(value); got != want {
			t.Errorf("number(%v) is %q, want %q", value, got, want)
		}
	}
	for fraction, want := range map[float64]string{0.1234: "+12.3\u2009%", -0.5: "−50.0\u2009%", 0.0001: "±0 %", 10: "×11"} {
		if got := signed(fraction); got != want {
			t.Errorf("signed(%v) is %q, want %q", fraction, got, want)
		}
	}
	for bytes, want := range map[int64]string{0: "0 B", 1023: "1\u2009023 B", 8 << 30: "8 GiB", 1536: "1.5 KiB"} {
		if got := size(bytes); got != want {
			t.Errorf("size(%d) is %q, want %q", bytes, got, want)
		}
	}
}

func TestMetricsHaveNamesAndUnits(t *testing.T) {
	for metric, want := range map[string][2]string{
		"tps":                    {"Transactions per second", "tps"},
		"custom.latency":         {"Mean latency, custom script", "ms"},
		"tpch.query.7.power":     {"tpch.query.7.power", "s"},
		"collectd.memory.free":   {"collectd.memory.free", ""},
		"custom.log.tps":         {"Transactions in each second, custom script", "tps"},
		"custom.something.other": {"custom.something.other", ""},
	} {
		if got := [2]string{metricTitle(metric), unit(metric)}; got != want {
			t.Errorf("metric %s is %v, want %v", metric, got, want)
		}
	}
}

func TestSeriesIsPickedByWhatMattersMost(t *testing.T) {
	of := func(config, branch uint64, metric string) lab.Series {
		return lab.Series{MachineID: 1, ConfigID: config, BranchID: branch, Metric: metric}
	}
	var series []lab.SeriesCount
	for _, s := range []lab.Series{
		of(1, 1, "init"), of(1, 1, "tps"), of(1, 2, "tps"), of(2, 1, "log.tps"), of(2, 2, "latency"), of(2, 2, "tps"),
		of(1, 1, "tpch.composite"), of(1, 1, "tpch.power"),
	} {
		series = append(series, lab.SeriesCount{MachineID: 1, ConfigID: s.ConfigID, BranchID: s.BranchID, Metric: s.Metric, Samples: 9})
	}
	for name, tc := range map[string]struct {
		asked asked
		want  lab.Series
	}{
		"nothing":               {asked{}, of(1, 1, "tps")},
		"all":                   {asked{config: "2", branch: 2, metric: "latency"}, of(2, 2, "latency")},
		"metric only":           {asked{metric: "log.tps"}, of(2, 1, "log.tps")},
		"configuration":         {asked{config: "2"}, of(2, 2, "tps")},
		"branch lacks metric":   {asked{config: "2", branch: 1, metric: "tps"}, of(2, 1, "log.tps")},
		"branch not there":      {asked{config: "1", branch: 9, metric: "init"}, of(1, 1, "init")},
		"TPC-H":                 {asked{config: "tpch-1"}, of(1, 1, "tpch.composite")},
		"TPC-H and its metric":  {asked{config: "tpch-1", metric: "tpch.power"}, of(1, 1, "tpch.power")},
		"configuration unknown": {asked{config: "77", branch: 2}, of(1, 2, "tps")},
	} {
		if got := pick(series, tc.asked); got != tc.want {
			t.Errorf("%s: %+v, want %+v", name, got, tc.want)
		}
	}
}

func TestMetricsAreGrouped(t *testing.T) {
	groups := groupMetrics([]string{"collectd.cpu.idle", "init", "log.tps", "queue.depth", "tps"}, "tps")
	var got []string
	for _, g := range groups {
		for _, o := range g.Options {
			line := g.Label + ": " + o.Label
			if o.Chosen {
				line += " *"
			}
			got = append(got, line)
		}
	}
	want := []string{
		"Result: Time to fill the tables", "Result: Transactions per second *", "In each second: Transactions in each second",
		"System: collectd.cpu.idle", "Samples: queue.depth",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

func TestDifferencesOfSettings(t *testing.T) {
	set := func(name, value string) lab.Setting {
		return lab.Setting{Name: name, Value: value, Source: "configuration file"}
	}
	before := []lab.Setting{set("work_mem", "4096"), set("jit", "on"), set("gone", "1")}
	after := []lab.Setting{set("jit", "on"), set("work_mem", "65536"), set("new", "2")}
	want := []settingDiff{{"gone", "1", ""}, {"new", "", "2"}, {"work_mem", "4096", "65536"}}
	if got := diff(before, after); !cmp.Equal(got, want) {
		t.Errorf("differences are %v, want %v", got, want)
	}
}

func TestLinksLeaveOutWhatIsNotSaid(t *testing.T) {
	if got := link("/ui/trend", "machine", uint64(1), "config", "0", "metric", "a&b", "branch", ""); got != "/ui/trend?config=0&machine=1&metric=a%26b" {
		t.Errorf("the link is %s", got)
	}
	if got := link("/ui"); got != "/ui" {
		t.Errorf("the link is %s", got)
	}
}

func TestLastValueIsComparedWithTheMedianBefore(t *testing.T) {
	for name, tc := range map[string]struct {
		values []float64
		want   float64
		none   bool
	}{
		"up":         {values: []float64{9, 10, 11, 12}, want: 0.2},
		"even":       {values: []float64{8, 10, 12, 14, 5.5}, want: -0.5},
		"too few":    {values: []float64{1, 2, 3}, none: true},
		"from zeros": {values: []float64{0, 0, 0, 4}, none: true},
	} {
		got := change(tc.values)
		if (got == nil) != tc.none || got != nil && (*got-tc.want > 1e-12 || tc.want-*got > 1e-12) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestSmallChartsStayWithinTheirFrame(t *testing.T) {
	for _, values := range [][]float64{{1}, {2, 2, 2}, {1, 5, 3}} {
		s := sparkOf(values)
		if n := len(strings.Fields(s.Points)); n != len(values) {
			t.Errorf("%v gives %d points: %s", values, n, s.Points)
		}
	}
	if got := sparkOf([]float64{1, 5, 3}).Points; got != "3.0,29.0 60.0,3.0 117.0,16.0" {
		t.Errorf("points are %s", got)
	}
}
