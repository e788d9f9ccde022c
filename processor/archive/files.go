package archive

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// Refers says whether an archived event needs the blob with this SHA-256, in hexadecimal: one that refers to it, and whose
// file has not expired.
func (a *Archive) Refers(ctx context.Context, blob string) (bool, error) {
	expired := eventlog.TypeOf(&event.JobFileExpired{})
	var needed uint64
	err := a.db.QueryRow(ctx, "SELECT count() FROM (SELECT 1 FROM "+a.table+" WHERE dataref = ? AND type != ? AND toString(event_id) NOT IN "+
		"(SELECT key FROM "+a.table+" WHERE dataref = ? AND type = ?) LIMIT 1)", blob, expired, blob, expired).Scan(&needed)
	if err != nil {
		return false, fmt.Errorf("look for events that refer to blob %s: %w", blob, err)
	}
	return needed > 0, nil
}

// File is a file that an event brought, an artifact or a job's attachments.
type File struct {
	// EventID is the event's id, as text.
	EventID string
	// Blob is the SHA-256 of the content, in hexadecimal.
	Blob string
}

// OldFiles lists up to limit files that came before a time, and of which the archive does not say that they have expired.
func (a *Archive) OldFiles(ctx context.Context, before time.Time, limit int) ([]File, error) {
	rows, err := a.db.Query(ctx, "SELECT DISTINCT toString(event_id), dataref FROM "+a.table+
		" WHERE topic IN (?, ?) AND type IN (?, ?) AND log_time < ? AND dataref != '' AND toString(event_id) NOT IN "+
		"(SELECT key FROM "+a.table+" WHERE topic = ? AND type = ?) LIMIT ?",
		eventlog.Jobs, eventlog.Results, eventlog.TypeOf(&event.JobArtifactStored{}), eventlog.TypeOf(&event.JobAttachmentsStored{}), before.UnixMilli(),
		eventlog.Results, eventlog.TypeOf(&event.JobFileExpired{}), limit)
	if err != nil {
		return nil, fmt.Errorf("look for files that came before %s: %w", before, err)
	}
	defer func() { _ = rows.Close() }()
	var files []File
	for rows.Next() {
		var f File
		if err := rows.Scan(&f.EventID, &f.Blob); err != nil {
			return nil, fmt.Errorf("look for files that came before %s: %w", before, err)
		}
		files = append(files, f)
	}
	return files, rows.Err()
}
