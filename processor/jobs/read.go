package jobs

import (
	"cmp"
	"math"
	"slices"
	"sort"

	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas/event"
)

// show copies what callers may see of a job.
func (s *State) show(j *job) Job {
	q := s.lanes[j.lane].queue
	shown := Job{
		Seq: j.seq, Family: q.family, Queue: q.name, Name: j.name, Priority: j.priority, Submitted: j.submitted,
		Attempt: j.attempt, Attachments: j.attachments,
	}
	if h := s.handouts[j.seq]; j.out {
		shown.Out, shown.Cancelled, shown.Asker, shown.Claim = true, h.cancelled, h.asker, h.claim
		shown.Since, shown.Expires, shown.Lease, shown.ByAnyCall = h.since, h.expires, h.duration, h.byAnyCall
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
	return s.show(j), true
}

// Candidate says whether a claim would get a job now, so that nothing is appended while there is none.
func (s *State) Candidate(m *event.JobClaimRequested) bool { return s.claimable(m) != nil }

// Exclusions counts the different sets of excluded agents of a queue's jobs, and says whether one is among them. Each is a
// place that every claim over the queue looks at.
func (s *State) Exclusions(queue string, excluded []string) (sets int, known bool) {
	q := s.queues[queue]
	if q == nil {
		return 0, false
	}
	seen := map[string]bool{}
	for _, l := range q.lanes {
		if set := (laneKey{excluded: l.excluded}).String(); len(l.excluded) > 0 && !seen[set] {
			seen[set] = true
			known = known || slices.Equal(l.excluded, excluded)
		}
	}
	return len(seen), known
}

// Ahead gives the number of jobs that go before a waiting one in its queue, held ones too; false when it does not wait.
func (s *State) Ahead(ref *event.JobRef) (int, bool) {
	j := s.find(ref)
	if j == nil || j.out {
		return 0, false
	}
	ahead := 0
	for _, l := range s.lanes[j.lane].queue.lanes {
		ahead += sort.Search(l.waiting.Len(), func(i int) bool {
			other, _ := l.waiting.GetAt(i)
			return !goesFirst(other, j.place())
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
	var first []place
	for _, l := range q.lanes {
		if l.held {
			continue
		}
		left := n
		l.waiting.Scan(func(p place) bool {
			first = append(first, p)
			left--
			return left > 0
		})
	}
	slices.SortFunc(first, func(a, b place) int {
		return cmp.Or(cmp.Compare(b.priority, a.priority), cmp.Compare(a.seq, b.seq))
	})
	seqs := make([]uint64, 0, n)
	for _, p := range first[:min(n, len(first))] {
		seqs = append(seqs, p.seq)
	}
	return seqs
}

// Due gives up to n hand-outs whose lease has ended by a time, in Unix milliseconds, earliest first.
func (s *State) Due(now int64, n int) []Job {
	var due []Job
	s.leased.Scan(func(end leaseEnd) bool {
		if len(due) == n || end.expires > now {
			return false
		}
		due = append(due, s.show(s.jobs.get(end.seq)))
		return true
	})
	return due
}

// Claimed gives the job that is out by a claim: of several the oldest.
func (s *State) Claimed(claim uuid.UUID) (Job, bool) {
	var oldest uint64
	for seq, h := range s.handouts {
		if h.claim == claim && (oldest == 0 || seq < oldest) {
			oldest = seq
		}
	}
	if oldest == 0 {
		return Job{}, false
	}
	return s.show(s.jobs.get(oldest)), true
}

// Depth counts the jobs of a queue that wait, and those that are out.
func (s *State) Depth(queue string) (waiting, out uint64) {
	q := s.queues[queue]
	if q == nil {
		return 0, 0
	}
	return q.waiting(), q.out
}

// Queue is how long a queue is.
type Queue struct {
	Waiting, Out uint64
	// Oldest is when the job was submitted that has waited longest, in Unix milliseconds of log time; 0 when none waits.
	Oldest int64
}

// Queue gives a queue's numbers; they are zero where no job lives.
func (s *State) Queue(name string) Queue {
	q := s.queues[name]
	if q == nil {
		return Queue{}
	}
	return Queue{Waiting: q.waiting(), Out: q.out, Oldest: s.oldest(q)}
}

// maxPriorities bounds the priorities that are looked at for the oldest job of a lane, highest first. Those who use more
// are told of the oldest among them.
const maxPriorities = 1000

// oldest is when the job was submitted that has waited longest; 0 when none waits. Within a priority it is the first one.
func (s *State) oldest(q *queue) (oldest int64) {
	for _, l := range q.lanes {
		first, more := l.waiting.Min()
		for n := 0; more && n < maxPriorities; n++ {
			if submitted := s.jobs.get(first.seq).submitted; oldest == 0 || submitted < oldest {
				oldest = submitted
			}
			last := place{first.priority, math.MaxUint64}
			more = false
			l.waiting.Ascend(last, func(p place) bool {
				first, more = p, true
				return false
			})
		}
	}
	return oldest
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

// Attachable tells what would become of attachments for a job: Done that it waits for them.
func (s *State) Attachable(ref *event.JobRef) Result {
	_, result := s.attachable(ref)
	return result
}
