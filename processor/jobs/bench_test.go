package jobs_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/google/uuid"

	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/schemas/event"
)

// waiting gives a fold in which n jobs wait, of five priorities, each with an id of its client's.
func waiting(t testing.TB, n int) *lab {
	l := newLab(t)
	for i := range n {
		m := named(uuid.NewSHA1(uuid.Nil, fmt.Appendf(nil, "%d", i)).String())
		m.Priority = int64(i % 5)
		l.done(m)
	}
	l.now += 3_600_000 // what the fold remembers of recent events is gone
	l.refused(claimed("nobody"), jobs.Nothing)
	return l
}

// BenchmarkClaim is a claim, the job's end and another submission, so that the queue stays as long as it is.
func BenchmarkClaim(b *testing.B) {
	for _, n := range []int{10, 1_000, 1_000_000} {
		b.Run(fmt.Sprintf("waiting=%d", n), func(b *testing.B) {
			l := waiting(b, n)
			next := named("")
			for b.Loop() {
				got := l.done(claimed("q"))
				l.done(&event.JobStateReported{Job: seqRef(got.Job.Seq), Final: true})
				l.done(next)
			}
		})
	}
}

// BenchmarkCollect is a cycle of the garbage collector while a million jobs wait.
func BenchmarkCollect(b *testing.B) {
	l := waiting(b, 1_000_000)
	for b.Loop() {
		runtime.GC()
	}
	runtime.KeepAlive(l)
}

func BenchmarkEncode(b *testing.B) {
	l := waiting(b, 1_000_000)
	definition := jobs.Fold()
	var size int
	for b.Loop() {
		bytes, err := definition.Encode(l.progress.State)
		if err != nil {
			b.Fatal(err)
		}
		size = len(bytes)
	}
	b.ReportMetric(float64(size)/1e6, "bytes/job")
}

func BenchmarkDecode(b *testing.B) {
	definition := jobs.Fold()
	bytes, err := definition.Encode(waiting(b, 1_000_000).progress.State)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := definition.Decode(bytes); err != nil {
			b.Fatal(err)
		}
	}
}

func TestWaitingJobTakesLessThan250Bytes(t *testing.T) {
	const n = 200_000
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	l := waiting(t, n)
	per := float64(heap()-before) / n
	runtime.KeepAlive(l)
	t.Logf("%.0f bytes for each waiting job", per)
	if per > 250 {
		t.Errorf("a waiting job takes %.0f bytes, want at most 250", per)
	}
}
