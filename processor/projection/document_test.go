package projection

import (
	"math"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/processor/pgperffarm"
	"github.com/millrace/millrace/processor/runs"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// lab folds uploads as the log would, and keeps what AddRun wants of each.
type lab struct {
	tb    testing.TB
	state *runs.State
	next  int64
}

func newLab(tb testing.TB) *lab { return &lab{tb: tb, state: runs.NewState()} }

// upload is an accepted upload.
type upload struct {
	message *event.FarmUploadRequested
	doc     *pgperffarm.Document
	outcome runs.Outcome
	rec     *eventlog.Record
}

// accept appends the upload of a document by machine 7 to the lab's log.
func (l *lab) accept(doc *pgperffarm.Document) upload {
	l.tb.Helper()
	u := upload{doc: doc, message: &event.FarmUploadRequested{
		MachineId: 7, MachineType: doc.MachineType, StartTime: doc.Start.UnixMicro(),
	}}
	for _, term := range doc.Terms() {
		u.message.Terms = append(u.message.Terms, &event.Term{Kind: event.TermKind(term.Kind), Hash: term.Hash[:]})
	}
	u.rec = l.record(u.message)
	if u.outcome = runs.Apply(l.state, u.rec); u.outcome.Result != runs.Accepted {
		l.tb.Fatalf("the fold does not accept the upload: %+v", u.outcome)
	}
	return u
}

// record gives a message the next place in the log. Its id follows from the place.
func (l *lab) record(m proto.Message) *eventlog.Record {
	l.tb.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		l.tb.Fatal(err)
	}
	l.next++
	id := uuid.UUID{0: 0x01, 6: 0x70, 8: 0x80, 13: byte(l.next >> 16), 14: byte(l.next >> 8), 15: byte(l.next)}
	return &eventlog.Record{
		Event:  eventlog.Event{ID: id, Type: string(m.ProtoReflect().Descriptor().FullName()), Data: data},
		Offset: l.next, LogTime: time.Date(2021, 7, 2, 12, 0, 0, 250e6, time.UTC).UnixMilli() + l.next,
	}
}

func (l *lab) add(b *Batch, u upload) error {
	return b.AddRun(u.outcome.Run, u.message, u.doc, u.outcome, l.state, u.rec)
}

func ptr[T any](v T) *T { return &v }

var runStart = time.Date(2021, 7, 2, 11, 0, 0, 500_000, time.UTC)

// pgbenchDocument holds one of everything that needs care: two results of one configuration that share a log of two
// threads, a custom one, every number at its limit, texts with quotes and characters of other scripts.
func pgbenchDocument() *pgperffarm.Document {
	unix := float64(runStart.Unix())
	log := []pgperffarm.LogLine{
		{Second: runStart.Unix(), Transactions: 799, Sum: 7910100, Sum2: 78309990000, Min: 610, Max: 15020},
		{Second: runStart.Unix() + 1, Transactions: 0, Sum: 0, Sum2: 0, Min: 0, Max: 0},
		{Second: runStart.Unix(), Transactions: 1, Sum: 900, Sum2: math.MaxInt64, Min: 900, Max: 900},
	}
	doc := environment()
	doc.Benchmark = pgperffarm.BenchmarkPgbench
	doc.Custom = true
	doc.Results = []pgperffarm.Result{
		{
			Clients: 8, Scale: 20, Duration: 120, ReadOnly: true, TPS: 801.25, Latency: 9.9, Mode: "simple",
			Start: unix + 0.5, End: unix + 120.75, Iteration: 0, Init: 4.25, Log: log,
			Statements: []pgperffarm.Statement{
				{Line: 0, Latency: 0.003, Text: "SELECT 1;"},
				{Line: 1, Latency: 1e-7, Text: `SELECT "größe" FROM t WHERE a = '\' AND b < '</script>';`},
			},
			StatStatements: []pgperffarm.StatStatement{statStatement(), {Query: "SELECT 1;"}},
			Collectd:       collectd(unix),
		},
		{
			Clients: 8, Scale: 20, Duration: 120, ReadOnly: true, TPS: 1e21, Latency: 0.1, Mode: "simple",
			Start: unix + 0.5, End: unix + 120.75, Iteration: 0, Init: 0, Log: log,
			Statements: []pgperffarm.Statement{{Line: 0, Latency: 0.004, Text: "SELECT 1;"}},
		},
		{
			Clients: 1, Scale: 1, Duration: math.MaxInt32, Custom: true, TPS: 3, Latency: 300, Start: unix + 1,
			End: unix + 2, Iteration: 1, Init: 0.5, Collectd: collectd(unix)[1:],
		},
	}
	return doc
}

