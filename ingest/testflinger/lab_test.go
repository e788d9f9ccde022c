package testflinger_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/ingest/dispatch"
	"github.com/millrace/millrace/ingest/door/doortest"
	door "github.com/millrace/millrace/ingest/testflinger"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/schemas/blob"
	"github.com/millrace/millrace/schemas/document"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/keyring"
	"github.com/millrace/millrace/schemas/route"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.ReleaseMode)
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) { os.Exit(code) }))
}

// lab is two replicas of the door on one log in memory.
type lab struct {
	t        *testing.T
	config   door.Config
	webhooks door.WebhooksConfig
	clock    *doortest.Clock
	log      *doortest.Log
	ring     *keyring.Keyring
	packer   *document.Packer
	replicas []*replica
}

// replica is one process: its folds see what the other appended only once they catch up.
type replica struct {
	jobs     *doortest.Fold[*jobs.State, jobs.Outcome]
	registry *doortest.Fold[*registry.State, registry.Outcome]
	pulse    *door.Pulse
	metrics  *prometheus.Registry
	engine   *gin.Engine
}

func newLab(t *testing.T, g testflinger.Generation, change ...func(*door.Config)) *lab {
	t.Helper()
	l := &lab{t: t, config: door.DefaultConfig(), clock: doortest.NewClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))}
	l.config.Generation, l.config.MaxBody = g, 200<<10
	for _, set := range change {
		set(&l.config)
	}
	l.log = doortest.NewLog(l.clock.Now)
	var err error
	if l.ring, err = keyring.Open(filepath.Join(t.TempDir(), "key")); err != nil {
		t.Fatal(err)
	}
	blobs, err := blob.Open(t.Context(), "mem://")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = blobs.Close() })
	if l.packer, err = document.NewPacker(blobs, 1<<30); err != nil {
		t.Fatal(err)
	}
	l.replicas = []*replica{l.newReplica(), l.newReplica()}
	return l
}

