package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const subscriptionsPath = "/millrace/v1/subscriptions"

// receiver is a receiver of calls on this machine.
type receiver struct {
	url string

	mu     sync.Mutex
	broken bool
	taken  []delivery
}

type delivery struct {
	method, path, body string
	header             http.Header
}

func newReceiver(t *testing.T, answer func(w http.ResponseWriter, r *http.Request)) *receiver {
	t.Helper()
	h := &receiver{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		h.mu.Lock()
		broken := h.broken
		if err == nil && !broken {
			h.taken = append(h.taken, delivery{r.Method, r.URL.RequestURI(), string(body), r.Header.Clone()})
		}
		h.mu.Unlock()
		switch {
		case broken:
			w.WriteHeader(http.StatusServiceUnavailable)
		case answer != nil:
			answer(w, r)
		}
	}))
	t.Cleanup(server.Close)
	h.url = server.URL
	return h
}

func (h *receiver) set(broken bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.broken = broken
}

func (h *receiver) calls() []delivery {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.taken)
}

// await waits until the calls are as look wants them.
func (h *receiver) await(t *testing.T, what string, look func([]delivery) bool) []delivery {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for !look(h.calls()) {
		select {
		case <-deadline:
			t.Fatalf("waited in vain for %s; %d calls came", what, len(h.calls()))
		case <-ticker.C:
		}
	}
	return h.calls()
}

// subjects are what deliveries speak of, by kind.
func subjects(t testing.TB, calls []delivery) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for _, call := range calls {
		var told struct{ ID, Type, Subject string }
		if err := json.Unmarshal([]byte(call.body), &told); err != nil || told.ID != call.header.Get("Millrace-Event-Id") {
			t.Errorf("the delivery %s is %s (%v)", call.header.Get("Millrace-Event-Id"), call.body, err)
		}
		if !slices.Contains(found[told.Type], told.Subject) {
			found[told.Type] = append(found[told.Type], told.Subject)
		}
	}
	return found
}

// subscribe makes a subscription and gives its secret.
func (c *caller) subscribe(t testing.TB, name, url string, queues string, kinds ...string) string {
	t.Helper()
	body := map[string]any{"name": name, "url": url, "kinds": kinds}
	if queues != "" {
		body["queues"] = []string{queues}
	}
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	var added struct{ Name, Secret string }
	c.post(t, subscriptionsPath, string(text)).Want(t, http.StatusCreated).JSON(t, &added)
	if added.Name != name || len(added.Secret) < 40 {
		t.Fatalf("the subscription is %+v", added)
	}
	return added.Secret
}

func (c *caller) subscription(t testing.TB, name string) map[string]any {
	t.Helper()
	var list struct{ Items []map[string]any }
	c.get(t, subscriptionsPath).Want(t, http.StatusOK).JSON(t, &list)
	i := slices.IndexFunc(list.Items, func(item map[string]any) bool { return item["name"] == name })
	if i < 0 {
		t.Fatalf("there is no subscription %s in %v", name, list.Items)
	}
	return list.Items[i]
}

const letLoopback = "MILLRACE_WEBHOOKS_ALLOW_PRIVATE=127.0.0.1"

