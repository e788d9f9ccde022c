package route_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/gin-gonic/gin"
	"go.uber.org/goleak"

	"github.com/millrace/millrace/schemas/route"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.ReleaseMode)
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) { os.Exit(code) }))
}

// get and post give complete routes, open to anyone, of the API "lab".
func get(path string, handler gin.HandlerFunc, params ...route.Param) route.Route {
	return route.Route{Method: http.MethodGet, Path: path, Side: route.Query, API: "lab", Access: route.Anyone,
		Summary: "read it", Params: params, Answers: []route.Answer{{Status: 200, Body: "", ContentType: "text/plain"}}, Handler: handler}
}

func post(path string, limit int64, handler gin.HandlerFunc, params ...route.Param) route.Route {
	return route.Route{Method: http.MethodPost, Path: path, Side: route.Ingest, API: "lab", Access: route.Anyone,
		Summary: "write it", Params: params, Body: "", BodyLimit: limit,
		Answers: []route.Answer{{Status: 201, Description: "Written."}}, Handler: handler}
}

func id(name string) route.Param {
	return route.Param{Name: name, Type: route.Integer, Description: "its number"}
}

func text(s string) gin.HandlerFunc {
	return func(c *gin.Context) { c.String(http.StatusOK, s) }
}

// echo answers 201 with the body it was sent, or what reading it refuses with.
func echo(c *gin.Context) {
	body, err := route.ReadBody(c)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	c.Data(http.StatusCreated, "text/plain", body)
}

// quiet is Options for the API "lab" without log, metrics and spans.
func quiet() route.Options {
	return route.Options{APIs: map[string]route.API{"lab": {}}, Log: slog.New(slog.DiscardHandler)}
}

func engine(t testing.TB, opts route.Options, routes ...route.Route) *gin.Engine {
	t.Helper()
	e := gin.New()
	if err := route.Mount(e, routes, opts); err != nil {
		t.Fatalf("mount: %v", err)
	}
	return e
}

// serve starts a server for the routes, and gives a client that follows nothing.
func serve(t testing.TB, opts route.Options, routes ...route.Route) *site {
	t.Helper()
	return open(t, engine(t, opts, routes...))
}

func open(t testing.TB, handler http.Handler) *site {
	t.Helper()
	server := httptest.NewServer(handler)
	client := server.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	t.Cleanup(func() {
		client.CloseIdleConnections()
		server.Close()
	})
	return &site{t: t, Server: server, client: client}
}

type site struct {
	*httptest.Server
	t      testing.TB
	client *http.Client
}

type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request; header is name, value, name, value…
func (s *site) do(method, path string, body io.Reader, header ...string) answer {
	s.t.Helper()
	request, err := http.NewRequest(method, s.URL+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := s.client.Do(request)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatalf("%s %s: read the answer: %v", method, path, err)
	}
	return answer{response.StatusCode, response.Header, string(text)}
}

// wantFailure checks a refusal: its status, and {"error": …} with the given words.
func (a answer) wantFailure(t testing.TB, status int, words ...string) {
	t.Helper()
	if a.status != status {
		t.Errorf("status is %d, want %d; body %s", a.status, status, a.body)
	}
	if got := a.header.Get("Content-Type"); !strings.HasPrefix(got, "application/json") {
		t.Errorf("content type is %q, want application/json", got)
	}
	var failure map[string]string
	if err := json.Unmarshal([]byte(a.body), &failure); err != nil || len(failure) != 1 || failure["error"] == "" {
		t.Fatalf("body is %s, want one member error", a.body)
	}
	for _, word := range words {
		if !strings.Contains(failure["error"], word) {
			t.Errorf("error is %q, want it to say %q", failure["error"], word)
		}
	}
}

func (a answer) want(t testing.TB, status int, body string) {
	t.Helper()
	if a.status != status || a.body != body {
		t.Errorf("answer is %d %q, want %d %q", a.status, a.body, status, body)
	}
}

func gzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// chunked hides a reader's length, so that it is sent without Content-Length.
func chunked(data []byte) io.Reader { return io.MultiReader(bytes.NewReader(data)) }

// lines is a log to read in tests.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lines) logger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: level}))
}

func assertGone(t testing.TB, path string) {
	t.Helper()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("%s is still there (%v)", path, err)
	}
}
