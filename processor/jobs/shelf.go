package jobs

// shelf keeps the live jobs by number. They stand side by side in pieces without pointers, so that a million of them is
// nothing to the garbage collector. A place that a job leaves is given to the next one; the shelf never gets smaller.
type shelf struct {
	pieces []*[piece]job
	slots  map[uint64]uint32
	free   []uint32
}

// piece is how many jobs a shelf grows by.
const piece = 1024

// newShelf gives a shelf with room for n jobs, which is a guess.
func newShelf(n int) shelf { return shelf{slots: make(map[uint64]uint32, n)} }

func (s *shelf) len() int { return len(s.slots) }

// get gives a job; nil when it does not live. It is valid until the job is dropped.
func (s *shelf) get(seq uint64) *job {
	slot, lives := s.slots[seq]
	if !lives {
		return nil
	}
	return s.at(slot)
}

func (s *shelf) at(slot uint32) *job { return &s.pieces[slot/piece][slot%piece] }

// put takes a job in and gives the one that is kept.
func (s *shelf) put(j job) *job {
	if len(s.free) == 0 {
		s.grow()
	}
	slot := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	s.slots[j.seq] = slot
	kept := s.at(slot)
	*kept = j
	return kept
}

func (s *shelf) grow() {
	first := uint32(len(s.pieces) * piece)
	s.pieces = append(s.pieces, new([piece]job))
	for i := range uint32(piece) {
		s.free = append(s.free, first+piece-1-i)
	}
}

// drop forgets a job that is there.
func (s *shelf) drop(seq uint64) {
	s.free = append(s.free, s.slots[seq])
	delete(s.slots, seq)
}
