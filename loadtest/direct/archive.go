package direct

import (
	"context"
	"fmt"
)

// Archive is what the log's archive holds.
type Archive struct {
	Events int64
	// Payload is the size of the events' payloads, Disk what all of it takes on disk, in bytes.
	Payload, Disk int64
}

// Archive measures table event_log.
func (e *Engines) Archive(ctx context.Context) (a Archive, err error) {
	err = e.DB.QueryRow(ctx, "SELECT toInt64(count()), toInt64(sum(length(value))) FROM `"+e.DB.Name+"`.event_log FINAL").Scan(&a.Events, &a.Payload)
	if err == nil {
		err = e.DB.QueryRow(ctx, "SELECT toInt64(sum(bytes_on_disk)) FROM system.parts WHERE active AND database = ? AND table = 'event_log'",
			e.DB.Name).Scan(&a.Disk)
	}
	if err != nil {
		return a, fmt.Errorf("measure the archive: %w", err)
	}
	return a, nil
}
