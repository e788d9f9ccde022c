package pgperffarm

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/processor/access"
	upload "github.com/millrace/millrace/processor/pgperffarm"
	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/processor/runs"
	"github.com/millrace/millrace/query/cache"
	"github.com/millrace/millrace/query/gate"
	"github.com/millrace/millrace/schemas/clickhouse"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/keyring"
	"github.com/millrace/millrace/schemas/route"
)

var (
	registryLog = eventlog.Partition{Topic: eventlog.Registry}
	runsLog     = eventlog.Partition{Topic: eventlog.Runs}
)

var discard = slog.New(slog.DiscardHandler)

// labLog is a log of two partitions that only counts.
type labLog struct {
	mu         sync.Mutex
	ends       map[eventlog.Partition]int64
	projected  map[eventlog.Partition]int64
	generation uint32
}

func (l *labLog) Partitions(topics ...string) []eventlog.Partition {
	var found []eventlog.Partition
	for _, topic := range topics {
		found = append(found, eventlog.Partition{Topic: topic})
	}
	return found
}

func (l *labLog) Ends(context.Context, ...eventlog.Partition) (map[eventlog.Partition]int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.ends), nil
}

func (l *labLog) Committed(context.Context, string, ...eventlog.Partition) (map[eventlog.Partition]eventlog.Commit, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	marks := map[eventlog.Partition]eventlog.Commit{}
	for partition, next := range l.projected {
		marks[partition] = eventlog.Commit{Offset: next}
	}
	return marks, nil
}

func (l *labLog) Generation() uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.generation
}

// append gives the next offset of a partition away.
func (l *labLog) append(p eventlog.Partition) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ends[p]++
	return l.ends[p] - 1
}

// project says that everything of a partition is projected.
func (l *labLog) project(p eventlog.Partition) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.projected[p] = l.ends[p]
}

// labReplica is a fold that is always at the log's end.
type labReplica[S any] struct {
	mu    sync.RWMutex
	state S
}

func (r *labReplica[S]) View(look func(S)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	look(r.state)
}

func (r *labReplica[S]) Reach(ctx context.Context, _ int64) error { return ctx.Err() }

func (r *labReplica[S]) CatchUp(ctx context.Context) error { return ctx.Err() }

// lab is a farm on folds in memory and, when there is an engine, on projections.
type lab struct {
	*testing.T
	log      *labLog
	registry labReplica[*registry.State]
	runs     labReplica[*runs.State]
	ring     *keyring.Keyring
	farm     *Farm
	server   http.Handler
	db       *clickhouse.DB
	// uploads are replayed into another generation by rebuild.
	uploads []func(generation uint32)
	now     time.Time
}

var labStart = time.Date(2021, 6, 30, 9, 0, 0, 0, time.UTC)

// newLab makes a farm without projections.
func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{T: t, now: time.Date(2021, 7, 10, 0, 0, 0, 0, time.UTC), log: &labLog{
		ends: map[eventlog.Partition]int64{}, projected: map[eventlog.Partition]int64{}, generation: 1,
	}}
	l.registry.state, l.runs.state = registry.NewState(), runs.NewState()
	var err error
	if l.ring, err = keyring.Open(filepath.Join(t.TempDir(), "key")); err != nil {
		t.Fatal(err)
	}
	l.serve()
	return l
}

// newEngineLab makes a farm on the ClickHouse that MILLRACE_TEST_CLICKHOUSE names, in a database of its own.
func newEngineLab(t *testing.T) *lab {
	t.Helper()
	address := os.Getenv("MILLRACE_TEST_CLICKHOUSE")
	if address == "" {
		t.Skip("MILLRACE_TEST_CLICKHOUSE names no ClickHouse, so this test against the real engine is skipped")
	}
	l := newLab(t)
	name := fmt.Sprintf("farm_test_%x", rand.Uint64())
	db, err := clickhouse.Open(clickhouse.Config{URL: strings.TrimRight(address, "/") + "/" + name})
	if err != nil {
		t.Fatal(err)
	}
	l.db = db
	t.Cleanup(func() { _ = db.Close() }) // a test may have closed it
	l.addGeneration(1)
	l.farm.DB = db
	return l
}

func (l *lab) addGeneration(generation uint32) {
	l.Helper()
	if err := l.db.MigrateGeneration(l.Context(), generation); err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() {
		_ = l.db.Exec(context.Background(), "DROP DATABASE IF EXISTS `"+l.db.Generation(generation)+"`")
	})
}

func (l *lab) serve() {
	log := discard
	metrics := prometheus.NewRegistry()
	kept, err := cache.New(cache.Config{Bytes: 256 << 20, Registry: metrics, Logger: log})
	if err != nil {
		l.Fatal(err)
	}
	g := gate.New(gate.Config{
		Log: l.log, LogID: "lab", Generation: l.log.Generation, Group: func(n uint32) string { return fmt.Sprint("g", n) },
		Bound: 2 * time.Second, Registry: metrics, Logger: log,
	})
	l.Cleanup(func() {
		kept.Close()
		g.Close()
	})
	clock := func() time.Time { return l.now }
	doors := access.NewFarm(access.FarmConfig{Hold: time.Second}, &l.registry, l.ring, access.NewAttempts(), clock)
	l.farm = New(Config{
		Generation: l.log.Generation, Registry: &l.registry, Runs: &l.runs, Gate: g, Cache: kept, Access: doors, Keyring: l.ring, Now: clock,
	})
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	err = route.Mount(engine, l.farm.Routes(), route.Options{APIs: map[string]route.API{API: doors.API()}, Log: log})
	if err != nil {
		l.Fatal(err)
	}
	l.server = engine
}

