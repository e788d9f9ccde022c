package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/millrace/millrace/schemas/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	traceID = "0af7651916cd43dd8448eb211c80319c"
	spanID  = "b7ad6b7169203331"
	parent  = "00-" + traceID + "-" + spanID + "-01"
)

// spanned gives a context in the span that parent names.
func spanned() context.Context {
	return telemetry.Extract(context.Background(), []kafka.Header{{Key: "traceparent", Value: []byte(parent)}})
}

func TestLoggerWritesTheFormatAtItsLevelWithTheSpan(t *testing.T) {
	var out bytes.Buffer
	log, err := telemetry.NewLogger(&out, "json", "warn")
	if err != nil {
		t.Fatal(err)
	}
	log.Info("not this")
	log.With("event", "7").WarnContext(spanned(), "this")
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("want one line of JSON, got %q: %v", out.String(), err)
	}
	delete(line, "time")
	want := map[string]any{"level": "WARN", "msg": "this", "event": "7", "trace_id": traceID, "span_id": spanID}
	if diff := cmp.Diff(want, line); diff != "" {
		t.Errorf("line differs (-want +got):\n%s", diff)
	}

	out.Reset()
	log, err = telemetry.NewLogger(&out, "text", "debug")
	if err != nil {
		t.Fatal(err)
	}
	log.WithGroup("g").Debug("this too", "a", 1)
	if !strings.Contains(out.String(), `level=DEBUG msg="this too" g.a=1`) || strings.Contains(out.String(), "trace_id") {
		t.Errorf("line is %q, want text without a span", out.String())
	}
}

func TestLoggerRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, tc := range []struct{ format, level, want string }{
		{"xml", "info", `log format "xml": want json or text`},
		{"json", "loud", `log level "loud": want debug`},
	} {
		if _, err := telemetry.NewLogger(io.Discard, tc.format, tc.level); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("error is %v, want %q", err, tc.want)
		}
	}
}

// faulty is a collector that cannot collect.
type faulty struct{}

func (faulty) Describe(chan<- *prometheus.Desc) {}
func (faulty) Collect(metrics chan<- prometheus.Metric) {
	metrics <- prometheus.NewInvalidMetric(prometheus.NewDesc("x", "x", nil, nil), errors.New("engine gone"))
}

func TestMetricsShowVersionAndRuntimeThoughOneCollectorFails(t *testing.T) {
	var out bytes.Buffer
	registry := telemetry.NewRegistry("1.2.3")
	registry.MustRegister(faulty{})
	w := httptest.NewRecorder()
	telemetry.MetricsHandler(registry, slog.New(slog.NewTextHandler(&out, nil))).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{`millrace_build_info{version="1.2.3"} 1`, "go_goroutines", "process_open_fds"} {
		if w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("status %d, metrics lack %s", w.Code, want)
		}
	}
	if !strings.Contains(out.String(), "engine gone") {
		t.Errorf("the failing collector is not in the log: %q", out.String())
	}
}

func TestTraceTravelsInKafkaHeaders(t *testing.T) {
	headers := []kafka.Header{{Key: "ce_id", Value: []byte("1")}, {Key: "traceparent", Value: []byte("stale")}}
	ctx := telemetry.Extract(context.Background(), []kafka.Header{
		{Key: "traceparent", Value: []byte(parent)}, {Key: "tracestate", Value: []byte("a=b")}})
	telemetry.Inject(ctx, &headers)
	want := []kafka.Header{{Key: "ce_id", Value: []byte("1")}, {Key: "traceparent", Value: []byte(parent)}, {Key: "tracestate", Value: []byte("a=b")}}
	if diff := cmp.Diff(want, headers); diff != "" {
		t.Errorf("headers differ (-want +got):\n%s", diff)
	}
	got := trace.SpanContextFromContext(telemetry.Extract(context.Background(), headers))
	if got.TraceID().String() != traceID || got.SpanID().String() != spanID || !got.IsRemote() {
		t.Errorf("span context is %v, want the one that was written", got)
	}
}

func TestWithoutSpanHeadersStayAsTheyAre(t *testing.T) {
	var headers []kafka.Header
	telemetry.Inject(context.Background(), &headers)
	if len(headers) != 0 {
		t.Errorf("headers are %v, want none", headers)
	}
	ctx := telemetry.Extract(context.Background(), []kafka.Header{{Key: "traceparent", Value: []byte("nonsense")}})
	if trace.SpanContextFromContext(ctx).IsValid() {
		t.Error("nonsense was taken for a span")
	}
}

func TestSpansAreSentToTheReceiverAtTheLatestOnShutdown(t *testing.T) {
	var posts atomic.Int32
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/v1/traces" && len(body) > 0 {
			posts.Add(1)
		}
	}))
	defer receiver.Close()
	tracing := newTracing(t, telemetry.TraceConfig{Endpoint: receiver.URL + "/v1/traces", Service: "ingest", Version: "1", Ratio: 1}, slog.DiscardHandler)
	_, span := tracing.Tracer("test").Start(context.Background(), "work")
	span.End()
	if err := tracing.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	if posts.Load() != 1 {
		t.Errorf("%d requests reached the receiver, want 1", posts.Load())
	}
}

func TestSpansThatTheReceiverRefusesAreLogged(t *testing.T) {
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer receiver.Close()
	var out bytes.Buffer
	tracing := newTracing(t, telemetry.TraceConfig{Endpoint: receiver.URL, Ratio: 1}, slog.NewTextHandler(&out, nil))
	_, span := tracing.Tracer("test").Start(context.Background(), "work")
	span.End()
	if err := tracing.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "spans were not taken") {
		t.Errorf("log is %q, want the refusal", out.String())
	}
}

func TestRatioDecidesWhatNoClientDecided(t *testing.T) {
	receiver := httptest.NewServer(http.NotFoundHandler())
	defer receiver.Close()
	tracing := newTracing(t, telemetry.TraceConfig{Endpoint: receiver.URL, Ratio: 0}, slog.DiscardHandler)
	defer tracing.Shutdown(context.Background())
	_, own := tracing.Tracer("test").Start(context.Background(), "own")
	_, clients := tracing.Tracer("test").Start(spanned(), "client's")
	if own.IsRecording() || !clients.IsRecording() {
		t.Errorf("own trace recorded %t, client's %t; want only the client's", own.IsRecording(), clients.IsRecording())
	}
}

func TestWithoutReceiverTheClientsTraceIsStillPassedOn(t *testing.T) {
	tracing := newTracing(t, telemetry.TraceConfig{}, slog.DiscardHandler)
	ctx, span := tracing.Tracer("test").Start(spanned(), "work")
	span.End()
	var headers []kafka.Header
	telemetry.Inject(ctx, &headers)
	if len(headers) != 1 || string(headers[0].Value) != parent {
		t.Errorf("headers are %v, want the client's trace", headers)
	}
	if err := tracing.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestRatioOutOfRangeIsRefused(t *testing.T) {
	for _, ratio := range []float64{-0.1, 1.1, math.NaN()} {
		if _, err := telemetry.NewTracing(context.Background(), telemetry.TraceConfig{Ratio: ratio}, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("ratio %g was taken", ratio)
		}
	}
}

func newTracing(t *testing.T, config telemetry.TraceConfig, log slog.Handler) *telemetry.Tracing {
	t.Helper()
	tracing, err := telemetry.NewTracing(context.Background(), config, slog.New(log))
	if err != nil {
		t.Fatal(err)
	}
	return tracing
}
