package jobs_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/processor/fold"
	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// lab is a fold with a clock.
type lab struct {
	t        testing.TB
	progress *fold.Progress[*jobs.State, jobs.Outcome]
	// follower, where there is one, folds the same records and must agree.
	follower *fold.Progress[*jobs.State, jobs.Outcome]
	offset   int64
	now      int64
}

func newLab(t testing.TB) *lab {
	return &lab{t: t, progress: jobs.Fold().Start(), now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixMilli()}
}

// apply folds a request and gives its outcome and its event id.
func (l *lab) apply(message proto.Message) (jobs.Outcome, uuid.UUID) {
	l.t.Helper()
	wrapped, err := eventlog.NewEvent("/test", message)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.repeat(wrapped), wrapped.ID
}

func (l *lab) repeat(e eventlog.Event) jobs.Outcome {
	record := eventlog.Record{Event: e, Partition: eventlog.Partition{Topic: eventlog.Jobs}, Offset: l.offset, LogTime: l.now}
	l.offset++
	outcome := l.progress.Apply(1, &record)
	if l.follower == nil {
		return outcome
	}
	if difference := cmp.Diff(outcome, l.follower.Apply(1, &record)); difference != "" {
		l.t.Fatalf("the follower decides otherwise on %s:\n%s", e.Type, difference)
	}
	return outcome
}

// done folds a request that must be done.
func (l *lab) done(message proto.Message) jobs.Outcome {
	l.t.Helper()
	outcome, _ := l.apply(message)
	if outcome.Result != jobs.Done {
		l.t.Fatalf("%T: result %d, want done", message, outcome.Result)
	}
	return outcome
}

func (l *lab) refused(message proto.Message, want jobs.Result) {
	l.t.Helper()
	if outcome, _ := l.apply(message); outcome.Result != want {
		l.t.Errorf("%T: result %d, want %d", message, outcome.Result, want)
	}
}

// claims expects that claims of queues give these jobs, then none.
func (l *lab) claims(claim *event.JobClaimRequested, want ...uint64) {
	l.t.Helper()
	for _, seq := range want {
		if outcome, _ := l.apply(claim); outcome.Result != jobs.Done || outcome.Job.Seq != seq {
			l.t.Fatalf("claim gives result %d, job %d; want job %d", outcome.Result, outcome.Job.Seq, seq)
		}
	}
	l.refused(claim, jobs.Nothing)
}

func submitted(queue string, priority int64) *event.JobSubmitted {
	return &event.JobSubmitted{Family: event.JobFamily_JOB_FAMILY_NATIVE, Queue: queue, Priority: priority}
}

func named(id string) *event.JobSubmitted {
	return &event.JobSubmitted{Family: event.JobFamily_JOB_FAMILY_TESTFLINGER, Queue: "q", JobId: id}
}

func claimed(queues ...string) *event.JobClaimRequested {
	return &event.JobClaimRequested{Queues: queues, Asker: "otter"}
}

func seqRef(seq uint64) *event.JobRef { return &event.JobRef{Name: &event.JobRef_Seq{Seq: seq}} }

func idRef(id string) *event.JobRef { return &event.JobRef{Name: &event.JobRef_JobId{JobId: id}} }

func key(name string) *event.Idempotency {
	return &event.Idempotency{Key: []byte(name), Body: []byte("body"), KeepSeconds: 3600}
}

func lease(d time.Duration, requeues uint32) *event.JobLease {
	return &event.JobLease{Duration: d.Milliseconds(), Requeues: requeues, EndState: "failed", ByAnyCall: requeues == 1}
}

func TestClaimTakesTheHighestPriorityOfItsQueuesThenTheOldest(t *testing.T) {
	l := newLab(t)
	for _, m := range []*event.JobSubmitted{
		submitted("a", 0), submitted("b", 0), submitted("b", 7), submitted("a", 7), submitted("c", 9), submitted("a", -1),
	} {
		l.done(m)
	}
	l.claims(claimed("b", "a"), 3, 4, 1, 2, 6)
	l.claims(claimed("c", "nobody"), 5)
}

