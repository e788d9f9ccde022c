// Package runs is the fold over topic runs: it numbers the runs, refuses a second run with the same machine and start
// time, fixes each machine's type, and numbers the values that runs share (configurations, settings, hardware, …).
package runs

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"fmt"

	"github.com/google/uuid"

	"github.com/millrace/millrace/processor/fold"
	"github.com/millrace/millrace/processor/pgperffarm"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// Remembered is how many natural keys the fold keeps. An older one is looked up in the projections by the door, which
// writes what it found into the request.
const Remembered = 250_000

// maxTerms bounds the dictionaries: an upload that would add a value beyond it is refused.
const maxTerms = 2_000_000

// Key is a natural key: machine and start time in Unix microseconds.
type Key [16]byte

// NaturalKey makes a key.
func NaturalKey(machine uint64, start int64) (key Key) {
	binary.BigEndian.PutUint64(key[:8], machine)
	binary.BigEndian.PutUint64(key[8:], uint64(start))
	return key
}

// Stored is a run under its natural key.
type Stored struct {
	Run   uint64
	Event uuid.UUID
}

// Machine is what the fold knows of a machine.
type Machine struct {
	Type string
	// Runs counts the stored runs.
	Runs uint64
	// Latest are the newest stored runs, newest first; 0 where there are fewer.
	Latest [3]uint64
	// Forgotten is the newest of its runs whose natural key was forgotten, ForgottenStart the latest start time among
	// them, Unix microseconds; 0 while all are remembered.
	Forgotten      uint64
	ForgottenStart int64
}

// State is the fold's state. Its fields are exported for encoding.
type State struct {
	// Requests is the ordinal of the newest request; a run's id is the ordinal of its request.
	Requests uint64
	// Runs counts the stored runs, and Latest is the newest.
	Runs, Latest uint64
	Machines     map[uint64]*Machine
	Natural      map[Key]Stored
	// Order lists the natural keys by age, in a ring once it is full; Oldest is the ring's start.
	Order   []Key
	Oldest  int
	Terms   map[pgperffarm.Term]uint64
	Counts  map[pgperffarm.TermKind]uint64
	Repeats fold.Repeats[Outcome]
}

// Result is what became of an upload.
type Result uint8

// The results. Their numbers are stored: a new one comes last.
const (
	// Ignored is an event that asks for nothing or cannot be read.
	Ignored Result = iota
	// Accepted is a stored run.
	Accepted
	// Duplicate has the natural key of a stored run.
	Duplicate
	// OtherType comes from another kind of machine than the first run did.
	OtherType
	// DictionaryFull would show more distinct values than are kept.
	DictionaryFull
	KeyReused
	// KeyTaken is a key that a fact asked for.
	KeyTaken
	// KeyUnchecked is a request whose key may be a forgotten one: it had no effect.
	KeyUnchecked
)

// Outcome is the answer that the log gives to an upload, and to a fact that asks for a key. Its fields are stored, for
// repeats.
type Outcome struct {
	Result Result
	// Run is the new run, or the stored one that a duplicate repeats.
	Run uint64
	// Type is the machine's fixed type, for OtherType.
	Type string
	// Fact is the event id of the fact that took the key, for KeyTaken.
	Fact uuid.UUID `json:",omitzero"`
	// Repeated marks the answer to a repeated idempotency key.
	Repeated bool
}

// Fold is the runs' fold.
func Fold() *fold.Definition[*State, Outcome] {
	return &fold.Definition[*State, Outcome]{
		Name: "runs", Version: 3, Topic: eventlog.Runs, New: NewState, Apply: Apply, Encode: encode, Decode: decode,
		Keys: &fold.Keys[*State, Outcome]{
			Repeats: func(s *State) *fold.Repeats[Outcome] { return &s.Repeats }, Answer: answer,
			Unchecked: func(o Outcome) bool { return o.Result == KeyUnchecked },
		},
	}
}

// NewState knows the repositories and branches that the Performance Farm is born with (contract 4.2).
func NewState() *State {
	s := emptyState()
	official := pgperffarm.OfficialRepositories()
	for _, url := range official {
		s.number(pgperffarm.RepositoryTerm(url))
	}
	for _, branch := range []string{"master", "REL_13_STABLE", "REL_12_STABLE", "REL_11_STABLE", "REL_10_STABLE"} {
		s.number(pgperffarm.BranchTerm(official[0], branch))
	}
	return s
}

func emptyState() *State {
	return &State{
		Machines: map[uint64]*Machine{}, Natural: map[Key]Stored{},
		Terms: map[pgperffarm.Term]uint64{}, Counts: map[pgperffarm.TermKind]uint64{},
	}
}

// Apply folds one record.
func Apply(s *State, record *eventlog.Record) Outcome {
	if record.Malformed != nil {
		return Outcome{}
	}
	message, err := record.Decode()
	if err != nil {
		return Outcome{}
	}
	switch m := message.(type) {
	case *event.FarmUploadRequested:
		s.Requests++
		return s.decideUpload(m, record)
	case *event.FactKeyRequested:
		return s.takeKey(m, record.LogTime)
	}
	return Outcome{}
}

// answer is the outcome of a request whose key is not new.
func answer(verdict fold.Verdict, first Outcome) Outcome {
	switch verdict {
	case fold.Repeated:
		first.Repeated = true
		return first
	case fold.Reused:
		return Outcome{Result: KeyReused}
	}
	return Outcome{Result: KeyUnchecked}
}

