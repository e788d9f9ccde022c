package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/deploy/standalone/app"
	"github.com/millrace/millrace/deploy/standalone/config"
	"github.com/millrace/millrace/schemas/route"
)

// latestRound is the newer generation's command and agent at work, with exactly the calls that they make (10).
type latestRound struct {
	t            *testing.T
	lab          *Lab
	queue, agent string
	client       *testflingerClient
	bot          *caller
	// fragments counts those of the job's log, over all phases.
	fragments int
}

// bearer gets a token as the newer generation gives it.
func (l *Lab) bearer(t *testing.T, c *testflingerClient) *caller {
	t.Helper()
	given := l.visitor(t).with("Authorization", c.basic()).do(t, http.MethodPost, "/v1/oauth2/token", nil).object(t)
	if given["token_type"] != "Bearer" || given["expires_in"] != 600.0 || len(fmt.Sprint(given["refresh_token"])) != 48 {
		t.Fatalf("the token is %v", given)
	}
	again := l.visitor(t).postJSON(t, "/v1/oauth2/refresh", fmt.Sprintf(`{"refresh_token": %q}`, given["refresh_token"])).object(t)
	return l.visitor(t).with("Authorization", fmt.Sprint("Bearer ", again["access_token"]))
}

// signIn is what the command does before every other call: with credentials it gets a token, without any it asks for a
// login that is not offered, and stays anonymous.
func (r *latestRound) signIn() *caller {
	r.lab.visitor(r.t).postJSON(r.t, "/oidc/auth-init", "{}").Want(r.t, http.StatusNotFound)
	return r.lab.bearer(r.t, r.client)
}

func (r *latestRound) agentData(body string) {
	answer := r.bot.postJSON(r.t, "/v1/agents/data/"+r.agent, body)
	answer.is(r.t, http.StatusOK, `{"status":"OK"}`)
	if cookie := answer.Header.Get("Set-Cookie"); cookie != "agent_name="+r.agent+"; Path=/; HttpOnly; SameSite=Strict" {
		r.t.Fatalf("the cookie is %q", cookie)
	}
	r.bot = r.bot.with("Cookie", "agent_name="+r.agent)
}

func (r *latestRound) start() {
	r.agentData(`{"state": "waiting", "comment": ""}`)
	r.bot.postJSON(r.t, "/v1/agents/queues", fmt.Sprintf(`{%q: "of otters"}`, r.queue)).ok(r.t)
	r.bot.postJSON(r.t, "/v1/agents/images", fmt.Sprintf(`{%q: {"core": "url: http://place/core"}}`, r.queue)).ok(r.t)
	r.agentData(fmt.Sprintf(`{"location": "lab", "queues": [%q], "provision_type": "noprovision"}`, r.queue))
}

func (r *latestRound) ask() Answer {
	r.bot.get(r.t, "/v1").Want(r.t, http.StatusOK)
	r.bot.get(r.t, "/v1/agents/data/"+r.agent).Want(r.t, http.StatusOK)
	r.bot.postJSON(r.t, "/v1/agents/queues", fmt.Sprintf(`{%q: "of otters"}`, r.queue)).ok(r.t)
	for range 3 {
		r.bot.get(r.t, "/v1/agents/data/"+r.agent).Want(r.t, http.StatusOK)
	}
	return r.bot.get(r.t, "/v1/job?queue="+r.queue)
}

func (r *latestRound) submit(cli *caller, job string) string {
	var agents []map[string]any
	cli.get(r.t, "/v1/queues/"+r.queue+"/agents").Want(r.t, http.StatusOK).JSON(r.t, &agents)
	if len(agents) != 1 || agents[0]["state"] == nil || agents[0]["name"] != r.agent {
		r.t.Errorf("the queue's agents are %v", agents)
	}
	return cli.queueJob(r.t, job)
}

func (r *latestRound) log(id, kind, phase, text string) {
	r.bot.postJSON(r.t, "/v1/result/"+id+"/log/"+kind, fmt.Sprintf(
		`{"fragment_number": %d, "timestamp": "2026-01-02T03:04:05.678901+00:00", "phase": %q, "log_data": %q}`, r.fragments, phase, text)).ok(r.t)
	r.fragments++
}

