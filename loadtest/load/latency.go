// Package load sends requests at a server in one of two ways: open-loop, at a rate that the answers do not change, or
// closed-loop, as fast as a number of senders get their answers.
//
// Open-loop is how clients behave who know nothing of each other: its latencies count from the moment at which a request
// was meant to be sent, so that a server that stands still is charged for everyone who waits. Closed-loop finds out how
// much a server can do.
package load

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// longest is the longest time that a histogram tells apart; what took longer counts as this long.
const longest = time.Hour

// Latencies is a histogram of times with three significant digits, from a microsecond to an hour. It is safe for
// concurrent use.
type Latencies struct {
	mu        sync.Mutex
	histogram *hdrhistogram.Histogram
}

// NewLatencies gives an empty histogram.
func NewLatencies() *Latencies {
	return &Latencies{histogram: hdrhistogram.New(1, longest.Microseconds(), 3)}
}

// Record counts a time.
func (l *Latencies) Record(d time.Duration) {
	microseconds := min(max(d, time.Microsecond), longest).Microseconds()
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.histogram.RecordValue(microseconds) // it is within the bounds
}

// Merge counts all times of another histogram too.
func (l *Latencies) Merge(other *Latencies) {
	other.mu.Lock()
	defer other.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.histogram.Merge(other.histogram)
}

// Summary is what a histogram says, times in milliseconds.
type Summary struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean_ms"`
	P50   float64 `json:"p50_ms"`
	P90   float64 `json:"p90_ms"`
	P99   float64 `json:"p99_ms"`
	P999  float64 `json:"p999_ms"`
	Max   float64 `json:"max_ms"`
}

// Summary sums the histogram up.
func (l *Latencies) Summary() Summary {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := func(percent float64) float64 { return float64(l.histogram.ValueAtQuantile(percent)) / 1000 }
	return Summary{
		Count: l.histogram.TotalCount(), Mean: l.histogram.Mean() / 1000,
		P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: float64(l.histogram.Max()) / 1000,
	}
}