// tell folds an event of the registry.
func (l *lab) tell(at time.Time, message proto.Message) registry.Outcome {
	l.Helper()
	record := l.record(registryLog, at, message)
	l.registry.mu.Lock()
	defer l.registry.mu.Unlock()
	return registry.Apply(l.registry.state, &record)
}

func (l *lab) record(p eventlog.Partition, at time.Time, message proto.Message) eventlog.Record {
	l.Helper()
	e, err := eventlog.NewEvent("/test", message)
	if err != nil {
		l.Fatal(err)
	}
	e.ID = uuid.NewSHA1(uuid.Nil, fmt.Append(nil, p, l.log.ends[p]))
	return eventlog.Record{Event: e, Partition: p, Offset: l.log.append(p), LogTime: at.UnixMilli()}
}

// user adds a user with a session of the same name.
func (l *lab) user(name, email string, staff bool) {
	l.Helper()
	hash, address := access.HashUser(l.ring, name), access.HashEmail(l.ring, email)
	sealed, err := access.SealProfile(l.ring, hash, &event.FarmProfile{Username: name, FirstName: "F", LastName: "L", Email: email})
	if err != nil {
		l.Fatal(err)
	}
	session := access.HashSession(l.ring, name)
	callback := access.HashSession(l.ring, "callback "+name)
	l.tell(labStart, &event.FarmSignInRequested{
		User:         &event.FarmUser{NameHash: hash[:], EmailHash: address[:], SealedProfile: sealed},
		CallbackHash: callback[:], SessionHash: session[:], SessionExpires: l.now.Add(time.Hour).Unix(), Staff: staff,
	})
}

// machine adds a machine and gives its id. Its secret is "secret of ALIAS".
func (l *lab) machine(at time.Time, owner, alias, description string, approved bool) uint64 {
	l.Helper()
	name := access.HashUser(l.ring, owner)
	secret := access.HashMachineSecret(l.ring, "secret of "+alias)
	outcome := l.tell(at, &event.FarmMachineAddRequested{
		OwnerNameHash: name[:], Alias: alias, Description: description, Approved: approved,
		SecretHash: secret[:], SealedSecret: access.SealMachineSecret(l.ring, "secret of "+alias),
	})
	if outcome.Result != registry.Done {
		l.Fatalf("add machine %s: %v", alias, outcome)
	}
	return outcome.ID
}

// upload folds a run and projects it.
func (l *lab) upload(machine uint64, at time.Time, doc *upload.Document) uint64 {
	l.Helper()
	run, project := l.fold(machine, at, doc)
	project(l.log.Generation())
	l.log.project(runsLog)
	return run
}

// fold folds a run and gives what projects it. The rows are written twice, as they may stand before merges.
func (l *lab) fold(machine uint64, at time.Time, doc *upload.Document) (run uint64, project func(generation uint32)) {
	l.Helper()
	request := &event.FarmUploadRequested{MachineId: machine, MachineType: doc.MachineType, StartTime: doc.Start.UnixMicro()}
	for _, term := range doc.Terms() {
		request.Terms = append(request.Terms, &event.Term{Kind: event.TermKind(term.Kind), Hash: term.Hash[:]})
	}
	record := l.record(runsLog, at, request)
	l.runs.mu.Lock()
	outcome := runs.Apply(l.runs.state, &record)
	l.runs.mu.Unlock()
	if outcome.Result != runs.Accepted {
		return outcome.Run, func(uint32) {}
	}
	project = func(generation uint32) {
		l.Helper()
		if l.db == nil {
			return
		}
		for _, token := range []string{"once", "twice"} {
			batch := projection.NewBatch()
			if err := batch.AddRun(outcome.Run, request, doc, outcome, l.runs.state, &record); err != nil {
				l.Fatal(err)
			}
			err := projection.NewWriter(l.db, generation).Write(l.Context(), batch, fmt.Sprint(token, generation, record.Offset), false)
			if err != nil {
				l.Fatal(err)
			}
		}
	}
	l.uploads = append(l.uploads, project)
	return outcome.Run, project
}

// get asks for a path, with a session when one is named.
func (l *lab) get(path string, session ...string) *httptest.ResponseRecorder {
	l.Helper()
	return l.ask(http.MethodGet, path, session...)
}

func (l *lab) ask(method, path string, session ...string) *httptest.ResponseRecorder {
	l.Helper()
	request := httptest.NewRequestWithContext(l.Context(), method, path, nil)
	for _, name := range session {
		request.AddCookie(&http.Cookie{Name: access.SessionCookie, Value: name})
	}
	answer := httptest.NewRecorder()
	l.server.ServeHTTP(answer, request)
	return answer
}

// body asks for a path that must be answered with 200.
func (l *lab) body(path string, session ...string) string {
	l.Helper()
	answer := l.get(path, session...)
	if answer.Code != http.StatusOK {
		l.Fatalf("GET %s: %d %s", path, answer.Code, answer.Body)
	}
	return answer.Body.String()
}
