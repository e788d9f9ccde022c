package app

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/processor/runs"
)

func TestARunThatTheFoldForgotIsFoundByItsStartTimeToTheMicrosecond(t *testing.T) {
	l := startPipeline(t, t.TempDir())
	start := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	stored := l.upload(t, 1, start, 1)
	if stored.Result != runs.Accepted {
		t.Fatalf("outcome %+v", stored)
	}
	l.awaitProjected(t)
	// The documents that the tests make begin at whole seconds.
	later := start.Add(123_456 * time.Microsecond)
	columns := "run_id, machine_id, start_time"
	batch, err := l.db.Insert(t.Context(), "`"+l.generation.Database()+"`.runs", columns, "later")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = batch.Close() }()
	if err := errors.Join(batch.Append(stored.Run+1, uint64(1), later), batch.Send()); err != nil {
		t.Fatal(err)
	}
	look := lookups{process: &process{core: l.core}, newest: &atomic.Pointer[projectedRun]{}}
	for _, tc := range []struct {
		name    string
		machine uint64
		start   time.Time
		want    uint64
	}{
		{"at a whole second", 1, start, stored.Run},
		{"within a second", 1, later, stored.Run + 1},
		{"at a start that no run has", 1, later.Add(time.Microsecond), 0},
		{"of another machine", 2, start, 0},
	} {
		got, err := look.storedRun(t.Context(), tc.machine, tc.start.UnixMicro(), stored.Run+1)
		if err != nil || got != tc.want {
			t.Errorf("the run %s: %d, want %d (%v)", tc.name, got, tc.want, err)
		}
	}
}
