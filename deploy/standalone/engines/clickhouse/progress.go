package clickhouse

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress shows how far the download is. It counts what is written to it.
type progress struct {
	bar   *progressbar.ProgressBar // on a terminal
	lines io.Writer                // elsewhere

	done, total int64
	nextLine    time.Time
}

// lineEvery is the distance between two lines where no bar can be drawn.
const lineEvery = 5 * time.Second

func newProgress(to io.Writer, done, total int64) *progress {
	p := &progress{lines: to, done: done, total: total, nextLine: time.Now()}
	if file, ok := to.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		p.bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(to),
			progressbar.OptionSetDescription("millrace: downloading ClickHouse"), progressbar.OptionShowBytes(true),
			progressbar.OptionFullWidth(), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionShowElapsedTimeOnFinish())
		_ = p.bar.Set64(done) // a bar that cannot be drawn stops nothing
	}
	return p
}

func (p *progress) Write(b []byte) (int, error) {
	p.done += int64(len(b))
	switch {
	case p.bar != nil:
		_ = p.bar.Set64(p.done)
	case time.Now().After(p.nextLine):
		p.nextLine = time.Now().Add(lineEvery)
		fmt.Fprintf(p.lines, "millrace: downloading ClickHouse: %d of %d MB\n", p.done>>20, p.total>>20)
	}
	return len(b), nil
}

func (p *progress) finish() {
	if p.bar != nil {
		_ = p.bar.Finish()
		fmt.Fprintln(p.lines)
		return
	}
	fmt.Fprintf(p.lines, "millrace: downloaded %d of %d MB\n", p.done>>20, p.total>>20)
}
