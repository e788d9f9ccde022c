package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millrace/millrace/ingest/dispatch"
	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/ingest/door/doortest"
	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) { os.Exit(code) }))
}

// shelf is what the projections know of submissions.
type shelf struct {
	mu    sync.Mutex
	size  int
	reads int
}

func (s *shelf) find(_ context.Context, needed uint64, others []uint64) (map[uint64]*dispatch.Submission, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	found := map[uint64]*dispatch.Submission{}
	for _, seq := range append(others, needed) {
		found[seq] = &dispatch.Submission{Document: &event.Document{
			Place: &event.Document_Inline{Inline: fmt.Appendf(make([]byte, 0, s.size), "%0*d", s.size, seq)},
		}}
	}
	return found, nil
}

func submission(seq uint64, size int) string { return fmt.Sprintf("%0*d", size, seq) }

func TestSubmissionsAreReadManyAtATime(t *testing.T) {
	s := &shelf{size: 10}
	documents := dispatch.NewDocuments(1<<20, s.find, nil)
	next := func(string, int) []uint64 { return []uint64{3, 4, 5} }
	for _, seq := range []uint64{2, 3, 4, 5} {
		got, err := documents.Get(t.Context(), jobs.Job{Seq: seq, Queue: "q"}, next)
		if err != nil || string(got.Document.GetInline()) != submission(seq, 10) {
			t.Fatalf("job %d has %q, %v", seq, got.Document.GetInline(), err)
		}
	}
	if s.reads != 1 {
		t.Errorf("%d reads for four jobs that follow each other, want 1", s.reads)
	}
}

func TestQueueIsReadOnBeforeWhatWasReadAheadIsGone(t *testing.T) {
	s := &shelf{size: 10}
	read := make(chan int, 10)
	var at, waited atomic.Uint64
	documents := dispatch.NewDocuments(64<<20, func(ctx context.Context, needed uint64, others []uint64) (map[uint64]*dispatch.Submission, error) {
		if needed == at.Load() {
			waited.Add(1)
		}
		found, err := s.find(ctx, needed, others)
		read <- len(found)
		return found, err
	}, nil)
	next := func(_ string, n int) []uint64 {
		seqs := make([]uint64, n)
		for i := range seqs {
			seqs[i] = at.Load() + 1 + uint64(i)
		}
		return seqs
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- documents.Run(ctx, next, slog.New(slog.DiscardHandler)) }()
	get := func(through uint64) {
		t.Helper()
		for at.Load() < through {
			seq := at.Add(1)
			got, err := documents.Get(t.Context(), jobs.Job{Seq: seq, Queue: "q"}, next)
			if err != nil || string(got.Document.GetInline()) != submission(seq, 10) {
				t.Fatalf("job %d has %q, %v", seq, got.Document.GetInline(), err)
			}
		}
	}
	get(1)
	first := <-read
	get(uint64(first)/2 + 10)
	if n := <-read; n < first/4 { // while half of them was still at hand
		t.Errorf("%d are read on, want about half of %d", n, first)
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it ends with %v", err)
	}
	get(uint64(first) + 100)
	if n := waited.Load(); n != 1 {
		t.Errorf("%d of %d jobs waited for a read, want the first alone", n, at.Load())
	}
}

func TestSubmissionsThatAreTooManyToKeepAreReadAgain(t *testing.T) {
	s := &shelf{size: 1000}
	documents := dispatch.NewDocuments(3000, s.find, nil)
	next := func(string, int) []uint64 { return []uint64{3, 4, 5, 6, 7, 8} }
	for _, seq := range []uint64{2, 3, 8} {
		got, err := documents.Get(t.Context(), jobs.Job{Seq: seq, Queue: "q"}, next)
		if err != nil || string(got.Document.GetInline()) != submission(seq, 1000) {
			t.Fatalf("job %d has %q, %v", seq, got.Document.GetInline(), err)
		}
	}
	if s.reads != 2 {
		t.Errorf("%d reads, want one for jobs 2 and 3 and one for job 8", s.reads)
	}
}

