package report

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Progress shows where a scenario is: on a terminal in one line, once a second, elsewhere as a line every ten seconds.
type Progress struct {
	out      io.Writer
	terminal bool

	mu     sync.Mutex
	phase  string
	status func() string
	began  time.Time
	stop   chan struct{}
	done   chan struct{}
}

// NewProgress shows progress on a file until Close.
func NewProgress(out *os.File) *Progress {
	info, err := out.Stat()
	p := &Progress{
		out: out, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0,
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	go p.run()
	return p
}

// Phase begins a phase. status says how far it is and may be nil; it is called from another goroutine.
func (p *Progress) Phase(name string, status func() string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.phase, p.status, p.began = name, status, time.Now()
	if !p.terminal {
		fmt.Fprintln(p.out, name)
	}
}

func (p *Progress) run() {
	defer close(p.done)
	every := 10 * time.Second
	if p.terminal {
		every = time.Second
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-ticker.C:
			p.show()
		}
	}
}

func (p *Progress) show() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.phase == "" {
		return
	}
	line := fmt.Sprintf("%s, %.0f s", p.phase, time.Since(p.began).Seconds())
	if p.status != nil {
		line += ": " + p.status()
	}
	if p.terminal {
		fmt.Fprintf(p.out, "\r\x1b[K%s", line)
	} else {
		fmt.Fprintln(p.out, line)
	}
}

// Close ends the display.
func (p *Progress) Close() {
	close(p.stop)
	<-p.done
	if p.terminal {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}
