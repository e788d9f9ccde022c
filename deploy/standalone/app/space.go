package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/deploy/standalone/config"
	"github.com/millrace/millrace/schemas/route"
)

// space watches the data folder. Writes are refused before an engine fails for want of free space, and wait while the
// embedded log is longer than it may be: it keeps what is not projected yet.
type space struct {
	folder string
	least  int64
	// log is the folder of the embedded log, most the bytes that it may hold, and patience how long a write waits for it.
	log      string
	most     int64
	patience time.Duration
	logger   *slog.Logger
	free     atomic.Int64
	short    atomic.Bool
	logBytes atomic.Int64
	full     atomic.Bool
}

const (
	lookEvery = time.Second
	waitPause = 100 * time.Millisecond // between two looks of a write that waits
)

func newSpace(c config.Config, logger *slog.Logger) (*space, error) {
	s := &space{
		folder: c.Data, least: c.Engines.MinFreeBytes, log: logFolder(c), most: c.Engines.MaxLogBytes,
		patience: c.Ingest.UploadPatience, logger: logger,
	}
	return s, s.look()
}

func (s *space) look() error {
	if err := s.lookAtFree(); err != nil {
		return err
	}
	size, err := folderSize(s.log)
	if err != nil {
		return fmt.Errorf("look up the size of the log in %s: %w", s.log, err)
	}
	s.logBytes.Store(size)
	full := size > s.most
	if s.full.Swap(full) != full {
		s.logger.Warn("the embedded log crossed its limit", "folder", s.log, "log_bytes", size, "max_log_bytes", s.most,
			"writes_wait", full)
	}
	return nil
}

// folderSize is the size of a folder's files; what vanishes meanwhile counts nothing, and nor does a folder that is not there.
func folderSize(folder string) (size int64, err error) {
	err = filepath.WalkDir(folder, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return ignoreMissing(err)
		}
		info, err := entry.Info()
		if err == nil {
			size += info.Size()
		}
		return ignoreMissing(err)
	})
	return size, err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (s *space) lookAtFree() error {
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
				s.logger.Warn("cannot tell the space of the data folder", "error", err)
			}
		}
	}
}

// halfFull tells whether the log is at half its limit.
func (s *space) halfFull() bool { return s.logBytes.Load() > s.most/2 }

// Check is the readiness check "space".
func (s *space) Check(context.Context) error {
	if s.full.Load() {
		return fmt.Errorf("the embedded log holds %d bytes, more than engines.max_log_bytes = %d: the projections are behind",
			s.logBytes.Load(), s.most)
	}
	if !s.short.Load() {
		return nil
	}
	return fmt.Errorf("%s has %d bytes free, less than engines.min_free_bytes = %d", s.folder, s.free.Load(), s.least)
}

// guard lets the writes of a table in when there is room for them. Reads that the ingest side serves go on, and so does
// the operator, who may be there to help.
func (s *space) guard(routes []route.Route) []route.Route {
	guarded := make([]route.Route, len(routes))
	for i, r := range routes {
		guarded[i] = r
		if r.Side != route.Ingest || r.Access == route.TokenOperator {
			continue
		}
		next := r.Handler
		guarded[i].Handler = func(c *gin.Context) {
			if err := s.admit(c.Request.Context()); err != nil {
				route.Refuse(c, err)
				return
			}
			if r.Streams { // for as long as a file comes, others may fill the disk beside it
				c.Request.Body = &roomyBody{c.Request.Body, s}
			}
			next(c)
		}
	}
	return guarded
}

// roomyBody is a body that ends when there is no room for it any more.
type roomyBody struct {
	io.ReadCloser

	space *space
}

func (b *roomyBody) Read(p []byte) (int, error) {
	if b.space.short.Load() {
		return 0, nearlyFull()
	}
	return b.ReadCloser.Read(p)
}

func nearlyFull() error {
	return route.Busy(30*time.Second, "the disk is nearly full: nothing can be written until the operator makes room")
}

// admit waits for room in the log. That is the back-pressure on writers that outrun the projections.
func (s *space) admit(ctx context.Context) error {
	if s.full.Load() {
		waiting, cancel := context.WithTimeout(ctx, s.patience)
		defer cancel()
		s.awaitRoom(waiting)
	}
	switch {
	case s.short.Load():
		return nearlyFull()
	case s.full.Load():
		return route.Busy(10*time.Second, "the log is full, because the projections are behind: the write was not taken; send it again")
	}
	return nil
}

func (s *space) awaitRoom(ctx context.Context) {
	look := time.NewTicker(waitPause)
	defer look.Stop()
	for s.full.Load() {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}
