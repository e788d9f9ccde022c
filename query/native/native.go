// Package native is the read side of Millrace's own API under /millrace/v1: machines, runs, results, samples and trends,
// jobs and queues, and for operators what could not be taken in.
//
// Lists are answered a page at a time as {"items": […], "next": cursor or null, "position": …}. A read contains every
// write that was acknowledged before it, unless it asks for less by Millrace-Consistency: eventual.
package native

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/query/cache"
	"github.com/millrace/millrace/query/gate"
	"github.com/millrace/millrace/query/native/fresh"
	"github.com/millrace/millrace/query/native/lab"
	"github.com/millrace/millrace/schemas/document"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/keyring"
	"github.com/millrace/millrace/schemas/route"
)

// API is the name of the route table that this one is a part of.
const API = "millrace"

const prefix = "/millrace/v1"

// Config is what the endpoints work with. All of it is required once a request is answered.
type Config struct {
	Answers *fresh.Answers
	Reader  *lab.Reader
	// Jobs is the replica of the jobs' fold.
	Jobs Jobs
	// Output tells when a job's output has grown.
	Output  Output
	Packer  *document.Packer
	Keyring *keyring.Keyring
	// MaxWait bounds how long a read may wait for a job's result.
	MaxWait time.Duration
	Now     func() time.Time
	// Describe gives the OpenAPI document of all routes of the installation.
	Describe func() ([]byte, error)
}

// Native answers the read endpoints.
type Native struct {
	Config

	draining context.Context
	drain    context.CancelFunc
}

// New gives the endpoints.
func New(c Config) *Native {
	draining, drain := context.WithCancel(context.Background())
	return &Native{Config: c, draining: draining, drain: drain}
}

// Drain ends all waiting for something to come: the process is about to end.
func (n *Native) Drain() { n.drain() }

// Routes is the table of the read endpoints.
func (n *Native) Routes() []route.Route {
	return []route.Route{
		n.machines(), n.runs(), n.runRoute(), n.results(), n.samples(), n.series(), n.configs(), n.branches(), n.trendRoute(),
		n.jobs(), n.jobRoute(), n.jobHistory(), n.jobResultRoute(), n.outputRoute(), n.queues(), n.queueTrendRoute(),
		n.deadLetters(), n.deadLetterRoute(), n.refusals(), n.openAPIRoute(),
	}
}

// consistencyParams describe what every read honours.
func consistencyParams() []route.Param {
	return []route.Param{
		{Name: eventlog.PositionHeader, In: route.InHeader, Description: "The answer contains this position of the log; without it, all that the log held when the request came."},
		{Name: gate.ConsistencyHeader, In: route.InHeader, Enum: []string{"strong", "eventual"}, Description: "eventual: whatever is projected now, without waiting."},
	}
}

// answers are those that a read may give, by ascending status; missing says what 404 means, where there is one.
func answers(access route.Access, ok any, missing string) []route.Answer {
	list := []route.Answer{
		{Status: 200, Body: ok, Description: "What was asked for."},
		{Status: 400, Body: route.Failure{}, Description: "A parameter is unknown, missing or wrong; the error names it."},
		{Status: 401, Body: route.Failure{}, Description: "No token where one is needed, or one that is not known."},
		{Status: 403, Body: route.Failure{}, Description: "The token's role is not enough: this lets in " + access.String() + "."},
	}
	if missing != "" {
		list = append(list, route.Answer{Status: 404, Body: route.Failure{}, Description: missing})
	}
	return append(list, route.Answer{Status: 503, Body: route.Failure{},
		Description: "An engine is out of reach, or the projections have not caught up; Retry-After says when to try again."})
}

// question is a request that was understood.
type question struct {
	scope fresh.Scope
	// key names everything that the answer depends on but the data.
	key     string
	compute func(context.Context, *lab.View, fresh.At) (cache.Value, error)
}

// answering makes a handler of what understands a request.
func (n *Native) answering(understand func(*gin.Context) (question, error)) gin.HandlerFunc {
	return func(c *gin.Context) {
		q, err := understand(c)
		if err != nil {
			route.Refuse(c, err)
			return
		}
		body, err := n.Answers.Get(c.Request.Context(), c.Request.Header, q.scope, q.key, func(ctx context.Context, at fresh.At) (cache.Value, error) {
			return q.compute(ctx, n.Reader.At(at.Generation), at)
		})
		if err != nil {
			route.Refuse(c, err)
			return
		}
		respond(c, body)
	}
}

// respond sends a finished body of JSON. Clients may keep it, and must ask again before they show it.
func respond(c *gin.Context, body []byte) {
	header := c.Writer.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("Cache-Control", "private, no-cache")
	c.Status(http.StatusOK)
	if c.Request.Method == http.MethodHead {
		c.Writer.WriteHeaderNow()
		return
	}
	_, _ = c.Writer.Write(body) // a client that has gone needs no answer
}

func (n *Native) openAPIRoute() route.Route {
	return route.Route{
		Method: http.MethodGet, Path: "/openapi.json", Side: route.Query, API: API, Access: route.Anyone,
		Summary: "Describe every endpoint of this installation as OpenAPI 3.1",
		Answers: []route.Answer{{Status: 200, Body: map[string]any{}, Description: "The description; /docs shows it."}},
		Handler: func(c *gin.Context) {
			body, err := n.Describe()
			if err != nil {
				route.Refuse(c, err)
				return
			}
			respond(c, body)
		},
	}
}
