// Package dispatch hands jobs out: what the doors of all APIs share that workers ask for jobs.
//
// The log decides who gets a job. A dispatcher looks at its replica first, so that nothing is appended while there is
// nothing to hand out, and takes back what was handed to somebody who had gone before the answer.
package dispatch

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// Fold is the fold over topic jobs as doors see it.
type Fold = door.Fold[*jobs.State, jobs.Outcome]

// source names this door in events that no request asked for.
const source = "/dispatch"

const (
	// settleTime bounds the wait for the log's answer to a claim: its asker may go, the claim stands.
	settleTime = 30 * time.Second
	// lateTime is how long a claim that was not acknowledged can still come into the log.
	lateTime = 15 * time.Second
	// dueInterval is the time between two looks for leases that have ended.
	dueInterval = time.Second
	// dueAtOnce bounds the leases that one look ends.
	dueAtOnce = 100
)

// Dependencies are what a dispatcher works with. All are required.
type Dependencies struct {
	Log       door.Log
	Jobs      Fold
	Documents *Documents
	Now       func() time.Time
	Logger    *slog.Logger
}

// Dispatcher hands jobs out. Run ends leases.
type Dispatcher struct {
	Dependencies
	draining context.Context
	drain    context.CancelFunc
	// orphans are claims of which it is not known whether the log has them.
	orphans chan eventlog.Event
}

// New gives a dispatcher.
func New(d Dependencies) *Dispatcher {
	draining, drain := context.WithCancel(context.Background())
	return &Dispatcher{Dependencies: d, draining: draining, drain: drain, orphans: make(chan eventlog.Event, maxOrphans)}
}

// Drain ends all waiting for jobs: the process is about to end.
func (d *Dispatcher) Drain() { d.drain() }

// maxOrphans bounds the claims that are looked after at a time; beyond it, their leases end them.
const maxOrphans = 1024

// HandOut is a job that was handed out.
type HandOut struct {
	Job jobs.Job
	// Submission is what was submitted.
	Submission *Submission
	Position   eventlog.Position
}

// Claim asks for a job and waits for one as long as it may; nil when there is none. source names the door. Its errors are
// what the client is answered; ctx's end means that the asker has gone, then nothing stays handed out.
func (d *Dispatcher) Claim(ctx context.Context, source string, claim *event.JobClaimRequested, wait time.Duration) (*HandOut, error) {
	if err := d.catchUp(ctx, claim); err != nil {
		return nil, door.Refusal(err)
	}
	waiting, stop := context.WithTimeout(ctx, wait)
	defer stop()
	defer context.AfterFunc(d.draining, stop)()
	for {
		if !d.candidate(claim) {
			err := d.Jobs.Await(waiting, func(s *jobs.State) bool { return s.Candidate(claim) })
			switch {
			case ctx.Err() != nil:
				return nil, ctx.Err()
			case waiting.Err() != nil:
				return nil, nil
			case err != nil:
				return nil, err
			}
		}
		got, err := d.try(ctx, source, claim)
		if got != nil || err != nil {
			return got, err
		}
	}
}

// catchUp makes sure that a job which was acknowledged before the claim came is seen.
func (d *Dispatcher) catchUp(ctx context.Context, claim *event.JobClaimRequested) error {
	if d.candidate(claim) {
		return nil
	}
	return d.Jobs.CatchUp(ctx)
}

// candidate says whether a claim is worth asking the log.
func (d *Dispatcher) candidate(claim *event.JobClaimRequested) (worth bool) {
	d.Jobs.View(func(s *jobs.State) { worth = s.Candidate(claim) || s.Answered(claim.GetIdempotency()) })
	return worth
}

// ErrKeyReused is a claim whose idempotency key came with another body before.
var ErrKeyReused = errors.New("the idempotency key came with another claim before")

// try asks the log once; nil when another asker was faster.
func (d *Dispatcher) try(ctx context.Context, source string, claim *event.JobClaimRequested) (*HandOut, error) {
	settled, stop := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer stop()
	outcome, position, err := d.decide(settled, source, claim)
	if err != nil {
		return nil, door.Refusal(err)
	}
	switch outcome.Result {
	case jobs.Done:
	case jobs.KeyReused:
		return nil, ErrKeyReused
	default:
		return nil, nil
	}
	submission, err := d.Documents.Get(ctx, outcome.Job, d.next)
	if ctx.Err() != nil || err != nil {
		d.Release(ctx, outcome.Job)
		return nil, errors.Join(ctx.Err(), err)
	}
	return &HandOut{Job: outcome.Job, Submission: submission, Position: position}, nil
}

