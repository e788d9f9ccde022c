package route_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/millrace/millrace/schemas/route"
)

func TestMountRefusesTablesThatSayTooLittle(t *testing.T) {
	good := post("/run/:run_id", 10, echo, id("run_id"))
	cases := map[string]struct {
		spoil func(r *route.Route)
		want  string
	}{
		"no access":               {func(r *route.Route) { r.Access = 0 }, "access is not set"},
		"no authorizer":           {func(r *route.Route) { r.Access = route.Staff }, `API "lab" has no authorizer`},
		"no side":                 {func(r *route.Route) { r.Side = 0 }, "side is not set"},
		"no handler":              {func(r *route.Route) { r.Handler = nil }, "no handler"},
		"unknown API":             {func(r *route.Route) { r.API = "other" }, `Options.APIs has no "other"`},
		"no summary":              {func(r *route.Route) { r.Summary = "" }, "summary is not set"},
		"no answers":              {func(r *route.Route) { r.Answers = nil }, "no answers are described"},
		"body without limit":      {func(r *route.Route) { r.BodyLimit = 0 }, "a body needs a BodyLimit"},
		"odd method":              {func(r *route.Route) { r.Method = "FETCH" }, "method must be one of"},
		"relative path":           {func(r *route.Route) { r.Path, r.Params = "run", nil }, "path must begin with /"},
		"two slashes":             {func(r *route.Route) { r.Path, r.Slash, r.Params = "/run/", true, nil }, "must not end with /"},
		"parameter not described": {func(r *route.Route) { r.Params = nil }, "path parameter run_id is not described"},
		"parameter not in path": {func(r *route.Route) {
			r.Params = append(r.Params, route.Param{Name: "x", In: route.InPath, Description: "what"})
		}, "parameter x is not in the path"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			r := good
			r.Params = append([]route.Param(nil), good.Params...)
			tc.spoil(&r)
			err := route.Mount(gin.New(), []route.Route{r}, quiet())
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error is %v, want it to say %q", err, tc.want)
			}
		})
	}
	if err := route.Mount(gin.New(), []route.Route{good}, quiet()); err != nil {
		t.Errorf("a complete route does not mount: %v", err)
	}
}

func TestMountRefusesRoutesThatExcludeEachOther(t *testing.T) {
	twice := []route.Route{get("/a", text("1")), get("/a", text("2"))}
	if err := route.Mount(gin.New(), twice, quiet()); err == nil || !strings.Contains(err.Error(), "GET /a: declared twice") {
		t.Errorf("error is %v, want it to name the route declared twice", err)
	}
	other := []route.Route{get("/job/:id", text("1"), id("id")), get("/job/:name/log", text("2"), id("name"))}
	if err := route.Mount(gin.New(), other, quiet()); err == nil || !strings.Contains(err.Error(), "GET /job/:name/log") {
		t.Errorf("error is %v, want it to name the route that does not fit", err)
	}
}

func TestSlashFormIsAnsweredDirectlyAndOnlyWhereDeclared(t *testing.T) {
	both := post("/run/upload", 100, echo)
	both.Slash = true
	history := get("/history/:id", func(c *gin.Context) { c.String(200, c.Param("id")) }, id("id"))
	history.Slash = true
	s := serve(t, quiet(), both, history, get("/plain", text("plain")))
	cases := []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"POST", "/run/upload", "doc", 201, "doc"},
		{"POST", "/run/upload/", "doc", 201, "doc"},
		{"GET", "/history/7", "", 200, "7"},
		{"GET", "/history/7/", "", 200, "7"},
		{"GET", "/history/7/?a=b", "", 200, "7"},
		{"GET", "/plain", "", 200, "plain"},
	}
	for _, tc := range cases {
		s.do(tc.method, tc.path, strings.NewReader(tc.body)).want(t, tc.status, tc.want)
	}
	for _, path := range []string{"/plain/", "/history/7//", "/history", "/history/", "/run/uploads", "/Plain", "//plain", "/history/7/8"} {
		s.do("GET", path, nil).wantFailure(t, 404, "no endpoint")
	}
}

