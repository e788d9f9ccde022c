package route

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel/trace"
)

// call is one request's state. It is the outermost context of the request, so
// that it costs one allocation and is found from c and from ctx alike.
type call struct {
	context.Context
	route     *mounted
	start     time.Time
	principal any
	id        string
	span      trace.Span
	admitted  bool
	body      body
}

type callKey struct{}

// Value finds the call itself, then what it wraps.
func (k *call) Value(key any) any {
	if key == (callKey{}) {
		return k
	}
	return k.Context.Value(key)
}

// callOf gives the request's state, nil outside of mounted routes.
func callOf(c *gin.Context) *call {
	k, _ := c.Request.Context().Value(callKey{}).(*call)
	return k
}

// Principal gives what the API's Authorizer found the caller to be, and whether
// it was a T.
func Principal[T any](c *gin.Context) (T, bool) {
	var principal T
	k := callOf(c)
	if k == nil {
		return principal, false
	}
	principal, ok := k.principal.(T)
	return principal, ok
}

// RequestID gives the id under which the request stands in the log; empty
// outside of mounted routes.
func RequestID(c *gin.Context) string {
	if k := callOf(c); k != nil {
		return k.requestID()
	}
	return ""
}

// requestID makes the id when it is first asked for: most requests need none.
func (k *call) requestID() string {
	if k.id == "" {
		k.id = k.route.mount.ids.next()
	}
	return k.id
}

func (k *call) setHeader(c *gin.Context) {
	if len(k.route.api.Header) == 0 {
		return
	}
	header := c.Writer.Header()
	for name, values := range k.route.api.Header {
		header[name] = values
	}
}

// requestIDs numbers requests behind a prefix drawn for this process.
type requestIDs struct {
	prefix string
	last   *atomic.Uint64
}

func newRequestIDs() requestIDs {
	var random [5]byte
	rand.Read(random[:]) // never fails, see crypto/rand
	return requestIDs{prefix: hex.EncodeToString(random[:]) + "-", last: new(atomic.Uint64)}
}

func (r requestIDs) next() string { return r.prefix + strconv.FormatUint(r.last.Add(1), 10) }
