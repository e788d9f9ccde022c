package route

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
)

// Authorizer finds out who sent a request and whether access lets them in. The
// principal it returns is what handlers get from Principal. To refuse it returns
// an *Error, or writes the answer itself and returns ErrAnswered. With Anyone it
// only identifies, and must not refuse.
type Authorizer func(c *gin.Context, access Access) (principal any, err error)

// API holds what the routes of one API share.
type API struct {
	// Authorize enforces Access. It may be nil only if every route is for Anyone.
	Authorize Authorizer
	// Refuse writes refusals in the API's own form; nil writes {"error": …}.
	Refuse func(c *gin.Context, refusal *Error)
	// Header is set on every answer, under canonical names.
	Header http.Header
	// Root is where all paths are this API's, those too that no route has; empty: only those of its routes are.
	Root string
	// Unknown answers unknown paths under Root; nil refuses them as Refuse does.
	Unknown gin.HandlerFunc
	// Options answers the method OPTIONS at every path of the API with those that it has; without it OPTIONS is refused.
	Options bool
}

// Options is what Mount needs besides the tables.
type Options struct {
	// APIs has an entry for every Route.API that is mounted.
	APIs map[string]API
	// Ingest and Query bound the work in flight on each side, Waiting and Watching that of its routes with Waits, Uploads and
	// Downloads that of its routes with Streams; nil does not.
	Ingest, Query, Waiting, Watching, Uploads, Downloads *Admission
	// Timeout bounds the context of requests whose route says nothing; 0 means 30 s.
	Timeout time.Duration
	// Patience is how long a body may stall, or fall behind 4 KiB a second; 0 means 20 s.
	Patience time.Duration
	// Metrics takes the request metrics; nil takes none.
	Metrics prometheus.Registerer
	// Tracer makes the server spans; nil makes none.
	Tracer trace.Tracer
	// Log gets a line per request at level debug and one per server fault.
	Log *slog.Logger
}

const defaultTimeout = 30 * time.Second

// mount is what the mounted routes share.
type mount struct {
	log      *slog.Logger
	patience time.Duration
	tracer   trace.Tracer
	ids      requestIDs
	gzip     gzipReaders
	routes   []*mounted
	fallback *mounted
}

// mounted is a route with everything about it that can be worked out once.
type mounted struct {
	Route
	mount     *mount
	key       string
	api       API
	admission *Admission
	timeout   time.Duration
	requests  *observers
	spans     []trace.SpanStartOption
}

// Mount puts the tables on the engine: each route with its limits, authorization,
// metrics, spans and log, HEAD with GET, both forms of a path with Slash. Unknown
// paths get a JSON 404 or what the API of their Root says, other methods of a known
// path 405 with Allow, save OPTIONS where the API answers it; nothing is redirected.
// It is called once for an engine, with all tables that the engine serves, and
// refuses tables that do not pass Validate.
func Mount(engine *gin.Engine, routes []Route, opts Options) error {
	if err := mountable(routes, opts); err != nil {
		return err
	}
	durations, err := newDurations(opts.Metrics)
	if err != nil {
		return err
	}
	if err := registerLoad(opts); err != nil {
		return err
	}
	m := &mount{log: opts.Log, patience: firstPositive(opts.Patience, defaultPatience), tracer: opts.Tracer, ids: newRequestIDs()}
	engine.RedirectTrailingSlash = false
	engine.RedirectFixedPath = false
	engine.HandleMethodNotAllowed = true
	for i := range routes {
		if err := m.add(engine, &routes[i], opts, durations); err != nil {
			return err
		}
	}
	m.addFallback(engine, opts, durations)
	return nil
}

// mountable checks the tables against each other and against the options.
func mountable(routes []Route, opts Options) error {
	errs := []error{Validate(routes)}
	if opts.Log == nil {
		errs = append(errs, errors.New("mount routes: Options.Log is nil"))
	}
	for i := range routes {
		r := &routes[i]
		api, known := opts.APIs[r.API]
		switch {
		case r.Handler == nil:
			errs = append(errs, fmt.Errorf("route %s: no handler", r.Key()))
		case !known:
			errs = append(errs, fmt.Errorf("route %s: Options.APIs has no %q", r.Key(), r.API))
		case api.Authorize == nil && r.Access != Anyone:
			errs = append(errs, fmt.Errorf("route %s: access is %s, but API %q has no authorizer", r.Key(), r.Access, r.API))
		}
	}
	return errors.Join(errs...)
}

// add registers one route. gin panics when two patterns exclude each other.
func (m *mount) add(engine *gin.Engine, r *Route, opts Options, durations *durations) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("route %s: %v", r.Key(), p)
		}
	}()
	verbs := []string{r.Method}
	if r.Method == http.MethodGet {
		verbs = append(verbs, http.MethodHead)
	}
	for _, verb := range verbs {
		mt := &mounted{Route: *r, mount: m, key: verb + " " + r.Path, api: opts.APIs[r.API],
			timeout: firstPositive(r.Timeout, opts.Timeout, defaultTimeout), requests: durations.of(r.API, verb, r.Path)}
		mt.admission = opts.admission(r)
		mt.spans = mt.spanOptions()
		m.routes = append(m.routes, mt)
		engine.Handle(verb, r.Path, mt.serve)
		if r.Slash {
			engine.Handle(verb, r.Path+"/", mt.serve)
		}
	}
	return nil
}

func (o *Options) admission(r *Route) *Admission {
	switch r.Side {
	case Each:
		return nil
	case Ingest:
		return choose(r, o.Ingest, o.Waiting, o.Uploads)
	}
	return choose(r, o.Query, o.Watching, o.Downloads)
}