func (r *latestRound) phase(id, phase string, status string) {
	r.bot.get(r.t, "/v1/result/"+id).Want(r.t, http.StatusOK)
	for range 2 {
		r.bot.get(r.t, "/v1/agents/data/"+r.agent).Want(r.t, http.StatusOK)
	}
	r.bot.postJSON(r.t, "/v1/result/"+id, fmt.Sprintf(`{"job_state": %q}`, phase)).ok(r.t)
	r.agentData(fmt.Sprintf(`{"state": %q, "comment": ""}`, phase))
	if status == "" {
		return
	}
	r.bot.postJSON(r.t, "/v1/result/"+id, `{"device_info": {"device_ip": "10.0.0.1", "agent_name": "otter"}}`).ok(r.t)
	r.log(id, "output", phase, phase+" one\n")
	r.log(id, "output", phase, phase+" zwölf\n")
	r.bot.get(r.t, "/v1/result/"+id).Want(r.t, http.StatusOK)
	r.bot.postJSON(r.t, "/v1/result/"+id, `{"status": `+status+`}`).ok(r.t)
}

func TestTestflingerRoundOfTheNewestClients(t *testing.T) {
	lab := startWith(t, "MILLRACE_TESTFLINGER_API=latest")
	r := &latestRound{t: t, lab: lab, queue: Unique("queue"), agent: Unique("agent"), client: lab.client(t, "contributor")}
	r.bot = lab.bearer(t, lab.client(t, "agent"))
	r.start()
	r.ask().is(t, http.StatusNoContent, "")
	cli := r.signIn()
	cli.sendJSON(t, http.MethodPut, "/v1/secrets/"+r.client.id+"/lab/key", `{"value": "hidden", "ephemeral": true}`).Want(t, http.StatusOK)
	id := r.submit(cli, fmt.Sprintf(`{"job_queue": %q, "test_data": {"test_cmds": "true", "secrets": {"KEY": "lab/key"}},
		"reserve_data": {"timeout": "6h"}, "exclude_agents": ["mole"]}`, r.queue))
	cli.get(t, "/v1/job/"+id).Want(t, http.StatusOK)
	cli.get(t, "/v1/result/"+id).Want(t, http.StatusOK)
	cli.get(t, "/v1/job/"+id+"/position").is(t, http.StatusOK, "0")
	got := r.ask()
	compareGolden(t, "testflinger/assignment_latest", got.Want(t, http.StatusOK).masked(r.queue, r.client.id))
	r.agentData(fmt.Sprintf(`{"job_id": %q}`, id))
	for _, phase := range []string{"setup", "provision", "firmware_update", "test", "allocate", "reserve"} {
		status := map[string]string{"provision": `{"provision": 0}`, "test": `{"provision": 0, "test": 46}`}[phase]
		r.phase(id, phase, status)
		if phase == "provision" {
			r.bot.postJSON(t, "/v1/agents/provision_logs/"+r.agent, fmt.Sprintf(`{"job_id": %q, "exit_code": 0, "detail": "provision_success"}`, id)).ok(t)
		}
	}
	r.agentData(`{"job_id": ""}`)
	r.bot.postJSON(t, "/v1/result/"+id, `{"status": {"provision": 0, "test": 46}, "job_state": "complete"}`).ok(t)
	r.agentData(`{"state": "waiting", "comment": ""}`)
	compareGolden(t, "testflinger/result_latest", cli.get(t, "/v1/result/"+id).masked())
	compareGolden(t, "testflinger/log_latest", cli.get(t, "/v1/result/"+id+"/log/output?start_fragment=1").masked())
	compareGolden(t, "testflinger/log_latest_again", cli.get(t, "/v1/result/"+id+"/log/output?start_fragment=1&phase=test").masked())
	r.ask().is(t, http.StatusNoContent, "")
	for _, gone := range []string{"/output", "/serial_output"} {
		r.bot.get(t, "/v1/result/"+id+gone).Want(t, http.StatusNotFound)
	}
}

