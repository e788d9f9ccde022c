package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/processor/pgperffarm"
	"github.com/millrace/millrace/schemas/blob"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// openLog is a standalone's log, into which a test puts records that no door would.
type openLog struct {
	lab      *Lab
	brokers  string
	tables   string // ClickHouse's address
	client   *eventlog.Client
	appender *eventlog.Appender
}

// startOnOpenLog gives a test a standalone to itself, on a log that the test can reach.
func startOnOpenLog(t *testing.T) *openLog {
	t.Helper()
	e := &engines{}
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	if err := e.embed(ctx, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.close(); err != nil {
			t.Errorf("end the engines: %v", err)
		}
	})
	l := &openLog{brokers: e.kafka, tables: e.clickhouse}
	l.lab = startWith(t, "MILLRACE_KAFKA="+e.kafka, "MILLRACE_CLICKHOUSE="+e.clickhouse, "MILLRACE_REDIS="+e.redis)
	var err error
	if l.client, err = eventlog.Dial(ctx, eventlog.Config{Brokers: []string{e.kafka}, VolumePartitions: 1, Replication: 1}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.client.Close)
	l.appender = eventlog.NewAppender(l.client, eventlog.AppenderConfig{MaxWaiting: 64 << 20}, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	t.Cleanup(l.appender.Close)
	return l
}

// append puts an event into a topic and gives its offset.
func (l *openLog) append(t *testing.T, topic string, e eventlog.Event) int64 {
	t.Helper()
	offset, err := l.appender.Append(t.Context(), eventlog.Partition{Topic: topic}, e)
	if err != nil {
		t.Fatal(err)
	}
	return offset
}

// appendBare puts a record without an envelope into a topic.
func (l *openLog) appendBare(t *testing.T, topic, value string) {
	t.Helper()
	w := &kafka.Writer{Addr: kafka.TCP(l.brokers), Topic: topic, RequiredAcks: kafka.RequireAll, BatchTimeout: time.Millisecond}
	defer func() { _ = w.Close() }()
	if err := w.WriteMessages(t.Context(), kafka.Message{Key: []byte("key"), Value: []byte(value)}); err != nil {
		t.Fatal(err)
	}
}

// letter is a dead letter as the API shows it.
type letter struct {
	ID         string   `json:"dead_letter_id"`
	State      string   `json:"state"`
	RequeuedAs []string `json:"requeued_as"`
	Topic      string   `json:"topic"`
	Offset     int64    `json:"offset"`
	EventID    string   `json:"event_id"`
	EventType  string   `json:"event_type"`
	Reason     string   `json:"reason"`
	Value      []byte   `json:"value"`
}

func (l *openLog) letters(t *testing.T, query string) []letter {
	t.Helper()
	var page struct{ Items []letter }
	l.lab.operator(t).get(t, "/millrace/v1/dead-letters"+query).Want(t, http.StatusOK).JSON(t, &page)
	return page.Items
}

// awaitLetters waits until a list of dead letters has a length. That a record is one is found out behind the door.
func (l *openLog) awaitLetters(t *testing.T, query string, length int) []letter {
	t.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	giveUp := time.NewTimer(30 * time.Second)
	defer giveUp.Stop()
	for {
		letters := l.letters(t, query)
		if len(letters) == length {
			return letters
		}
		select {
		case <-ticker.C:
		case <-giveUp.C:
			t.Fatalf("%d dead letters, want %d: %+v", len(letters), length, letters)
		}
	}
}

