package testflinger_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	door "github.com/millrace/millrace/ingest/testflinger"
	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

const (
	someID  = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
	otherID = "6ba7b811-9dad-11d1-80b4-00c04fd430c8"
)

func TestAgentGetsWhatWasSubmittedOnceAtAnyReplica(t *testing.T) {
	l := newLab(t, testflinger.Seed)
	low := l.submit(`{"job_queue":"q","option":"foo","n":1.50}`)
	l.submit(`{"job_queue":"other"}`)
	high := l.submit(`{"job_queue":"r","tags":["a"]}`)
	got := l.ask(1, http.MethodGet, "/v1/job?queue=q&queue=r", "")
	got.is(http.StatusOK, `{"job_id":"`+low+`","job_queue":"q","n":1.50,"option":"foo","started_at":"2026-01-02T03:04:05Z"}`)
	if position := got.Header().Get(eventlog.PositionHeader); position == "" || got.Header().Get("Content-Type") != "application/json" {
		t.Errorf("position %q, type %q", position, got.Header().Get("Content-Type"))
	}
	if second := l.ask(0, http.MethodGet, "/v1/job?queue=q&queue=r", "").members(); second["job_id"] != high {
		t.Errorf("the second claim gets %v", second)
	}
	l.ask(1, http.MethodGet, "/v1/job/?queue=q&queue=r", "").is(http.StatusNoContent, "")
	l.ask(1, http.MethodGet, "/v1/job", "").is(http.StatusBadRequest, "{}")
	l.ask(1, http.MethodGet, "/v1/job?queue=", "").is(http.StatusNoContent, "")
}

func TestClaimWithANameThatIsNoUTF8IsAnsweredLikeAnother(t *testing.T) {
	l := newLab(t, testflinger.Seed)
	for range 2 {
		l.submit(`{"job_queue":"q"}`)
	}
	for _, tc := range []struct{ query, cookie string }{{"queue=%ff&queue=q", "agent_name=otter"}, {"queue=q", "agent_name=%ff"}} {
		if got := l.ask(0, http.MethodGet, "/v1/job?"+tc.query, "", "Cookie", tc.cookie); got.Code != http.StatusOK {
			t.Errorf("%s by %s is answered %d %s, want the job", tc.query, tc.cookie, got.Code, got.Body)
		}
	}
	l.ask(0, http.MethodGet, "/v1/job?queue=%ff", "").is(http.StatusNoContent, "")
	l = newLab(t, testflinger.Latest)
	nobody := append(l.client("otter", testflinger.Agents, nil), "Cookie", "agent_name=%ff")
	l.submit(`{"job_queue":"q"}`)
	l.ask(0, http.MethodGet, "/v1/job?queue=q", "", nobody...).is(http.StatusUnauthorized, refusal("Agent not identified"))
}

func TestHeadTakesNothing(t *testing.T) {
	l := newLab(t, testflinger.Seed)
	l.ask(0, http.MethodHead, "/v1/job?queue=q", "").is(http.StatusNoContent, "")
	id := l.submit(`{"job_queue":"q"}`)
	l.ask(1, http.MethodHead, "/v1/job?queue=q", "").is(http.StatusOK, "")
	if got := l.ask(0, http.MethodGet, "/v1/job?queue=q", "").members(); got["job_id"] != id {
		t.Errorf("the claim gets %v", got)
	}
	l.ask(0, http.MethodPost, "/v1/result/"+id+"/output", "x").is(http.StatusOK, "OK")
	l.ask(0, http.MethodHead, "/v1/result/"+id+"/output", "")
	l.ask(0, http.MethodGet, "/v1/result/"+id+"/output", "").is(http.StatusOK, "x")
}

