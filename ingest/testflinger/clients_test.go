package testflinger_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	door "github.com/millrace/millrace/ingest/testflinger"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

func basic(id, secret string) []string {
	return []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))}
}

const tokenPath = "/v1/oauth2/token"

func TestTokenIsGivenForASecret(t *testing.T) {
	l := newLab(t, testflinger.Seed)
	l.client("jane", testflinger.Manager, func(p *testflinger.Permission) { p.MaxPriority = map[string]int64{"*": 3} })
	for _, method := range []string{http.MethodPost, http.MethodGet} {
		answer := l.ask(0, method, tokenPath, "", basic("jane", "jane's secret")...)
		if kind := answer.Header().Get("Content-Type"); answer.Code != http.StatusOK || !strings.HasPrefix(kind, "text/html") {
			t.Fatalf("%s is answered %d %s", answer.asked, answer.Code, kind)
		}
		p, err := testflinger.NewTokens(testflinger.Seed, []byte("key"), l.clock.Now).Check(answer.Body.String())
		if err != nil || p.ClientID != "jane" || p.Role != testflinger.Manager || p.MaxPriority["*"] != 3 || p.Email != "" {
			t.Errorf("the token says %+v, %v", p, err)
		}
	}
	for _, tc := range []struct {
		header []string
		want   string
	}{
		{nil, "No authorization header specified"},
		{[]string{"Authorization", "Basic ==="}, "No authorization header specified"},
		{[]string{"Authorization", "Basic /w=="}, "No authorization header specified"},
		{[]string{"Authorization", "Bearer x"}, "Client id and key must be specified in authorization header"},
		{[]string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("jane"))}, "Invalid client id or client key"},
		{basic("jane", "other"), "Invalid client id or client key"},
		{basic("joe", "jane's secret"), "Invalid client id or client key"},
	} {
		l.ask(1, http.MethodPost, tokenPath, "{}", tc.header...).is(http.StatusUnauthorized, tc.want)
	}
}

func TestGuessingSecretsIsSlowedDown(t *testing.T) {
	l := newLab(t, testflinger.Seed)
	l.client("jane", testflinger.Admin, nil)
	l.ask(0, http.MethodPost, tokenPath, "", basic("jane", "jane's secret")...)
	limited := 0
	for i := range 30 {
		if l.ask(0, http.MethodPost, tokenPath, "", basic("jane", fmt.Sprint(i))...).Code == http.StatusTooManyRequests {
			limited++
		}
	}
	if limited < 5 {
		t.Errorf("%d of 30 guesses were put off", limited)
	}
	if answer := l.ask(0, http.MethodPost, tokenPath, "", basic("jane", "jane's secret")...); answer.Code != http.StatusOK {
		t.Errorf("who knows the secret is answered %d", answer.Code)
	}
}