func TestOtherMethodIsRefusedWithTheAllowedOnes(t *testing.T) {
	upload := post("/run/:id", 10, echo, id("id"))
	upload.Slash = true
	s := serve(t, quiet(), upload, get("/list", text("all")), get("/both", text("b")), post("/both", 10, echo),
		get("/only/:id", text("o"), id("id")), post("/only/posted", 10, echo))
	cases := []struct{ method, path, allow string }{
		{"PUT", "/only/7", "GET, HEAD"},
		{"GET", "/run/7", "POST"},
		{"GET", "/run/7/", "POST"},
		{"HEAD", "/run/7", "POST"},
		{"OPTIONS", "/run/7", "POST"},
		{"POST", "/list", "GET, HEAD"},
		{"BREW", "/list", "GET, HEAD"},
		{"DELETE", "/both", "GET, HEAD, POST"},
		{"PUT", "/only/posted", "POST"},
	}
	for _, tc := range cases {
		t.Run(tc.method+tc.path, func(t *testing.T) {
			got := s.do(tc.method, tc.path, nil)
			if got.header.Get("Allow") != tc.allow {
				t.Errorf("Allow is %q, want %q", got.header.Get("Allow"), tc.allow)
			}
			if tc.method == "HEAD" {
				got.want(t, 405, "")
				return
			}
			got.wantFailure(t, 405, tc.method, tc.allow)
		})
	}
}

func TestPathsUnderTheRootOfAnAPIAreItsOwn(t *testing.T) {
	opts := quiet()
	opts.APIs["old"] = route.API{
		Root: "/v1", Options: true, Header: http.Header{"X-Frame-Options": {"DENY"}},
		Refuse:  func(c *gin.Context, refusal *route.Error) { c.String(refusal.Status, "Error: %s", refusal.Message) },
		Unknown: func(c *gin.Context) { c.String(http.StatusNotFound, "unknown") },
	}
	opts.APIs["deep"] = route.API{Root: "/v1/deep", Refuse: func(c *gin.Context, refusal *route.Error) { c.String(refusal.Status, "deep") }}
	job := get("/v1/job/:id", text("job"), id("id"))
	job.API = "old"
	s := serve(t, opts, job, get("/v1/own", text("own")))
	for path, want := range map[string]string{"/v1": "unknown", "/v1/": "unknown", "/v1/jobs/7": "unknown", "/v1/deep/er": "deep", "/v1/own": "own"} {
		status := http.StatusNotFound
		if want == "own" {
			status = http.StatusOK
		}
		got := s.do("GET", path, nil)
		got.want(t, status, want)
		if framed := got.header.Get("X-Frame-Options") == "DENY"; framed != (want == "unknown") {
			t.Errorf("%s: the headers of the API are on the answer: %t", path, framed)
		}
	}
	for _, path := range []string{"/v10", "/v", "/", "/nothing"} {
		s.do("GET", path, nil).wantFailure(t, 404, "no endpoint")
	}
}

func TestOptionsTellsTheMethodsWhereTheAPISaysSo(t *testing.T) {
	opts := quiet()
	opts.APIs["old"] = route.API{Options: true, Root: "/v1"}
	one, other := get("/v1/job/:id", text("job"), id("id")), post("/v1/job/:id", 10, echo, id("id"))
	one.API, other.API = "old", "old"
	s := serve(t, opts, one, other, get("/list", text("all")))
	for _, tc := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"OPTIONS", "/v1/job/7", 200, "GET, HEAD, OPTIONS, POST"},
		{"DELETE", "/v1/job/7", 405, "GET, HEAD, OPTIONS, POST"},
		{"OPTIONS", "/v1/nothing", 404, ""},
		{"OPTIONS", "/list", 405, "GET, HEAD"},
	} {
		got := s.do(tc.method, tc.path, nil)
		if allow := got.header.Get("Allow"); got.status != tc.status || allow != tc.allow || tc.status == 200 && got.body != "" {
			t.Errorf("%s %s: %d %q, Allow %q; want %d, Allow %q", tc.method, tc.path, got.status, got.body, allow, tc.status, tc.allow)
		}
	}
}

func TestHeadAnswersAsGetWithoutBody(t *testing.T) {
	s := serve(t, quiet(), get("/list", text("all of it")))
	got := s.do("HEAD", "/list", nil)
	got.want(t, 200, "")
	if got.header.Get("Content-Length") != "9" {
		t.Errorf("Content-Length is %q, want that of GET, 9", got.header.Get("Content-Length"))
	}
}

func TestPanicBecomes500ThatNamesTheRequestAndHidesThePanic(t *testing.T) {
	var log lines
	opts := quiet()
	opts.Log = log.logger(slog.LevelInfo)
	s := serve(t, opts, get("/bad", func(*gin.Context) { panic("secret inner state") }))
	got := s.do("GET", "/bad", nil)
	request := got.header.Get("X-Request-Id")
	got.wantFailure(t, 500, request)
	if request == "" || strings.Contains(got.body, "secret") || strings.Contains(got.body, ".go") {
		t.Errorf("answer is %q under request %q, want the request's id and nothing of the panic", got.body, request)
	}
	for _, want := range []string{"request=" + request, "secret inner state", "mount_test.go"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log does not hold %q: %s", want, log.String())
		}
	}
}

