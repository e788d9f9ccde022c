package route_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/schemas/route"
)

func operations(opts route.Options) route.Options {
	opts.APIs["operations"] = route.API{}
	return opts
}

func TestReadinessNamesWhatIsMissing(t *testing.T) {
	broken := atomic.Bool{}
	broken.Store(true)
	health := route.NewHealth(slog.New(slog.DiscardHandler), map[string]route.Check{
		"kafka": func(context.Context) error { return nil },
		"clickhouse": func(context.Context) error {
			if broken.Load() {
				return errors.New("dial 10.0.0.1: refused")
			}
			return nil
		},
	})
	s := serve(t, operations(quiet()), health.Routes()...)
	got := s.do("GET", "/readyz", nil)
	got.want(t, 503, `{"status":"not ready","missing":["clickhouse"]}`)
	s.do("GET", "/healthz", nil).want(t, 200, `{"status":"ok"}`)

	again := route.NewHealth(slog.New(slog.DiscardHandler), nil)
	s = serve(t, operations(quiet()), again.Routes()...)
	s.do("GET", "/readyz", nil).want(t, 200, `{"status":"ready"}`)
	again.Drain()
	s.do("GET", "/readyz", nil).want(t, 503, `{"status":"draining"}`)
	s.do("GET", "/healthz", nil).want(t, 200, `{"status":"ok"}`)
}

func TestEnginesAreAskedOncePerSecondHoweverManyAsk(t *testing.T) {
	var asked atomic.Int32
	health := route.NewHealth(slog.New(slog.DiscardHandler), map[string]route.Check{
		"kafka": func(context.Context) error { asked.Add(1); return nil },
	})
	start := time.Now()
	for range 50 {
		health.Missing(context.Background())
	}
	if most := int32(time.Since(start)/time.Second) + 1; asked.Load() > most {
		t.Errorf("the engine was asked %d times, want at most %d", asked.Load(), most)
	}
}

func TestAskerWhoLeavesDoesNotSpoilTheResult(t *testing.T) {
	health := route.NewHealth(slog.New(slog.DiscardHandler), map[string]route.Check{
		"kafka": func(ctx context.Context) error { return ctx.Err() },
	})
	gone, leave := context.WithCancel(context.Background())
	leave()
	if missing := health.Missing(gone); len(missing) != 0 {
		t.Errorf("missing are %v, want none", missing)
	}
}

// running is a Server at work.
type running struct {
	url    string
	client *http.Client
	stop   context.CancelFunc
	done   chan error
}

func start(t *testing.T, drain time.Duration, slow gin.HandlerFunc) *running {
	t.Helper()
	health := route.NewHealth(slog.New(slog.DiscardHandler), nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &route.Server{
		Handler: engine(t, operations(quiet()), append(health.Routes(), get("/slow", slow))...),
		Health:  health,
		Log:     slog.New(slog.DiscardHandler),
		Drain:   drain,
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &running{url: "http://" + listener.Addr().String(), client: &http.Client{Transport: &http.Transport{}}, stop: stop, done: make(chan error, 1)}
	go func() { r.done <- server.Serve(ctx, listener) }()
	t.Cleanup(stop)
	t.Cleanup(r.client.CloseIdleConnections)
	return r
}

// fetch sends a request in the background.
func (r *running) fetch(path string) chan string {
	got := make(chan string, 1)
	go func() {
		response, err := r.client.Get(r.url + path)
		if err != nil {
			got <- "error"
			return
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		got <- response.Status + " " + string(body)
	}()
	return got
}

func TestServerLetsRequestsInFlightEnd(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	r := start(t, time.Minute, func(c *gin.Context) {
		close(entered)
		<-release
		if err := c.Request.Context().Err(); err != nil {
			t.Errorf("the request's context ended with the server's: %v", err)
		}
		c.String(http.StatusOK, "whole")
	})
	got := r.fetch("/slow")
	<-entered
	r.stop()
	waitUntil(t, "new connections are refused", func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	close(release)
	if answer := <-got; answer != "200 OK whole" {
		t.Errorf("answer is %q, want it whole", answer)
	}
	if err := <-r.done; err != nil {
		t.Errorf("serving ended with %v, want nil", err)
	}
}

func TestServerCutsOffWhatOutlastsItsBound(t *testing.T) {
	entered, told := make(chan struct{}), make(chan struct{})
	r := start(t, 10*time.Millisecond, func(c *gin.Context) {
		close(entered)
		<-c.Request.Context().Done()
		close(told)
	})
	got := r.fetch("/slow")
	<-entered
	r.stop()
	if err := <-r.done; err == nil || !strings.Contains(err.Error(), "did not end within 10ms") {
		t.Errorf("serving ended with %v, want the bound named", err)
	}
	<-told
	<-got
}

func TestServerReportsThatItCannotServe(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	server := &route.Server{Handler: http.NotFoundHandler(), Health: route.NewHealth(slog.Default(), nil), Log: slog.New(slog.DiscardHandler)}
	if err := server.Serve(context.Background(), listener); err == nil || !strings.Contains(err.Error(), "serve 127.0.0.1") {
		t.Errorf("error is %v, want the address named", err)
	}
}

func TestReadinessFailsBeforeTheListenerCloses(t *testing.T) {
	health := route.NewHealth(slog.New(slog.DiscardHandler), nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	server := &route.Server{Handler: engine(t, operations(quiet()), health.Routes()...), Health: health,
		Log: slog.New(slog.DiscardHandler), Linger: 2 * time.Second, Drain: time.Minute}
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, listener) }()
	r := &running{url: "http://" + listener.Addr().String(), client: &http.Client{Transport: &http.Transport{}}}
	t.Cleanup(r.client.CloseIdleConnections)
	if got := <-r.fetch("/readyz"); !strings.HasPrefix(got, "200") {
		t.Fatalf("readiness is %q before the end, want 200", got)
	}
	stop()
	waitUntil(t, "readiness fails while requests are taken", func() bool {
		return strings.Contains(<-r.fetch("/readyz"), "draining")
	})
	if err := <-done; err != nil {
		t.Errorf("serving ended with %v, want nil", err)
	}
}

// waitUntil asks again and again until something holds.
func waitUntil(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}