func choose(r *Route, short, waits, streams *Admission) *Admission {
	switch {
	case r.Waits:
		return waits
	case r.Streams:
		return streams
	}
	return short
}

func firstPositive(durations ...time.Duration) time.Duration {
	for _, d := range durations {
		if d > 0 {
			return d
		}
	}
	return 0
}

// addFallback answers what no route answers, through the same stages as a route.
func (m *mount) addFallback(engine *gin.Engine, opts Options, durations *durations) {
	m.fallback = &mounted{mount: m, key: "unmatched", timeout: firstPositive(opts.Timeout, defaultTimeout),
		requests: durations.of("none", "any", "unmatched")}
	unknownPath := *m.fallback
	unknownPath.Handler = func(c *gin.Context) {
		api := opts.owner(c.Request.URL.Path)
		owned := *m.fallback
		owned.api = api
		callOf(c).route = &owned
		callOf(c).setHeader(c)
		if api.Unknown != nil {
			api.Unknown(c)
			return
		}
		Refuse(c, Errorf(http.StatusNotFound, "%s", NoEndpoint))
	}
	otherMethod := *m.fallback
	otherMethod.Handler = m.methodNotAllowed
	engine.NoRoute(unknownPath.serve)
	engine.NoMethod(otherMethod.serve)
}

// NoEndpoint says what is wrong with an unknown path.
const NoEndpoint = "no endpoint has this path; see /openapi.json for those that exist"

// owner gives the API whose root a path is under; the zero API when it is nobody's.
func (o *Options) owner(path string) (owner API) {
	for _, api := range o.APIs {
		under := path == api.Root || strings.HasPrefix(path, api.Root+"/")
		if api.Root != "" && under && len(api.Root) > len(owner.Root) {
			owner = api
		}
	}
	return owner
}

// methodNotAllowed refuses in the form of the API that owns the path, or tells which methods it has.
func (m *mount) methodNotAllowed(c *gin.Context) {
	var allow []string
	literal := false // a path without parameters is not also what a pattern means
	for _, mt := range m.routes {
		plain := len(pathParams(mt.Path)) == 0
		if !mt.matches(c.Request.URL.Path) || literal && !plain {
			continue
		}
		if plain && !literal {
			literal, allow = true, nil
		}
		callOf(c).route = mt
		if !slices.Contains(allow, mt.method()) {
			allow = append(allow, mt.method())
		}
	}
	options := callOf(c).route.api.Options
	if options {
		allow = append(allow, http.MethodOptions)
	}
	slices.Sort(allow)
	methods := strings.Join(allow, ", ")
	c.Header("Allow", methods)
	callOf(c).setHeader(c)
	if options && c.Request.Method == http.MethodOptions {
		c.Status(http.StatusOK)
		c.Writer.WriteHeaderNow()
		return
	}
	Refuse(c, Errorf(http.StatusMethodNotAllowed, "method %s is not served at this path; use %s", c.Request.Method, methods))
}

func (mt *mounted) matches(path string) bool {
	if matches(mt.Path, path) {
		return true
	}
	bare, slashed := strings.CutSuffix(path, "/")
	return mt.Slash && slashed && matches(mt.Path, bare)
}

// method is the verb that this registration answers: HEAD beside its GET.
func (mt *mounted) method() string {
	verb, _, _ := strings.Cut(mt.key, " ")
	return verb
}

// serve takes a request through the stages in their order: context, headers,
// admission, authorization, body, handler; and counts it whatever happened.
func (mt *mounted) serve(c *gin.Context) {
	k := &call{route: mt, start: time.Now()}
	ctx := c.Request.Context()
	if mt.mount.tracer != nil {
		ctx, k.span = mt.startSpan(c.Request)
	}
	ctx, cancel := context.WithTimeout(ctx, mt.timeout)
	defer cancel()
	k.Context = ctx
	c.Request = c.Request.WithContext(k)
	defer mt.finish(c, k)
	k.setHeader(c)
	if err := mt.admit(c, k); err != nil {
		Refuse(c, err)
		return
	}
	mt.Handler(c)
}

func (mt *mounted) admit(c *gin.Context, k *call) error {
	if err := k.enter(); err != nil {
		return err
	}
	if mt.api.Authorize != nil {
		principal, err := mt.api.Authorize(c, mt.Access)
		if err != nil {
			return err
		}
		k.principal = principal
	}
	return k.openBody(c)
}

// finish ends a request: a panic becomes a 500, what the request held is given
// back, and its time and status are recorded.
func (mt *mounted) finish(c *gin.Context, k *call) {
	p := recover()
	if p != nil && p != http.ErrAbortHandler {
		mt.mount.log.LogAttrs(k, slog.LevelError, "handler panicked", slog.String("request", k.requestID()),
			slog.String("route", mt.key), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		if !c.Writer.Written() {
			c.Header("X-Request-Id", k.requestID())
			Refuse(c, fault(k))
			p = nil
		}
	}
	k.leave(c)
	mt.record(c, k)
	if p != nil {
		// Part of an answer is out: only a broken connection tells the client.
		panic(http.ErrAbortHandler)
	}
}

func (mt *mounted) record(c *gin.Context, k *call) {
	status := c.Writer.Status()
	elapsed := time.Since(k.start)
	mt.requests.observe(status, elapsed)
	if k.span != nil {
		endSpan(k.span, status)
	}
	if mt.mount.log.Enabled(k, slog.LevelDebug) {
		mt.mount.log.LogAttrs(k, slog.LevelDebug, "request", slog.String("request", k.requestID()),
			slog.String("method", c.Request.Method), slog.String("route", mt.key), slog.Int("status", status),
			slog.Int("bytes", c.Writer.Size()), slog.Duration("elapsed", elapsed))
	}
}
