package subscription_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/processor/archive"
	"github.com/millrace/millrace/processor/fold"
	"github.com/millrace/millrace/processor/internal/enginetest"
	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/processor/sink"
	"github.com/millrace/millrace/processor/subscription"
	"github.com/millrace/millrace/processor/webhook"
	"github.com/millrace/millrace/schemas/blob"
	"github.com/millrace/millrace/schemas/clickhouse"
	"github.com/millrace/millrace/schemas/document"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/keyring"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) { os.Exit(code) }))
}

// patience bounds every wait of these tests.
const patience = time.Minute

// site is a log whose projections are kept, with the registry's fold.
type site struct {
	cluster  *kfake.Cluster
	client   *eventlog.Client
	appender *eventlog.Appender
	db       *clickhouse.DB
	registry *fold.Replica[*registry.State, registry.Outcome]
	keys     *keyring.Keyring
}

func newSite(t *testing.T) *site {
	t.Helper()
	database := enginetest.Database(t)
	s := &site{cluster: enginetest.Log(t), db: enginetest.Open(t, database)}
	s.client = enginetest.Dial(t, s.cluster)
	s.appender = enginetest.Appender(t, s.client)
	var err error
	if s.keys, err = keyring.Open(t.TempDir() + "/key"); err != nil {
		t.Fatal(err)
	}
	if err := s.db.MigrateGeneration(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	blobs, err := blob.Open(t.Context(), "mem://")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = blobs.Close() })
	packer, err := document.NewPacker(blobs, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	a, store := archive.New(s.db), fold.NewStore(s.db)
	if s.registry, err = fold.NewReplica(t.Context(), registry.Fold(), s.client, a, store, 1, quiet); err != nil {
		t.Fatal(err)
	}
	s.background(t, s.registry.Run)
	projector := sink.New(sink.Config{
		MaxRecords: 1000, MaxRows: 200_000, MaxBytes: 64 << 20, Interval: time.Millisecond, SnapshotEvery: time.Minute, SessionTimeout: 10 * time.Second,
	}, sink.Dependencies{
		Client: s.client, Archive: a, Store: store, Appender: s.appender, Packer: packer, Writer: projection.NewWriter(s.db, 1), Epoch: 1,
		CodeVersion: "test", Metrics: sink.NewMetrics(prometheus.NewRegistry()), Tracer: noop.NewTracerProvider().Tracer(""), Logger: quiet,
	}, 1, false)
	s.background(t, projector.Run)
	return s
}

