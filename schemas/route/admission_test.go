package route_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/millrace/millrace/schemas/route"
)

// held serves a route whose requests wait after reading their bodies.
func held(t *testing.T, admission *route.Admission) (s *site, entered chan struct{}, release func()) {
	entered = make(chan struct{})
	gate := make(chan struct{})
	opts := quiet()
	opts.Ingest = admission
	wait := post("/wait", 1<<20, func(c *gin.Context) {
		if _, err := route.ReadBody(c); err != nil {
			route.Refuse(c, err)
			return
		}
		entered <- struct{}{}
		<-gate
		c.Status(http.StatusCreated)
	})
	health := get("/healthz", text("ok"))
	health.Side = route.Each
	s = serve(t, opts, wait, post("/other", 1<<20, echo), get("/read", text("read")), health)
	release = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(release)
	return s, entered, release
}

// inBackground sends a request that waits; done gives its answer.
func (s *site) inBackground(body io.Reader) (done chan int) {
	done = make(chan int, 1)
	go func() {
		response, err := s.client.Post(s.URL+"/wait", "text/plain", body)
		if err != nil {
			s.t.Errorf("waiting request: %v", err)
			close(done)
			return
		}
		response.Body.Close()
		done <- response.StatusCode
	}()
	return done
}

func TestRequestsOverTheLimitAreToldToRetryWhileOthersGoOn(t *testing.T) {
	admission := route.NewAdmission(2, 1<<20)
	s, entered, release := held(t, admission)
	first, second := s.inBackground(strings.NewReader("a")), s.inBackground(strings.NewReader("b"))
	<-entered
	<-entered
	got := s.do("POST", "/other", strings.NewReader("c"))
	got.wantFailure(t, 503, "2 requests are already in flight")
	if got.header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After is %q, want 1", got.header.Get("Retry-After"))
	}
	s.do("GET", "/read", nil).want(t, 200, "read")
	s.do("GET", "/healthz", nil).want(t, 200, "ok")
	release()
	if a, b := <-first, <-second; a != 201 || b != 201 {
		t.Errorf("admitted requests ended with %d and %d, want 201", a, b)
	}
	s.do("POST", "/other", strings.NewReader("c")).want(t, 201, "c")
}

func TestCallsThatTakeLongKeepOutNoOthersButTheirLike(t *testing.T) {
	kinds := []string{"/ingest", "/claim", "/upload", "/query", "/watch", "/download"}
	for _, busy := range kinds {
		t.Run(busy, func(t *testing.T) {
			opts := quiet()
			for _, admission := range []**route.Admission{&opts.Ingest, &opts.Waiting, &opts.Uploads, &opts.Query, &opts.Watching, &opts.Downloads} {
				*admission = route.NewAdmission(1, 1<<20)
			}
			entered, gate := make(chan struct{}), make(chan struct{})
			var routes []route.Route
			for i, path := range kinds {
				handler := text("done")
				if path == busy {
					handler = func(c *gin.Context) {
						entered <- struct{}{}
						<-gate
						text("done")(c)
					}
				}
				r := get(path, handler)
				r.Side, r.Waits, r.Streams = []route.Side{route.Ingest, route.Query}[i/3], i%3 == 1, i%3 == 2
				routes = append(routes, r)
			}
			s := serve(t, opts, routes...)
			release := sync.OnceFunc(func() { close(gate) })
			t.Cleanup(release)
			first := make(chan int, 1)
			go func() {
				response, err := s.client.Get(s.URL + busy)
				if err != nil {
					t.Errorf("the call that takes long: %v", err)
					close(first)
					return
				}
				response.Body.Close()
				first <- response.StatusCode
			}()
			<-entered
			for _, path := range kinds {
				if path != busy {
					s.do("GET", path, nil).want(t, 200, "done")
					continue
				}
				got := s.do("GET", path, nil)
				got.wantFailure(t, 503, "1 requests are already in flight")
				if got.header.Get("Retry-After") != "1" {
					t.Errorf("Retry-After is %q, want 1", got.header.Get("Retry-After"))
				}
			}
			release()
			if status := <-first; status != 200 {
				t.Errorf("the call that takes long ended with %d, want 200", status)
			}
		})
	}
}