func TestBatchTakesANumberForEachJob(t *testing.T) {
	l := newLab(t)
	l.done(submitted("q", 0))
	batch := l.done(&event.JobBatchSubmitted{Queue: "q", Priority: 1, Count: 3})
	if batch.Job.Seq != 2 || batch.Count != 3 || batch.Waiting != 4 {
		t.Errorf("the batch begins at %d with %d jobs, %d wait; want 2, 3, 4", batch.Job.Seq, batch.Count, batch.Waiting)
	}
	if after := l.done(submitted("q", 0)); after.Job.Seq != 5 {
		t.Errorf("the job after it is %d, want 5", after.Job.Seq)
	}
	l.claims(claimed("q"), 2, 3, 4, 1, 5)
}

func TestBatchOverSeveralQueuesEndsTheItemsThatAreNotToRun(t *testing.T) {
	l := newLab(t)
	batch := l.done(&event.JobBatchSubmitted{
		Queue: "a", Count: 5, Turns: []*event.JobBatchTurn{{From: 2, Queue: "b"}, {From: 4, Queue: "c"}}, Ended: []uint32{0, 3},
	})
	if batch.Job.Seq != 1 || batch.Count != 5 {
		t.Errorf("the batch begins at %d with %d jobs, want 1 and 5", batch.Job.Seq, batch.Count)
	}
	l.claims(claimed("b"), 3)
	l.claims(claimed("a"), 2)
	l.claims(claimed("c"), 5)
	if after := l.done(submitted("a", 0)); after.Job.Seq != 6 {
		t.Errorf("the job after it is %d, want 6: what ends at once has a number too", after.Job.Seq)
	}
}

func TestEventThatStandsTwiceInTheLogCountsOnce(t *testing.T) {
	l := newLab(t)
	first, _ := eventlog.NewEvent("/test", submitted("q", 0))
	claim, _ := eventlog.NewEvent("/test", claimed("q"))
	for _, e := range []eventlog.Event{first, first, claim, claim} {
		l.repeat(e)
	}
	if waiting, out := l.progress.State.Depth("q"); waiting != 0 || out != 1 {
		t.Errorf("%d wait and %d are out, want 0 and 1", waiting, out)
	}
	l.done(submitted("q", 0))
	l.repeat(claim)
	l.claims(claimed("q"), 2)
}

func TestJobWaitsForItsAttachmentsAndKeepsItsPlace(t *testing.T) {
	l := newLab(t)
	held := submitted("q", 5)
	held.AwaitsAttachments = true
	l.done(held)
	l.done(submitted("q", 5))
	if ahead, waits := l.progress.State.Ahead(seqRef(2)); ahead != 1 || !waits {
		t.Errorf("%d go before the second job, want the held one", ahead)
	}
	l.claims(claimed("q"), 2)
	l.done(&event.JobAttachmentsStored{Job: seqRef(1)})
	l.refused(&event.JobAttachmentsStored{Job: seqRef(1)}, jobs.Known)
	l.refused(&event.JobAttachmentsStored{Job: seqRef(2)}, jobs.NotWaiting)
	l.refused(&event.JobAttachmentsStored{Job: seqRef(3)}, jobs.NotFound)
	l.claims(claimed("q"), 1)
	l.refused(&event.JobAttachmentsStored{Job: seqRef(1)}, jobs.NotWaiting)
	l.done(submitted("q", 0))
	l.refused(&event.JobAttachmentsStored{Job: seqRef(3)}, jobs.NotAwaiting)
}

func TestExcludedAgentDoesNotGetTheJob(t *testing.T) {
	l := newLab(t)
	picky := submitted("q", 9)
	picky.ExcludedAgents = []string{"badger", "otter"}
	l.done(picky)
	l.done(submitted("q", 0))
	l.claims(claimed("q"), 2)
	l.claims(&event.JobClaimRequested{Queues: []string{"q"}, Asker: "mink"}, 1)
}

func TestPositionCountsWhoGoesBefore(t *testing.T) {
	l := newLab(t)
	for _, priority := range []int64{0, 3, 3, 9, 0} {
		l.done(submitted("q", priority))
	}
	for seq, want := range map[uint64]int{4: 0, 2: 1, 3: 2, 1: 3, 5: 4} {
		if ahead, waits := l.progress.State.Ahead(seqRef(seq)); ahead != want || !waits {
			t.Errorf("%d go before job %d, want %d", ahead, seq, want)
		}
	}
	l.apply(claimed("q"))
	if _, waits := l.progress.State.Ahead(seqRef(4)); waits {
		t.Error("a job that is out has a position")
	}
}

