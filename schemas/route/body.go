package route

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/gin-gonic/gin"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
)

// body reads a request's body within the limits of its route. It counts what
// was sent and what came out of decoding, and holds the latter at the admission.
type body struct {
	sent      counted
	decoder   *gzip.Reader
	held      int64 // decoded bytes read, held at the admission
	limit     int64 // of decoded bytes
	admission *Admission
	err       error // sticks
}

// counted is the body as it arrives, cut off behind the limit.
type counted struct {
	io.ReadCloser
	pace  pace
	left  int64
	limit int64
}

func (r *counted) Read(p []byte) (int, error) {
	if int64(len(p)) > r.left+1 {
		p = p[:r.left+1]
	}
	n, err := r.pace.read(r.ReadCloser, p)
	if int64(n) > r.left {
		n, err = int(r.left), tooLarge("body", r.limit)
	}
	r.left -= int64(n)
	return n, err
}

func tooLarge(what string, limit int64) *Error {
	return Errorf(http.StatusRequestEntityTooLarge, "%s is over the limit of %d bytes", what, limit)
}

// openBody puts the limits around the request's body before the handler sees it.
func (k *call) openBody(c *gin.Context) error {
	request, r := c.Request, &k.route.Route
	if r.BodyLimit <= 0 || request.Body == nil || request.Body == http.NoBody {
		request.Body, request.ContentLength = http.NoBody, 0 // a proxy sends on what the length says
		return nil
	}
	if request.ContentLength > r.BodyLimit {
		return tooLarge("body", r.BodyLimit)
	}
	patience := k.route.mount.patience
	k.body.sent = counted{
		ReadCloser: request.Body, left: r.BodyLimit, limit: r.BodyLimit,
		pace: pace{control: http.NewResponseController(c.Writer), patience: patience, left: patience, last: k.start.Add(readTimeout)},
	}
	k.body.limit = r.BodyLimit
	if r.Streams {
		k.body.sent.pace.last = k.start.Add(k.route.timeout)
	} else {
		k.body.admission = k.route.admission
	}
	request.Body = &k.body
	if r.verbatim {
		return nil
	}
	switch encoding := request.Header.Get("Content-Encoding"); {
	case encoding == "" || strings.EqualFold(encoding, "identity"):
		return nil
	case strings.EqualFold(encoding, "gzip") && r.GzipLimit > 0:
		return k.openGzip(request)
	case r.GzipLimit > 0:
		return Errorf(http.StatusUnsupportedMediaType, "Content-Encoding %q is not accepted here; send gzip or none", encoding)
	default:
		return Errorf(http.StatusUnsupportedMediaType, "Content-Encoding %q is not accepted here; send the body unencoded", encoding)
	}
}

func (k *call) openGzip(request *http.Request) error {
	decoder, err := k.route.mount.gzip.get(&k.body.sent)
	switch {
	case err == io.EOF && k.body.sent.left == k.body.sent.limit:
		return nil // nothing was sent, which encodes nothing
	case err == io.EOF:
		return readError(io.ErrUnexpectedEOF)
	case err != nil:
		return readError(err)
	}
	k.body.decoder, k.body.limit = decoder, k.route.GzipLimit
	request.ContentLength = -1
	request.Header.Del("Content-Encoding")
	request.Header.Del("Content-Length")
	return nil
}

// Read gives decoded bytes. Its errors are of type *Error, save io.EOF.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.source().Read(p)
	if b.decoder != nil && b.held+int64(n) > b.limit {
		n, err = 0, tooLarge("decoded body", b.limit)
	}
	if b.admission != nil && n > 0 {
		if busy := b.admission.hold(int64(n)); busy != nil {
			n, err = 0, busy
		}
	}
	b.held += int64(n)
	if err != nil {
		b.err = readError(err)
	}
	return n, b.err
}

func (b *body) source() io.Reader {
	if b.decoder != nil {
		return b.decoder
	}
	return &b.sent
}

// Close closes the body as it arrives.
func (b *body) Close() error { return b.sent.Close() }

// readError says what a failed read of a body means to the client.
func readError(err error) error {
	if _, ok := asError(err); ok || err == io.EOF {
		return err
	}
	var corrupt flate.CorruptInputError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return Errorf(http.StatusRequestTimeout, "body did not arrive in time: send it faster")
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum), errors.As(err, &corrupt):
		return Errorf(http.StatusBadRequest, "body is not valid gzip: %v", err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return Errorf(http.StatusBadRequest, "body ends early: send all of it")
	}
	return Errorf(http.StatusBadRequest, "body cannot be read: %v", err)
}

// firstRead bounds what is set aside for a body on its sender's word alone.
const firstRead = 1 << 20

// ReadBody reads the whole body, within the route's limits. Errors are *Error.
func ReadBody(c *gin.Context) ([]byte, error) {
	size := int64(512)
	if length := c.Request.ContentLength; length > 0 {
		size = min(length, firstRead) + 1 // room to see the end without growing
	}
	data := make([]byte, 0, size)
	for {
		n, err := c.Request.Body.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if err == io.EOF {
			return data, nil
		}
		if err != nil {
			return nil, readError(err)
		}
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
	}
}

// gzipReaders keeps decoders for use by later requests.
type gzipReaders struct{ pool sync.Pool }

func (g *gzipReaders) get(r io.Reader) (*gzip.Reader, error) {
	if decoder, ok := g.pool.Get().(*gzip.Reader); ok {
		if err := decoder.Reset(r); err != nil {
			g.pool.Put(decoder)
			return nil, err
		}
		return decoder, nil
	}
	return gzip.NewReader(r)
}

// leave gives back what the call held.
func (k *call) leave(c *gin.Context) {
	if k.body.decoder != nil {
		k.route.mount.gzip.pool.Put(k.body.decoder)
		k.body.decoder = nil
		k.body.err = http.ErrBodyReadAfterClose
	}
	if form := c.Request.MultipartForm; form != nil {
		// net/http removes the files of its own copy of the request only.
		_ = form.RemoveAll()
	}
	if k.body.admission == nil {
		k.body.held = 0 // counted, but not among what is in flight
	}
	if k.admitted {
		k.route.admission.leave(k.body.held)
		k.admitted = false
	}
}