func newEvent(t *testing.T, payload proto.Message) eventlog.Event {
	t.Helper()
	e, err := eventlog.NewEvent("/test", payload)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestPoisonedRecordBecomesOneDeadLetterAndStallsNothing(t *testing.T) {
	covers(t, "GET /millrace/v1/dead-letters", "GET /millrace/v1/dead-letters/:id", "POST /millrace/v1/dead-letters/:id/requeue", "POST /run/upload")
	l := startOnOpenLog(t)
	m := l.lab.newMachine(t)
	m.store(t, smallDocument(0))
	unknown := newEvent(t, &event.TokenRevokeRequested{Name: "x"})
	unknown.Type = "millrace.event.v1.NobodyKnows"
	garbled := newEvent(t, &event.FarmUploadRequested{})
	garbled.Data = []byte{0xff, 0xff, 0xff}
	document := newEvent(t, uploadOf(t, m, smallDocument(1), &event.Document{Place: &event.Document_Inline{Inline: []byte("no upload")}, Encoding: event.Encoding_ENCODING_IDENTITY, Size: 9}))
	want := map[string]string{ // reason by topic and event
		eventlog.Runs + " ": "envelope", eventlog.Registry + " ": "envelope", eventlog.Results + " ": "envelope",
		eventlog.Runs + " " + unknown.Type: "unknown event type", eventlog.Registry + " " + unknown.Type: "unknown event type",
		eventlog.Runs + " " + garbled.Type: "decode",
	}
	for _, topic := range []string{eventlog.Runs, eventlog.Registry, eventlog.Results} {
		l.appendBare(t, topic, "poison")
	}
	l.append(t, eventlog.Runs, unknown)
	l.append(t, eventlog.Registry, unknown)
	l.append(t, eventlog.Runs, garbled)
	letters := l.awaitLetters(t, "", len(want))
	for _, found := range letters {
		reason, expected := want[found.Topic+" "+found.EventType]
		if !expected || !strings.Contains(found.Reason, reason) || found.State != "open" {
			t.Errorf("the letter is %+v, want the reason to say %q", found, reason)
		}
	}
	at := l.append(t, eventlog.Runs, document)
	letters = l.awaitLetters(t, "?topic=runs&state=open", 4)
	i := slices.IndexFunc(letters, func(l letter) bool { return l.Offset == at })
	if i < 0 {
		t.Fatalf("no letter has the offset %d: %+v", at, letters)
	}
	if found := letters[i]; found.EventID != document.ID.String() || !strings.Contains(found.Reason, "does not parse") {
		t.Errorf("the letter of the unreadable document is %+v", found)
	}
	// What stands behind the poison is read, on every topic.
	l.lab.runRow(t, m.store(t, smallDocument(2)))
	l.lab.runRow(t, l.lab.newMachine(t).store(t, smallDocument(0)))
	l.lab.Restart(t)
	l.lab.runRow(t, m.store(t, smallDocument(3)))
	if again := l.letters(t, ""); len(again) != len(want)+1 {
		t.Errorf("after a restart there are %d dead letters, want %d", len(again), len(want)+1)
	}
	l.lab.Admin(t, nil, "replay")
	if again := l.letters(t, ""); len(again) != len(want)+1 {
		t.Errorf("after a rebuild there are %d dead letters, want %d", len(again), len(want)+1)
	}
	l.wantRefusals(t, letters[i].ID)
}

// wantRefusals looks at what the endpoints of dead letters answer to those who may not or who err.
func (l *openLog) wantRefusals(t *testing.T, id string) {
	t.Helper()
	operator := l.lab.operator(t)
	for _, path := range []string{"/millrace/v1/dead-letters/x", "/millrace/v1/dead-letters/0198c0de-0000-7000-8000-000000000000"} {
		operator.get(t, path).refuses(t, http.StatusNotFound)
		operator.post(t, path+"/requeue", "").refuses(t, http.StatusNotFound)
	}
	l.lab.visitor(t).get(t, "/millrace/v1/dead-letters/"+id).refuses(t, http.StatusUnauthorized)
	bare := l.letters(t, "?topic=results")[0]
	operator.post(t, "/millrace/v1/dead-letters/"+bare.ID+"/requeue", "").refuses(t, http.StatusUnprocessableEntity, "envelope")
}

// uploadOf is the request of an upload whose document is elsewhere than it should be, or something else.
func uploadOf(t *testing.T, m machine, d farmDocument, place *event.Document) *event.FarmUploadRequested {
	t.Helper()
	parsed, err := pgperffarm.Parse(d.body(), pgperffarm.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	request := &event.FarmUploadRequested{
		MachineId: m.ID, MachineType: parsed.MachineType, StartTime: parsed.Start.UnixMicro(), Document: place,
	}
	for _, term := range parsed.Terms() {
		request.Terms = append(request.Terms, &event.Term{Kind: event.TermKind(term.Kind), Hash: term.Hash[:]})
	}
	return request
}

// A document whose blob was lost is a dead letter; once the blob is there again, the operator requeues it and the run
// appears, once, in the place of the one that never did.
func TestRequeuedDeadLetterHasItsEffectInItsNewPlace(t *testing.T) {
	covers(t, "POST /millrace/v1/dead-letters/:id/requeue", "GET /millrace/v1/dead-letters/:id", "GET /run/:run_id", "GET /machine/user")
	l := startOnOpenLog(t)
	m := l.lab.newMachine(t)
	owner := l.lab.browser(t, m.Owner)
	body := smallDocument(0).body()
	sum := sha256.Sum256(body)
	lost := newEvent(t, uploadOf(t, m, smallDocument(0), &event.Document{
		Place:    &event.Document_Blob{Blob: &event.BlobRef{Sha256: sum[:], Size: uint64(len(body))}},
		Encoding: event.Encoding_ENCODING_IDENTITY, Size: uint64(len(body)),
	}))
	l.append(t, eventlog.Runs, lost)
	dead := l.awaitLetters(t, "?state=open", 1)
	if dead[0].EventID != lost.ID.String() || !strings.Contains(dead[0].Reason, "cannot be read") {
		t.Fatalf("the dead letters are %+v, want that of the lost document", dead)
	}
	lostRun := uint64(list(owner.own(t, m.Alias), "latest")[0].(float64))
	l.lab.visitor(t).get(t, fmt.Sprintf("/run/%d", lostRun)).refuses(t, http.StatusNotFound)
	l.putBlob(t, body)
	l.wantShown(t, dead[0].ID, lost)
	var requeued struct {
		ID string `json:"requeued_as"`
	}
	l.lab.Admin(t, &requeued, "deadletters", "requeue", dead[0].ID)
	latest := list(owner.own(t, m.Alias), "latest")
	if len(latest) != 1 || latest[0] == float64(lostRun) {
		t.Fatalf("the machine's runs are %v, want one in a new place", latest)
	}
	l.lab.runRow(t, uint64(latest[0].(float64)))
	// To requeue again has no second effect, by the command or by the API.
	l.lab.operator(t).post(t, "/millrace/v1/dead-letters/"+dead[0].ID+"/requeue", "").says(t, http.StatusAccepted, requeued.ID)
	wantMembers(t, owner.own(t, m.Alias), map[string]any{"count": 1.0, "latest": latest})
	m.upload(t, body).says(t, http.StatusNotAcceptable, "stored before")
	done := l.letters(t, "")
	if len(done) != 1 || done[0].State != "requeued" || !slices.Contains(done[0].RequeuedAs, requeued.ID) || len(l.letters(t, "?state=open")) != 0 {
		t.Errorf("the dead letters are %+v, want the one, requeued as %s", done, requeued.ID)
	}
}

func (l *openLog) putBlob(t *testing.T, body []byte) {
	t.Helper()
	blobs, err := blob.Open(t.Context(), "file://"+filepath.Join(l.lab.dir, "standalone", "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = blobs.Close() }()
	if _, err := blobs.PutBytes(t.Context(), body); err != nil {
		t.Fatal(err)
	}
}

// wantShown looks at a dead letter by the API and by the command, here and from elsewhere.
func (l *openLog) wantShown(t *testing.T, id string, lost eventlog.Event) {
	t.Helper()
	var shown, listed, remote letter
	l.lab.operator(t).get(t, "/millrace/v1/dead-letters/"+id).Want(t, http.StatusOK).JSON(t, &shown)
	if shown.EventType != lost.Type || string(shown.Value) != string(lost.Data) {
		t.Errorf("the letter shows %+v, want the record as it was", shown)
	}
	l.lab.Admin(t, &listed, "deadletters", "show", id)
	l.lab.Admin(t, &remote, "deadletters", "show", id, "--server", l.lab.URL(), "--token", l.token(t))
	for _, other := range []letter{listed, remote} {
		if fmt.Sprint(other) != fmt.Sprint(shown) {
			t.Errorf("the command shows %+v, the API %+v", other, shown)
		}
	}
	var page struct{ Items []json.RawMessage }
	l.lab.Admin(t, &page, "deadletters", "list", "--limit", strconv.Itoa(5))
	if len(page.Items) != 1 {
		t.Errorf("the command lists %d letters, want one", len(page.Items))
	}
	if reason := l.lab.RefusedAdmin(t, "deadletters", "requeue", "0198c0de-0000-7000-8000-000000000000"); !strings.Contains(reason, "there is no dead letter") {
		t.Errorf("an unknown letter is refused with %q", reason)
	}
}

func (l *openLog) token(t *testing.T) string {
	t.Helper()
	return strings.TrimPrefix(l.lab.operator(t).header.Get("Authorization"), "Bearer ")
}
