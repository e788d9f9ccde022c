package scenario

import (
	"fmt"
	"sync"
	"time"
)

// extent is what the target took at most, in bytes.
type extent struct{ log, memory int64 }

// footprint measures again and again what the target's log takes on disk and its process in memory.
type footprint struct {
	lab  *lab
	stop func()
	done chan struct{}
	err  error // the last failure to measure, once done is closed

	mu   sync.Mutex // held while the process is replaced
	most extent
}

// measureEvery is the time between two measurements.
const measureEvery = 100 * time.Millisecond

func (l *lab) watchFootprint() *footprint {
	ending := make(chan struct{})
	f := &footprint{lab: l, done: make(chan struct{}), stop: sync.OnceFunc(func() { close(ending) })}
	go func() {
		defer close(f.done)
		ticker := time.NewTicker(measureEvery)
		defer ticker.Stop()
		for {
			f.err = f.measure()
			select {
			case <-ending:
				return
			case <-ticker.C:
			}
		}
	}()
	return f
}

func (f *footprint) measure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	log, err := f.lab.target.LogBytes()
	f.most.log, f.most.memory = max(f.most.log, log), max(f.most.memory, f.lab.target.Memory())
	return err
}

// replace runs what puts another process in the target's place.
func (f *footprint) replace(change func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return change()
}

func (f *footprint) sofar() extent {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.most
}

func (f *footprint) String() string {
	most := f.sofar()
	return fmt.Sprintf("log at most %s, memory at most %s", megabytes(most.log), megabytes(most.memory))
}

// end stops measuring.
func (f *footprint) end() {
	f.stop()
	<-f.done
}
