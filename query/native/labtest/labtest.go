// Package labtest makes a small lab for tests of the read side: folds in memory, a log that only counts, and projections
// in a real ClickHouse that are written as the processor writes them.
package labtest

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/processor/pgperffarm"
	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/processor/runs"
	"github.com/millrace/millrace/query/cache"
	"github.com/millrace/millrace/query/gate"
	"github.com/millrace/millrace/query/native/fresh"
	"github.com/millrace/millrace/query/native/lab"
	"github.com/millrace/millrace/schemas/clickhouse"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// LogID is the id of the lab's log.
const LogID = "lab"

// Lab is a lab. Its clock is log time: it stands until a test moves it.
type Lab struct {
	testing.TB

	DB      *clickhouse.DB
	Answers *fresh.Answers
	Reader  *lab.Reader
	Now     time.Time
	// Queries counts what ClickHouse was asked.
	Queries *atomic.Int64

	// Jobs is the replica of the jobs' fold.
	Jobs *JobsReplica

	log      *log
	runs     *replica
	machines uint64
	// history is what has been written, to be written again by Rebuild.
	history []func(generation uint32)
	// together are the rows that wait for the end of Together.
	together *[]func(*projection.Batch) error
}

// New makes a lab on the ClickHouse that MILLRACE_TEST_CLICKHOUSE names, in databases of its own.
func New(tb testing.TB) *Lab {
	tb.Helper()
	address := os.Getenv("MILLRACE_TEST_CLICKHOUSE")
	if address == "" {
		tb.Skip("MILLRACE_TEST_CLICKHOUSE names no ClickHouse, so this test against the real engine is skipped")
	}
	db, err := clickhouse.Open(clickhouse.Config{URL: fmt.Sprintf("%s/lab_test_%x", strings.TrimRight(address, "/"), rand.Uint64())})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() }) // a test may have closed it
	l := &Lab{
		TB: tb, DB: db, Now: time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC), Queries: new(atomic.Int64),
		log:  &log{ends: map[eventlog.Partition]int64{}, projected: map[string]map[eventlog.Partition]int64{}, generation: 1},
		runs: &replica{state: runs.NewState()}, Jobs: newJobsReplica(),
	}
	l.addGeneration(1)
	db.Conn = &counting{Conn: db.Conn, queries: l.Queries}
	l.Reader = lab.NewReader(db, l.runs, l.Jobs)
	l.Answers = l.NewAnswers()
	return l
}

// NewAnswers makes answers with an empty cache, as another process would have them.
func (l *Lab) NewAnswers() *fresh.Answers {
	metrics, quiet := prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
	kept, err := cache.New(cache.Config{Bytes: 64 << 20, Registry: metrics, Logger: quiet})
	if err != nil {
		l.Fatal(err)
	}
	g := gate.New(gate.Config{
		Log: l.log, LogID: LogID, Generation: l.log.Generation, Group: group, Bound: 300 * time.Millisecond, Registry: metrics, Logger: quiet,
	})
	l.Cleanup(func() {
		kept.Close()
		g.Close()
	})
	return fresh.New(fresh.Config{Gate: g, Cache: kept, Runs: l.runs, Jobs: l.Jobs, Generation: l.log.Generation, LogID: LogID})
}

// View reads the current generation.
func (l *Lab) View() *lab.View { return l.Reader.At(l.log.Generation()) }

func (l *Lab) addGeneration(generation uint32) {
	l.Helper()
	if err := l.DB.MigrateGeneration(l.Context(), generation); err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() {
		_ = l.DB.Exec(context.Background(), "DROP DATABASE IF EXISTS `"+l.DB.Generation(generation)+"`")
	})
}

// Rebuild writes everything into a new generation, makes it current and drops the former one.
func (l *Lab) Rebuild() {
	l.Helper()
	former := l.log.Generation()
	l.addGeneration(former + 1)
	for _, write := range l.history {
		write(former + 1)
	}
	l.log.replace(former + 1)
	if err := l.DB.Exec(l.Context(), "DROP DATABASE `"+l.DB.Generation(former)+"`"); err != nil {
		l.Fatal(err)
	}
}