func TestSubmissionsAreRefusedAsTheContractSays(t *testing.T) {
	l := newLab(t, testflinger.Seed)
	for _, tc := range []struct {
		body   string
		status int
		want   string
	}{
		{`{}`, 422, `{"detail":{"json":{"job_queue":["Missing data for required field."]}},"message":"Validation error"}`},
		{`not JSON`, 422, `{"detail":{"json":{"job_queue":["Missing data for required field."]}},"message":"Validation error"}`},
		{`{`, 400, refusal("Bad Request")},
		{`{"job_queue":""}`, 422, refusal("Invalid data or no job_queue specified")},
		{`{"job_queue":"q","job_id":"x"}`, 400, refusal("Invalid job_id specified")},
		{`{"job_queue":"q","job_priority":1}`, 401, refusal("Authentication required for setting priority: 1")},
		{`{"job_queue":"q","reserve_data":{"timeout":21601}}`, 401, refusal("Authentication required for setting timeout: 21601")},
	} {
		l.ask(0, http.MethodPost, "/v1/job", tc.body).is(tc.status, tc.want)
	}
	l.ask(0, http.MethodPost, "/v1/job", `{"job_queue":"`+strings.Repeat("q", 200<<10)+`"}`).is(http.StatusRequestEntityTooLarge, refusal("Payload too large"))
	l.ask(0, http.MethodPost, "/v1/job", `{"job_queue":"q"}`, "Authorization", "Bearer x").is(http.StatusForbidden, refusal("Invalid Token"))
	l.ask(0, http.MethodPut, "/v1/job", `{}`).is(http.StatusMethodNotAllowed, refusal("method PUT is not served at this path; use GET, HEAD, OPTIONS, POST"))
	if n := len(l.log.Records(eventlog.Jobs)); n != 0 {
		t.Errorf("%d events are in the log", n)
	}
}

func TestSubmitterIsRecordedSealedAndMayDoWhatTheTokenSays(t *testing.T) {
	l := newLab(t, testflinger.Seed)
	jane := l.client("jane", testflinger.Contributor, func(p *testflinger.Permission) {
		p.MaxPriority, p.AllowedQueues = map[string]int64{"q": 5}, []string{"own"}
	})
	joe := l.client("joe", testflinger.Admin, nil)
	l.ask(1, http.MethodPost, "/v1/agents/data/otter", `{"queues":["own"]}`).is(http.StatusOK, "OK")
	l.ask(0, http.MethodPost, "/v1/restricted-queues/own", `{"client_id":"jane"}`, joe...).is(http.StatusOK, "OK")
	l.submit(`{"job_queue":"q","job_priority":5}`, jane...)
	l.submit(`{"job_queue":"own"}`, jane...)
	l.ask(0, http.MethodPost, "/v1/job", `{"job_queue":"q","job_priority":6}`, jane...).
		is(http.StatusForbidden, refusal("Not enough permissions to push to q with priority 6"))
	l.ask(0, http.MethodPost, "/v1/job", `{"job_queue":"own"}`, joe...).
		is(http.StatusForbidden, refusal("Not enough permissions to push to the restricted queue: own"))
	l.ask(0, http.MethodPost, "/v1/job", `{"job_queue":"own"}`).
		is(http.StatusUnauthorized, refusal("Authentication required to push to restricted queue: own"))
	submitted, records := messages[*event.JobSubmitted](l, eventlog.Jobs)
	if len(submitted) != 2 || len(submitted[0].GetOwner()) != 32 || submitted[0].GetPriority() != 5 {
		t.Fatalf("%d jobs, the first with owner %x and priority %d", len(submitted), submitted[0].GetOwner(), submitted[0].GetPriority())
	}
	for _, record := range append(records, l.log.Records(eventlog.Registry)...) {
		if text := string(record.Data); strings.Contains(text, "jane") || strings.Contains(text, "secret") {
			t.Errorf("event %s has a name or a secret in the clear", record.Type)
		}
	}
}

func TestRepeatedSubmissionUnderItsKeyGetsTheSameID(t *testing.T) {
	l := newLab(t, testflinger.Seed)
	const body = `{"job_queue":"q"}`
	first := l.submit(body, "Idempotency-Key", "k")
	if again := l.submit(body, "Idempotency-Key", "k"); again != first {
		t.Errorf("the repeat gets %s, want %s", again, first)
	}
	l.ask(0, http.MethodPost, "/v1/job", `{"job_queue":"r"}`, "Idempotency-Key", "k").
		is(http.StatusUnprocessableEntity, refusal("this Idempotency-Key was sent before with another body: use a new key for a new request"))
	if other := l.submit(body); other == first {
		t.Error("another submission has the same id")
	}
	claim := l.ask(0, http.MethodGet, "/v1/job?queue=q", "", "Idempotency-Key", "c").members()
	if again := l.ask(1, http.MethodGet, "/v1/job?queue=q", "", "Idempotency-Key", "c").members(); again["job_id"] != claim["job_id"] {
		t.Errorf("the repeated claim gets %v, want %v", again, claim)
	}
}

