package jobs_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/schemas/event"
)

// plainJob is a job as the plainest possible queue keeps it.
type plainJob struct {
	seq      uint64
	queue    string
	id       string
	priority int64
	held     bool
	excluded []string
	out      bool
	attempt  uint32
	expires  int64
	requeues uint32
	expiries uint32
	ended    bool
	// submitted is Unix milliseconds of log time.
	submitted int64
}

// plain is the order of the fold, by looking at every job.
func plain(all []*plainJob, queues []string, asker string, oneOfID bool) *plainJob {
	var best *plainJob
	for _, j := range all {
		if j.ended || j.out || j.held || !slices.Contains(queues, j.queue) || slices.Contains(j.excluded, asker) {
			continue
		}
		if oneOfID && second(all, j) {
			continue
		}
		if best == nil || j.priority > best.priority {
			best = j
		}
	}
	return best
}

// second says whether another job with the same id is out, or waits since before.
func second(all []*plainJob, j *plainJob) bool {
	return slices.ContainsFunc(all, func(other *plainJob) bool {
		return other != j && j.id != "" && other.id == j.id && !other.ended && (other.out || other.seq < j.seq)
	})
}

// history drives the fold and the plain queue with the same random events.
type history struct {
	*lab
	rand   *rand.Rand
	all    []*plainJob
	handed map[[2]uint64]bool
}

func (h *history) pick(of func(*plainJob) bool) *plainJob {
	var some []*plainJob
	for _, j := range h.all {
		if of(j) {
			some = append(some, j)
		}
	}
	if len(some) == 0 {
		return nil
	}
	return some[h.rand.IntN(len(some))]
}

func isOut(j *plainJob) bool { return j.out && !j.ended }

func (h *history) submit() {
	m := &event.JobSubmitted{Queue: fmt.Sprintf("q%d", h.rand.IntN(3)), Priority: h.rand.Int64N(4), AwaitsAttachments: h.rand.IntN(5) == 0}
	if h.rand.IntN(3) == 0 {
		m.JobId = uuid.NewSHA1(uuid.Nil, []byte{byte(h.rand.IntN(4))}).String()
	}
	if h.rand.IntN(4) == 0 {
		m.ExcludedAgents = []string{"otter"}
	}
	outcome := h.done(m)
	h.all = append(h.all, &plainJob{
		seq: outcome.Job.Seq, queue: m.GetQueue(), id: m.GetJobId(), priority: m.GetPriority(), held: m.GetAwaitsAttachments(), excluded: m.GetExcludedAgents(),
		submitted: h.now,
	})
	if outcome.Job.Seq != uint64(len(h.all)) {
		h.t.Fatalf("job %d is numbered %d", len(h.all), outcome.Job.Seq)
	}
}

func (h *history) claim() {
	m := &event.JobClaimRequested{Asker: []string{"otter", "mink"}[h.rand.IntN(2)], OneOfId: h.rand.IntN(2) == 0}
	for i := range 3 {
		if h.rand.IntN(2) == 0 {
			m.Queues = append(m.Queues, fmt.Sprintf("q%d", i))
		}
	}
	if h.rand.IntN(2) == 0 {
		m.Lease = lease(time.Duration(1+h.rand.IntN(60))*time.Second, uint32(h.rand.IntN(3)))
	}
	want := plain(h.all, m.GetQueues(), m.GetAsker(), m.GetOneOfId())
	if h.progress.State.Candidate(m) != (want != nil) {
		h.t.Fatalf("a candidate: %t, want %t", want == nil, want != nil)
	}
	outcome, _ := h.apply(m)
	if want == nil {
		if outcome.Result != jobs.Nothing {
			h.t.Fatalf("job %d is handed out, want none", outcome.Job.Seq)
		}
		return
	}
	if outcome.Job.Seq != want.seq {
		h.t.Fatalf("job %d is handed out, want %d", outcome.Job.Seq, want.seq)
	}
	once := [2]uint64{outcome.Job.Seq, uint64(outcome.Job.Attempt)}
	if h.handed[once] {
		h.t.Fatalf("job %d, attempt %d is handed out twice", once[0], once[1])
	}
	h.handed[once] = true
	want.out, want.attempt, want.expires, want.requeues = true, outcome.Job.Attempt, 0, m.GetLease().GetRequeues()
	if d := m.GetLease().GetDuration(); d > 0 {
		want.expires = h.now + d
	}
}

