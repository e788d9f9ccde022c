package route

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
)

// Error is a refusal with the status it is answered with. Message goes to the
// client: it says what was wrong, where, and what to do, and holds no secrets.
type Error struct {
	Status  int
	Message string
	// RetryAfter, when positive, is sent in whole seconds, rounded up.
	RetryAfter time.Duration
	// Fault says that it is the server's own, and that Message is not the handler's.
	Fault bool
}

// Error gives status and message.
func (e *Error) Error() string { return fmt.Sprintf("%d %s", e.Status, e.Message) }

// Errorf makes an Error with a formatted message.
func Errorf(status int, format string, args ...any) *Error {
	return &Error{Status: status, Message: fmt.Sprintf(format, args...)}
}

// Busy is the refusal of work that cannot be taken now: 503 with Retry-After.
func Busy(after time.Duration, format string, args ...any) *Error {
	return &Error{Status: http.StatusServiceUnavailable, Message: fmt.Sprintf(format, args...), RetryAfter: after}
}

// ErrAnswered is returned by an Authorizer that has refused and written the answer
// itself, such as a redirect to a login page.
var ErrAnswered = errors.New("the answer is written")

// statusClientGone is what is counted and logged for requests whose client left
// before the answer; nobody receives it.
const statusClientGone = 499

// Failure is the body of every refusal of APIs that define none of their own.
type Failure struct {
	Error string `json:"error" doc:"what was wrong, where, and what to do"`
}

// Fail answers with {"error": message}.
func Fail(c *gin.Context, status int, message string) {
	c.Abort()
	body, err := json.Marshal(Failure{Error: message})
	if err != nil {
		c.Status(status)
		return
	}
	// Not gin's own: it adds a charset, which contracts do not have.
	c.Data(status, "application/json", body)
}

// Refuse answers with what err means, in the form of the route's API: an *Error
// as it says, a passed deadline as 503, anything else as 500 with the request's
// id. Server faults are logged; their text stays inside.
func Refuse(c *gin.Context, err error) {
	if errors.Is(err, ErrAnswered) {
		c.Abort()
		return
	}
	k := callOf(c)
	refusal := k.refusal(c, err)
	if refusal.RetryAfter > 0 {
		seconds := (refusal.RetryAfter + time.Second - 1) / time.Second
		c.Header("Retry-After", strconv.FormatInt(int64(seconds), 10))
	}
	c.Abort()
	if k == nil || k.route.api.Refuse == nil {
		Fail(c, refusal.Status, refusal.Message)
		return
	}
	k.route.api.Refuse(c, refusal)
}

func asError(err error) (*Error, bool) {
	var refusal *Error
	ok := errors.As(err, &refusal)
	return refusal, ok
}

// refusal turns any error into the one that is answered, logging server faults.
func (k *call) refusal(c *gin.Context, err error) *Error {
	refusal, ok := asError(err)
	switch {
	case ok:
		return refusal
	case errors.Is(err, context.Canceled) && c.Request.Context().Err() != nil:
		return &Error{Status: statusClientGone, Message: "the client has gone"}
	case errors.Is(err, context.DeadlineExceeded):
		return Busy(time.Second, "not done within the time limit of this request; try again")
	}
	if k == nil {
		return &Error{Status: http.StatusInternalServerError, Message: "internal error", Fault: true}
	}
	k.route.mount.log.LogAttrs(k, slog.LevelError, "request failed",
		slog.String("request", k.requestID()), slog.String("route", k.route.key), slog.Any("error", err))
	c.Header("X-Request-Id", k.requestID())
	return fault(k)
}

// fault is what a client is told of an error that only the log has.
func fault(k *call) *Error {
	refusal := Errorf(http.StatusInternalServerError, "internal error in request %s; the log says more", k.requestID())
	refusal.Fault = true
	return refusal
}
