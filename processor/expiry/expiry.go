// Package expiry ends the keeping of files: artifacts of jobs and attachments to them, some time after they came. The end
// is an event, after which nobody is shown the file; its blob is collected like others that no event needs.
package expiry

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/millrace/millrace/processor/archive"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

const (
	// every is the time between two looks for files that are too old.
	every = 10 * time.Minute
	// atOnce bounds the files that one look ends.
	atOnce = 10_000
)

// space makes the id of an expiry from its file's, so that several processors that see one file make one event.
var space = uuid.MustParse("5d0c5a1e-2c3e-4f0a-9a7b-0c9f4b7f6c11")

// Keeper ends the keeping of files.
type Keeper struct {
	// Keep is how long files are kept.
	Keep     time.Duration
	Archive  *archive.Archive
	Client   *eventlog.Client
	Appender *eventlog.Appender
	Now      func() time.Time
	Logger   *slog.Logger
}

// Run looks until ctx ends. Several processors may; they begin at different times.
func (k *Keeper) Run(ctx context.Context) error {
	wait := rand.N(every)
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		ended, err := k.Expire(ctx)
		if err != nil && ctx.Err() == nil {
			k.Logger.Warn("files that are too old are kept for now", "error", err)
		}
		if ended > 0 {
			k.Logger.Info("files have expired", "files", ended)
		}
		wait = every
	}
}

// Expire appends the end of each file that is too old, and gives their number.
func (k *Keeper) Expire(ctx context.Context) (int, error) {
	files, err := k.Archive.OldFiles(ctx, k.Now().Add(-k.Keep), atOnce)
	if err != nil {
		return 0, err
	}
	for i, file := range files {
		ended, err := eventlog.NewEvent("/processor", &event.JobFileExpired{EventId: file.EventID})
		if err != nil {
			return i, err
		}
		ended.ID, ended.Key, ended.DataRef = uuid.NewSHA1(space, []byte(file.EventID)), []byte(file.EventID), file.Blob
		if _, err := k.Appender.Append(ctx, k.Client.PartitionFor(eventlog.Results, ended.Key), ended); err != nil {
			return i, fmt.Errorf("append that a file has expired: %w", err)
		}
	}
	return len(files), nil
}
