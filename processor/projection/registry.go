package projection

import (
	"errors"
	"fmt"
	"math"

	"github.com/google/uuid"

	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// AddUser adds the state of a user after an event. The version grows with the event's place in the log.
func (b *Batch) AddUser(u *registry.User, version uint64) error {
	if u == nil {
		return errors.New("the registry does not know the user that the event names")
	}
	var c checks
	added := c.instant("the user's add time", u.AddTime)
	if c.err != nil {
		return c.err
	}
	b.tables[users].add(len(u.NameHash)+len(u.SealedProfile),
		u.ID, string(u.NameHash[:]), u.Staff, string(u.SealedProfile), u.Erased, added, version)
	return nil
}

// AddMachine adds the state of a machine after an event. The version grows with the event's place in the log.
func (b *Batch) AddMachine(m *registry.Machine, version uint64) error {
	if m == nil {
		return errors.New("the registry does not know the machine that the event names")
	}
	var c checks
	added := c.instant("the machine's add time", m.AddTime)
	if c.err != nil {
		return c.err
	}
	b.tables[machines].add(len(m.Alias)+len(m.Description),
		m.ID, m.Alias, m.Description, m.Owner, m.Approved, m.Revoked, added, version)
	return nil
}

// AddRefusal adds an entry of the run log.
func (b *Batch) AddRefusal(m *event.FarmUploadRefused, rec *eventlog.Record) error {
	var c checks
	at := c.instant("the record's time", rec.LogTime)
	if m.GetStatus() > math.MaxUint16 {
		c.fail("the status is %d, which is no HTTP status", m.GetStatus())
	}
	if c.err != nil {
		return c.err
	}
	b.tables[refusedUploads].add(len(m.GetReason())+len(m.GetSha256()),
		at, rec.ID, m.GetMachineId(), uint16(m.GetStatus()), m.GetReason(), string(m.GetSha256()), m.GetSize())
	return nil
}

// AddDeadLetter adds a record that could not be projected. The dead letter's id is that of the event which reports it.
func (b *Batch) AddDeadLetter(m *event.DeadLetter, rec *eventlog.Record) error {
	var c checks
	at := c.instant("the record's time", rec.LogTime)
	partition := m.GetPlace().GetPartition()
	if partition < 0 || partition > math.MaxUint16 {
		c.fail("the partition is %d, it must be from 0 to 65535", partition)
	}
	if c.err != nil {
		return c.err
	}
	size := len(m.GetReason()) + len(m.GetKey()) + len(m.GetValue())
	headers := make([][]any, 0, len(m.GetHeaders()))
	for _, h := range m.GetHeaders() {
		headers = append(headers, []any{h.GetKey(), string(h.GetValue())})
		size += len(h.GetKey()) + len(h.GetValue())
	}
	b.tables[deadLetters].add(size, rec.ID, at, m.GetPlace().GetEpoch(), m.GetPlace().GetTopic(), uint16(partition),
		m.GetPlace().GetOffset(), m.GetEventId(), m.GetEventType(), m.GetReason(), m.GetCodeVersion(), string(m.GetKey()),
		headers, string(m.GetValue()))
	return nil
}

// AddRequeue adds that a dead letter was appended again.
func (b *Batch) AddRequeue(m *event.DeadLetterRequeued, rec *eventlog.Record) error {
	letter, err := uuid.Parse(m.GetDeadLetterId())
	if err != nil {
		return fmt.Errorf("dead_letter_id %q is no UUID: %w", m.GetDeadLetterId(), err)
	}
	again, err := uuid.Parse(m.GetRequeuedAs())
	if err != nil {
		return fmt.Errorf("requeued_as %q is no UUID: %w", m.GetRequeuedAs(), err)
	}
	var c checks
	at := c.instant("the record's time", rec.LogTime)
	if c.err != nil {
		return c.err
	}
	b.tables[requeues].add(0, letter, again, at)
	return nil
}
