package projection

import (
	"context"
	"fmt"
	"log/slog"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/millrace/millrace/processor/pgperffarm"
	"github.com/millrace/millrace/processor/pgperffarm/farmdoc"
	"github.com/millrace/millrace/schemas/clickhouse"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

const (
	benchSeries  = 50
	benchSamples = 200
	benchEvents  = 1000
)

// sampleEvents gives events with samples of some series, one a second; each round goes on where the former ended.
func sampleEvents(round int) ([]*event.RunSamplesRecorded, []*eventlog.Record) {
	messages, records := make([]*event.RunSamplesRecorded, benchEvents), make([]*eventlog.Record, benchEvents)
	start := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC).UnixMilli()
	for i := range messages {
		m := &event.RunSamplesRecorded{
			RunId: uint64(round + 1), MachineId: 1, ConfigId: 2, BranchId: 1, Metric: fmt.Sprintf("collectd.cpu.%d", i%benchSeries),
			Times: make([]int64, benchSamples), Values: make([]float64, benchSamples),
		}
		first := (round*benchEvents + i) / benchSeries * benchSamples
		for j := range benchSamples {
			m.Times[j], m.Values[j] = start+int64(first+j)*1000, float64((i*31+j*7)%1000)/8
		}
		messages[i], records[i] = m, &eventlog.Record{Event: eventlog.Event{ID: uuid.New()}}
	}
	return messages, records
}

func fillBatch(b *testing.B, batch *Batch, messages []*event.RunSamplesRecorded, records []*eventlog.Record) {
	batch.Reset()
	for i, m := range messages {
		if err := batch.AddSamples(m, records[i]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAddSamples(b *testing.B) {
	messages, records := sampleEvents(0)
	batch := NewBatch()
	b.ReportAllocs()
	for b.Loop() {
		fillBatch(b, batch, messages, records)
	}
	b.ReportMetric(float64(b.N*batch.Rows())/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkWriteMetrics writes decoded events, trends included, and beside them the same columns with nothing but
// clickhouse-go. Its ratio is the bare insert's time to ours; rows/cpu-s are rows per second of this process's processor
// time.
func BenchmarkWriteMetrics(b *testing.B) {
	db := openEngine(b)
	addGeneration(b, db, 2)
	w := runWriter(b, db)
	batch := NewBatch()
	var ours, bare time.Duration
	var cpu float64
	rows := 0
	for round := 0; b.Loop(); round++ {
		messages, records := sampleEvents(round)
		started, cpuStarted := time.Now(), cpuSeconds()
		fillBatch(b, batch, messages, records)
		if err := w.Write(context.Background(), batch, uuid.NewString(), false); err != nil {
			b.Fatal(err)
		}
		ours, cpu = ours+time.Since(started), cpu+cpuSeconds()-cpuStarted
		rows += batch.Rows()
		bare += bareInsert(b, db, &batch.metrics)
	}
	b.ReportMetric(float64(rows)/ours.Seconds(), "rows/s")
	b.ReportMetric(float64(rows)/bare.Seconds(), "bare-rows/s")
	b.ReportMetric(bare.Seconds()/ours.Seconds(), "ratio")
	b.ReportMetric(float64(rows)/cpu, "rows/cpu-s")
}

// runWriter gives a writer whose Run goes on until the benchmark ends.
func runWriter(b *testing.B, db *clickhouse.DB) *Writer {
	w := NewWriter(db, 1)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = w.Run(ctx, slog.New(slog.DiscardHandler), nil)
	}()
	b.Cleanup(func() {
		stop()
		<-ended
	})
	return w
}

// bareInsert inserts samples into generation 2 from columns that are ready, and gives the time from prepare to sent.
func bareInsert(b *testing.B, db *clickhouse.DB, s *samples) time.Duration {
	parts, n := s.parts(0, s.rows()), s.rows()
	ids := func(id func(*segment) uint64) []uint64 { return spread(make([]uint64, n), parts, id) }
	columns := []any{
		ids(func(s *segment) uint64 { return s.Machine }), ids(func(s *segment) uint64 { return s.Config }),
		ids(func(s *segment) uint64 { return s.Branch }), spread(make([]string, n), parts, func(s *segment) string { return s.Metric }),
		s.times, spread(make([]uuid.UUID, n), parts, func(s *segment) uuid.UUID { return s.event }), ordinals(parts, n),
		ids(func(s *segment) uint64 { return s.run }), ids(func(s *segment) uint64 { return s.result }), s.values,
	}
	started := time.Now()
	batch, err := db.PrepareBatch(context.Background(), "INSERT INTO `"+db.Generation(2)+"`.metrics ("+metricsTable.columns+")")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = batch.Close() }()
	for i, column := range columns {
		if err := batch.Column(i).Append(column); err != nil {
			b.Fatal(err)
		}
	}
	if err := batch.Send(); err != nil {
		b.Fatal(err)
	}
	return time.Since(started)
}

func cpuSeconds() float64 {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

// BenchmarkWriteRuns writes batches of uploads of about 2 KB and 100 KB, trends included. All are of one machine and one
// week, the worst case for trends.
func BenchmarkWriteRuns(b *testing.B) {
	for name, sized := range map[string]func(farmdoc.Options) farmdoc.Options{"2KB": farmdoc.Small, "100KB": farmdoc.Large} {
		b.Run(name, func(b *testing.B) {
			db := openEngine(b)
			w, l, batch := runWriter(b, db), newLab(b), NewBatch()
			runs, rows := 0, 0
			for b.Loop() {
				b.StopTimer()
				uploads := make([]upload, 100)
				for i := range uploads {
					uploads[i] = l.accept(parsed(b, sized, runs+i))
				}
				b.StartTimer()
				batch.Reset()
				for _, u := range uploads {
					if err := l.add(batch, u); err != nil {
						b.Fatal(err)
					}
				}
				if err := w.Write(context.Background(), batch, uuid.NewString(), false); err != nil {
					b.Fatal(err)
				}
				runs, rows = runs+len(uploads), rows+batch.Rows()
			}
			b.ReportMetric(float64(runs)/b.Elapsed().Seconds(), "runs/s")
			b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

func parsed(b *testing.B, sized func(farmdoc.Options) farmdoc.Options, number int) *pgperffarm.Document {
	options := sized(farmdoc.Options{Seed: uint64(number), Start: time.Date(2026, 3, 2, 0, 0, number, 0, time.UTC)})
	doc, err := pgperffarm.Parse(farmdoc.Synthetic(options), pgperffarm.DefaultLimits())
	if err != nil {
		b.Fatal(err)
	}
	return doc
}