// Together projects all that fill adds in one batch.
func (l *Lab) Together(fill func()) {
	l.Helper()
	var rows []func(*projection.Batch) error
	l.together = &rows
	fill()
	l.together = nil
	l.write("", rows...)
	for topic := range l.log.topics() {
		l.log.project(topic)
	}
}

// write projects rows, now and in every rebuild. They are written twice, as they may stand until they are merged.
func (l *Lab) write(topic string, rows ...func(*projection.Batch) error) {
	l.Helper()
	if l.together != nil {
		*l.together = append(*l.together, rows...)
		return
	}
	number := len(l.history)
	write := func(generation uint32) {
		l.Helper()
		batch := projection.NewBatch()
		for _, add := range rows {
			if err := add(batch); err != nil {
				l.Fatal(err)
			}
		}
		for _, token := range []string{"once", "twice"} {
			if err := projection.NewWriter(l.DB, generation).Write(l.Context(), batch, fmt.Sprint(token, number), false); err != nil {
				l.Fatal(err)
			}
		}
	}
	l.history = append(l.history, write)
	write(l.log.Generation())
	l.log.project(topic)
}

// record gives a message its place at the end of a topic.
func (l *Lab) record(topic string, message proto.Message) *eventlog.Record {
	l.Helper()
	e, err := eventlog.NewEvent("/test", message)
	if err != nil {
		l.Fatal(err)
	}
	offset := l.log.append(topic)
	e.ID = uuid.NewSHA1(uuid.Nil, fmt.Append(nil, topic, offset))
	return &eventlog.Record{Event: e, Partition: eventlog.Partition{Topic: topic}, Offset: offset, LogTime: l.Now.UnixMilli()}
}

// AddMachine adds a machine and gives its id.
func (l *Lab) AddMachine(alias string, approved bool) uint64 {
	l.Helper()
	l.machines++
	machine := &registry.Machine{
		ID: l.machines, Alias: alias, Description: "a machine of the lab", Owner: 1, Approved: approved, AddTime: l.Now.UnixMilli(),
	}
	l.log.append(eventlog.Registry)
	l.write(eventlog.Registry, func(b *projection.Batch) error { return b.AddMachine(machine, machine.ID) })
	return machine.ID
}

// Upload takes in a document and gives its run's id.
func (l *Lab) Upload(machine uint64, body []byte) uint64 {
	l.Helper()
	run, project := l.Fold(machine, body)
	project()
	return run
}

// Fold takes in a document and gives its run's id, and what projects it.
func (l *Lab) Fold(machine uint64, body []byte) (run uint64, project func()) {
	l.Helper()
	doc, err := pgperffarm.Parse(body, pgperffarm.Limits{})
	if err != nil {
		l.Fatal(err)
	}
	request := &event.FarmUploadRequested{MachineId: machine, MachineType: doc.MachineType, StartTime: doc.Start.UnixMicro()}
	for _, term := range doc.Terms() {
		request.Terms = append(request.Terms, &event.Term{Kind: event.TermKind(term.Kind), Hash: term.Hash[:]})
	}
	record := l.record(eventlog.Runs, request)
	outcome := l.runs.apply(record)
	if outcome.Result != runs.Accepted {
		l.Fatalf("upload: the fold says %+v", outcome)
	}
	return outcome.Run, func() {
		l.Helper()
		l.write(eventlog.Runs, func(b *projection.Batch) error {
			return b.AddRun(outcome.Run, request, doc, outcome, l.runs.state, record)
		})
	}
}

// AddSamples adds samples of a metric to a series. Times are Unix milliseconds.
func (l *Lab) AddSamples(of lab.Series, run uint64, times []int64, values []float64) {
	l.Helper()
	m := &event.RunSamplesRecorded{
		RunId: run, MachineId: of.MachineID, ConfigId: of.ConfigID, BranchId: of.BranchID, Metric: of.Metric, Times: times, Values: values,
	}
	record := l.record(eventlog.Metrics, m)
	l.write(eventlog.Metrics, func(b *projection.Batch) error { return b.AddSamples(m, record) })
}