func TestClientsOfTheOlderGeneration(t *testing.T) {
	l := newLab(t, testflinger.Seed)
	const all = "/v1/client-permissions"
	boss, manager := l.client("boss", testflinger.Admin, nil), l.client("manager", testflinger.Manager, nil)
	plain := l.client("plain", testflinger.Contributor, nil)
	l.ask(0, http.MethodPost, all, `{"client_id":"new","client_secret":"s","max_priority":{"q":1}}`, manager...).is(http.StatusOK, "OK")
	l.ask(1, http.MethodPost, all, `{"client_id":"new","client_secret":"s"}`, manager...).is(http.StatusConflict, refusal("Specified client_id already exists"))
	l.ask(0, http.MethodPost, all, `{"client_id":"","client_secret":"s"}`, manager...).
		is(http.StatusBadRequest, refusal("Missing client_id and/or client_secret in JSON data"))
	l.ask(0, http.MethodPost, all, `{"client_id":"x","client_secret":"s","role":"admin"}`, manager...).
		is(http.StatusForbidden, refusal("Insufficient permissions to create client with role: admin"))
	l.ask(0, http.MethodPost, all, `{"client_id":"x","client_secret":"s"}`, plain...).
		is(http.StatusForbidden, refusal("Specified action requires role: admin, manager"))
	l.ask(0, http.MethodPost, all, `{}`).is(http.StatusUnauthorized, refusal("Authentication is required for specified endpoint"))
	l.ask(1, http.MethodPut, all+"/new", `{"max_priority":null,"max_reservation_time":{"*":40000},"role":"manager"}`, manager...).is(http.StatusOK, "OK")
	l.ask(1, http.MethodPut, all+"/new", `{"role":"admin","max_priority":null,"max_reservation_time":null}`, manager...).is(http.StatusForbidden, refusal("Insufficient permissions to assign role: admin"))
	l.ask(1, http.MethodPut, all+"/boss", `{"role":"user","max_priority":{},"max_reservation_time":{}}`, manager...).is(http.StatusForbidden, refusal("Insufficient permissions to modify client with role: admin"))
	l.ask(1, http.MethodPut, all+"/nobody", `{"max_priority":{},"max_reservation_time":{}}`, manager...).is(http.StatusNotFound, refusal("Specified client_id does not exist"))
	token := l.ask(0, http.MethodPost, tokenPath, "", basic("new", "s")...).Body.String()
	p, err := testflinger.NewTokens(testflinger.Seed, []byte("key"), l.clock.Now).Check(token)
	if err != nil || p.Role != testflinger.Manager || p.MaxPriority["q"] != 1 || p.MaxReservation["*"] != 40000 {
		t.Errorf("the token says %+v, %v", p, err)
	}
	l.ask(0, http.MethodDelete, all+"/new", "", manager...).is(http.StatusForbidden, refusal("Specified action requires role: admin"))
	l.ask(0, http.MethodDelete, all+"/testflinger-admin", "", boss...).is(422, refusal("System admin can't be removed using the API"))
	l.ask(0, http.MethodDelete, all+"/new", "", boss...).is(http.StatusOK, "OK")
	l.ask(1, http.MethodDelete, all+"/new", "", boss...).is(http.StatusNotFound, refusal("Specified client_id does not exist"))
	l.ask(1, http.MethodPost, tokenPath, "", basic("new", "s")...).is(http.StatusUnauthorized, "Invalid client id or client key")
}

func TestRestrictedQueues(t *testing.T) {
	l := newLab(t, testflinger.Seed)
	boss := l.client("boss", testflinger.Admin, nil)
	const queue = "/v1/restricted-queues/q"
	l.ask(0, http.MethodPost, queue, `{"client_id":"boss"}`, boss...).
		is(http.StatusNotFound, refusal("Error: Queue q does not exist or is not associated to an agent."))
	l.ask(0, http.MethodPost, "/v1/agents/data/otter", `{"queues":["q"]}`)
	l.ask(0, http.MethodPost, queue, `{"client_id":"nobody"}`, boss...).is(http.StatusNotFound, refusal("Specified client_id does not exist"))
	for _, empty := range []string{`{}`, `{"client_id":""}`} {
		l.ask(0, http.MethodPost, queue, empty, boss...).is(http.StatusBadRequest, refusal("Error: Missing client ID."))
	}
	l.ask(1, http.MethodDelete, queue, `{}`, boss...).is(http.StatusNotFound, refusal("Error: Restricted queue not found."))
	for range 2 {
		l.ask(0, http.MethodPost, queue, `{"client_id":"boss"}`, boss...).is(http.StatusOK, "OK")
	}
	l.ask(1, http.MethodDelete, queue, `{}`, boss...).is(http.StatusBadRequest, refusal("Error: Missing client ID."))
	l.ask(1, http.MethodDelete, queue, `{"client_id":"nobody"}`, boss...).is(http.StatusOK, "OK")
	l.ask(0, http.MethodDelete, queue, `{"client_id":"boss"}`, boss...).is(http.StatusNotFound, refusal("Error: Restricted queue not found."))
	l.ask(0, http.MethodPost, queue, `{"client_id":"boss"}`).is(http.StatusUnauthorized, refusal("Authentication is required for specified endpoint"))
}

