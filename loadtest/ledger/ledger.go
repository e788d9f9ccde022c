// Package ledger keeps what became of every numbered upload as its sender saw it, and compares that with what the
// server shows: what was acknowledged must be there once.
package ledger

import (
	"fmt"
	"slices"
	"sync"
)

// Upload names an upload: the machine that sent it, and its number among those of the machine, from 0.
type Upload struct{ Machine, Number int }

func (u Upload) String() string { return fmt.Sprintf("upload %d of machine %d", u.Number, u.Machine) }

// State is what a sender knows of an upload.
type State uint8

// The states.
const (
	// Unsent was never sent.
	Unsent State = iota
	// Unknown was sent, and no answer settled what became of it.
	Unknown
	// Stored was acknowledged.
	Stored
	// Refused was answered with a refusal.
	Refused
)

type entry struct {
	state State
	// run is the id that the server gave, 0 when it named none.
	run uint64
}

// Ledger keeps the uploads of some machines. It is safe for concurrent use.
type Ledger struct {
	mu      sync.Mutex
	entries []map[int]entry
}

// New gives an empty ledger.
func New(machines int) *Ledger {
	l := &Ledger{entries: make([]map[int]entry, machines)}
	for i := range l.entries {
		l.entries[i] = map[int]entry{}
	}
	return l
}

// Sent notes that an upload is on its way: until it is settled it may be stored or not.
func (l *Ledger) Sent(u Upload) { l.settle(u, entry{state: Unknown}) }

// Stored notes an acknowledgement, with the run's id where the answer named it.
func (l *Ledger) Stored(u Upload, run uint64) { l.settle(u, entry{state: Stored, run: run}) }

// Refused notes a refusal.
func (l *Ledger) Refused(u Upload) { l.settle(u, entry{state: Refused}) }

func (l *Ledger) settle(u Upload, e entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries[u.Machine][u.Number] = e
}

// Count says how many uploads are in a state.
func (l *Ledger) Count(state State) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, machine := range l.entries {
		for _, e := range machine {
			if e.state == state {
				n++
			}
		}
	}
	return n
}

// Runs gives the ids of all acknowledged uploads, ascending.
func (l *Ledger) Runs() []uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var runs []uint64
	for _, machine := range l.entries {
		for _, e := range machine {
			if e.run != 0 {
				runs = append(runs, e.run)
			}
		}
	}
	slices.Sort(runs)
	return runs
}

// Sighting is an upload as one list of the server shows it.
type Sighting struct {
	Upload
	// Run is its id; 0 when the list does not tell.
	Run uint64
	// Times is how often it counts.
	Times int
}

// Audit is what a comparison found.
type Audit struct {
	// List names what was compared.
	List string `json:"list"`
	// Acknowledged were answered with success; Lost of them are missing and Twice count more than once.
	Acknowledged int `json:"acknowledged"`
	Lost         int `json:"lost"`
	Twice        int `json:"counted_twice"`
	// OtherID stands in the list under another run's id than the answer named.
	OtherID int `json:"other_id"`
	// Unknown were never settled; UnknownStored of them are there, which is no fault.
	Unknown       int `json:"unknown"`
	UnknownStored int `json:"unknown_stored"`
	// Refused were turned away; RefusedStored of them are there all the same.
	Refused       int `json:"refused"`
	RefusedStored int `json:"refused_stored"`
	// Phantoms are in the list but were never sent.
	Phantoms int `json:"phantoms"`
	// Examples describe some faults.
	Examples []string `json:"examples,omitempty"`
}

// Faults counts everything that breaks the promise.
func (a Audit) Faults() int { return a.Lost + a.Twice + a.OtherID + a.RefusedStored + a.Phantoms }

// maxExamples bounds what is told of the faults.
const maxExamples = 10

func (a *Audit) fault(counter *int, format string, args ...any) {
	*counter++
	if len(a.Examples) < maxExamples {
		a.Examples = append(a.Examples, fmt.Sprintf(format, args...))
	}
}

// Compare checks a complete list of the server's against the ledger. Whoever sends has ended.
func (l *Ledger) Compare(list string, sightings []Sighting) Audit {
	l.mu.Lock()
	defer l.mu.Unlock()
	audit := Audit{List: list}
	seen := make(map[Upload]int, len(sightings))
	for _, s := range sightings {
		seen[s.Upload] += s.Times
		l.check(&audit, s)
	}
	for machine, entries := range l.entries {
		for number, e := range entries {
			audit.count(Upload{machine, number}, e, seen[Upload{machine, number}])
		}
	}
	return audit
}

// check looks at one sighting by itself.
func (l *Ledger) check(audit *Audit, s Sighting) {
	if s.Machine < 0 || s.Machine >= len(l.entries) {
		audit.fault(&audit.Phantoms, "%s is in the list: there is no such machine", s.Upload)
		return
	}
	e := l.entries[s.Machine][s.Number]
	switch {
	case e.state == Unsent:
		audit.fault(&audit.Phantoms, "%s is in the list and was never sent", s.Upload)
	case e.run != 0 && s.Run != 0 && e.run != s.Run:
		audit.fault(&audit.OtherID, "%s was acknowledged as run %d and is in the list as run %d", s.Upload, e.run, s.Run)
	}
}

// count looks at what the list says in all of one upload.
func (a *Audit) count(u Upload, e entry, times int) {
	if times > 1 {
		a.fault(&a.Twice, "%s counts %d times", u, times)
	}
	switch e.state {
	case Stored:
		a.Acknowledged++
		if times == 0 {
			a.fault(&a.Lost, "%s was acknowledged as run %d and is missing", u, e.run)
		}
	case Unknown:
		a.Unknown++
		if times > 0 {
			a.UnknownStored++
		}
	case Refused:
		a.Refused++
		if times > 0 {
			a.fault(&a.RefusedStored, "%s was refused and is there", u)
		}
	}
}

// Expect says how many uploads of a machine must count at least (those acknowledged) and may at most (the unknown too).
func (l *Ledger) Expect(machine int) (least, most int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.entries[machine] {
		switch e.state {
		case Stored:
			least++
			most++
		case Unknown:
			most++
		}
	}
	return least, most
}
