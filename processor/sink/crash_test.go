package sink_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/processor/archive"
	"github.com/millrace/millrace/processor/fold"
	"github.com/millrace/millrace/processor/internal/enginetest"
	"github.com/millrace/millrace/processor/pgperffarm"
	"github.com/millrace/millrace/processor/pgperffarm/farmdoc"
	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/processor/sink"
	"github.com/millrace/millrace/schemas/blob"
	"github.com/millrace/millrace/schemas/clickhouse"
	"github.com/millrace/millrace/schemas/document"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// TestEveryEventCountsOnceWhereverAMemberIsKilled lets a member write a history and notes its steps. Then, for each of
// these steps, another member is cut off just before it on a log of its own, and a third one takes over.
func TestEveryEventCountsOnceWhereverAMemberIsKilled(t *testing.T) {
	whole := newLine("")
	newSite(t).run(t, whole)
	steps := whole.seen()
	for _, want := range []string{
		"append 1", "journal runs 1", "insert event_log 1", "insert runs 1", "insert metrics 1", "insert trend_buckets 1",
		"commit runs 1", "insert fold_state 1", "journal runs 2", "insert runs 2", "commit runs 2", "insert dead_letters 1",
	} {
		if !slices.Contains(steps, want) {
			t.Errorf("a member that nothing happens to does not %s; its steps are %q", want, steps)
		}
	}
	for _, step := range steps {
		// States are stored beside the batches: how many are depends on the time that it takes.
		if strings.HasPrefix(step, "insert fold_state") && step != "insert fold_state 1" {
			continue
		}
		t.Run(strings.ReplaceAll(step, " ", "-"), func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.killAt(t, step)
			s.run(t, newLine(""))
			s.wantOnce(t)
		})
	}
}

// TestAMemberThatIsKilledAgainAndAgainCountsEveryEventOnce kills each successor at the step at which its forerunner died.
func TestAMemberThatIsKilledAgainAndAgainCountsEveryEventOnce(t *testing.T) {
	for _, step := range []string{"insert results 1", "insert trend_buckets 1", "commit runs 1", "append 1"} {
		t.Run(strings.ReplaceAll(step, " ", "-"), func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			for range 3 {
				s.killAt(t, step)
			}
			s.run(t, newLine(""))
			s.wantOnce(t)
		})
	}
}

// site is a log with a history, and a database with two generations: one for members that are killed, one for a member
// that nothing happens to.
type site struct {
	cluster  *kfake.Cluster
	lines    switchboard
	client   *eventlog.Client
	database string
	db       *clickhouse.DB
	packer   *document.Packer
}

const (
	disturbed   = 1
	undisturbed = 2
)

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{cluster: enginetest.Log(t), database: enginetest.Database(t)}
	s.client, s.db = enginetest.Dial(t, s.cluster), enginetest.Open(t, s.database)
	s.lines.control(s.cluster)
	blobs, err := blob.Open(t.Context(), "mem://")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = blobs.Close() })
	if s.packer, err = document.NewPacker(blobs, 1<<30); err != nil {
		t.Fatal(err)
	}
	if err := s.db.MigrateGeneration(t.Context(), disturbed); err != nil {
		t.Fatal(err)
	}
	s.write(t)
	return s
}

// What the history holds.
const (
	storedRuns  = 6
	otherSample = 40
)