func TestSubscriberIsToldOfAJobsLifeWithASignature(t *testing.T) {
	covers(t, "POST /millrace/v1/subscriptions", "GET /millrace/v1/subscriptions", "DELETE /millrace/v1/subscriptions/:name")
	lab, told := startWith(t, letLoopback), newReceiver(t, nil)
	operator, writer, queue := lab.operator(t), lab.writer(t), Unique("queue")
	secret := operator.subscribe(t, "ci", told.url+"/hook?a=b", queue, "job.submitted", "job.handed_out", "job.ended", "run.stored")
	writer.submitJob(t, Unique("queue"), 1, 0) // another queue's
	id := writer.submitJob(t, queue, 1, 0)
	job := writer.claimJob(t, fmt.Sprintf(`{"queues":[%q]}`, queue))
	writer.with("Millrace-Lease", job.Lease.Token).post(t, jobsPath+"/"+id+"/result", `{"status":"pass"}`).Want(t, http.StatusOK)
	run := newRun(t, lab)
	calls := told.await(t, "all deliveries", func(calls []delivery) bool {
		found := subjects(t, calls)
		return len(found) == 4 && slices.Contains(found["millrace.run.stored"], fmt.Sprint(run.run))
	})
	found := subjects(t, calls)
	for _, kind := range []string{"submitted", "handed_out", "ended"} {
		if got := found["millrace.job."+kind]; !slices.Equal(got, []string{id}) {
			t.Errorf("jobs that it was told to be %s: %v, want %s", kind, got, id)
		}
	}
	for _, call := range calls {
		sent, proof, _ := strings.Cut(strings.TrimPrefix(call.header.Get("Millrace-Signature"), "t="), ",v1=")
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(sent + "." + call.body))
		if hex.EncodeToString(mac.Sum(nil)) != proof || call.method != http.MethodPost || call.path != "/hook?a=b" || call.header.Get("Millrace-Subscription") != "ci" {
			t.Errorf("the delivery %+v is not signed with the secret", call)
		}
	}
	shown := operator.subscription(t, "ci")
	wantMembers(t, shown, map[string]any{"url": told.url + "/hook?a=b", "state": "active", "paused": nil, "failing": nil})
	if text := fmt.Sprint(shown); strings.Contains(text, secret) {
		t.Errorf("the list shows the secret: %s", text)
	}
	operator.do(t, http.MethodDelete, subscriptionsPath+"/ci", nil).Want(t, http.StatusOK)
	operator.do(t, http.MethodDelete, subscriptionsPath+"/ci", nil).refuses(t, http.StatusNotFound)
}

func TestSubscriptionsAreRefusedWithAReason(t *testing.T) {
	lab := start(t, "standalone")
	operator := lab.operator(t)
	for body, text := range map[string]string{
		`{"name":"x","url":"http://127.0.0.1:1/","kinds":["job.ended"]}`:                          "not a public",
		`{"name":"x","url":"http://[::ffff:10.0.0.1]/","kinds":["job.ended"]}`:                    "not a public",
		`{"name":"x","url":"http://169.254.169.254/","kinds":["job.ended"]}`:                      "not a public",
		`{"name":"x","url":"ftp://example.org/","kinds":["job.ended"]}`:                           "scheme",
		`{"name":"x","url":"example.org","kinds":["job.ended"]}`:                                  "scheme",
		`{"name":"x","url":"https://u:p@example.org/","kinds":["job.ended"]}`:                     "user name",
		`{"name":"x","url":"https://example.org/","kinds":["job.ended","job.ended"]}`:             "repeats",
		`{"name":"x","url":"https://example.org/","kinds":["everything"]}`:                        "job.handed_out",
		`{"name":"x","url":"https://example.org/","kinds":[]}`:                                    "empty",
		`{"name":"x y","url":"https://example.org/","kinds":["job.ended"]}`:                       "/name",
		`{"name":"x","url":"https://example.org/","kinds":["job.ended"],"queues":["a*b"]}`:        "/queues/0",
		`{"name":"x","url":"https://example.org/","kinds":["job.ended"],"secret":"chosen by me"}`: "secret",
	} {
		operator.post(t, subscriptionsPath, body).refuses(t, http.StatusBadRequest, text)
	}
	const good = `{"name":"x","url":"https://example.org/","kinds":["job.ended"]}`
	for _, role := range []string{"viewer", "writer"} {
		by := lab.visitor(t).with("Authorization", "Bearer "+lab.Token(t, role))
		by.post(t, subscriptionsPath, good).refuses(t, http.StatusForbidden)
		by.get(t, subscriptionsPath).refuses(t, http.StatusForbidden)
	}
	first := operator.keyed("k").post(t, subscriptionsPath, good).Want(t, http.StatusCreated)
	again := operator.keyed("k").post(t, subscriptionsPath, good).Want(t, http.StatusCreated)
	if !strings.Contains(string(first.Body), `"secret"`) || strings.Contains(string(again.Body), `"secret"`) {
		t.Errorf("the secret is shown first by %s, then by %s", first.Body, again.Body)
	}
	operator.keyed("k").post(t, subscriptionsPath, strings.Replace(good, "x", "y", 1)).refuses(t, http.StatusUnprocessableEntity)
	operator.post(t, subscriptionsPath, good).refuses(t, http.StatusConflict)
}

