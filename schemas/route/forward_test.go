package route_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/millrace/millrace/schemas/route"
)

// upstream is a service that tells what reaches it.
func upstream(t *testing.T, name string) *url.URL {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusTeapot)
			return
		}
		w.Header().Set("Saw-Host", r.Host)
		w.Header().Set("Saw-For", r.Header.Get("X-Forwarded-For"))
		w.Header().Set("Saw-Encoding", r.Header.Get("Content-Encoding"))
		w.Header().Set("Saw-Trace", r.Header.Get("Traceparent"))
		w.Header().Set("Millrace-Position", "runs/0:7")
		w.WriteHeader(http.StatusAccepted)
		io.WriteString(w, name+" "+r.Method+" "+r.URL.RequestURI()+" "+string(body))
	}))
	t.Cleanup(server.Close)
	return parse(t, server.URL)
}

func parse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// proxied is the table that the proxy's tests forward: paths of both sides.
func proxied() []route.Route {
	upload := post("/run/upload", 1000, nil)
	upload.Slash, upload.GzipLimit, upload.Access = true, 1000, route.MachineSecret
	own := get("/metrics", text("own"))
	own.Side = route.Each
	return []route.Route{upload, get("/run/:id", nil, id("id")), get("/both", nil), post("/both", 10, nil), own}
}

func proxy(t *testing.T, to route.Upstreams) *site {
	return serve(t, quiet(), route.Forward(proxied(), to, slog.New(slog.DiscardHandler))...)
}

func TestProxyHandsEachRequestToTheServiceOfItsSide(t *testing.T) {
	s := proxy(t, route.Upstreams{Ingest: upstream(t, "ingest"), Query: upstream(t, "query")})
	cases := []struct{ method, path, body, want string }{
		{"POST", "/run/upload", "doc", "ingest POST /run/upload doc"},
		{"POST", "/run/upload/", "doc", "ingest POST /run/upload/ doc"},
		{"GET", "/run/7?a=b%20c", "", "query GET /run/7?a=b%20c "},
		{"GET", "/run/x%2Dy", "", "query GET /run/x%2Dy "},
		{"GET", "/both", "", "query GET /both "},
		{"GET", "/both", "a body that no GET has", "query GET /both "},
		{"POST", "/both", "w", "ingest POST /both w"},
	}
	for _, tc := range cases {
		got := s.do(tc.method, tc.path, strings.NewReader(tc.body))
		got.want(t, 202, tc.want)
		if got.header.Get("Millrace-Position") != "runs/0:7" {
			t.Errorf("%s %s lost the service's headers: %v", tc.method, tc.path, got.header)
		}
	}
	if got := s.do("HEAD", "/both", nil); got.status != 202 {
		t.Errorf("HEAD is answered with %d, want the service's 202", got.status)
	}
}

func TestProxyTellsWhereARequestCameFromAndBelievesNoClient(t *testing.T) {
	s := proxy(t, route.Upstreams{Ingest: upstream(t, "ingest"), Query: upstream(t, "query")})
	trace := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	got := s.do("GET", "/both", nil, "X-Forwarded-For", "1.2.3.4", "Forwarded", "for=1.2.3.4", "Traceparent", trace)
	if got.header.Get("Saw-For") != "127.0.0.1" {
		t.Errorf("service saw X-Forwarded-For %q, want 127.0.0.1 alone", got.header.Get("Saw-For"))
	}
	if want := s.Listener.Addr().String(); got.header.Get("Saw-Host") != want {
		t.Errorf("service saw the host %q, want the client's %q", got.header.Get("Saw-Host"), want)
	}
	if got.header.Get("Saw-Trace") != trace {
		t.Errorf("service saw the trace %q, want the client's", got.header.Get("Saw-Trace"))
	}
}

func TestProxyLeavesEncodedBodiesAlone(t *testing.T) {
	s := proxy(t, route.Upstreams{Ingest: upstream(t, "ingest"), Query: upstream(t, "query")})
	sent := gzipped(t, []byte("document"))
	got := s.do("POST", "/run/upload", bytes.NewReader(sent), "Content-Encoding", "gzip")
	got.want(t, 202, "ingest POST /run/upload "+string(sent))
	if got.header.Get("Saw-Encoding") != "gzip" {
		t.Errorf("service saw the encoding %q, want gzip", got.header.Get("Saw-Encoding"))
	}
}

