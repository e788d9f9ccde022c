package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestTestflingerReadsAnswerAsTheContractSays(t *testing.T) {
	covers(t, "GET /v1", "GET /v1/job/:job_id", "GET /v1/job/:job_id/position", "GET /v1/job/search", "GET /v1/result/:job_id", "GET /v1/queues/:queue_name/jobs",
		"GET /v1/queues/wait_times", "GET /v1/agents/queues", "GET /v1/agents/images/:queue_name", "GET /v1/agents/data", "GET /v1/agents/data/:agent_name",
		"GET /v1/queues/:queue_name/agents")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		r := newRound(t, lab)
		r.start()
		tag := Unique("tag")
		first := r.cli.queueJob(t, fmt.Sprintf(`{"job_queue": %q, "tags": [%q, "x"], "option": "foo"}`, r.queue, tag))
		second := r.cli.queueJob(t, fmt.Sprintf(`{"job_queue": %q, "tags": [%q]}`, r.queue, tag))
		r.cli.get(t, "/v1/job/"+second+"/position").is(t, http.StatusOK, "1")
		r.ask().Want(t, http.StatusOK)
		r.post(first, `{"job_state": "test", "device_info": {"device_ip": "10.0.0.1"}}`)
		const unknown = "99999999-9999-4999-8999-999999999999"
		for name, path := range map[string]string{
			"job": "/v1/job/" + first, "search": "/v1/job/search?tags=" + tag, "search_active": "/v1/job/search?match=all&tags=x&state=active&tags=" + tag,
			"search_wrong": "/v1/job/search?state=running&match=none", "result_running": "/v1/result/" + first, "queue_jobs": "/v1/queues/" + r.queue + "/jobs",
			"queue_agents": "/v1/queues/" + r.queue + "/agents", "images": "/v1/agents/images/" + r.queue, "bad_id": "/v1/job/x",
		} {
			compareGolden(t, "testflinger/"+name, r.cli.get(t, path).masked(r.queue, r.agent, tag))
		}
		r.cli.get(t, "/v1/").is(t, http.StatusOK, "Testflinger Server v1.1.0")
		r.cli.get(t, "/v1/job/"+first+"/position").is(t, http.StatusGone, "Job not found or already started")
		for _, path := range []string{"/v1/job/" + unknown, "/v1/result/" + unknown, "/v1/queues/nothing/jobs"} {
			r.cli.get(t, path).is(t, http.StatusNoContent, "")
		}
		r.cli.get(t, "/v1/nothing").is(t, http.StatusNotFound, "Not found: 404 Not Found: no endpoint has this path; see /openapi.json for those that exist")
		compareGolden(t, "testflinger/other_method", r.cli.do(t, http.MethodDelete, "/v1/job", nil).Want(t, http.StatusMethodNotAllowed).masked())
		if answer := r.cli.do(t, http.MethodOptions, "/v1/job", nil); answer.Status != http.StatusOK || answer.Header.Get("Allow") != "GET, HEAD, OPTIONS, POST" {
			t.Errorf("OPTIONS is answered %d, Allow %q", answer.Status, answer.Header.Get("Allow"))
		}
		r.cli.get(t, "/v1/queues/nothing/agents").is(t, http.StatusNotFound, "[]")
		r.cli.get(t, "/v1/agents/data/nobody").is(t, http.StatusNotFound, "{}")
		r.cli.get(t, "/v1/agents/images/nothing").is(t, http.StatusOK, "{}")
		if described := r.cli.get(t, "/v1/agents/queues").object(t)[r.queue]; described != "of otters" {
			t.Errorf("the queue is described as %v", described)
		}
		if waits := r.cli.get(t, "/v1/queues/wait_times?queue="+r.queue).object(t)[r.queue].(map[string]any); waits["50"] == nil || waits["50"].(float64) < 0 {
			t.Errorf("the waits are %v", waits)
		}
		var agents []map[string]any
		r.cli.get(t, "/v1/agents/data").Want(t, http.StatusOK).JSON(t, &agents)
		if !slices.ContainsFunc(agents, func(a map[string]any) bool { return a["name"] == r.agent && a["identifier"] == "otter-1" }) {
			t.Errorf("the agents are %v, without %s", agents, r.agent)
		}
	})
}

func TestOtherAPIsJobsAreNotTestflingers(t *testing.T) {
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		queue := Unique("queue")
		lab.writer(t).submitJob(t, queue, 1, 0)
		anyone := lab.visitor(t)
		anyone.get(t, "/v1/queues/"+queue+"/jobs").is(t, http.StatusNoContent, "")
		if found := string(anyone.get(t, "/v1/job/search?state=active").Body); strings.Contains(found, `"job_id":""`) {
			t.Errorf("a search finds %s", found)
		}
		if waits := anyone.get(t, "/v1/queues/wait_times").object(t); waits[queue] != nil {
			t.Errorf("wait times have %v", waits)
		}
	})
}

func TestClientsAndRestrictedQueuesAreReadByTheirRoles(t *testing.T) {
	covers(t, "GET /v1/restricted-queues", "GET /v1/restricted-queues/:queue_name", "GET /v1/client-permissions", "GET /v1/client-permissions/:client_id")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		r := newRound(t, lab)
		r.start()
		manager := lab.client(t, "manager")
		boss, jane := lab.visitor(t).with("Authorization", manager.token(t)), lab.visitor(t).with("Authorization", r.client.token(t))
		boss.postJSON(t, "/v1/restricted-queues/"+r.queue, fmt.Sprintf(`{"client_id": %q}`, r.client.id)).ok(t)
		jane.get(t, "/v1/restricted-queues/"+r.queue).is(t, http.StatusOK, fmt.Sprintf(`{"queue":%q,"owners":[%q]}`, r.queue, r.client.id))
		jane.get(t, "/v1/restricted-queues/nothing").is(t, http.StatusNotFound, `{"detail":{},"message":"Error: Restricted queue not found."}`)
		boss.get(t, "/v1/restricted-queues").says(t, http.StatusOK, r.queue)
		compareGolden(t, "testflinger/client_permissions", boss.get(t, "/v1/client-permissions/"+r.client.id).masked(r.queue, r.client.id))
		boss.get(t, "/v1/client-permissions").says(t, http.StatusOK, r.client.id, manager.id)
		boss.get(t, "/v1/client-permissions/nobody").is(t, http.StatusNotFound, `{"detail":{},"message":"Specified client_id does not exist"}`)
		jane.get(t, "/v1/client-permissions").is(t, http.StatusForbidden, `{"detail":{},"message":"Specified action requires role: admin, manager"}`)
		lab.visitor(t).get(t, "/v1/restricted-queues").is(t, http.StatusUnauthorized, `{"detail":{},"message":"Authentication is required for specified endpoint"}`)
		if restricted := r.bot.get(t, "/v1/agents/data/"+r.agent).object(t)["restricted_to"].(map[string]any); restricted[r.queue] == nil {
			t.Errorf("the agent is restricted to %v", restricted)
		}
	})
}
