package jobs

import (
	"cmp"
	"slices"
	"sort"

	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas/event"
)

// show copies what callers may see of a job.
func (j *job) show() Job {
	q := j.lane.queue
	shown := Job{
		Seq: j.seq, Family: q.family, Queue: q.name, Name: j.name, Priority: j.priority, Submitted: j.submitted,
		Attempt: j.attempt, Attachments: j.attachments,
	}
	if h := j.handout; h != nil {
		shown.Out, shown.Cancelled, shown.Asker, shown.Claim = true, h.cancelled, h.asker, h.claim
		shown.Since, shown.Expires = h.since, h.expires
	}
	return shown
}

// Last is the number of the newest job.
func (s *State) Last() uint64 { return s.last }

// Find gives a live job. Of several with one id it is the newest that is out, else the oldest.
func (s *State) Find(ref *event.JobRef) (Job, bool) {
	j := s.find(ref)
	if j == nil {
		return Job{}, false
	}
	return j.show(), true
}

// Candidate says whether a claim would get a job now, so that nothing is appended while there is none.
func (s *State) Candidate(m *event.JobClaimRequested) bool { return s.claimable(m) != nil }

// Ahead gives the number of jobs that go before a waiting one in its queue, held ones too; false when it does not wait.
func (s *State) Ahead(ref *event.JobRef) (int, bool) {
	j := s.find(ref)
	if j == nil || j.handout != nil {
		return 0, false
	}
	ahead := 0
	for _, l := range j.lane.queue.lanes {
		ahead += sort.Search(l.waiting.Len(), func(i int) bool {
			other, _ := l.waiting.GetAt(i)
			return !goesFirst(other, j)
		})
	}
	return ahead, true
}

// Next lists up to n jobs of a queue in the order in which they go out, to whomever, for reading their documents ahead.
func (s *State) Next(queue string, n int) []uint64 {
	q := s.queues[queue]
	if q == nil {
		return nil
	}
	var first []*job
	for _, l := range q.lanes {
		if l.held {
			continue
		}
		left := n
		l.waiting.Scan(func(j *job) bool {
			first = append(first, j)
			left--
			return left > 0
		})
	}
	slices.SortFunc(first, func(a, b *job) int {
		return cmp.Or(cmp.Compare(b.priority, a.priority), cmp.Compare(a.seq, b.seq))
	})
	seqs := make([]uint64, 0, n)
	for _, j := range first[:min(n, len(first))] {
		seqs = append(seqs, j.seq)
	}
	return seqs
}

// Due gives up to n hand-outs whose lease has ended by a time, in Unix milliseconds, earliest first.
func (s *State) Due(now int64, n int) []Job {
	var due []Job
	s.leased.Scan(func(j *job) bool {
		if len(due) == n || j.handout.expires > now {
			return false
		}
		due = append(due, j.show())
		return true
	})
	return due
}

// Claimed gives the job that is out by a claim.
func (s *State) Claimed(claim uuid.UUID) (found Job, ok bool) {
	s.out.Scan(func(j *job) bool {
		if ok = j.handout.claim == claim; ok {
			found = j.show()
		}
		return !ok
	})
	return found, ok
}

// Depth counts the jobs of a queue that wait, and those that are out.
func (s *State) Depth(queue string) (waiting, out uint64) {
	q := s.queues[queue]
	if q == nil {
		return 0, 0
	}
	return q.waiting(), q.out
}

// Queue is a queue with live jobs.
type Queue struct {
	Name         string
	Family       event.JobFamily
	Waiting, Out uint64
}

// Queues lists the queues with live jobs, by name.
func (s *State) Queues() []Queue {
	queues := make([]Queue, 0, len(s.queues))
	for _, q := range s.queues {
		queues = append(queues, Queue{Name: q.name, Family: q.family, Waiting: q.waiting(), Out: q.out})
	}
	slices.SortFunc(queues, func(a, b Queue) int { return cmp.Compare(a.Name, b.Name) })
	return queues
}

// Released is the event that takes a claim back.
func Released(j Job) *event.JobReleased {
	return &event.JobReleased{Seq: j.Seq, ClaimId: j.Claim.String()}
}

// Answered says whether a claim with this idempotency key was answered with a job, so that its repeat has to be asked of
// the log although there may be no candidate.
func (s *State) Answered(key *event.Idempotency) bool {
	_, known := s.repeats.Known[string(key.GetKey())]
	return known
}
