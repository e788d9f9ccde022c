package app

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/millrace/millrace/query/gate"
	"github.com/millrace/millrace/schemas/route"
)

// courtesy lets writes go first where a processor shares their machine: while they queue, the projections rest, and the
// log keeps what waits. A burst is so answered at the speed of the log. It ends when a read waits for the projections,
// when the log is half full, and when it has lasted long enough: then the projections work beside the writes.
type courtesy struct {
	// inFlight counts the writes in flight.
	inFlight func() int64
	// urgent says that the projections must not rest.
	urgent func() bool
	// most is how long the projections rest at a time.
	most time.Duration
	// queue is how many writes in flight are more than the processors are at work on.
	queue int64

	mu sync.Mutex
	// began is when the writes began to queue, last when they were last seen to; both zero while they do not.
	began, last time.Time
}

// A look takes several samples.
const (
	courtesySamples = 10
	courtesyPause   = 2 * time.Millisecond
)

func newCourtesy(writes *route.Admission, g *gate.Gate, s *space, most time.Duration) *courtesy {
	return &courtesy{
		inFlight: func() int64 {
			requests, _ := writes.InFlight()
			return requests
		},
		urgent: func() bool { return s.halfFull() || g.Waiting() },
		most:   most, queue: int64(2 * runtime.GOMAXPROCS(0)),
	}
}

// giveWay returns when the projections may go on.
func (c *courtesy) giveWay(ctx context.Context) {
	for c.most > 0 && ctx.Err() == nil && !c.urgent() && (c.inFlight() > 0 || c.resting()) { // a look takes longer than a read should
		if !c.rest(c.queueing(ctx), time.Now()) {
			return
		}
	}
}

// resting tells whether the last look found that writes queue. When those that queue are answered together, there is a
// moment without any.
func (c *courtesy) resting() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.last.IsZero()
}

// rest takes note of a look and says whether the projections rest.
func (c *courtesy) rest(queueing bool, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !queueing {
		c.began, c.last = time.Time{}, time.Time{}
		return false
	}
	if now.Sub(c.last) > c.most {
		c.began = now
	}
	c.last = now
	return now.Sub(c.began) < c.most
}

// queueing looks for a while whether more writes are in flight than the processors are at work on.
func (c *courtesy) queueing(ctx context.Context) bool {
	look := time.NewTicker(courtesyPause)
	defer look.Stop()
	var seen int64
	for range courtesySamples {
		seen += c.inFlight()
		select {
		case <-ctx.Done():
			return false
		case <-look.C:
		}
	}
	return seen >= courtesySamples*c.queue
}