func TestRepeatedClaimGetsTheSameJobUntilItIsTakenBack(t *testing.T) {
	l := newLab(t)
	l.done(submitted("q", 0))
	l.done(submitted("q", 0))
	claim := claimed("q")
	claim.Idempotency = key("k")
	first, firstID := l.apply(claim)
	again, _ := l.apply(claim)
	if again.Job.Seq != first.Job.Seq || again.Job.Attempt != first.Job.Attempt || !again.Repeated {
		t.Fatalf("the repeat gets job %d, attempt %d; want %d, %d", again.Job.Seq, again.Job.Attempt, first.Job.Seq, first.Job.Attempt)
	}
	l.refused(&event.JobReleased{Seq: first.Job.Seq, ClaimId: firstID.String()}, jobs.Stale)
	other := claimed("other")
	other.Idempotency = &event.Idempotency{Key: []byte("k"), Body: []byte("another"), KeepSeconds: 3600}
	l.refused(other, jobs.KeyReused)
	l.done(jobs.Released(again.Job))
	fresh, _ := l.apply(claim)
	if fresh.Repeated || fresh.Job.Seq != first.Job.Seq || fresh.Job.Attempt != 2 {
		t.Errorf("after the release the claim gets job %d, attempt %d; want %d, 2", fresh.Job.Seq, fresh.Job.Attempt, first.Job.Seq)
	}
}

func TestClaimThatGotNothingDoesNotTakeItsKey(t *testing.T) {
	l := newLab(t)
	claim := claimed("q")
	claim.Idempotency = key("k")
	l.refused(claim, jobs.Nothing)
	l.done(submitted("q", 0))
	if l.progress.State.Answered(claim.GetIdempotency()) {
		t.Error("the key is taken")
	}
	l.done(claim)
	if !l.progress.State.Answered(claim.GetIdempotency()) {
		t.Error("the key is not taken")
	}
}

func TestReleasedJobGoesBackToItsPlace(t *testing.T) {
	l := newLab(t)
	l.done(submitted("q", 0))
	l.done(submitted("q", 0))
	got := l.done(claimed("q"))
	l.done(jobs.Released(got.Job))
	l.claims(claimed("q"), 1, 2)
	l.refused(jobs.Released(got.Job), jobs.Stale)
}

func TestLeaseExpiresOnlyForTheCurrentAttemptAndWhenItsTimeHasPassed(t *testing.T) {
	l := newLab(t)
	l.done(submitted("q", 0))
	claim := claimed("q")
	claim.Lease = lease(time.Minute, 1)
	l.done(claim)
	expired := &event.JobLeaseExpired{Seq: 1, Attempt: 1}
	l.now += 59_999
	l.refused(expired, jobs.Early)
	l.done(&event.JobHeartbeat{Seq: 1, Attempt: 1})
	l.now += 59_999
	l.refused(expired, jobs.Early)
	l.now++
	if due := l.progress.State.Due(l.now, 9); len(due) != 1 || due[0].Seq != 1 || due[0].Attempt != 1 {
		t.Fatalf("due are %v, want job 1", due)
	}
	l.done(expired)
	l.refused(expired, jobs.Stale)
	l.refused(&event.JobHeartbeat{Seq: 1, Attempt: 1}, jobs.Stale)
	if second := l.done(claim); second.Job.Attempt != 2 {
		t.Errorf("the next attempt is %d, want 2", second.Job.Attempt)
	}
	l.refused(expired, jobs.Stale)
	l.now += 60_000
	if last := l.done(&event.JobLeaseExpired{Seq: 1, Attempt: 2}); !last.Ended {
		t.Error("a job that expired once too often lives on")
	}
	l.refused(claim, jobs.Nothing)
}

