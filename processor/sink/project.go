package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/millrace/millrace/processor/fold"
	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/processor/pgperffarm"
	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/processor/runs"
	"github.com/millrace/millrace/schemas/document"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// poison is a record that no retry makes readable: it becomes a dead letter.
type poison struct{ reason error }

func (p *poison) Error() string { return p.reason.Error() }

// projector turns the records of one partition into rows. Folds move with every record, also with one that is skipped.
type projector struct {
	sink     *Sink
	systems  pgperffarm.Systems
	registry *fold.Progress[*registry.State, registry.Outcome]
	runs     *fold.Progress[*runs.State, runs.Outcome]
	jobs     *fold.Progress[*jobs.State, jobs.Outcome]
}

// newProjector restores the partition's fold, if it has one, to just before a place; the zero place is the beginning of all
// logs.
func (s *Sink) newProjector(ctx context.Context, partition eventlog.Partition, from eventlog.Place) (*projector, error) {
	p := &projector{sink: s}
	var err error
	switch partition.Topic {
	case eventlog.Registry:
		p.registry, err = restore(ctx, s, registry.Fold(), from)
	case eventlog.Runs:
		p.runs, err = restore(ctx, s, runs.Fold(), from)
	case eventlog.Jobs:
		p.jobs, err = restore(ctx, s, jobs.Fold(), from)
	}
	return p, err
}

func restore[S, O any](ctx context.Context, s *Sink, d *fold.Definition[S, O], from eventlog.Place) (*fold.Progress[S, O], error) {
	progress := d.Start()
	if from == (eventlog.Place{}) {
		return progress, nil
	}
	if !s.rebuild {
		stored, err := fold.Load(ctx, s.store, d)
		if err != nil {
			return nil, err
		}
		if !from.Before(stored.Next) {
			progress = stored
		}
	}
	if err := progress.ReadArchive(ctx, s.archive, from); err != nil {
		return nil, fmt.Errorf("restore fold %s to %s: %w", d.Name, from, err)
	}
	if from.Offset > 0 && progress.Next != from {
		return nil, fmt.Errorf("restore fold %s to %s: the archive ends at %s", d.Name, from, progress.Next)
	}
	return progress, nil
}

// snapshot encodes the state of the partition's fold, for storing it. It gives none when there is no fold, or when it is
// not this sink's to store.
func (p *projector) snapshot() (*fold.Snapshot, error) {
	switch {
	case p.sink.rebuild:
		return nil, nil
	case p.registry != nil:
		return p.registry.Snapshot()
	case p.runs != nil:
		return p.runs.Snapshot()
	case p.jobs != nil:
		return p.jobs.Snapshot()
	}
	return nil, nil
}

// project folds a record and adds its rows to the batch. A *poison error means that the record has no rows for good;
// other errors are the context's end or a mistake in the code.
func (p *projector) project(ctx context.Context, epoch uint32, record *eventlog.Record, batch *projection.Batch, skip bool) error {
	var people registry.Outcome
	var upload runs.Outcome
	var job jobs.Outcome
	var err error
	switch {
	case p.registry != nil:
		people, err = apply(p.registry, epoch, record, batch)
	case p.runs != nil:
		upload, err = apply(p.runs, epoch, record, batch)
	case p.jobs != nil:
		job, err = apply(p.jobs, epoch, record, batch)
	}
	if err != nil {
		return err
	}
	if skip {
		return nil
	}
	if record.Malformed != nil {
		return &poison{record.Malformed}
	}
	message, err := record.Decode()
	if err != nil {
		return &poison{err}
	}
	switch m := message.(type) {
	case *event.FarmUploadRequested:
		return p.addRun(ctx, m, upload, epoch, record, batch)
	case *event.RunSamplesRecorded:
		return asPoison(batch.AddSamples(m, record))
	case *event.FarmUploadRefused:
		return asPoison(batch.AddRefusal(m, record))
	case *event.DeadLetter:
		if err := batch.AddDeadLetter(m, record); err != nil {
			return &poison{err}
		}
		return asPoison(batch.AddLetterNotice(m, epoch, record))
	case *event.DeadLetterRequeued:
		return asPoison(batch.AddRequeue(m, record))
	case *event.JobArtifactStored:
		return asPoison(batch.AddArtifact(m, epoch, record))
	case *event.JobFileExpired:
		return asPoison(batch.AddFileExpiry(m, record))
	}
	if is, err := addWords(message, epoch, record, batch); is {
		return err
	}
	if p.jobs != nil {
		return p.addJobs(ctx, message, job, epoch, record, batch)
	}
	return p.addPeople(epoch, people, record, batch)
}

