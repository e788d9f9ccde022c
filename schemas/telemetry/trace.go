package telemetry

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/segmentio/kafka-go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// TraceConfig says where spans go.
type TraceConfig struct {
	// Endpoint is the URL of an OTLP/HTTP receiver, as in
	// http://127.0.0.1:4318/v1/traces. Empty records no spans; the trace context
	// of clients is still passed on.
	Endpoint string
	// Service and Version name the process in the spans.
	Service, Version string
	// Ratio is the share of traces to record that no client decided on, 0 to 1.
	Ratio float64
}

// Tracing makes tracers, and must be shut down to send the last spans.
type Tracing struct {
	trace.TracerProvider
	shutdown func(context.Context) error
}

// NewTracing starts to record spans as configured. A receiver out of reach is
// logged and costs its spans, nothing else.
func NewTracing(ctx context.Context, config TraceConfig, log *slog.Logger) (*Tracing, error) {
	if !(config.Ratio >= 0 && config.Ratio <= 1) {
		return nil, fmt.Errorf("share of traces to record is %g: want 0 to 1", config.Ratio)
	}
	if config.Endpoint == "" {
		return &Tracing{noop.NewTracerProvider(), func(context.Context) error { return nil }}, nil
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(config.Endpoint))
	if err != nil {
		return nil, fmt.Errorf("set up traces to %s: %w", config.Endpoint, err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(logged{exporter, log}),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(config.Ratio))),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", config.Service), attribute.String("service.version", config.Version))),
	)
	return &Tracing{provider, provider.Shutdown}, nil
}

// Shutdown sends the spans that wait, and records no more.
func (t *Tracing) Shutdown(ctx context.Context) error {
	if err := t.shutdown(ctx); err != nil {
		return fmt.Errorf("send the last spans: %w", err)
	}
	return nil
}

// logged reports failed exports to our log, not to the library's global one.
type logged struct {
	sdktrace.SpanExporter
	log *slog.Logger
}

func (e logged) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if err := e.SpanExporter.ExportSpans(ctx, spans); err != nil {
		e.log.WarnContext(ctx, "spans were not taken", slog.Int("spans", len(spans)), slog.Any("error", err))
	}
	return nil
}

// w3c writes and reads the fields traceparent and tracestate.
var w3c propagation.TraceContext

// Inject adds the context's span to a record's headers, in the place of one that
// they already name. Without a span it does nothing.
func Inject(ctx context.Context, headers *[]kafka.Header) {
	w3c.Inject(ctx, carrier{headers})
}

// Extract gives a context in which spans are children of the one that a record's
// headers name.
func Extract(ctx context.Context, headers []kafka.Header) context.Context {
	return w3c.Extract(ctx, carrier{&headers})
}

// carrier presents a record's headers to the propagator.
type carrier struct{ headers *[]kafka.Header }

func (c carrier) Get(key string) string {
	for _, header := range *c.headers {
		if header.Key == key {
			return string(header.Value)
		}
	}
	return ""
}

func (c carrier) Set(key, value string) {
	for i, header := range *c.headers {
		if header.Key == key {
			(*c.headers)[i].Value = []byte(value)
			return
		}
	}
	*c.headers = append(*c.headers, kafka.Header{Key: key, Value: []byte(value)})
}

func (c carrier) Keys() []string {
	keys := make([]string, len(*c.headers))
	for i, header := range *c.headers {
		keys[i] = header.Key
	}
	return keys
}