// write appends something for each topic: uploads, of which one is twice in the log and one twice in the history, what
// cannot be projected, machines, samples, a refusal.
func (s *site) write(t *testing.T) {
	t.Helper()
	client := enginetest.Dial(t, s.cluster)
	appender := enginetest.Appender(t, client)
	put := func(topic string, e eventlog.Event) {
		t.Helper()
		if _, err := appender.Append(t.Context(), eventlog.Partition{Topic: topic}, e); err != nil {
			t.Fatal(err)
		}
	}
	put(eventlog.Registry, newEvent(t, &event.FarmUserSetRequested{User: &event.FarmUser{NameHash: []byte("jane"), SealedProfile: []byte("jane")}}))
	for _, alias := range []string{"otter", "newt"} {
		put(eventlog.Registry, newEvent(t, &event.FarmMachineAddRequested{
			OwnerNameHash: []byte("jane"), Alias: alias, SecretHash: []byte(alias), SealedSecret: []byte(alias), Approved: true,
		}))
	}
	first := s.upload(t, 1)
	put(eventlog.Runs, first)
	put(eventlog.Runs, s.upload(t, 2))
	put(eventlog.Runs, first)
	put(eventlog.Runs, eventlog.Event{ID: first.ID, Type: "millrace.event.v1.NeverHeardOf", Source: "/test", Time: first.Time})
	for n := 3; n <= storedRuns; n++ {
		put(eventlog.Runs, s.upload(t, n))
	}
	put(eventlog.Runs, s.upload(t, 1))
	samples := &event.RunSamplesRecorded{RunId: 1, MachineId: 1, ConfigId: 1, BranchId: 1, Metric: "cpu"}
	for n := range int64(otherSample) {
		samples.Times = append(samples.Times, farmStart.UnixMilli()+n*30_000)
		samples.Values = append(samples.Values, float64(n*n)/7)
	}
	put(eventlog.Metrics, newEvent(t, samples))
	put(eventlog.Results, newEvent(t, &event.FarmUploadRefused{MachineId: 1, Status: 400, Reason: "no JSON"}))
}

