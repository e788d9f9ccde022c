package gate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/millrace/millrace/schemas/route"
)

// Read gives look a generation of the projections that contains everything of some topics which was in the log when the
// request came, or what the position names that its header carries. look starts over when its generation is superseded.
// Errors are *route.Error, look's, or the context's.
func (g *Gate) Read(ctx context.Context, header http.Header, look func(generation uint32) error, topics ...string) error {
	need, err := Need(header)
	if err != nil {
		return err
	}
	target, err := g.Target(ctx, need, topics...)
	if err != nil {
		return err
	}
	for {
		generation := g.marks.generation()
		if generation == 0 {
			return route.Busy(time.Second, "the projections are being built; try again")
		}
		if err = g.Wait(ctx, generation, target); err == nil {
			err = look(generation)
		}
		if !errors.Is(err, ErrSuperseded) {
			return err
		}
		if g.marks.generation() == generation {
			return fmt.Errorf("%w: %w", route.Busy(time.Second, "the projections are being replaced; try again"), err)
		}
	}
}
