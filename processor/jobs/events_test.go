package jobs_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/schemas/event"
)

// events makes random events of every kind, few of which make sense.
type events struct {
	*lab
	rand *rand.Rand
	// out are hand-outs, some of which are over.
	out []jobs.Job
}

func (e *events) one(of ...string) string { return of[e.rand.IntN(len(of))] }
func (e *events) some() bool              { return e.rand.IntN(2) == 0 }
func (e *events) queue() string           { return e.one("q0", "q1", "q2") }
func (e *events) id() string              { return e.one("a", "b", "c") }

func (e *events) seq() uint64 {
	last := e.progress.State.Last()
	return last - uint64(e.rand.Int64N(min(int64(last), 40)+1))
}

func (e *events) handOut() jobs.Job {
	if len(e.out) == 0 || e.rand.IntN(8) == 0 {
		return jobs.Job{Seq: e.seq(), Attempt: uint32(e.rand.IntN(3))}
	}
	return e.out[len(e.out)-1-e.rand.IntN(min(len(e.out), 20))]
}

func (e *events) ref() *event.JobRef {
	if e.some() {
		return idRef(e.id())
	}
	return seqRef(e.seq())
}

func (e *events) key() *event.Idempotency {
	if e.rand.IntN(3) > 0 {
		return nil
	}
	return &event.Idempotency{Key: []byte{byte(e.rand.IntN(12))}, Body: []byte{byte(e.rand.IntN(8) / 7)}, KeepSeconds: e.rand.Int64N(100)}
}

func (e *events) submission() *event.JobSubmitted {
	m := &event.JobSubmitted{
		Idempotency: e.key(), Queue: e.queue(), Priority: e.rand.Int64N(3), AwaitsAttachments: e.rand.IntN(3) == 0,
		ExcludedAgents: [][]string{nil, nil, {"mink"}, {"mink", "otter"}}[e.rand.IntN(4)],
	}
	if e.some() {
		m.JobId = e.id()
	}
	return m
}

func (e *events) claim() *event.JobClaimRequested {
	m := &event.JobClaimRequested{
		Idempotency: e.key(), Asker: e.one("otter", "mink", ""), OneOfId: e.some(), Queues: []string{e.queue(), e.queue()},
		Lease: &event.JobLease{Duration: e.rand.Int64N(60_000), Requeues: uint32(e.rand.IntN(3)), EndState: "lost", ByAnyCall: e.some()},
	}
	if e.rand.IntN(5) == 0 {
		m.Job = e.ref()
	}
	return m
}

// next is a random event.
func (e *events) next() proto.Message {
	h := e.handOut()
	switch e.rand.IntN(13) {
	case 0, 1, 2:
		return e.submission()
	case 3:
		return &event.JobBatchSubmitted{
			Idempotency: e.key(), Queue: e.queue(), Count: uint32(e.rand.IntN(4)),
			Turns: []*event.JobBatchTurn{{From: 1, Queue: e.queue()}}, Ended: []uint32{uint32(e.rand.IntN(3))},
		}
	case 4:
		return &event.JobAttachmentsStored{Job: e.ref()}
	case 5, 6, 7:
		return e.claim()
	case 8:
		return &event.JobReleased{Seq: h.Seq, ClaimId: h.Claim.String()}
	case 9:
		if e.some() {
			return &event.JobWorkerNamed{Seq: h.Seq, Attempt: h.Attempt, Worker: e.one("", "mole")}
		}
		return &event.JobHeartbeat{Seq: h.Seq, Attempt: h.Attempt}
	case 10:
		return &event.JobLeaseExpired{Seq: h.Seq, Attempt: h.Attempt}
	case 11:
		return &event.JobCancelRequested{Idempotency: e.key(), Job: e.ref()}
	}
	m := &event.JobStateReported{
		Idempotency: e.key(), Job: e.ref(), State: e.one(jobs.StateWaiting, jobs.StateRunning, "done"), Reporter: e.one("otter", "mink"),
		FromAsker: e.some(), Final: e.some(),
	}
	if e.some() {
		m.Job, m.Attempt = seqRef(h.Seq), h.Attempt
	}
	return m
}

// agree compares what doors read of both states.
func (e *events) agree() {
	e.t.Helper()
	view := func(s *jobs.State) (text string) {
		for _, queue := range []string{"q0", "q1", "q2"} {
			sets, known := s.Exclusions(queue, []string{"mink"})
			text += fmt.Sprintln(queue, s.Queue(queue), s.Next(queue, 20), sets, known)
		}
		for seq := s.Last() - min(s.Last(), 60); seq <= s.Last(); seq++ {
			job, lives := s.Find(seqRef(seq))
			ahead, waits := s.Ahead(seqRef(seq))
			text += fmt.Sprintln(job, lives, ahead, waits, s.Attachable(seqRef(seq)))
		}
		for _, id := range []string{"a", "b", "c"} {
			job, lives := s.Find(idRef(id))
			text += fmt.Sprintln(id, job, lives, s.Attachable(idRef(id)))
		}
		return text + fmt.Sprintln(s.Due(e.now, 50))
	}
	if a, b := view(e.progress.State), view(e.follower.State); a != b {
		e.t.Fatalf("the states differ:\n%s\n%s", a, b)
	}
}

func TestReplicaThatStartsFromStoredStatesAgainAndAgainAgreesOnEveryKindOfEvent(t *testing.T) {
	definition := jobs.Fold()
	for seed := range uint64(12) {
		e := &events{lab: newLab(t), rand: rand.New(rand.NewPCG(seed, 3))}
		e.follower = definition.Start()
		for step := range 1500 {
			e.now += e.rand.Int64N(8_000)
			outcome, _ := e.apply(e.next())
			if outcome.Job.Out && outcome.Job.Claim != uuid.Nil {
				e.out = append(e.out, outcome.Job)
			}
			if step%25 != 0 {
				continue
			}
			e.agree()
			bytes, err := definition.Encode(e.progress.State)
			if err == nil {
				e.follower.State, err = definition.Decode(bytes)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}
