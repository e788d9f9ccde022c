package projection

import (
	"fmt"

	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas/blob"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// AddArtifact adds a file that whoever worked on a job left.
func (b *Batch) AddArtifact(m *event.JobArtifactStored, epoch uint32, rec *eventlog.Record) error {
	reference := m.GetDocument().GetBlob()
	if _, err := blob.NewRef(reference.GetSha256(), int64(reference.GetSize())); err != nil {
		return fmt.Errorf("artifact %q of %s: %w", m.GetName(), m.GetJob(), err)
	}
	return b.whole(func() error {
		var c checks
		at := c.instant("the record's time", rec.LogTime)
		b.tables[jobArtifacts].add(len(m.GetJob())+len(m.GetName())+len(m.GetContentType())+len(reference.GetSha256()),
			m.GetJob(), m.GetName(), Version(eventlog.Place{Epoch: epoch, Offset: rec.Offset}), rec.ID, at, m.GetContentType(),
			m.GetUploader(), m.GetAttempt(), string(reference.GetSha256()), reference.GetSize())
		if c.err != nil {
			return c.err
		}
		return b.addArtifactNotice(m, epoch, rec)
	})
}

// AddFileExpiry adds that a file is kept no longer.
func (b *Batch) AddFileExpiry(m *event.JobFileExpired, rec *eventlog.Record) error {
	stored, err := uuid.Parse(m.GetEventId())
	if err != nil {
		return fmt.Errorf("event_id %q is no UUID: %w", m.GetEventId(), err)
	}
	var c checks
	at := c.instant("the record's time", rec.LogTime)
	if c.err != nil {
		return c.err
	}
	b.tables[fileExpiries].add(0, stored, at)
	return nil
}
