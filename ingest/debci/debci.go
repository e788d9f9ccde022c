// Package debci is the write side of the debci API: test requests, retries and publishing. Section numbers in comments are
// those of the API's wire contract.
//
// A test request becomes a job that waits in the queue debci/SUITE/ARCH. What one request asks for is one event, so that
// all of it is accepted or nothing.
package debci

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/processor/debci"
	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/schemas/document"
	"github.com/millrace/millrace/schemas/event"
)

// API is the name of debci's route table.
const API = "debci"

// source names this door in events.
const source = "/debci"

// Config is what an operator can set.
type Config struct {
	Rules debci.Rules
	// MaxTests bounds the tests of one request, MaxBody its size in bytes.
	MaxTests int
	MaxBody  int64
	// KeepKeys is how long an Idempotency-Key is remembered, in log time.
	KeepKeys time.Duration
}

// DefaultConfig is a configuration in which nothing may be tested.
func DefaultConfig() Config {
	return Config{MaxTests: 10_000, MaxBody: 16 << 20, KeepKeys: door.DefaultKeep}
}

// Validate reports all mistakes at once.
func (c *Config) Validate() error {
	var errs []error
	bad := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(c.MaxTests < 1 || c.MaxTests > mostTests, "a debci request may have %d tests: want 1 to %d", c.MaxTests, mostTests)
	bad(c.MaxBody < 1<<10, "the largest debci request is %d bytes: allow at least 1024", c.MaxBody)
	bad(c.KeepKeys < time.Second, "idempotency keys are kept for %s: want at least 1s", c.KeepKeys)
	return errors.Join(errs...)
}

// mostTests keeps an event within a record, whatever is in the reject list.
const mostTests = 50_000

// Test is a test request that is stored.
type Test struct {
	Owner, SealedOwner []byte
	Private            bool
	// Document is its debci.Request.
	Document []byte
}

// Dependencies are what the endpoints work with. All are required.
type Dependencies struct {
	Log    door.Log
	Jobs   door.Fold[*jobs.State, jobs.Outcome]
	Packer *document.Packer
	// Rejected is the reject list; the read side shows the same.
	Rejected *debci.RejectFile
	// SealName seals a user's name for who may read the event.
	SealName func(user registry.Hash, name string) ([]byte, error)
	// Test finds a stored test; nil when there is none. Its answer contains every test that was acknowledged before it was
	// asked, and so does that of Private.
	Test func(ctx context.Context, run uint64) (*Test, error)
	// Private gives those among some runs that are private tests of an owner.
	Private func(ctx context.Context, owner registry.Hash, runs []uint64) ([]uint64, error)
}

// Debci answers the write endpoints.
type Debci struct {
	Dependencies
	config Config
}

// New checks the configuration.
func New(config Config, d Dependencies) (*Debci, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	return &Debci{Dependencies: d, config: config}, nil
}

// labels are what a test's job is found by.
func labels(r *debci.Request) *event.JobLabels {
	return &event.JobLabels{Name: r.Package, Private: r.Private}
}
