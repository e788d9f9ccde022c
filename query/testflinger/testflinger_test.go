package testflinger_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/query/native/lab"
	"github.com/millrace/millrace/query/native/labtest"
	read "github.com/millrace/millrace/query/testflinger"
	"github.com/millrace/millrace/schemas/blob"
	"github.com/millrace/millrace/schemas/document"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/keyring"
	"github.com/millrace/millrace/schemas/route"
)

// house serves the read endpoints of a lab.
type house struct {
	*labtest.Lab
	http.Handler

	keys     *keyring.Keyring
	tokens   *testflinger.Tokens
	registry *registrations
}

// registrations are the registry's fold, always at the log's end.
type registrations struct {
	state *registry.State
}

func (r *registrations) View(look func(*registry.State)) { look(r.state) }

func (r *registrations) CatchUp(ctx context.Context) error { return ctx.Err() }

func newHouse(t *testing.T, g testflinger.Generation) *house {
	t.Helper()
	h := &house{Lab: labtest.New(t), registry: &registrations{state: registry.NewState()}}
	var err error
	if h.keys, err = keyring.Open(filepath.Join(t.TempDir(), "key")); err != nil {
		t.Fatal(err)
	}
	blobs, err := blob.Open(t.Context(), "mem://")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = blobs.Close() })
	packer, err := document.NewPacker(blobs, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return h.Now }
	h.tokens = testflinger.NewTokens(g, []byte("key"), now)
	reads := read.New(read.Config{
		Generation: g, DB: h.DB, Gate: h.Answers.Gate, Reader: h.Reader, Jobs: h.Jobs, Registry: h.registry, Keyring: h.keys, Packer: packer,
		MaxRows: 5, Now: now,
	})
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	err = route.Mount(engine, reads.Routes(), route.Options{
		APIs: map[string]route.API{read.API: access.NewTestflinger(h.tokens).API()}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	h.Handler = engine
	return h
}

// decide folds an event of topic registry.
func (h *house) decide(m proto.Message) {
	h.Helper()
	wrapped, err := eventlog.NewEvent("/test", m)
	if err != nil {
		h.Fatal(err)
	}
	record := &eventlog.Record{Event: wrapped, Partition: eventlog.Partition{Topic: eventlog.Registry}, LogTime: h.Now.UnixMilli()}
	if outcome := registry.Apply(h.registry.state, record); outcome.Result != registry.Done {
		h.Fatalf("%T: the registry answers %+v", m, outcome)
	}
}

// client makes a client and gives its token.
func (h *house) client(id string, role testflinger.Role, priority map[string]int64) string {
	h.Helper()
	hash := access.HashTestflingerClient(h.keys, id)
	profile, err := access.SealTestflingerProfile(h.keys, hash, &event.TestflingerProfile{ClientId: id, Email: id + "@example.org"})
	if err != nil {
		h.Fatal(err)
	}
	h.decide(&event.TestflingerClientSetRequested{
		IdHash: hash[:], SealedProfile: profile, SecretBcrypt: []byte("x"), Role: role.Event(), MaxPriority: &event.TestflingerLimits{ByQueue: priority},
	})
	token, err := h.tokens.Sign(testflinger.Permission{ClientID: id, Role: role})
	if err != nil {
		h.Fatal(err)
	}
	return token
}

func (h *house) restrict(queue, owner string) {
	h.Helper()
	request := &event.TestflingerQueueRestrictRequested{Queue: queue}
	if owner != "" {
		hash := access.HashTestflingerClient(h.keys, owner)
		request.IdHash = hash[:]
	}
	h.decide(request)
}

func (h *house) get(path, token string) *httptest.ResponseRecorder {
	request := httptest.NewRequestWithContext(h.Context(), http.MethodGet, path, nil)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	answer := httptest.NewRecorder()
	h.ServeHTTP(answer, request)
	return answer
}

// want is an answer: its status and body.
type want struct {
	status int
	body   string
}

// answers compares what paths are answered.
func (h *house) answers(token string, wants map[string]want) {
	h.Helper()
	for path, want := range wants {
		if got := h.get(path, token); got.Code != want.status || got.Body.String() != want.body {
			h.Errorf("GET %s: %d\n%s\nwant %d\n%s", path, got.Code, got.Body, want.status, want.body)
		}
	}
}

// Ids of jobs.
const (
	one   = "11111111-1111-4111-8111-111111111111"
	two   = "22222222-2222-4222-8222-222222222222"
	three = "33333333-3333-4333-8333-333333333333"
	none  = "99999999-9999-4999-8999-999999999999"
)

func refusal(message string) string { return `{"detail":{},"message":"` + message + `"}` }

// someJobs are one, which has ended, two, which waits, and three, which is being tested and goes before two.
func someJobs(h *house) {
	h.Together(func() {
		h.SubmitTestflinger("rpi4", one, `{"job_id":"`+one+`","job_queue":"rpi4","option":"foo"}`, 0, "foo", "bar")
		h.Pass(2500 * time.Millisecond)
		h.SubmitTestflinger("rpi4", two, `{"job_id":"`+two+`","job_queue":"rpi4"}`, 0, "foo")
		h.Pass(time.Second)
		h.Claim("testflinger/rpi4", "otter")
		h.ReportTestflinger(one, "complete", true)
		h.SubmitTestflinger("vm", three, `{"job_id":"`+three+`","job_queue":"vm"}`, 7, "bar")
		h.Pass(10 * time.Second)
		h.Claim("testflinger/vm", "otter")
		h.ReportTestflinger(three, "test", false)
		h.SubmitTestflinger("rpi4", "44444444-4444-4444-8444-444444444444", `{}`, 5)
		h.Submit("native", `1`, nil, nil)
	})
}

func TestJobIsShownAsItWasSubmitted(t *testing.T) {
	for g, shown := range map[testflinger.Generation]string{
		testflinger.Seed:   `{"job_id":"` + one + `","job_queue":"rpi4","option":"foo"}`,
		testflinger.Latest: `{"exclude_agents":[],"job_id":"` + one + `","job_queue":"rpi4","option":"foo"}`,
	} {
		h := newHouse(t, g)
		someJobs(h)
		h.answers("", map[string]want{
			"/v1/job/" + one:                       {200, shown},
			"/v1/job/" + one + "/":                 {200, shown},
			"/v1/job/" + none:                      {204, ""},
			"/v1/job/{" + one + "}":                {204, ""},
			"/v1/job/job-5":                        {400, refusal("Invalid job_id specified")},
			"/v1/job/" + two + "/position":         {200, "1"},
			"/v1/job/" + three + "/position":       {410, "Job not found or already started"},
			"/v1/job/" + none + "/position":        {410, "Job not found or already started"},
			"/v1/job/x/position":                   {400, refusal("Invalid job_id specified")},
			"/v1/job/" + strings.ToUpper(none[1:]): {400, refusal("Invalid job_id specified")},
		})
	}
}

func TestSearchFindsJobsByTagsAndStates(t *testing.T) {
	h := newHouse(t, testflinger.Seed)
	someJobs(h)
	found := map[string]string{
		"1": `{"job_id":"` + one + `","created_at":"2026-03-02T12:00:00Z","job_state":"complete"}`,
		"2": `{"job_id":"` + two + `","created_at":"2026-03-02T12:00:02Z","job_state":"waiting"}`,
		"3": `{"job_id":"` + three + `","created_at":"2026-03-02T12:00:03Z","job_state":"test"}`,
		"4": `{"job_id":"44444444-4444-4444-8444-444444444444","created_at":"2026-03-02T12:00:13Z","job_state":"waiting"}`,
	}
	for query, want := range map[string]string{
		"": "1 2 3 4", "?tags=foo": "1 2", "?tags=foo&tags=bar": "1 2 3", "?tags=foo&tags=bar&match=all": "1", "?tags=foo&match=any": "1 2",
		"?state=active": "2 3 4", "?state=active&state=completed": "2 3 4", "?state=completed": "1", "?state=test&tags=bar": "3", "?state=test&state=completed": "1 3",
		"?tags=other": "", "?anything=1&tags=foo": "1 2", "?state=cancelled": "",
	} {
		var items []string
		for _, name := range strings.Fields(want) {
			items = append(items, found[name])
		}
		if got := h.get("/v1/job/search"+query, ""); got.Code != http.StatusOK || got.Body.String() != "["+strings.Join(items, ",")+"]" {
			t.Errorf("search%s: %d %s, want jobs %s", query, got.Code, got.Body, want)
		}
	}
	states := "setup, provision, firmware_update, test, allocate, allocated, reserve, cleanup, cancelled, completed, active."
	h.answers("", map[string]want{
		"/v1/job/search?match=some":               {422, `{"detail":{"query":{"match":["Must be one of: any, all."]}},"message":"Validation error"}`},
		"/v1/job/search?state=test&state=waiting": {422, `{"detail":{"query":{"state":{"1":["Must be one of: ` + states + `"]}}},"message":"Validation error"}`},
	})
	h.SubmitTestflinger("vm", "55555555-5555-4555-8555-555555555555", `{}`, 0)
	h.SubmitTestflinger("vm", "66666666-6666-4666-8666-666666666666", `{}`, 0)
	if got := h.get("/v1/job/search", ""); got.Code != http.StatusServiceUnavailable || !strings.Contains(got.Body.String(), "6 jobs fit, and an answer has at most 5") {
		t.Errorf("too many jobs: %d %s", got.Code, got.Body)
	}
	h.Pass(8 * 24 * time.Hour)
	if got := h.get("/v1/job/search?tags=foo", ""); got.Body.String() != "["+found["2"]+"]" {
		t.Errorf("a week after one has ended: %d %s, want job 2, which still waits", got.Code, got.Body)
	}
}

func TestJobsOfAQueueAreItsOwnAlone(t *testing.T) {
	h := newHouse(t, testflinger.Seed)
	someJobs(h)
	h.answers("", map[string]want{
		"/v1/queues/vm/jobs":                           {200, `[{"job_id":"` + three + `","created_at":"2026-03-02T12:00:03Z","job_state":"test","job_queue":"vm"}]`},
		"/v1/queues/native/jobs":                       {204, ""},
		"/v1/queues/nothing/jobs":                      {204, ""},
		"/v1/queues/wait_times?queue=vm&queue=nothing": {200, `{"vm":{"5":10,"10":10,"50":10,"90":10,"95":10}}`},
		"/v1/queues/wait_times":                        {200, `{"rpi4":{"5":3,"10":3,"50":3,"90":3,"95":3},"vm":{"5":10,"10":10,"50":10,"90":10,"95":10}}`},
	})
}

func TestPercentilesOfWaitsLieBetweenSamples(t *testing.T) {
	h := newHouse(t, testflinger.Seed)
	h.Together(func() {
		for i, wait := range []time.Duration{2900 * time.Millisecond, 4900 * time.Millisecond, 10900 * time.Millisecond} {
			h.SubmitTestflinger("vm", strings.Replace(none, "9", string(rune('0'+i)), 1), `{}`, 0)
			h.Pass(wait)
			h.Claim("testflinger/vm", "otter")
		}
	})
	h.answers("", map[string]want{"/v1/queues/wait_times": {200, `{"vm":{"5":2.2,"10":2.4,"50":4,"90":8.8,"95":9.4}}`}})
}

func TestResultIsTheMergeOfWhatWasPosted(t *testing.T) {
	h := newHouse(t, testflinger.Seed)
	someJobs(h)
	post := func(document string, members ...string) {
		h.Say(&event.TestflingerResultPosted{JobId: three, Document: labtest.Inline(document), Members: members})
	}
	h.answers("", map[string]want{
		"/v1/result/" + three: {200, `{"job_state":"test"}`},
		"/v1/result/" + none:  {204, ""},
		"/v1/result/x":        {400, refusal("Invalid job_id specified")},
	})
	post(`{"device_info":{"device_ip":"10.0.0.1"},"setup_status":1}`, "device_info", "setup_status")
	post(`{"setup_output":"a\nb","setup_status":0,"x":1.50}`, "setup_output", "setup_status", "x")
	h.answers("", map[string]want{
		"/v1/result/" + three: {200, `{"device_info":{"device_ip":"10.0.0.1"},"job_state":"test","setup_output":"a\nb","setup_status":0,"x":1.50}`},
	})
}

// fragment is a piece of a log as the newer generation's agents send it.
func fragment(job string, kind event.JobOutputKind, phase string, number int64, at time.Time, text string) *event.JobOutputAppended {
	return &event.JobOutputAppended{
		JobId: job, Kind: kind, Phase: phase, Fragment: proto.Int64(number), FragmentTime: proto.Int64(at.UnixMilli()), Document: labtest.Inline(text),
	}
}

func TestLatestShowsLogsByPhaseAndInTheFlatResult(t *testing.T) {
	h := newHouse(t, testflinger.Latest)
	someJobs(h)
	output, serial := event.JobOutputKind_JOB_OUTPUT_KIND_OUTPUT, event.JobOutputKind_JOB_OUTPUT_KIND_SERIAL
	h.Together(func() {
		h.Say(&event.TestflingerResultPosted{JobId: three, Document: labtest.Inline(`{"status":{"setup":0},"device_info":{}}`), Members: []string{"device_info", "status"}})
		h.Say(&event.TestflingerResultPosted{JobId: three, Document: labtest.Inline(`{"status":{"setup":0,"test":3}}`), Members: []string{"status"}})
		h.Say(fragment(three, output, "test", 2, h.Now.Add(time.Minute), "\"two\"\n"))
		h.Say(fragment(three, output, "setup", 0, h.Now, "zero\n"))
		h.Say(fragment(three, output, "test", 1, h.Now, "one\n"))
		h.Say(fragment(three, output, "test", 1, h.Now, "one\n")) // sent again
		h.Say(fragment(three, serial, "test", 0, h.Now, "boot\xff"))
	})
	empty := func(phases ...string) string {
		var list []string
		for _, phase := range phases {
			list = append(list, `"`+phase+`":{"log_data":"","last_fragment_number":-1}`)
		}
		return strings.Join(list, ",")
	}
	h.answers("", map[string]want{
		"/v1/result/" + three: {200, `{"device_info":{},"job_state":"test","setup_status":0,"test_status":3,"setup_output":"zero\n","test_output":"one\n\"two\"\n","test_serial":"boot` + "\ufffd" + `"}`},
		"/v1/result/" + three + "/log/output": {200, `{"output":{"setup":{"log_data":"zero\n","last_fragment_number":0},` + empty("provision", "firmware_update") +
			`,"test":{"log_data":"one\n\"two\"\n","last_fragment_number":2},` + empty("allocate", "reserve", "cleanup") + `}}`},
		"/v1/result/" + three + "/log/output?phase=test&start_fragment=2":                           {200, `{"output":{"test":{"log_data":"\"two\"\n","last_fragment_number":2}}}`},
		"/v1/result/" + three + "/log/output?phase=test&start_timestamp=2026-03-02T12:00:14Z":       {200, `{"output":{"test":{"log_data":"\"two\"\n","last_fragment_number":2}}}`},
		"/v1/result/" + none + "/log/serial?phase=test":                                             {200, `{"serial":{` + empty("test") + `}}`},
		"/v1/result/" + three + "/log/output?start_fragment=-1&phase=x&limit=3&start_timestamp=now": {400, `{"detail":{},"message":{"limit":["Unknown field."],"phase":["Must be one of: setup, provision, firmware_update, test, allocate, reserve, cleanup."],"start_fragment":["Must be greater than or equal to 0."],"start_timestamp":["Not a valid datetime."]}}`},
		"/v1/result/x/log/output": {400, refusal("Invalid job_id specified")},
		"/v1":                     {200, "Testflinger Server v1.5.0"},
	})
	if got := h.get("/v1/result/"+three+"/log/other", ""); got.Code != http.StatusNotFound {
		t.Errorf("a log of another type is answered %d", got.Code)
	}
}

func TestAgentsAreShownWithAllThatIsKnownOfThem(t *testing.T) {
	h := newHouse(t, testflinger.Seed)
	h.Together(func() {
		h.Say(&event.TestflingerAgentPosted{Name: "old", State: proto.String("waiting")})
		h.Pass(8 * 24 * time.Hour)
		h.Say(&event.TestflingerAgentPosted{Name: "mink", State: proto.String("offline"), Comment: proto.String("broken"), Queues: &event.TestflingerQueues{Names: []string{"vm"}}})
		h.Say(&event.TestflingerAgentPosted{Name: "otter", State: proto.String("setup"), Location: proto.String("lab"), Queues: &event.TestflingerQueues{Names: []string{"rpi4", "vm"}}, Log: []string{"x"}})
		h.Pass(time.Second)
		h.Say(&event.TestflingerAgentPosted{Name: "otter", State: proto.String("test"), Identifier: proto.String("id-1"), JobId: proto.String(one)})
		for _, code := range []int64{0, 0, 46, 1} {
			h.Say(&event.TestflingerProvisionLogged{Agent: "otter", JobId: one, ExitCode: code})
		}
		h.Say(&event.TestflingerProvisionLogged{Agent: "mink", JobId: one})
		h.Say(&event.TestflingerProvisionLogged{Agent: "unknown", JobId: one})
	})
	h.client("owner-1", testflinger.Contributor, nil)
	h.restrict("vm", "owner-1")
	mink := `{"comment":"broken","name":"mink","provision_streak_count":1,"provision_streak_type":"pass","queues":["vm"],"restricted_to":{"vm":["owner-1"]},"state":"offline","updated_at":"2026-03-10T12:00:00Z"}`
	otter := `{"identifier":"id-1","job_id":"` + one + `","location":"lab","name":"otter","provision_streak_count":2,"provision_streak_type":"fail","queues":["rpi4","vm"],"restricted_to":{"vm":["owner-1"]},"state":"test","updated_at":"2026-03-10T12:00:01Z"}`
	h.answers("", map[string]want{
		"/v1/agents/data":         {200, "[" + mink + "," + otter + "]"},
		"/v1/agents/data/otter":   {200, otter},
		"/v1/agents/data/old":     {404, "{}"},
		"/v1/agents/data/unknown": {404, "{}"},
		"/v1/queues/rpi4/agents":  {200, `[{"job_id":"` + one + `","location":"lab","name":"otter","queues":["rpi4","vm"],"state":"test"}]`},
		"/v1/queues/other/agents": {404, "[]"},
		"/v1":                     {200, "Testflinger Server v1.1.0"},
	})
	latest := newHouse(t, testflinger.Latest)
	latest.answers("", map[string]want{
		"/v1/queues/other/agents": {404, refusal("Queue 'other' does not exist or has no agents listening to it")},
		"/v1/agents/data":         {200, "[]"},
	})
}

func TestAgentsAreReadWhoseNamesAreLongerThanAQuery(t *testing.T) {
	h := newHouse(t, testflinger.Seed)
	const agents = 1500 // a query has at most 256 KiB
	last := ""
	h.Together(func() {
		for i := range agents {
			last = strings.Repeat("'", 200) + strconv.Itoa(i)
			h.Say(&event.TestflingerAgentPosted{Name: last, State: proto.String("waiting")})
			h.Say(&event.TestflingerProvisionLogged{Agent: last, JobId: one})
		}
	})
	found, err := h.Reader.At(1).Agents(t.Context(), lab.AgentFilter{Since: lab.AgentsSince(h.Now)}, agents)
	if err != nil || len(found) != agents {
		t.Fatalf("%d of %d agents are read, %v", len(found), agents, err)
	}
	for _, a := range found {
		if a.Name == last && (a.Streak != 1 || !a.Passes) {
			t.Errorf("agent %d is read as %+v, want a provisioning that passed", agents, a)
		}
	}
}

func TestAgentsWhoSayMoreThanOneAnswerMayTakeAreNotRead(t *testing.T) {
	h := newHouse(t, testflinger.Seed)
	comment := strings.Repeat("c", 250_000)
	for range 11 {
		h.Together(func() {
			for range 50 {
				h.Say(&event.TestflingerAgentPosted{Name: strconv.FormatUint(rand.Uint64(), 10), Comment: &comment})
			}
		})
	}
	_, err := h.Reader.At(1).Agents(t.Context(), lab.AgentFilter{Since: lab.AgentsSince(h.Now)}, 1000)
	if _, is := errors.AsType[*lab.TooMany](err); !is {
		t.Fatalf("agents who say 137 MB are read with %v, want *lab.TooMany", err)
	}
	if answer := h.get("/v1/agents/data", ""); answer.Code != http.StatusServiceUnavailable {
		t.Errorf("the list of them is answered %d %.200s, want 503", answer.Code, answer.Body)
	}
}

func TestResultIsReadThatWasPostedInMorePartsThanAQueryNames(t *testing.T) {
	h := newHouse(t, testflinger.Seed)
	someJobs(h)
	const parts = 16_000 // their versions are longer than 256 KiB
	h.Together(func() {
		for i := range parts {
			name := "part" + strconv.Itoa(i)
			h.Say(&event.TestflingerResultPosted{JobId: three, Document: labtest.Inline(`{"` + name + `":1}`), Members: []string{name}})
		}
	})
	answer := h.get("/v1/result/"+three, "")
	if count := strings.Count(answer.Body.String(), `"part`); answer.Code != http.StatusOK || count != parts {
		t.Errorf("a result of %d parts is answered %d with %d of them: %.200s", parts, answer.Code, count, answer.Body)
	}
}

func TestQueuesAndImagesAreThoseThatAgentsPosted(t *testing.T) {
	h := newHouse(t, testflinger.Seed)
	h.answers("", map[string]want{"/v1/agents/queues": {200, "{}"}, "/v1/agents/images/rpi4": {200, "{}"}})
	h.Together(func() {
		h.Say(&event.TestflingerQueuesAdvertised{Descriptions: map[string]string{"gone": "long ago"}})
		h.Say(&event.TestflingerImagesPosted{Queues: map[string]*event.TestflingerImages{"bare": {Lines: map[string]string{"a": "url: b"}}}})
		h.Pass(8 * 24 * time.Hour)
		h.Say(&event.TestflingerQueuesAdvertised{Descriptions: map[string]string{"rpi4": "boards", "vm": ""}})
		h.Say(&event.TestflingerImagesPosted{Queues: map[string]*event.TestflingerImages{"rpi4": {Lines: map[string]string{"core": "url: x", "old": "url: y"}}}})
		h.Say(&event.TestflingerImagesPosted{Queues: map[string]*event.TestflingerImages{"rpi4": {Lines: map[string]string{"core": "url: z"}}}})
	})
	h.answers("", map[string]want{
		"/v1/agents/queues":      {200, `{"bare":"","rpi4":"boards","vm":""}`},
		"/v1/agents/images/rpi4": {200, `{"core":"url: z"}`},
	})
}

func TestClientsAndRestrictedQueuesAreForThoseWithARole(t *testing.T) {
	h := newHouse(t, testflinger.Seed)
	h.restrict("bare", "")
	manager := h.client("boss", testflinger.Manager, map[string]int64{"*": 5})
	contributor := h.client("jane", testflinger.Contributor, nil)
	h.restrict("vm", "jane")
	boss := `{"client_id":"boss","role":"manager","max_priority":{"*":5},"max_reservation_time":{}}`
	jane := `{"client_id":"jane","role":"contributor","max_priority":{},"max_reservation_time":{},"allowed_queues":["vm"]}`
	h.answers(manager, map[string]want{
		"/v1/client-permissions":      {200, "[" + boss + "," + jane + "]"},
		"/v1/client-permissions/jane": {200, jane},
		"/v1/client-permissions/none": {404, refusal("Specified client_id does not exist")},
		"/v1/restricted-queues":       {200, `[{"queue":"bare","owners":[]},{"queue":"vm","owners":["jane"]}]`},
		"/v1/restricted-queues/vm":    {200, `{"queue":"vm","owners":["jane"]}`},
		"/v1/restricted-queues/other": {404, refusal("Error: Restricted queue not found.")},
	})
	h.answers(contributor, map[string]want{
		"/v1/client-permissions": {403, refusal("Specified action requires role: admin, manager")},
	})
	h.answers("", map[string]want{
		"/v1/restricted-queues": {401, refusal("Authentication is required for specified endpoint")},
	})
}

func TestPagesLeadToWhereTheyAreNow(t *testing.T) {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	err := route.Mount(engine, read.New(read.Config{}).Routes(), route.Options{
		APIs: map[string]route.API{read.API: access.NewTestflinger(testflinger.NewTokens(testflinger.Seed, []byte("key"), time.Now)).API()}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/agents": "/ui/agents", "/agents/a%20b": "/ui/agents/a%20b", "/jobs/": "/ui/jobs?family=testflinger", "/jobs/" + one: "/ui/jobs/testflinger-" + one,
		"/queues": "/ui/queues", "/queues/a&b": "/ui/queue?queue=testflinger%2Fa%26b",
	} {
		answer := httptest.NewRecorder()
		engine.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		if got := answer.Header().Get("Location"); answer.Code != http.StatusFound || got != want {
			t.Errorf("%s leads to %q (%d), want %q", path, got, answer.Code, want)
		}
	}
}
