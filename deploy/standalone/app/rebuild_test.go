package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/deploy/standalone/config"
	"github.com/millrace/millrace/processor/pgperffarm/farmdoc"
	"github.com/millrace/millrace/processor/replay"
)

// loseProjections drops the current generation of an installation that does not run.
func loseProjections(t *testing.T, c config.Config) {
	t.Helper()
	options := Options{Role: Standalone, Config: c, Progress: io.Discard, Logger: slog.New(slog.DiscardHandler)}
	k, err := openCore(t.Context(), options, prometheus.NewRegistry(), keyMustExist)
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	if err := k.db.Exec(t.Context(), "DROP DATABASE `"+k.generation.Database()+"` SYNC"); err != nil {
		t.Fatal(err)
	}
}

// operate sends a command by the operator's socket and gives the answer.
func operate(t *testing.T, folder, path, body string) []byte {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(folder, SocketName))
	}}}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://millrace/millrace/v1/admin/"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil || response.StatusCode/100 != 2 {
		t.Fatalf("%s answers %d: %s (%v)", path, response.StatusCode, answer, err)
	}
	return answer
}

// addMachine registers a machine and gives its secret.
func addMachine(t *testing.T, folder string) string {
	t.Helper()
	const secret = "otters-secret"
	operate(t, folder, "pgperffarm/users", `{"name": "jane"}`)
	operate(t, folder, "pgperffarm/machines", `{"alias": "otter", "owner": "jane", "approved": true, "secret": "`+secret+`"}`)
	return secret
}

func TestWhileLostProjectionsAreBuiltAgainHealthAnswersAndUploadsAreTaken(t *testing.T) {
	folder := t.TempDir()
	settings := func(c *config.Config) { c.Data, c.Demo = folder, true }
	first := runStandalone(t, settings)
	first.awaitDemo(t)
	want := first.pages(t)
	first.stop()
	c := config.Default()
	c.Data = folder
	loseProjections(t, c)

	again := runStandalone(t, func(c *config.Config) {
		c.Data = folder
		c.Processor.BatchRecords = 4
	})
	status, body := again.get(t, "/readyz")
	var ready struct {
		Missing []string
		Reasons map[string]string
	}
	if err := json.Unmarshal([]byte(body), &ready); err != nil || status != http.StatusServiceUnavailable || len(ready.Missing) != 1 ||
		!regexp.MustCompile(`^projections are being rebuilt: \d+ of [1-9]\d* events$`).MatchString(ready.Reasons["projections"]) {
		t.Errorf("/readyz answers %d: %s (%v)", status, body, err)
	}
	for _, path := range []string{"/healthz", "/metrics"} {
		if status, body := again.get(t, path); status != http.StatusOK {
			t.Errorf("%s answers %d: %s", path, status, body)
		}
	}
	for _, path := range []string{"/run/7", "/millrace/v1/runs"} {
		if status, body := again.get(t, path); status != http.StatusServiceUnavailable || !json.Valid([]byte(body)) {
			t.Errorf("%s answers %d: %s", path, status, body)
		}
	}
	again.upload(t, addMachine(t, folder))
	if status, body := again.get(t, "/readyz"); status == http.StatusOK {
		t.Fatalf("the projections were built again before all was asked: /readyz answers %s", body)
	}
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for status, _ := again.get(t, "/readyz"); status != http.StatusOK; status, _ = again.get(t, "/readyz") {
		<-ticker.C
	}
	if status, body := again.get(t, "/run/41"); status != http.StatusOK {
		t.Errorf("the run that was uploaded meanwhile answers %d: %s", status, body)
	}
	for _, page := range []string{"/run/7", "/benchmark/pgbench_results_complete/7169", "/millrace/v1/trend?machine=1&config=1&branch=1&metric=tps&resolution=hour"} {
		if _, body := again.get(t, page); body != want[page] {
			t.Errorf("%s answers otherwise than before:\n%s\n%s", page, body, want[page])
		}
	}
}

// upload uploads a run, which must be taken.
func (r *running) upload(t *testing.T, secret string) {
	t.Helper()
	document := farmdoc.Synthetic(farmdoc.Small(farmdoc.Options{Seed: 1, Start: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)}))
	r.post(t, "/run/upload/", secret, document)
}

// post sends a document, which must be taken.
func (r *running) post(t *testing.T, path, authorization string, document []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.base+path, bytes.NewReader(document))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", authorization)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if answer, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusCreated {
		t.Fatalf("%s answers %d: %s", path, response.StatusCode, answer)
	}
}

func TestOfTwoRebuildsAtOnceOneBecomesCurrentAndWhole(t *testing.T) {
	p := startPipeline(t, t.TempDir())
	begin := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	for n := range 5 {
		p.upload(t, 1, begin.Add(time.Duration(n)*time.Minute), uint64(n))
	}
	p.awaitProjected(t)
	ended := make(chan error, 2)
	for range cap(ended) {
		go func() {
			_, err := p.processor.Rebuild(t.Context(), nil)
			ended <- err
		}()
	}
	for range cap(ended) {
		if err := <-ended; err != nil && !errors.Is(err, replay.ErrOvertaken) {
			t.Error(err)
		}
	}
	if err := p.generation.Refresh(t.Context()); err != nil || p.generation.Number() < 2 {
		t.Fatalf("generation %d is current (%v)", p.generation.Number(), err)
	}
	p.upload(t, 1, begin.Add(time.Hour), 5)
	p.awaitProjected(t)
	p.wantWhole(t, 6)
}
