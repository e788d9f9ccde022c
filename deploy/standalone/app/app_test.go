package app

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/deploy/standalone/backup"
	"github.com/millrace/millrace/deploy/standalone/config"
	"github.com/millrace/millrace/deploy/standalone/demo"
)

// running is a standalone in this process.
type running struct {
	base string
	stop func()
}

func runStandalone(t *testing.T, change func(*config.Config)) *running {
	t.Helper()
	c := config.Default()
	c.Listen = "127.0.0.1:0"
	change(&c)
	ctx, cancel := context.WithCancel(context.Background())
	started, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- Run(ctx, Options{
			Role: Standalone, Config: c, Version: "test", Progress: io.Discard, Logger: slog.New(slog.DiscardHandler),
			Started: func(address string) { started <- address },
		})
	}()
	r := &running{}
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the standalone ended with %v", err)
		}
	}
	t.Cleanup(r.stop)
	select {
	case address := <-started:
		r.base = "http://" + address
	case err := <-ended:
		stopped = true
		t.Fatalf("the standalone did not start: %v", err)
	}
	return r
}

var position = regexp.MustCompile(`"position":"[^"]*"`)

// get gives a body without the position, which names the log that answers.
func (r *running) get(t *testing.T, path string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, position.ReplaceAllString(string(body), "")
}

// await waits until a path answers 200.
func (r *running) await(t *testing.T, path string) {
	t.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for range ticker.C {
		if status, _ := r.get(t, path); status == http.StatusOK {
			return
		}
	}
}

// awaitDemo waits until the recorded history is loaded.
func (r *running) awaitDemo(t *testing.T) {
	t.Helper()
	r.await(t, "/run/40")
}

var pages = []string{
	"/machine/list", "/benchmark/machines", "/benchmark/history/1", "/benchmark/postgres/1", "/benchmark/pgbench_trends/1/2", "/run/7",
	"/benchmark/pgbench_results_complete/7169", "/millrace/v1/runs?limit=50", "/millrace/v1/results?limit=20",
	"/millrace/v1/trend?machine=1&config=1&branch=1&metric=tps&resolution=hour",
}

func (r *running) pages(t *testing.T) map[string]string {
	t.Helper()
	bodies := map[string]string{}
	for _, page := range pages {
		status, body := r.get(t, page)
		if status != http.StatusOK {
			t.Fatalf("%s answers %d: %s", page, status, body)
		}
		bodies[page] = body
	}
	return bodies
}

func TestABackupBringsEverythingBackOnAnotherMachineNumbersIncluded(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	live := runStandalone(t, func(c *config.Config) { c.Data, c.Demo = first, true })
	live.awaitDemo(t)
	want := live.pages(t)
	live.stop()

	settings := config.Default()
	settings.Data = first
	options := Options{Role: Standalone, Config: settings, Version: "test", Progress: io.Discard, Logger: slog.New(slog.DiscardHandler)}
	var saved bytes.Buffer
	if err := Backup(t.Context(), options, &saved); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), options, bytes.NewReader(saved.Bytes())); !errors.Is(err, backup.ErrNotEmpty) {
		t.Errorf("a restore over an installation that holds events: %v", err)
	}
	options.Config.Data = second
	if _, err := Restore(t.Context(), options, bytes.NewReader(saved.Bytes()[:saved.Len()/2])); err == nil {
		t.Error("half a backup was restored without an error")
	}
	options.Config.Data = t.TempDir()
	summary, err := Restore(t.Context(), options, bytes.NewReader(saved.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if summary.Records < 40 {
		t.Errorf("restored %+v, 40 runs were saved", summary)
	}
	restored := runStandalone(t, func(c *config.Config) { c.Data = options.Config.Data })
	restored.await(t, "/readyz") // its projections are built anew
	for page, body := range restored.pages(t) {
		if body != want[page] {
			t.Errorf("%s answers otherwise than before:\n%s\n%s", page, body, want[page])
		}
	}
}

func TestALoadOfTheRecordedHistoryThatWasCutOffIsContinued(t *testing.T) {
	folder := t.TempDir()
	settings := func(c *config.Config) { c.Data, c.Demo = folder, true }
	stored := func(r *running) int {
		_, body := r.get(t, "/millrace/v1/runs?limit=100")
		return strings.Count(body, `"run_id":`)
	}
	first := runStandalone(t, settings)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for stored(first) == 0 {
		<-ticker.C
	}
	first.stop()
	second := runStandalone(t, settings)
	deadline := time.After(time.Minute)
	for stored(second) < demo.Runs {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("%d of %d runs are stored", stored(second), demo.Runs)
		}
	}
}

func TestWritesAnswer503WhileTheDiskIsNearlyFull(t *testing.T) {
	full := runStandalone(t, func(c *config.Config) {
		c.Data = t.TempDir()
		c.Engines.MinFreeBytes = 1 << 62
	})
	if status, body := full.get(t, "/readyz"); status != http.StatusServiceUnavailable || !bytes.Contains([]byte(body), []byte("space")) {
		t.Errorf("/readyz answers %d: %s", status, body)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, full.base+"/user/community_login", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
		t.Errorf("a route of the write side answers %d, Retry-After %q", response.StatusCode, response.Header.Get("Retry-After"))
	}
	if status, _ := full.get(t, "/machine/list"); status != http.StatusOK {
		t.Errorf("a read answers %d", status)
	}
}
