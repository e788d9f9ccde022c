package jobs

import (
	"maps"

	"github.com/millrace/millrace/schemas/event"
)

// taken says how far the output of jobs was handed out on the path that gives each piece out once. Output outlives its
// job, so this is kept apart from the jobs, by their ids: as long as a door may be deciding on it. What is forgotten is in
// the projections: a door looks there before it asks, and until it asks nobody else can have. Its fields are exported for
// encoding only.
type taken struct {
	Through map[outputName]takenTo
	// Swept is the number of entries that the last sweep left.
	Swept int
}

// outputName is the output of one job, of one kind.
type outputName struct {
	Job  Name
	Kind event.JobOutputKind
}

type takenTo struct {
	// Place is that of the last piece, as in event.JobOutputTakeRequested.
	Place uint64
	// At is Unix milliseconds of log time.
	At int64
}

const (
	// keepTaken is how long an entry is kept, in milliseconds, where there is room.
	keepTaken = 24 * 60 * 60 * 1000
	// keepTakenLeast is longer than any request takes: entries are kept for so long in any case.
	keepTakenLeast = 10 * 60 * 1000
	// maxTaken is how many entries there is room for.
	maxTaken = 200_000
)

func (s *State) takeOutput(m *event.JobOutputTakeRequested) Outcome {
	name := outputName{ToName(m.GetJobId()), m.GetKind()}
	known, there := s.taken.Through[name]
	switch {
	case m.GetJobId() == "" || m.GetThrough() <= m.GetAfter():
		return Outcome{}
	case there && known.Place != m.GetAfter():
		return Outcome{Result: Stale}
	}
	s.taken.sweep(s.now)
	if s.taken.Through == nil {
		s.taken.Through = map[outputName]takenTo{}
	}
	s.taken.Through[name] = takenTo{Place: m.GetThrough(), At: s.now}
	return Outcome{Result: Done}
}

// sweep forgets entries that are old, once as many new ones have come as the last sweep left.
func (t *taken) sweep(now int64) {
	if len(t.Through) <= 2*t.Swept+64 {
		return
	}
	for keep := int64(keepTaken); keep >= keepTakenLeast; keep /= 2 {
		maps.DeleteFunc(t.Through, func(_ outputName, to takenTo) bool { return to.At < now-keep })
		if len(t.Through) <= maxTaken/2 {
			break
		}
	}
	t.Swept = len(t.Through)
}

// TakenOutput gives the place of the last piece of a job's output that was handed out; false when the fold does not know,
// which it does not of what was never or long ago asked for.
func (s *State) TakenOutput(jobID string, kind event.JobOutputKind) (uint64, bool) {
	to, known := s.taken.Through[outputName{ToName(jobID), kind}]
	return to.Place, known
}
