package route_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/millrace/millrace/schemas/route"
)

// nowhere is a ResponseWriter that costs nothing itself.
type nowhere struct{ header http.Header }

func (w nowhere) Header() http.Header         { return w.header }
func (w nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (w nowhere) WriteHeader(int)             {}

// BenchmarkUpload compares a POST of 2 KB through all stages of a mounted route
// (admission, authorization, limits, time limit, metrics, access log switched
// off) with the same handler on a bare engine. The difference is what a request
// pays for the table. The third form adds the tracer of a process that records
// nothing and passes the trace context on.
func BenchmarkUpload(b *testing.B) {
	document := bytes.Repeat([]byte("x"), 2048)
	b.Run("bare", func(b *testing.B) {
		engine := gin.New()
		engine.POST("/run/upload", take)
		upload(b, engine, document)
	})
	b.Run("mounted", func(b *testing.B) { upload(b, farm(b, nil), document) })
	b.Run("mounted with tracer", func(b *testing.B) {
		upload(b, farm(b, noop.NewTracerProvider().Tracer("farm")), document)
	})
}

func take(c *gin.Context) {
	if _, err := io.Copy(io.Discard, c.Request.Body); err != nil {
		route.Refuse(c, err)
		return
	}
	c.Status(http.StatusCreated)
}

// farm mounts an upload as the farm's door does.
func farm(b *testing.B, tracer trace.Tracer) *gin.Engine {
	r := post("/run/upload", 100<<20, take)
	r.Slash, r.Access, r.GzipLimit, r.Timeout = true, route.MachineSecret, 100<<20, time.Minute
	machine := &struct{ id int64 }{7}
	opts := quiet()
	opts.Ingest, opts.Metrics, opts.Tracer = route.NewAdmission(1000, 1<<30), prometheus.NewRegistry(), tracer
	opts.APIs["lab"] = route.API{
		Authorize: func(*gin.Context, route.Access) (any, error) { return machine, nil },
		Header:    http.Header{"X-Content-Type-Options": {"nosniff"}, "X-Frame-Options": {"DENY"}, "Referrer-Policy": {"same-origin"}},
	}
	return engine(b, opts, r)
}

func upload(b *testing.B, engine http.Handler, document []byte) {
	request, err := http.NewRequest(http.MethodPost, "/run/upload", nil)
	if err != nil {
		b.Fatal(err)
	}
	reader := bytes.NewReader(document)
	body := io.NopCloser(reader)
	w := nowhere{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		reader.Reset(document)
		request.Body = body
		request.ContentLength = int64(len(document))
		engine.ServeHTTP(w, request)
	}
}