// apply folds a record. The idempotency key that it takes, if any, has its row also when the record has no other: the
// key's repeats are given the outcome all the same.
func apply[S, O any](progress *fold.Progress[S, O], epoch uint32, record *eventlog.Record, batch *projection.Batch) (O, error) {
	taken := progress.Repeats().Taken
	outcome := progress.Apply(epoch, record)
	if progress.Repeats().Taken == taken {
		return outcome, nil
	}
	key, kept := progress.Repeats().Newest()
	answer, err := json.Marshal(outcome)
	if err != nil {
		return outcome, fmt.Errorf("keep the outcome of event %s for repeats: %w", record.ID, err)
	}
	batch.AddKey(projection.Key{
		Topic: record.Partition.Topic, Key: key, Body: kept.Body, Ordinal: kept.Ordinal, Until: kept.Until,
		Place: eventlog.Place{Epoch: epoch, Offset: record.Offset}, Outcome: string(answer),
	})
	return outcome, nil
}

func asPoison(err error) error {
	if err == nil {
		return nil
	}
	return &poison{err}
}

// addPeople writes the new state of the machine or user that an event of the registry changed.
func (p *projector) addPeople(epoch uint32, outcome registry.Outcome, record *eventlog.Record, batch *projection.Batch) error {
	if p.registry == nil || outcome.Result != registry.Done || outcome.Repeated {
		return nil
	}
	version := uint64(epoch)<<44 + uint64(record.Offset)
	message, _ := record.Decode()
	switch message.(type) {
	case *event.FarmMachineAddRequested, *event.FarmMachineApproveRequested, *event.FarmMachineEditRequested,
		*event.FarmMachineRotateRequested, *event.FarmMachineRevokeRequested:
		return asPoison(batch.AddMachine(p.registry.State.Machine(outcome.ID), version))
	case *event.FarmSignInRequested, *event.FarmUserSetRequested, *event.FarmUserErased:
		return asPoison(batch.AddUser(p.registry.State.User(outcome.ID), version))
	}
	return nil
}

// unpack waits a fault of the blob store out: the record is folded already and must not be folded again.
func (s *Sink) unpack(ctx context.Context, d *event.Document) (body []byte, err error) {
	var unreadable error
	err = s.retry(ctx, "read a document", func() error {
		body, unreadable = s.packer.Unpack(ctx, d)
		if errors.Is(unreadable, document.ErrUnreadable) {
			return nil
		}
		return unreadable
	})
	return body, errors.Join(err, unreadable)
}

// readLimits are those of the largest document that any door may have accepted: what was accepted must stay readable
// when a door's limits are lowered.
func readLimits() pgperffarm.Limits {
	return pgperffarm.Limits{MaxDepth: 10_000, MaxResults: 1023, MaxRows: 1<<20 - 1}
}

func (p *projector) addRun(ctx context.Context, m *event.FarmUploadRequested, outcome runs.Outcome, epoch uint32, record *eventlog.Record,
	batch *projection.Batch,
) error {
	if outcome.Result != runs.Accepted || outcome.Repeated {
		return nil
	}
	body, err := p.sink.unpack(ctx, m.GetDocument())
	if errors.Is(err, document.ErrUnreadable) {
		return &poison{err}
	}
	if err != nil {
		return err
	}
	if uint64(len(body)) != m.GetDocument().GetSize() || len(body) > math.MaxInt32 {
		return &poison{fmt.Errorf("document has %d bytes, its event says %d", len(body), m.GetDocument().GetSize())}
	}
	doc, err := p.systems.Parse(body, readLimits())
	if err != nil {
		return &poison{fmt.Errorf("document was accepted but does not parse: %w", err)}
	}
	if err := batch.AddRun(outcome.Run, m, doc, outcome, p.runs.State, record); err != nil {
		return &poison{err}
	}
	return asPoison(batch.AddRunNotice(outcome.Run, m.GetMachineId(), epoch, record))
}
