package main

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/deploy/standalone/engines/kafka"
	"github.com/millrace/millrace/schemas/eventlog"
)

func TestABodyIsInTheLogWhenTheAnswerComes(t *testing.T) {
	logger := slog.New(slog.DiscardHandler)
	broker, err := kafka.Start(t.Context(), kafka.Options{Dir: t.TempDir(), Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = broker.Close() })
	log, err := eventlog.Dial(t.Context(), eventlog.Config{Brokers: []string{broker.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(log.Close)
	appender := eventlog.NewAppender(log, eventlog.AppenderConfig{MaxWaiting: 1 << 20}, prometheus.NewRegistry(), logger)
	t.Cleanup(appender.Close)
	server := httptest.NewServer(handler(appender))
	t.Cleanup(server.Close)

	bodies := []string{"first", strings.Repeat("x", 100<<10), strings.Repeat("x", maxBody+1)}
	statuses := []int{http.StatusCreated, http.StatusCreated, http.StatusRequestEntityTooLarge}
	for i, body := range bodies {
		response, err := http.Post(server.URL+"/append", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != statuses[i] {
			t.Errorf("%d bytes: status %d, want %d", len(body), response.StatusCode, statuses[i])
		}
	}
	if stored := read(t, log, 2); stored[0] != bodies[0] || stored[1] != bodies[1] {
		t.Errorf("the log holds %d and %d bytes, want those that were sent", len(stored[0]), len(stored[1]))
	}
}

// read gives the first n bodies in the log, and fails when there are more.
func read(t *testing.T, log *eventlog.Client, n int) []string {
	t.Helper()
	partition := eventlog.Partition{Topic: eventlog.Runs}
	ends, err := log.Ends(t.Context(), partition)
	if err != nil {
		t.Fatal(err)
	}
	if ends[partition] != int64(n) {
		t.Fatalf("the log has %d records, want %d", ends[partition], n)
	}
	ctx, enough := context.WithCancel(t.Context())
	defer enough()
	var bodies []string
	err = log.Tail(ctx, partition, 0, slog.New(slog.DiscardHandler), func(records []eventlog.Record) error {
		for _, record := range records {
			bodies = append(bodies, string(record.Data))
		}
		if len(bodies) == n {
			enough()
		}
		return nil
	})
	if len(bodies) != n {
		t.Fatalf("read %d of %d records: %v", len(bodies), n, err)
	}
	return bodies
}
