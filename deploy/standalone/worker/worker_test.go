package worker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/deploy/standalone/app"
	"github.com/millrace/millrace/deploy/standalone/config"
	"github.com/millrace/millrace/deploy/standalone/engines/enginetest"
	"github.com/millrace/millrace/deploy/standalone/worker"
)

// TestMain lets this binary be the embedded ClickHouse's child.
func TestMain(m *testing.M) { enginetest.Main(m) }

// fileLimit is what the server takes for an artifact.
const fileLimit = 4096

// lab is a Millrace in this process, called by its operator's socket.
type lab struct{ client *http.Client }

func startLab(t *testing.T) *lab {
	t.Helper()
	c := config.Default()
	c.Listen, c.Data, c.Files.MaxBytes = "127.0.0.1:0", t.TempDir(), fileLimit
	ctx, cancel := context.WithCancel(context.Background())
	started, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- app.Run(ctx, app.Options{
			Role: app.Standalone, Config: c, Version: "test", Progress: io.Discard, Logger: slog.New(slog.DiscardHandler),
			Started: func(string) { close(started) },
		})
	}()
	select {
	case <-started:
	case err := <-ended:
		cancel()
		t.Fatalf("the lab does not start: %v", err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the lab ended with %v", err)
		}
	})
	socket := filepath.Join(c.Data, app.SocketName)
	return &lab{&http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}}
}

func (l *lab) call(t *testing.T, method, path, body string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://millrace/millrace/v1/jobs"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := l.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(answer)
}

func (l *lab) submit(t *testing.T, queue string) string {
	t.Helper()
	status, answer := l.call(t, http.MethodPost, "", fmt.Sprintf(`{"queue":%q,"payload":{}}`, queue))
	var submitted struct{ ID string }
	if err := json.Unmarshal([]byte(answer), &submitted); err != nil || status != http.StatusCreated {
		t.Fatalf("a submission is answered %d: %s", status, answer)
	}
	return submitted.ID
}

// ended gives how a job ended, as its reader sees it.
func (l *lab) ended(t *testing.T, id string) string {
	t.Helper()
	status, answer := l.call(t, http.MethodGet, "/"+id+"/result", "")
	if status != http.StatusOK {
		t.Fatalf("the result of %s is answered %d: %s", id, status, answer)
	}
	return answer
}