func TestTheNewerGenerationGivesTokensThatCanBeRefreshed(t *testing.T) {
	l := newLab(t, testflinger.Latest)
	l.client("jane", testflinger.Contributor, nil)
	given := l.ask(0, http.MethodPost, tokenPath, "", basic("jane", "jane's secret")...).members()
	refresh, _ := given["refresh_token"].(string)
	if given["token_type"] != "Bearer" || given["expires_in"] != 600.0 || len(refresh) != 48 {
		t.Fatalf("the token is %v", given)
	}
	tokens := testflinger.NewTokens(testflinger.Latest, []byte("key"), l.clock.Now)
	if p, err := tokens.Check(fmt.Sprint("Bearer ", given["access_token"])); err != nil || p.ClientID != "jane" || p.Email != "jane@example.org" {
		t.Errorf("the token says %+v, %v", p, err)
	}
	body := fmt.Sprintf(`{"refresh_token":%q}`, refresh)
	l.clock.Pass(24 * time.Hour)
	again := l.ask(1, http.MethodPost, "/v1/oauth2/refresh", body).members()
	if _, more := again["refresh_token"]; more || again["expires_in"] != 600.0 {
		t.Errorf("the refreshed token is %v", again)
	}
	if p, err := tokens.Check(fmt.Sprint("Bearer ", again["access_token"])); err != nil || p.ClientID != "jane" {
		t.Errorf("the refreshed token says %+v, %v", p, err)
	}
	boss := l.signedIn(testflinger.Permission{ClientID: "boss", Role: testflinger.Admin})
	l.ask(0, http.MethodPost, "/v1/oauth2/refresh", `{}`).is(422, `{"detail":{"json":{"refresh_token":["Missing data for required field."]}},"message":"Validation error"}`)
	l.ask(0, http.MethodPost, "/v1/oauth2/refresh", `{"refresh_token":"x"}`).is(http.StatusBadRequest, refusal("Invalid refresh token."))
	l.ask(0, http.MethodPost, "/v1/oauth2/revoke", `{"refresh_token":"x"}`, boss...).is(http.StatusBadRequest, refusal("Refresh token not found"))
	l.ask(0, http.MethodPost, "/v1/oauth2/revoke", body, boss...).is(http.StatusOK, `{"status":"OK"}`)
	l.ask(1, http.MethodPost, "/v1/oauth2/revoke", body, boss...).is(http.StatusBadRequest, refusal("Refresh token has already been revoked"))
	l.ask(0, http.MethodPost, "/v1/oauth2/refresh", body).is(http.StatusBadRequest, refusal("Refresh token revoked."))
	second, _ := l.ask(0, http.MethodPost, tokenPath, "", basic("jane", "jane's secret")...).members()["refresh_token"].(string)
	l.clock.Pass(testflinger.RefreshLifetime)
	l.ask(0, http.MethodPost, "/v1/oauth2/refresh", fmt.Sprintf(`{"refresh_token":%q}`, second)).is(http.StatusBadRequest, refusal("Refresh token expired"))
	for _, record := range l.log.Records(eventlog.Registry) {
		if strings.Contains(string(record.Data), refresh) || strings.Contains(string(record.Data), "jane") {
			t.Errorf("event %s has a name or a token in the clear", record.Type)
		}
	}
}

func TestRefreshForAClientThatIsGoneGivesNothing(t *testing.T) {
	l := newLab(t, testflinger.Latest)
	boss := l.client("boss", testflinger.Admin, nil)
	l.client("jane", testflinger.Contributor, nil)
	refresh := l.ask(0, http.MethodPost, tokenPath, "", basic("jane", "jane's secret")...).members()["refresh_token"]
	l.ask(0, http.MethodDelete, "/v1/client-permissions/jane", "", boss...).is(http.StatusOK, "OK")
	l.ask(0, http.MethodPost, "/v1/oauth2/refresh", fmt.Sprintf(`{"refresh_token":%q}`, refresh)).is(http.StatusBadRequest, refusal("Invalid refresh token."))
}

