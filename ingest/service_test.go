package ingest

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/ingest/door/doortest"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/keyring"
)

// starting is a process of an installation of its own, on a log.
type starting struct {
	log      *doortest.Log
	registry door.Fold[*registry.State, registry.Outcome]
	ring     *keyring.Keyring
}

func (s *starting) start() error {
	return NameKey(context.Background(), s.log.Door(), s.registry, s.ring)
}

func newStarting(t *testing.T, log *doortest.Log) *starting {
	t.Helper()
	ring, err := keyring.Open(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	return &starting{log: log, registry: doortest.NewFold(log, registry.Fold()), ring: ring}
}

func TestFirstStartNamesTheInstallationsKeyOnce(t *testing.T) {
	log := doortest.NewLog(time.Now)
	s := newStarting(t, log)
	for range 2 {
		if err := s.start(); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(log.Records(eventlog.Registry)); n != 1 {
		t.Errorf("%d events were written, want 1", n)
	}
}

func TestServiceWithAnotherKeyRefusesToStart(t *testing.T) {
	log := doortest.NewLog(time.Now)
	if err := newStarting(t, log).start(); err != nil {
		t.Fatal(err)
	}
	err := newStarting(t, log).start()
	if err == nil || !strings.Contains(err.Error(), "MILLRACE_KEY_FILE") {
		t.Errorf("error is %v, want one that says what to do", err)
	}
}

func TestOfTwoFirstStartsWithDifferentKeysOneIsRefused(t *testing.T) {
	log := doortest.NewLog(time.Now)
	first, second := newStarting(t, log), newStarting(t, log)
	// The second looks before the first has written, and writes after it.
	second.registry = late{Fold: second.registry.(*doortest.Fold[*registry.State, registry.Outcome]), first: func() {
		if err := first.start(); err != nil {
			t.Error(err)
		}
	}}
	if err := second.start(); err == nil {
		t.Error("two keys were named for one log")
	}
}

// late lets another process be faster than this one's decision.
type late struct {
	*doortest.Fold[*registry.State, registry.Outcome]
	first func()
}

func (l late) Decide(ctx context.Context, event eventlog.Event) (registry.Outcome, int64, error) {
	l.first()
	return l.Fold.Decide(ctx, event)
}

func TestDefaultConfigurationIsValid(t *testing.T) {
	config := DefaultConfig()
	if err := config.Validate(); err != nil {
		t.Error(err)
	}
	config.KeepKeys = 0
	if err := config.Validate(); err == nil || !strings.Contains(err.Error(), "idempotency keys") {
		t.Errorf("error is %v, want one that names idempotency keys", err)
	}
}