func TestRepeatedIDIsAnotherHandOut(t *testing.T) {
	l := newLab(t, testflinger.Seed)
	body := fmt.Sprintf(`{"job_queue":"q","job_id":%q}`, someID)
	for range 2 {
		if id := l.submit(body); id != someID {
			t.Errorf("the job's id is %s", id)
		}
	}
	for range 2 {
		if got := l.ask(1, http.MethodGet, "/v1/job?queue=q", "").members(); got["job_id"] != someID {
			t.Errorf("the claim gets %v", got)
		}
	}
	l.ask(0, http.MethodGet, "/v1/job?queue=q", "").is(http.StatusNoContent, "")
}

func TestJobWithAttachmentsIsHeldUntilTheyAreStored(t *testing.T) {
	l := newLab(t, testflinger.Seed)
	id := l.submit(`{"job_queue":"q","test_data":{"attachments":[{"agent":"a"}]}}`)
	l.ask(0, http.MethodGet, "/v1/job?queue=q", "").is(http.StatusNoContent, "")
	stored, err := eventlog.NewEvent("/test", &event.JobAttachmentsStored{Job: &event.JobRef{Name: &event.JobRef_JobId{JobId: id}}, Document: &event.Document{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.replicas[1].jobs.Decide(t.Context(), stored); err != nil {
		t.Fatal(err)
	}
	if got := l.ask(0, http.MethodGet, "/v1/job?queue=q", "").members(); got["attachments_status"] != "complete" {
		t.Errorf("the claim gets %v", got)
	}
}

func TestJobOfAnAskerWhoHasGoneGoesBack(t *testing.T) {
	l := newLab(t, testflinger.Seed)
	id := l.submit(`{"job_queue":"q"}`)
	ctx, leave := context.WithCancel(t.Context())
	l.log.Fail(func(e eventlog.Event) error {
		if strings.HasSuffix(e.Type, "JobClaimRequested") {
			leave()
		}
		return nil
	})
	l.replicas[0].engine.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/job?queue=q", nil))
	l.log.Fail(nil)
	if got := l.ask(1, http.MethodGet, "/v1/job?queue=q", "").members(); got["job_id"] != id {
		t.Errorf("the next claim gets %v", got)
	}
}

func TestCancellingAsTheFirstDescriptionHasIt(t *testing.T) {
	l := newLab(t, testflinger.Seed)
	waiting, running := l.submit(`{"job_queue":"w"}`), l.submit(`{"job_queue":"q"}`)
	l.ask(0, http.MethodGet, "/v1/job?queue=q", "").members()
	action := func(id string) string { return "/v1/job/" + id + "/action" }
	const cancel, ended = `{"action":"cancel"}`, "The job is already completed or cancelled"
	l.ask(1, http.MethodPost, action(waiting), `{"action":"Cancel"}`).is(http.StatusOK, "OK")
	l.ask(0, http.MethodPost, action(waiting), cancel).is(http.StatusBadRequest, ended)
	l.ask(0, http.MethodGet, "/v1/job?queue=w", "").is(http.StatusNoContent, "")
	l.ask(0, http.MethodPost, action(running), cancel).is(http.StatusOK, "OK")
	l.ask(1, http.MethodPost, action(running), cancel).is(http.StatusBadRequest, ended)
	l.ask(0, http.MethodPost, action(someID), cancel).is(http.StatusNotFound, refusal("Job not found"))
	l.ask(0, http.MethodPost, action("x"), cancel).is(http.StatusBadRequest, "Invalid job id")
	l.ask(0, http.MethodPost, action(waiting), `{"action":"stop"}`).
		is(422, `{"detail":{"json":{"action":["Must be one of: cancel."]}},"message":"Validation error"}`)
	l.ask(0, http.MethodPost, "/v1/result/"+running, `{"job_state":"complete"}`).is(http.StatusOK, "OK")
	l.ask(0, http.MethodPost, action(running), cancel).is(http.StatusBadRequest, ended)
	before := len(l.log.Records(eventlog.Jobs))
	l.ask(0, http.MethodPost, action(otherID), cancel).is(http.StatusNotFound, refusal("Job not found"))
	if after := len(l.log.Records(eventlog.Jobs)); after != before {
		t.Errorf("cancelling what never was appended %d events", after-before)
	}
}

// stateOf is the newest state that a job's reports gave it.
func (l *lab) stateOf(id string) (state string) {
	reports, _ := messages[*event.JobStateReported](l, eventlog.Jobs)
	for _, m := range reports {
		seq, _ := l.find(l.t.Context(), id)
		if m.GetJob().GetJobId() == id || m.GetJob().GetSeq() == seq {
			state = m.GetState()
		}
	}
	return state
}

func TestJSONThatIsNoUTF8IsRefusedAndNotChanged(t *testing.T) {
	l := newLab(t, testflinger.Seed)
	l.ask(0, http.MethodPost, "/v1/job", "{\"job_queue\":\"q\",\"name\":\"\xff\"}").is(http.StatusBadRequest, refusal("Bad Request"))
	comment := "{\"comment\":\"" + strings.Repeat("\xff", 250_000) + "\"}" // as replacement characters it would fit no record
	l.ask(0, http.MethodPost, "/v1/agents/data/otter", comment).is(http.StatusBadRequest, refusal("Bad Request"))
}

func TestNamesOfAResultsMembersAreBoundedForTheyStandInItsEvent(t *testing.T) {
	l := newLab(t, testflinger.Seed, func(c *door.Config) { c.MaxBody = 1 << 20 })
	result := "/v1/result/" + l.submit(`{"job_queue":"q"}`)
	members := func(size int) string {
		return fmt.Sprintf(`{"%s":1,"%s":2}`, strings.Repeat("a", size/2), strings.Repeat("b", size-size/2-1))
	}
	l.ask(0, http.MethodPost, result, members(256<<10)).is(http.StatusOK, "OK")
	l.ask(0, http.MethodPost, result, members(256<<10+1)).is(http.StatusUnprocessableEntity,
		`{"detail":{"json":{"_schema":["The names of its members have 262145 bytes together, the limit is 262144."]}},"message":"Validation error"}`)
	for _, record := range l.log.Records(eventlog.Results) {
		if size := len(record.Data); size > eventlog.MaxRecordBytes {
			t.Errorf("a result's event has %d bytes, and a record at most %d", size, eventlog.MaxRecordBytes)
		}
	}
}

func TestReportsAreKeptAlsoOfJobsThatHaveEnded(t *testing.T) {
	l := newLab(t, testflinger.Seed)
	id := l.submit(`{"job_queue":"q"}`)
	l.ask(0, http.MethodGet, "/v1/job?queue=q", "").members()
	result := "/v1/result/" + id
	l.ask(1, http.MethodPost, result, `{"job_state":"provision"}`).is(http.StatusOK, "OK")
	l.ask(0, http.MethodPost, result, `{"provision_status":0,"exit_code":3}`).is(http.StatusOK, "OK")
	l.ask(1, http.MethodPost, result, `{"test_output":"out","job_state":"complete"}`).is(http.StatusOK, "OK")
	l.ask(0, http.MethodPost, result, `{"job_state":"odd"}`).is(http.StatusOK, "OK")
	if state := l.stateOf(id); state != "odd" {
		t.Errorf("the state is %q", state)
	}
	posted, _ := messages[*event.TestflingerResultPosted](l, eventlog.Results)
	if len(posted) != 2 || strings.Join(posted[0].GetMembers(), ",") != "exit_code,provision_status" || string(posted[1].GetDocument().GetInline()) != `{"test_output":"out"}` {
		t.Errorf("results are %v", posted)
	}
	before := len(l.log.Records(eventlog.Results)) + len(l.log.Records(eventlog.Jobs))
	l.ask(0, http.MethodPost, "/v1/result/"+someID, `{"job_state":"test","exit_code":1}`).is(http.StatusOK, "OK")
	if after := len(l.log.Records(eventlog.Results)) + len(l.log.Records(eventlog.Jobs)); after != before {
		t.Error("something was stored for a job that never was")
	}
	l.ask(0, http.MethodPost, "/v1/result/x", `{}`).is(http.StatusBadRequest, refusal("Invalid job_id specified"))
	l.ask(0, http.MethodPost, result, `{"device_info":1}`).
		is(422, `{"detail":{"json":{"device_info":["Not a valid mapping type."]}},"message":"Validation error"}`)
}

func TestJobReportedAsWaitingIsHandedOutAgain(t *testing.T) {
	l := newLab(t, testflinger.Seed)
	id := l.submit(`{"job_queue":"q"}`)
	l.ask(0, http.MethodGet, "/v1/job?queue=q", "").members()
	l.ask(1, http.MethodPost, "/v1/result/"+id, `{"job_state":"waiting"}`).is(http.StatusOK, "OK")
	if got := l.ask(0, http.MethodGet, "/v1/job?queue=q", "").members(); got["job_id"] != id {
		t.Errorf("the claim gets %v", got)
	}
}

func TestCallsOfAnAgentThatNameAJobKeepItsLease(t *testing.T) {
	l := newLab(t, testflinger.Seed, func(c *door.Config) { c.Lease, c.Requeues = time.Minute, 1 })
	id := l.submit(`{"job_queue":"q"}`)
	l.ask(0, http.MethodGet, "/v1/job?queue=q", "").members()
	ends := func() (at time.Time) {
		if err := l.replicas[1].jobs.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.replicas[1].jobs.View(func(s *jobs.State) {
			job, _ := s.Find(&event.JobRef{Name: &event.JobRef_JobId{JobId: id}})
			at = time.UnixMilli(job.Expires)
		})
		return at
	}
	heard := func(what string, call func()) {
		t.Helper()
		l.clock.Pass(20 * time.Second)
		if call(); !ends().Equal(l.clock.Now().Add(time.Minute)) {
			t.Errorf("%s: the lease ends at %s, now is %s", what, ends(), l.clock.Now())
		}
	}
	heard("output", func() { l.ask(0, http.MethodPost, "/v1/result/"+id+"/output", "x").is(200, "OK") })
	heard("a result without a state", func() { l.ask(0, http.MethodPost, "/v1/result/"+id, `{"exit_code":1}`).is(200, "OK") })
	heard("a state", func() { l.ask(0, http.MethodPost, "/v1/result/"+id, `{"job_state":"test"}`).is(200, "OK") })
	heard("an agent's word", func() { l.ask(0, http.MethodPost, "/v1/agents/data/a", `{"job_id":"`+id+`"}`).is(200, "OK") })
	heard("what was provisioned", func() {
		l.ask(0, http.MethodPost, "/v1/agents/provision_logs/a", `{"job_id":"`+id+`","exit_code":0}`).is(200, "OK")
	})
	events := len(l.log.Records(eventlog.Jobs))
	l.clock.Pass(10 * time.Second)
	for range 10 {
		l.ask(0, http.MethodPost, "/v1/result/"+id+"/output", "x").is(200, "OK")
	}
	if n := len(l.log.Records(eventlog.Jobs)) - events; n != 0 {
		t.Errorf("%d events were appended for calls in quick succession", n)
	}
	l.replicas[0].pulse.Heard(t.Context(), someID, "")
}

func TestCallsThatNameAJobLeaveTheLeaseOfAnotherDoorAlone(t *testing.T) {
	l := newLab(t, testflinger.Seed, func(c *door.Config) { c.Lease = time.Hour })
	id := l.submit(`{"job_queue":"q"}`)
	claim, err := eventlog.NewEvent("/test", &event.JobClaimRequested{
		Queues: []string{testflinger.Queue("q")}, Asker: "worker", Lease: &event.JobLease{Duration: 60_000},
	})
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := l.replicas[0].jobs.Decide(t.Context(), claim)
	if err != nil || got.Result != jobs.Done {
		t.Fatalf("the claim gets %+v, %v", got, err)
	}
	l.clock.Pass(50 * time.Second)
	l.ask(0, http.MethodPost, "/v1/result/"+id+"/output", "x").is(http.StatusOK, "OK")
	l.replicas[0].pulse.Heard(t.Context(), id, "")
	if heartbeats, _ := messages[*event.JobHeartbeat](l, eventlog.Jobs); len(heartbeats) != 0 {
		t.Errorf("%d heartbeats came from calls that only name the job", len(heartbeats))
	}
}

func TestAgentThatHasLostAJobToAnotherDoesNotEndIt(t *testing.T) {
	l := newLab(t, testflinger.Latest, func(c *door.Config) { c.Lease, c.Requeues = time.Minute, 1 })
	as := func(name string) []string {
		return append(l.client(name, testflinger.Agents, nil), "Cookie", "agent_name="+name)
	}
	otter, mole := as("otter"), as("mole")
	id := l.submit(`{"job_queue":"q"}`)
	l.ask(0, http.MethodGet, "/v1/job?queue=q", "", otter...).members()
	l.clock.Pass(time.Minute)
	expiry, err := eventlog.NewEvent("/test", &event.JobLeaseExpired{Seq: 1, Attempt: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.replicas[0].jobs.Decide(t.Context(), expiry); err != nil {
		t.Fatal(err)
	}
	l.ask(0, http.MethodGet, "/v1/job?queue=q", "", mole...).members()
	reports := func(header []string, lives bool) {
		t.Helper()
		l.ask(0, http.MethodPost, "/v1/result/"+id, `{"job_state":"complete"}`, header...).is(http.StatusOK, "OK")
		l.replicas[0].jobs.View(func(s *jobs.State) {
			if job, found := s.Find(&event.JobRef{Name: &event.JobRef_JobId{JobId: id}}); found != lives || job.Asker != "mole" && lives {
				t.Errorf("the job lives: %t, want %t; %q has it", found, lives, job.Asker)
			}
		})
	}
	reports(otter, true)
	reports(mole, false)
}

func TestJobsAndReservationsAreCountedByQueueWithABoundedNumberOfThem(t *testing.T) {
	l := newLab(t, testflinger.Seed)
	l.submit(`{"job_queue":"q","reserve_data":{"ssh_keys":["lp:jane"]}}`)
	for range 2 {
		l.submit(`{"job_queue":"q"}`, "Idempotency-Key", "k")
	}
	l.ask(0, http.MethodPost, "/v1/job", `{"job_queue":""}`)
	for i := range 201 {
		l.submit(fmt.Sprintf(`{"job_queue":"r%d"}`, i))
	}
	l.submit(`{"job_queue":"q"}`)
	families, err := l.replicas[0].metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			counted[family.GetName()+" "+metric.GetLabel()[0].GetValue()] = metric.GetCounter().GetValue()
		}
	}
	if len(counted) != 200+1+1 {
		t.Errorf("%d numbers are shown, want those of 200 queues, the others' and one of reservations", len(counted))
	}
	for name, want := range map[string]float64{"jobs_total q": 3, "jobs_total other queues": 2, "reservations_total q": 1} {
		if got := counted["millrace_testflinger_"+name]; got != want {
			t.Errorf("%s is %g, want %g", name, got, want)
		}
	}
}

func TestEachPieceOfOutputIsHandedOutOnce(t *testing.T) {
	l := newLab(t, testflinger.Seed)
	output, serial := "/v1/result/"+someID+"/output", "/v1/result/"+someID+"/serial_output"
	l.ask(0, http.MethodGet, output, "").is(http.StatusNoContent, "")
	for _, text := range []string{"one", "two"} {
		l.ask(1, http.MethodPost, output, text).is(http.StatusOK, "OK")
	}
	l.ask(0, http.MethodPost, serial, "<größe>").is(http.StatusOK, "OK")
	l.ask(0, http.MethodGet, output, "").is(http.StatusOK, "one\ntwo")
	l.ask(1, http.MethodGet, output, "").is(http.StatusNoContent, "")
	l.ask(1, http.MethodPost, output, "three").is(http.StatusOK, "OK")
	l.ask(1, http.MethodGet, output, "").is(http.StatusOK, "three")
	l.ask(0, http.MethodGet, output, "").is(http.StatusNoContent, "")
	l.ask(1, http.MethodGet, serial, "").is(http.StatusOK, "<größe>")
	events := len(l.log.Records(eventlog.Jobs))
	for range 5 {
		l.ask(0, http.MethodGet, output, "").is(http.StatusNoContent, "")
	}
	if n := len(l.log.Records(eventlog.Jobs)); n != events || n != 3 {
		t.Errorf("%d events were appended, want one for each time that something was handed out", n)
	}
	l.ask(0, http.MethodGet, "/v1/result/x/output", "").is(http.StatusBadRequest, "Invalid job_id specified")
	l.ask(0, http.MethodPost, "/v1/result/x/output", "x").is(http.StatusBadRequest, refusal("Invalid job_id specified"))
	l.ask(0, http.MethodPost, output, "\xff").is(http.StatusBadRequest, refusal("output must be UTF-8"))
}

func TestPollersAtTwoReplicasShareTheOutput(t *testing.T) {
	l := newLab(t, testflinger.Seed)
	output := "/v1/result/" + someID + "/output"
	const pieces = 100
	got := make(chan string, pieces)
	stop := make(chan struct{})
	done := make(chan struct{})
	for at := range l.replicas {
		go func() {
			defer func() { done <- struct{}{} }()
			for {
				select {
				case <-stop:
					return
				default:
				}
				recorder := httptest.NewRecorder()
				l.replicas[at].engine.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, output, nil))
				if recorder.Code == http.StatusOK {
					for text := range strings.SplitSeq(recorder.Body.String(), "\n") {
						got <- text
					}
				}
			}
		}()
	}
	for i := range pieces {
		l.ask(i%2, http.MethodPost, output, fmt.Sprint(i)).is(http.StatusOK, "OK")
	}
	seen := map[string]int{}
	for range pieces {
		seen[<-got]++
	}
	close(stop)
	for range l.replicas {
		<-done
	}
	if len(seen) != pieces || len(got) != 0 {
		t.Errorf("%d different pieces came, and %d more", len(seen), len(got))
	}
}

func TestOutputBeyondWhatOneAnswerHoldsComesWithTheNext(t *testing.T) {
	l := newLab(t, testflinger.Seed)
	output := "/v1/result/" + someID + "/output"
	long := strings.Repeat("x", 150<<10)
	for range 3 {
		l.ask(0, http.MethodPost, output, long).is(http.StatusOK, "OK")
	}
	l.ask(0, http.MethodGet, output, "").is(http.StatusOK, long+"\n"+long)
	l.ask(1, http.MethodGet, output, "").is(http.StatusOK, long)
	l.ask(1, http.MethodGet, output, "").is(http.StatusNoContent, "")
}

func TestAgentsWordsAreFacts(t *testing.T) {
	l := newLab(t, testflinger.Seed)
	l.ask(0, http.MethodPost, "/v1/agents/data/otter", `{"state":"waiting","queues":["q"],"log":["a","b"]}`).is(http.StatusOK, "OK")
	l.ask(0, http.MethodPost, "/v1/agents/data/otter/", `{"comment":""}`).is(http.StatusOK, "OK")
	l.ask(0, http.MethodPost, "/v1/agents/data/otter", `{"name":"x"}`).
		is(422, `{"detail":{"json":{"name":["Unknown field."]}},"message":"Validation error"}`)
	l.ask(0, http.MethodPost, "/v1/agents/queues", `{"q":"of otters"}`).is(http.StatusOK, "OK")
	l.ask(0, http.MethodPost, "/v1/agents/images", `{"q":{"core":"url: x"}}`).is(http.StatusOK, "OK")
	l.ask(0, http.MethodPost, "/v1/agents/provision_logs/otter", `{"job_id":"`+someID+`","exit_code":0}`).is(http.StatusOK, "OK")
	l.ask(0, http.MethodPost, "/v1/agents/provision_logs/nobody", `{"job_id":"`+someID+`","exit_code":1}`).is(http.StatusNotFound, "Agent not found")
	if answer := l.ask(0, http.MethodPost, "/v1/agents/queues", `q`); answer.Code != http.StatusUnsupportedMediaType {
		t.Errorf("queues that are no JSON are answered %d", answer.Code)
	}
	if answer := l.ask(0, http.MethodPost, "/v1/agents/images", `q`); answer.Code != http.StatusUnsupportedMediaType {
		t.Errorf("images that are no JSON are answered %d", answer.Code)
	}
	posted, _ := messages[*event.TestflingerAgentPosted](l, eventlog.Results)
	logged, _ := messages[*event.TestflingerProvisionLogged](l, eventlog.Results)
	if len(posted) != 2 || posted[0].GetState() != "waiting" || posted[1].State != nil || posted[1].Comment == nil || posted[1].GetQueues() != nil {
		t.Errorf("agents said %v", posted)
	}
	if len(logged) != 2 || logged[1].GetAgent() != "nobody" || logged[1].GetExitCode() != 1 {
		t.Errorf("provision logs are %v", logged)
	}
}

func TestWhatNoRouteAnswersIsAnsweredAsTheContractSays(t *testing.T) {
	const noPath = "Not found: 404 Not Found: " + route.NoEndpoint
	for _, g := range []testflinger.Generation{testflinger.Seed, testflinger.Latest} {
		l := newLab(t, g)
		gone := map[testflinger.Generation]string{testflinger.Seed: "/log/output", testflinger.Latest: "/output"}[g]
		for _, path := range []string{"/v1/nothing", "/v1/result/" + someID + gone, "/v1/job/" + someID + "/x/y"} {
			answer := l.ask(0, http.MethodPost, path, "{}").is(http.StatusNotFound, noPath)
			if kind := answer.Header().Get("Content-Type"); kind != "text/html; charset=utf-8" {
				t.Errorf("%s: %s is answered as %q", g, path, kind)
			}
		}
		for path, allow := range map[string]string{"/v1/job": "GET, HEAD, OPTIONS, POST", "/v1/job/": "GET, HEAD, OPTIONS, POST", "/v1/agents/data/a": "OPTIONS, POST"} {
			if answer := l.ask(0, http.MethodOptions, path, "").is(http.StatusOK, ""); answer.Header().Get("Allow") != allow {
				t.Errorf("%s: OPTIONS %s allows %q, want %q", g, path, answer.Header().Get("Allow"), allow)
			}
		}
		answer := l.ask(0, http.MethodDelete, "/v1/job", "")
		if kind := answer.Header().Get("Content-Type"); answer.Code != http.StatusMethodNotAllowed || kind != "application/json" {
			t.Errorf("%s: another method is answered %d, %q", g, answer.Code, kind)
		}
	}
}

func TestJSONIsAnsweredWithoutACharset(t *testing.T) {
	l := newLab(t, testflinger.Seed)
	for body, status := range map[string]int{`{"job_queue":"q"}`: 200, `{"job_queue":""}`: 422, `{"job_queue":1}`: 422, `{`: 400} {
		if answer := l.ask(0, http.MethodPost, "/v1/job", body); answer.Code != status || answer.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s is answered %d, %q", body, answer.Code, answer.Header().Get("Content-Type"))
		}
	}
	if kind := l.ask(0, http.MethodGet, "/v1/job", "").is(http.StatusBadRequest, "{}").Header().Get("Content-Type"); kind != "application/json" {
		t.Errorf("a claim of no queue is answered %q", kind)
	}
}