func environment() *pgperffarm.Document {
	return &pgperffarm.Document{
		Repository: "https://github.com/postgres/postgres.git", Branch: "master", Commit: "5d0e6b1f0c9a4b7e8d2f3a6c1b0e9d8c7b6a5f4e",
		System: pgperffarm.System{
			Kernel:      pgperffarm.Kernel{Name: "Linux", Release: "5.12.9", Version: "#1 SMP"},
			OS:          pgperffarm.OS{Distributor: "Fedora", Description: "Fedora release 34", Release: "34", Codename: "ThirtyFour"},
			MachineType: "aarch64",
			Hardware: pgperffarm.Hardware{
				CPUBrand: "Example CPU", Hz: 3_000_000_000, Cores: 16, TotalMemory: 34359738368, Mounts: "[]",
				Sysctl: `{"vm.swappiness":"10"}`,
			},
			Compiler: "clang 12.0.0",
			Settings: []pgperffarm.Setting{
				{Name: "work_mem", Source: "configuration file", Value: "65536"},
				{Name: "port", Source: "command line", Value: "5433"},
			},
		},
		Received: runStart.Add(-2 * time.Minute), Start: runStart,
		Runtimes: pgperffarm.Runtimes{GitPull: ptr(2250 * time.Millisecond), Cleanup: ptr(-125 * time.Millisecond)},
	}
}

func statStatement() pgperffarm.StatStatement {
	return pgperffarm.StatStatement{
		QueryID: ptr(int64(math.MinInt64)), Query: "SELECT abalance\nFROM t",
		UserID: ptr(int64(10)), DBID: ptr(int64(16384)), Plans: ptr(int64(0)), Calls: ptr(int64(math.MaxInt64)), Rows: ptr(int64(9007199254740993)),
		SharedBlksHit: ptr(int64(1)), SharedBlksRead: ptr(int64(2)), SharedBlksDirtied: ptr(int64(3)), SharedBlksWritten: ptr(int64(4)),
		LocalBlksHit: ptr(int64(5)), LocalBlksRead: ptr(int64(6)), LocalBlksDirtied: ptr(int64(7)), LocalBlksWritten: ptr(int64(8)),
		TempBlksRead: ptr(int64(9)), TempBlksWritten: ptr(int64(10)),
		WALRecords: ptr(int64(11)), WALFPI: ptr(int64(12)), WALBytes: ptr(int64(4294967296)),
		TotalPlanTime: ptr(0.0), MinPlanTime: ptr(0.1), MaxPlanTime: ptr(0.2), MeanPlanTime: ptr(0.30000000000000004), StddevPlanTime: ptr(5e-324),
		TotalExecTime: ptr(1.7976931348623157e308), MinExecTime: ptr(1e-6), MaxExecTime: ptr(1e20), MeanExecTime: ptr(123456789.125), StddevExecTime: ptr(1.0),
		BlkReadTime: ptr(2.5),
	}
}

func collectd(unix float64) []pgperffarm.CollectdPlugin {
	tables := pgperffarm.CollectdTables()
	return []pgperffarm.CollectdPlugin{
		{CollectdTable: tables[0], Rows: []pgperffarm.CollectdRow{
			{Epoch: unix + 0.25, Floats: []float64{1.5, 2, 96.5, 0, 0, 0, 0, 0}},
			{Epoch: unix + 10.123, Floats: []float64{99.9, 0.1, 0, 0, 0, 0, 0, 0}},
		}},
		{CollectdTable: tables[2], Rows: []pgperffarm.CollectdRow{{Epoch: unix + 0.25, Ints: []int64{math.MaxInt64}}}},
	}
}

func tpchDocument() *pgperffarm.Document {
	doc := environment()
	doc.Benchmark = pgperffarm.BenchmarkTPCH
	doc.Start, doc.End = runStart.Add(time.Hour), runStart.Add(2*time.Hour)
	doc.TPCH = &pgperffarm.TPCH{
		ScaleFactor: 10, Streams: 3, Power: 2500.5, Throughput: 1600, QphH: 2000.2,
		Queries: []pgperffarm.TPCHQuery{
			{Index: 1, Power: ptr(12.5), Throughput: ptr(18.75)}, {Index: 2, Power: ptr(0.5)}, {Index: 22, Throughput: ptr(4.0)},
		},
	}
	return doc
}
