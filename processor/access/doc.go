// Package access finds out who sent a request and whether a route lets them in: sessions, request forgery and machine
// secrets of the Performance Farm, keys of debci, tokens of Millrace's own API. Both the write and the read side use it.
//
// It answers from the registry's fold. A refusal that rests on folded state is given only after the replica has caught
// up to the log's end as of the request's arrival, so that who was let in a moment ago at another replica is let in here.
// Who was shut out a moment ago at another replica may get in here until this one has read it: a look at the log's end
// would cost every request what only a refusal is worth.
package access

import (
	"context"
	"time"

	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/schemas/route"
)

// Registry is the replica of the registry's fold.
type Registry interface {
	View(look func(*registry.State))
	CatchUp(ctx context.Context) error
}

const (
	// catchUpBound is how long a request waits for its replica before it is told to come again.
	catchUpBound = 5 * time.Second
	// retryAfter is what it is told then.
	retryAfter = 2 * time.Second
)

// settle looks at the registry, and once more at the log's end unless the first look was convincing.
func settle(ctx context.Context, r Registry, look func(*registry.State) bool) error {
	convinced := false
	r.View(func(s *registry.State) { convinced = look(s) })
	if convinced {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, catchUpBound)
	defer cancel()
	if err := r.CatchUp(ctx); err != nil {
		return unavailable()
	}
	r.View(func(s *registry.State) { look(s) })
	return nil
}

func unavailable() *route.Error {
	return route.Busy(retryAfter, "the log is out of reach, so it is not known whether you may do this; try again")
}