func (l *lab) newReplica() *replica {
	l.t.Helper()
	r := &replica{jobs: doortest.NewFold(l.log, jobs.Fold()), registry: doortest.NewFold(l.log, registry.Fold()), metrics: prometheus.NewRegistry(), engine: gin.New()}
	logger := slog.New(slog.DiscardHandler)
	tokens := testflinger.NewTokens(l.config.Generation, []byte("key"), l.clock.Now)
	webhooks, err := door.NewWebhooks(l.config.Generation, l.webhooks)
	if err != nil {
		l.t.Fatal(err)
	}
	dispatcher := dispatch.New(dispatch.Dependencies{
		Log: l.log.Door(), Jobs: r.jobs, Documents: dispatch.NewDocuments(1<<20, l.submissions, l.packer), Now: l.clock.Now, Logger: logger,
	})
	d, err := door.New(l.config, door.Dependencies{
		Log: l.log.Door(), Registry: r.registry, Jobs: r.jobs, Dispatcher: dispatcher, Packer: l.packer, Keyring: l.ring, Tokens: tokens,
		Webhooks: webhooks, Attempts: access.NewAttempts(), Agents: l.agents, Find: l.find, Pieces: l.pieces, Now: l.clock.Now, Metrics: r.metrics, Logger: logger,
	})
	if err != nil {
		l.t.Fatal(err)
	}
	r.pulse = door.NewPulse(l.config.Generation, l.config.Lease, door.PulseDependencies{Log: l.log.Door(), Jobs: r.jobs, Now: l.clock.Now, Logger: logger})
	err = route.Mount(r.engine, d.Routes(), route.Options{
		Log: logger, APIs: map[string]route.API{door.API: access.NewTestflinger(tokens).API()},
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return r
}

// messages gives what stands in a topic.
func messages[T proto.Message](l *lab, topic string) (found []T, records []eventlog.Record) {
	for _, record := range l.log.Records(topic) {
		message, err := record.Decode()
		if err != nil {
			l.t.Fatal(err)
		}
		if m, is := message.(T); is {
			found, records = append(found, m), append(records, record)
		}
	}
	return found, records
}

// What follows are the projections, made from the log when they are asked.

func (l *lab) submissions(context.Context, uint64, []uint64) (map[uint64]*dispatch.Submission, error) {
	found := map[uint64]*dispatch.Submission{}
	all, _ := messages[*event.JobSubmitted](l, eventlog.Jobs)
	for i, m := range all {
		found[uint64(i+1)] = &dispatch.Submission{JobID: m.GetJobId(), Document: m.GetDocument(), Owner: m.GetOwner(), Submitter: m.GetSealedSubmitter()}
	}
	return found, nil
}

func (l *lab) find(_ context.Context, id string) (seq uint64, err error) {
	all, _ := messages[*event.JobSubmitted](l, eventlog.Jobs)
	for i, m := range all {
		if m.GetJobId() == id {
			seq = uint64(i + 1)
		}
	}
	return seq, nil
}

func (l *lab) agents(context.Context) (map[string][]string, error) {
	agents := map[string][]string{}
	all, _ := messages[*event.TestflingerAgentPosted](l, eventlog.Results)
	for _, m := range all {
		if m.GetQueues() != nil || agents[m.GetName()] == nil {
			agents[m.GetName()] = append([]string{}, m.GetQueues().GetNames()...)
		}
	}
	return agents, nil
}

func (l *lab) pieces(_ context.Context, id string, kind event.JobOutputKind, after uint64, known bool, limit int64) (*door.Pieces, error) {
	found := &door.Pieces{After: after}
	if !known {
		folded := doortest.NewFold(l.log, jobs.Fold())
		if err := folded.CatchUp(l.t.Context()); err != nil {
			return nil, err
		}
		folded.View(func(s *jobs.State) { found.After, _ = s.TakenOutput(id, kind) })
	}
	all, records := messages[*event.JobOutputAppended](l, eventlog.JobOutput)
	for i, m := range all {
		place := uint64(1)<<44 + uint64(records[i].Offset)
		if m.GetJobId() == id && m.GetKind() == kind && place > found.After && limit > 0 {
			found.Documents, found.Through = append(found.Documents, m.GetDocument()), place
			limit -= int64(m.GetDocument().GetSize())
		}
	}
	return found, nil
}

// answer is what a request was answered.
type answer struct {
	*httptest.ResponseRecorder
	t     *testing.T
	asked string
}

// ask sends a request to a replica. A body that begins like JSON is said to be it.
func (l *lab) ask(at int, method, path, body string, header ...string) *answer {
	l.t.Helper()
	r := httptest.NewRequestWithContext(l.t.Context(), method, path, strings.NewReader(body))
	if strings.HasPrefix(body, "{") || strings.HasPrefix(body, "[") {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	a := &answer{httptest.NewRecorder(), l.t, fmt.Sprintf("%s %s %.200s", method, path, body)}
	l.replicas[at].engine.ServeHTTP(a, r)
	return a
}

// is checks an answer's status and body.
func (a *answer) is(status int, body string) *answer {
	a.t.Helper()
	if a.Code != status || strings.TrimSpace(a.Body.String()) != body {
		a.t.Errorf("%s\nis answered %d %s\nwant %d %s", a.asked, a.Code, a.Body, status, body)
	}
	return a
}

// members reads an answer that is an object.
func (a *answer) members() (object map[string]any) {
	a.t.Helper()
	if err := json.Unmarshal(a.Body.Bytes(), &object); err != nil || a.Code != http.StatusOK {
		a.t.Fatalf("%s\nis answered %d %s (%v)", a.asked, a.Code, a.Body, err)
	}
	return object
}

// refusal is the body of an error.
func refusal(message string) string { return fmt.Sprintf(`{"detail":{},"message":%q}`, message) }

// submit puts a job into a queue and gives its id.
func (l *lab) submit(body string, header ...string) string {
	l.t.Helper()
	id, _ := l.ask(0, http.MethodPost, "/v1/job", body, header...).members()["job_id"].(string)
	if !testflinger.IsJobID(id) {
		l.t.Fatalf("%s has the id %q", body, id)
	}
	return id
}

// client makes a client and gives the header with its token.
func (l *lab) client(id string, role testflinger.Role, change func(*testflinger.Permission)) []string {
	l.t.Helper()
	permission := testflinger.Permission{ClientID: id, Role: role}
	if change != nil {
		change(&permission)
	}
	hash := access.HashTestflingerClient(l.ring, id)
	encrypted, err := access.EncryptTestflingerSecret(l.ring, id+"'s secret")
	if err != nil {
		l.t.Fatal(err)
	}
	sealed, err := access.SealTestflingerProfile(l.ring, hash, &event.TestflingerProfile{ClientId: id, Email: id + "@example.org"})
	if err != nil {
		l.t.Fatal(err)
	}
	wrapped, err := eventlog.NewEvent("/test", &event.TestflingerClientSetRequested{
		IdHash: hash[:], SealedProfile: sealed, SecretBcrypt: encrypted, Role: role.Event(),
		MaxPriority:    &event.TestflingerLimits{ByQueue: permission.MaxPriority},
		MaxReservation: &event.TestflingerLimits{ByQueue: permission.MaxReservation},
		AllowedQueues:  &event.TestflingerQueues{Names: permission.AllowedQueues},
	})
	if err != nil {
		l.t.Fatal(err)
	}
	if _, _, err := l.replicas[1].registry.Decide(l.t.Context(), wrapped); err != nil {
		l.t.Fatal(err)
	}
	return l.signedIn(permission)
}

func (l *lab) signedIn(p testflinger.Permission) []string {
	l.t.Helper()
	token, err := testflinger.NewTokens(l.config.Generation, []byte("key"), l.clock.Now).Sign(p)
	if err != nil {
		l.t.Fatal(err)
	}
	return []string{"Authorization", "Bearer " + token}
}
