package route

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// w3c carries trace context in the headers traceparent and tracestate.
var w3c propagation.TraceContext

// spanOptions are what every span of a route starts with.
func (mt *mounted) spanOptions() []trace.SpanStartOption {
	return []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(
			attribute.String("http.request.method", mt.method()),
			attribute.String("http.route", mt.Path),
			attribute.String("millrace.api", mt.API),
		),
	}
}

// startSpan opens the request's span, a child of the client's if it sent one.
func (mt *mounted) startSpan(request *http.Request) (context.Context, trace.Span) {
	ctx := w3c.Extract(request.Context(), propagation.HeaderCarrier(request.Header))
	return mt.mount.tracer.Start(ctx, mt.key, mt.spans...)
}

func endSpan(span trace.Span, status int) {
	span.SetAttributes(attribute.Int("http.response.status_code", status))
	if status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, http.StatusText(status))
	}
	span.End()
}
