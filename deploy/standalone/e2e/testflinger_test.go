package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// testflingerClient is a client of Testflinger's.
type testflingerClient struct {
	lab        *Lab
	id, secret string
	// given is the token that it has, until it has to get another.
	given string
	until time.Time
}

// client makes a client with a role. More settings are arguments of `client set`.
func (l *Lab) client(t testing.TB, role string, more ...string) *testflingerClient {
	t.Helper()
	c := &testflingerClient{lab: l, id: Unique("client"), secret: Unique("a-long-enough-secret")}
	l.Admin(t, nil, append([]string{"admin", "testflinger", "client", "set", c.id, "--secret", c.secret, "--role", role}, more...)...)
	return c
}

func (c *testflingerClient) basic() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.id+":"+c.secret))
}

// token is the header's value with a token, as the generation's command sends it: of the older one the bare answer.
func (c *testflingerClient) token(t testing.TB) string {
	t.Helper()
	if c.given == "" || time.Now().After(c.until) {
		c.given = string(c.lab.visitor(t).with("Authorization", c.basic()).sendJSON(t, http.MethodPost, "/v1/oauth2/token", "{}").Want(t, http.StatusOK).Body)
		c.until = time.Now().Add(10 * time.Second)
		var latest struct {
			AccessToken string `json:"access_token"`
		}
		if json.Unmarshal([]byte(c.given), &latest) == nil {
			c.given = "Bearer " + latest.AccessToken
		}
	}
	return c.given
}

// sendJSON sends a body that is said to be JSON.
func (c *caller) sendJSON(t testing.TB, method, path, body string) Answer {
	t.Helper()
	return c.with("Content-Type", "application/json").do(t, method, path, []byte(body))
}

func (c *caller) postJSON(t testing.TB, path, body string) Answer {
	t.Helper()
	return c.sendJSON(t, http.MethodPost, path, body)
}

// ok wants the answer to a write that has nothing to say.
func (a Answer) ok(t testing.TB) {
	t.Helper()
	if a.is(t, http.StatusOK, "OK"); !strings.HasPrefix(a.Header.Get("Content-Type"), "text/html") {
		t.Errorf("%s: Content-Type %q", a.Asked, a.Header.Get("Content-Type"))
	}
}

// object reads an answer that is a JSON object.
func (a Answer) object(t testing.TB) (object map[string]any) {
	t.Helper()
	a.Want(t, http.StatusOK).JSON(t, &object)
	return object
}

// queueJob puts a job into a queue of Testflinger's and gives its id.
func (c *caller) queueJob(t testing.TB, body string) string {
	t.Helper()
	id, _ := c.postJSON(t, "/v1/job", body).object(t)["job_id"].(string)
	if id == "" {
		t.Fatalf("%s has no id", body)
	}
	return id
}

