package testflinger

import (
	"net/http"
	"net/url"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// Parameters in paths; the write side names them alike.
const (
	jobParam    = "job_id"
	agentParam  = "agent_name"
	queueParam  = "queue_name"
	clientParam = "client_id"
	logParam    = "log_type"
)

// people are everybody but agents: who has no token counts as a contributor (2).
const people = route.TestflingerToken &^ route.TestflingerAgents

// by gives who may call: the older generation leaves reading to everybody, the newer one looks at the role of who has a
// token.
func (t *Testflinger) by(latest route.Access) route.Access {
	if t.Generation == testflinger.Latest {
		return latest
	}
	return route.Anyone
}

// endpoint is what the read endpoints do not share.
type endpoint struct {
	path, summary string
	access        route.Access
	params        []route.Param
	// answer is a value of the answer's type; nil for a bare text.
	answer  any
	also    []route.Answer
	handler gin.HandlerFunc
}

func (t *Testflinger) route(e endpoint) route.Route {
	ok := route.Answer{Status: http.StatusOK, Body: e.answer, Description: "What was asked for."}
	if e.answer == nil {
		ok.Body, ok.ContentType = "", "text/html"
	}
	params := append(e.params, route.Param{
		Name: eventlog.PositionHeader, In: route.InHeader, Description: "Wait for what this names, as a write answered it, and for nothing else.",
	})
	answers := append([]route.Answer{ok}, e.also...)
	answers = append(answers, failed(503, "What was written before is not visible yet, an engine is missing, or there is too much to be given whole."))
	return route.Route{
		Method: http.MethodGet, Path: e.path, Slash: true, Side: route.Query, API: API, Access: e.access, Contract: "2",
		Summary: e.summary, Params: params, Answers: answers, Handler: e.handler,
	}
}

func failed(status int, description string) route.Answer {
	return route.Answer{Status: status, Body: access.TestflingerError{}, Description: description}
}

func noData(description string) route.Answer {
	return route.Answer{Status: 204, Description: description}
}

func inPath(name string) []route.Param {
	descriptions := map[string]string{
		jobParam: "The job's id, a UUID.", agentParam: "The agent's name.", queueParam: "The queue's name.", clientParam: "The client's id.",
	}
	return []route.Param{{Name: name, Description: descriptions[name]}}
}

// Routes is the table of Testflinger's read endpoints (2) of the generation that is served.
func (t *Testflinger) Routes() []route.Route {
	routes := append(t.jobRoutes(), t.fileRoutes()...)
	routes = append(routes, t.agentRoutes()...)
	routes = append(routes, t.clientRoutes()...)
	return append(routes, pageRoutes()...)
}

func (t *Testflinger) jobRoutes() []route.Route {
	badID := failed(400, "The id is no UUID.")
	routes := []route.Route{
		t.route(endpoint{path: "/v1", summary: "Tell the server's version", access: route.Anyone, handler: t.version}),
		t.route(endpoint{
			path: "/v1/job/:" + jobParam, summary: "Show a job as it was submitted", access: t.by(people), params: inPath(jobParam),
			answer: map[string]any{}, also: []route.Answer{noData("There is no such job."), badID}, handler: t.job,
		}),
		t.route(endpoint{
			path: "/v1/job/:" + jobParam + "/position", summary: "Tell how many jobs of the queue go before a job", access: t.by(people),
			params: inPath(jobParam), handler: t.position,
			also: []route.Answer{badID, {Status: 410, Body: "", ContentType: "text/html", Description: "The job does not wait."}},
		}),
		t.route(endpoint{
			path: "/v1/job/search", summary: "Find jobs by tags and states", access: t.by(people), answer: []foundJob{}, handler: t.search,
			params: []route.Param{
				{Name: "tags", Repeated: true, Description: "A tag that jobs have."},
				{Name: "match", Description: "any or all of the tags; any unless said otherwise."},
				{Name: "state", Repeated: true, Description: "A state that jobs are in; active stands for all but those of jobs that have ended."},
			},
			also: []route.Answer{failed(422, "A parameter does not fit; detail says which.")},
		}),
		t.route(endpoint{
			path: "/v1/result/:" + jobParam, summary: "Show what was posted to a job's result, and its state", access: t.by(route.TestflingerToken),
			params: inPath(jobParam), answer: map[string]any{}, also: []route.Answer{noData("There is no such job."), badID}, handler: t.result,
		}),
		t.route(endpoint{
			path: "/v1/queues/:" + queueParam + "/jobs", summary: "List the jobs of a queue", access: t.by(people), params: inPath(queueParam),
			answer: []foundJob{}, also: []route.Answer{noData("The queue has no job.")}, handler: t.queueJobs,
		}),
		t.route(endpoint{
			path: "/v1/queues/wait_times", summary: "Show how long jobs wait", access: t.by(people), answer: map[string]waits{}, handler: t.waitTimes,
			params: []route.Param{{Name: "queue", Repeated: true, Description: "A queue to show; all without it."}},
		}),
	}
	if t.Generation != testflinger.Latest {
		return routes
	}
	return append(routes, t.route(endpoint{
		path: "/v1/result/:" + jobParam + "/log/:" + logParam, summary: "Show a job's log by phase", access: people, handler: t.log,
		params: append(inPath(jobParam), []route.Param{
			{Name: logParam, Enum: []string{"output", "serial"}, Description: "output or serial."},
			{Name: "phase", Description: "The one phase to show."},
			{Name: "start_fragment", Description: "The first number of a fragment to show."},
			{Name: "start_timestamp", Description: "The earliest time of a fragment to show, ISO 8601."},
		}...),
		answer: map[string]any{}, also: []route.Answer{failed(400, "The id is no UUID, or a parameter is wrong."), failed(404, "There is no such log.")},
	}))
}

func (t *Testflinger) agentRoutes() []route.Route {
	return []route.Route{
		t.route(endpoint{
			path: "/v1/agents/queues", summary: "Show the descriptions of queues", access: t.by(people), answer: map[string]string{}, handler: t.queues,
		}),
		t.route(endpoint{
			path: "/v1/agents/images/:" + queueParam, summary: "Show the images of a queue", access: t.by(people), params: inPath(queueParam),
			answer: map[string]string{}, handler: t.images,
		}),
		t.route(endpoint{
			path: "/v1/agents/data", summary: "Show all agents", access: t.by(people), answer: []map[string]any{}, handler: t.allAgents,
		}),
		t.route(endpoint{
			path: "/v1/agents/data/:" + agentParam, summary: "Show an agent", access: t.by(route.TestflingerToken), params: inPath(agentParam),
			answer: map[string]any{}, also: []route.Answer{{Status: 404, Body: struct{}{}, Description: "There is no such agent."}}, handler: t.oneAgent,
		}),
		t.route(endpoint{
			path: "/v1/queues/:" + queueParam + "/agents", summary: "Show the agents that serve a queue", access: t.by(people),
			params: inPath(queueParam), answer: []map[string]any{}, handler: t.queueAgents,
			also: []route.Answer{failed(404, "No agent serves the queue; the older generation's answer is an empty list.")},
		}),
	}
}

func (t *Testflinger) clientRoutes() []route.Route {
	none, low := failed(401, "This wants a token."), failed(403, "The caller's role is too low.")
	unknown := failed(404, "Nothing has this name.")
	return []route.Route{
		t.route(endpoint{
			path: "/v1/restricted-queues", summary: "List the restricted queues with their owners", access: route.TestflingerClients,
			answer: []restriction{}, also: []route.Answer{none, low}, handler: t.restricted,
		}),
		t.route(endpoint{
			path: "/v1/restricted-queues/:" + queueParam, summary: "Show the owners of a restricted queue", access: route.TestflingerClients,
			params: inPath(queueParam), answer: restriction{}, also: []route.Answer{none, low, unknown}, handler: t.restrictedQueue,
		}),
		t.route(endpoint{
			path: "/v1/client-permissions", summary: "List the clients", access: route.TestflingerManagers, answer: []client{},
			also: []route.Answer{none, low}, handler: t.clients,
		}),
		t.route(endpoint{
			path: "/v1/client-permissions/:" + clientParam, summary: "Show a client", access: route.TestflingerManagers,
			params: inPath(clientParam), answer: client{}, also: []route.Answer{none, low, unknown}, handler: t.client,
		}),
	}
}

// version answers GET /v1 with the server's version that the generation had.
func (t *Testflinger) version(c *gin.Context) {
	number := "1.1.0"
	if t.Generation == testflinger.Latest {
		number = "1.5.0"
	}
	access.TestflingerText(c, http.StatusOK, "Testflinger Server v"+number)
}

// pageRoutes lead to the pages that show what Testflinger's own show.
func pageRoutes() []route.Route {
	var routes []route.Route
	for _, page := range []struct {
		path, param string
		to          func(string) string
	}{
		{"/agents", "", func(string) string { return "/ui/agents" }},
		{"/agents/:" + agentParam, agentParam, func(name string) string { return "/ui/agents/" + url.PathEscape(name) }},
		{"/jobs", "", func(string) string { return "/ui/jobs?family=testflinger" }},
		{"/jobs/:" + jobParam, jobParam, func(id string) string { return "/ui/jobs/testflinger-" + url.PathEscape(id) }},
		{"/queues", "", func(string) string { return "/ui/queues" }},
		{"/queues/:" + queueParam, queueParam, func(name string) string {
			return "/ui/queue?" + url.Values{"queue": {testflinger.Queue(name)}}.Encode()
		}},
	} {
		var params []route.Param
		if page.param != "" {
			params = inPath(page.param)
		}
		routes = append(routes, route.Route{
			Method: http.MethodGet, Path: page.path, Slash: true, Side: route.Query, API: API, Access: route.Anyone, Contract: "1",
			Summary: "Lead to the page", Params: params, Answers: []route.Answer{{Status: 302, Description: "It is this way."}},
			Handler: func(c *gin.Context) { c.Redirect(http.StatusFound, page.to(c.Param(page.param))) },
		})
	}
	return routes
}