func TestBodiesOverTheirCommonLimitAreToldToRetry(t *testing.T) {
	admission := route.NewAdmission(100, 1000)
	s, entered, release := held(t, admission)
	first := s.inBackground(bytes.NewReader(make([]byte, 900)))
	<-entered
	s.do("POST", "/other", bytes.NewReader(make([]byte, 200))).wantFailure(t, 503, "1000 bytes")
	s.do("POST", "/other", strings.NewReader("small")).want(t, 201, "small")
	release()
	if got := <-first; got != 201 {
		t.Errorf("admitted request ended with %d, want 201", got)
	}
	s.do("POST", "/other", strings.NewReader(strings.Repeat("x", 200))).want(t, 201, strings.Repeat("x", 200))
}

func TestStreamedBodyHoldsNothing(t *testing.T) {
	opts := quiet()
	opts.Ingest = route.NewAdmission(1, 1000)
	stream := post("/stream", 1<<20, echo)
	stream.Streams = true
	s := serve(t, opts, stream, post("/other", 1<<20, echo))
	body := strings.Repeat("x", 5000)
	s.do("POST", "/stream", strings.NewReader(body)).want(t, 201, body)
	if requests, held := opts.Ingest.InFlight(); requests != 0 || held != 0 {
		t.Errorf("%d requests with %d bytes are in flight, want none", requests, held)
	}
	s.do("POST", "/other", strings.NewReader(body)).wantFailure(t, 503, "1000 bytes")
}

func TestLoadIsShownBySide(t *testing.T) {
	registry := prometheus.NewRegistry()
	opts := quiet()
	opts.Ingest, opts.Query, opts.Metrics = route.NewAdmission(10, 1<<20), route.NewAdmission(10, 1<<20), registry
	var seen error
	s := serve(t, opts, post("/up", 100, func(c *gin.Context) {
		if _, err := route.ReadBody(c); err != nil {
			route.Refuse(c, err)
			return
		}
		seen = testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP millrace_http_body_bytes_held Bytes of bodies that admitted requests hold.
# TYPE millrace_http_body_bytes_held gauge
millrace_http_body_bytes_held{side="ingest"} 5
millrace_http_body_bytes_held{side="query"} 0
# HELP millrace_http_requests_in_flight Requests admitted and not ended.
# TYPE millrace_http_requests_in_flight gauge
millrace_http_requests_in_flight{side="ingest"} 1
millrace_http_requests_in_flight{side="query"} 0
`), "millrace_http_requests_in_flight", "millrace_http_body_bytes_held")
	}))
	s.do("POST", "/up", strings.NewReader("12345")).want(t, 200, "")
	if seen != nil {
		t.Error(seen)
	}
}

func TestEverythingIsGivenBackHoweverRequestsEnd(t *testing.T) {
	admission := route.NewAdmission(10, 1<<20)
	opts := quiet()
	opts.Ingest = admission
	bad := post("/panic", 1<<20, func(c *gin.Context) {
		if _, err := route.ReadBody(c); err != nil {
			route.Refuse(c, err)
			return
		}
		panic("after reading")
	})
	zip := post("/zip", 1<<20, echo)
	zip.GzipLimit = 100
	s := serve(t, opts, bad, zip, post("/short", 10, echo))
	for range 20 {
		s.do("POST", "/panic", strings.NewReader("body"))
		s.do("POST", "/short", chunked(make([]byte, 100)))
		s.do("POST", "/zip", bytes.NewReader(gzipped(t, make([]byte, 1000))), "Content-Encoding", "gzip")
		s.do("GET", "/short", nil)
	}
	s.Close()
	if requests, held := admission.InFlight(); requests != 0 || held != 0 {
		t.Errorf("%d requests and %d bytes are still held, want none", requests, held)
	}
}