func TestPanicAfterTheAnswerBeganBreaksTheConnection(t *testing.T) {
	s := serve(t, quiet(), get("/bad", func(c *gin.Context) {
		c.String(http.StatusOK, "half of it")
		c.Writer.Flush()
		panic("then this")
	}))
	response, err := s.client.Get(s.URL + "/bad")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("the answer ended well with %q; the client must see that it is not whole", body)
	}
}

func TestServerFaultIsLoggedAndItsTextStaysInside(t *testing.T) {
	var log lines
	opts := quiet()
	opts.Log = log.logger(slog.LevelInfo)
	s := serve(t, opts, get("/bad", func(c *gin.Context) { route.Refuse(c, fmt.Errorf("dial 10.1.2.3: refused")) }))
	got := s.do("GET", "/bad", nil)
	got.wantFailure(t, 500, got.header.Get("X-Request-Id"))
	if strings.Contains(got.body, "10.1.2.3") || !strings.Contains(log.String(), "10.1.2.3") {
		t.Errorf("body is %s, log is %s; the fault belongs in the log only", got.body, log.String())
	}
}

func TestRequestThatOutlastsItsTimeIsRefusedAsBusy(t *testing.T) {
	slow := get("/slow", func(c *gin.Context) {
		<-c.Request.Context().Done()
		route.Refuse(c, fmt.Errorf("wait for the log: %w", c.Request.Context().Err()))
	})
	slow.Timeout = 5 * time.Millisecond
	s := serve(t, quiet(), slow)
	got := s.do("GET", "/slow", nil)
	got.wantFailure(t, 503, "time limit")
	if got.header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After is %q, want 1", got.header.Get("Retry-After"))
	}
}

func TestRouteTakesTheDefaultTimeout(t *testing.T) {
	opts := quiet()
	opts.Timeout = time.Hour
	left := make(chan time.Duration, 1)
	s := serve(t, opts, get("/x", func(c *gin.Context) {
		deadline, _ := c.Request.Context().Deadline()
		left <- time.Until(deadline)
	}))
	s.do("GET", "/x", nil)
	if got := <-left; got < 59*time.Minute || got > time.Hour {
		t.Errorf("%s are left to the request, want an hour", got)
	}
}

type guest struct{ name string }

func TestAuthorizerDecidesByTheRoutesAccess(t *testing.T) {
	opts := quiet()
	opts.APIs["lab"] = route.API{Authorize: func(c *gin.Context, access route.Access) (any, error) {
		if access == route.Anyone {
			return nil, nil
		}
		switch c.GetHeader("Authorization") {
		case "staff":
			return &guest{"ann"}, nil
		case "":
			c.Redirect(http.StatusFound, "/login")
			return nil, route.ErrAnswered
		}
		return nil, route.Errorf(http.StatusForbidden, "only %s may do this", access)
	}}
	who := func(c *gin.Context) {
		g, ok := route.Principal[*guest](c)
		if !ok {
			c.String(200, "nobody")
			return
		}
		c.String(200, g.name)
	}
	staff := get("/staff", who)
	staff.Access = route.Staff
	s := serve(t, opts, staff, get("/open", who))
	s.do("GET", "/staff", nil, "Authorization", "staff").want(t, 200, "ann")
	s.do("GET", "/staff", nil, "Authorization", "user").wantFailure(t, 403, "only staff may")
	if got := s.do("GET", "/staff", nil); got.status != 302 || got.header.Get("Location") != "/login" {
		t.Errorf("answer is %d to %q, want the authorizer's own redirect", got.status, got.header.Get("Location"))
	}
	s.do("GET", "/open", nil).want(t, 200, "nobody")
}

func TestRefusedCallerIsNotReadFrom(t *testing.T) {
	opts := quiet()
	opts.APIs["lab"] = route.API{Authorize: func(*gin.Context, route.Access) (any, error) {
		return nil, route.Errorf(http.StatusNotAcceptable, "unknown secret")
	}}
	upload := post("/upload", 1<<20, func(*gin.Context) { t.Error("the handler was called") })
	upload.Access = route.MachineSecret
	s := serve(t, opts, upload)
	s.do("POST", "/upload", strings.NewReader("not gzip"), "Content-Encoding", "gzip").wantFailure(t, 406, "unknown secret")
}

