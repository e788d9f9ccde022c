package wire

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// echo answers with what it understood of a request; /chunked does so in chunks, /hang never.
func echo(t *testing.T) string {
	t.Helper()
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if r.URL.Path == "/hang" {
			<-release
			return
		}
		w.Header().Set("Location", "/run/1")
		w.WriteHeader(http.StatusCreated)
		text := fmt.Sprintf("%s %s %s %q %d %s", r.Method, r.Host, r.RequestURI, r.Header.Get("Authorization"), len(body), body)
		for _, part := range strings.SplitAfter(text, " ") {
			_, _ = io.WriteString(w, part)
			if r.URL.Path == "/chunked" {
				_ = http.NewResponseController(w).Flush()
			}
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(release) })
	return strings.TrimPrefix(server.URL, "http://")
}

func dial(t *testing.T, host string, timeout time.Duration) *Conn {
	t.Helper()
	conn, err := Dial(t.Context(), host, timeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestOneConnectionSendsRequestAfterRequest(t *testing.T) {
	host := echo(t)
	conn := dial(t, host, 10*time.Second)
	long := strings.Repeat("x", 100_000)
	for _, request := range []struct{ method, path, body string }{
		{"GET", "/a?b=c", ""}, {"POST", "/upload", "body"}, {"POST", "/chunked", long}, {"GET", "/chunked", ""}, {"POST", "/upload", long},
	} {
		head := Head(request.method, host, request.path, len(request.body), "Authorization", "secret")
		answer, err := conn.Do(head, []byte(request.body))
		if err != nil {
			t.Fatalf("%s %s: %v", request.method, request.path, err)
		}
		want := fmt.Sprintf("%s %s %s %q %d %s", request.method, host, request.path, "secret", len(request.body), request.body)
		if answer.Status != http.StatusCreated || answer.Header.Get("Location") != "/run/1" || string(answer.Body) != want {
			t.Errorf("%s %s: status %d, %d bytes beginning %.60q", request.method, request.path, answer.Status, len(answer.Body), answer.Body)
		}
	}
}

func TestAServerThatDoesNotAnswerIsGivenUp(t *testing.T) {
	host := echo(t)
	if _, err := dial(t, host, 50*time.Millisecond).Do(Head("GET", host, "/hang", 0), nil); err == nil {
		t.Error("no error from a server that does not answer")
	}
}

func TestNobodyListening(t *testing.T) {
	if _, err := Dial(t.Context(), "127.0.0.1:1", time.Second); err == nil {
		t.Error("connected to a port on which nobody listens")
	}
}