func TestSubmissionThatIsKeptAnewAfterItsJobCameBackIsTheNewestAgain(t *testing.T) {
	s := &shelf{size: 1000}
	documents := dispatch.NewDocuments(4000, s.find, nil)
	next := func(string, int) []uint64 { return nil }
	get := func(seq uint64) {
		t.Helper()
		if _, err := documents.Get(t.Context(), jobs.Job{Seq: seq, Queue: "q"}, next); err != nil {
			t.Fatal(err)
		}
	}
	come := func(seq uint64) {
		t.Helper()
		wrapped, err := eventlog.NewEvent("/test", &event.JobSubmitted{
			Document: &event.Document{Place: &event.Document_Inline{Inline: make([]byte, 1000)}},
		})
		if err != nil {
			t.Fatal(err)
		}
		documents.Watch(&eventlog.Record{Event: wrapped}, jobs.Outcome{Result: jobs.Done, Count: 1, Job: jobs.Job{Seq: seq}})
	}
	come(1)
	get(1)
	for _, seq := range []uint64{2, 3, 4, 1} { // one too many
		come(seq)
	}
	if get(1); s.reads != 0 {
		t.Error("the newest submission was dropped")
	}
	if get(2); s.reads != 1 {
		t.Error("the oldest submission was not dropped")
	}
}

func TestSubmissionThatCameByTheLogIsNotReadAgain(t *testing.T) {
	s := &shelf{}
	documents := dispatch.NewDocuments(1<<20, s.find, nil)
	wrapped, err := eventlog.NewEvent("/test", &event.JobSubmitted{
		Queue: "q", JobId: "id", Document: &event.Document{Place: &event.Document_Inline{Inline: []byte("body")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	record := &eventlog.Record{Event: wrapped}
	documents.Watch(record, jobs.Outcome{Result: jobs.Done, Count: 1, Repeated: true, Job: jobs.Job{Seq: 6}})
	documents.Watch(record, jobs.Outcome{Result: jobs.Done, Count: 1, Job: jobs.Job{Seq: 7}})
	got, err := documents.Get(t.Context(), jobs.Job{Seq: 7, Queue: "q"}, nil)
	if err != nil || got.JobID != "id" || string(got.Document.GetInline()) != "body" || s.reads != 0 {
		t.Errorf("the submission is %+v, %v after %d reads", got, err, s.reads)
	}
}

// lossy is a fold whose log takes an event without telling.
type lossy struct {
	*doortest.Fold[*jobs.State, jobs.Outcome]
	mu   sync.Mutex
	lose string
}

func (l *lossy) Decide(ctx context.Context, e eventlog.Event) (jobs.Outcome, int64, error) {
	outcome, offset, err := l.Fold.Decide(ctx, e)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lose != "" && strings.HasSuffix(e.Type, l.lose) {
		l.lose = ""
		return jobs.Outcome{}, 0, eventlog.ErrUnsettled
	}
	return outcome, offset, err
}

func TestJobOfAClaimThatTheLogTookWithoutTellingIsTakenBack(t *testing.T) {
	var mu sync.Mutex
	now := time.Now()
	read := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	log := doortest.NewLog(read)
	fold := &lossy{Fold: doortest.NewFold(log, jobs.Fold()), lose: "JobClaimRequested"}
	s := &shelf{size: 1}
	d := dispatch.New(dispatch.Dependencies{
		Log: log.Door(), Jobs: fold, Documents: dispatch.NewDocuments(1<<20, s.find, nil), Now: read, Logger: slog.New(slog.DiscardHandler),
	})
	if _, _, err := door.Decide(t.Context(), log.Door(), dispatch.Fold(fold), "/test", &event.JobSubmitted{Queue: "q"}); err != nil {
		t.Fatal(err)
	}
	claim := &event.JobClaimRequested{Queues: []string{"q"}}
	if got, err := d.Claim(t.Context(), "/test", claim, 0); err == nil {
		t.Fatalf("the claim whose answer was lost gets %+v", got)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- d.Run(ctx) }()
	var got *dispatch.HandOut
	var err error
	for got == nil && err == nil {
		mu.Lock()
		now = now.Add(time.Minute)
		mu.Unlock()
		got, err = d.Claim(t.Context(), "/test", claim, 200*time.Millisecond)
	}
	stop()
	<-ended
	if err != nil || got.Job.Seq != 1 || got.Job.Attempt != 2 {
		t.Errorf("the next claim gets %+v, %v; want job 1 again", got, err)
	}
}
