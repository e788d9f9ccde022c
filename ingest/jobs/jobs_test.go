package jobs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"go.uber.org/goleak"

	"github.com/millrace/millrace/ingest/dispatch"
	"github.com/millrace/millrace/ingest/door/doortest"
	"github.com/millrace/millrace/ingest/jobs"
	"github.com/millrace/millrace/ingest/native"
	"github.com/millrace/millrace/ingest/upload"
	"github.com/millrace/millrace/processor/access"
	fold "github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/processor/registry"
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

// lab is a log, and one process at it.
type lab struct {
	*gin.Engine
	t          *testing.T
	log        *doortest.Log
	clock      *doortest.Clock
	fold       *doortest.Fold[*fold.State, fold.Outcome]
	packer     *document.Packer
	dispatcher *dispatch.Dispatcher
	waiting    *route.Admission
	leases     dispatch.Leases
	// owner is whose jobs those are that are submitted here.
	owner registry.Hash
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, clock: doortest.NewClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)), Engine: gin.New()}
	l.log, l.waiting = doortest.NewLog(l.clock.Now), route.NewAdmission(2, 1<<20)
	keys, err := keyring.Open(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := blob.Open(t.Context(), "mem://")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = blobs.Close() })
	if l.packer, err = document.NewPacker(blobs, 1<<20); err != nil {
		t.Fatal(err)
	}
	l.fold = doortest.NewFold(l.log, fold.Fold())
	l.dispatcher = dispatch.New(dispatch.Dependencies{
		Log: l.log.Door(), Jobs: l.fold, Documents: dispatch.NewDocuments(1<<20, l.find, l.packer), Now: l.clock.Now,
		Logger: slog.New(slog.DiscardHandler),
	})
	l.leases = dispatch.NewLeases(keys)
	j := jobs.New(jobs.DefaultConfig(), jobs.Dependencies{
		Log: l.log.Door(), Jobs: l.fold, Dispatcher: l.dispatcher, Leases: l.leases, Packer: l.packer, Keyring: keys,
		Files: upload.Receiver{Config: upload.DefaultConfig(), Blobs: blobs},
	})
	l.owner = access.HashTokenOwner(keys, "builder")
	authorize := func(*gin.Context, route.Access) (any, error) {
		return access.Bearer{Name: "builder", Role: event.Role_ROLE_WRITER}, nil
	}
	err = route.Mount(l.Engine, j.Routes(), route.Options{
		APIs: map[string]route.API{native.API: {Authorize: authorize}}, Log: slog.New(slog.DiscardHandler),
		Ingest: route.NewAdmission(1, 1<<20), Waiting: l.waiting,
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// find reads submissions in the log, as the projections have them.
func (l *lab) find(_ context.Context, _ uint64, _ []uint64) (map[uint64]*dispatch.Submission, error) {
	found := map[uint64]*dispatch.Submission{}
	for _, record := range l.log.Records(eventlog.Jobs) {
		message, err := record.Decode()
		if err != nil {
			return nil, err
		}
		if m, ok := message.(*event.JobSubmitted); ok {
			found[uint64(len(found)+1)] = &dispatch.Submission{JobID: m.GetJobId(), Document: m.GetDocument()}
		}
	}
	return found, nil
}

func (l *lab) send(ctx context.Context, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/millrace/v1/jobs"+path, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer := httptest.NewRecorder()
	l.ServeHTTP(answer, r)
	return answer
}

// post sends a request whose answer must have a status.
func (l *lab) post(status int, path, body string, headers ...string) []byte {
	l.t.Helper()
	answer := l.send(l.t.Context(), path, body, headers...)
	if answer.Code != status {
		l.t.Fatalf("%s %s: answer is %d %s, want %d", path, body, answer.Code, answer.Body, status)
	}
	return answer.Body.Bytes()
}

type claimed struct {
	ID, Queue string
	Payload   json.RawMessage
	Lease     struct {
		Token     string
		ExpiresAt time.Time `json:"expires_at"`
	}
}

func (l *lab) claim(body string, headers ...string) (c claimed) {
	l.t.Helper()
	if err := json.Unmarshal(l.post(http.StatusOK, "/claim", body, headers...), &c); err != nil {
		l.t.Fatal(err)
	}
	return c
}

func TestWorkerGetsWhatWasSubmittedAndReportsIt(t *testing.T) {
	l := newLab(t)
	if got := string(l.post(http.StatusCreated, "", `{"queue":"build","payload":{"n":1.50}}`)); got != `{"id":"job-1"}` {
		t.Errorf("the submission is answered %s", got)
	}
	got := l.claim(`{"queues":["other","build"]}`)
	if got.ID != "job-1" || got.Queue != "build" || string(got.Payload) != `{"n":1.50}` || !got.Lease.ExpiresAt.Equal(l.clock.Now().Add(time.Minute)) {
		t.Errorf("the claim is answered %+v", got)
	}
	l.clock.Pass(30 * time.Second)
	l.post(http.StatusOK, "/job-1/heartbeat", "", jobs.LeaseHeader, got.Lease.Token)
	result := `{"status":"pass","duration_seconds":3}`
	l.post(http.StatusOK, "/job-1/result", result, jobs.LeaseHeader, got.Lease.Token)
	l.post(http.StatusOK, "/job-1/result", result, jobs.LeaseHeader, got.Lease.Token) // its answer was lost
	other := l.post(http.StatusUnprocessableEntity, "/job-1/result", `{"status":"fail"}`, jobs.LeaseHeader, got.Lease.Token)
	if !bytes.Contains(other, []byte("already reported")) || bytes.Contains(other, []byte("Idempotency-Key")) {
		t.Errorf("another result is answered %s, want that the lease has already reported", other)
	}
	l.post(http.StatusConflict, "/job-1/heartbeat", "", jobs.LeaseHeader, got.Lease.Token)
	l.post(http.StatusNoContent, "/claim", `{"queues":["build"]}`)
}

func TestSubmissionSaysWhoseItIsAndWhatItIsFoundBy(t *testing.T) {
	l := newLab(t)
	l.post(http.StatusCreated, "", `{"queue":"build","name":"nightly","tags":["arm","slow"]}`)
	message, err := l.log.Records(eventlog.Jobs)[0].Decode()
	if err != nil {
		t.Fatal(err)
	}
	m, _ := message.(*event.JobSubmitted)
	if !bytes.Equal(m.GetOwner(), l.owner[:]) || m.GetLabels().GetName() != "nightly" || !slices.Equal(m.GetLabels().GetTags(), []string{"arm", "slow"}) {
		t.Errorf("the event is %v", m)
	}
}

func TestCancelEndsAJobThatWaitsAndStopsTheWorkerOfAnother(t *testing.T) {
	l := newLab(t)
	for range 2 {
		l.post(http.StatusCreated, "", `{"queue":"build"}`)
	}
	held := l.claim(`{"id":"job-2"}`)
	for _, path := range []string{"/job-1/cancel", "/job-2/cancel", "/job-2/cancel"} {
		if got := string(l.post(http.StatusOK, path, "")); got != `{"state":"cancelled"}` {
			t.Errorf("%s is answered %s", path, got)
		}
	}
	l.post(http.StatusNoContent, "/claim", `{"queues":["build"]}`)
	if beat := l.post(http.StatusOK, "/job-2/heartbeat", "", jobs.LeaseHeader, held.Lease.Token); !bytes.Contains(beat, []byte(`"cancelled":true`)) {
		t.Errorf("the worker's heartbeat is answered %s", beat)
	}
	l.post(http.StatusOK, "/job-2/result", `{"status":"tmpfail"}`, jobs.LeaseHeader, held.Lease.Token)
	for path, status := range map[string]int{
		"/job-1/cancel": http.StatusConflict, "/job-2/cancel": http.StatusConflict, "/job-3/cancel": http.StatusNotFound, "/x/cancel": http.StatusNotFound,
	} {
		l.post(status, path, "")
	}
}

func TestCancelThatIsRepeatedUnderItsKeyIsAnsweredAlikeAfterTheJobsEnd(t *testing.T) {
	l := newLab(t)
	l.post(http.StatusCreated, "", `{"queue":"build"}`)
	for range 2 {
		l.post(http.StatusOK, "/job-1/cancel", "", "Idempotency-Key", "k")
	}
	l.post(http.StatusConflict, "/job-1/cancel", "", "Idempotency-Key", "l")
}

func TestTokenOfAnotherJobOrAttemptIsRefused(t *testing.T) {
	l := newLab(t)
	for range 2 {
		l.post(http.StatusCreated, "", `{"queue":"build"}`)
	}
	first, second := l.claim(`{"id":"job-1"}`), l.claim(`{"id":"job-2"}`)
	if string(first.Payload) != "null" {
		t.Errorf("no payload is given as %s", first.Payload)
	}
	forged := strings.Replace(first.Lease.Token, "1.1.", "1.2.", 1)
	for _, token := range []string{second.Lease.Token, forged, "x", "1.1.", first.Lease.Token + "0"} {
		l.post(http.StatusConflict, "/job-1/heartbeat", "", jobs.LeaseHeader, token)
		l.post(http.StatusConflict, "/job-1/result", `{"status":"pass"}`, jobs.LeaseHeader, token)
	}
	l.post(http.StatusBadRequest, "/job-1/heartbeat", "")
	l.post(http.StatusNotFound, "/nothing-1/heartbeat", "", jobs.LeaseHeader, first.Lease.Token)
	l.post(http.StatusOK, "/job-1/heartbeat", "", jobs.LeaseHeader, first.Lease.Token)
}

func TestReportOnAJobThatNeverWasIsNotFound(t *testing.T) {
	l := newLab(t)
	l.post(http.StatusCreated, "", `{"queue":"build"}`)
	lease := l.claim(`{"id":"job-1"}`).Lease.Token
	for _, id := range []string{"job-2", "debci-2", "debci-1"} {
		l.post(http.StatusNotFound, "/"+id+"/heartbeat", "", jobs.LeaseHeader, lease)
		l.post(http.StatusNotFound, "/"+id+"/result", `{"status":"pass"}`, jobs.LeaseHeader, lease)
	}
	l.post(http.StatusOK, "/job-1/result", `{"status":"pass"}`, jobs.LeaseHeader, lease)
	l.post(http.StatusConflict, "/job-1/heartbeat", "", jobs.LeaseHeader, lease)
}

func TestClaimThatIsRepeatedUnderItsKeyGetsTheSameJob(t *testing.T) {
	l := newLab(t)
	for range 2 {
		l.post(http.StatusCreated, "", `{"queue":"build"}`)
	}
	first := l.claim(`{"queues":["build"]}`, "Idempotency-Key", "k")
	again := l.claim(`{"queues":["build"]}`, "Idempotency-Key", "k")
	if first.ID != again.ID || first.Lease.Token != again.Lease.Token {
		t.Errorf("the repeat gets %s, want %s", again.ID, first.ID)
	}
	l.claim(`{"queues":["build"]}`, "Idempotency-Key", "l")
	if last := l.claim(`{"queues":["build"]}`, "Idempotency-Key", "k"); last.ID != first.ID {
		t.Errorf("with nothing left the repeat gets %s, want %s", last.ID, first.ID)
	}
	l.post(http.StatusUnprocessableEntity, "/claim", `{"queues":["other"]}`, "Idempotency-Key", "k")
}

func TestClaimThatWaitsAppendsNothingUntilThereIsAJob(t *testing.T) {
	l := newLab(t)
	l.post(http.StatusNoContent, "/claim", `{"queues":["build"]}`)
	l.post(http.StatusNoContent, "/claim", `{"queues":["build"],"wait":0.05}`)
	answers := make(chan *httptest.ResponseRecorder)
	go func() { answers <- l.send(t.Context(), "/claim", `{"queues":["build"],"wait":60}`) }()
	l.post(http.StatusCreated, "", `{"queue":"other"}`)
	if n := len(l.log.Records(eventlog.Jobs)); n != 1 {
		t.Errorf("%d events are in the log, want the submission alone", n)
	}
	l.post(http.StatusCreated, "", `{"queue":"build","payload":7}`)
	if answer := <-answers; answer.Code != http.StatusOK || !bytes.Contains(answer.Body.Bytes(), []byte(`"payload":7`)) {
		t.Errorf("the claim that waited is answered %d %s", answer.Code, answer.Body)
	}
}

func TestClaimsThatWaitKeepNoOtherWriteOut(t *testing.T) {
	l := newLab(t)
	answers := make(chan *httptest.ResponseRecorder)
	for range 2 {
		go func() { answers <- l.send(t.Context(), "/claim", `{"queues":["build"],"wait":60}`) }()
	}
	for n := int64(0); n < 2; n, _ = l.waiting.InFlight() {
		runtime.Gosched()
	}
	if third := l.send(t.Context(), "/claim", `{"queues":["build"]}`); third.Code != http.StatusServiceUnavailable || third.Header().Get("Retry-After") == "" {
		t.Errorf("a claim beyond the limit is answered %d, want 503 with Retry-After", third.Code)
	}
	for range 2 { // one write is admitted at a time
		l.post(http.StatusCreated, "", `{"queue":"build"}`)
	}
	for range 2 {
		if answer := <-answers; answer.Code != http.StatusOK {
			t.Errorf("a claim that waited is answered %d %s", answer.Code, answer.Body)
		}
	}
}

func TestClaimEndsItsWaitWhenTheProcessDoes(t *testing.T) {
	l := newLab(t)
	answers := make(chan *httptest.ResponseRecorder)
	go func() { answers <- l.send(t.Context(), "/claim", `{"queues":["build"],"wait":60}`) }()
	l.dispatcher.Drain()
	if answer := <-answers; answer.Code != http.StatusNoContent {
		t.Errorf("answer is %d, want 204", answer.Code)
	}
}

func TestJobOfAnAskerWhoHasGoneIsTakenBack(t *testing.T) {
	l := newLab(t)
	l.post(http.StatusCreated, "", `{"queue":"build"}`)
	ctx, leave := context.WithCancel(t.Context())
	l.log.Fail(func(e eventlog.Event) error {
		if strings.HasSuffix(e.Type, "JobClaimRequested") {
			leave()
		}
		return nil
	})
	l.send(ctx, "/claim", `{"queues":["build"]}`)
	l.log.Fail(nil)
	records := l.log.Records(eventlog.Jobs)
	if last := records[len(records)-1]; len(records) != 3 || !strings.HasSuffix(last.Type, "JobReleased") {
		t.Fatalf("the newest of %d events is %s, want JobReleased after the claim", len(records), last.Type)
	}
	if got := l.claim(`{"queues":["build"]}`); got.ID != "job-1" {
		t.Errorf("the next claim gets %s", got.ID)
	}
}

func TestLeaseOfWhichNothingIsHeardEnds(t *testing.T) {
	l := newLab(t)
	l.post(http.StatusCreated, "", `{"queue":"build"}`)
	first := l.claim(`{"queues":["build"]}`)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- l.dispatcher.Run(ctx) }()
	l.clock.Pass(2 * time.Minute)
	second := l.claim(`{"queues":["build"],"wait":60}`)
	stop()
	<-ended
	if second.ID != "job-1" || second.Lease.Token == first.Lease.Token {
		t.Errorf("the claim after the lease gets %s with token %s", second.ID, second.Lease.Token)
	}
	l.post(http.StatusConflict, "/job-1/result", `{"status":"pass"}`, jobs.LeaseHeader, first.Lease.Token)
	l.post(http.StatusOK, "/job-1/result", `{"status":"pass"}`, jobs.LeaseHeader, second.Lease.Token)
}

func TestWhatCannotBeSubmittedClaimedOrReportedSaysWhy(t *testing.T) {
	l := newLab(t)
	for path, bodies := range map[string][]string{
		"": {
			`{"queue":"q","name":"` + strings.Repeat("n", 256) + `"}`, `{"queue":"q","tags":[""]}`, `{"queue":"q","tags":["` + strings.Repeat("t", 101) + `"]}`,
			`{"queue":"q","tags":["t"` + strings.Repeat(`,"t"`, 50) + `]}`, `{}`, `{"queue":""}`, `{"queue":"testflinger/q"}`, `{"queue":"debci/unstable/amd64"}`, `{"queue":"a b"}`, `{"queue":"q","x":1}`, `[`,
		},
		"/claim": {
			`{}`, `{"queues":[]}`, `{"queues":["q"],"id":"job-1"}`, `{"queues":["q"],"wait":-1}`, `{"queues":"q"}`,
			`{"queues":[` + strings.Repeat(`"q",`, 100) + `"q"]}`,
		},
	} {
		for _, body := range bodies {
			if answer := l.post(http.StatusBadRequest, path, body); !bytes.Contains(answer, []byte(`"error":`)) {
				t.Errorf("%s %s: answer is %s", path, body, answer)
			}
		}
	}
	if answer := l.post(http.StatusBadRequest, "/claim", `{"queues":["q"],"wait":1e9}`); !bytes.Contains(answer, []byte("from 0 to 1000000")) {
		t.Errorf("a wait that is too long is answered %s, want the limit named", answer)
	}
	l.post(http.StatusNotFound, "/claim", `{"id":"run-1"}`)
	l.post(http.StatusNoContent, "/claim", `{"id":"job-7"}`)
	l.post(http.StatusCreated, "", `{"queue":"build"}`)
	l.post(http.StatusNotFound, "/claim", `{"id":"debci-1"}`)
	got := l.claim(`{"id":"job-1"}`)
	for _, body := range []string{``, `{}`, `{"status":"ok"}`, `{"status":"pass","duration_seconds":-1}`, `{"status":"pass","version":"` + strings.Repeat("v", 256) + `"}`} {
		l.post(http.StatusBadRequest, "/job-1/result", body, jobs.LeaseHeader, got.Lease.Token)
	}
}