func TestClientsOfTheNewerGenerationAreMadeOrChangedByPut(t *testing.T) {
	l := newLab(t, testflinger.Latest)
	manager := l.client("manager", testflinger.Manager, nil)
	const one = "/v1/client-permissions/new"
	l.ask(0, http.MethodPut, one, `{"role":"agent"}`, manager...).
		is(http.StatusBadRequest, refusal("Specified client_id does not exist; a new client needs a client_secret"))
	l.ask(0, http.MethodPut, one, `{"client_secret":"123456789012345","role":"agent","email":"a@example.org"}`, manager...).is(http.StatusOK, "Client new created")
	l.ask(1, http.MethodPut, one, `{"max_priority":{"q":2}}`, manager...).is(http.StatusOK, "Client new updated")
	l.ask(1, http.MethodPut, one, `{"role":"admin"}`, manager...).is(http.StatusForbidden, refusal("Insufficient permissions to assign role: admin"))
	l.ask(1, http.MethodPut, "/v1/client-permissions/testflinger-admin", `{}`, manager...).
		is(422, refusal("The system admin client cannot be modified using the API"))
	if answer := l.ask(0, http.MethodPost, "/v1/client-permissions", `{}`, manager...); answer.Code != http.StatusNotFound {
		t.Errorf("a client that is posted is answered %d", answer.Code)
	}
	id := access.HashTestflingerClient(l.ring, "new")
	var client registry.TestflingerClient
	l.replicas[1].registry.View(func(s *registry.State) { client, _ = s.Testflinger.Client(id) })
	profile, err := access.OpenTestflingerProfile(l.ring, id, client.SealedProfile)
	if err != nil || profile.GetEmail() != "a@example.org" || profile.GetClientId() != "new" || client.MaxPriority["q"] != 2 {
		t.Errorf("the client is %+v with %v, %v", client, profile, err)
	}
}

