package scenario

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace/millrace/loadtest/farm"
	"github.com/millrace/millrace/loadtest/load"
)

// watchedReads reads some pages again and again while something else goes on.
type watchedReads struct {
	stop context.CancelFunc
	done chan struct{}

	answered, failed int
	failure          string
	latencies        *load.Latencies
}

// watchEvery is the time between two reads.
const watchEvery = 50 * time.Millisecond

// watchReads begins.
func (l *lab) watchReads() *watchedReads {
	ctx, stop := context.WithCancel(l.ctx)
	w := &watchedReads{stop: stop, done: make(chan struct{}), latencies: load.NewLatencies()}
	reader := &farm.Reader{Target: l.target, HTTP: client(1, 30*time.Second)}
	go func() {
		defer close(w.done)
		paths := []string{"/benchmark/overview", "/machine/list", "/run/1", "/benchmark/machines"}
		ticker := time.NewTicker(watchEvery)
		defer ticker.Stop()
		for i := 0; ; i++ {
			w.read(ctx, reader, paths[i%len(paths)])
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	}()
	return w
}

func (w *watchedReads) read(ctx context.Context, reader *farm.Reader, path string) {
	began := time.Now()
	status := reader.Status(ctx, path)
	switch {
	case ctx.Err() != nil:
	case status == 200:
		w.answered++
		w.latencies.Record(time.Since(began))
	default:
		w.failed++
		w.failure = fmt.Sprintf("%s: status %d", path, status)
	}
}

// end stops reading.
func (w *watchedReads) end() {
	w.stop()
	<-w.done
}

func (w *watchedReads) promise(l *lab) {
	times := w.latencies.Summary()
	l.result.Promise("reads go on meanwhile", w.failed == 0 && w.answered > 0, nil, "%d answered (p50 %.1f ms, p99 %.1f ms), %d failed%s",
		w.answered, times.P50, times.P99, w.failed, prefixed(", the last one ", w.failure))
}
