package testflinger

import (
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/route"
)

// Parameters in paths; the read side names them alike.
const (
	jobParam    = "job_id"
	agentParam  = "agent_name"
	queueParam  = "queue_name"
	clientParam = "client_id"
	logParam    = "log_type"
	pathParam   = "path"
)

// maxSmall bounds the bodies of everything but jobs, results and output.
const maxSmall = 256 << 10

// Body is what documentation says of bodies whose form the contract describes.
type Body map[string]any

// Routes is the table of Testflinger's write endpoints (2) of the generation that is served.
func (t *Testflinger) Routes() []route.Route {
	routes := append(t.jobRoutes(), t.forwardRoute())
	routes = append(routes, t.fileRoutes()...)
	routes = append(routes, t.agentRoutes()...)
	routes = append(routes, t.clientRoutes()...)
	if t.latest() {
		routes = append(routes, t.latestRoutes()...)
	} else {
		routes = append(routes, t.seedRoutes()...)
	}
	return t.pulse.Around(routes)
}

// by gives who may call: the older generation leaves most to everybody, the newer one looks at the role of who has a token.
func (t *Testflinger) by(seed, latest route.Access) route.Access {
	if t.latest() {
		return latest
	}
	return seed
}

// people are everybody but agents: who has no token counts as a contributor (2). An agent's calls are for agents alone.
const (
	people        = route.TestflingerToken &^ route.TestflingerAgents
	agents        = route.TestflingerAgents
	agentsOrStaff = route.TestflingerAgents | route.TestflingerManagers
)

// params describes the parameters in paths.
func params() map[string]route.Param {
	return map[string]route.Param{
		jobParam:    {Name: jobParam, Description: "The job's id, a UUID."},
		agentParam:  {Name: agentParam, Description: "The agent's name."},
		queueParam:  {Name: queueParam, Description: "The queue's name."},
		clientParam: {Name: clientParam, Description: "The client's id."},
		logParam:    {Name: logParam, Description: "output or serial.", Enum: []string{"output", "serial"}},
		pathParam:   {Name: pathParam, Description: "The secret's path."},
	}
}

// endpoint is what routes do not share.
type endpoint struct {
	method, path, summary string
	access                route.Access
	params                []route.Param
	// limit bounds the body; 0: there is none.
	limit int64
	// types are the body's; none means JSON.
	types []string
	// answer is a value of the answer's type; nil for a bare text.
	answer  any
	also    []route.Answer
	handler gin.HandlerFunc
}

func (t *Testflinger) route(e endpoint) route.Route {
	r := route.Route{
		Method: e.method, Path: e.path, Slash: true, Side: route.Ingest, API: API, Access: e.access, Contract: "2", Summary: e.summary,
		Params: e.params, BodyLimit: e.limit, ContentTypes: e.types, Handler: e.handler,
	}
	if strings.Contains(e.path, "*") { // that takes the slash too
		r.Slash = false
	}
	if e.limit > 0 {
		r.GzipLimit, r.Body = e.limit, Body{}
		if e.types != nil {
			r.Body = ""
		}
	}
	ok := route.Answer{Status: http.StatusOK, Body: e.answer, Description: "Done."}
	if e.answer == nil {
		ok.Body, ok.ContentType = "", "text/html"
	}
	r.Answers = append([]route.Answer{ok}, e.also...)
	return r
}

func failed(status int, description string) route.Answer {
	return route.Answer{Status: status, Body: access.TestflingerError{}, Description: description}
}

func told(status int, description string) route.Answer {
	return route.Answer{Status: status, Body: "", ContentType: "text/html", Description: description}
}

func named(names ...string) (list []route.Param) {
	known := params()
	for _, name := range names {
		list = append(list, known[name])
	}
	return list
}

