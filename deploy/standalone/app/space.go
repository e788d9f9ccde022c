package app

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/schemas/route"
)

// space watches the free space of the data folder: writes are refused before an engine fails for want of it.
type space struct {
	folder string
	least  int64
	logger *slog.Logger
	free   atomic.Int64
	short  atomic.Bool
}

const lookEvery = time.Second

func newSpace(folder string, least int64, logger *slog.Logger) (*space, error) {
	s := &space{folder: folder, least: least, logger: logger}
	return s, s.look()
}

func (s *space) look() error {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(s.folder, &stat); err != nil {
		return fmt.Errorf("look up the free space of %s: %w", s.folder, err)
	}
	free := int64(stat.Bavail) * int64(stat.Bsize) //nolint:unconvert // the types differ between systems
	s.free.Store(free)
	short := free < s.least
	if s.short.Swap(short) != short {
		s.logger.Warn("free space of the data folder crossed its limit", "folder", s.folder, "free_bytes", free,
			"min_free_bytes", s.least, "writes_refused", short)
	}
	return nil
}

// Run looks until ctx ends.
func (s *space) Run(ctx context.Context) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			if err := s.look(); err != nil {
				s.logger.Warn("cannot tell the free space", "error", err)
			}
		}
	}
}

// Check is the readiness check "space".
func (s *space) Check(context.Context) error {
	if !s.short.Load() {
		return nil
	}
	return fmt.Errorf("%s has %d bytes free, less than engines.min_free_bytes = %d", s.folder, s.free.Load(), s.least)
}

// guard refuses the writes of a table while space is short. Reads that the ingest side serves go on, and so does the
// operator, who may be there to help.
func (s *space) guard(routes []route.Route) []route.Route {
	guarded := make([]route.Route, len(routes))
	for i, r := range routes {
		guarded[i] = r
		if r.Side != route.Ingest || r.Access == route.TokenOperator {
			continue
		}
		next := r.Handler
		guarded[i].Handler = func(c *gin.Context) {
			if s.short.Load() {
				route.Refuse(c, route.Busy(30*time.Second, "the disk is nearly full: nothing can be written until the operator makes room"))
				return
			}
			next(c)
		}
	}
	return guarded
}