func TestDeliveriesOutliveACrashAndAPauseAndNoneIsSkipped(t *testing.T) {
	covers(t, "POST /millrace/v1/subscriptions/:name/pause", "POST /millrace/v1/subscriptions/:name/resume")
	lab, told := startWith(t, letLoopback, "MILLRACE_WEBHOOKS_MAX_PAUSE=1s", "MILLRACE_WEBHOOKS_WINDOW=4s"), newReceiver(t, nil)
	operator, writer, queue := lab.operator(t), lab.writer(t), Unique("queue")
	operator.subscribe(t, "ci", told.url, "", "job.submitted")
	var ids []string
	submit := func(n int) {
		for range n {
			ids = append(ids, writer.submitJob(t, queue, 1, 0))
		}
	}
	all := func(calls []delivery) bool { return len(subjects(t, calls)["millrace.job.submitted"]) == len(ids) }
	submit(20)
	lab.Crash(t)
	submit(5)
	told.await(t, "25 deliveries through a crash", all)
	told.set(true)
	submit(3)
	lab.Crash(t)
	state := func() string { return fmt.Sprint(operator.subscription(t, "ci")["state"]) }
	told.await(t, "the subscription to be paused", func([]delivery) bool { return state() == "paused" })
	wantMembers(t, operator.subscription(t, "ci")["paused"].(map[string]any), map[string]any{})
	if reason := fmt.Sprint(operator.subscription(t, "ci")["paused"]); !strings.Contains(reason, "503") {
		t.Errorf("it is paused for %s", reason)
	}
	told.set(false)
	submit(2)
	lab.Crash(t)
	if got := state(); got != "paused" {
		t.Errorf("after a crash it is %s", got)
	}
	operator.post(t, subscriptionsPath+"/ci/resume", "").Want(t, http.StatusOK)
	told.await(t, "30 deliveries", all)
	operator.post(t, subscriptionsPath+"/ci/pause", `{"reason":"holidays"}`).Want(t, http.StatusOK)
	if got := fmt.Sprint(operator.subscription(t, "ci")["paused"]); !strings.Contains(got, "holidays") {
		t.Errorf("it is paused for %s", got)
	}
	operator.do(t, http.MethodPost, "/millrace/v1/admin/replay", nil).Want(t, http.StatusOK)
	submit(2)
	operator.post(t, subscriptionsPath+"/ci/resume", "").Want(t, http.StatusOK)
	told.await(t, "32 deliveries through a rebuild", all)
	got := subjects(t, told.calls())["millrace.job.submitted"]
	slices.Sort(got)
	slices.Sort(ids)
	if !slices.Equal(got, ids) {
		t.Errorf("it was told of %v, want %v", got, ids)
	}
	operator.post(t, subscriptionsPath+"/nobody/pause", "").refuses(t, http.StatusNotFound)
	operator.post(t, subscriptionsPath+"/nobody/resume", "").refuses(t, http.StatusNotFound)
}

