package jobs

import (
	"github.com/google/uuid"

	"github.com/millrace/millrace/processor/fold"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// Apply folds one record.
func Apply(s *State, record *eventlog.Record) Outcome {
	s.now = record.LogTime
	if record.Malformed != nil {
		return Outcome{}
	}
	message, err := record.Decode()
	if err != nil || !s.recent.First(record.ID, s.now) {
		return Outcome{}
	}
	switch m := message.(type) {
	case *event.JobSubmitted:
		return s.once(m.GetIdempotency(), func() Outcome { return s.submit(m) })
	case *event.JobBatchSubmitted:
		return s.once(m.GetIdempotency(), func() Outcome { return s.submitBatch(m) })
	case *event.JobAttachmentsStored:
		return s.attach(m)
	case *event.JobClaimRequested:
		return s.claim(m, record.ID)
	case *event.JobReleased:
		return s.release(m)
	case *event.JobHeartbeat:
		return s.heartbeat(m)
	case *event.JobWorkerNamed:
		return s.nameWorker(m)
	case *event.JobLeaseExpired:
		return s.expire(m)
	case *event.JobStateReported:
		return s.once(m.GetIdempotency(), func() Outcome { return s.report(m) })
	case *event.JobCancelRequested:
		return s.once(m.GetIdempotency(), func() Outcome { return s.cancel(m) })
	case *event.JobsPublished:
		return Outcome{Result: Done}
	case *event.JobOutputTakeRequested:
		return s.takeOutput(m)
	}
	return Outcome{}
}

// once answers a repeated idempotency key with the first answer; only what was done takes the key.
func (s *State) once(key *event.Idempotency, decide func() Outcome) Outcome {
	first, verdict := s.repeats.Look(key, s.now)
	if verdict != fold.New && !undone(verdict, first) {
		return answer(verdict, first)
	}
	outcome := decide()
	if outcome.Result == Done {
		s.repeats.Remember(key, s.now, outcome)
	}
	return outcome
}

// undone says that a key was taken for what did not last: a hand-out that was taken back.
func undone(verdict fold.Verdict, first Outcome) bool {
	return verdict == fold.Repeated && first.Result == Ignored
}

// answer is the outcome of a request whose key is not new.
func answer(verdict fold.Verdict, first Outcome) Outcome {
	switch verdict {
	case fold.Repeated:
		first.Repeated = true
		return first
	case fold.Reused:
		return Outcome{Result: KeyReused}
	}
	return Outcome{Result: KeyUnchecked}
}

func (s *State) submit(m *event.JobSubmitted) Outcome {
	l := s.lane(s.queue(m.GetQueue(), m.GetFamily()), laneKey{held: m.GetAwaitsAttachments(), excluded: m.GetExcludedAgents()})
	j := s.add(l, m.GetPriority(), ToName(m.GetJobId()))
	if m.GetAwaitsAttachments() {
		j.attachments = AwaitsAttachments
	}
	return s.in(j, StateWaiting)
}

func (s *State) submitBatch(m *event.JobBatchSubmitted) Outcome {
	if m.GetCount() == 0 {
		return Outcome{}
	}
	outcome := Outcome{Result: Done, State: StateWaiting, Count: m.GetCount(), Job: Job{
		Seq: s.last + 1, Family: m.GetFamily(), Queue: m.GetQueue(), Priority: m.GetPriority(), Submitted: s.now,
	}}
	queue, turns, ended := m.GetQueue(), m.GetTurns(), m.GetEnded()
	for i := range m.GetCount() {
		if len(turns) > 0 && turns[0].GetFrom() == i {
			queue, turns = turns[0].GetQueue(), turns[1:]
		}
		if len(ended) > 0 && ended[0] == i {
			ended = ended[1:]
			s.last++
			continue
		}
		s.add(s.lane(s.queue(queue, m.GetFamily()), laneKey{}), m.GetPriority(), Name{})
	}
	outcome.Waiting, outcome.Out = s.Depth(m.GetQueue())
	return outcome
}

func (s *State) add(l *lane, priority int64, name Name) *job {
	s.last++
	j := s.jobs.put(job{seq: s.last, priority: priority, name: name, submitted: s.now})
	l.join(j)
	s.enlist(j)
	return j
}

// done is the outcome of an event that changed a job which lives on.
func (s *State) done(j *job) Outcome {
	q := s.lanes[j.lane].queue
	return Outcome{Result: Done, Job: s.show(j), Count: 1, Waiting: q.waiting(), Out: q.out}
}

// in is the outcome of an event that brought a job into a state.
func (s *State) in(j *job, state string) Outcome {
	outcome := s.done(j)
	outcome.State = state
	return outcome
}

func (s *State) refused(result Result, j *job) Outcome {
	if j == nil {
		return Outcome{Result: result}
	}
	return Outcome{Result: result, Job: s.show(j)}
}

func (s *State) attach(m *event.JobAttachmentsStored) Outcome {
	j, result := s.attachable(m.GetJob())
	if result != Done {
		return s.refused(result, j)
	}
	j.attachments = HasAttachments
	s.move(j, false, s.lanes[j.lane].second)
	return s.done(j)
}

// attachable finds the job that attachments are for, and tells what becomes of them: Done that the job waits for them.
func (s *State) attachable(ref *event.JobRef) (*job, Result) {
	j := s.attachmentsFor(ref)
	switch {
	case j == nil:
		return nil, NotFound
	case j.out:
		return j, NotWaiting
	case j.attachments == NoAttachments:
		return j, NotAwaiting
	case j.attachments == HasAttachments:
		return j, Known
	}
	return j, Done
}

// attachmentsFor finds the job that attachments are for: of several with one id the oldest that waits for them.
func (s *State) attachmentsFor(ref *event.JobRef) *job {
	found := s.find(ref)
	if g := s.groups[ToName(ref.GetJobId())]; g != nil {
		if first, ok := g.waiting.Min(); ok {
			found = s.jobs.get(first)
		}
		g.waiting.Scan(func(seq uint64) bool {
			j := s.jobs.get(seq)
			if j.attachments == AwaitsAttachments {
				found = j
			}
			return j.attachments != AwaitsAttachments
		})
	}
	return found
}

func (s *State) claim(m *event.JobClaimRequested, id uuid.UUID) Outcome {
	outcome := s.once(m.GetIdempotency(), func() Outcome {
		j := s.claimable(m)
		if j == nil {
			return Outcome{Result: Nothing}
		}
		s.handOut(j, m, id)
		return s.in(j, StateRunning)
	})
	if !outcome.Repeated {
		return outcome
	}
	// The answer to this repeat counts now: a release of the first one must not take the job from who gets it.
	if j := s.jobs.get(outcome.Job.Seq); j != nil && j.current(outcome.Job.Attempt) {
		s.handouts[j.seq].claim = id
		outcome.Job = s.show(j)
	}
	return outcome
}

// claimable finds the job that a claim gets; nil when there is none.
func (s *State) claimable(m *event.JobClaimRequested) *job {
	if m.GetJob() == nil {
		return s.best(m.GetQueues(), m.GetAsker(), m.GetOneOfId())
	}
	j := s.find(m.GetJob())
	if j == nil || j.out || !s.lanes[j.lane].mayHave(m.GetAsker(), m.GetOneOfId()) {
		return nil
	}
	return j
}

func (s *State) handOut(j *job, m *event.JobClaimRequested, id uuid.UUID) {
	lease := m.GetLease()
	h := &handout{
		asker: m.GetAsker(), claim: id, key: string(m.GetIdempotency().GetKey()), since: s.now, duration: max(0, lease.GetDuration()),
		requeues: lease.GetRequeues(), endState: lease.GetEndState(), byAnyCall: lease.GetByAnyCall(),
	}
	j.attempt++
	s.takeOut(j, h)
}

// takeOut moves a job from its place in the queue to who works on it.
func (s *State) takeOut(j *job, h *handout) {
	l := s.lanes[j.lane]
	l.waiting.Delete(j.place())
	l.queue.out++
	j.out = true
	s.handouts[j.seq] = h
	s.renew(j)
	s.regroup(j)
}

// renew lets a lease begin now.
func (s *State) renew(j *job) {
	h := s.handouts[j.seq]
	if h.duration == 0 {
		return
	}
	s.leased.Delete(leaseEnd{h.expires, j.seq})
	h.expires = s.now + h.duration
	s.leased.Set(leaseEnd{h.expires, j.seq})
}

// takeBack ends the hand-out of a queue's job.
func (s *State) takeBack(j *job, q *queue) {
	s.leased.Delete(leaseEnd{s.handouts[j.seq].expires, j.seq})
	delete(s.handouts, j.seq)
	q.out--
	j.out = false
}

// requeue brings a job that is out back to its place.
func (s *State) requeue(j *job) Outcome {
	s.repeats.Undo(s.handouts[j.seq].key)
	l := s.lanes[j.lane]
	s.takeBack(j, l.queue)
	l.waiting.Set(j.place())
	s.regroup(j)
	return s.in(j, StateWaiting)
}

// end takes a job out of the fold, in a state. Its outcome shows it as it was.
func (s *State) end(j *job, state string) Outcome {
	outcome := Outcome{Result: Done, Job: s.show(j), Count: 1, State: state, Ended: true}
	s.strike(j)
	q := s.lanes[j.lane].queue
	s.leave(j)
	if j.out {
		s.takeBack(j, q)
	}
	s.jobs.drop(j.seq)
	outcome.Waiting, outcome.Out = q.waiting(), q.out
	return outcome
}

func (s *State) release(m *event.JobReleased) Outcome {
	j := s.jobs.get(m.GetSeq())
	if j == nil {
		return s.refused(NotFound, nil)
	}
	h := s.handouts[j.seq]
	if h == nil || h.claim.String() != m.GetClaimId() {
		return s.refused(Stale, j)
	}
	if h.cancelled {
		return s.end(j, StateCancelled)
	}
	return s.requeue(j)
}

// current says whether an attempt is the one that is out.
func (j *job) current(attempt uint32) bool { return j.out && j.attempt == attempt }

// held gives the job whose attempt is the one that is out; otherwise the result says why there is none.
func (s *State) held(seq uint64, attempt uint32) (*job, Result) {
	j := s.jobs.get(seq)
	switch {
	case j == nil:
		return nil, NotFound
	case !j.current(attempt):
		return j, Stale
	}
	return j, Done
}

func (s *State) heartbeat(m *event.JobHeartbeat) Outcome {
	j, result := s.held(m.GetSeq(), m.GetAttempt())
	if result != Done {
		return s.refused(result, j)
	}
	s.renew(j)
	return s.done(j)
}

func (s *State) nameWorker(m *event.JobWorkerNamed) Outcome {
	j, result := s.held(m.GetSeq(), m.GetAttempt())
	switch {
	case result != Done:
		return s.refused(result, j)
	case m.GetWorker() == "" || s.handouts[j.seq].asker != "":
		return s.refused(Known, j)
	}
	s.handouts[j.seq].asker = m.GetWorker()
	return s.done(j)
}

func (s *State) expire(m *event.JobLeaseExpired) Outcome {
	j, result := s.held(m.GetSeq(), m.GetAttempt())
	if result != Done {
		return s.refused(result, j)
	}
	h := s.handouts[j.seq]
	if h.expires == 0 || s.now < h.expires {
		return s.refused(Early, j)
	}
	j.expiries++
	switch {
	case h.cancelled:
		return s.end(j, StateCancelled)
	case uint32(j.expiries) > h.requeues:
		return s.end(j, h.endState)
	}
	return s.requeue(j)
}

func (s *State) report(m *event.JobStateReported) Outcome {
	j := s.find(m.GetJob())
	byAttempt := m.GetAttempt() != 0
	switch {
	case j == nil && !byAttempt && m.GetJob().GetSeq() > 0 && m.GetJob().GetSeq() <= s.last:
		return Outcome{Result: Late, Job: Job{Seq: m.GetJob().GetSeq()}, State: m.GetState(), Ended: true}
	case j == nil:
		return s.refused(NotFound, nil)
	case byAttempt && !j.current(m.GetAttempt()):
		return s.refused(Stale, j)
	case m.GetFromAsker() && j.out && s.handouts[j.seq].asker != m.GetReporter():
		return s.refused(Stale, j)
	case m.GetFinal():
		return s.end(j, m.GetState())
	case !j.out:
		return s.reportWaiting(j, m)
	case !byAttempt && m.GetState() == StateWaiting:
		return s.requeue(j)
	}
	s.renew(j)
	return s.in(j, m.GetState())
}

// reportWaiting is a report on a job that nobody has taken. It takes it out of the queue, unless it was handed out before:
// then it comes from who lost it.
func (s *State) reportWaiting(j *job, m *event.JobStateReported) Outcome {
	if j.attempt == 0 && m.GetState() != StateWaiting {
		s.takeOut(j, &handout{asker: m.GetReporter(), since: s.now})
	}
	return s.in(j, m.GetState())
}

func (s *State) cancel(m *event.JobCancelRequested) Outcome {
	j := s.find(m.GetJob())
	switch {
	case j == nil:
		return s.refused(NotFound, nil)
	case !j.out:
		return s.end(j, StateCancelled)
	case s.handouts[j.seq].cancelled:
		return s.refused(Cancelled, j)
	}
	s.handouts[j.seq].cancelled = true
	return s.in(j, StateCancelled)
}

// find gives the live job that a reference names; nil when there is none. Of several with one id it is the newest that
// is out, else the oldest.
func (s *State) find(ref *event.JobRef) *job {
	if ref.GetJobId() == "" {
		return s.jobs.get(ref.GetSeq())
	}
	name := ToName(ref.GetJobId())
	g := s.groups[name]
	if g == nil {
		return s.jobs.get(s.named[name])
	}
	found, ok := g.out.Max()
	if !ok {
		found, _ = g.waiting.Min()
	}
	return s.jobs.get(found)
}
