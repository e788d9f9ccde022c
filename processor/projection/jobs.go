package projection

import (
	"fmt"
	"strings"
	"time"

	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// What happens to a job, as tables job_changes and queue_changes name it.
const (
	JobSubmitted = "submitted"
	JobAttached  = "attachments"
	JobHandedOut = "handed_out"
	JobNamed     = "named"
	JobReleased  = "released"
	JobExpired   = "expired"
	JobReported  = "reported"
	JobCancelled = "cancelled"
)

// AddJob adds a submitted job.
func (b *Batch) AddJob(m *event.JobSubmitted, outcome jobs.Outcome, epoch uint32, rec *eventlog.Record) error {
	return b.whole(func() error {
		e := jobEvent{batch: b, rec: rec, epoch: epoch, outcome: outcome, change: JobSubmitted}
		e.addJob(outcome.Job.Seq, jobRow{
			family: m.GetFamily(), queue: m.GetQueue(), id: m.GetJobId(), priority: m.GetPriority(), labels: m.GetLabels(),
			owner: m.GetOwner(), submitter: m.GetSealedSubmitter(), retryOf: m.GetRetryOf(), excluded: m.GetExcludedAgents(),
			held: m.GetAwaitsAttachments(), document: m.GetDocument(),
		})
		e.addChange(outcome.Job.Seq, change{})
		e.addDepth()
		return e.err
	})
}

// AddJobBatch adds the jobs of a batch. state is the fold's after the event.
func (b *Batch) AddJobBatch(m *event.JobBatchSubmitted, items []*event.JobItem, outcome jobs.Outcome, state *jobs.State, epoch uint32,
	rec *eventlog.Record,
) error {
	if len(items) != int(m.GetCount()) {
		return fmt.Errorf("the batch has %d jobs, its event says %d", len(items), m.GetCount())
	}
	return b.whole(func() error {
		e := jobEvent{batch: b, rec: rec, epoch: epoch, outcome: outcome, change: JobSubmitted}
		e.outcome.Job.Queue, e.outcome.Count = m.GetQueue(), 0
		turns, ended := m.GetTurns(), m.GetEnded()
		for i, item := range items {
			if len(turns) > 0 && int(turns[0].GetFrom()) == i {
				e.addDepthNow(state)
				e.outcome.Job.Queue, e.outcome.Count, turns = turns[0].GetQueue(), 0, turns[1:]
			}
			e.outcome.State, e.outcome.Ended = outcome.State, false
			if len(ended) > 0 && int(ended[0]) == i {
				e.outcome.State, e.outcome.Ended, ended = jobs.StateRejected, true, ended[1:]
			}
			e.addJobItem(m, outcome.Job.Seq+uint64(i), item)
		}
		e.addDepthNow(state)
		return e.err
	})
}

// addJobItem adds a job of a batch.
func (e *jobEvent) addJobItem(m *event.JobBatchSubmitted, seq uint64, item *event.JobItem) {
	e.outcome.Job.Seq = seq
	e.outcome.Count++
	e.addJob(seq, jobRow{
		family: m.GetFamily(), queue: e.outcome.Job.Queue, priority: m.GetPriority(), labels: item.GetLabels(), owner: m.GetOwner(),
		submitter: m.GetSealedSubmitter(), document: &event.Document{
			Place: &event.Document_Inline{Inline: item.GetDocument()}, Encoding: event.Encoding_ENCODING_IDENTITY,
			Size: uint64(len(item.GetDocument())),
		},
	})
	e.addChange(seq, change{})
	e.ordinal++
}

// addDepthNow adds how long the queue is in a state of the fold.
func (e *jobEvent) addDepthNow(state *jobs.State) {
	e.outcome.Waiting, e.outcome.Out = state.Depth(e.outcome.Job.Queue)
	e.addDepth()
}

// AddJobAttachments adds the files that a job waited for.
func (b *Batch) AddJobAttachments(m *event.JobAttachmentsStored, outcome jobs.Outcome, epoch uint32, rec *eventlog.Record) error {
	return b.whole(func() error {
		e := jobEvent{batch: b, rec: rec, epoch: epoch, outcome: outcome, change: JobAttached}
		d := m.GetDocument()
		b.tables[jobAttachments].add(len(d.GetInline())+len(d.GetBlob().GetSha256()), outcome.Job.Seq, rec.ID, e.at(), string(d.GetInline()),
			string(d.GetBlob().GetSha256()), d.GetBlob().GetSize(), uint8(d.GetEncoding()), d.GetSize())
		e.addHistory(outcome.Job.Seq, change{})
		return e.err
	})
}

// AddJobWorker adds who has a job that was handed out to somebody who did not say.
func (b *Batch) AddJobWorker(m *event.JobWorkerNamed, outcome jobs.Outcome, epoch uint32, rec *eventlog.Record) error {
	return b.whole(func() error {
		e := jobEvent{batch: b, rec: rec, epoch: epoch, outcome: outcome, change: JobNamed}
		e.addHistory(outcome.Job.Seq, change{asker: m.GetWorker()})
		return e.err
	})
}

// AddJobChange adds what an event other than a submission made of a job. asker is who has the job or reports, result how it
// ended.
func (b *Batch) AddJobChange(what string, outcome jobs.Outcome, asker string, result []byte, epoch uint32, rec *eventlog.Record) error {
	return b.whole(func() error {
		e := jobEvent{batch: b, rec: rec, epoch: epoch, outcome: outcome, change: what}
		e.addChange(outcome.Job.Seq, change{asker: asker, result: result})
		if outcome.Result == jobs.Done {
			e.addDepth()
		}
		return e.err
	})
}

// AddJobPublications adds that private jobs are for everybody.
func (b *Batch) AddJobPublications(m *event.JobsPublished, epoch uint32, rec *eventlog.Record) error {
	return b.whole(func() error {
		e := jobEvent{batch: b, rec: rec}
		for _, seq := range m.GetSeqs() {
			b.tables[jobPublications].add(0, seq, epoch, rec.Offset, e.at())
		}
		return e.err
	})
}

// jobEvent is an event of topic jobs on its way into a batch.
type jobEvent struct {
	checks

	batch   *Batch
	rec     *eventlog.Record
	epoch   uint32
	outcome jobs.Outcome
	change  string
	// ordinal counts the jobs of one event, from 0.
	ordinal uint32
}

func (e *jobEvent) at() time.Time { return e.instant("the record's time", e.rec.LogTime) }

// jobRow is a submission.
type jobRow struct {
	family           event.JobFamily
	queue, id        string
	priority         int64
	labels           *event.JobLabels
	owner, submitter []byte
	retryOf          uint64
	excluded         []string
	held             bool
	document         *event.Document
}

func (e *jobEvent) addJob(seq uint64, j jobRow) {
	l, d := j.labels, j.document
	size := len(j.queue) + len(j.id) + len(l.GetName()) + len(l.GetParent()) + len(j.owner) + len(j.submitter) + len(d.GetInline())
	for _, text := range append(l.GetTags(), j.excluded...) {
		size += len(text)
	}
	e.batch.tables[jobsTable].add(size, seq, e.rec.ID, e.at(), FamilyName(j.family), j.queue, j.id, j.priority, l.GetName(),
		l.GetParent(), orEmpty(l.GetTags()), l.GetPrivate(), string(j.owner), string(j.submitter), j.retryOf, orEmpty(j.excluded), j.held,
		string(d.GetInline()), string(d.GetBlob().GetSha256()), d.GetBlob().GetSize(), uint8(d.GetEncoding()), d.GetSize())
}

// orEmpty gives a list that is no nil: the driver has no null in a list's place.
func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// FamilyName is a family as the tables and the native API name it.
func FamilyName(family event.JobFamily) string {
	return strings.ToLower(strings.TrimPrefix(family.String(), "JOB_FAMILY_"))
}

// change is what only some changes have.
type change struct {
	asker  string
	result []byte
}

// addChange adds a job's new state and its place in the job's history.
func (e *jobEvent) addChange(seq uint64, c change) {
	o := e.outcome
	e.batch.tables[jobStates].add(len(o.State)+len(c.asker)+len(c.result),
		seq, uint64(e.epoch)<<44+uint64(e.rec.Offset), e.at(), o.State, o.Job.Attempt, c.asker, o.Ended, string(c.result))
	e.addHistory(seq, c)
	e.addNotice(seq, c.asker)
}

func (e *jobEvent) addHistory(seq uint64, c change) {
	o := e.outcome
	e.batch.tables[jobChanges].add(len(o.State)+len(c.asker)+len(c.result),
		seq, e.epoch, e.rec.Offset, e.rec.ID, e.at(), e.change, o.State, o.Job.Attempt, c.asker, o.Ended, string(c.result))
}

// addDepth adds how long the queue is after the event.
func (e *jobEvent) addDepth() {
	o := e.outcome
	var waited *uint64
	if e.change == JobHandedOut {
		ms := uint64(max(0, o.Job.Since-o.Job.Submitted))
		waited = &ms
	}
	e.batch.tables[queueChanges].add(len(o.Job.Queue),
		o.Job.Queue, e.at(), e.epoch, e.rec.Offset, o.Job.Seq, e.change, o.Count, o.Waiting, o.Out, waited)
}
