package pgperffarm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/runs"
	"github.com/millrace/millrace/query/cache"
	"github.com/millrace/millrace/query/gate"
	"github.com/millrace/millrace/schemas/route"
)

// page is one answer: an array of rows that depends on the runs up to a watermark.
type page struct {
	// key names endpoint and parameters.
	key string
	// newest gives the watermark: the newest run that the answer depends on, 0 when there is none.
	newest func(*runs.State) uint64
	// none is the body when there is no run.
	none string
	// missing is the refusal when there is no row; nil where an empty array is an answer.
	missing error
	// personal says that the answer shows more to some visitors.
	personal bool
	// write gives the rows, and how long they are right when nothing happens; 0 for ever.
	write func(ctx context.Context, q *reader, out *array) (life time.Duration, err error)
}

// Bodies in the cache that are none.
const (
	bodyMissing = ""  // there is no row
	bodyLarge   = "+" // too large to be kept
)

// pages makes a handler of what turns a request into a page.
func (f *Farm) pages(parse func(*gin.Context) (page, error)) gin.HandlerFunc {
	return func(c *gin.Context) {
		p, err := parse(c)
		if err == nil {
			err = f.answer(c, &p)
		}
		if err != nil {
			route.Refuse(c, err)
		}
	}
}

// answer starts over when the generation that it reads is superseded.
func (f *Farm) answer(c *gin.Context, p *page) error {
	need, err := gate.Need(c.Request.Header)
	if err != nil {
		return err
	}
	if err := f.arrive(c.Request.Context(), need); err != nil {
		return err
	}
	var visitor *access.Visitor
	if p.personal {
		visitor = f.Access.Visitor(c)
	}
	for {
		generation := f.Generation()
		if generation == 0 {
			return route.Busy(time.Second, "the projections are being built; try again")
		}
		err := f.show(c, p, visitor, generation)
		switch {
		case !errors.Is(err, gate.ErrSuperseded):
			return err
		case f.Generation() == generation:
			return fmt.Errorf("%w: %w", route.Busy(time.Second, "the projections are not there; try again"), err)
		}
	}
}

func (f *Farm) show(c *gin.Context, p *page, visitor *access.Visitor, generation uint32) error {
	q := f.reader(p, generation)
	if q.newest == 0 {
		return respond(c, []byte(p.none), p.missing)
	}
	name := "farm/" + strconv.FormatUint(uint64(generation), 10) + "/" + p.key
	value, err := f.Cache.Latest(c.Request.Context(), name, func() (string, func(context.Context) (cache.Value, error)) {
		latest := f.reader(p, generation)
		return name + "/" + strconv.FormatUint(latest.newest, 10), func(ctx context.Context) (cache.Value, error) {
			return f.make(ctx, p, latest)
		}
	})
	if err != nil {
		return err
	}
	fill := &filler{farm: f, visitor: visitor}
	switch string(value.Body) {
	case bodyMissing:
		return p.missing
	case bodyLarge:
		return f.stream(c, p, q, fill)
	}
	return f.send(c, value.Body, fill)
}

// reader reads for a page as of now.
func (f *Farm) reader(p *page, generation uint32) *reader {
	q := &reader{db: f.DB, generation: generation, cache: f.Cache}
	f.Runs.View(func(s *runs.State) { q.newest = p.newest(s) })
	return q
}

// make computes a body for the cache.
func (f *Farm) make(ctx context.Context, p *page, q *reader) (cache.Value, error) {
	if err := f.projected(ctx, q.generation); err != nil {
		return cache.Value{}, err
	}
	out := newArray(f.MaxRows)
	life, err := p.write(ctx, q, out)
	if err != nil {
		f.report(ctx, p, err)
		return cache.Value{}, err
	}
	value := cache.Value{}
	if life > 0 {
		value.Expires = time.Now().Add(life)
	}
	switch {
	case out.large:
		value.Body = []byte(bodyLarge)
	case out.rows == 0 && p.missing != nil:
		value.Body = []byte(bodyMissing)
	default:
		out.end()
		value.Body = out.buffer.Bytes()
	}
	return value, nil
}

// send fills a body and sends it.
func (f *Farm) send(c *gin.Context, body []byte, fill *filler) error {
	lent, ok := f.filled.Get().(*[]byte)
	if !ok {
		lent = new([]byte)
	}
	defer f.filled.Put(lent)
	filled, err := fill.fill(c.Request.Context(), (*lent)[:0], body)
	if err != nil {
		return err
	}
	if cap(filled) <= keptBody {
		*lent = filled
	}
	return respond(c, filled, nil)
}

const jsonType = "application/json"

// respond answers with a whole body, or refuses with err when it is not nil.
func respond(c *gin.Context, body []byte, err error) error {
	if err != nil {
		return err
	}
	header := c.Writer.Header()
	header.Set("Content-Type", jsonType)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	c.Status(http.StatusOK)
	if c.Request.Method == http.MethodHead {
		c.Writer.WriteHeaderNow()
		return nil
	}
	_, _ = c.Writer.Write(body) // a client that has gone needs no answer
	return nil
}

// stream computes a large body once more, this time for the client: a part at a time. What fails behind the first part
// breaks the connection, since nothing else can tell the client.
func (f *Farm) stream(c *gin.Context, p *page, q *reader, fill *filler) error {
	c.Header("Content-Type", jsonType)
	if c.Request.Method == http.MethodHead {
		c.Status(http.StatusOK)
		c.Writer.WriteHeaderNow()
		return nil
	}
	var filled []byte
	out := newArray(f.MaxRows)
	out.send = func(part []byte) (err error) {
		if filled, err = fill.fill(c.Request.Context(), filled[:0], part); err == nil {
			_, err = c.Writer.Write(filled)
		}
		return err
	}
	_, err := p.write(c.Request.Context(), q, out)
	if err == nil {
		out.end()
		err = out.flush()
	}
	if err == nil {
		return nil
	}
	f.report(c.Request.Context(), p, err)
	if c.Writer.Written() {
		panic(http.ErrAbortHandler)
	}
	return err
}

// report logs why a page could not be computed, unless it is that nobody wants it any more or that it has another
// generation to read.
func (f *Farm) report(ctx context.Context, p *page, err error) {
	if ctx.Err() == nil && !errors.Is(err, gate.ErrSuperseded) {
		f.Logger.WarnContext(ctx, "a page could not be computed", "page", p.key, "error", err)
	}
}

// everything is the watermark of what depends on all runs.
func everything(s *runs.State) uint64 { return s.Latest }

// ofMachine is the watermark of what depends on one machine's runs.
func ofMachine(id uint64) func(*runs.State) uint64 {
	return func(s *runs.State) uint64 {
		if m := s.Machines[id]; m != nil {
			return m.Latest[0]
		}
		return 0
	}
}

// ofRun is the watermark of what depends on one run, which never changes.
func ofRun(id uint64) func(*runs.State) uint64 {
	return func(s *runs.State) uint64 {
		if id <= s.Requests {
			return id
		}
		return 0
	}
}
