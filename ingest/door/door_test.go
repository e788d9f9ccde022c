package door_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// request makes the context of a request with a key.
func request(method, path string, keys ...string) *gin.Context {
	c, _ := gin.CreateTestContext(httptest.NewRecorder())
	c.Request = httptest.NewRequest(method, path, nil)
	if keys != nil {
		c.Request.Header[door.KeyHeader] = keys
	}
	return c
}

func keyOf(t *testing.T, c *gin.Context, credential, body string) (key, sum string) {
	t.Helper()
	got, err := door.Idempotency(c, credential, []byte(body), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if got.GetKeepSeconds() != 3600 {
		t.Errorf("the key is kept for %d s, want 3600", got.GetKeepSeconds())
	}
	return string(got.GetKey()), string(got.GetBody())
}

func TestKeyCountsForOneCredentialAndOneEndpoint(t *testing.T) {
	key, sum := keyOf(t, request("POST", "/run/upload", "k"), "machine:1", "body")
	same, sameSum := keyOf(t, request("POST", "/run/upload/?x=y", "k"), "machine:1", "body")
	if key != same || sum != sameSum {
		t.Error("a slash or a query makes another key")
	}
	if _, other := keyOf(t, request("POST", "/run/upload", "k"), "machine:1", "Body"); other == sum {
		t.Error("another body has the same hash")
	}
	for name, c := range map[string]struct {
		context    *gin.Context
		credential string
	}{
		"key":        {request("POST", "/run/upload", "K"), "machine:1"},
		"credential": {request("POST", "/run/upload", "k"), "machine:2"},
		"path":       {request("POST", "/machine/edit/2", "k"), "machine:1"},
		"method":     {request("PUT", "/run/upload", "k"), "machine:1"},
	} {
		if other, _ := keyOf(t, c.context, c.credential, "body"); other == key {
			t.Errorf("another %s gives the same key", name)
		}
	}
}

func TestRequestWithoutKeyIsNotRemembered(t *testing.T) {
	got, err := door.Idempotency(request("POST", "/run/upload"), "machine:1", nil, time.Hour)
	if got != nil || err != nil {
		t.Errorf("got %v, %v; want nothing", got, err)
	}
}

func TestWhatTheLogCannotDoIsA503ThatSaysWhetherToSendAgain(t *testing.T) {
	cases := map[string]struct {
		err  error
		says string
	}{
		"overloaded": {eventlog.ErrOverloaded, "not taken"},
		"closed":     {eventlog.ErrClosed, "not taken"},
		"unsettled":  {fmt.Errorf("%w: event 1: %w", eventlog.ErrUnsettled, context.DeadlineExceeded), "same Idempotency-Key"},
	}
	for name, tc := range cases {
		var refusal *route.Error
		if !errors.As(door.Refusal(tc.err), &refusal) || refusal.Status != http.StatusServiceUnavailable || refusal.RetryAfter <= 0 ||
			!strings.Contains(refusal.Message, tc.says) {
			t.Errorf("%s: refusal is %v, want 503 with Retry-After that says %q", name, refusal, tc.says)
		}
	}
}

func TestOtherErrorsAreKept(t *testing.T) {
	gone := fmt.Errorf("%w: %w", eventlog.ErrUnsettled, context.Canceled)
	for _, err := range []error{nil, errors.New("a fault"), gone} {
		if got := door.Refusal(err); !errors.Is(got, err) || got != nil && got.Error() != err.Error() {
			t.Errorf("Refusal(%v) is %v", err, got)
		}
	}
}