func TestProxyRefusesByItselfWhatNoServiceNeedsToSee(t *testing.T) {
	s := proxy(t, route.Upstreams{Ingest: upstream(t, "ingest"), Query: upstream(t, "query")})
	s.do("GET", "/nothing", nil).wantFailure(t, 404, "no endpoint")
	s.do("GET", "/metrics", nil).wantFailure(t, 404, "no endpoint")
	got := s.do("DELETE", "/both", nil)
	got.wantFailure(t, 405, "GET, HEAD, POST")
	if got.header.Get("Allow") != "GET, HEAD, POST" {
		t.Errorf("Allow is %q, want the methods of both services", got.header.Get("Allow"))
	}
	s.do("POST", "/both", bytes.NewReader(make([]byte, 11))).wantFailure(t, 413, "10 bytes")
	s.do("POST", "/both", chunked(make([]byte, 11))).wantFailure(t, 413, "10 bytes")
}

func TestServiceOutOfReachIs502(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	var log lines
	routes := route.Forward(proxied(), route.Upstreams{Ingest: parse(t, closed.URL), Query: upstream(t, "query")}, log.logger(slog.LevelInfo))
	s := serve(t, quiet(), routes...)
	got := s.do("POST", "/both", strings.NewReader("x"))
	got.wantFailure(t, 502, "out of reach")
	if strings.Contains(got.body, closed.Listener.Addr().String()) {
		t.Errorf("the answer names an inner address: %s", got.body)
	}
	if !strings.Contains(log.String(), closed.Listener.Addr().String()) {
		t.Errorf("the log does not name the service: %s", log.String())
	}
	s.do("GET", "/both", nil).want(t, 202, "query GET /both ")
}

func TestProxyStreamsAnswers(t *testing.T) {
	next := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "first\n")
		w.(http.Flusher).Flush()
		<-next
		io.WriteString(w, "second\n")
	}))
	t.Cleanup(server.Close)
	s := proxy(t, route.Upstreams{Ingest: upstream(t, "ingest"), Query: parse(t, server.URL)})
	response, err := s.client.Get(s.URL + "/both")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body := bufio.NewReader(response.Body)
	if line, err := body.ReadString('\n'); line != "first\n" || err != nil {
		t.Fatalf("first line is %q (%v), want it before the answer ends", line, err)
	}
	close(next)
	if line, err := body.ReadString('\n'); line != "second\n" || err != nil {
		t.Errorf("second line is %q (%v)", line, err)
	}
}

func TestAnswerCutOffByTheServiceIsCutOffForTheClient(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(server.Close)
	s := proxy(t, route.Upstreams{Ingest: upstream(t, "ingest"), Query: parse(t, server.URL)})
	response, err := s.client.Get(s.URL + "/both")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("the answer ended well with %q; the client must see that it is not whole", body)
	}
}

func TestProxyIsReadyWhileItsServicesAre(t *testing.T) {
	ready := func(status int) *url.URL {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/readyz" {
				t.Errorf("%s was asked, want /readyz", r.URL.Path)
			}
			w.WriteHeader(status)
		}))
		t.Cleanup(server.Close)
		return parse(t, server.URL)
	}
	log := slog.New(slog.DiscardHandler)
	both := route.NewHealth(log, route.Upstreams{Ingest: ready(200), Query: ready(200)}.Checks())
	if missing := both.Missing(context.Background()); len(missing) != 0 {
		t.Errorf("missing are %v, want none", missing)
	}
	one := route.NewHealth(log, route.Upstreams{Ingest: ready(503), Query: ready(200)}.Checks())
	if missing := one.Missing(context.Background()); len(missing) != 1 || missing[0] != "ingest" {
		t.Errorf("missing are %v, want ingest", missing)
	}
}

func TestForwardLeavesTheTableItWasGivenAlone(t *testing.T) {
	routes := proxied()
	route.Forward(routes, route.Upstreams{Ingest: upstream(t, "i"), Query: upstream(t, "q")}, slog.New(slog.DiscardHandler))
	if routes[0].Access != route.MachineSecret || routes[0].Handler != nil {
		t.Error("the given table was changed")
	}
}
