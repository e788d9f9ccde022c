package cache

import "context"

// rounds are the computations of one page, one after the other, each for the watermark of its start. Whoever asks while
// one is under way waits for the next, which all who came meanwhile share: a page whose watermark moves with every
// request costs one computation at a time and not one for each request.
type rounds struct {
	running *flight
	next    *flight
}

func (r *rounds) cancel() {
	r.running.cancel()
	if r.next != nil {
		r.next.cancel()
	}
}

// Question gives the key under which a page stands as of now, its watermark included, and what computes it.
type Question func() (key string, fill func(context.Context) (Value, error))

// Latest gives a page, named without its watermark, as of a moment at or after the call.
func (c *Cache) Latest(ctx context.Context, page string, ask Question) (Value, error) {
	key, _ := ask()
	if value, ok := c.kept(key); ok {
		return value, nil
	}
	f := c.join(ctx, page, ask)
	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
		c.leaveRound(f)
		return Value{}, context.Cause(ctx)
	}
}

// join takes part in the round of a page that starts next: at once when none is under way.
func (c *Cache) join(ctx context.Context, page string, ask Question) *flight {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.rounds[page]
	switch {
	case r == nil:
		r = &rounds{running: newFlight(ctx)}
		c.rounds[page] = r
		c.running.Go(func() { c.runRounds(page, r, ask) })
		return r.running.enter()
	case r.next == nil:
		r.next = newFlight(ctx)
	}
	return r.next.enter()
}

// runRounds makes rounds while somebody waits for one.
func (c *Cache) runRounds(page string, r *rounds, ask Question) {
	for f := r.running; f != nil; f = c.nextRound(page, r) {
		key, fill := ask()
		f.value, f.err = c.Get(f.ctx, key, fill)
		close(f.done)
		f.cancel()
	}
}

func (c *Cache) nextRound(page string, r *rounds) *flight {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.running, r.next = r.next, nil
	if r.running == nil {
		delete(c.rounds, page)
	}
	return r.running
}

// leaveRound counts a caller out. A round that all have left is cancelled; it still takes its turn, and then fails.
func (c *Cache) leaveRound(f *flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.waiters--; f.waiters == 0 {
		f.cancel()
	}
}
