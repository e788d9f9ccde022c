package route

import (
	"io"
	"net/http"
	"time"
)

const (
	// bodyRate is the slowest that a body may arrive for long, in bytes a second.
	bodyRate = 4 << 10
	// defaultPatience is how far behind that rate it may fall.
	defaultPatience = 20 * time.Second
)

// pace ends the arrival of a body that comes too slowly: whoever stalls would keep a place among the requests in flight.
// Only the time that is spent waiting for bytes counts.
type pace struct {
	control  *http.ResponseController
	patience time.Duration
	left     time.Duration // until patience ends; bytes that arrive prolong it
	last     time.Time     // by when the whole body must be there
}

func (p *pace) read(body io.Reader, b []byte) (int, error) {
	started := time.Now()
	deadline := started.Add(p.left)
	if deadline.After(p.last) {
		deadline = p.last
	}
	_ = p.control.SetReadDeadline(deadline) // only a writer without a connection has none
	n, err := body.Read(b)
	if err == io.EOF {
		_ = p.control.SetReadDeadline(time.Time{}) // it would end the request's context too
	}
	p.left = min(p.patience, p.left-time.Since(started)+time.Duration(n)*time.Second/bodyRate)
	return n, err
}
