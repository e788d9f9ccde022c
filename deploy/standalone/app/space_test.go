package app

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/deploy/standalone/config"
	"github.com/millrace/millrace/schemas/route"
)

// fullLog is the space of a data folder whose log is longer than it may be, and the file that makes it so.
func fullLog(t *testing.T, patience time.Duration) (*space, string) {
	c := config.Default()
	c.Data, c.Engines.MaxLogBytes, c.Engines.MinFreeBytes, c.Ingest.UploadPatience = t.TempDir(), 10, 0, patience
	file := filepath.Join(logFolder(c), "partitions", "runs-0", "segment")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, make([]byte, 11), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := newSpace(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s, file
}

func TestAWriteWaitsUntilTheLogIsTrimmedBelowItsLimit(t *testing.T) {
	s, file := fullLog(t, time.Hour)
	if err := s.Check(t.Context()); err == nil {
		t.Error("the readiness check says nothing of a log beyond its limit")
	}
	admitted := make(chan error, 1)
	go func() { admitted <- s.admit(t.Context()) }()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := s.look(); err != nil {
		t.Fatal(err)
	}
	if err := <-admitted; err != nil {
		t.Errorf("a write that waited is refused although there is room again: %v", err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Errorf("the readiness check after the trim: %v", err)
	}
}

func TestAWriteIsRefusedWhenTheLogStaysBeyondItsLimit(t *testing.T) {
	s, _ := fullLog(t, time.Millisecond)
	if err := s.admit(t.Context()); err == nil {
		t.Error("a write is admitted to a log beyond its limit")
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	s.patience = time.Hour
	if err := s.admit(gone); err == nil {
		t.Error("a write whose client has gone is admitted to a log beyond its limit")
	}
}

func TestAFileThatComesWhileTheDiskFillsUpIsBrokenOff(t *testing.T) {
	c := config.Default()
	c.Data, c.Engines.MinFreeBytes = t.TempDir(), 0
	s, err := newSpace(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var read string
	var failed error
	guarded := s.guard([]route.Route{{Side: route.Ingest, Access: route.Anyone, Streams: true, Handler: func(c *gin.Context) {
		first := make([]byte, 5)
		if _, err := io.ReadFull(c.Request.Body, first); err != nil {
			t.Error(err)
		}
		s.least = 1 << 62
		if err := s.look(); err != nil {
			t.Error(err)
		}
		rest, err := io.ReadAll(c.Request.Body)
		read, failed = string(first)+string(rest), err
	}}})
	asked, _ := gin.CreateTestContext(httptest.NewRecorder())
	asked.Request = httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader("first and second"))
	guarded[0].Handler(asked)
	refusal, is := errors.AsType[*route.Error](failed)
	if !is || refusal.Status != http.StatusServiceUnavailable || read != "first" {
		t.Errorf("%q of the file is read, then %v; want its beginning and 503", read, failed)
	}
}
