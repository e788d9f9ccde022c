// Package worker takes jobs of a Millrace's queues, one at a time, and runs a command for each.
package worker

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/millrace/millrace/ingest/jobs"
)

// Config says where a worker finds its jobs and what it does with them.
type Config struct {
	// Client and URL reach the server; Token may be empty where Client needs none.
	Client *http.Client
	URL    string
	Token  string
	Queues []string
	// Command is run for each job, with the payload on its standard input.
	Command []string
	// Once ends the worker after one job, or when there is none.
	Once bool
	// OutputBytes is how much of what the command writes is stored with the job; 0: nothing.
	OutputBytes int64
	// Environ is the command's environment, to which the job's id and queue are added.
	Environ []string
	Out     io.Writer
	Logger  *slog.Logger
}

const (
	// patience is how long a claim waits for a job at the server, and slack what else it may take.
	patience = 30 * time.Second
	slack    = 30 * time.Second
	// grace is what a command has to end after it was told to.
	grace = 10 * time.Second
	// storing is how long the server may take to store a job's output.
	storing = 2 * time.Minute
	// The pauses between two attempts to reach the server.
	shortest, longest = 200 * time.Millisecond, 10 * time.Second
)

type lease struct {
	Token     string    `json:"token"`
	ExpiresAt time.Time `json:"expires_at"`
}

type job struct {
	ID      string          `json:"id"`
	Queue   string          `json:"queue"`
	Payload json.RawMessage `json:"payload"`
	Lease   lease           `json:"lease"`
}

// Run takes jobs until ctx ends. A command that runs then is finished and reported first.
func Run(ctx context.Context, c Config) error {
	if err := c.check(); err != nil {
		return err
	}
	for ctx.Err() == nil {
		j, err := c.claim(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case j != nil:
			if err := c.work(context.WithoutCancel(ctx), j); err != nil {
				return err
			}
		}
		if c.Once {
			return nil
		}
	}
	return nil
}

// check refuses, before any job is taken, what could only fail them.
func (c *Config) check() error {
	for _, queue := range c.Queues {
		if err := checkQueue(queue); err != nil {
			return err
		}
	}
	if _, err := exec.LookPath(c.Command[0]); err != nil {
		if wrapped := (*exec.Error)(nil); errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return fmt.Errorf("the command %q cannot be run: %w", c.Command[0], err)
	}
	return nil
}

// checkQueue refuses a queue that no job can be in. Testflinger's own names are any text.
func checkQueue(queue string) error {
	if name, is := strings.CutPrefix(queue, "testflinger/"); is && name != "" {
		return nil
	}
	if test, is := strings.CutPrefix(queue, "debci/"); is {
		if parts := strings.Split(test, "/"); len(parts) != 2 || parts[0] == "" || parts[1] == "" || strings.ContainsAny(test, " \t") {
			return fmt.Errorf("there is no queue %q: those of debci are debci/SUITE/ARCHITECTURE", queue)
		}
		return nil
	}
	if !jobs.IsQueue(queue) {
		return fmt.Errorf("there is no queue %q: a name has letters, digits and . _ / -, at most 200, and begins with none of . / -", queue)
	}
	return nil
}

// claim waits for a job; nil when there was none.
func (c *Config) claim(ctx context.Context) (*job, error) {
	body := map[string]any{"queues": c.Queues}
	if !c.Once {
		body["wait"] = patience.Seconds()
	}
	// An answer that is lost does not lose the job: its repeat gets the same one.
	key := rand.Text()
	header := http.Header{"Idempotency-Key": {key}, "Content-Type": {"application/json"}}
	answer, err := c.insist(ctx, http.MethodPost, "/claim", encoded(body), header)
	if err != nil || answer.status == http.StatusNoContent {
		return nil, err
	}
	if answer.status != http.StatusOK {
		return nil, fmt.Errorf("claim a job: %w", answer.refusal())
	}
	var j job
	if err := json.Unmarshal(answer.body, &j); err != nil {
		return nil, fmt.Errorf("read a job: %w", err)
	}
	return &j, nil
}

// work runs the command for a job, stores what it wrote and reports how it ended, unless the job is lost meanwhile.
func (c *Config) work(ctx context.Context, j *job) error {
	c.Logger.Info("job begins", "job", j.ID, "queue", j.Queue)
	out, err := newTranscript(c.Out, c.OutputBytes)
	if err != nil {
		return err
	}
	defer out.close()
	started := time.Now()
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	beating, rest := context.WithCancel(ctx)
	defer rest()
	go c.keep(beating, j, stop)
	code, err := c.execute(running, j, out)
	took := time.Since(started)
	if !errors.Is(context.Cause(running), errLost) {
		c.storeOutput(running, j, out)
	}
	lost := errors.Is(context.Cause(running), errLost)
	rest()
	if lost {
		c.Logger.Warn("the job is lost: it is another worker's, or has ended", "job", j.ID)
		return nil
	}
	return c.report(ctx, j, code, err, took)
}

func (c *Config) report(ctx context.Context, j *job, code int, failure error, took time.Duration) error {
	report := map[string]any{"status": status(j.Queue, code), "exit_code": code, "duration_seconds": int64(took.Seconds())}
	said := []any{"job", j.ID, "status", report["status"], "exit_code", code}
	if failure != nil {
		report["message"] = failure.Error()
		said = append(said, "error", failure)
	}
	answer, err := c.insist(ctx, http.MethodPost, "/"+url.PathEscape(j.ID)+"/result", encoded(report), j.header())
	switch {
	case err != nil:
		return err
	case answer.status == http.StatusOK:
		c.Logger.Info("job ended", said...)
	default:
		c.Logger.Warn("the result was refused", append(said, "reason", answer.refusal())...)
	}
	return nil
}

