package load

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Closed is a closed-loop load: every sender sends its next request when it has the answer to the last.
type Closed struct {
	Senders int
	// Requests and Time end the load, whichever comes first; 0 is no bound. One of them is set.
	Requests int
	Time     time.Duration
}

// Round is what a closed-loop load did.
type Round struct {
	Requests  int
	Elapsed   time.Duration
	Latencies *Latencies
}

// Rate is the number of answered requests a second.
func (r Round) Rate() float64 { return float64(r.Requests) / r.Elapsed.Seconds() }

// Opener makes the function by which a sender sends its requests, and the one that ends it. i counts the requests of all
// senders, from 0.
type Opener func(ctx context.Context, sender int) (send func(i int) error, end func(), err error)

// Run starts the senders and returns when all have ended. The first error ends the load.
func (c Closed) Run(ctx context.Context, open Opener) (Round, error) {
	group, ctx := errgroup.WithContext(ctx)
	senders := make([]func(int) error, c.Senders)
	for s := range senders {
		send, end, err := open(ctx, s)
		if err != nil {
			return Round{}, err
		}
		defer end()
		senders[s] = send
	}
	round := Round{Latencies: NewLatencies()}
	start := time.Now()
	var next, answered atomic.Int64
	for _, send := range senders {
		group.Go(func() error {
			own := NewLatencies()
			defer round.Latencies.Merge(own)
			for ctx.Err() == nil && (c.Time == 0 || time.Since(start) < c.Time) {
				i := int(next.Add(1)) - 1
				if c.Requests > 0 && i >= c.Requests {
					return nil
				}
				began := time.Now()
				if err := send(i); err != nil {
					return err
				}
				own.Record(time.Since(began))
				answered.Add(1)
			}
			return ctx.Err()
		})
	}
	err := group.Wait()
	round.Requests, round.Elapsed = int(answered.Load()), time.Since(start)
	return round, err
}
