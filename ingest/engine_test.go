package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/ingest"
	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/ingest/native"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/archive"
	"github.com/millrace/millrace/processor/fold"
	"github.com/millrace/millrace/processor/pgperffarm/farmdoc"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/processor/runs"
	"github.com/millrace/millrace/schemas/blob"
	"github.com/millrace/millrace/schemas/clickhouse"
	"github.com/millrace/millrace/schemas/document"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/keyring"
	"github.com/millrace/millrace/schemas/route"
)

// engines are a log that other tests may use too, and a database that is this test's own.
type engines struct {
	kafka string
	db    *clickhouse.DB
	ring  *keyring.Keyring
	// mark makes names that no other test on the same log has.
	mark string
}

func openEngines(t testing.TB) *engines {
	t.Helper()
	broker, address := os.Getenv("MILLRACE_TEST_KAFKA"), os.Getenv("MILLRACE_TEST_CLICKHOUSE")
	if broker == "" || address == "" {
		t.Skip("MILLRACE_TEST_KAFKA and MILLRACE_TEST_CLICKHOUSE name no engines, so this test against real ones is skipped")
	}
	mark := strings.ReplaceAll(uuid.NewString(), "-", "")
	target, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	target.Path = "/ingest_" + mark
	db, err := clickhouse.Open(clickhouse.Config{URL: target.String()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = errors.Join(db.Exec(context.Background(), "DROP DATABASE IF EXISTS `"+db.Name+"`"), db.Close())
	})
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	ring, err := keyring.Open(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	return &engines{kafka: broker, db: db, ring: ring, mark: mark}
}

// service is one ingest process: connections, replicas and an appender of its own.
type service struct {
	handler  http.Handler
	operator http.Handler
	appender *eventlog.Appender
	registry *fold.Replica[*registry.State, registry.Outcome]
	runs     *fold.Replica[*runs.State, runs.Outcome]
}

func (e *engines) start(t testing.TB) *service {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	client, err := eventlog.Dial(t.Context(), eventlog.Config{Brokers: strings.Split(e.kafka, ",")})
	if err != nil {
		t.Fatal(err)
	}
	metrics := prometheus.NewRegistry()
	appender := eventlog.NewAppender(client, eventlog.AppenderConfig{MaxWaiting: 64 << 20}, metrics, logger)
	s := &service{appender: appender, registry: replicaOf(t, e, client, registry.Fold()), runs: replicaOf(t, e, client, runs.Fold())}
	ctx, stop := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	wait.Go(func() { _ = s.registry.Run(ctx) })
	wait.Go(func() { _ = s.runs.Run(ctx) })
	t.Cleanup(func() { appender.Close(); stop(); wait.Wait(); client.Close() })
	s.mount(t, e, client, appender, metrics)
	return s
}

func replicaOf[S, O any](t testing.TB, e *engines, client *eventlog.Client, definition *fold.Definition[S, O]) *fold.Replica[S, O] {
	t.Helper()
	replica, err := fold.NewReplica(t.Context(), definition, client, archive.New(e.db), fold.NewStore(e.db), 1, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return replica
}

func (s *service) mount(t testing.TB, e *engines, client *eventlog.Client, appender *eventlog.Appender, metrics *prometheus.Registry) {
	t.Helper()
	blobs, err := blob.Open(t.Context(), "mem://")
	if err != nil {
		t.Fatal(err)
	}
	packer, err := document.NewPacker(blobs, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = blobs.Close() })
	writes, err := ingest.New(ingest.DefaultConfig(), ingest.Dependencies{
		Client: client, Appender: appender, Registry: s.registry, Runs: s.runs, Keyring: e.ring, Packer: packer,
		StoredKey:  func(context.Context, string, []byte, uint64) (*door.StoredKey, error) { return nil, nil },
		Run:        func(context.Context, uint64, uint64) (*native.Run, error) { return nil, nil },
		DeadLetter: func(context.Context, string) (*event.DeadLetter, error) { return nil, nil },
		Now:        time.Now, Metrics: metrics, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.handler = mounted(t, writes.Routes(), writes.APIs())
	s.operator = mounted(t, writes.OperatorRoutes(), map[string]route.API{"millrace": {Authorize: access.Socket}})
}

func mounted(t testing.TB, routes []route.Route, apis map[string]route.API) http.Handler {
	t.Helper()
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	if err := route.Mount(engine, routes, route.Options{APIs: apis, Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	return engine
}

func send(handler http.Handler, path, secret, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Authorization", secret)
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, r)
	return answer
}

// atOnce sends a request to each service at the same moment and counts the answers by status.
func atOnce(services []*service, ask func(s *service) *httptest.ResponseRecorder) (answers map[int]int, bodies []string) {
	var mu sync.Mutex
	var wait sync.WaitGroup
	answers = map[int]int{}
	gate := make(chan struct{})
	for _, s := range services {
		wait.Go(func() {
			<-gate
			answer := ask(s)
			mu.Lock()
			defer mu.Unlock()
			answers[answer.Code]++
			bodies = append(bodies, answer.Body.String())
		})
	}
	close(gate)
	wait.Wait()
	return answers, bodies
}

func TestConflictingDecisionsAtTwoServicesHaveOneWinnerTheSameEverywhere(t *testing.T) {
	e := openEngines(t)
	services := []*service{e.start(t), e.start(t)}
	owner := "owner-" + e.mark
	const admin = "/millrace/v1/admin/pgperffarm"
	if answer := send(services[0].operator, admin+"/users", "", `{"name": "`+owner+`"}`); answer.Code != http.StatusOK {
		t.Fatalf("user set: %d %s", answer.Code, answer.Body)
	}
	for round := range 20 {
		alias, secret := fmt.Sprintf("m%d-%s", round, e.mark), fmt.Sprintf("s%d-%s", round, e.mark)
		add := fmt.Sprintf(`{"alias": %q, "owner": %q, "approved": true, "secret": %q}`, alias, owner, secret)
		answers, bodies := atOnce(services, func(s *service) *httptest.ResponseRecorder { return send(s.operator, admin+"/machines", "", add) })
		if answers[http.StatusCreated] != 1 || answers[http.StatusConflict] != 1 {
			t.Fatalf("round %d: the alias was given %v: %q", round, answers, bodies)
		}
		body := string(farmdoc.Synthetic(farmdoc.Small(farmdoc.Options{Seed: uint64(round)})))
		answers, bodies = atOnce(services, func(s *service) *httptest.ResponseRecorder { return send(s.handler, "/run/upload", secret, body) })
		if answers[http.StatusCreated] != 1 || answers[http.StatusNotAcceptable] != 1 {
			t.Fatalf("round %d: the run was stored %v: %q", round, answers, bodies)
		}
	}
	e.compare(t, append(services, e.start(t)))
}

// compare checks that all replicas know the same machines and runs of this test.
func (e *engines) compare(t *testing.T, services []*service) {
	t.Helper()
	type known struct{ machine, runs, latest uint64 }
	var first []known
	for i, s := range services {
		if err := errors.Join(s.registry.CatchUp(t.Context()), s.runs.CatchUp(t.Context())); err != nil {
			t.Fatal(err)
		}
		got := make([]known, 20)
		for round := range got {
			s.registry.View(func(state *registry.State) {
				got[round].machine = state.ByAlias(fmt.Sprintf("m%d-%s", round, e.mark)).ID
			})
			s.runs.View(func(state *runs.State) {
				machine := state.Machines[got[round].machine]
				got[round].runs, got[round].latest = machine.Runs, machine.Latest[0]
			})
			if got[round].runs != 1 {
				t.Errorf("replica %d: machine of round %d has %d runs, want 1", i, round, got[round].runs)
			}
		}
		if first == nil {
			first = got
		}
		if fmt.Sprint(got) != fmt.Sprint(first) {
			t.Errorf("replica %d knows %v, replica 0 %v", i, got, first)
		}
	}
}