var (
	testflingerTime = regexp.MustCompile(`"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ"`)
	uuidForm        = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`)
)

// masked is an answer without what differs from run to run.
func (a Answer) masked(names ...string) string {
	text := testflingerTime.ReplaceAllString(string(a.Body), `"TIME"`)
	text = uuidForm.ReplaceAllString(text, "ID")
	for i, name := range names {
		text = strings.ReplaceAll(text, name, fmt.Sprintf("NAME%d", i+1))
	}
	return text
}

// upload sends a file as the part named file of a form, as the command and the agent send files.
func (c *caller) upload(t testing.TB, path, name, kind string, content []byte) Answer {
	t.Helper()
	var body bytes.Buffer
	parts := multipart.NewWriter(&body)
	part, err := parts.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {fmt.Sprintf(`form-data; name="file"; filename=%q`, name)}, "Content-Type": {kind},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := part.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := parts.Close(); err != nil {
		t.Fatal(err)
	}
	return c.with("Content-Type", parts.FormDataContentType()).do(t, http.MethodPost, path, body.Bytes())
}

// hook is a webhook that keeps what it is told.
type hook struct {
	*httptest.Server
	mu   sync.Mutex
	told []string
}

func newHook(t *testing.T) *hook {
	h := &hook{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("the webhook's body: %v", err)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.told = append(h.told, r.Method+" "+string(body))
		fmt.Fprint(w, "thanks")
	}))
	t.Cleanup(h.Close)
	return h
}

// round is the older generation's command and agent at work, with exactly the calls that they make (10).
type round struct {
	t            *testing.T
	lab          *Lab
	queue, agent string
	// cli is the command with a client's secret, bot the agent, which has none.
	cli, bot *caller
	client   *testflingerClient
	// hook is where the agent has events of the job forwarded; nil when the job names none.
	hook   *hook
	events []string
}

// happens has one more event of a job forwarded, with all before it.
func (r *round) happens(id, name string) {
	if r.hook == nil {
		return
	}
	r.events = append(r.events, fmt.Sprintf(`{"event_name": %q, "timestamp": "2024-05-03T19:11:33.541130+00:00", "detail": ""}`, name))
	r.bot.postJSON(r.t, "/v1/job/"+id+"/events", fmt.Sprintf(`{"agent_id": %q, "job_queue": %q, "job_status_webhook": %q, "events": [%s]}`,
		r.agent, r.queue, r.hook.URL, strings.Join(r.events, ", "))).is(r.t, http.StatusOK, "thanks")
}

func (r *round) agentData(body string) { r.bot.postJSON(r.t, "/v1/agents/data/"+r.agent, body).ok(r.t) }

// lookAtItself is how the agent asks what was said of it.
func (r *round) lookAtItself(times int) {
	for range times {
		r.bot.get(r.t, "/v1/agents/data/"+r.agent).Want(r.t, http.StatusOK)
	}
}

func (r *round) start() {
	r.agentData(`{"state": "waiting", "comment": ""}`)
	r.bot.postJSON(r.t, "/v1/agents/queues", fmt.Sprintf(`{%q: "of otters"}`, r.queue)).ok(r.t)
	r.bot.postJSON(r.t, "/v1/agents/images", fmt.Sprintf(`{%q: {"core": "url: http://place/core"}}`, r.queue)).ok(r.t)
	r.agentData(fmt.Sprintf(`{"location": "lab", "queues": [%q], "provision_type": "noprovision", "identifier": "otter-1"}`, r.queue))
}

// ask is one turn of the agent's loop. It parses any body that is not empty as a job.
func (r *round) ask() Answer {
	r.lookAtItself(1)
	r.bot.postJSON(r.t, "/v1/agents/queues", fmt.Sprintf(`{%q: "of otters"}`, r.queue)).ok(r.t)
	r.lookAtItself(3)
	return r.bot.get(r.t, "/v1/job?queue="+r.queue)
}

func (r *round) submit(job string) string {
	token := r.client.token(r.t)
	var agents []map[string]any
	r.cli.get(r.t, "/v1/queues/"+r.queue+"/agents").Want(r.t, http.StatusOK).JSON(r.t, &agents)
	if len(agents) != 1 || agents[0]["state"] == nil {
		r.t.Errorf("the queue's agents are %v", agents)
	}
	return r.cli.with("Authorization", token).queueJob(r.t, job)
}

func (r *round) state(id, want string) {
	r.t.Helper()
	if got := r.cli.get(r.t, "/v1/result/"+id).object(r.t)["job_state"]; got != want {
		r.t.Errorf("the job's state is %v, want %s", got, want)
	}
}

func (r *round) post(id, result string) { r.bot.postJSON(r.t, "/v1/result/"+id, result).ok(r.t) }

// phase runs one phase. A phase that does something gives output, which the command polls.
func (r *round) phase(id, phase string, does bool) {
	r.happens(id, phase+"_start")
	r.bot.get(r.t, "/v1/result/"+id).Want(r.t, http.StatusOK)
	r.lookAtItself(2)
	r.post(id, fmt.Sprintf(`{"job_state": %q}`, phase))
	r.agentData(fmt.Sprintf(`{"state": %q, "comment": "job %s"}`, phase, id))
	if !does {
		return
	}
	r.post(id, `{"device_info": {"device_ip": "10.0.0.1", "agent_name": "otter"}}`)
	for _, text := range []string{phase + " one\n", phase + " zwölf"} {
		r.bot.post(r.t, "/v1/result/"+id+"/output", text).ok(r.t)
	}
	r.bot.post(r.t, "/v1/result/"+id+"/serial_output", "serial of "+phase).ok(r.t)
	r.bot.get(r.t, "/v1/result/"+id).Want(r.t, http.StatusOK)
	r.state(id, phase)
	r.cli.get(r.t, "/v1/result/"+id+"/output").is(r.t, http.StatusOK, phase+" one\n\n"+phase+" zwölf")
	r.cli.get(r.t, "/v1/result/"+id+"/output").is(r.t, http.StatusNoContent, "")
}

// work is what the agent does with a job that it got.
func (r *round) work(id string) {
	r.happens(id, "job_start")
	r.agentData(fmt.Sprintf(`{"job_id": %q}`, id))
	for _, phase := range []string{"setup", "provision", "firmware_update", "test", "allocate", "reserve"} {
		r.phase(id, phase, phase == "provision" || phase == "test")
		if phase == "provision" {
			r.bot.postJSON(r.t, "/v1/agents/provision_logs/"+r.agent, fmt.Sprintf(`{"job_id": %q, "exit_code": 0, "detail": "provision_success"}`, id)).ok(r.t)
		}
	}
	r.finish(id)
}

// finish is the end of a job: all outcomes at once, with the state that ends it.
func (r *round) finish(id string) {
	r.agentData(`{"job_id": ""}`)
	r.bot.upload(r.t, "/v1/result/"+id+"/artifact", "file", "application/x-gzip", artifact).ok(r.t)
	r.post(id, `{"provision_status": 0, "provision_output": "provision one", "provision_serial": "", "test_status": 3, "test_output": "größe",
		"test_serial": "s", "job_state": "complete"}`)
	r.lookAtItself(1)
	r.agentData(`{"state": "waiting", "comment": ""}`)
}

// artifact and attachment are no real archives: nobody looks into them.
var (
	artifact   = []byte("\x1f\x8b artifacts of a job \xff\x00")
	attachment = []byte("\x1f\x8b attachments of a job \xfe\x00")
)

func newRound(t *testing.T, lab *Lab) *round {
	client := lab.client(t, "contributor", "--max-priority", "*=10", "--max-reservation", "*=40000")
	return &round{t: t, lab: lab, queue: Unique("queue"), agent: Unique("agent"), cli: lab.visitor(t), bot: lab.visitor(t), client: client}
}

func TestTestflingerRoundOfTheRealClients(t *testing.T) {
	covers(t, "POST /v1/job", "GET /v1/job", "POST /v1/result/:job_id", "POST /v1/result/:job_id/output", "GET /v1/result/:job_id/output",
		"POST /v1/result/:job_id/serial_output", "GET /v1/result/:job_id/serial_output", "POST /v1/agents/queues", "POST /v1/agents/images",
		"POST /v1/agents/data/:agent_name", "POST /v1/agents/provision_logs/:agent_name", "POST /v1/oauth2/token", "POST /v1/job/:job_id/action",
		"POST /v1/job/:job_id/events", "POST /v1/job/:job_id/attachments", "GET /v1/job/:job_id/attachments", "POST /v1/result/:job_id/artifact",
		"GET /v1/result/:job_id/artifact", "GET /v1/result/:job_id", "GET /v1/job/:job_id/position", "GET /v1/agents/data/:agent_name",
		"GET /v1/queues/:queue_name/agents")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		r := newRound(t, lab)
		r.start()
		r.ask().is(t, http.StatusNoContent, "")
		id := r.submit(fmt.Sprintf(`{"job_queue": %q, "name": "größe", "option": "foo", "job_priority": 3, "provision_data": {"url": "http://place/core"},
			"test_data": {"test_cmds": "true"}, "reserve_data": {"ssh_keys": ["lp:me"], "timeout": 40000}}`, r.queue))
		r.state(id, "waiting")
		r.cli.get(t, "/v1/job/"+id+"/position").is(t, http.StatusOK, "0")
		r.cli.get(t, "/v1/result/"+id+"/output").is(t, http.StatusNoContent, "")
		got := r.ask()
		if job := got.object(t); job["job_id"] != id || job["option"] != "foo" {
			t.Fatalf("the agent gets %v", job)
		}
		compareGolden(t, "testflinger/assignment", got.masked(r.queue))
		r.work(id)
		compareGolden(t, "testflinger/result", r.cli.get(t, "/v1/result/"+id).masked())
		if job := lab.writer(t).get(t, jobsPath+"/testflinger-"+id).object(t); job["worker"] != r.agent {
			t.Errorf("%v worked on the job, want the agent that named it, %s", job["worker"], r.agent)
		}
		r.cli.get(t, "/v1/result/"+id+"/serial_output").is(t, http.StatusOK, "serial of provision\nserial of test")
		compareGolden(t, "testflinger/agent", r.bot.get(t, "/v1/agents/data/"+r.agent).masked(r.queue, r.agent))
		r.ask().is(t, http.StatusNoContent, "")
		r.files()
		r.cancels()
	})
}

// files is a round of a job with attachments and, where this test can be reached, a webhook.
func (r *round) files() {
	t := r.t
	webhook := ""
	if _, here := r.lab.installation.(*processes); here { // not from a container
		r.hook = newHook(t)
		webhook = fmt.Sprintf(`, "job_status_webhook": %q`, r.hook.URL)
	}
	id := r.submit(fmt.Sprintf(`{"job_queue": %q, "test_data": {"attachments": [{"agent": "test.sh"}]}%s}`, r.queue, webhook))
	r.ask().is(t, http.StatusNoContent, "")
	r.bot.get(t, "/v1/job/"+id+"/attachments").is(t, http.StatusNoContent, "")
	for range 2 { // as if an answer was lost
		r.cli.upload(t, "/v1/job/"+id+"/attachments", "attachments.tar.gz", "application/x-gzip", attachment).ok(t)
	}
	if job := r.ask().object(t); job["job_id"] != id || job["attachments_status"] != "complete" {
		t.Fatalf("the agent gets %v", job)
	}
	r.bot.get(t, "/v1/job/"+id+"/attachments").is(t, http.StatusOK, string(attachment))
	r.work(id)
	r.happens(id, "job_end")
	got := r.cli.get(t, "/v1/result/"+id+"/artifact")
	if got.is(t, http.StatusOK, string(artifact)); got.Header.Get("Content-Encoding") != "" {
		t.Errorf("the artifact is said to be encoded: %v", got.Header)
	}
	if r.hook != nil {
		r.hook.check(t)
	}
	r.hook = nil
}

// check wants the hook to have been told the eight events of a job, each time with all before it.
func (h *hook) check(t *testing.T) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.told) != 8 {
		t.Fatalf("the webhook was told %d times, want 8: %q", len(h.told), h.told)
	}
	if last := h.told[7]; !strings.HasPrefix(last, "PUT {") || strings.Contains(last, "job_status_webhook") || strings.Count(last, "event_name") != 8 {
		t.Errorf("the webhook was told at last %s", last)
	}
}

// cancels is how the command cancels a job that waits, and one that is worked on.
func (r *round) cancels() {
	t := r.t
	cancel := func(id string) Answer { return r.cli.postJSON(t, "/v1/job/"+id+"/action", `{"action": "cancel"}`) }
	waiting := r.submit(fmt.Sprintf(`{"job_queue": %q}`, r.queue))
	cancel(waiting).ok(t)
	r.state(waiting, "cancelled")
	r.ask().is(t, http.StatusNoContent, "")
	cancel(waiting).is(t, http.StatusBadRequest, "The job is already completed or cancelled")
	running := r.submit(fmt.Sprintf(`{"job_queue": %q}`, r.queue))
	if job := r.ask().object(t); job["job_id"] != running {
		t.Fatalf("the agent gets %v", job)
	}
	r.phase(running, "setup", false)
	cancel(running).ok(t)
	r.state(running, "cancelled")
	r.finish(running)
	r.state(running, "complete")
}

func TestTestflingerJobsGoOutByPriorityAndEachOnceAtEveryDoor(t *testing.T) {
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		r := newRound(t, lab)
		token := r.client.token(t)
		const count = 60
		var want []string
		for i := range count {
			id := r.cli.with("Authorization", token).queueJob(t, fmt.Sprintf(`{"job_queue": %q, "job_priority": %d}`, r.queue, i%3))
			want = append(want, id)
		}
		var mu sync.Mutex
		var got []string
		var agents sync.WaitGroup
		for i := range 6 {
			agents.Go(func() {
				door := lab.Ingest()[i%len(lab.Ingest())]
				for {
					answer, err := try(t.Context(), http.MethodGet, door+"/v1/job?queue="+r.queue, nil)
					var job struct {
						ID string `json:"job_id"`
					}
					if err != nil || answer.Status != http.StatusOK || json.Unmarshal(answer.Body, &job) != nil {
						return
					}
					mu.Lock()
					got = append(got, job.ID)
					mu.Unlock()
				}
			})
		}
		agents.Wait()
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%d jobs were handed out, want each of %d once", len(got), count)
		}
	})
}

func TestTestflingerOutputIsGivenOnceHoweverManyPoll(t *testing.T) {
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		id := lab.visitor(t).queueJob(t, fmt.Sprintf(`{"job_queue": %q}`, Unique("queue")))
		path := "/v1/result/" + id + "/output"
		const pieces = 40
		polling, stop := context.WithCancel(t.Context())
		defer stop()
		came := make(chan string, 2*pieces)
		var pollers sync.WaitGroup
		for i := range 4 {
			pollers.Go(func() {
				for polling.Err() == nil {
					answer, err := try(polling, http.MethodGet, lab.Ingest()[i%len(lab.Ingest())]+path, nil)
					if err != nil || answer.Status != http.StatusOK {
						continue
					}
					for text := range strings.SplitSeq(string(answer.Body), "\n") {
						came <- text
					}
				}
			})
		}
		for i := range pieces {
			send(t, http.MethodPost, lab.Ingest()[i%len(lab.Ingest())]+path, fmt.Appendf(nil, "%d", i)).Want(t, http.StatusOK)
		}
		seen := map[string]int{}
		for range pieces {
			select {
			case text := <-came:
				seen[text]++
			case <-time.After(time.Minute):
				t.Fatalf("%d of %d pieces came", len(seen), pieces)
			}
		}
		stop()
		pollers.Wait()
		if len(seen) != pieces || len(came) > 0 {
			t.Errorf("%d different pieces came, and %d more", len(seen), len(came))
		}
	})
}

func TestTestflingerClientsRestrictedQueuesAndTokens(t *testing.T) {
	covers(t, "POST /v1/client-permissions", "PUT /v1/client-permissions/:client_id", "DELETE /v1/client-permissions/:client_id",
		"POST /v1/restricted-queues/:queue_name", "DELETE /v1/restricted-queues/:queue_name", "GET /v1/oauth2/token",
		"GET /v1/client-permissions", "GET /v1/client-permissions/:client_id", "GET /v1/restricted-queues", "GET /v1/restricted-queues/:queue_name",
		"POST /millrace/v1/admin/testflinger/clients", "POST /millrace/v1/admin/testflinger/restricted-queues")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		boss, r := lab.client(t, "admin"), newRound(t, lab)
		as := func(c *testflingerClient) *caller { return lab.visitor(t).with("Authorization", "Bearer "+c.token(t)) }
		made := &testflingerClient{lab: lab, id: Unique("client"), secret: Unique("s")}
		body := fmt.Sprintf(`{"client_id": %q, "client_secret": %q, "max_priority": {}, "max_reservation_time": {"*": 40000}, "role": "contributor"}`, made.id, made.secret)
		as(boss).postJSON(t, "/v1/client-permissions", body).ok(t)
		as(boss).postJSON(t, "/v1/client-permissions", body).Want(t, http.StatusConflict)
		r.start()
		as(boss).postJSON(t, "/v1/restricted-queues/"+r.queue, fmt.Sprintf(`{"client_id": %q}`, made.id)).ok(t)
		as(boss).get(t, "/v1/restricted-queues/"+r.queue).is(t, http.StatusOK, fmt.Sprintf(`{"queue":%q,"owners":[%q]}`, r.queue, made.id))
		as(boss).get(t, "/v1/restricted-queues").says(t, http.StatusOK, r.queue)
		as(boss).get(t, "/v1/restricted-queues/nothing").Want(t, http.StatusNotFound)
		as(boss).get(t, "/v1/client-permissions").says(t, http.StatusOK, made.id)
		compareGolden(t, "testflinger/client", as(boss).get(t, "/v1/client-permissions/"+made.id).Want(t, http.StatusOK).masked(made.id, r.queue))
		job := fmt.Sprintf(`{"job_queue": %q}`, r.queue)
		lab.visitor(t).postJSON(t, "/v1/job", job).Want(t, http.StatusUnauthorized)
		as(boss).postJSON(t, "/v1/job", job).Want(t, http.StatusForbidden)
		as(made).queueJob(t, job)
		as(boss).sendJSON(t, http.MethodPut, "/v1/client-permissions/"+made.id, `{"max_priority": {"*": 2}, "max_reservation_time": null}`).ok(t)
		made.given = string(lab.visitor(t).with("Authorization", made.basic()).get(t, "/v1/oauth2/token").Want(t, http.StatusOK).Body)
		as(made).queueJob(t, fmt.Sprintf(`{"job_queue": %q, "job_priority": 2}`, r.queue))
		as(boss).sendJSON(t, http.MethodDelete, "/v1/restricted-queues/"+r.queue, fmt.Sprintf(`{"client_id": %q}`, made.id)).ok(t)
		lab.visitor(t).queueJob(t, job)
		lab.operate(t, "/testflinger/restricted-queues", map[string]any{"name": r.queue}).Want(t, http.StatusOK)
		lab.Admin(t, nil, "admin", "testflinger", "restricted-queue", "add", Unique("queue"))
		lab.operator(t).post(t, "/millrace/v1/admin/testflinger/clients", `{"id": "nobody", "role": "agent"}`).refuses(t, http.StatusBadRequest, "/secret")
		lab.operate(t, "/testflinger/clients", map[string]any{"id": made.id, "allowed_queues": []string{r.queue}}).Want(t, http.StatusOK)
		lab.visitor(t).postJSON(t, "/v1/job", job).Want(t, http.StatusUnauthorized)
		as(boss).sendJSON(t, http.MethodDelete, "/v1/client-permissions/"+made.id, "").ok(t)
		lab.visitor(t).with("Authorization", made.basic()).postJSON(t, "/v1/oauth2/token", "{}").
			is(t, http.StatusUnauthorized, "Invalid client id or client key")
	})
}

func TestTestflingerIsTheSameAfterACrashAndARebuild(t *testing.T) {
	covers(t, "GET /v1/job/:job_id", "GET /v1/agents/data", "GET /v1/agents/queues", "GET /v1/agents/images/:queue_name",
		"GET /v1/queues/:queue_name/jobs", "GET /v1/queues/wait_times", "GET /v1/job/search")
	lab := start(t, "standalone")
	r := newRound(t, lab)
	r.start()
	id := r.submit(fmt.Sprintf(`{"job_queue": %q, "tags": ["a"]}`, r.queue))
	r.ask().Want(t, http.StatusOK)
	r.work(id)
	waiting := r.submit(fmt.Sprintf(`{"job_queue": %q}`, r.queue))
	r.bot.post(t, "/v1/result/"+id+"/output", "late").ok(t)
	paths := []string{
		"/v1/result/" + id, "/v1/job/" + id, "/v1/job/" + waiting, "/v1/agents/data", "/v1/agents/queues", "/v1/agents/images/" + r.queue,
		"/v1/queues/" + r.queue + "/jobs", "/v1/queues/wait_times", "/v1/job/search?tags=a",
	}
	look := func() (all []string) {
		for _, path := range paths {
			all = append(all, string(r.cli.get(t, path).Want(t, http.StatusOK).Body))
		}
		return all
	}
	before := look()
	lab.Crash(t)
	lab.Settle(t)
	if after := look(); !slices.Equal(after, before) {
		t.Errorf("after a crash:\n%s\nbefore:\n%s", after, before)
	}
	lab.Admin(t, nil, "replay")
	if after := look(); !slices.Equal(after, before) {
		t.Errorf("after a rebuild:\n%s\nbefore:\n%s", after, before)
	}
	r.cli.get(t, "/v1/result/"+id+"/output").is(t, http.StatusOK, "late")
	r.cli.get(t, "/v1/result/"+id+"/output").is(t, http.StatusNoContent, "")
	if job := r.bot.get(t, "/v1/job?queue="+r.queue).object(t); job["job_id"] != waiting {
		t.Errorf("the agent gets %v", job)
	}
}

func TestTestflingerJobWhoseAgentIsLostGoesToAnother(t *testing.T) {
	lab := startWith(t, "MILLRACE_TESTFLINGER_LEASE=1s", "MILLRACE_TESTFLINGER_REQUEUES=1")
	agent, queue := lab.visitor(t), Unique("queue")
	id := agent.queueJob(t, fmt.Sprintf(`{"job_queue": %q}`, queue))
	take := func() string {
		t.Helper()
		for end := time.Now().Add(time.Minute); time.Now().Before(end); {
			if answer := agent.get(t, "/v1/job?queue="+queue); answer.Status == http.StatusOK {
				return answer.object(t)["job_id"].(string)
			}
			agent.get(t, "/v1/result/"+id+"/output").Want(t, http.StatusNoContent) // a person who watches keeps no lease
		}
		t.Fatal("nothing was handed out within a minute")
		return ""
	}
	if first, second := take(), take(); first != id || second != id {
		t.Errorf("the claims get %s and %s, want %s each time", first, second, id)
	}
	var jobs Answer
	for end := time.Now().Add(time.Minute); time.Now().Before(end); { // a look at its result would keep its lease
		agent.get(t, "/v1/job/"+id).Want(t, http.StatusOK)
		if jobs = agent.get(t, "/v1/queues/"+queue+"/jobs"); strings.Contains(string(jobs.Body), `"complete"`) {
			return
		}
	}
	t.Errorf("after a second loss the jobs are %s", jobs.Body)
}
