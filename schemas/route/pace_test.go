package route

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// drip is a connection on which bytes come in pieces, one after each pause.
type drip struct {
	*httptest.ResponseRecorder
	pieces, size int
	pause        time.Duration
	deadline     time.Time
}

func (d *drip) SetReadDeadline(t time.Time) error {
	d.deadline = t
	return nil
}

func (d *drip) Read(p []byte) (int, error) {
	if d.pieces == 0 {
		return 0, io.EOF
	}
	next := time.After(d.pause)
	select {
	case <-time.After(time.Until(d.deadline)):
		return 0, os.ErrDeadlineExceeded
	case <-next:
	}
	d.pieces--
	return min(d.size, len(p)), nil
}

func TestBodyMustArriveAtTheLeastRate(t *testing.T) {
	cases := map[string]struct {
		pieces, size int
		pause        time.Duration
		ends         time.Duration // 0: it arrives whole
	}{
		"16 KB a second for minutes":         {200, 16 << 10, time.Second, 0},
		"a pause shorter than the patience":  {10, 100 << 10, 15 * time.Second, 0},
		"a stall":                            {2, 2, time.Hour, 20 * time.Second},
		"a byte a second":                    {1000, 1, time.Second, 20 * time.Second},
		"half the rate":                      {1000, 2 << 10, time.Second, 40 * time.Second},
		"a stall after much has come":        {2, 100 << 20, 25 * time.Second, 20 * time.Second},
		"in time, but more than may be sent": {10_000, 16 << 10, time.Second, readTimeout},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &drip{ResponseRecorder: httptest.NewRecorder(), pieces: tc.pieces, size: tc.size, pause: tc.pause}
				started := time.Now()
				p := pace{http.NewResponseController(d), defaultPatience, defaultPatience, started.Add(readTimeout)}
				var err error
				for buffer := make([]byte, 100<<20); err == nil; {
					_, err = p.read(d, buffer)
				}
				took := time.Since(started)
				switch {
				case tc.ends == 0 && (err != io.EOF || !d.deadline.IsZero()):
					t.Errorf("ended after %s with %v and deadline %v, want the whole body and none", took, err, d.deadline)
				case tc.ends > 0 && (!errors.Is(err, os.ErrDeadlineExceeded) || took < tc.ends-time.Second || took > tc.ends+time.Second):
					t.Errorf("ended after %s with %v, want it cut off after %s", took, err, tc.ends)
				}
			})
		})
	}
}