func TestRolesCountEverywhereInTheNewerGeneration(t *testing.T) {
	l := newLab(t, testflinger.Latest)
	agent := append(l.client("otter", testflinger.Agents, nil), "Cookie", "agent_name=otter")
	boss := l.client("boss", testflinger.Admin, nil)
	const agentsOnly = "Specified action requires role: agent"
	id := l.submit(`{"job_queue":"q"}`)
	l.ask(0, http.MethodGet, "/v1/job?queue=q", "").is(http.StatusForbidden, refusal(agentsOnly))
	l.ask(0, http.MethodGet, "/v1/job?queue=q", "", boss...).is(http.StatusForbidden, refusal(agentsOnly))
	l.ask(0, http.MethodGet, "/v1/job?queue=q", "", agent[:2]...).is(http.StatusUnauthorized, refusal("Agent not identified"))
	l.ask(0, http.MethodGet, "/v1/job", "", agent...).is(http.StatusBadRequest, refusal("No queue specified in request"))
	l.ask(0, http.MethodPost, "/v1/result/"+id, `{"job_state":"test"}`).is(http.StatusForbidden, refusal(agentsOnly))
	l.ask(0, http.MethodPost, "/v1/job", `{"job_queue":"q"}`, agent...).is(http.StatusForbidden, refusal("Specified action requires role: admin, manager, contributor"))
	l.ask(0, http.MethodPost, "/v1/agents/queues", `{"q":"x"}`, agent...).is(http.StatusOK, "OK")
	l.ask(0, http.MethodPost, "/v1/agents/queues", ``, agent...).is(http.StatusOK, "OK")
	l.ask(0, http.MethodPost, "/v1/agents/images", `{"q":{"":"x"}}`, boss...).
		is(422, `{"detail":{"json":{"q":{"":["Shorter than minimum length 1."]}}},"message":"Validation error"}`)
	posted := l.ask(0, http.MethodPost, "/v1/agents/data/otter", `{"queues":["q"]}`, agent...).is(http.StatusOK, `{"status":"OK"}`)
	if cookie := posted.Header().Get("Set-Cookie"); cookie != "agent_name=otter; Path=/; HttpOnly; SameSite=Strict" {
		t.Errorf("the cookie is %q", cookie)
	}
	got := l.ask(1, http.MethodGet, "/v1/job?queue=q", "", agent...)
	got.is(http.StatusOK, `{"exclude_agents":[],"job_id":"`+id+`","job_queue":"q","started_at":"2026-01-02T03:04:05Z"}`)
	if answer := l.ask(0, http.MethodPost, "/v1/result/"+id+"/output", "x", agent...); answer.Code != http.StatusNotFound {
		t.Errorf("output is answered %d", answer.Code)
	}
	fragment := `{"fragment_number":0,"timestamp":"2026-01-02T03:04:05Z","phase":"test","log_data":"x"}`
	l.ask(0, http.MethodPost, "/v1/result/"+id+"/log/serial", fragment, agent...).is(http.StatusOK, "OK")
	l.ask(0, http.MethodPost, "/v1/result/"+id+"/log/other", fragment, agent...).is(http.StatusBadRequest, refusal("Invalid log type specified: want output or serial"))
	pieces, _ := messages[*event.JobOutputAppended](l, eventlog.JobOutput)
	if len(pieces) != 1 || pieces[0].GetKind() != event.JobOutputKind_JOB_OUTPUT_KIND_SERIAL || pieces[0].GetPhase() != "test" || pieces[0].Fragment == nil {
		t.Errorf("the log is %v", pieces)
	}
}

func TestExcludedAgentsDoNotGetTheJob(t *testing.T) {
	l := newLab(t, testflinger.Latest)
	token := l.client("agents", testflinger.Agents, nil)
	as := func(name string) []string { return append(token[:2:2], "Cookie", "agent_name="+name) }
	const body = `{"job_queue":"q","exclude_agents":["otter"]}`
	left := refusal("No agent of queue q is left: all are excluded, or it has none")
	l.ask(0, http.MethodPost, "/v1/job", body).is(422, left)
	l.ask(0, http.MethodPost, "/v1/agents/data/otter", `{"queues":["q"]}`, as("otter")...)
	l.ask(0, http.MethodPost, "/v1/job", body).is(422, left)
	l.ask(0, http.MethodPost, "/v1/agents/data/mole", `{"queues":["q"]}`, as("mole")...)
	id := l.submit(body)
	l.ask(0, http.MethodGet, "/v1/job?queue=q", "", as("otter")...).is(http.StatusNoContent, "")
	if got := l.ask(1, http.MethodGet, "/v1/job?queue=q", "", as("mole")...).members(); got["job_id"] != id {
		t.Errorf("the claim gets %v", got)
	}
}

func TestSetsOfExcludedAgentsOfAQueueAreBounded(t *testing.T) {
	l := newLab(t, testflinger.Latest, func(c *door.Config) { c.MaxExclusions = 2 })
	agent := append(l.client("agents", testflinger.Agents, nil), "Cookie", "agent_name=otter")
	l.ask(0, http.MethodPost, "/v1/agents/data/otter", `{"queues":["q","r"]}`, agent...)
	job := func(queue string, excluded ...string) string {
		return fmt.Sprintf(`{"job_queue":%q,"exclude_agents":["%s"]}`, queue, strings.Join(excluded, `","`))
	}
	first := l.submit(job("q", "a"))
	l.submit(job("q", "a", "b"))
	l.submit(job("q", "b", "a"))
	full := refusal("The jobs of queue q have 2 different sets of exclude_agents, which is the limit: use one of them, or wait until jobs have ended")
	l.ask(0, http.MethodPost, "/v1/job", job("q", "c")).is(422, full)
	l.submit(job("r", "c"))
	l.submit(`{"job_queue":"q"}`)
	l.ask(1, http.MethodPost, "/v1/job/"+first+"/action", `{"action":"cancel"}`).is(http.StatusOK, "OK")
	l.submit(job("q", "c"))
}