func TestFirstWordOnWhoWorksOnAJobCounts(t *testing.T) {
	l := newLab(t)
	l.done(submitted("q", 0))
	named := func(attempt uint32, worker string) *event.JobWorkerNamed {
		return &event.JobWorkerNamed{Seq: 1, Attempt: attempt, Worker: worker}
	}
	l.refused(named(0, "mole"), jobs.Stale)
	claim := claimed("q")
	claim.Asker = ""
	l.done(claim)
	l.refused(named(2, "mole"), jobs.Stale)
	l.refused(named(1, ""), jobs.Known)
	l.done(named(1, "otter"))
	l.refused(named(1, "mole"), jobs.Known)
	shown, _ := l.progress.State.Find(seqRef(1))
	if shown.Asker != "otter" {
		t.Errorf("the job is %q's, want otter's", shown.Asker)
	}
	l.done(jobs.Released(shown))
	l.refused(named(1, "otter"), jobs.Stale)
	claim = claimed("q")
	claim.Asker = "mink"
	l.done(claim)
	l.refused(named(2, "otter"), jobs.Known)
	l.refused(&event.JobWorkerNamed{Seq: 2, Attempt: 1, Worker: "otter"}, jobs.NotFound)
}

func TestHandOutWithoutLeaseIsNeverDue(t *testing.T) {
	l := newLab(t)
	l.done(submitted("q", 0))
	l.done(claimed("q"))
	l.now += 1e12
	if due := l.progress.State.Due(l.now, 9); len(due) != 0 {
		t.Errorf("due are %v", due)
	}
	l.refused(&event.JobLeaseExpired{Seq: 1, Attempt: 1}, jobs.Early)
}

func TestReportOfAnAttemptThatIsOverIsRefused(t *testing.T) {
	l := newLab(t)
	l.done(submitted("q", 0))
	l.done(claimed("q"))
	report := &event.JobStateReported{Job: seqRef(1), Attempt: 1, State: "complete", Final: true, Idempotency: key("k")}
	stale := proto.CloneOf(report)
	stale.Attempt, stale.Idempotency = 2, nil
	l.refused(stale, jobs.Stale)
	if ended := l.done(report); !ended.Ended || ended.Out != 0 {
		t.Errorf("ended is %t and %d are out, want true and 0", ended.Ended, ended.Out)
	}
	if again := l.done(report); !again.Repeated {
		t.Error("the report under the same key is another one")
	}
	report.Idempotency = nil
	l.refused(report, jobs.NotFound)
}

func TestReportsWithoutAttemptFollowTheOldAPI(t *testing.T) {
	const id = "5b6b2f6e-0f0e-4b5f-9a52-1d2f5a3c7e11"
	l := newLab(t)
	report := func(state string, final bool) *event.JobStateReported {
		return &event.JobStateReported{Job: idRef(id), State: state, Final: final}
	}
	l.refused(report("test", false), jobs.NotFound)
	l.done(named(id))
	l.done(report("test", false)) // somebody who never asked works on it
	l.refused(claimed("q"), jobs.Nothing)
	l.done(report("waiting", false))
	l.done(claimed("q"))
	l.done(&event.JobCancelRequested{Job: idRef(id)})
	l.refused(&event.JobCancelRequested{Job: idRef(id)}, jobs.Cancelled)
	l.done(report("cleanup", false))
	l.done(report("complete", true))
	l.refused(&event.JobCancelRequested{Job: idRef(id)}, jobs.NotFound)
	l.refused(&event.JobStateReported{Job: seqRef(1), State: "complete", Final: true}, jobs.Late)
	l.refused(&event.JobStateReported{Job: seqRef(2), State: "complete", Final: true}, jobs.NotFound)
}

func TestReportOfAnAgentThatHasLostTheJobToAnotherChangesNothing(t *testing.T) {
	l := newLab(t)
	lease := &event.JobLease{Duration: 60_000, Requeues: 1, EndState: "complete", ByAnyCall: true}
	l.done(&event.JobSubmitted{Queue: "q", JobId: "a"})
	l.done(&event.JobClaimRequested{Queues: []string{"q"}, Asker: "otter", Lease: lease})
	l.now += 60_000
	l.done(&event.JobLeaseExpired{Seq: 1, Attempt: 1})
	second := l.done(&event.JobClaimRequested{Queues: []string{"q"}, Asker: "mole", Lease: lease}).Job
	if second.Lease != 60_000 || !second.ByAnyCall {
		t.Errorf("the hand-out holds for %d ms, by any call: %t", second.Lease, second.ByAnyCall)
	}
	ref := &event.JobRef{Name: &event.JobRef_JobId{JobId: "a"}}
	for _, state := range []string{"test", "waiting", "complete"} {
		l.now += 1000
		l.refused(&event.JobStateReported{Job: ref, State: state, Final: state == "complete", Reporter: "otter", FromAsker: true}, jobs.Stale)
	}
	now, _ := l.progress.State.Find(ref)
	if difference := cmp.Diff(second, now); difference != "" {
		t.Errorf("the second hand-out has changed:\n%s", difference)
	}
	l.done(&event.JobStateReported{Job: ref, State: "complete", Final: true, Reporter: "mole", FromAsker: true})
}