func (s *State) decideUpload(m *event.FarmUploadRequested, record *eventlog.Record) Outcome {
	// A requeued upload is no repeat of the one that could not be projected: it takes its place.
	if record.RequeueOf != uuid.Nil {
		outcome := s.upload(m, record)
		s.Repeats.Remember(m.GetIdempotency(), record.LogTime, outcome)
		return outcome
	}
	return s.Repeats.Once(m.GetIdempotency(), record.LogTime, answer, func() Outcome { return s.upload(m, record) })
}

// takeKey gives a key to the first fact that asks for it.
func (s *State) takeKey(m *event.FactKeyRequested, now int64) Outcome {
	fact, err := uuid.FromBytes(m.GetFactId())
	if err != nil || len(m.GetIdempotency().GetKey()) == 0 {
		return Outcome{}
	}
	return s.Repeats.Once(m.GetIdempotency(), now, answer, func() Outcome { return Outcome{Result: KeyTaken, Fact: fact} })
}

func (s *State) upload(m *event.FarmUploadRequested, record *eventlog.Record) Outcome {
	machine := s.Machines[m.GetMachineId()]
	if machine != nil && machine.Type != m.GetMachineType() {
		return Outcome{Result: OtherType, Type: machine.Type}
	}
	key := NaturalKey(m.GetMachineId(), m.GetStartTime())
	stored, known := s.Natural[key]
	if !known && m.GetStoredRunId() != 0 {
		return Outcome{Result: Duplicate, Run: m.GetStoredRunId()}
	}
	// A requeued upload takes the place of the one that could not be projected.
	replaces := known && record.RequeueOf != uuid.Nil && record.RequeueOf == stored.Event
	if known && !replaces {
		return Outcome{Result: Duplicate, Run: stored.Run}
	}
	if !s.numberAll(m.GetTerms()) {
		return Outcome{Result: DictionaryFull}
	}
	run := s.Requests
	s.remember(key, Stored{Run: run, Event: record.ID})
	s.count(m, run, replaces, stored.Run)
	return Outcome{Result: Accepted, Run: run}
}

func (s *State) count(m *event.FarmUploadRequested, run uint64, replaces bool, replaced uint64) {
	machine := s.Machines[m.GetMachineId()]
	if machine == nil {
		machine = &Machine{Type: m.GetMachineType()}
		s.Machines[m.GetMachineId()] = machine
	}
	s.Latest = run
	if replaces {
		machine.drop(replaced)
	} else {
		s.Runs++
		machine.Runs++
	}
	copy(machine.Latest[1:], machine.Latest[:])
	machine.Latest[0] = run
}

func (m *Machine) drop(run uint64) {
	for i, id := range m.Latest {
		if id == run {
			copy(m.Latest[i:], m.Latest[i+1:])
			m.Latest[len(m.Latest)-1] = 0
			return
		}
	}
}

func (s *State) remember(key Key, stored Stored) {
	if _, known := s.Natural[key]; known {
		s.Natural[key] = stored
		return
	}
	s.Natural[key] = stored
	if len(s.Order) < Remembered {
		s.Order = append(s.Order, key)
		return
	}
	s.Forget(s.Order[s.Oldest])
	s.Order[s.Oldest] = key
	s.Oldest = (s.Oldest + 1) % Remembered
}

// Forget forgets a natural key that is remembered.
func (s *State) Forget(key Key) {
	machine, start := binary.BigEndian.Uint64(key[:8]), int64(binary.BigEndian.Uint64(key[8:]))
	m := s.Machines[machine]
	m.Forgotten, m.ForgottenStart = max(m.Forgotten, s.Natural[key].Run), max(m.ForgottenStart, start)
	delete(s.Natural, key)
}

// numberAll gives every new value its number, or none when the dictionaries are full.
func (s *State) numberAll(terms []*event.Term) bool {
	var shown []pgperffarm.Term
	for _, t := range terms {
		term, valid := toTerm(t)
		if _, known := s.Terms[term]; valid && !known {
			shown = append(shown, term)
		}
	}
	if len(s.Terms)+len(shown) > maxTerms {
		return false
	}
	for _, term := range shown {
		s.number(term)
	}
	return true
}

func (s *State) number(term pgperffarm.Term) {
	if _, known := s.Terms[term]; known {
		return
	}
	s.Counts[term.Kind]++
	s.Terms[term] = s.Counts[term.Kind]
}

// TermID is the number of a dictionary value, 0 when it was never shown.
func (s *State) TermID(term pgperffarm.Term) uint64 { return s.Terms[term] }

// Find gives the run stored under a natural key, 0 when the fold remembers none.
func (s *State) Find(key Key) uint64 { return s.Natural[key].Run }

// Through is up to which run the projections are to be looked through for a natural key that Find does not find; 0 when
// no run that was forgotten can have it. Runs mostly start one after the other, and then it is 0.
func (s *State) Through(machine uint64, start int64) uint64 {
	m := s.Machines[machine]
	if m == nil || m.Forgotten == 0 || start > m.ForgottenStart {
		return 0
	}
	return m.Forgotten
}

func toTerm(t *event.Term) (term pgperffarm.Term, ok bool) {
	term.Kind = pgperffarm.TermKind(t.GetKind())
	return term, copy(term.Hash[:], t.GetHash()) == len(term.Hash)
}

func encode(s *State) ([]byte, error) {
	var buffer bytes.Buffer
	err := gob.NewEncoder(&buffer).Encode(s)
	return buffer.Bytes(), err
}

func decode(b []byte) (*State, error) {
	s := emptyState()
	if err := gob.NewDecoder(bytes.NewReader(b)).Decode(s); err != nil {
		return nil, fmt.Errorf("runs state: %w", err)
	}
	return s, nil
}