func (t *Testflinger) jobRoutes() []route.Route {
	unfit, badID := failed(422, "The body does not fit; detail says where."), failed(400, "The id is no UUID, or the body no JSON.")
	return []route.Route{
		t.route(endpoint{
			method: http.MethodPost, path: "/v1/job", summary: "Put a job into a queue", access: t.by(route.TestflingerToken, people),
			params: []route.Param{door.KeyParam()}, limit: t.config.MaxBody, answer: Submitted{}, handler: t.submit,
			also: []route.Answer{badID, failed(401, "This wants a token."), failed(403, "The token's client may not do this."), unfit},
		}),
		t.route(endpoint{
			method: http.MethodGet, path: "/v1/job", summary: "Take a job from a queue: a read that writes", access: t.by(route.Anyone, agents),
			params: []route.Param{
				{Name: "queue", Repeated: true, Description: "A queue to take a job from."}, door.KeyParam(),
			},
			answer: map[string]any{}, handler: t.claim,
			also: []route.Answer{{Status: 204, Description: "There is no job."}, failed(400, "No queue is named.")},
		}),
		t.route(endpoint{
			method: http.MethodPost, path: "/v1/job/:" + jobParam + "/action", summary: "Cancel a job", access: t.by(route.Anyone, people),
			params: named(jobParam), limit: maxSmall, handler: t.cancel,
			also: []route.Answer{told(400, "The id is no UUID, or the job has ended."), failed(404, "There is no such job."), unfit},
		}),
		t.route(endpoint{
			method: http.MethodPost, path: "/v1/result/:" + jobParam, summary: "Add to a job's result, report its state",
			access: t.by(route.Anyone, agents), params: named(jobParam), limit: t.config.MaxBody, handler: t.report,
			also: []route.Answer{badID, failed(413, "The body is too large."), unfit},
		}),
	}
}

func (t *Testflinger) agentRoutes() []route.Route {
	unfit := failed(422, "The body does not fit; detail says where.")
	untyped := failed(415, "The body is not said to be JSON.")
	var posted any
	if t.latest() {
		posted = Status{}
	}
	return []route.Route{
		t.route(endpoint{
			method: http.MethodPost, path: "/v1/agents/queues", summary: "Describe queues", access: t.by(route.Anyone, agentsOrStaff),
			limit: maxSmall, handler: t.queues, also: []route.Answer{untyped, unfit},
		}),
		t.route(endpoint{
			method: http.MethodPost, path: "/v1/agents/images", summary: "Replace the images of queues", access: t.by(route.Anyone, agentsOrStaff),
			limit: maxSmall, handler: t.images, also: []route.Answer{untyped, unfit},
		}),
		t.route(endpoint{
			method: http.MethodPost, path: "/v1/agents/data/:" + agentParam, summary: "Say how an agent is", access: t.by(route.Anyone, agentsOrStaff),
			params: named(agentParam), limit: maxSmall, answer: posted, handler: t.agent, also: []route.Answer{unfit},
		}),
		t.route(endpoint{
			method: http.MethodPost, path: "/v1/agents/provision_logs/:" + agentParam, summary: "Say how a provisioning went",
			access: t.by(route.Anyone, agents), params: named(agentParam), limit: maxSmall, handler: t.provision,
			also: []route.Answer{told(404, "The agent is not known; the log is kept."), unfit},
		}),
	}
}

func (t *Testflinger) clientRoutes() []route.Route {
	low, none := failed(403, "The caller's role is too low."), failed(401, "This wants a token.")
	unknown, unfit := failed(404, "Nothing has this name."), failed(422, "The body does not fit; detail says where.")
	text := any(nil)
	if t.latest() {
		text = AccessToken{}
	}
	token := endpoint{
		method: http.MethodPost, path: "/v1/oauth2/token", summary: "Get a token for an id and a secret, by HTTP Basic", access: route.TestflingerBasic,
		answer: text, handler: t.token,
		also: []route.Answer{told(401, "The id or the secret is wrong or missing."), failed(429, "Too many wrong ones came from this address.")},
	}
	again := token
	again.method = http.MethodGet
	return []route.Route{
		t.route(token), t.route(again),
		t.route(endpoint{
			method: http.MethodPost, path: "/v1/restricted-queues/:" + queueParam, summary: "Restrict a queue and make a client its owner",
			access: route.TestflingerManagers, params: named(queueParam), limit: maxSmall, handler: t.restrict,
			also: []route.Answer{failed(400, "No client is named."), none, low, unknown, unfit},
		}),
		t.route(endpoint{
			method: http.MethodDelete, path: "/v1/restricted-queues/:" + queueParam, summary: "Take a queue from an owner, and open it",
			access: route.TestflingerManagers, params: named(queueParam), limit: maxSmall, handler: t.open,
			also: []route.Answer{failed(400, "No client is named."), none, low, unknown, unfit},
		}),
		t.route(endpoint{
			method: http.MethodPut, path: "/v1/client-permissions/:" + clientParam, summary: "Change a client", access: route.TestflingerManagers,
			params: named(clientParam), limit: maxSmall, handler: t.editClient, also: []route.Answer{none, low, unknown, unfit},
		}),
		t.route(endpoint{
			method: http.MethodDelete, path: "/v1/client-permissions/:" + clientParam, summary: "Delete a client", access: route.TestflingerAdmins,
			params: named(clientParam), handler: t.deleteClient, also: []route.Answer{none, low, unknown, failed(422, "It cannot be deleted.")},
		}),
	}
}

