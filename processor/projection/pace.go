package projection

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"
)

// A recomputation reads the whole week of a series, so its cost grows with the samples that are there and not with those
// that came: under a flood into one week it would take ever more of the time. So a week that takes long to recompute rests
// afterwards, and one that takes very long is left to Run altogether. Batches that touch such a week leave a note in the
// table postponed_trends, and Run recomputes it when its rest is over. The note stands before the batch counts as written, and goes only after a recomputation that
// began when it stood: a crash forgets none.

const (
	// quick is a recomputation that needs no rest.
	quick = 50 * time.Millisecond
	// slow is a recomputation that no batch waits for.
	slow = 250 * time.Millisecond
	// restFactor is how many times its own duration a recomputation is followed by rest.
	restFactor = 4
	// settleEvery is how often Run looks for postponed trends.
	settleEvery = 500 * time.Millisecond
	// lookForOthers is how many of these times pass until it looks although this writer has postponed nothing: another
	// one may have left notes when it ended.
	lookForOthers = 60
)

// pace says which weeks rest.
type pace struct {
	mu sync.Mutex
	// runners counts who recomputes what is postponed. Nothing is postponed while nobody does.
	runners int
	rests   map[week]rest
	// noted says that there may be notes.
	noted bool
}

func (p *pace) run(change int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.runners += change
}

// rest says how a week is treated.
type rest struct {
	until time.Time
	// slow weeks are left to Run, also when they are rested, until this is forgotten.
	slow      bool
	forgotten time.Time
}

// rememberSlow is how long a week counts as slow after its last recomputation.
const rememberSlow = 15 * time.Minute

// took notes how long it took to recompute some weeks together.
func (p *pace) took(weeks []week, duration time.Duration, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.rests, func(_ week, r rest) bool { return !now.Before(r.forgotten) })
	for _, w := range weeks {
		delete(p.rests, w)
		if duration > quick {
			until := now.Add(restFactor * duration)
			p.rests[w] = rest{until: until, slow: duration > slow, forgotten: until.Add(rememberSlow)}
		}
	}
}

// tooLarge leaves a week that cannot be recomputed alone for long.
func (p *pace) tooLarge(w week, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	until := now.Add(rememberSlow)
	p.rests[w] = rest{until: until, slow: true, forgotten: until.Add(rememberSlow)}
}

// split parts the hours that a batch recomputes at once from those that it postpones.
func (p *pace) split(hours []touchedHour, now time.Time) (atOnce, postponed []touchedHour) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.runners == 0 || len(p.rests) == 0 {
		return hours, nil
	}
	for _, t := range hours {
		if r := p.rests[t.week()]; r.slow || now.Before(r.until) {
			postponed = append(postponed, t)
		} else {
			atOnce = append(atOnce, t)
		}
	}
	return atOnce, postponed
}

// rested says whether a postponed week may be recomputed.
func (p *pace) rested(w week, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !now.Before(p.rests[w].until)
}

// note remembers that there are notes.
func (p *pace) note() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.noted = true
}

// takeNoted tells whether there may be notes, once.
func (p *pace) takeNoted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	noted := p.noted
	p.noted = false
	return noted
}

// Run recomputes postponed trends, whoever postponed them, until ctx ends. While it runs, Write postpones what costs
// much; otherwise it postpones nothing. Before each round giveWay, unless it is nil, returns when that may be.
func (w *Writer) Run(ctx context.Context, logger *slog.Logger, giveWay func(context.Context)) error {
	w.pace.run(1)
	defer w.pace.run(-1)
	ticker := time.NewTicker(settleEvery)
	defer ticker.Stop()
	for tick := 0; ; tick++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		if !w.pace.takeNoted() && tick%lookForOthers != 0 {
			continue
		}
		if giveWay != nil {
			giveWay(ctx)
		}
		left, err := w.settle(ctx, everySeries(), func(p week) bool { return w.pace.rested(p, time.Now()) })
		if err != nil && ctx.Err() == nil {
			logger.Warn("recomputing postponed trends failed, retrying", "error", err)
		}
		if err != nil || left > 0 {
			w.pace.note()
		}
	}
}
