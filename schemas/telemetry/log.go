// Package telemetry sets up what a process tells about itself: structured logs,
// Prometheus metrics and OpenTelemetry traces, and carries trace context through
// Kafka headers. Nothing is registered globally: what it makes is passed on.
package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"go.opentelemetry.io/otel/trace"
)

// NewLogger makes a logger that writes lines of the format ("json" or "text") at
// the level ("debug", "info", "warn" or "error") and above. Lines logged with the
// context of a span carry its trace_id and span_id.
func NewLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	var options slog.HandlerOptions
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %q: want debug, info, warn or error", level)
	}
	options.Level = least
	switch format {
	case "json":
		return slog.New(traced{slog.NewJSONHandler(w, &options)}), nil
	case "text":
		return slog.New(traced{slog.NewTextHandler(w, &options)}), nil
	}
	return nil, fmt.Errorf("log format %q: want json or text", format)
}

// traced adds the ids of the context's span to each line.
type traced struct{ slog.Handler }

func (h traced) Handle(ctx context.Context, record slog.Record) error {
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		record.AddAttrs(slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	return h.Handler.Handle(ctx, record)
}

func (h traced) WithAttrs(attrs []slog.Attr) slog.Handler { return traced{h.Handler.WithAttrs(attrs)} }
func (h traced) WithGroup(name string) slog.Handler       { return traced{h.Handler.WithGroup(name)} }
