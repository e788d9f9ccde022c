// Package uploader sends upload documents to a server of the PostgreSQL Performance Farm's API, as a registered and
// approved machine. Unlike the farm's own client it reads the answer, and waits while the server is not ready.
package uploader

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Client uploads for one machine.
type Client struct {
	HTTP    *http.Client
	BaseURL string // the server's root, as "http://127.0.0.1:8080"
	Secret  string // the machine's
}

// Outcome is what became of an accepted document.
type Outcome int

// The outcomes. A server of this project names the stored run when it refuses a second run with the same start time.
const (
	Stored  Outcome = iota + 1 // 201
	Present                    // 406: the machine has a run with this start time already
)

func (o Outcome) String() string {
	return map[Outcome]string{Stored: "stored", Present: "already there"}[o]
}

// Refusal is an answer other than success, in the server's own words.
type Refusal struct {
	Status int // HTTP status
	Reason string
}

func (r *Refusal) Error() string {
	reason := r.Reason
	if reason == "" {
		reason = "the server gave no reason"
	}
	if r.Status == http.StatusNotAcceptable && r.Reason == "" {
		reason = "the server gave no reason; check that the secret is right and the machine approved"
	}
	return fmt.Sprintf("upload refused with status %d: %s", r.Status, reason)
}

const (
	maxAttempts  = 10
	maxWait      = 30 * time.Second
	maxReasonLen = 4096 // bytes read of an answer
)

// Upload sends one document, a JSON array of one object (contract section 6). A server that is not ready or too busy
// (503, 429) is asked again when it says, at most 10 times; that is safe, because the start time keeps a run from being
// stored twice. Other refusals are a *Refusal.
func (c *Client) Upload(ctx context.Context, document []byte) (Outcome, error) {
	for attempt := 1; ; attempt++ {
		answer, err := c.post(ctx, document)
		if err != nil {
			return 0, fmt.Errorf("upload to %s: %w", c.BaseURL, err)
		}
		if !answer.busy() || attempt == maxAttempts {
			return answer.outcome()
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("upload to %s: %w; the last answer was %d: %s",
				c.BaseURL, context.Cause(ctx), answer.status, answer.reason)
		case <-time.After(answer.wait):
		}
	}
}

// answer is what an upload's answer says.
type answer struct {
	status    int
	reason    string
	duplicate bool
	wait      time.Duration // asked for by Retry-After, else 1 s
}

func (c *Client) post(ctx context.Context, document []byte) (answer, error) {
	url := strings.TrimRight(c.BaseURL, "/") + "/run/upload/"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(document))
	if err != nil {
		return answer{}, err
	}
	request.Header.Set("Authorization", c.Secret)
	request.Header.Set("Content-Type", "application/json; charset=utf-8")
	response, err := c.HTTP.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxReasonLen))
	if err != nil {
		return answer{}, fmt.Errorf("read the answer: %w", err)
	}
	result := answer{status: response.StatusCode, wait: retryAfter(response.Header)}
	result.readBody(body)
	return result, nil
}

// readBody takes {"error": reason, "run_id": stored run}, or any other text as the reason.
func (a *answer) readBody(body []byte) {
	var refusal struct {
		Error string          `json:"error"`
		RunID json.RawMessage `json:"run_id"`
	}
	if err := json.Unmarshal(body, &refusal); err != nil || refusal.Error == "" {
		a.reason = strings.TrimSpace(string(body))
		return
	}
	a.reason = refusal.Error
	a.duplicate = refusal.RunID != nil
}

func retryAfter(header http.Header) time.Duration {
	seconds, err := strconv.Atoi(header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return time.Second
	}
	return min(time.Duration(seconds)*time.Second, maxWait)
}

func (a answer) busy() bool {
	return a.status == http.StatusServiceUnavailable || a.status == http.StatusTooManyRequests
}

func (a answer) outcome() (Outcome, error) {
	switch {
	case a.status == http.StatusCreated:
		return Stored, nil
	case a.status == http.StatusNotAcceptable && a.duplicate:
		return Present, nil
	}
	return 0, &Refusal{Status: a.status, Reason: a.reason}
}
