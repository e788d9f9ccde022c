package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/millrace/millrace/query/gate"
	"github.com/millrace/millrace/schemas/eventlog"
)

const (
	// collectEvery is how often unreferenced blobs are looked for.
	collectEvery = 6 * time.Hour
	// collectAge is how old a blob must be: an upload stores its blob before its event, and may still be on its way.
	collectAge = 24 * time.Hour
)

// collector removes blobs that no event refers to: uploads whose event never reached the log.
type collector struct {
	*core
	gate   *gate.Gate
	logger *slog.Logger
}

// Run collects until ctx ends. Several processes may; they begin at different times.
func (c *collector) Run(ctx context.Context) error {
	wait := rand.N(collectEvery)
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		c.collect(ctx)
		wait = collectEvery
	}
}

func (c *collector) collect(ctx context.Context) {
	before := time.Now().Add(-collectAge)
	if err := c.archived(ctx); err != nil {
		c.logger.Warn("blobs are not collected now: the archive is behind the log", "error", err)
		return
	}
	collected, err := c.blobs.Collect(ctx, before, func(ctx context.Context, sum [sha256.Size]byte) (bool, error) {
		return c.archive.Refers(ctx, hex.EncodeToString(sum[:]))
	})
	if err != nil {
		c.logger.Warn("collecting blobs ended early", "error", err)
	}
	if collected.Blobs > 0 {
		c.logger.Info("removed blobs that no event refers to", "blobs", collected.Blobs, "bytes", collected.Bytes)
	}
}

// archived waits until everything that is in the log now stands in the archive, which is asked for references.
func (c *collector) archived(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	target, err := c.gate.Target(ctx, eventlog.Position{}, eventlog.Registry, eventlog.Runs, eventlog.Jobs, eventlog.Results, eventlog.JobOutput)
	if err != nil {
		return err
	}
	return c.gate.Wait(ctx, c.generation.Number(), target)
}
