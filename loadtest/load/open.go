package load

import (
	"context"
	"iter"
	"math/rand/v2"
	"sync"
	"time"
)

// Open is an open-loop load.
type Open struct {
	// Rate is the mean number of requests a second.
	Rate float64
	// Seed fixes when requests are sent.
	Seed uint64
	// InFlight bounds the requests that are being answered. Beyond it the next one waits, and its wait counts.
	InFlight int
}

// Arrivals gives the times, counted from the load's start, at which requests are meant to be sent: a Poisson process, as
// independent clients make it. The same seed gives the same times.
func Arrivals(seed uint64, rate float64) iter.Seq[time.Duration] {
	return func(yield func(time.Duration) bool) {
		random := rand.New(rand.NewPCG(seed, 0))
		var at float64 // seconds
		for {
			at += random.ExpFloat64() / rate
			if !yield(time.Duration(at * float64(time.Second))) {
				return
			}
		}
	}
}

// Send sends request i, which was meant to be sent at the given time, and returns when it is settled.
type Send func(ctx context.Context, i int, meant time.Time)

// Run sends requests until stop is closed or ctx ends, and returns when all of them are settled: how many there were.
func (o Open) Run(ctx context.Context, stop <-chan struct{}, send Send) int {
	var flying sync.WaitGroup
	defer flying.Wait()
	slots := make(chan struct{}, o.InFlight)
	start := time.Now()
	sent := 0
	for after := range Arrivals(o.Seed, o.Rate) {
		meant := start.Add(after)
		if !await(ctx, stop, meant) || !acquire(ctx, stop, slots) {
			return sent
		}
		i := sent
		flying.Go(func() {
			defer func() { <-slots }()
			send(ctx, i, meant)
		})
		sent++
	}
	return sent
}

// await waits for a moment; it is false when the load ends before.
func await(ctx context.Context, stop <-chan struct{}, moment time.Time) bool {
	timer := time.NewTimer(time.Until(moment))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-stop:
		return false
	case <-timer.C:
		return true
	}
}

func acquire(ctx context.Context, stop <-chan struct{}, slots chan<- struct{}) bool {
	select {
	case slots <- struct{}{}:
		return true
	case <-ctx.Done():
	case <-stop:
	}
	return false
}
