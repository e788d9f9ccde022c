package route

import (
	"sync/atomic"
	"time"
)

// Admission bounds the requests in flight and the body bytes that they hold
// together. What goes beyond is refused at once with 503 and Retry-After: a
// client that waits outside costs nothing here.
type Admission struct {
	maxRequests, maxBytes int64
	requests, bytes       atomic.Int64
}

// NewAdmission allows at most so many requests, holding at most so many bytes of
// request bodies (decoded) between them.
func NewAdmission(requests int, bytes int64) *Admission {
	return &Admission{maxRequests: int64(requests), maxBytes: bytes}
}

// retryBusy is what refused clients are told to wait: long enough for requests
// in flight to end, short enough not to idle afterwards.
const retryBusy = time.Second

func (a *Admission) enter() error {
	if a.requests.Add(1) > a.maxRequests {
		a.requests.Add(-1)
		return Busy(retryBusy, "%d requests are already in flight here, the limit; try again", a.maxRequests)
	}
	return nil
}

func (a *Admission) hold(bytes int64) error {
	if a.bytes.Add(bytes) > a.maxBytes {
		a.bytes.Add(-bytes)
		return Busy(retryBusy, "requests in flight hold the limit of %d bytes of bodies; try again", a.maxBytes)
	}
	return nil
}

func (a *Admission) leave(bytes int64) {
	a.requests.Add(-1)
	a.bytes.Add(-bytes)
}

// InFlight gives the requests admitted now and the body bytes they hold.
func (a *Admission) InFlight() (requests, bytes int64) { return a.requests.Load(), a.bytes.Load() }

// enter admits the call or refuses it.
func (k *call) enter() error {
	if k.route.admission == nil {
		return nil
	}
	if err := k.route.admission.enter(); err != nil {
		return err
	}
	k.admitted = true
	return nil
}