func TestAgentThatNamesItsJobIsKnownToHaveIt(t *testing.T) {
	l := newLab(t, testflinger.Seed)
	id := l.submit(`{"job_queue":"q"}`)
	says := func(at int, agent, job string) {
		t.Helper()
		l.ask(at, http.MethodPost, "/v1/agents/data/"+agent, fmt.Sprintf(`{"job_id":%q}`, job)).is(http.StatusOK, "OK")
	}
	named := func(want ...string) {
		t.Helper()
		var workers []string
		found, _ := messages[*event.JobWorkerNamed](l, eventlog.Jobs)
		for _, m := range found {
			workers = append(workers, m.GetWorker())
		}
		if !slices.Equal(workers, want) {
			t.Errorf("named are %q, want %q", workers, want)
		}
	}
	says(0, "early", id)
	named()
	l.ask(0, http.MethodGet, "/v1/job?queue=q", "").members()
	says(1, "otter", id) // that replica has not seen yet that the job is out
	for at := range l.replicas {
		says(at, "otter", id)
		says(at, "mole", id)
		says(at, "otter", "")
		says(at, "otter", someID)
		l.ask(at, http.MethodPost, "/v1/agents/provision_logs/mole", `{"job_id":"`+id+`","exit_code":0}`)
	}
	named("otter")
	l.ask(0, http.MethodPost, "/v1/result/"+id, `{"job_state":"complete"}`).is(http.StatusOK, "OK")
	reported, _ := messages[*event.JobStateReported](l, eventlog.Jobs)
	if len(reported) != 1 || reported[0].GetReporter() != "otter" {
		t.Errorf("the reports are %v, want one of otter's", reported)
	}
	says(0, "otter", id)
	named("otter")
}
