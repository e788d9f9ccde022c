package farm

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/loadtest/ledger"
	"github.com/millrace/millrace/loadtest/target"
)

// Policy is what a sender does when an upload fails or gets no answer.
type Policy string

// The policies.
const (
	// Careful repeats the same request with the same Idempotency-Key until an answer settles it.
	Careful Policy = "careful"
	// Plain repeats without a key: that a repeat is refused as a duplicate settles it too.
	Plain Policy = "plain"
	// Once never repeats, as the farm's own client.
	Once Policy = "once"
)

// Validate refuses other words.
func (p Policy) Validate() error {
	if p != Careful && p != Plain && p != Once {
		return fmt.Errorf("policy %q is none of careful, plain and once", p)
	}
	return nil
}

// Sender uploads numbered documents of several machines and keeps the ledger. It is safe for concurrent use.
type Sender struct {
	Plan Plan
	// Policies are the machines' in turn.
	Policies []Policy
	Target   *target.Target
	Ledger   *ledger.Ledger
	// HTTP has a timeout for one attempt.
	HTTP *http.Client
	// Counts are told of every attempt.
	Counts Counts
}

// Counts are a sender's attempts by their outcome.
type Counts struct {
	Attempts, Stored, Repeats, Duplicates, Busy, Broken, Refused atomic.Int64
	// Faults are answers of 500 and the like: the server's own mistakes.
	Faults atomic.Int64
}

// verdict is what one answer means.
type verdict int

const (
	// settledStored says that the run is stored, settledRefused that it is not and will not be.
	settledStored verdict = iota
	settledRefused
	// again asks for a repeat: it is not known whether the run is stored, or the server was busy.
	again
)

// retryPause is the time between two attempts.
const retryPause = 50 * time.Millisecond

func (s *Sender) policy(u ledger.Upload) Policy { return s.Policies[u.Machine%len(s.Policies)] }

// Upload sends one upload until it is settled, ctx ends or the policy forbids another attempt. It gives the stored run's
// id, 0 when it is not known to be stored.
func (s *Sender) Upload(ctx context.Context, u ledger.Upload) (uint64, error) {
	document := s.Plan.Document(u)
	s.Ledger.Sent(u)
	for attempt := 0; ; attempt++ {
		if attempt > 0 {
			s.Counts.Repeats.Add(1)
		}
		outcome, run, reason := s.attempt(ctx, u, document, attempt > 0)
		switch {
		case outcome == settledStored:
			s.Counts.Stored.Add(1)
			s.Ledger.Stored(u, run)
			return run, nil
		case outcome == settledRefused:
			s.Counts.Refused.Add(1)
			s.Ledger.Refused(u)
			return 0, fmt.Errorf("%s was refused: %s", u, reason)
		case s.policy(u) == Once:
			return 0, nil
		}
		if err := pause(ctx); err != nil {
			return 0, fmt.Errorf("%s is not settled after %d attempts, the last one: %s", u, attempt+1, reason)
		}
	}
}

func pause(ctx context.Context) error {
	timer := time.NewTimer(retryPause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func (s *Sender) attempt(ctx context.Context, u ledger.Upload, document []byte, repeated bool) (verdict, uint64, string) {
	s.Counts.Attempts.Add(1)
	response, err := s.post(ctx, u, document)
	if err != nil {
		s.Counts.Broken.Add(1)
		return again, 0, err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		s.Counts.Broken.Add(1)
		return again, 0, err.Error()
	}
	outcome, run, reason := judge(response.StatusCode, response.Header.Get("Location"), body, s.policy(u), repeated)
	switch {
	case outcome == again && Faulty(response.StatusCode):
		s.Counts.Faults.Add(1)
	case outcome == again:
		s.Counts.Busy.Add(1)
	case response.StatusCode == http.StatusNotAcceptable && outcome == settledStored:
		s.Counts.Duplicates.Add(1)
	}
	return outcome, run, reason
}

func (s *Sender) post(ctx context.Context, u ledger.Upload, document []byte) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Target.URL+"/run/upload/", bytes.NewReader(document))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", s.Target.Machines[u.Machine].Secret)
	request.Header.Set("Content-Type", "application/json; charset=utf-8")
	if s.policy(u) == Careful {
		request.Header.Set("Idempotency-Key", fmt.Sprintf("loadtest-%d-%d", u.Machine, u.Number))
	}
	return s.HTTP.Do(request)
}

// Faulty says whether a status is the server's own mistake: 503 is a wish to be asked again.
func Faulty(status int) bool { return status >= 500 && status != http.StatusServiceUnavailable }

// judge says what an answer to an upload means. A duplicate is a success for who repeats without a key: the run that is
// named is the own one. It is none for a first attempt, whose start time nobody else uses, nor under a key, whose repeat
// gets the first answer again.
func judge(status int, location string, body []byte, policy Policy, repeated bool) (verdict, uint64, string) {
	switch {
	case status == http.StatusCreated:
		run, _ := strconv.ParseUint(strings.TrimPrefix(location, "/run/"), 10, 64)
		return settledStored, run, ""
	case status >= 500 || status == http.StatusTooManyRequests:
		return again, 0, fmt.Sprintf("status %d: %s", status, body)
	}
	var refusal struct {
		Error string `json:"error"`
		RunID uint64 `json:"run_id"`
	}
	_ = json.Unmarshal(body, &refusal) // any other body names no run
	if status == http.StatusNotAcceptable && refusal.RunID != 0 && policy == Plain && repeated {
		return settledStored, refusal.RunID, ""
	}
	return settledRefused, 0, fmt.Sprintf("status %d: %s", status, body)
}
