package app

import (
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/millrace/millrace/deploy/standalone/config"
	"github.com/millrace/millrace/processor"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

func TestRecordsThatTheLogDeletedBeforeTheyWereArchivedAreReported(t *testing.T) {
	c := config.Default()
	c.Data = t.TempDir()
	var logged strings.Builder
	metrics := prometheus.NewRegistry()
	k, err := openCore(t.Context(), Options{Role: Standalone, Config: c, Progress: io.Discard, Logger: slog.New(slog.DiscardHandler)}, metrics, keyMayBeNew)
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	service, err := processor.New(sinkConfig(c.Processor), processor.Dependencies{
		Client: k.log, DB: k.db, Generation: k.generation, Appender: k.appender, Packer: k.packer, Epoch: k.epoch,
		CodeVersion: "test", Registry: metrics, Tracer: noop.NewTracerProvider().Tracer(""), Logger: slog.New(slog.NewTextHandler(&logged, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	samples := eventlog.Partition{Topic: eventlog.Metrics}
	for range 3 {
		e, err := eventlog.NewEvent("/test", &event.RunSamplesRecorded{Metric: "tps", Times: []int64{1}, Values: []float64{1}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.appender.Append(t.Context(), samples, e); err != nil {
			t.Fatal(err)
		}
	}
	if err := service.Prepare(t.Context()); err != nil || service.CheckLog(t.Context()) != nil {
		t.Fatalf("nothing is lost yet: %v, %v", err, service.CheckLog(t.Context()))
	}
	if err := k.broker.TrimTo(t.Context(), map[string]map[int]int64{samples.Topic: {samples.ID: 2}}); err != nil {
		t.Fatal(err)
	}
	if err := service.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := service.CheckLog(t.Context()); err == nil || !strings.Contains(err.Error(), "2 of metrics/0") {
		t.Errorf("the check says %v", err)
	}
	if lost := gauge(t, metrics, "millrace_log_lost_records"); lost != 2 {
		t.Errorf("the metric counts %v lost records, want 2", lost)
	}
	if !strings.Contains(logged.String(), "level=ERROR") {
		t.Errorf("nothing was logged: %s", logged.String())
	}
}

// gauge sums a gauge over its labels.
func gauge(t *testing.T, metrics *prometheus.Registry, name string) (sum float64) {
	t.Helper()
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			for _, metric := range family.GetMetric() {
				sum += metric.GetGauge().GetValue()
			}
		}
	}
	return sum
}
