package scenario

import (
	"slices"
	"time"

	"github.com/millrace/millrace/loadtest/farm"
	"github.com/millrace/millrace/loadtest/ledger"
)

// settle waits until everything that was acknowledged is projected, and says how long that took: a read without a
// position waits for the log's end.
func (l *lab) settle() (time.Duration, error) {
	began := time.Now()
	reader := &farm.Reader{Target: l.target, HTTP: client(1, time.Minute)}
	err := reader.Get(l.ctx, "/benchmark/overview", nil)
	return time.Since(began), err
}

const (
	// quietFor is how long the target must do next to nothing, and quietPatience bounds the wait for that.
	quietFor      = 500 * time.Millisecond
	quietPatience = 30 * time.Second
)

// quiet waits until the target's own processes have nothing left to do behind what they answered, such as merges: they
// would take the processor from whoever is measured next.
func (l *lab) quiet() error {
	deadline := time.Now().Add(quietPatience)
	for time.Now().Before(deadline) {
		own, clickhouse := l.target.CPU()
		if err := wait(l.ctx, quietFor); err != nil {
			return err
		}
		ownAfter, clickhouseAfter := l.target.CPU()
		if used := ownAfter - own + clickhouseAfter - clickhouse; used < quietFor/10 {
			return nil
		}
	}
	return nil
}

// promiseOnce says whether a list shows every acknowledged upload exactly once.
func (l *lab) promiseOnce(when string, audit ledger.Audit) {
	l.result.Promise(when+"every acknowledged upload counts once in the "+audit.List, audit.Faults() == 0 && audit.Acknowledged > 0, audit,
		"%d acknowledged, %d lost, %d counted twice, %d under another id, %d phantoms; of %d unsettled %d stored, of %d refused %d stored",
		audit.Acknowledged, audit.Lost, audit.Twice, audit.OtherID, audit.Phantoms, audit.Unknown, audit.UnknownStored,
		audit.Refused, audit.RefusedStored)
}

// median of some figures; the mean of the middle two when their number is even.
func median(figures []float64) float64 {
	if len(figures) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(figures))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}
