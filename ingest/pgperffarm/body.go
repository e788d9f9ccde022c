package pgperffarm

import (
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/gin-gonic/gin"
)

// keptBody is the largest buffer that is kept for later uploads, in bytes.
const keptBody = 1 << 20

// firstBody is what is set aside for a body of unknown length, and the most that a sender's word alone sets aside.
const (
	firstBody     = 16 << 10
	mostOnPromise = 1 << 20
)

// bodies lends buffers for the bodies of uploads.
type bodies struct{ pool sync.Pool }

// buffer holds one body while its upload is answered.
type buffer struct{ bytes []byte }

func (b *bodies) get() *buffer {
	if kept, ok := b.pool.Get().(*buffer); ok {
		return kept
	}
	return new(buffer)
}

// put takes a buffer back; nothing may refer to its bytes any more.
func (b *bodies) put(lent *buffer) {
	if cap(lent.bytes) <= keptBody {
		b.pool.Put(lent)
	}
}

// read fills the buffer with the request's body. Errors are what the client is answered.
func (b *buffer) read(c *gin.Context) error {
	size := firstBody
	if length := c.Request.ContentLength; length > 0 {
		size = int(min(length, mostOnPromise)) + 1 // room to see the end without growing
	}
	if cap(b.bytes) < size {
		b.bytes = make([]byte, 0, size)
	}
	return b.fill(c.Request.Body)
}

func (b *buffer) fill(r io.Reader) error {
	data := b.bytes[:0]
	for {
		n, err := r.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		b.bytes = data
		if err != nil {
			return ignoreEnd(err)
		}
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
	}
}

func ignoreEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// peek reads the body of a sender who is not let in, up to limit bytes. whole is false when there is more, or when it
// is encoded.
func peek(r *http.Request, limit int64) (body []byte, whole bool) {
	encoding := r.Header.Get("Content-Encoding")
	if r.Body == nil || encoding != "" && encoding != "identity" || r.ContentLength > limit {
		return nil, false
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err != nil || int64(len(body)) > limit {
		return nil, false
	}
	return body, true
}
