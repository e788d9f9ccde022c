package sink

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/telemetry"
)

// maxLinks bounds the requests that one batch's span names.
const maxLinks = 64

// startSpan begins the span of a batch. It continues the trace of the first request whose record it holds, so that a
// lone upload is one trace from its door to its rows, and links to the others.
func (s *Sink) startSpan(ctx context.Context, partition eventlog.Partition, records []eventlog.Record) (context.Context, trace.Span) {
	var links []trace.Link
	for i := range records {
		if len(records[i].Trace) == 0 {
			continue
		}
		request := trace.SpanContextFromContext(telemetry.Extract(context.Background(), records[i].Trace))
		if !request.IsValid() {
			continue
		}
		if links = append(links, trace.Link{SpanContext: request}); len(links) == maxLinks {
			break
		}
	}
	if len(links) > 0 {
		ctx = trace.ContextWithRemoteSpanContext(ctx, links[0].SpanContext)
		links = links[1:]
	}
	return s.tracer.Start(ctx, "project batch", trace.WithSpanKind(trace.SpanKindConsumer), trace.WithLinks(links...), trace.WithAttributes(
		attribute.String("messaging.destination.name", partition.Topic),
		attribute.Int("messaging.destination.partition.id", partition.ID),
		attribute.Int("messaging.batch.message_count", len(records)),
		attribute.String("messaging.message.id", records[0].ID.String()),
	))
}
