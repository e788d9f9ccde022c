package clickhouse

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// Generation follows which generation of the projections is current.
type Generation struct {
	db     *DB
	logger *slog.Logger
	number atomic.Uint32
}

// followEvery is how soon a process notices that another generation became current.
const followEvery = 500 * time.Millisecond

// Follow reads the current generation. Run keeps it up to date.
func Follow(ctx context.Context, db *DB, logger *slog.Logger) (*Generation, error) {
	number, err := db.Serving(ctx)
	if err != nil {
		return nil, err
	}
	g := &Generation{db: db, logger: logger}
	g.number.Store(number)
	return g, nil
}

// Number is the current generation, 0 while there is none or while its tables are gone.
func (g *Generation) Number() uint32 { return g.number.Load() }

// Database is the current generation's database.
func (g *Generation) Database() string { return g.db.Generation(g.Number()) }

// Run follows until ctx ends.
func (g *Generation) Run(ctx context.Context) error {
	ticker := time.NewTicker(followEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			if err := g.Refresh(ctx); err != nil && ctx.Err() == nil {
				g.logger.Debug("keeping the former generation", "error", err)
			}
		}
	}
}

// Refresh reads the current generation now.
func (g *Generation) Refresh(ctx context.Context) error {
	number, err := g.db.Serving(ctx)
	if err != nil {
		return err
	}
	if former := g.number.Swap(number); former != number {
		g.logger.Info("generation of the projections changed", "from", former, "to", number)
	}
	return nil
}