// next lists the jobs of a queue that go out next.
func (d *Dispatcher) next(queue string, n int) (seqs []uint64) {
	d.Jobs.View(func(s *jobs.State) { seqs = s.Next(queue, n) })
	return seqs
}

// decide appends a claim. One without a key, of which the log says nothing, is looked after: nobody will repeat it.
func (d *Dispatcher) decide(ctx context.Context, source string, claim *event.JobClaimRequested) (jobs.Outcome, eventlog.Position, error) {
	if claim.GetIdempotency() != nil {
		return door.TryDecide(ctx, d.Log, d.Jobs, source, proto.CloneOf(claim))
	}
	wrapped, err := door.NewEvent(ctx, source, claim)
	if err != nil {
		return jobs.Outcome{}, eventlog.Position{}, err
	}
	outcome, offset, err := d.Jobs.Decide(ctx, wrapped)
	if errors.Is(err, eventlog.ErrUnsettled) {
		select {
		case d.orphans <- wrapped:
		default:
		}
	}
	return outcome, eventlog.At(d.Log.ID, eventlog.Partition{Topic: eventlog.Jobs}, offset), err
}

// Release takes a hand-out back whose asker has gone.
func (d *Dispatcher) Release(ctx context.Context, job jobs.Job) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer stop()
	if _, _, err := door.Decide(ctx, d.Log, d.Jobs, source, jobs.Released(job)); err != nil {
		d.Logger.WarnContext(ctx, "a job whose asker has gone could not be taken back", "job", job.Seq, "attempt", job.Attempt, "error", err)
	}
}

// Run ends leases of which nothing was heard, takes back what nobody got, and reads submissions ahead, until ctx ends.
func (d *Dispatcher) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.lookAfter(ctx) })
	group.Go(func() error { return d.Documents.Run(ctx, d.next, d.Logger) })
	return group.Wait()
}

// lookAfter ends leases of which nothing was heard, and takes back what nobody got.
func (d *Dispatcher) lookAfter(ctx context.Context) error {
	ticker := time.NewTicker(dueInterval)
	defer ticker.Stop()
	var late []lateClaim
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case claim := <-d.orphans:
			late = append(late, lateClaim{claim, d.Now().Add(lateTime)})
		case <-ticker.C:
			d.expire(ctx)
			late = d.adopt(ctx, late)
		}
	}
}

// lateClaim is a claim that may yet come into the log, until then.
type lateClaim struct {
	event eventlog.Event
	until time.Time
}

// adopt takes back what late claims got, and gives the claims that are still to be looked after.
func (d *Dispatcher) adopt(ctx context.Context, late []lateClaim) []lateClaim {
	for len(late) > 0 && !d.Now().Before(late[0].until) {
		if d.Jobs.CatchUp(ctx) != nil {
			return late
		}
		var job jobs.Job
		var found bool
		d.Jobs.View(func(s *jobs.State) { job, found = s.Claimed(late[0].event.ID) })
		if found {
			d.Release(ctx, job)
		}
		late = late[1:]
	}
	return late
}

// expire asks the log to end the leases that are over. Replicas do so at slightly different times: whoever is first spares
// the others the request.
func (d *Dispatcher) expire(ctx context.Context) {
	now := d.Now().Add(-rand.N(dueInterval)).UnixMilli()
	var due []jobs.Job
	d.Jobs.View(func(s *jobs.State) { due = s.Due(now, dueAtOnce) })
	for _, job := range due {
		request := &event.JobLeaseExpired{Seq: job.Seq, Attempt: job.Attempt}
		outcome, _, err := door.Decide(ctx, d.Log, d.Jobs, source, request)
		if err != nil {
			d.Logger.WarnContext(ctx, "a lease that is over could not be ended", "job", job.Seq, "error", err)
			return
		}
		if outcome.Result == jobs.Done {
			d.Logger.InfoContext(ctx, "nothing was heard of a job: its lease has ended", "job", job.Seq, "queue", job.Queue,
				"attempt", job.Attempt, "asker", job.Asker, "ended", outcome.Ended)
		}
	}
}