// text is a buffer that may be read while others write.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *text) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *text) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// once runs a shell command for one job, and gives what the worker showed and logged.
func (l *lab) once(t *testing.T, queue, command string, outputBytes int64) (shown, logged string) {
	t.Helper()
	var out, log text
	err := worker.Run(t.Context(), worker.Config{
		Client: l.client, URL: "http://millrace", Queues: []string{queue}, Command: []string{"sh", "-c", command}, Once: true,
		OutputBytes: outputBytes, Environ: os.Environ(), Out: &out, Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String(), log.String()
}

func TestWorker(t *testing.T) {
	l := startLab(t)
	t.Run("leaves what its command writes with the job", l.leavesOutput)
	t.Run("cuts output that is too long and says so", l.cutsOutput)
	t.Run("reports a job whose output is refused", l.reportsWithoutOutput)
	t.Run("takes one job with once", l.takesOne)
	t.Run("takes the queues that jobs can be in", l.takesQueues)
	t.Run("ends without complaint when told to", l.endsQuietly)
}

func (l *lab) leavesOutput(t *testing.T) {
	id := l.submit(t, "kept")
	shown, logged := l.once(t, "kept", "echo begins; echo complains >&2; echo ends; exit 7", 1000)
	const want = "begins\ncomplains\nends\n"
	if status, stored := l.call(t, http.MethodGet, "/"+id+"/artifacts/output.log", ""); status != http.StatusOK || stored != want {
		t.Errorf("the artifact is answered %d: %q, want %q", status, stored, want)
	}
	if shown != want {
		t.Errorf("the worker shows %q, want %q", shown, want)
	}
	if !strings.Contains(logged, "exit_code=7") || !strings.Contains(logged, `error="exit status 7"`) {
		t.Errorf("the log does not say why the job failed:\n%s", logged)
	}
}

func (l *lab) cutsOutput(t *testing.T) {
	id := l.submit(t, "cut")
	shown, _ := l.once(t, "cut", "printf 123456789", 4)
	const want = "1234\n[cut here: 5 bytes more, beyond the worker's --output-bytes 4]\n"
	if _, stored := l.call(t, http.MethodGet, "/"+id+"/artifacts/output.log", ""); stored != want {
		t.Errorf("stored is %q, want %q", stored, want)
	}
	if shown != "123456789" {
		t.Errorf("the worker shows %q", shown)
	}
	for command, limit := range map[string]int64{"echo unwanted": 0, "true": 1000} {
		id := l.submit(t, "cut")
		l.once(t, "cut", command, limit)
		if status, stored := l.call(t, http.MethodGet, "/"+id+"/artifacts/output.log", ""); status != http.StatusNotFound {
			t.Errorf("%s with %d bytes leaves %d: %q", command, limit, status, stored)
		}
	}
}

func (l *lab) reportsWithoutOutput(t *testing.T) {
	id := l.submit(t, "refused")
	// The receiver leaves room for a form, so that much more is needed to be refused.
	_, logged := l.once(t, "refused", "head -c 2000000 /dev/zero", 4<<20)
	if !strings.Contains(logged, "the job's output is not stored") || !strings.Contains(logged, "over the limit") || !strings.Contains(logged, "level=WARN") {
		t.Errorf("the log does not say why the output is not stored:\n%s", logged)
	}
	if !strings.Contains(logged, `msg="job ended"`) || !strings.Contains(l.ended(t, id), `"pass"`) {
		t.Errorf("the job is not reported: %s\n%s", l.ended(t, id), logged)
	}
}

func (l *lab) takesOne(t *testing.T) {
	l.submit(t, "one")
	l.submit(t, "one")
	for _, want := range []string{"worked\n", "worked\n", ""} {
		if shown, _ := l.once(t, "one", "echo worked", 0); shown != want {
			t.Errorf("the worker shows %q, want %q", shown, want)
		}
	}
}

// takesQueues compares with what the server says to a job of the queue.
func (l *lab) takesQueues(t *testing.T) {
	for _, queue := range []string{"a", "a/b", "_a.b-c", "a b", "", "/a", ".a", "-a", "ä", "a+b", strings.Repeat("a", 200), strings.Repeat("a", 201)} {
		status, answer := l.call(t, http.MethodPost, "", fmt.Sprintf(`{"queue":%q,"payload":{}}`, queue))
		err := worker.Run(t.Context(), worker.Config{
			Client: l.client, URL: "http://millrace", Queues: []string{queue}, Command: []string{"true"}, Once: true,
			Out: io.Discard, Logger: slog.New(slog.DiscardHandler),
		})
		if (err == nil) != (status == http.StatusCreated) {
			t.Errorf("queue %q: the worker says %v, the server %d: %s", queue, err, status, answer)
		}
	}
	for queue, good := range map[string]bool{"debci/sid/amd64": true, "testflinger/any thing": true, "debci/sid": false, "debci//amd64": false, "testflinger/": true} {
		err := worker.Run(t.Context(), worker.Config{
			Client: l.client, URL: "http://millrace", Queues: []string{queue}, Command: []string{"true"}, Once: true,
			Out: io.Discard, Logger: slog.New(slog.DiscardHandler),
		})
		if (err == nil) != good {
			t.Errorf("queue %q: the worker says %v", queue, err)
		}
	}
}

// endsQuietly tells the worker to end while its claim waits at the server.
func (l *lab) endsQuietly(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	client := *l.client
	client.Transport = afterSent{l.client.Transport, end}
	var log text
	err := worker.Run(ctx, worker.Config{
		Client: &client, URL: "http://millrace", Queues: []string{"idle"}, Command: []string{"true"},
		Out: io.Discard, Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil || log.String() != "" {
		t.Errorf("the worker ends with %v, and logs %s", err, log.String())
	}
}

// afterSent does something once a request's body has been sent.
type afterSent struct {
	http.RoundTripper

	do func()
}

func (a afterSent) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Body = struct {
		io.Reader
		io.Closer
	}{r.Body, closer(func() error { a.do(); return nil })}
	return a.RoundTripper.RoundTrip(r)
}

type closer func() error

func (c closer) Close() error { return c() }
