// Package ui is the web pages under /ui: what the lab holds, machines and their history, trends, runs, queues, jobs and
// agents, and for operators the dead letters; and /docs, which shows the description of every API.
//
// Pages are rendered here and kept like other answers. Scripts draw charts from the tables that stand beside them and
// make forms quicker; nothing is fetched from another host, and nothing in a page can run but the embedded scripts.
package ui

import (
	"bytes"
	"context"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/query/cache"
	"github.com/millrace/millrace/query/native/artifacts"
	"github.com/millrace/millrace/query/native/fresh"
	"github.com/millrace/millrace/query/native/lab"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// API is the name of the pages' route table.
const API = "ui"

// Config is what the pages work with. All of it is required once a request is answered.
type Config struct {
	Answers *fresh.Answers
	Reader  *lab.Reader
	// Packer gives what was submitted for jobs, and what they put out.
	Packer lab.Unpacker
	// Artifacts gives the files that jobs left.
	Artifacts *artifacts.Artifacts
	Now       func() time.Time
	// Authorize finds out who sent a request, as for Millrace's own API.
	Authorize route.Authorizer
	// Secure tells whether the client came by HTTPS.
	Secure func(*http.Request) bool
}

// UI serves the pages.
type UI struct {
	Config

	assets *assets
	pages  map[string]*template.Template
}

// New prepares the pages. It fails only when the program was built from broken ones.
func New(c Config) (*UI, error) {
	kept, err := readAssets()
	if err != nil {
		return nil, err
	}
	u := &UI{Config: c, assets: kept}
	if u.pages, err = u.parse(); err != nil {
		return nil, err
	}
	return u, nil
}

// policy lets a page load and run what comes from here, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// API is what the pages share: a token in a cookie, refusals that people can read, also where there is no page, and headers
// that lock the pages in.
func (u *UI) API() route.API {
	unknown := func(c *gin.Context) { route.Refuse(c, route.Errorf(http.StatusNotFound, "nothing has this address")) }
	return route.API{Authorize: u.authorize, Refuse: u.refuse, Root: "/ui", Unknown: unknown, Header: http.Header{
		"Content-Security-Policy":      {policy},
		"X-Content-Type-Options":       {"nosniff"},
		"X-Frame-Options":              {"DENY"},
		"Referrer-Policy":              {"same-origin"},
		"Cross-Origin-Opener-Policy":   {"same-origin"},
		"Cross-Origin-Resource-Policy": {"same-origin"},
	}}
}

// Routes is the table of the pages.
func (u *UI) Routes() []route.Route {
	id := []route.Param{{Name: "id", Type: route.Integer, Min: 1, Max: 1 << 53, Description: "Its id."}}
	cursor := route.Param{Name: "after", MaxLength: 40, Description: "The page behind this run."}
	letters := route.Param{Name: "state", MaxLength: 20, Description: "open or requeued; all without it."}
	return []route.Route{
		u.page("/ui", "Show what the lab holds", u.overview),
		u.page("/ui/machines/:id", "Show a machine's history", u.machine, append(id, cursor)...),
		u.page("/ui/trend", "Show the course of a metric", u.trend, trendParams()...),
		u.page("/ui/trend/runs", "Show the runs behind a point of a trend", u.trendRuns, trendRunsParams()...),
		u.page("/ui/runs/:id", "Show a run", u.run, append(id, route.Param{Name: "result", Type: route.Integer, Description: "The result whose seconds are shown."})...),
		u.page("/ui/queues", "Show the queues", u.queues),
		u.page("/ui/queue", "Show a queue", u.queue, queueParams()...),
		u.page("/ui/jobs", "List jobs", u.jobs, jobsParams()...),
		u.page("/ui/jobs/:id", "Show a job", u.job, route.Param{Name: "id", MaxLength: 1000, Description: "Its id: job-N, debci-N or testflinger-UUID."}),
		u.artifactRoute(),
		u.page("/ui/agents", "Show the agents", u.agents),
		u.page("/ui/agents/:name", "Show an agent", u.agent, route.Param{Name: "name", MaxLength: 1000, Description: "Its name."}),
		operators(u.page("/ui/dead-letters", "Show records that could not be projected", u.letters, letters)),
		operators(u.page("/ui/dead-letters/:id", "Show a dead letter", u.letter, route.Param{Name: "id", Description: "Its id, a UUID."})),
		frontRoute(), u.docsRoute(), u.signInPage(), u.signInRoute(), u.signOutRoute(), u.assetRoute(),
	}
}

// frontRoute leads whoever opens the address alone to the pages.
func frontRoute() route.Route {
	return route.Route{
		Method: http.MethodGet, Path: "/", Side: route.Query, API: API, Access: route.Anyone, Summary: "Lead to the pages",
		Answers: []route.Answer{{Status: 302, Description: "To /ui."}},
		Handler: func(c *gin.Context) { c.Redirect(http.StatusFound, "/ui") },
	}
}

func operators(r route.Route) route.Route {
	r.Access = route.TokenOperator
	return r
}

// view is a page as its template gets it.
type view struct {
	Title string
	// Tab is the entry of the navigation that the page belongs to.
	Tab  string
	Data any
}

// sight is a request for a page that was understood.
type sight struct {
	scope    fresh.Scope
	template string
	tab      string
	// seen is what of the visitor the page depends on.
	seen string
	// expires is when the page stops being right by the passing of time; zero for never.
	expires time.Time
	// read gives what the page shows, and its title.
	read func(context.Context, *lab.View) (title string, data any, err error)
}

const htmlType = "text/html; charset=utf-8"

// page gives the route of a page.
func (u *UI) page(path, summary string, understand func(*gin.Context) (sight, error), params ...route.Param) route.Route {
	return route.Route{
		Method: http.MethodGet, Path: path, Side: route.Query, API: API, Access: route.LoopbackOrViewer, Summary: summary, Params: params, Slash: path == "/ui",
		Answers: []route.Answer{
			{Status: 200, Body: "", ContentType: "text/html", Description: "The page."},
			{Status: 400, Body: "", ContentType: "text/html", Description: "A parameter is wrong; the page names it."},
			{Status: 401, Body: "", ContentType: "text/html", Description: "No token where one is needed: a form to sign in."},
			{Status: 403, Body: "", ContentType: "text/html", Description: "The token's role is not enough."},
			{Status: 404, Body: "", ContentType: "text/html", Description: "There is no such thing."},
			{Status: 503, Body: "", ContentType: "text/html", Description: "An engine is out of reach."},
		},
		Handler: func(c *gin.Context) {
			if err := u.show(c, understand); err != nil {
				route.Refuse(c, err)
			}
		},
	}
}

func (u *UI) show(c *gin.Context, understand func(*gin.Context) (sight, error)) error {
	s, err := understand(c)
	if err != nil {
		return err
	}
	body, err := u.Answers.Get(c.Request.Context(), c.Request.Header, s.scope, "ui"+c.Request.URL.RequestURI()+s.expires.Format(time.RFC3339)+s.seen,
		func(ctx context.Context, at fresh.At) (cache.Value, error) {
			title, data, err := s.read(ctx, u.Reader.At(at.Generation))
			if err != nil {
				return cache.Value{}, err
			}
			body, err := u.render(s.template, view{Title: title, Tab: s.tab, Data: data})
			return cache.Value{Body: body, Expires: s.expires}, err
		})
	if err != nil {
		return err
	}
	return u.send(c, http.StatusOK, body)
}

func (u *UI) render(name string, v view) ([]byte, error) {
	var body bytes.Buffer
	if err := u.pages[name].Execute(&body, v); err != nil {
		return nil, fmt.Errorf("render page %s: %w", name, err)
	}
	return body.Bytes(), nil
}

// visitorPlace is where a page shows its visitor: filled in when the page is sent, because pages are kept for everybody.
const visitorPlace = `<div class="visitor"></div>`

// send answers with a page, for the one who asked.
func (u *UI) send(c *gin.Context, status int, body []byte) error {
	var shown bytes.Buffer
	if err := u.pages["error"].ExecuteTemplate(&shown, "visitor", visitor{Name: u.signedIn(c), Next: wanted(c)}); err != nil {
		return fmt.Errorf("render the visitor: %w", err)
	}
	body = bytes.Replace(body, []byte(visitorPlace), shown.Bytes(), 1)
	header := c.Writer.Header()
	header.Set("Content-Type", htmlType)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("Cache-Control", "private, no-cache")
	c.Status(status)
	if c.Request.Method == http.MethodHead {
		c.Writer.WriteHeaderNow()
		return nil
	}
	_, _ = c.Writer.Write(body) // a browser that has gone needs no page
	return nil
}

// toRuns and toSamples are the topics that runs, and samples, come from.
var (
	toRuns    = []string{eventlog.Runs, eventlog.Registry}
	toSamples = []string{eventlog.Runs, eventlog.Registry, eventlog.Metrics}
)

// link gives a path with a query, leaving out empty values.
func link(path string, pairs ...any) string {
	query := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if value := fmt.Sprint(pairs[i+1]); value != "" {
			query.Set(fmt.Sprint(pairs[i]), value)
		}
	}
	if len(query) == 0 {
		return path
	}
	return path + "?" + query.Encode()
}