func TestRefusalsTakeTheFormOfTheirAPI(t *testing.T) {
	opts := quiet()
	opts.APIs["plain"] = route.API{
		Refuse: func(c *gin.Context, refusal *route.Error) { c.String(refusal.Status, "Error: %s\n", refusal.Message) },
		Header: http.Header{"X-Frame-Options": {"DENY"}},
	}
	short := post("/plain/short", 3, echo)
	short.API = "plain"
	s := serve(t, opts, short, post("/lab/short", 3, echo))
	got := s.do("POST", "/plain/short", strings.NewReader("long"))
	got.want(t, 413, "Error: body is over the limit of 3 bytes\n")
	if got.header.Get("X-Frame-Options") != "DENY" {
		t.Error("the refusal lacks the API's headers")
	}
	got = s.do("GET", "/plain/short", nil)
	got.want(t, 405, "Error: method GET is not served at this path; use POST\n")
	if got.header.Get("X-Frame-Options") != "DENY" {
		t.Error("the answer to another method lacks the API's headers")
	}
	got = s.do("POST", "/lab/short", strings.NewReader("long"))
	got.wantFailure(t, 413, "3 bytes")
	if got.header.Get("X-Frame-Options") != "" {
		t.Error("another API's headers are on the answer")
	}
}

func TestMetricsAreCountedByTemplateAndClass(t *testing.T) {
	registry := prometheus.NewRegistry()
	opts := quiet()
	opts.Metrics = registry
	s := serve(t, opts, get("/run/:id", func(c *gin.Context) {
		if _, err := route.Int(c, "id"); err != nil {
			route.Refuse(c, err)
		}
	}, id("id")))
	for _, path := range []string{"/run/1", "/run/2", "/run/x", "/secret/path"} {
		s.do("GET", path, nil)
	}
	s.do("HEAD", "/run/1", nil)
	want := map[string]uint64{
		"lab GET /run/:id 2xx":   2,
		"lab GET /run/:id 4xx":   1,
		"lab HEAD /run/:id 2xx":  1,
		"none any unmatched 4xx": 1,
	}
	if got := counts(t, registry); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("requests counted are %v, want %v", got, want)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("metrics break the conventions: %v %v", problems, err)
	}
}

// counts reads the request histogram: its label values to the number observed.
func counts(t *testing.T, registry *prometheus.Registry) map[string]uint64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]uint64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			labels := map[string]string{}
			for _, label := range metric.GetLabel() {
				labels[label.GetName()] = label.GetValue()
			}
			key := fmt.Sprint(labels["api"], " ", labels["method"], " ", labels["route"], " ", labels["class"])
			got[key] = metric.GetHistogram().GetSampleCount()
		}
	}
	return got
}

func TestSpanContinuesTheClientsTrace(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	opts := quiet()
	opts.Tracer = provider.Tracer("test")
	s := serve(t, opts, get("/run/:id", func(c *gin.Context) { c.Status(http.StatusBadGateway) }, id("id")))
	s.do("GET", "/run/12345", nil, "Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	s.Close() // the span ends behind the answer
	got := spans.GetSpans()
	if len(got) != 1 {
		t.Fatalf("%d spans were made, want 1", len(got))
	}
	span := got[0]
	if span.Name != "GET /run/:id" || span.Status.Code != codes.Error {
		t.Errorf("span is %q with status %v, want the route's name and an error", span.Name, span.Status.Code)
	}
	if span.Parent.SpanID().String() != "b7ad6b7169203331" || span.SpanContext.TraceID().String() != "0af7651916cd43dd8448eb211c80319c" {
		t.Errorf("span %v has the parent %v, want the client's", span.SpanContext, span.Parent)
	}
}

func TestAccessLogIsWrittenAtLevelDebugOnly(t *testing.T) {
	for level, want := range map[slog.Level]bool{slog.LevelDebug: true, slog.LevelInfo: false} {
		var log lines
		opts := quiet()
		opts.Log = log.logger(level)
		s := serve(t, opts, get("/run/:id", text("x"), id("id")))
		s.do("GET", "/run/12345?secret=1", nil)
		s.Close()
		got := strings.Contains(log.String(), `msg=request`) && strings.Contains(log.String(), `route="GET /run/:id" status=200`)
		if got != want {
			t.Errorf("at level %s the log is %q, access line wanted: %t", level, log.String(), want)
		}
		if strings.Contains(log.String(), "secret") {
			t.Errorf("the log holds the query string: %s", log.String())
		}
	}
}
