package projection

import (
	"fmt"

	"github.com/millrace/millrace/processor/pgperffarm"
)

// addResultMetrics adds what a result measured: its averages at its start, the transactions (log.tps) and the mean
// latency (log.latency, ms) of each second over all threads, and every column of collectd's tables. Those of custom
// scripts have names of their own, since they cannot be compared.
//
// Their number is bounded by the document's size and by the limits on its rows.
func (r *run) addResultMetrics(row *resultRow) {
	prefix := ""
	if row.Custom {
		prefix = "custom."
	}
	target := segment{Series: Series{Machine: r.machine, Config: row.config, Branch: r.branch}, run: r.id, result: row.id}
	start := []int64{row.milliseconds("start", row.Start)}
	r.addMetric(&row.checks, target, prefix+"tps", start, []float64{row.TPS})
	r.addMetric(&row.checks, target, prefix+"latency", start, []float64{row.Latency})
	r.addMetric(&row.checks, target, prefix+"init", start, []float64{row.Init})
	r.addLogMetrics(&row.checks, target, prefix+"log.", row.Log)
	for i := range row.Collectd {
		r.addCollectdMetrics(&row.checks, target, prefix+"collectd."+row.Collectd[i].Name+".", &row.Collectd[i])
	}
}

// addMetric adds samples of one metric. It keeps neither slice.
func (r *run) addMetric(c *checks, target segment, metric string, times []int64, values []float64) {
	if len(values) == 0 {
		return
	}
	for i := range values {
		if err := checkSample(times[i], values[i]); err != nil {
			c.fail("metric %q: %w", metric, err)
			return
		}
	}
	m := &r.batch.metrics
	target.Metric, target.event, target.ordinal, target.first = metric, r.rec.ID, r.samples, len(m.values)
	m.segments = append(m.segments, target)
	m.times, m.values = append(m.times, times...), append(m.values, values...)
	r.samples += uint32(len(values))
}

// second sums the log lines of one second. Sums are exact up to 2^53.
type second struct{ time, transactions, latency float64 }

func (r *run) addLogMetrics(c *checks, target segment, prefix string, lines []pgperffarm.LogLine) {
	seconds := bySecond(lines)
	r.times, r.values = r.times[:0], r.values[:0]
	for _, s := range seconds {
		r.times, r.values = append(r.times, c.milliseconds("a log line", s.time)), append(r.values, s.transactions)
	}
	r.addMetric(c, target, prefix+"tps", r.times, r.values)
	r.times, r.values = r.times[:0], r.values[:0]
	for _, s := range seconds {
		if s.transactions > 0 {
			r.times = append(r.times, c.milliseconds("a log line", s.time))
			r.values = append(r.values, s.latency/s.transactions/1000)
		}
	}
	r.addMetric(c, target, prefix+"latency", r.times, r.values)
}

// bySecond joins the files of an invocation's threads, which mostly list the same seconds in the same order.
func bySecond(lines []pgperffarm.LogLine) []second {
	var seconds []second
	index := make(map[int64]int)
	next := 0
	for i := range lines {
		line := &lines[i]
		at := next
		if at >= len(seconds) || seconds[at].time != float64(line.Second) {
			var known bool
			if at, known = index[line.Second]; !known {
				at = len(seconds)
				index[line.Second] = at
				seconds = append(seconds, second{time: float64(line.Second)})
			}
		}
		seconds[at].transactions += float64(line.Transactions)
		seconds[at].latency += float64(line.Sum)
		next = at + 1
	}
	return seconds
}

func (r *run) addCollectdMetrics(c *checks, target segment, prefix string, plugin *pgperffarm.CollectdPlugin) {
	times := make([]int64, len(plugin.Rows))
	for i := range plugin.Rows {
		times[i] = c.milliseconds("an epoch of collectd's "+plugin.Name, plugin.Rows[i].Epoch)
	}
	for column, name := range plugin.Columns {
		r.values = r.values[:0]
		for i := range plugin.Rows {
			if plugin.Float {
				r.values = append(r.values, plugin.Rows[i].Floats[column])
			} else {
				r.values = append(r.values, float64(plugin.Rows[i].Ints[column]))
			}
		}
		r.addMetric(c, target, prefix+name, times, r.values)
	}
}

// addTPCHMetrics adds the scores and the seconds of each query at the run's start.
func (r *run) addTPCHMetrics(t *pgperffarm.TPCH, config uint64) {
	target := segment{Series: Series{Machine: r.machine, Config: config, Branch: r.branch}, run: r.id}
	start := []int64{r.doc.Start.UnixMilli()}
	add := func(metric string, value float64) {
		r.addMetric(&r.checks, target, "tpch."+metric, start, []float64{value})
	}
	add("power", t.Power)
	add("throughput", t.Throughput)
	add("composite", t.QphH)
	for _, q := range t.Queries {
		if q.Power != nil {
			add(fmt.Sprintf("query.%d.power", q.Index), *q.Power)
		}
		if q.Throughput != nil {
			add(fmt.Sprintf("query.%d.throughput", q.Index), *q.Throughput)
		}
	}
}
