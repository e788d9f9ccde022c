package labtest

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// JobsReplica is the jobs' fold, always at the log's end.
type JobsReplica struct {
	mu    sync.Mutex
	state *jobs.State
	moved chan struct{} // closed and replaced whenever the fold has moved on
	// waiting is told when somebody begins to wait.
	waiting chan struct{}
}

func newJobsReplica() *JobsReplica {
	return &JobsReplica{state: jobs.NewState(), moved: make(chan struct{}), waiting: make(chan struct{}, 1)}
}

// View lets look read the state.
func (r *JobsReplica) View(look func(*jobs.State)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	look(r.state)
}

// Reach has always happened.
func (r *JobsReplica) Reach(ctx context.Context, _ int64) error { return ctx.Err() }

// CatchUp has always happened.
func (r *JobsReplica) CatchUp(ctx context.Context) error { return ctx.Err() }

// Await waits until the state is as look wants it.
func (r *JobsReplica) Await(ctx context.Context, look func(*jobs.State) bool) error {
	for {
		r.mu.Lock()
		reached, moved := look(r.state), r.moved
		r.mu.Unlock()
		if reached {
			return nil
		}
		select {
		case r.waiting <- struct{}{}:
		default:
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Waited blocks until somebody waits for the fold to move.
func (r *JobsReplica) Waited() { <-r.waiting }

func (r *JobsReplica) apply(record *eventlog.Record) jobs.Outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() {
		close(r.moved)
		r.moved = make(chan struct{})
	}()
	return jobs.Apply(r.state, record)
}

// Job folds an event of topic jobs and projects what it did, as the processor does.
func (l *Lab) Job(m proto.Message) jobs.Outcome {
	l.Helper()
	record := l.record(eventlog.Jobs, m)
	outcome := l.Jobs.apply(record)
	if outcome.Result != jobs.Done && outcome.Result != jobs.Late {
		l.Fatalf("%T: the fold says %+v", m, outcome)
	}
	l.write(eventlog.Jobs, func(b *projection.Batch) error {
		switch m := m.(type) {
		case *event.JobSubmitted:
			return b.AddJob(m, outcome, 1, record)
		case *event.JobClaimRequested:
			return b.AddJobChange(projection.JobHandedOut, outcome, m.GetAsker(), nil, 1, record)
		case *event.JobWorkerNamed:
			return b.AddJobWorker(m, outcome, 1, record)
		case *event.JobReleased:
			return b.AddJobChange(projection.JobReleased, outcome, "", nil, 1, record)
		case *event.JobStateReported:
			return b.AddJobChange(projection.JobReported, outcome, m.GetReporter(), m.GetResult(), 1, record)
		case *event.JobCancelRequested:
			return b.AddJobChange(projection.JobCancelled, outcome, outcome.Job.Asker, nil, 1, record)
		case *event.JobsPublished:
			return b.AddJobPublications(m, 1, record)
		}
		l.Fatalf("%T is no event of jobs that the lab knows", m)
		return nil
	})
	return outcome
}

// Submit puts a native job into a queue, with a payload, and gives its number.
func (l *Lab) Submit(queue, payload string, labels *event.JobLabels, owner []byte) uint64 {
	l.Helper()
	return l.Job(&event.JobSubmitted{
		Family: event.JobFamily_JOB_FAMILY_NATIVE, Queue: queue, Labels: labels, Owner: owner, Document: Inline(payload),
	}).Job.Seq
}

// Inline is a document as it stands in an event.
func Inline(text string) *event.Document {
	return &event.Document{
		Place: &event.Document_Inline{Inline: []byte(text)}, Encoding: event.Encoding_ENCODING_IDENTITY, Size: uint64(len(text)),
	}
}

// Claim hands a job of a queue out.
func (l *Lab) Claim(queue, asker string) jobs.Outcome {
	l.Helper()
	return l.Job(&event.JobClaimRequested{Queues: []string{queue}, Asker: asker, OneOfId: true})
}

// End ends a job with a result.
func (l *Lab) End(number uint64, worker, result string) {
	l.Helper()
	l.Job(&event.JobStateReported{Job: JobNumber(number), State: "complete", Final: true, Reporter: worker, Result: []byte(result)})
}

// JobNumber refers to a job by its number.
func JobNumber(number uint64) *event.JobRef {
	return &event.JobRef{Name: &event.JobRef_Seq{Seq: number}}
}

// Pass lets time pass.
func (l *Lab) Pass(d time.Duration) { l.Now = l.Now.Add(d) }
