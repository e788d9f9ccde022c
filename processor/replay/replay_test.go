package replay_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/processor/archive"
	"github.com/millrace/millrace/processor/fold"
	"github.com/millrace/millrace/processor/internal/enginetest"
	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/processor/replay"
	"github.com/millrace/millrace/processor/sink"
	"github.com/millrace/millrace/schemas/blob"
	"github.com/millrace/millrace/schemas/clickhouse"
	"github.com/millrace/millrace/schemas/document"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// site is an installation whose generation 1 is current and holds all that is in the log.
type site struct {
	db        *clickhouse.DB
	client    *eventlog.Client
	appender  *eventlog.Appender
	rebuilder *replay.Rebuilder
}

// refusals and samples are what the log holds at first.
const (
	refusals = 50
	samples  = 20
)

func newSite(t *testing.T) *site {
	t.Helper()
	cluster := enginetest.Log(t)
	s := &site{db: enginetest.Open(t, enginetest.Database(t)), client: enginetest.Dial(t, cluster)}
	s.appender = enginetest.Appender(t, s.client)
	blobs, err := blob.Open(t.Context(), "mem://")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = blobs.Close() })
	packer, err := document.NewPacker(blobs, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	s.rebuilder = &replay.Rebuilder{
		DB: s.db, Logger: logger,
		Config: sink.Config{
			MaxRecords: 16, MaxRows: 200_000, MaxBytes: 64 << 20, Interval: 50 * time.Millisecond, SnapshotEvery: time.Minute,
			SessionTimeout: 10 * time.Second,
		},
		Sink: sink.Dependencies{
			Client: s.client, Archive: archive.New(s.db), Store: fold.NewStore(s.db), Appender: s.appender, Packer: packer, Epoch: 1,
			CodeVersion: "test", Metrics: sink.NewMetrics(prometheus.NewRegistry()), Tracer: noop.NewTracerProvider().Tracer(""), Logger: logger,
		},
	}
	for range refusals {
		s.refuse(t)
	}
	at := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	m := &event.RunSamplesRecorded{RunId: 1, MachineId: 1, ConfigId: 1, BranchId: 1, Metric: "cpu"}
	for n := range int64(samples) {
		m.Times, m.Values = append(m.Times, at+n*60_000), append(m.Values, float64(n)/3)
	}
	s.append(t, eventlog.Metrics, m)
	s.projectLive(t)
	return s
}

func (s *site) append(t *testing.T, topic string, m proto.Message) {
	t.Helper()
	e, err := eventlog.NewEvent("/test", m)
	if err == nil {
		_, err = s.appender.Append(t.Context(), eventlog.Partition{Topic: topic}, e)
	}
	if err != nil {
		t.Error(err) // a rebuild's progress is told beside the test
	}
}

func (s *site) refuse(t *testing.T) {
	t.Helper()
	s.append(t, eventlog.Results, &event.FarmUploadRefused{MachineId: 1, Status: 400, Reason: "no JSON"})
}