var farmStart = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// upload is the n-th run of machine 1.
func (s *site) upload(t *testing.T, n int) eventlog.Event {
	t.Helper()
	body := farmdoc.Synthetic(farmdoc.Small(farmdoc.Options{Seed: uint64(n), Start: farmStart.Add(time.Duration(n) * time.Minute)}))
	doc, err := pgperffarm.Parse(body, pgperffarm.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	packed, err := s.packer.Pack(t.Context(), body)
	if err != nil {
		t.Fatal(err)
	}
	m := &event.FarmUploadRequested{MachineId: 1, MachineType: doc.MachineType, StartTime: doc.Start.UnixMicro(), Document: packed}
	for _, term := range doc.Terms() {
		m.Terms = append(m.Terms, &event.Term{Kind: event.TermKind(term.Kind), Hash: term.Hash[:]})
	}
	return newEvent(t, m)
}

func newEvent(t *testing.T, m proto.Message) eventlog.Event {
	t.Helper()
	e, err := eventlog.NewEvent("/test", m)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// member is a sink with connections of its own.
type member struct {
	stop  context.CancelFunc
	ended chan error
}

func (s *site) start(t *testing.T, line *line, generation uint32, session time.Duration) *member {
	t.Helper()
	client := enginetest.Dial(t, s.cluster)
	db := enginetest.Open(t, line.clickHouse(t, s.database))
	d := sink.Dependencies{
		Client: client, Archive: archive.New(db), Store: fold.NewStore(db), Appender: enginetest.Appender(t, client), Packer: s.packer,
		Writer: projection.NewWriter(db, generation), Epoch: 1, CodeVersion: "test", Metrics: sink.NewMetrics(prometheus.NewRegistry()),
		Tracer: noop.NewTracerProvider().Tracer(""), Logger: slog.New(slog.DiscardHandler),
	}
	// The history's runs are two batches, and the folds are stored after each.
	config := sink.Config{
		MaxRecords: 5, MaxRows: 200_000, MaxBytes: 64 << 20, Interval: 250 * time.Millisecond, SnapshotEvery: time.Nanosecond,
		SessionTimeout: session,
	}
	ctx, stop := context.WithCancel(t.Context())
	m := &member{stop: stop, ended: make(chan error, 1)}
	s.lines.set(line)
	go func() { m.ended <- sink.New(config, d, generation, false).Run(ctx) }()
	return m
}

// end waits until the member is gone.
func (s *site) end(t *testing.T, m *member) {
	t.Helper()
	m.stop()
	if err := <-m.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the member ended with %v", err)
	}
	s.lines.set(nil)
}

// killAt runs a member until it is cut off at a step.
func (s *site) killAt(t *testing.T, step string) {
	t.Helper()
	line := newLine(step)
	m := s.start(t, line, disturbed, 400*time.Millisecond) // its successor waits so long
	select {
	case <-line.cut:
	case <-time.After(time.Minute):
		t.Fatalf("the member does not %s; its steps are %q", step, line.seen())
	}
	s.end(t, m)
}

// run lets a member work until everything in the log is projected.
func (s *site) run(t *testing.T, line *line) {
	t.Helper()
	s.runGeneration(t, line, disturbed)
}

func (s *site) runGeneration(t *testing.T, line *line, generation uint32) {
	t.Helper()
	m := s.start(t, line, generation, 10*time.Second)
	defer s.end(t, m)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !s.projected(ctx, t, generation) {
		<-ticker.C
	}
}

// projected says whether all that is in the log is behind the marks of a generation. Marks before ends: a batch may have
// appended a dead letter.
func (s *site) projected(ctx context.Context, t *testing.T, generation uint32) bool {
	t.Helper()
	marks, err := s.client.Committed(ctx, sink.Group(generation), s.client.Partitions()...)
	if err != nil {
		t.Fatal(err)
	}
	ends, err := s.client.Ends(ctx, s.client.Partitions()...)
	if err != nil {
		t.Fatal(err)
	}
	for partition, end := range ends {
		if max(0, marks[partition].Offset) < end {
			return false
		}
	}
	return true
}

// wantOnce compares what the members left with the log, and with what a member writes that nothing happens to.
func (s *site) wantOnce(t *testing.T) {
	t.Helper()
	ends, err := s.client.Ends(t.Context(), s.client.Partitions()...)
	if err != nil {
		t.Fatal(err)
	}
	logged := int64(0)
	for _, end := range ends {
		logged += end
	}
	generation := "`" + s.db.Generation(disturbed) + "`."
	s.want(t, "records in the archive", logged, "SELECT count() FROM `"+s.db.Name+"`.event_log")
	s.want(t, "runs", storedRuns, "SELECT count() FROM "+generation+"runs")
	s.want(t, "results", storedRuns, "SELECT count() FROM "+generation+"results")
	s.want(t, "dead letters", 1, "SELECT count() FROM "+generation+"dead_letters")
	s.want(t, "samples of cpu", otherSample, "SELECT count() FROM "+generation+"metrics WHERE metric = 'cpu'")
	s.want(t, "samples of tps", storedRuns, "SELECT count() FROM "+generation+"metrics WHERE metric = 'tps'")
	s.want(t, "samples of tps in the trends", storedRuns,
		"SELECT toInt64(sum(count)) FROM "+generation+"trend_buckets FINAL WHERE metric = 'tps' AND resolution = 604800")
	if err := s.db.MigrateGeneration(t.Context(), undisturbed); err != nil {
		t.Fatal(err)
	}
	s.runGeneration(t, newLine(""), undisturbed)
	got, want := s.checksums(t, disturbed), s.checksums(t, undisturbed)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the projections differ from those of an undisturbed run:\n%s", diff)
	}
}

// want counts rows as they are stored, repeated ones too.
func (s *site) want(t *testing.T, what string, want int64, query string) {
	t.Helper()
	var got int64
	if err := s.db.QueryRow(t.Context(), strings.Replace(query, "count()", "toInt64(count())", 1)).Scan(&got); err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("%d %s, want %d", got, what, want)
	}
}

func (s *site) checksums(t *testing.T, generation uint32) map[string]string {
	t.Helper()
	sums, err := projection.Checksum(t.Context(), s.db, generation)
	if err != nil {
		t.Fatal(fmt.Errorf("generation %d: %w", generation, err))
	}
	return sums
}