func TestTestflingerEventsAreForwardedOnceAndTheAnswerPassedBack(t *testing.T) {
	covers(t, "POST /v1/job/:job_id/events")
	hang := make(chan struct{})
	told := newReceiver(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hang":
			<-hang
		case "/moved":
			http.Redirect(w, r, "/", http.StatusTemporaryRedirect)
		default:
			w.WriteHeader(http.StatusAccepted)
			_, _ = io.WriteString(w, "noted")
		}
	})
	t.Cleanup(func() { close(hang) })
	lab := start(t, "standalone")
	agent := lab.visitor(t)
	body := func(url string) string {
		return fmt.Sprintf(`{"job_status_webhook":%q,"agent_id":"a1","job_queue":"q","more":[1],"events":[{"event_name":"job_start","timestamp":"2026-01-02T03:04:05Z","detail":""}]}`, url)
	}
	const path = "/v1/job/not-looked-at/events"
	agent.postJSON(t, path, body(told.url+"/ok")).is(t, http.StatusAccepted, "noted")
	calls := told.calls()
	if len(calls) != 1 || calls[0].method != http.MethodPut || calls[0].path != "/ok" ||
		calls[0].body != `{"agent_id":"a1","events":[{"detail":"","event_name":"job_start","timestamp":"2026-01-02T03:04:05Z"}],"job_queue":"q","more":[1]}` {
		t.Errorf("the webhook was called %+v", calls)
	}
	agent.postJSON(t, path, body(told.url+"/moved")).is(t, http.StatusAccepted, "noted")
	began := time.Now()
	agent.postJSON(t, path, body(told.url+"/hang")).is(t, http.StatusGatewayTimeout, "Webhook Timeout")
	if took := time.Since(began); took < 2900*time.Millisecond || took > 10*time.Second {
		t.Errorf("it was waited for %s, want 3 s", took)
	}
	agent.postJSON(t, path, body("http://127.0.0.1:1/")).is(t, http.StatusInternalServerError, "Webhook unreachable")
	if got := len(told.calls()); got != 4 {
		t.Errorf("the webhook was called %d times, want 4: each once, and once behind a redirect", got)
	}
	refused := `{"detail":{},"message":"Invalid job_status_webhook URL specified"}`
	agent.postJSON(t, path, body("http://169.254.169.254/")).is(t, http.StatusForbidden, refused)
	remote := agent.with("X-Forwarded-For", "203.0.113.9")
	remote.postJSON(t, path, body(told.url)).is(t, http.StatusForbidden, refused)
	agent.postJSON(t, path, `{}`).is(t, http.StatusUnprocessableEntity, `{"detail":{"json":{"job_status_webhook":["Missing data for required field."]}},"message":"Validation error"}`)
	agent.postJSON(t, path, `{"job_status_webhook":"x","more":1,"events":[{}]}`).is(t, http.StatusUnprocessableEntity,
		`{"detail":{"json":{"events":{"0":{"event_name":["Missing data for required field."],"timestamp":["Missing data for required field."]}},`+
			`"job_status_webhook":["Not a valid URL."]}},"message":"Validation error"}`)
	agent.postJSON(t, path, `{`).Want(t, http.StatusBadRequest)
}

func TestTestflingerEventsOfTheNewestGenerationGoToConfiguredOriginsOnly(t *testing.T) {
	told := newReceiver(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/secret" {
			w.WriteHeader(http.StatusUnauthorized)
		}
		if r.URL.Path == "/moved" {
			http.Redirect(w, r, "/", http.StatusTemporaryRedirect)
		}
	})
	other := newReceiver(t, nil)
	lab := startWith(t, "MILLRACE_TESTFLINGER_API=latest", "MILLRACE_TESTFLINGER_WEBHOOK_ORIGINS="+told.url+",http://127.0.0.1:1")
	contributor, agent := lab.bearer(t, lab.client(t, "contributor")), lab.bearer(t, lab.client(t, "agent"))
	id := contributor.queueJob(t, fmt.Sprintf(`{"job_queue":%q}`, Unique("queue")))
	post := func(id, url string) Answer {
		t.Helper()
		return agent.postJSON(t, "/v1/job/"+id+"/events", fmt.Sprintf(`{"job_status_webhook":%q,"events":[]}`, url))
	}
	post(id, told.url+"/hook").is(t, http.StatusOK, "")
	post(id, told.url+"/moved").Want(t, http.StatusTemporaryRedirect)
	post(id, told.url+"/secret").is(t, http.StatusInternalServerError, `{"detail":{},"message":"Webhook authentication failed"}`)
	post(id, "http://127.0.0.1:1/").is(t, http.StatusBadGateway, `{"detail":{},"message":"Webhook unreachable"}`)
	for _, url := range []string{other.url, "https://example.org/", strings.Replace(told.url, "http:", "https:", 1), strings.Replace(told.url, "127.0.0.1", "localhost", 1)} {
		post(id, url).is(t, http.StatusForbidden, `{"detail":{},"message":"Invalid job_status_webhook URL specified"}`)
	}
	post("x", told.url).is(t, http.StatusBadRequest, `{"detail":{},"message":"Invalid job_id specified"}`)
	post("5f1a8f0e-0000-4000-8000-000000000002", told.url).is(t, http.StatusNotFound, `{"detail":{},"message":"Job not found"}`)
	if len(told.calls()) != 3 || len(other.calls()) != 0 {
		t.Errorf("the webhook was called %d times, the other %d times", len(told.calls()), len(other.calls()))
	}
}