// AddDeadLetter gives up a record of topic runs, and gives the dead letter's id.
func (l *Lab) AddDeadLetter(eventType, reason string, value []byte) string {
	l.Helper()
	m := &event.DeadLetter{
		Place: &event.Place{Epoch: 1, Topic: eventlog.Runs, Offset: 7}, EventId: uuid.NewString(),
		EventType: eventType, Reason: reason, CodeVersion: "test", Key: []byte("key"), Value: value,
		Headers: []*event.RecordHeader{{Key: "ce_type", Value: []byte(eventType)}},
	}
	record := l.record(eventlog.DeadLetters, m)
	l.write(eventlog.DeadLetters, func(b *projection.Batch) error { return b.AddDeadLetter(m, record) })
	return record.ID.String()
}

// Requeue says that a dead letter was appended again.
func (l *Lab) Requeue(id string) {
	l.Helper()
	m := &event.DeadLetterRequeued{DeadLetterId: id, RequeuedAs: uuid.NewString()}
	record := l.record(eventlog.DeadLetters, m)
	l.write(eventlog.DeadLetters, func(b *projection.Batch) error { return b.AddRequeue(m, record) })
}

// Refuse adds an upload that was turned away.
func (l *Lab) Refuse(machine uint64, status uint32, reason string) {
	l.Helper()
	m := &event.FarmUploadRefused{MachineId: machine, Status: status, Reason: reason, Sha256: make([]byte, 32), Size: 7}
	record := l.record(eventlog.Results, m)
	l.write(eventlog.Results, func(b *projection.Batch) error { return b.AddRefusal(m, record) })
}

// Lag lets the log of a topic run ahead of the projections by a record.
func (l *Lab) Lag(topic string) { l.log.append(topic) }

// Project says that everything of a topic is projected.
func (l *Lab) Project(topic string) { l.log.project(topic) }

// log is a log of one partition for each topic, which only counts.
type log struct {
	mu         sync.Mutex
	ends       map[eventlog.Partition]int64
	projected  map[string]map[eventlog.Partition]int64
	generation uint32
}

func group(generation uint32) string { return fmt.Sprint("generation ", generation) }

func (l *log) Partitions(topics ...string) []eventlog.Partition {
	var found []eventlog.Partition
	for _, topic := range topics {
		found = append(found, eventlog.Partition{Topic: topic})
	}
	return found
}

func (l *log) Ends(context.Context, ...eventlog.Partition) (map[eventlog.Partition]int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.ends), nil
}

func (l *log) Committed(_ context.Context, group string, _ ...eventlog.Partition) (map[eventlog.Partition]eventlog.Commit, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	marks := map[eventlog.Partition]eventlog.Commit{}
	for partition, next := range l.projected[group] {
		marks[partition] = eventlog.Commit{Offset: next}
	}
	return marks, nil
}

// topics are those that have records.
func (l *log) topics() map[string]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	topics := map[string]bool{}
	for p := range l.ends {
		topics[p.Topic] = true
	}
	return topics
}

// Generation is the current generation.
func (l *log) Generation() uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.generation
}

func (l *log) append(topic string) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := eventlog.Partition{Topic: topic}
	l.ends[p]++
	return l.ends[p] - 1
}

func (l *log) project(topic string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := group(l.generation)
	if l.projected[g] == nil {
		l.projected[g] = map[eventlog.Partition]int64{}
	}
	p := eventlog.Partition{Topic: topic}
	l.projected[g][p] = l.ends[p]
}

// replace makes a generation current that has everything that the former one had.
func (l *log) replace(generation uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.projected[group(generation)] = maps.Clone(l.projected[group(l.generation)])
	l.generation = generation
}

// replica is the runs' fold, always at the log's end.
type replica struct {
	mu    sync.RWMutex
	state *runs.State
}

func (r *replica) View(look func(*runs.State)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	look(r.state)
}

func (r *replica) Reach(ctx context.Context, _ int64) error { return ctx.Err() }

func (r *replica) apply(record *eventlog.Record) runs.Outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	return runs.Apply(r.state, record)
}

// counting counts queries.
type counting struct {
	driver.Conn

	queries *atomic.Int64
}

func (c *counting) Query(ctx context.Context, query string, args ...any) (driver.Rows, error) {
	c.queries.Add(1)
	return c.Conn.Query(ctx, query, args...)
}