func (j *job) header() http.Header {
	return http.Header{"Millrace-Lease": {j.Lease.Token}, "Content-Type": {"application/json"}}
}

// OutputName is the artifact that holds what a job's command wrote.
const OutputName = "output.log"

// storeOutput leaves what the command wrote with the job. The job's result counts without it too. The context's end says
// that the command was to end, and why; only a job that is another worker's keeps its output to itself.
func (c *Config) storeOutput(running context.Context, j *job, out *transcript) {
	size, err := out.finish()
	if err == nil && size == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(running), storing)
	defer cancel()
	context.AfterFunc(running, func() {
		if errors.Is(context.Cause(running), errLost) {
			cancel()
		}
	})
	var got answer
	if err == nil {
		header := j.header()
		header.Set("Content-Type", "text/plain; charset=utf-8")
		content := func() (io.Reader, int64, error) { return io.NewSectionReader(out.file, 0, size), size, nil }
		got, err = c.insist(ctx, http.MethodPut, "/"+url.PathEscape(j.ID)+"/artifacts/"+OutputName, content, header)
	}
	if err == nil && got.status != http.StatusCreated {
		err = got.refusal()
	}
	if err != nil {
		c.Logger.Warn("the job's output is not stored", "job", j.ID, "error", err)
	}
}

var (
	// errLost ends a command whose job is another worker's.
	errLost = errors.New("the lease is over")
	// errCancelled ends a command whose job was cancelled.
	errCancelled = errors.New("the job was cancelled")
)

// keep sends heartbeats until ctx ends or the job is lost, and ends the command when it is to end.
func (c *Config) keep(ctx context.Context, j *job, stop context.CancelCauseFunc) {
	expires := j.Lease.ExpiresAt
	for {
		// A third of what is left: two heartbeats may fail.
		if !pause(ctx, max(shortest, time.Until(expires)/3)) {
			return
		}
		answer, err := c.send(ctx, http.MethodPost, "/"+url.PathEscape(j.ID)+"/heartbeat", nothing, j.header())
		if err != nil || answer.status >= http.StatusInternalServerError {
			continue
		}
		var renewed struct {
			Lease     lease `json:"lease"`
			Cancelled bool  `json:"cancelled"`
		}
		switch {
		case answer.status == http.StatusConflict:
			stop(errLost)
			return
		case answer.status == http.StatusOK && json.Unmarshal(answer.body, &renewed) == nil:
			expires = renewed.Lease.ExpiresAt
			if renewed.Cancelled {
				stop(errCancelled)
			}
		}
	}
}

// execute runs the command and gives its exit status; -1 when it gave none.
func (c *Config) execute(ctx context.Context, j *job, out io.Writer) (int, error) {
	command := exec.CommandContext(ctx, c.Command[0], c.Command[1:]...)
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(j.Payload), out, out
	command.Env = append(slices.Clone(c.Environ), "MILLRACE_JOB_ID="+j.ID, "MILLRACE_JOB_QUEUE="+j.Queue)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = grace
	err := command.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		c.Logger.Warn("the command has ended, and what it left running is not waited for", "job", j.ID)
		err = nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return command.ProcessState.ExitCode(), cause
	}
	return command.ProcessState.ExitCode(), err
}

// status is how a job ended by its command's exit status. Tests of debci's speak as autopkgtest does.
func status(queue string, code int) string {
	switch {
	case !strings.HasPrefix(queue, "debci/"):
		if code == 0 {
			return "pass"
		}
		return "fail"
	case code == 0 || code == 2:
		return "pass"
	case code == 4 || code == 6 || code == 12 || code == 14:
		return "fail"
	case code == 8:
		return "neutral"
	}
	return "tmpfail"
}

type answer struct {
	status int
	body   []byte
}

// refusal is why the server refuses.
func (a answer) refusal() error {
	var failure struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(a.body, &failure) == nil && failure.Error != "" {
		return errors.New(failure.Error)
	}
	return fmt.Errorf("refused with status %d", a.status)
}

// content gives a request's body and its size, anew for every attempt.
type content func() (io.Reader, int64, error)

func nothing() (io.Reader, int64, error) { return http.NoBody, 0, nil }

func encoded(body any) content {
	return func() (io.Reader, int64, error) {
		text, err := json.Marshal(body)
		return bytes.NewReader(text), int64(len(text)), err
	}
}

// insist sends a request until the server answers it or ctx ends.
func (c *Config) insist(ctx context.Context, method, path string, body content, header http.Header) (answer, error) {
	for delay := shortest; ; delay = min(2*delay, longest) {
		got, err := c.send(ctx, method, path, body, header)
		switch {
		case err == nil && got.status != http.StatusTooManyRequests && got.status < http.StatusInternalServerError:
			return got, nil
		case ctx.Err() != nil: // nobody waits for the answer any more
			return answer{}, ctx.Err()
		case err == nil:
			err = got.refusal()
		}
		c.Logger.Warn("the server does not answer, trying again", "error", err)
		if !pause(ctx, delay) {
			return answer{}, fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

func (c *Config) send(ctx context.Context, method, path string, body content, header http.Header) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, patience+slack)
	defer cancel()
	from, size, err := body()
	if err != nil {
		return answer{}, fmt.Errorf("encode a request: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.URL+"/millrace/v1/jobs"+path, from)
	if err != nil {
		return answer{}, fmt.Errorf("prepare a request: %w", err)
	}
	request.Header, request.ContentLength = header.Clone(), size
	if c.Token != "" {
		request.Header.Set("Authorization", "Bearer "+c.Token)
	}
	response, err := c.Client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	got, err := io.ReadAll(io.LimitReader(response.Body, 64<<20))
	return answer{response.StatusCode, got}, err
}

// pause waits; false when ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