func (h *history) expire() {
	j := h.pick(isOut)
	if j == nil {
		return
	}
	attempt := j.attempt - uint32(h.rand.IntN(2))
	outcome, _ := h.apply(&event.JobLeaseExpired{Seq: j.seq, Attempt: attempt})
	counts := attempt == j.attempt && j.expires > 0 && h.now >= j.expires
	if (outcome.Result == jobs.Done) != counts {
		h.t.Fatalf("expiry of job %d, attempt %d of %d, at %d of %d: result %d", j.seq, attempt, j.attempt, h.now, j.expires, outcome.Result)
	}
	if counts {
		j.out, j.expiries = false, j.expiries+1
		j.ended = j.expiries > j.requeues
	}
}

func (h *history) step() {
	h.now += h.rand.Int64N(8_000)
	switch h.rand.IntN(11) {
	case 0, 1, 2:
		h.submit()
	case 3, 4, 5:
		h.claim()
	case 6:
		h.expire()
	case 7:
		if j := h.pick(func(j *plainJob) bool { return j.held && !j.ended && j.id == "" }); j != nil {
			h.done(&event.JobAttachmentsStored{Job: seqRef(j.seq)})
			j.held = false
		}
	case 8:
		if j := h.pick(isOut); j != nil {
			h.done(&event.JobStateReported{Job: seqRef(j.seq), Attempt: j.attempt, Final: true})
			j.out, j.ended = false, true
		}
	case 9:
		if j := h.pick(isOut); j != nil {
			shown, _ := h.progress.State.Find(seqRef(j.seq))
			h.done(jobs.Released(shown))
			j.out = false
		}
	case 10:
		if j := h.pick(isOut); j != nil {
			h.apply(&event.JobWorkerNamed{Seq: j.seq, Attempt: j.attempt, Worker: "mole"})
		}
	}
}

// check compares what lives and where it stands.
func (h *history) check() {
	h.t.Helper()
	for _, j := range h.all {
		shown, lives := h.progress.State.Find(seqRef(j.seq))
		if lives == j.ended || shown.Out != (j.out && !j.ended) {
			h.t.Fatalf("job %d: lives %t and is out %t; want %t, %t", j.seq, lives, shown.Out, !j.ended, j.out)
		}
		ahead, waits := h.progress.State.Ahead(seqRef(j.seq))
		if waits != (!j.ended && !j.out) {
			h.t.Fatalf("job %d waits: %t", j.seq, waits)
		}
		if want := h.ahead(j); waits && ahead != want {
			h.t.Fatalf("%d go before job %d, want %d", ahead, j.seq, want)
		}
	}
}

// checkQueues compares the queues' numbers.
func (h *history) checkQueues() {
	h.t.Helper()
	want := map[string]jobs.Queue{}
	for _, j := range h.all {
		q := want[j.queue]
		if j.out && !j.ended {
			q.Out++
		} else if !j.ended {
			if q.Waiting++; q.Oldest == 0 || j.submitted < q.Oldest {
				q.Oldest = j.submitted
			}
		}
		want[j.queue] = q
	}
	for name, q := range want {
		if got := h.progress.State.Queue(name); got != q {
			h.t.Fatalf("queue %s is %+v, want %+v", name, got, q)
		}
	}
}

func (h *history) ahead(j *plainJob) (n int) {
	for _, other := range h.all {
		if !other.ended && !other.out && other.queue == j.queue &&
			(other.priority > j.priority || other.priority == j.priority && other.seq < j.seq) {
			n++
		}
	}
	return n
}

func TestAnyHistoryHandsOutInOrderAndLosesNothing(t *testing.T) {
	for seed := range uint64(30) {
		h := &history{lab: newLab(t), rand: rand.New(rand.NewPCG(seed, 1)), handed: map[[2]uint64]bool{}}
		for range 600 {
			h.step()
		}
		h.check()
		h.checkQueues()
	}
}

func TestReplicaFromAStoredStateDecidesTheSame(t *testing.T) {
	definition := jobs.Fold()
	for seed := range uint64(10) {
		h := &history{lab: newLab(t), rand: rand.New(rand.NewPCG(seed, 2)), handed: map[[2]uint64]bool{}}
		for range 400 {
			h.step()
		}
		bytes, err := definition.Encode(h.progress.State)
		if err != nil {
			t.Fatal(err)
		}
		h.follower = definition.Start()
		if h.follower.State, err = definition.Decode(bytes); err != nil {
			t.Fatal(err)
		}
		for range 400 {
			h.step()
		}
		h.check()
	}
}
