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
	"strings"
	"syscall"
	"time"
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
	// Once ends the worker when there is no job.
	Once bool
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
	for ctx.Err() == nil {
		j, err := c.claim(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			return err
		case j != nil:
			if err := c.work(context.WithoutCancel(ctx), j); err != nil {
				return err
			}
		case c.Once:
			return nil
		}
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
	answer, err := c.insist(ctx, "/claim", body, http.Header{"Idempotency-Key": {key}})
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

// work runs the command for a job and reports how it ended, unless the job is lost meanwhile.
func (c *Config) work(ctx context.Context, j *job) error {
	c.Logger.Info("job begins", "job", j.ID, "queue", j.Queue)
	started := time.Now()
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go c.keep(running, j, stop)
	code, err := c.execute(running, j)
	lost := errors.Is(context.Cause(running), errLost)
	stop(nil)
	if lost {
		c.Logger.Warn("the job is lost: it is another worker's, or has ended", "job", j.ID)
		return nil
	}
	report := map[string]any{"status": status(j.Queue, code), "exit_code": code, "duration_seconds": int64(time.Since(started).Seconds())}
	if err != nil {
		report["message"] = err.Error()
	}
	answer, err := c.insist(ctx, "/"+url.PathEscape(j.ID)+"/result", report, http.Header{"Millrace-Lease": {j.Lease.Token}})
	switch {
	case err != nil:
		return err
	case answer.status == http.StatusOK:
		c.Logger.Info("job ended", "job", j.ID, "status", report["status"], "exit_code", code)
	default:
		c.Logger.Warn("the result was refused", "job", j.ID, "reason", answer.refusal())
	}
	return nil
}

var (
	// errLost ends a command whose job is another worker's.
	errLost = errors.New("the lease is over")
	// errCancelled ends a command whose job was cancelled.
	errCancelled = errors.New("the job was cancelled")
)

// keep sends heartbeats until ctx ends, and ends the command when it is to end.
func (c *Config) keep(ctx context.Context, j *job, stop context.CancelCauseFunc) {
	expires := j.Lease.ExpiresAt
	for {
		// A third of what is left: two heartbeats may fail.
		if !pause(ctx, max(shortest, time.Until(expires)/3)) {
			return
		}
		answer, err := c.send(ctx, "/"+url.PathEscape(j.ID)+"/heartbeat", nil, http.Header{"Millrace-Lease": {j.Lease.Token}})
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
		case answer.status == http.StatusOK && json.Unmarshal(answer.body, &renewed) == nil:
			expires = renewed.Lease.ExpiresAt
			if renewed.Cancelled {
				stop(errCancelled)
			}
		}
	}
}

// execute runs the command and gives its exit status; -1 when it gave none.
func (c *Config) execute(ctx context.Context, j *job) (int, error) {
	command := exec.CommandContext(ctx, c.Command[0], c.Command[1:]...)
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(j.Payload), c.Out, c.Out
	command.Env = append(c.Environ, "MILLRACE_JOB_ID="+j.ID, "MILLRACE_JOB_QUEUE="+j.Queue)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = grace
	err := command.Run()
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

// insist sends a request until the server answers it.
func (c *Config) insist(ctx context.Context, path string, body any, header http.Header) (answer, error) {
	for delay := shortest; ; delay = min(2*delay, longest) {
		got, err := c.send(ctx, path, body, header)
		if err == nil && got.status != http.StatusTooManyRequests && got.status < http.StatusInternalServerError {
			return got, nil
		}
		if err == nil {
			err = got.refusal()
		}
		c.Logger.Warn("the server does not answer, trying again", "error", err)
		if !pause(ctx, delay) {
			return answer{}, ctx.Err()
		}
	}
}

func (c *Config) send(ctx context.Context, path string, body any, header http.Header) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, patience+slack)
	defer cancel()
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return answer{}, fmt.Errorf("encode a request: %w", err)
		}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL+"/millrace/v1/jobs"+path, bytes.NewReader(content))
	if err != nil {
		return answer{}, fmt.Errorf("prepare a request: %w", err)
	}
	for name, values := range header {
		request.Header[name] = values
	}
	request.Header.Set("Content-Type", "application/json")
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