func TestEveryCallerOfTestflingerIsLetInAsTheTableOfTheNewestGenerationSays(t *testing.T) {
	lab := startWith(t, "MILLRACE_TESTFLINGER_API=latest")
	settings := config.Default()
	settings.Testflinger.API = "latest"
	routes, err := app.Tables(settings)
	if err != nil {
		t.Fatal(err)
	}
	routes = slices.DeleteFunc(routes, func(r route.Route) bool { return r.API != "testflinger" })
	cast := newCast(t, lab)
	for _, tc := range route.Matrix(routes) {
		t.Run(tc.Name(), func(t *testing.T) {
			by, path := cast.play(t, tc.Caller), cast.path(tc.Route.Path)
			if client := cast.clients[tc.Caller]; client != nil {
				path = strings.Replace(path, "/v1/secrets/1", "/v1/secrets/"+client.id, 1)
				by = by.with("Cookie", "agent_name=otter")
			}
			answer := by.do(t, tc.Route.Method, path, nil)
			if isRefusal(answer) == tc.Allowed || answer.Status >= http.StatusInternalServerError {
				t.Errorf("the answer is %d %.300s; the table lets in %s", answer.Status, answer.Body, tc.Route.Access)
			}
		})
	}
}

func TestTestflingerRolesOfTheNewestGeneration(t *testing.T) {
	lab := startWith(t, "MILLRACE_TESTFLINGER_API=latest")
	boss, agent, plain := lab.bearer(t, lab.client(t, "admin")), lab.bearer(t, lab.client(t, "agent")), lab.bearer(t, lab.client(t, "contributor"))
	nobody := lab.visitor(t)
	const refused = "Specified action requires role: "
	for _, tc := range []struct {
		by           *caller
		method, path string
		want         string
	}{
		{nobody, http.MethodGet, "/v1/job?queue=q", refused + "agent"},
		{plain, http.MethodGet, "/v1/job?queue=q", refused + "agent"},
		{agent, http.MethodGet, "/v1/job?queue=q", "Agent not identified"},
		{agent, http.MethodPost, "/v1/job", refused + "admin, manager, contributor"},
		{agent, http.MethodGet, "/v1/agents/data", refused + "admin, manager, contributor"},
		{plain, http.MethodPost, "/v1/agents/data/otter", refused + "admin, manager, agent"},
		{nobody, http.MethodGet, "/v1/client-permissions", refused + "admin, manager"},
		{plain, http.MethodGet, "/v1/client-permissions", refused + "admin, manager"},
		{plain, http.MethodPost, "/v1/oauth2/revoke", refused + "admin"},
		{lab.visitor(t).with("Authorization", "Bearer x"), http.MethodGet, "/v1/agents/data", "Unable to decode token"},
		{lab.visitor(t).with("Authorization", "raw"), http.MethodGet, "/v1/agents/data", "Unauthorized"},
	} {
		answer := tc.by.sendJSON(t, tc.method, tc.path, "")
		var failure struct{ Message string }
		if answer.JSON(t, &failure); failure.Message != tc.want || answer.Status != http.StatusForbidden && answer.Status != http.StatusUnauthorized {
			t.Errorf("%s: %d %s, want %q", answer.Asked, answer.Status, answer.Body, tc.want)
		}
	}
	id := Unique("client")
	put := func(body string) Answer { return boss.sendJSON(t, http.MethodPut, "/v1/client-permissions/"+id, body) }
	put(`{}`).Want(t, http.StatusBadRequest)
	put(`{"client_secret": "123456789012345"}`).says(t, http.StatusOK, "created")
	put(`{"role": "manager"}`).says(t, http.StatusOK, "updated")
	boss.postJSON(t, "/v1/client-permissions", `{}`).Want(t, http.StatusMethodNotAllowed)
	refresh := lab.visitor(t).with("Authorization", (&testflingerClient{id: id, secret: "123456789012345"}).basic()).
		do(t, http.MethodPost, "/v1/oauth2/token", nil).object(t)["refresh_token"]
	body := fmt.Sprintf(`{"refresh_token": %q}`, refresh)
	boss.postJSON(t, "/v1/oauth2/revoke", body).is(t, http.StatusOK, `{"status":"OK"}`)
	answer := nobody.postJSON(t, "/v1/oauth2/refresh", body).Want(t, http.StatusBadRequest)
	if !strings.Contains(string(answer.Body), "Refresh token revoked.") || !slices.Contains([]string{"application/json; charset=utf-8", "application/json"}, answer.Header.Get("Content-Type")) {
		t.Errorf("a revoked token is answered %s %s", answer.Header.Get("Content-Type"), answer.Body)
	}
}
