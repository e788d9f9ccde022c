package jobs_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/schemas/event"
)

func take(job string, after, through uint64) *event.JobOutputTakeRequested {
	return &event.JobOutputTakeRequested{JobId: job, Kind: event.JobOutputKind_JOB_OUTPUT_KIND_OUTPUT, After: after, Through: through}
}

func TestEachPieceOfOutputIsGivenToOneAsker(t *testing.T) {
	l := newLab(t)
	l.done(take("a", 0, 5))
	l.refused(take("a", 0, 5), jobs.Stale) // another asker, who saw the same
	l.refused(take("a", 0, 9), jobs.Stale)
	l.refused(take("a", 4, 9), jobs.Stale)
	l.done(take("a", 5, 9))
	l.done(take("b", 3, 4)) // 3 is what the projections know of it
	serial := take("a", 0, 5)
	serial.Kind = event.JobOutputKind_JOB_OUTPUT_KIND_SERIAL
	l.done(serial)
	for _, nothing := range []*event.JobOutputTakeRequested{take("a", 9, 9), take("a", 9, 8), take("", 0, 1)} {
		l.refused(nothing, jobs.Ignored)
	}
	if to, known := l.progress.State.TakenOutput("a", event.JobOutputKind_JOB_OUTPUT_KIND_OUTPUT); to != 9 || !known {
		t.Errorf("output of a is taken to %d, %t; want 9", to, known)
	}
}

func TestTakenOutputIsForgottenAfterADayButNotWhileItMayBeAskedFor(t *testing.T) {
	l := newLab(t)
	for i := range 1000 {
		l.done(take(fmt.Sprint("old ", i), 0, 5))
	}
	l.now += (25 * time.Hour).Milliseconds()
	for i := range 3000 {
		l.done(take(fmt.Sprint("new ", i), 0, 5))
	}
	if _, known := l.progress.State.TakenOutput("old 0", event.JobOutputKind_JOB_OUTPUT_KIND_OUTPUT); known {
		t.Error("output that was taken a day ago is still kept")
	}
	for i := range 3000 {
		l.refused(take(fmt.Sprint("new ", i), 0, 9), jobs.Stale)
	}
}

func TestTakenOutputIsKeptInTheStoredState(t *testing.T) {
	l := newLab(t)
	l.done(take("a", 0, 5))
	definition := jobs.Fold()
	stored, err := definition.Encode(l.progress.State)
	if err != nil {
		t.Fatal(err)
	}
	if l.progress.State, err = definition.Decode(stored); err != nil {
		t.Fatal(err)
	}
	l.refused(take("a", 0, 5), jobs.Stale)
	l.done(take("a", 5, 6))
}
