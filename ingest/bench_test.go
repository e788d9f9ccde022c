package ingest_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/millrace/millrace/processor/pgperffarm/farmdoc"
	"github.com/millrace/millrace/schemas/eventlog"
)

// BenchmarkUpload sends documents over keep-alive connections, beside a Gin handler that only appends the same bodies with
// the same acknowledgement: uploads must reach 0.6 of it.
func BenchmarkUpload(b *testing.B) {
	e := openEngines(b)
	s := e.start(b)
	owner, alias, secret := "owner-"+e.mark, "m-"+e.mark, "s-"+e.mark
	const admin = "/millrace/v1/admin/pgperffarm"
	send(s.operator, admin+"/users", "", fmt.Sprintf(`{"name": %q}`, owner))
	if answer := send(s.operator, admin+"/machines", "", fmt.Sprintf(`{"alias": %q, "owner": %q, "approved": true, "secret": %q}`, alias, owner, secret)); answer.Code != http.StatusCreated {
		b.Fatalf("machine add: %d %s", answer.Code, answer.Body)
	}
	bare := gin.New()
	bare.POST("/append", func(c *gin.Context) {
		body, err := io.ReadAll(c.Request.Body)
		if err != nil {
			c.Status(http.StatusBadRequest)
			return
		}
		event := eventlog.Event{ID: uuid.Must(uuid.NewV7()), Type: "bare", Source: "/bare", Time: time.Now().UTC(), Data: body}
		if _, err := s.appender.Append(c.Request.Context(), eventlog.Partition{Topic: eventlog.Results}, event); err != nil {
			c.Status(http.StatusServiceUnavailable)
			return
		}
		c.Status(http.StatusCreated)
	})
	doors := []loaded{{"bare", bare, "/append"}, {"upload", s.handler, "/run/upload"}}
	var next atomic.Int64
	next.Store(946684800)
	for _, size := range []struct {
		name string
		of   func(farmdoc.Options) farmdoc.Options
	}{{"2KB", farmdoc.Small}, {"100KB", farmdoc.Large}} {
		document := farmdoc.Synthetic(size.of(farmdoc.Options{Start: time.Unix(next.Load(), 0)}))
		for _, connections := range []int{8, 64} {
			for _, d := range doors {
				b.Run(fmt.Sprintf("%s/%d/%s", size.name, connections, d.name), func(b *testing.B) {
					d.load(b, connections, secret, document, &next)
				})
			}
		}
	}
}

// loaded is a handler under load.
type loaded struct {
	name    string
	handler http.Handler
	path    string
}

// load sends a document over and over, each time with another start.
func (d *loaded) load(b *testing.B, connections int, secret string, document []byte, next *atomic.Int64) {
	server := httptest.NewServer(d.handler)
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections}}
	defer client.CloseIdleConnections()
	at := bytes.Index(document, []byte(startMember)) + len(startMember)
	b.SetParallelism(max(1, connections/runtime.GOMAXPROCS(0)))
	b.RunParallel(func(pb *testing.PB) {
		body := bytes.Clone(document)
		for pb.Next() {
			copy(body[at:], time.Unix(next.Add(1), 0).UTC().Format("2006-01-02T15:04:05"))
			post(b, client, server.URL+d.path, secret, body)
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "uploads/s")
}

const startMember = `"run_start_time": "`

func post(b *testing.B, client *http.Client, address, secret string, body []byte) {
	request, err := http.NewRequest(http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		b.Error(err)
		return
	}
	request.Header.Set("Authorization", secret)
	response, err := client.Do(request)
	if err != nil {
		b.Error(err)
		return
	}
	defer func() { _ = response.Body.Close() }()
	if answer, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusCreated {
		b.Errorf("%s: %d %s %v", address, response.StatusCode, answer, err)
	}
}