// seedRoutes are those that only the older generation has.
func (t *Testflinger) seedRoutes() []route.Route {
	text := []string{"text/plain"}
	badID := failed(400, "The id is no UUID, or the text not UTF-8.")
	var routes []route.Route
	for _, output := range []struct {
		name string
		kind event.JobOutputKind
	}{
		{"output", event.JobOutputKind_JOB_OUTPUT_KIND_OUTPUT}, {"serial_output", event.JobOutputKind_JOB_OUTPUT_KIND_SERIAL},
	} {
		path, kind := "/v1/result/:"+jobParam+"/"+output.name, output.kind
		routes = append(routes, t.route(endpoint{
			method: http.MethodPost, path: path, summary: "Add to a job's output", access: route.Anyone, params: named(jobParam),
			limit: t.config.MaxBody, types: text, handler: t.append(kind), also: []route.Answer{badID},
		}), t.route(endpoint{
			method: http.MethodGet, path: path, summary: "Take the output that nobody was given yet: a read that writes", access: route.Anyone,
			params: named(jobParam), handler: t.take(kind),
			also: []route.Answer{{Status: 204, Description: "There is nothing new."}, told(400, "The id is no UUID.")},
		}))
	}
	return append(routes, t.route(endpoint{
		method: http.MethodPost, path: "/v1/client-permissions", summary: "Make a client", access: route.TestflingerManagers,
		limit: maxSmall, handler: t.addClient,
		also: []route.Answer{
			failed(400, "The id or the secret is missing."), failed(401, "This wants a token."), failed(403, "The caller's role is too low."),
			failed(409, "There is such a client."), failed(422, "The body does not fit; detail says where."),
		},
	}))
}

// latestRoutes are those that only the newer generation has.
func (t *Testflinger) latestRoutes() []route.Route {
	unfit := failed(422, "The body does not fit; detail says where.")
	none, low := failed(401, "This wants a token."), failed(403, "The caller may not do this.")
	return []route.Route{
		t.route(endpoint{
			method: http.MethodPost, path: "/v1/result/:" + jobParam + "/log/:" + logParam, summary: "Add to a job's log", access: agents,
			params: named(jobParam, logParam), limit: t.config.MaxBody, handler: t.appendFragment,
			also: []route.Answer{failed(400, "The id is no UUID, or there is no such log."), unfit},
		}),
		t.route(endpoint{
			method: http.MethodPost, path: "/v1/oauth2/refresh", summary: "Get another token for a refresh token", access: route.Anyone,
			limit: maxSmall, answer: AccessToken{}, handler: t.refresh, also: []route.Answer{failed(400, "The refresh token is not good."), unfit},
		}),
		t.route(endpoint{
			method: http.MethodPost, path: "/v1/oauth2/revoke", summary: "End a refresh token", access: route.TestflingerAdmins,
			limit: maxSmall, answer: Status{}, handler: t.revoke,
			also: []route.Answer{failed(400, "There is no such token, or it has ended."), none, low, unfit},
		}),
		t.route(endpoint{
			method: http.MethodPut, path: "/v1/secrets/:" + clientParam + "/*" + pathParam, summary: "Store a secret of one's own for jobs",
			access: route.TestflingerClients, params: named(clientParam, pathParam), limit: maxSmall, answer: SecretSet{}, handler: t.setSecret,
			also: []route.Answer{none, low, unfit},
		}),
		t.route(endpoint{
			method: http.MethodDelete, path: "/v1/secrets/:" + clientParam + "/*" + pathParam, summary: "Delete a secret of one's own",
			access: route.TestflingerClients, params: named(clientParam, pathParam), handler: t.deleteSecret, also: []route.Answer{none, low, unfit},
		}),
	}
}
