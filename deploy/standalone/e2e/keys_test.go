package e2e

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/processor/fold"
	"github.com/millrace/millrace/schemas/clickhouse"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// keyedRequest is a request that is sent again and again under one key.
type keyedRequest struct {
	path   string
	body   string
	header []string
	// first is the first answer, and hidden the member of it that no repeat shows.
	first  Answer
	hidden string
}

func (r *keyedRequest) send(t *testing.T, door, body string) Answer {
	t.Helper()
	noteCall(t, http.MethodPost, r.path)
	return send(t, http.MethodPost, door+r.path, []byte(body), r.header...)
}

// insist sends the request again while it is told to: after a crash the projections have to catch up first.
func (r *keyedRequest) insist(t *testing.T, door, body string) Answer {
	t.Helper()
	for end := time.Now().Add(startTimeout); ; {
		answer := r.send(t, door, body)
		if answer.Status != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" || time.Now().After(end) {
			return answer
		}
	}
}

// begin sends the request for the first time.
func (r *keyedRequest) begin(t *testing.T, door string) {
	t.Helper()
	r.header = append(r.header, "Idempotency-Key", Unique("key"))
	if r.first = r.send(t, door, r.body); r.first.Status >= http.StatusBadRequest {
		t.Fatalf("%s: %d %s", r.first.Asked, r.first.Status, r.first.Body)
	}
}

// repeat wants the first answer at a door, but for what is shown once, and no other body to be taken.
func (r *keyedRequest) repeat(t *testing.T, door string) {
	t.Helper()
	again := r.insist(t, door, r.body)
	if again.Status != r.first.Status || again.Header.Get("Location") != r.first.Header.Get("Location") {
		t.Errorf("%s: the repeat is answered %d %q, the first was %d %q", again.Asked, again.Status, again.Header.Get("Location"),
			r.first.Status, r.first.Header.Get("Location"))
	}
	if len(r.first.Body) > 0 {
		var first, second map[string]any
		r.first.JSON(t, &first)
		again.JSON(t, &second)
		if r.hidden != "" && first[r.hidden] == nil {
			t.Errorf("%s: the first answer shows no %s: %s", r.first.Asked, r.hidden, r.first.Body)
		}
		delete(first, r.hidden)
		if fmt.Sprint(first) != fmt.Sprint(second) {
			t.Errorf("%s: the repeat is answered %v, the first was %v", again.Asked, second, first)
		}
	}
	r.insist(t, door, strings.Replace(r.body, "{", "{ ", 1)).refuses(t, http.StatusUnprocessableEntity, "Idempotency-Key")
}

// keyed are requests of every kind that honours a key, each sent once.
func (l *Lab) keyed(t *testing.T) (m machine, requests []*keyedRequest) {
	t.Helper()
	m = l.newMachine(t)
	spare := l.machineOf(t, m.Owner)
	run := m.store(t, smallDocument(0))
	operator := []string{"Authorization", "Bearer " + l.Token(t, "operator"), "Content-Type", "application/json"}
	writer := []string{"Authorization", "Bearer " + l.Token(t, "writer"), "Content-Type", "application/json"}
	const admin = "/millrace/v1/admin"
	requests = []*keyedRequest{
		{path: uploadPath, body: string(smallDocument(1).body()), header: []string{"Authorization", m.Secret}},
		{path: admin + "/tokens", body: fmt.Sprintf(`{"name": %q, "role": "viewer"}`, Unique("token")), header: operator, hidden: "token"},
		{path: admin + "/pgperffarm/users", body: fmt.Sprintf(`{"name": %q, "staff": true}`, m.Owner), header: operator},
		{path: admin + "/pgperffarm/machines/rotate", body: fmt.Sprintf(`{"alias": %q}`, m.Alias), header: operator, hidden: "secret"},
		{path: admin + "/pgperffarm/machines/revoke", body: fmt.Sprintf(`{"alias": %q}`, spare.Alias), header: operator},
		{path: fmt.Sprintf("/millrace/v1/runs/%d/samples", run), body: `{"metric": "room", "points": [[1625223600, 20]]}`, header: writer},
	}
	for _, r := range requests {
		r.header = slices.Clone(r.header)
		r.begin(t, l.URL())
	}
	var rotated Machine
	requests[3].first.JSON(t, &rotated)
	m.Secret = rotated.Secret
	requests[0].header[1] = m.Secret
	return m, requests
}

// wantOnce wants the effects of the requests once: the rotated secret is still the machine's, which has two runs, and the
// one sample is one.
func (m machine) wantOnce(t *testing.T) {
	t.Helper()
	m.upload(t, smallDocument(1).body()).Want(t, http.StatusNotAcceptable)
	path := fmt.Sprintf("/metrics/names?machine=%d&prefix=room", m.ID)
	for end := time.Now().Add(startTimeout); time.Now().Before(end); {
		if m.lab.operator(t).get(t, "/millrace/v1"+path).Status != http.StatusServiceUnavailable {
			break
		}
	}
	names, _ := m.lab.operator(t).items(t, path)
	if len(names) != 1 || names[0]["samples"] != 1.0 {
		t.Errorf("the series are %v, want one with one sample", names)
	}
	owner := m.lab.browser(t, m.Owner)
	wantMembers(t, owner.own(t, m.Alias), map[string]any{"count": 2.0})
}

