package subscription

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"time"
)

// readAhead bounds the deliveries that are begun behind one that fails. They are repeated after a crash.
const readAhead = 256

// delivery is a notice on its way.
type delivery struct {
	*notice

	done bool
	// since is when the first attempt failed; zero while none has. problem is what the last one ran into.
	since    time.Time
	attempts int
	problem  string
}

// tracker knows what was read and is not delivered yet, in the order of the log.
type tracker struct {
	room chan struct{}

	mu    sync.Mutex
	queue []*delivery
	// end is the mark when nothing is on its way: all before it was delivered.
	end int64
	// unread are rows that were counted and not read yet.
	unread uint64
}

func newTracker(next int64) *tracker {
	return &tracker{room: make(chan struct{}, readAhead), end: next}
}

// add takes a delivery once there is room.
func (t *tracker) add(ctx context.Context, d *delivery) error {
	select {
	case t.room <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.queue = append(t.queue, d)
	t.unread = max(1, t.unread) - 1
	return nil
}

// reach says that everything before an offset was read.
func (t *tracker) reach(end int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = end
}

func (t *tracker) count(unread uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unread = unread
}

// delivered ends a delivery.
func (t *tracker) delivered(d *delivery) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d.done = true
	for len(t.queue) > 0 && t.queue[0].done {
		t.queue = t.queue[1:]
		<-t.room
	}
}

// failed notes a failed attempt, and gives when the first one failed.
func (t *tracker) failed(d *delivery, problem string, now time.Time) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d.since.IsZero() {
		d.since = now
	}
	d.attempts++
	d.problem = problem
	return d.since
}

// waiting counts what is not delivered.
func (t *tracker) waiting() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return uint64(len(t.queue)) + t.unread
}

// mark gives the offset before which all was delivered, and the delivery that has failed for the longest time.
func (t *tracker) mark() (next int64, trouble Trouble) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next = t.end
	if len(t.queue) > 0 {
		next = t.queue[0].at.offset
	}
	for _, d := range t.queue {
		if !d.done && !d.since.IsZero() && (trouble.Since.IsZero() || d.since.Before(trouble.Since)) {
			trouble = Trouble{Since: d.since.UTC().Truncate(time.Millisecond), Attempts: d.attempts, Problem: d.problem}
		}
	}
	return next, trouble
}

// Trouble is what keeps deliveries from going on. It stands beside the position in the group's commit, so that a processor
// that takes over knows since when, and who lists subscriptions.
type Trouble struct {
	Since    time.Time `json:"since"`
	Attempts int       `json:"attempts"`
	Problem  string    `json:"problem"`
	// Resumed is the subscription's: a resumption gives it all its time again.
	Resumed uint64 `json:"resumed,omitempty"`
}

// maxProblem keeps a note well under the 4096 bytes that Kafka takes.
const maxProblem = 500

func (t Trouble) note() string {
	if t.Since.IsZero() {
		return ""
	}
	if len(t.Problem) > maxProblem {
		t.Problem = strings.ToValidUTF8(t.Problem[:maxProblem], "") + "…"
	}
	text, err := json.Marshal(t)
	if err != nil {
		return "" // no field can fail to encode
	}
	return string(text)
}

// readTrouble reads a note; the zero Trouble when there is none.
func readTrouble(note string) (t Trouble) {
	if json.Unmarshal([]byte(note), &t) != nil {
		return Trouble{}
	}
	return t
}
