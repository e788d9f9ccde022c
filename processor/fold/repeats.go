package fold

import (
	"github.com/millrace/millrace/schemas/event"
)

// Repeats remembers which idempotency keys had which outcome, so that a repeated request gets the first answer again.
// Its fields are exported for encoding only.
type Repeats[O any] struct {
	Known map[string]Repeat[O]
	// Order lists the keys by age; the head is forgotten when log time has passed it.
	Order []string
}

// Repeat is one remembered request.
type Repeat[O any] struct {
	Body    string
	Outcome O
	// Until is the log time at which the key is forgotten, Unix milliseconds.
	Until int64
}

// Verdict is what Repeats knows of a request.
type Verdict int

// The verdicts.
const (
	New Verdict = iota
	Repeated
	// Reused means that the key came with another body before.
	Reused
)

// maxRepeats bounds the memory: beyond it the oldest keys are forgotten early.
const maxRepeats = 200_000

// Look tells whether a request was seen before, and with what outcome.
func (r *Repeats[O]) Look(key *event.Idempotency, now int64) (O, Verdict) {
	r.expire(now)
	var none O
	if len(key.GetKey()) == 0 {
		return none, New
	}
	known, ok := r.Known[string(key.GetKey())]
	switch {
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
	name := string(key.GetKey())
	if _, known := r.Known[name]; !known {
		r.Order = append(r.Order, name)
	}
	r.Known[name] = Repeat[O]{Body: string(key.GetBody()), Outcome: outcome, Until: now + key.GetKeepSeconds()*1000}
}

func (r *Repeats[O]) expire(now int64) {
	gone := 0
	for _, name := range r.Order {
		if r.Known[name].Until > now && len(r.Order)-gone <= maxRepeats {
			break
		}
		delete(r.Known, name)
		gone++
	}
	r.Order = r.Order[gone:]
}