func TestSecretsGoToTheAgentAndSingleOnesOnce(t *testing.T) {
	l := newLab(t, testflinger.Latest)
	jane := l.client("jane", testflinger.Contributor, nil)
	agent := append(l.client("otter", testflinger.Agents, nil), "Cookie", "agent_name=otter")
	set := func(path, body string) *answer {
		return l.ask(0, http.MethodPut, "/v1/secrets/jane/"+path, body, jane...)
	}
	set("a/b", `{"value":"first"}`).is(http.StatusOK, `{"expires_at":"2027-01-02T03:04:05Z"}`)
	set("once", `{"value":"second","ephemeral":true,"expire_after":null}`).is(http.StatusOK, `{"expires_at":null}`)
	set("a%20b", `{"value":"x"}`).is(422, `{"detail":{"json":{"path":["String does not match expected pattern."]}},"message":"Validation error"}`)
	l.ask(0, http.MethodPut, "/v1/secrets/joe/x", `{"value":"x"}`, jane...).is(http.StatusForbidden, refusal("Secrets of another client cannot be changed"))
	l.ask(0, http.MethodPut, "/v1/secrets/jane/x", `{"value":"x"}`).is(http.StatusUnauthorized, refusal("Authentication is required for specified endpoint"))
	const body = `{"job_queue":"q","test_data":{"secrets":{"A":"a/b","B":"once"}}}`
	l.ask(1, http.MethodPost, "/v1/job", body).is(422, refusal("Secrets are a client's own: sign in to use them"))
	l.ask(1, http.MethodPost, "/v1/job", `{"job_queue":"q","test_data":{"secrets":{"A":"none"}}}`, jane...).is(422, refusal("There is no secret none"))
	first := l.submit(body, jane...)
	l.submit(body, jane...)
	claimed := func(at int, key, want string) {
		t.Helper()
		got := l.ask(at, http.MethodGet, "/v1/job?queue=q", "", append(agent, "Idempotency-Key", key)...).members()
		test, _ := got["test_data"].(map[string]any)
		if secrets := fmt.Sprint(test["secrets"]); secrets != want || got["client_id"] != "jane" {
			t.Errorf("the agent gets %s of %v, want %s", secrets, got["client_id"], want)
		}
	}
	claimed(0, "a", "map[A:first B:second]")
	claimed(1, "a", "map[A:first B:second]") // who has not got the answer asks again
	claimed(0, "b", "map[A:first B:]")
	l.ask(0, http.MethodPost, "/v1/result/"+first, `{"job_state":"waiting"}`, agent...).is(http.StatusOK, "OK")
	claimed(1, "c", "map[A:first B:second]") // handed out a second time
	l.ask(1, http.MethodPost, "/v1/job", body, jane...).is(422, refusal("There is no secret once"))
	l.ask(0, http.MethodPost, "/v1/result/"+first, `{"job_state":"complete"}`, agent...).is(http.StatusOK, "OK")
	claimed(1, "c", "map[A:first B:]") // the job has ended
	l.ask(0, http.MethodDelete, "/v1/secrets/jane/a/b", "", jane...).is(http.StatusOK, "OK")
	l.ask(0, http.MethodDelete, "/v1/secrets/jane/a/b", "", jane...).is(http.StatusOK, "OK")
	for _, topic := range []string{eventlog.Registry, eventlog.Jobs} {
		for _, record := range l.log.Records(topic) {
			if text := string(record.Data); strings.Contains(text, "first") || strings.Contains(text, "second") {
				t.Errorf("event %s has a secret in the clear", record.Type)
			}
		}
	}
}
