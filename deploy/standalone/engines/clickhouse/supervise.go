package clickhouse

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/deploy/standalone/engines/internal/process"
)

const (
	firstPause = 100 * time.Millisecond // before a child that died is started again
	longPause  = 10 * time.Second       // what the pause grows to while it keeps dying
	settled    = 10 * time.Second       // a child that lived this long was well
)

// child is one run of the engine.
type child struct {
	cmd   *exec.Cmd
	stdin io.Closer
	tail  *tail
	ended chan struct{} // closed when it has ended
	err   error         // why, once ended is closed
}

// supervise starts the engine and keeps it running. It returns when the first child answers, or with the reason why it
// does not.
func (s *Server) supervise(ctx context.Context) error {
	// On Linux a child gets its death signal when the thread that started it ends, so one thread starts them all and lives
	// as long as they do.
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	first := make(chan *child, 1)
	failed := make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := process.StandBack(s.opts.Nice); err != nil {
			s.opts.Logger.Warn("ClickHouse will not stand back for other programs", "error", err)
		}
		s.keepRunning(running, first, failed)
	}()
	s.stop = func() {
		cancel()
		<-done
	}
	err := s.awaitFirst(ctx, first, failed)
	if err != nil {
		s.stop()
	}
	return err
}

func (s *Server) awaitFirst(ctx context.Context, first <-chan *child, failed <-chan error) error {
	select {
	case err := <-failed:
		return err
	case c := <-first:
		return s.awaitAnswer(ctx, c)
	}
}

// keepRunning starts one child after the other until ctx ends. Only the first start is reported to the caller of Start.
func (s *Server) keepRunning(ctx context.Context, first chan<- *child, failed chan<- error) {
	pause := firstPause
	for starts := 1; ctx.Err() == nil; starts++ {
		began := time.Now()
		c, err := s.startChild()
		switch {
		case err != nil && starts == 1:
			failed <- err
			return
		case err == nil:
			if starts == 1 {
				first <- c
			}
			err = s.awaitEnd(ctx, c)
		}
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > settled {
			pause = firstPause
		}
		s.opts.Logger.Error("ClickHouse died and is started again", "reason", err, "pause", pause)
		if s.opts.OnDeath != nil {
			s.opts.OnDeath(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, longPause)
	}
}

// awaitEnd waits until the child has ended, and ends it when ctx does.
func (s *Server) awaitEnd(ctx context.Context, c *child) error {
	select {
	case <-c.ended:
	case <-ctx.Done():
		_ = c.cmd.Process.Kill() // it may have ended already
		<-c.ended
	}
	_ = c.stdin.Close()
	return c.err
}

func (s *Server) startChild() (*child, error) {
	cmd, err := s.command()
	if err != nil {
		return nil, err
	}
	cmd.Dir = s.opts.Dir
	cmd.SysProcAttr = process.Attributes()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("run %s: %w", cmd.Path, err)
	}
	if err := recordChild(s.opts.Dir, cmd.Process.Pid); err != nil {
		_ = cmd.Process.Kill()
		return nil, errors.Join(err, cmd.Wait())
	}
	c := &child{cmd: cmd, stdin: stdin, tail: &tail{log: s.opts.Logger}, ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		c.tail.readAll(stderr)
		if c.err = cmd.Wait(); c.err == nil {
			c.err = errors.New("it ended by itself")
		}
		c.err = errors.Join(c.err, c.tail.err())
	}()
	return c, nil
}

func (s *Server) command() (*exec.Cmd, error) {
	if s.opts.Program.Binary != "" {
		cmd := exec.Command(s.opts.Program.Binary, "server", "--config-file="+s.configPath())
		cmd.Env = append(os.Environ(), "CLICKHOUSE_WATCHDOG_ENABLE=0") // the process we start is the server itself
		return cmd, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this executable: %w", err)
	}
	return exec.Command(self, ChildCommand, s.opts.Program.Library, s.configPath()), nil
}

// awaitAnswer returns when the engine answers a query of User.
func (s *Server) awaitAnswer(ctx context.Context, c *child) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := s.ask(ctx, "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-c.ended:
			return c.err
		case <-ctx.Done():
			return fmt.Errorf("no answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// ask sends a query over HTTP; the answer only counts.
func (s *Server) ask(ctx context.Context, query string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.httpAddr+"/", strings.NewReader(query))
	if err != nil {
		return err
	}
	req.SetBasicAuth(User, s.password)
	transport := &http.Transport{DisableKeepAlives: true} // no proxy
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10)) // what there is of it explains the status
		return fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(text)))
	}
	return nil
}

// tail keeps the last lines that a child wrote to standard error, to say why it died.
type tail struct {
	log   *slog.Logger
	mu    sync.Mutex
	lines []string
}

const tailLines = 10

func (t *tail) readAll(r io.Reader) {
	lines := bufio.NewReaderSize(r, 16<<10) // a longer line is taken for several
	for {
		line, _, err := lines.ReadLine()
		if text := strings.TrimSpace(string(line)); text != "" {
			t.add(text)
		}
		if err != nil {
			return
		}
	}
}

func (t *tail) add(line string) {
	t.log.Debug("ClickHouse", "line", line)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == tailLines {
		t.lines = t.lines[1:]
	}
	t.lines = append(t.lines, line)
}

func (t *tail) err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == 0 {
		return nil
	}
	return errors.New(strings.Join(t.lines, "\n"))
}
