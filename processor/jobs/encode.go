package jobs

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/millrace/millrace/processor/fold"
	"github.com/millrace/millrace/schemas/event"
)

// The state's encoding: lane by lane the jobs that wait, in their order, then those that are out. Numbers are varints;
// numbers of jobs and times are differences to the job before. A million jobs take about 25 MB.

// remembered is the part that is bounded and encoded as it stands.
type remembered struct {
	Last    uint64
	Now     int64
	Recent  fold.Recent
	Repeats fold.Repeats[Outcome]
	Taken   taken
	// Jobs and Named are the sizes of what follows, so that it is made at once.
	Jobs, Named int
}

func encode(s *State) ([]byte, error) {
	var head bytes.Buffer
	err := gob.NewEncoder(&head).Encode(remembered{s.last, s.now, s.recent, s.repeats, s.taken, s.jobs.len(), len(s.named)})
	if err != nil {
		return nil, err
	}
	w := writer{b: make([]byte, 0, head.Len()+32*s.jobs.len()+1024)}
	w.text(head.String())
	lanes := s.orderedLanes()
	w.number(len(lanes))
	for _, l := range lanes {
		w.lane(s, l)
	}
	w.number(len(s.handouts))
	index := make(map[laneID]int, len(lanes))
	for i, l := range lanes {
		index[l.id] = i
	}
	for _, seq := range slices.Sorted(maps.Keys(s.handouts)) {
		j := s.jobs.get(seq)
		w.number(index[j.lane])
		w.job(j)
		w.handout(s.handouts[seq])
	}
	return w.b, nil
}

// orderedLanes lists all lanes, in an order of their own.
func (s *State) orderedLanes() []*lane {
	return slices.SortedFunc(maps.Values(s.lanes), func(a, b *lane) int {
		return cmp.Or(cmp.Compare(a.queue.name, b.queue.name), cmp.Compare(a.String(), b.String()))
	})
}

type writer struct {
	b []byte
	// seq and submitted are those of the job before.
	seq       uint64
	submitted int64
}

func (w *writer) number(n int)     { w.b = binary.AppendUvarint(w.b, uint64(n)) }
func (w *writer) signed(n int64)   { w.b = binary.AppendVarint(w.b, n) }
func (w *writer) text(s string)    { w.number(len(s)); w.b = append(w.b, s...) }
func (w *writer) raw(bytes []byte) { w.b = append(w.b, bytes...) }

func (w *writer) flag(set bool) {
	if set {
		w.b = append(w.b, 1)
	} else {
		w.b = append(w.b, 0)
	}
}

func (w *writer) lane(s *State, l *lane) {
	w.text(l.queue.name)
	w.number(int(l.queue.family))
	w.flag(l.held)
	w.flag(l.second)
	w.number(len(l.excluded))
	for _, name := range l.excluded {
		w.text(name)
	}
	w.number(l.waiting.Len())
	l.waiting.Scan(func(p place) bool {
		w.job(s.jobs.get(p.seq))
		return true
	})
}

func (w *writer) job(j *job) {
	w.signed(int64(j.seq - w.seq))
	w.signed(j.submitted - w.submitted)
	w.seq, w.submitted = j.seq, j.submitted
	w.signed(j.priority)
	w.number(int(j.attempt))
	w.number(int(j.expiries))
	w.number(int(j.attachments))
	w.flag(j.name != Name{})
	if j.name != (Name{}) {
		w.raw(j.name[:])
	}
}

func (w *writer) handout(h *handout) {
	w.text(h.asker)
	w.raw(h.claim[:])
	w.text(h.key)
	w.signed(h.since)
	w.signed(h.expires)
	w.signed(h.duration)
	w.number(int(h.requeues))
	w.text(h.endState)
	w.flag(h.byAnyCall)
	w.flag(h.cancelled)
}

func decode(b []byte) (*State, error) {
	r := reader{b: b}
	var head remembered
	if err := gob.NewDecoder(bytes.NewReader(r.raw(r.number()))).Decode(&head); err != nil {
		return nil, fmt.Errorf("jobs state: %w", err)
	}
	s := NewState()
	s.last, s.now, s.recent, s.repeats, s.taken = head.Last, head.Now, head.Recent, head.Repeats, head.Taken
	s.jobs, s.named = newShelf(head.Jobs), make(map[Name]uint64, head.Named)
	lanes := make([]*lane, r.number())
	for i := range lanes {
		lanes[i] = r.lane(s)
	}
	for range r.number() {
		l := lanes[r.number()]
		j := r.job(s)
		h := r.handout()
		j.out = true
		s.handouts[j.seq] = h
		l.join(j)
		l.queue.out++
		if h.expires != 0 {
			s.leased.Set(leaseEnd{h.expires, j.seq})
		}
		s.restore(j)
	}
	for _, g := range s.groups {
		g.front = g.first()
	}
	if r.short {
		return nil, errors.New("jobs state: it ends early")
	}
	return s, nil
}

// restore makes a job known by its name whose lane is settled.
func (s *State) restore(j *job) {
	if j.name == (Name{}) {
		return
	}
	g := s.groups[j.name]
	other, known := s.named[j.name]
	switch {
	case g != nil:
		g.put(j)
	case known:
		s.share(j.name, s.jobs.get(other)).put(j)
	default:
		s.named[j.name] = j.seq
	}
}

// reader reads what writer wrote; past the end it gives zeros and notes that it was short.
type reader struct {
	b         []byte
	short     bool
	seq       uint64
	submitted int64
}

func (r *reader) number() int {
	n, size := binary.Uvarint(r.b)
	r.raw(max(1, size))
	return int(n)
}

func (r *reader) signed() int64 {
	n, size := binary.Varint(r.b)
	r.raw(max(1, size))
	return n
}

func (r *reader) raw(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.short = true
		r.b = nil
		return nil
	}
	raw := r.b[:n]
	r.b = r.b[n:]
	return raw
}

func (r *reader) text() string { return string(r.raw(r.number())) }

func (r *reader) flag() bool { return r.number() == 1 }

func (r *reader) lane(s *State) *lane {
	q := s.queue(r.text(), event.JobFamily(r.number()))
	k := laneKey{held: r.flag(), second: r.flag()}
	for range r.number() {
		k.excluded = append(k.excluded, r.text())
	}
	l := s.lane(q, k)
	for range r.number() {
		j := r.job(s)
		j.lane = l.id
		l.jobs++
		l.waiting.Load(j.place())
		s.restore(j)
	}
	return l
}

// job reads a job into the state.
func (r *reader) job(s *State) *job {
	r.seq += uint64(r.signed())
	r.submitted += r.signed()
	j := job{
		seq: r.seq, submitted: r.submitted, priority: r.signed(), attempt: uint32(r.number()), expiries: uint16(r.number()),
		attachments: Attachments(r.number()),
	}
	if r.flag() {
		copy(j.name[:], r.raw(len(j.name)))
	}
	return s.jobs.put(j)
}

func (r *reader) handout() *handout {
	return &handout{
		asker: r.text(), claim: r.id(), key: r.text(), since: r.signed(), expires: r.signed(), duration: r.signed(),
		requeues: uint32(r.number()), endState: r.text(), byAnyCall: r.flag(), cancelled: r.flag(),
	}
}

func (r *reader) id() (id uuid.UUID) {
	copy(id[:], r.raw(len(id)))
	return id
}