// background runs work until the test ends, or stop is called.
func (s *site) background(t *testing.T, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("what ran in the background ended with %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// processor starts a deliverer with connections of its own.
func (s *site) processor(t *testing.T, change func(*subscription.Config)) (stop func(), metrics *prometheus.Registry) {
	t.Helper()
	config := subscription.Config{
		AtOnce: 4, FirstPause: 5 * time.Millisecond, MaxPause: 20 * time.Millisecond, Window: patience, SessionTimeout: 2 * time.Second,
	}
	if change != nil {
		change(&config)
	}
	client := enginetest.Dial(t, s.cluster)
	allowed, err := webhook.ParseAllowed([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	calls := webhook.New(webhook.Config{Allowed: allowed, Timeout: 300 * time.Millisecond})
	t.Cleanup(calls.Close)
	metrics = prometheus.NewRegistry()
	d, err := subscription.New(config, subscription.Dependencies{
		Client: client, Appender: s.appender, DB: s.db, Generation: func() uint32 { return 1 }, Epoch: 1, Registry: s.registry,
		Keyring: s.keys, Webhook: calls, Now: time.Now, Metrics: metrics, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s.background(t, d.Run), metrics
}

func (s *site) append(t *testing.T, topic string, payload proto.Message) eventlog.Event {
	t.Helper()
	e, err := eventlog.NewEvent("/test", payload)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.appender.Append(t.Context(), eventlog.Partition{Topic: topic}, e); err != nil {
		t.Fatal(err)
	}
	return e
}

// submit puts a job into a queue.
func (s *site) submit(t *testing.T, queue string) eventlog.Event {
	t.Helper()
	return s.append(t, eventlog.Jobs, &event.JobSubmitted{Family: event.JobFamily_JOB_FAMILY_NATIVE, Queue: queue})
}

const secret = "it is a secret"

// subscribe makes a subscription to what comes from now on.
func (s *site) subscribe(t *testing.T, name, url string, queues []string, kinds ...string) *registry.Subscription {
	t.Helper()
	sealed, err := subscription.SealTarget(s.keys, &event.SubscriptionTarget{Url: url, Secret: []byte(secret)})
	if err != nil {
		t.Fatal(err)
	}
	ends, err := s.client.Ends(t.Context(), s.client.Partitions()...)
	if err != nil {
		t.Fatal(err)
	}
	after := eventlog.Position{Log: s.client.LogID, Offsets: map[eventlog.Partition]int64{}}
	for partition, end := range ends {
		if end > 0 {
			after.Offsets[partition] = end - 1
		}
	}
	id := uuid.New()
	s.append(t, eventlog.Registry, &event.SubscriptionAddRequested{
		Name: name, Id: id[:], SealedTarget: sealed, Kinds: kinds, Queues: queues, After: after.String(),
	})
	var made *registry.Subscription
	s.await(t, func(state *registry.State) bool {
		made = state.Subscription(name)
		return made != nil && made.ID == id
	})
	return made
}

func (s *site) await(t *testing.T, look func(*registry.State) bool) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	if err := s.registry.Await(ctx, look); err != nil {
		t.Fatal(err)
	}
}

// until looks again and again until what is looked for is there.
func until(t *testing.T, what string, look func() bool) {
	t.Helper()
	deadline := time.After(patience)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !look() {
		select {
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		case <-ticker.C:
		}
	}
}

// receiver is who subscribes. It notes what it takes.
type receiver struct {
	t   *testing.T
	url string

	mu    sync.Mutex
	taken []string // ids of the events, one for each delivery
	tries map[string]int
	first string // the first body
	// answer says what becomes of an attempt, which is counted from 1 for each event; true to take the event.
	answer func(w http.ResponseWriter, r *http.Request, attempt int) bool
}

func newReceiver(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, attempt int) bool) *receiver {
	t.Helper()
	r := &receiver{t: t, tries: map[string]int{}, answer: answer}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return
	}
	id := request.Header.Get("Millrace-Event-Id")
	if request.URL.Path != "/" {
		r.t.Errorf("a redirect was followed to %s", request.URL)
	}
	if err := verify(request.Header.Get("Millrace-Signature"), body, time.Now()); err != nil {
		r.t.Errorf("event %s: %v", id, err)
	}
	var told struct{ ID string }
	if err := json.Unmarshal(body, &told); err != nil || told.ID != id {
		r.t.Errorf("the header names event %s, the body is %s (%v)", id, body, err)
	}
	r.mu.Lock()
	r.tries[id]++
	attempt := r.tries[id]
	if r.first == "" {
		r.first = string(body)
	}
	r.mu.Unlock()
	if r.answer != nil && !r.answer(w, request, attempt) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken = append(r.taken, id)
}

func (r *receiver) ids() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.taken)
}

// awaitAll waits until each of some events was taken at least once.
func (r *receiver) awaitAll(t *testing.T, events ...eventlog.Event) {
	t.Helper()
	until(t, fmt.Sprintf("%d events to be delivered", len(events)), func() bool {
		taken := r.ids()
		for i := range events {
			if !slices.Contains(taken, events[i].ID.String()) {
				return false
			}
		}
		return true
	})
}

// verify is how a receiver checks a signature.
func verify(signature string, body []byte, now time.Time) error {
	sent, proof, found := strings.Cut(strings.TrimPrefix(signature, "t="), ",v1=")
	if !found {
		return fmt.Errorf("the signature is %q", signature)
	}
	var at int64
	if _, err := fmt.Sscanf(sent, "%d", &at); err != nil || now.Sub(time.Unix(at, 0)).Abs() > patience {
		return fmt.Errorf("it was sent at %s", sent)
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(sent + "." + string(body)))
	if !hmac.Equal([]byte(hex.EncodeToString(mac.Sum(nil))), []byte(proof)) {
		return fmt.Errorf("the signature %q is wrong", signature)
	}
	return nil
}

// batch submits jobs as one event.
func (s *site) batch(t *testing.T, items *event.JobItems) eventlog.Event {
	t.Helper()
	body, err := proto.Marshal(items)
	if err != nil {
		t.Fatal(err)
	}
	return s.append(t, eventlog.Jobs, &event.JobBatchSubmitted{
		Family: event.JobFamily_JOB_FAMILY_DEBCI, Queue: "debci/unstable/amd64", Count: uint32(len(items.GetItems())),
		Document: &event.Document{
			Place: &event.Document_Inline{Inline: body}, Encoding: event.Encoding_ENCODING_IDENTITY, Size: uint64(len(body)),
		},
	})
}

// awaitProgress waits until all before an offset is noted as delivered.
func (s *site) awaitProgress(t *testing.T, name, topic string, offset int64) {
	t.Helper()
	var id uuid.UUID
	s.registry.View(func(state *registry.State) { id = state.Subscription(name).ID })
	until(t, "the deliveries to be noted", func() bool {
		next, _, err := subscription.Progress(t.Context(), s.client, id)
		return err == nil && next[eventlog.Partition{Topic: topic}] >= offset
	})
}

func itoa(n int) string { return fmt.Sprint(n) }