// projectLive fills generation 1, and the archive, as the live processor does.
func (s *site) projectLive(t *testing.T) {
	t.Helper()
	generation, err := s.db.Allocate(t.Context())
	if err == nil {
		err = errors.Join(s.db.MigrateGeneration(t.Context(), generation), s.db.MakeCurrent(t.Context(), generation))
	}
	if err != nil {
		t.Fatal(err)
	}
	d := s.rebuilder.Sink
	d.Writer = projection.NewWriter(s.db, generation)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- sink.New(s.rebuilder.Config, d, generation, false).Run(ctx) }()
	results := eventlog.Partition{Topic: eventlog.Results}
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !s.behind(t, generation, results, refusals) || !s.behind(t, generation, eventlog.Partition{Topic: eventlog.Metrics}, 1) {
		<-ticker.C
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// behind says whether a generation's mark in a partition is at an offset.
func (s *site) behind(t *testing.T, generation uint32, partition eventlog.Partition, offset int64) bool {
	t.Helper()
	marks, err := s.client.Committed(t.Context(), sink.Group(generation), partition)
	if err != nil {
		t.Fatal(err)
	}
	return marks[partition].Offset >= offset
}

// rebuild builds a generation, for at most a minute.
func (s *site) rebuild(t *testing.T, hand func(context.Context) error) (replay.Report, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return s.rebuilder.Rebuild(ctx, hand)
}

func (s *site) mustRebuild(t *testing.T) replay.Report {
	t.Helper()
	report, err := s.rebuild(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func (s *site) checksum(t *testing.T, generation uint32) map[string]string {
	t.Helper()
	sums, err := projection.Checksum(t.Context(), s.db, generation)
	if err != nil {
		t.Fatal(err)
	}
	return sums
}

func (s *site) wantCurrent(t *testing.T, want uint32) {
	t.Helper()
	if got, err := s.db.Current(t.Context()); err != nil || got != want {
		t.Errorf("generation %d is current (%v), want %d", got, err, want)
	}
}

// wantThere wants exactly these generations to have a database.
func (s *site) wantThere(t *testing.T, want ...uint32) {
	t.Helper()
	var got []uint32
	for number := uint32(1); number <= 9; number++ {
		there, err := s.db.Exists(t.Context(), s.db.Generation(number))
		if err != nil {
			t.Fatal(err)
		}
		if there {
			got = append(got, number)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("other generations are there:\n%s", diff)
	}
}

// readers read the current generation again and again, as queries do: its number once, then its tables.
type readers struct {
	stop  context.CancelFunc
	wait  sync.WaitGroup
	mu    sync.Mutex
	reads map[uint32]int
}

func (s *site) read(t *testing.T) *readers {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	r := &readers{stop: stop, reads: map[uint32]int{}}
	r.wait.Go(func() {
		for ctx.Err() == nil {
			var rows uint64
			generation, err := s.db.Current(context.WithoutCancel(ctx))
			if err == nil {
				query := "SELECT count() FROM `" + s.db.Generation(generation) + "`.refused_uploads FINAL"
				err = s.db.QueryRow(context.WithoutCancel(ctx), query).Scan(&rows)
			}
			if err != nil || rows != refusals {
				t.Errorf("a reader sees %d refusals in generation %d (%v), want %d", rows, generation, err, refusals)
				return
			}
			r.mu.Lock()
			r.reads[generation]++
			r.mu.Unlock()
		}
	})
	return r
}

// await waits until a generation has been read.
func (r *readers) await(ctx context.Context, generation uint32) error {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		r.mu.Lock()
		reads := r.reads[generation]
		r.mu.Unlock()
		if reads > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

func (r *readers) end() {
	r.stop()
	r.wait.Wait()
}

func TestASwapLeavesReadersUndisturbed(t *testing.T) {
	s := newSite(t)
	live := s.checksum(t, 1)
	readers := s.read(t)
	defer readers.end()
	report, err := s.rebuild(t, func(ctx context.Context) error {
		s.wantCurrent(t, 2)
		return readers.await(ctx, 2) // the new one is read while the former is there
	})
	if err != nil {
		t.Fatal(err)
	}
	if report.Generation != 2 || report.Former != 1 || report.Records != refusals+1 {
		t.Errorf("the report is %+v, want generation 2 after 1, of %d records", report, refusals+1)
	}
	if diff := cmp.Diff(live, s.checksum(t, 2)); diff != "" {
		t.Errorf("the rebuilt generation differs from the live one:\n%s", diff)
	}
	s.wantThere(t, 1, 2)
}

func TestWhatIsAppendedDuringARebuildIsInIt(t *testing.T) {
	s := newSite(t)
	s.rebuilder.Progress = func(int64) { s.refuse(t) }
	report := s.mustRebuild(t)
	ends, err := s.client.Ends(t.Context(), eventlog.Partition{Topic: eventlog.Results})
	if err != nil {
		t.Fatal(err)
	}
	appended := ends[eventlog.Partition{Topic: eventlog.Results}]
	var rows uint64
	query := "SELECT count() FROM `" + s.db.Generation(report.Generation) + "`.refused_uploads"
	if err := s.db.QueryRow(t.Context(), query).Scan(&rows); err != nil {
		t.Fatal(err)
	}
	if rows != uint64(appended) || appended <= refusals {
		t.Errorf("%d refusals are in the log, %d of them from during the rebuild, and %d are in the new generation", appended, appended-refusals, rows)
	}
}

func TestAFailedRebuildLeavesTheLiveGeneration(t *testing.T) {
	s := newSite(t)
	live := s.checksum(t, 1)
	readers := s.read(t)
	hole := "`" + s.db.Name + "`.event_log"
	if err := s.db.Exec(t.Context(), "CREATE TABLE `"+s.db.Name+"`.kept AS "+hole); err != nil {
		t.Fatal(err)
	}
	const gone = " WHERE topic = 'results' AND offset = 30"
	for _, statement := range []string{
		"INSERT INTO `" + s.db.Name + "`.kept SELECT * FROM " + hole + gone, "DELETE FROM " + hole + gone,
	} {
		if err := s.db.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.rebuild(t, nil); !errors.Is(err, archive.ErrHole) {
		t.Errorf("a rebuild from an archive with a hole gives %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	s.rebuilder.Progress = func(int64) { cancel(stopped) }
	if _, err := s.rebuilder.Rebuild(ctx, nil); err == nil {
		t.Error("a rebuild that was stopped gives no error")
	}
	readers.end()
	s.wantCurrent(t, 1)
	if diff := cmp.Diff(live, s.checksum(t, 1)); diff != "" {
		t.Errorf("the live generation has changed:\n%s", diff)
	}
	if err := s.db.Exec(t.Context(), "INSERT INTO "+hole+" SELECT * FROM `"+s.db.Name+"`.kept"); err != nil {
		t.Fatal(err)
	}
	s.rebuilder.Progress = nil
	if report := s.mustRebuild(t); report.Generation != 4 || report.Former != 1 {
		t.Errorf("the report is %+v, want generation 4 after 1", report)
	}
	s.wantThere(t, 1, 4) // what the two that failed had built is gone
	if diff := cmp.Diff(live, s.checksum(t, 4)); diff != "" {
		t.Errorf("the rebuilt generation differs from the live one:\n%s", diff)
	}
	s.mustRebuild(t)
	s.wantThere(t, 4, 5) // a request that began in the former generation may still read there
	s.wantCurrent(t, 5)
}
