package app

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace/millrace/deploy/standalone/config"
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