func TestCancelledJobThatWaitsIsNotHandedOut(t *testing.T) {
	l := newLab(t)
	l.done(submitted("q", 0))
	if ended := l.done(&event.JobCancelRequested{Job: seqRef(1)}); !ended.Ended || ended.Waiting != 0 {
		t.Errorf("ended is %t and %d wait, want true and 0", ended.Ended, ended.Waiting)
	}
	l.refused(claimed("q"), jobs.Nothing)
}

func TestCancelledJobWhoseWorkerIsLostEnds(t *testing.T) {
	l := newLab(t)
	l.done(submitted("q", 0))
	l.done(submitted("q", 0))
	claim := claimed("q")
	claim.Lease = lease(time.Minute, 5)
	l.done(claim)
	released := l.done(claim)
	for seq := range uint64(2) {
		l.done(&event.JobCancelRequested{Job: seqRef(seq + 1)})
	}
	l.now += 60_000
	if expired := l.done(&event.JobLeaseExpired{Seq: 1, Attempt: 1}); !expired.Ended {
		t.Error("expired: the cancelled job goes back to its queue")
	}
	if back := l.done(jobs.Released(released.Job)); !back.Ended {
		t.Error("released: the cancelled job goes back to its queue")
	}
}

func TestRepeatedIDIsAnotherHandOutOnTheOldPathAndOneLiveJobOnTheNativePath(t *testing.T) {
	const id = "5b6b2f6e-0f0e-4b5f-9a52-1d2f5a3c7e11"
	l := newLab(t)
	for range 3 {
		l.done(named(id))
	}
	native := claimed("q")
	native.OneOfId = true
	l.claims(native, 1)
	l.refused(&event.JobClaimRequested{Job: idRef(id), OneOfId: true}, jobs.Nothing)
	l.done(&event.JobStateReported{Job: seqRef(1), Attempt: 1, State: "complete", Final: true})
	l.claims(native, 2)
	l.claims(claimed("q"), 3)
	if newest, _ := l.progress.State.Find(idRef(id)); newest.Seq != 3 {
		t.Errorf("the id names job %d, want 3, the newest that is out", newest.Seq)
	}
	l.done(&event.JobStateReported{Job: idRef(id), State: "waiting"})
	l.refused(native, jobs.Nothing)
	l.done(&event.JobStateReported{Job: idRef(id), State: "complete", Final: true})
	l.claims(native, 3)
}

func TestAnotherSpellingOfAnIDIsAnotherJob(t *testing.T) {
	l := newLab(t)
	l.done(named("{5b6b2f6e-0f0e-4b5f-9a52-1d2f5a3c7e11}"))
	if _, found := l.progress.State.Find(idRef("5b6b2f6e-0f0e-4b5f-9a52-1d2f5a3c7e11")); found {
		t.Error("the id is found under another spelling")
	}
	if _, found := l.progress.State.Find(idRef("{5b6b2f6e-0f0e-4b5f-9a52-1d2f5a3c7e11}")); !found {
		t.Error("the id is not found as it was spelled")
	}
}

func TestNextListsWhatGoesOutNext(t *testing.T) {
	l := newLab(t)
	for _, priority := range []int64{0, 3, 3, 9, 0} {
		l.done(submitted("q", priority))
	}
	picky := submitted("q", 5)
	picky.ExcludedAgents = []string{"otter"}
	l.done(picky)
	got := l.progress.State.Next("q", 4)
	if want := []uint64{4, 6, 2, 3}; len(got) != 4 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] || got[3] != want[3] {
		t.Errorf("next are %v, want %v", got, want)
	}
}
