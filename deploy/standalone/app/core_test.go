package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace/noop"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/deploy/standalone/config"
	chengine "github.com/millrace/millrace/deploy/standalone/engines/clickhouse"
	"github.com/millrace/millrace/processor"
	"github.com/millrace/millrace/processor/pgperffarm"
	"github.com/millrace/millrace/processor/pgperffarm/farmdoc"
	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/processor/runs"
	"github.com/millrace/millrace/processor/sink"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// TestMain lets this binary be the embedded ClickHouse's child.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == chengine.ChildCommand {
		if err := chengine.RunChild(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// pipeline is a running core with its processor.
type pipeline struct {
	*core
	processor *processor.Service
	stop      func()
}

func startPipeline(t testing.TB, folder string) *pipeline {
	t.Helper()
	c := config.Default()
	c.Data = folder
	logger := slog.New(slog.NewTextHandler(io.Discard, nil))
	if testing.Verbose() {
		logger = slog.Default()
	}
	metrics := prometheus.NewRegistry()
	k, err := openCore(t.Context(), Options{Role: Standalone, Config: c, Progress: io.Discard, Logger: logger}, metrics, keyMayBeNew)
	if err != nil {
		t.Fatal(err)
	}
	service, err := processor.New(sinkConfig(c.Processor), processor.Dependencies{
		Client: k.log, DB: k.db, Generation: k.generation, Appender: k.appender, Packer: k.packer, Epoch: k.epoch,
		CodeVersion: "test", Registry: metrics, Tracer: noop.NewTracerProvider().Tracer(""), Logger: logger,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := service.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	group, ctx := errgroup.WithContext(ctx)
	for _, run := range []func(context.Context) error{k.registry.Run, k.runs.Run, k.generation.Run, service.Run} {
		group.Go(func() error { return run(ctx) })
	}
	l := &pipeline{core: k, processor: service}
	stopped := false
	l.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := group.Wait(); !errors.Is(err, context.Canceled) {
			t.Errorf("the core ended with %v", err)
		}
		k.close()
	}
	t.Cleanup(l.stop)
	return l
}

func (l *pipeline) upload(t testing.TB, machine uint64, start time.Time, seed uint64) runs.Outcome {
	t.Helper()
	body := farmdoc.Synthetic(farmdoc.Small(farmdoc.Options{Seed: seed, Start: start}))
	doc, err := pgperffarm.Parse(body, pgperffarm.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	packed, err := l.packer.Pack(t.Context(), body)
	if err != nil {
		t.Fatal(err)
	}
	request := &event.FarmUploadRequested{
		MachineId: machine, MachineType: doc.MachineType, StartTime: doc.Start.UnixMicro(), Document: packed,
	}
	for _, term := range doc.Terms() {
		request.Terms = append(request.Terms, &event.Term{Kind: event.TermKind(term.Kind), Hash: term.Hash[:]})
	}
	e, err := eventlog.NewEvent("/test", request)
	if err != nil {
		t.Fatal(err)
	}
	outcome, _, err := l.runs.Decide(t.Context(), l.appender, e)
	if err != nil {
		t.Fatal(err)
	}
	return outcome
}

// awaitProjected waits until everything that is in the log now is projected.
func (l *pipeline) awaitProjected(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ends, err := l.log.Ends(ctx, l.log.Partitions()...)
	if err != nil {
		t.Fatal(err)
	}
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for range ticker.C {
		marks, err := l.log.Committed(ctx, sink.Group(l.generation.Number()), l.log.Partitions()...)
		if err != nil {
			t.Fatal(err)
		}
		reached := true
		for partition, end := range ends {
			reached = reached && max(0, marks[partition].Offset) >= end
		}
		if reached {
			return
		}
	}
}

func (l *pipeline) count(t testing.TB, table string) uint64 {
	t.Helper()
	var n uint64
	if err := l.db.QueryRow(t.Context(), "SELECT count() FROM `"+l.generation.Database()+"`."+table+" FINAL").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestARebuildUnderWritesLosesNothingAndShiftsNoNumber(t *testing.T) {
	folder := t.TempDir()
	p := startPipeline(t, folder)
	begin := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	stored := uint64(0)
	next := func() {
		stored++
		if outcome := p.upload(t, 1, begin.Add(time.Duration(stored)*time.Minute), stored); outcome.Run != stored {
			t.Fatalf("upload %d: outcome %+v", stored, outcome)
		}
	}
	for range 20 {
		next()
	}
	rebuilt := make(chan error, 1)
	go func() {
		_, err := p.processor.Rebuild(t.Context(), nil)
		rebuilt <- err
	}()
	for done := false; !done; {
		select {
		case err := <-rebuilt:
			if err != nil {
				t.Fatal(err)
			}
			done = true
		default:
			next()
		}
	}
	next()
	p.awaitProjected(t)
	p.wantWhole(t, stored)
	p.stop()
	p = startPipeline(t, folder)
	next()
	p.awaitProjected(t)
	p.wantWhole(t, stored)
}

// wantWhole wants n runs, numbered from 1, in the archive and in the projections.
func (l *pipeline) wantWhole(t *testing.T, n uint64) {
	t.Helper()
	var archived, newest uint64
	query := "SELECT uniqExact(epoch, offset) FROM `" + l.db.Name + "`.event_log WHERE topic = 'runs'"
	if err := l.db.QueryRow(t.Context(), query).Scan(&archived); err != nil {
		t.Fatal(err)
	}
	if err := l.db.QueryRow(t.Context(), "SELECT max(run_id) FROM `"+l.generation.Database()+"`.runs").Scan(&newest); err != nil {
		t.Fatal(err)
	}
	if runs := l.count(t, "runs"); archived != n || runs != n || newest != n {
		t.Errorf("%d uploads were acknowledged; %d are archived, %d projected, the newest is %d", n, archived, runs, newest)
	}
}

func TestUploadsSurviveRestartsAndARebuildGivesTheSameContent(t *testing.T) {
	folder := t.TempDir()
	l := startPipeline(t, folder)
	begin := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	for n := range 20 {
		outcome := l.upload(t, 1, begin.Add(time.Duration(n)*time.Hour), uint64(n))
		if outcome.Result != runs.Accepted || outcome.Run != uint64(n+1) {
			t.Fatalf("upload %d: outcome %+v", n, outcome)
		}
	}
	if again := l.upload(t, 1, begin, 0); again.Result != runs.Duplicate || again.Run != 1 {
		t.Fatalf("a second run with the same start: %+v", again)
	}
	l.awaitProjected(t)
	if n := l.count(t, "runs"); n != 20 {
		t.Fatalf("%d runs are projected, 20 were stored", n)
	}
	before, err := projection.Checksum(t.Context(), l.db, l.generation.Number())
	if err != nil {
		t.Fatal(err)
	}
	l.stop()

	l = startPipeline(t, folder)
	if next := l.upload(t, 1, begin.Add(100*time.Hour), 100); next.Run != 22 {
		t.Fatalf("after a restart the next run is %+v, want 22", next)
	}
	l.awaitProjected(t)
	// Trends that were postponed on a busy machine are recomputed before they are shown.
	if err := projection.NewWriter(l.db, l.generation.Number()).Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	live, err := projection.Checksum(t.Context(), l.db, l.generation.Number())
	if err != nil {
		t.Fatal(err)
	}
	if live["runs"] == before["runs"] {
		t.Fatal("the checksum of runs did not change with a new run")
	}
	report, err := l.processor.Rebuild(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if report.Generation != 2 {
		t.Fatalf("report %+v", report)
	}
	rebuilt, err := projection.Checksum(t.Context(), l.db, 2)
	if err != nil {
		t.Fatal(err)
	}
	for table, sum := range live {
		if rebuilt[table] != sum {
			t.Errorf("table %s differs after the rebuild", table)
		}
	}
	if next := l.upload(t, 1, begin.Add(101*time.Hour), 101); next.Run != 23 {
		t.Fatalf("after the rebuild the next run is %+v, want 23", next)
	}
	l.awaitProjected(t)
	if n := l.count(t, "runs"); n != 22 {
		t.Fatalf("%d runs are projected, 22 were stored", n)
	}
}