func TestEveryWriteUnderAKeyHasOneEffectAndOneAnswerAtEveryDoorAndAfterACrash(t *testing.T) {
	covers(t, "POST /run/upload", "POST /millrace/v1/admin/tokens", "POST /millrace/v1/admin/pgperffarm/users",
		"POST /millrace/v1/admin/pgperffarm/machines/rotate", "POST /millrace/v1/admin/pgperffarm/machines/revoke",
		"POST /millrace/v1/runs/:run_id/samples")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		m, requests := lab.keyed(t)
		for _, startAgain := range []func(testing.TB){func(testing.TB) {}, lab.Crash} {
			startAgain(t)
			lab.Settle(t)
			for _, door := range lab.Ingest() {
				for _, r := range requests {
					r.repeat(t, door)
				}
			}
			m.wantOnce(t)
		}
	})
}

// flood takes as many keys as a topic's fold remembers.
func flood(t *testing.T, appender *eventlog.Appender, topic string, request func(*event.Idempotency) proto.Message) {
	t.Helper()
	const senders = 4096 // their events are written together
	var wait sync.WaitGroup
	for sender := range senders {
		wait.Go(func() {
			for n := sender; n < fold.RememberedKeys; n += senders {
				key := binary.BigEndian.AppendUint64([]byte(t.Name()+topic), uint64(n))
				e, err := eventlog.NewEvent("/test", request(&event.Idempotency{Key: key, KeepSeconds: 3600, Checked: 1 << 40}))
				if err == nil {
					_, err = appender.Append(t.Context(), eventlog.Partition{Topic: topic}, e)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// floodAll has the folds of a log forget every key that was taken before.
func floodAll(t *testing.T, brokers string) {
	t.Helper()
	client, err := eventlog.Dial(t.Context(), eventlog.Config{Brokers: []string{brokers}, VolumePartitions: 1, Replication: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	appender := eventlog.NewAppender(client, eventlog.AppenderConfig{MaxWaiting: 64 << 20}, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	defer appender.Close()
	flood(t, appender, eventlog.Runs, func(key *event.Idempotency) proto.Message {
		fact := uuid.New()
		return &event.FactKeyRequested{FactId: fact[:], Idempotency: key}
	})
	flood(t, appender, eventlog.Registry, func(key *event.Idempotency) proto.Message {
		return &event.TokenRevokeRequested{Name: "none", Idempotency: key}
	})
}

func TestKeysThatTheFoldsForgotAreHonouredAfterACrashAndARebuildToo(t *testing.T) {
	t.Run("standalone", func(t *testing.T) {
		l := startOnOpenLog(t)
		testForgottenKeys(t, l.lab, l.brokers, l.tables, func() {
			report := l.lab.operator(t).do(t, http.MethodPost, "/millrace/v1/admin/replay", nil).Want(t, http.StatusOK)
			if !strings.Contains(string(report.Body), `"report"`) {
				t.Fatalf("the rebuild ends with %s", report.Body)
			}
		})
	})
	t.Run("services", func(t *testing.T) {
		lab := start(t, "services")
		testForgottenKeys(t, lab, lab.installation.(*processes).engines.kafka, lab.doors().clickhouse, func() {})
	})
}

func testForgottenKeys(t *testing.T, lab *Lab, brokers, tables string, rebuild func()) {
	t.Helper()
	m, requests := lab.keyed(t)
	floodAll(t, brokers)
	for _, change := range []func(){func() {}, rebuild, func() { lab.Crash(t); lab.Settle(t) }} {
		change()
		for _, door := range lab.Ingest() {
			for _, r := range requests {
				r.repeat(t, door)
			}
		}
		m.wantOnce(t)
	}
	lab.wantRefusalWithoutKeys(t, tables, requests)
}

// wantRefusalWithoutKeys takes the table of keys away: nothing under a key that may be a forgotten one is taken then.
func (l *Lab) wantRefusalWithoutKeys(t *testing.T, tables string, requests []*keyedRequest) {
	t.Helper()
	db, err := clickhouse.Open(clickhouse.Config{URL: tables, Connections: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	generation, err := db.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	move := func(from, to string) {
		t.Helper()
		database := "`" + db.Generation(generation) + "`."
		if err := db.Exec(context.WithoutCancel(t.Context()), "RENAME TABLE "+database+from+" TO "+database+to); err != nil {
			t.Fatal(err)
		}
	}
	move("idempotency_keys", "away")
	fresh := &keyedRequest{
		path: requests[1].path, body: fmt.Sprintf(`{"name": %q, "role": "viewer"}`, Unique("token")),
		header: append(slices.Clone(requests[1].header[:4]), "Idempotency-Key", Unique("key")),
	}
	for _, door := range l.Ingest() {
		for _, r := range []*keyedRequest{requests[1], fresh} {
			answer := r.send(t, door, r.body).Want(t, http.StatusServiceUnavailable)
			if answer.Header.Get("Retry-After") == "" {
				t.Errorf("%s: 503 without Retry-After", answer.Asked)
			}
		}
	}
	move("away", "idempotency_keys")
	for _, door := range l.Ingest() {
		requests[1].repeat(t, door)
	}
	var added map[string]any
	fresh.send(t, l.URL(), fresh.body).Want(t, http.StatusCreated).JSON(t, &added)
	if added["token"] == nil {
		t.Error("a request that was refused while nobody could look had an effect")
	}
}
