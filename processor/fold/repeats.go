package fold

import (
	"math"

	"github.com/millrace/millrace/schemas/event"
)

// RememberedKeys is how many idempotency keys a fold keeps. It is part of the fold's rule, and so the same everywhere:
// which requests the fold cannot tell apart follows from it.
const RememberedKeys = 200_000

// Repeats remembers which idempotency keys had which outcome, so that a repeated request gets the first answer again.
//
// A key is kept for its time, in log time, but only while fewer than Limit others came after it. One that was
// forgotten early is still in the projections: the door looks there and says in the request how many keys had been taken
// when it made sure that this one was none of them. A request that this does not settle any more is Unchecked.
//
// Its fields are exported for encoding only.
type Repeats[O any] struct {
	// Limit bounds the keys that are kept: RememberedKeys when it is 0.
	Limit int
	Known map[string]Repeat[O]
	// Order lists the keys by age.
	Order []TakenKey
	// Taken counts the keys that were ever taken; the ordinal of the newest.
	Taken uint64
	// Forgotten is the ordinal of the newest key that was forgotten early, until log time has passed the end of all such
	// keys; 0 while there is none.
	Forgotten uint64
	// ForgottenUntil is that end, Unix milliseconds.
	ForgottenUntil int64
}

// Repeat is one remembered request.
type Repeat[O any] struct {
	Body    string
	Outcome O
	// Until is the log time at which the key is forgotten, Unix milliseconds.
	Until int64
	// Ordinal is the key's among all that were ever taken, from 1.
	Ordinal uint64
}

// TakenKey is a key and the ordinal under which it was taken.
type TakenKey struct {
	Key     string
	Ordinal uint64
}

// Verdict is what Repeats knows of a request.
type Verdict int

// The verdicts.
const (
	New Verdict = iota
	Repeated
	// Reused means that the key came with another body before.
	Reused
	// Unchecked means that the key may be one that was forgotten: the request has no effect, and its door looks again.
	Unchecked
)

// Keys is how a fold answers by idempotency keys.
type Keys[S, O any] struct {
	// Repeats is the memory in a state.
	Repeats func(state S) *Repeats[O]
	// Answer is the outcome of a request that is not New. first is the one that a repeated request was given before.
	Answer func(verdict Verdict, first O) O
	// Unchecked tells the outcome of a request that is Unchecked.
	Unchecked func(outcome O) bool
}

// Once gives the outcome of a request: what decide says of a new one, which is remembered, and answer otherwise.
func (r *Repeats[O]) Once(key *event.Idempotency, now int64, answer func(Verdict, O) O, decide func() O) O {
	if first, verdict := r.Look(key, now); verdict != New {
		return answer(verdict, first)
	}
	outcome := decide()
	r.Remember(key, now, outcome)
	return outcome
}

// Look tells whether a request was seen before, and with what outcome.
func (r *Repeats[O]) Look(key *event.Idempotency, now int64) (O, Verdict) {
	r.expire(now)
	var none O
	if len(key.GetKey()) == 0 {
		return none, New
	}
	known, ok := r.Known[string(key.GetKey())]
	switch {
	case !ok && r.Forgotten > key.GetChecked():
		return none, Unchecked
	case !ok || known.Until <= now:
		return none, New
	case known.Body != string(key.GetBody()):
		return none, Reused
	}
	return known.Outcome, Repeated
}

// Remember keeps the outcome of a new request.
func (r *Repeats[O]) Remember(key *event.Idempotency, now int64, outcome O) {
	if len(key.GetKey()) == 0 {
		return
	}
	if r.Known == nil {
		r.Known = map[string]Repeat[O]{}
	}
	r.Taken++
	name := string(key.GetKey())
	r.Order = append(r.Order, TakenKey{name, r.Taken})
	r.Known[name] = Repeat[O]{Body: string(key.GetBody()), Outcome: outcome, Until: until(now, key.GetKeepSeconds()), Ordinal: r.Taken}
	for len(r.Order) > r.limit() {
		r.forgetOldest()
	}
}

func (r *Repeats[O]) limit() int {
	if r.Limit == 0 {
		return RememberedKeys
	}
	return r.Limit
}

// until is the end of a key's time; whoever asked for more than there is gets what there is.
func until(now, seconds int64) int64 {
	if seconds > (math.MaxInt64-now)/1000 {
		return math.MaxInt64
	}
	return now + seconds*1000
}

// Newest gives the key that was taken last, and what is remembered of it.
func (r *Repeats[O]) Newest() (string, Repeat[O]) {
	name := r.Order[len(r.Order)-1].Key
	return name, r.Known[name]
}

// LookUp is for a door that is about to append a request with a key: what the request says was checked, and the ordinal
// of the newest key that the projections are to be asked for, 0 when there is no need. A key that is remembered
// is not looked up, and not checked either: the fold may have forgotten it when the request comes.
func (r *Repeats[O]) LookUp(key []byte) (checked, forgotten uint64) {
	if _, known := r.Known[string(key)]; known {
		return 0, 0
	}
	return r.Taken, r.Forgotten
}

// Undo notes that what a key's request did is undone: its repeat is given the zero outcome, by which the fold tells that it
// is to be decided anew. The key stays known, so that nobody finds the old outcome in the projections.
func (r *Repeats[O]) Undo(key string) {
	if known, ok := r.Known[key]; ok {
		var none O
		known.Outcome = none
		r.Known[key] = known
	}
}

func (r *Repeats[O]) expire(now int64) {
	for len(r.Order) > 0 {
		oldest := r.Order[0]
		if r.keeps(oldest) && r.Known[oldest.Key].Until > now {
			break
		}
		r.drop()
	}
	if r.ForgottenUntil <= now {
		r.Forgotten, r.ForgottenUntil = 0, 0
	}
}

// forgetOldest forgets a key before its time.
func (r *Repeats[O]) forgetOldest() {
	if oldest := r.Order[0]; r.keeps(oldest) {
		r.Forgotten = oldest.Ordinal
		r.ForgottenUntil = max(r.ForgottenUntil, r.Known[oldest.Key].Until)
	}
	r.drop()
}

// keeps tells whether a key is remembered as it was taken then, and not as it was taken again later.
func (r *Repeats[O]) keeps(taken TakenKey) bool { return r.Known[taken.Key].Ordinal == taken.Ordinal }

func (r *Repeats[O]) drop() {
	if r.keeps(r.Order[0]) {
		delete(r.Known, r.Order[0].Key)
	}
	r.Order[0] = TakenKey{}
	r.Order = r.Order[1:]
}
