// Package e2e tests the promises of Millrace against running engines.
package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/deploy/standalone/engines/kafka"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

func startLog(t testing.TB) *eventlog.Client {
	t.Helper()
	ctx := t.Context()
	broker, err := kafka.Start(ctx, kafka.Options{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = broker.Close() })
	client, err := eventlog.Dial(ctx, eventlog.Config{Brokers: []string{broker.Addr()}, VolumePartitions: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func newAppender(t testing.TB, client *eventlog.Client) *eventlog.Appender {
	t.Helper()
	appender := eventlog.NewAppender(client, eventlog.AppenderConfig{MaxWaiting: 64 << 20}, prometheus.NewRegistry(), slog.Default())
	t.Cleanup(appender.Close)
	return appender
}

func TestEveryAcknowledgedAppendIsInTheLogOnceAtItsOffset(t *testing.T) {
	client := startLog(t)
	appender := newAppender(t, client)
	partition := client.Partitions(eventlog.Runs)[0]
	const callers, each = 16, 50
	offsets := make([]map[int64]string, callers)
	var wait sync.WaitGroup
	for caller := range callers {
		offsets[caller] = map[int64]string{}
		wait.Go(func() {
			for n := range each {
				e, err := eventlog.NewEvent("/test", &event.TokenRevokeRequested{Name: fmt.Sprint(caller, n)})
				if err != nil {
					t.Error(err)
					return
				}
				offset, err := appender.Append(t.Context(), partition, e)
				if err != nil {
					t.Error(err)
					return
				}
				offsets[caller][offset] = e.ID.String()
			}
		})
	}
	wait.Wait()
	want := map[int64]string{}
	for _, part := range offsets {
		for offset, id := range part {
			want[offset] = id
		}
	}
	if len(want) != callers*each {
		t.Fatalf("%d offsets for %d appends", len(want), callers*each)
	}
	seen := 0
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := client.Tail(ctx, partition, 0, slog.Default(), func(records []eventlog.Record) error {
		for _, r := range records {
			if want[r.Offset] != r.ID.String() {
				t.Errorf("offset %d holds event %s, was told %s", r.Offset, r.ID, want[r.Offset])
			}
			seen++
		}
		if seen == len(want) {
			cancel()
		}
		return nil
	})
	if seen != len(want) {
		t.Fatalf("read %d of %d records: %v", seen, len(want), err)
	}
}

func BenchmarkAppend(b *testing.B) {
	client := startLog(b)
	appender := newAppender(b, client)
	partition := client.Partitions(eventlog.Runs)[0]
	for _, callers := range []int{1, 8, 64} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			b.SetParallelism(callers / 2)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					e, _ := eventlog.NewEvent("/test", &event.TokenRevokeRequested{Name: "x"})
					e.Data = make([]byte, 2048)
					if _, err := appender.Append(context.Background(), partition, e); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
		})
	}
}
