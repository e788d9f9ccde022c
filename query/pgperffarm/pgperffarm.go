// Package pgperffarm is the read side of the PostgreSQL Performance Farm's API: what its web front end asks for.
//
// Users, machines and the newest runs come from the folds in memory, runs and results from the projections in
// ClickHouse. An answer is made for the newest run that the folds know when a request has arrived (its watermark) and
// shows nothing newer, so it stays right until the watermark moves: a repeated request does no ClickHouse work, and a
// rebuild gives the same bytes. Names of people and whatever else of the registry an answer shows is filled in when it
// is sent, so that no cache outside of this process holds personal data.
//
// Section numbers in comments are those of the API's wire contract.
package pgperffarm

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/processor/runs"
	"github.com/millrace/millrace/query/cache"
	"github.com/millrace/millrace/query/gate"
	"github.com/millrace/millrace/schemas/clickhouse"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/keyring"
	"github.com/millrace/millrace/schemas/route"
)

// API is the name of this API in the route tables.
const API = "pgperffarm"

// DefaultMaxRows is how many rows a list may have unless the operator says otherwise.
const DefaultMaxRows = 100_000

// Replica is a replica of a fold, a *fold.Replica.
type Replica[S any] interface {
	View(look func(S))
	Reach(ctx context.Context, next int64) error
}

// Config is what the read side works with. All but MaxRows, Now and Logger is required.
type Config struct {
	DB *clickhouse.DB
	// Generation is the number of the projections' current generation.
	Generation func() uint32
	Registry   Replica[*registry.State]
	Runs       Replica[*runs.State]
	Gate       *gate.Gate
	Cache      *cache.Cache
	Access     *access.Farm
	Keyring    *keyring.Keyring
	// MaxRows bounds the rows of a list; 0 means DefaultMaxRows.
	MaxRows int
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Logger is told of pages that could not be computed; nil means nobody is.
	Logger *slog.Logger
}

// Farm serves the read endpoints.
type Farm struct {
	Config

	people people
	// runRows reads runs that have not been shown before.
	runRows *cache.Together[runKey, *storedRun]
	// filled lends memory for bodies on their way out.
	filled sync.Pool
	// machineList is the newest body of /machine/list.
	machineList atomic.Pointer[machineListBody]
}

// New gives the read side.
func New(c Config) *Farm {
	if c.MaxRows <= 0 {
		c.MaxRows = DefaultMaxRows
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	f := &Farm{Config: c, people: people{ring: c.Keyring, now: c.Now}}
	f.runRows = cache.NewTogether(c.Cache, f.readRuns)
	return f
}

// arrive waits until the folds contain what was in the log when the request came, or what the position that it carries
// names. Errors are *route.Error, or the context's.
func (f *Farm) arrive(ctx context.Context, need eventlog.Position) error {
	target, err := f.Gate.Target(ctx, need, eventlog.Registry, eventlog.Runs)
	if err != nil {
		return err
	}
	bounded, cancel := f.Gate.Bounded(ctx)
	defer cancel()
	err = f.Runs.Reach(bounded, target[eventlog.Partition{Topic: eventlog.Runs}])
	if err == nil {
		err = f.Registry.Reach(bounded, target[eventlog.Partition{Topic: eventlog.Registry}])
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: %w", route.Busy(time.Second, "this replica has not caught up with the log; try again"), err)
	}
	return err
}

// projected waits until a generation of the projections contains what is in the log now, and with it every run that a
// fold has shown.
func (f *Farm) projected(ctx context.Context, generation uint32) error {
	if generation == 0 {
		return route.Busy(time.Second, "the projections are being built; try again")
	}
	target, err := f.Gate.Target(ctx, eventlog.Position{}, eventlog.Runs)
	if err != nil {
		return err
	}
	return f.Gate.Wait(ctx, generation, target)
}

// errMissing is the answer about one thing that is not there.
func errMissing(what string, id uint64) error {
	return route.Errorf(http.StatusNotFound, "there is no %s %d", what, id)
}

// unixMilli is a time of the folds.
func unixMilli(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
