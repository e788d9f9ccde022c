package testflinger

import (
	"bufio"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// streamed is an answer that is written while it is read, so that it is never whole in memory. Once a part of it is out
// nothing but a broken connection tells the client of a fault.
type streamed struct {
	c     *gin.Context
	out   *bufio.Writer
	items int
}

// streamBuffer is how much is held back: a fault in so short an answer is still refused in good order.
const streamBuffer = 64 << 10

func newStream(c *gin.Context) *streamed {
	return &streamed{c: c, out: bufio.NewWriterSize(begin{c}, streamBuffer)}
}

// begin sets an answer's head when its first bytes go out.
type begin struct{ c *gin.Context }

func (b begin) Write(p []byte) (int, error) {
	if !b.c.Writer.Written() {
		b.c.Header("Content-Type", "application/json")
		b.c.Status(http.StatusOK)
	}
	return b.c.Writer.Write(p)
}

// end gives back an error if nothing is out yet; else it breaks the connection off.
func (s *streamed) end(err error) error {
	if err != nil && s.c.Writer.Written() {
		panic(http.ErrAbortHandler)
	}
	if err != nil {
		return err
	}
	_ = s.out.Flush() // a client that has gone needs no answer
	return nil
}

func (s *streamed) raw(text string) error {
	_, err := s.out.WriteString(text)
	return err
}

// quote writes a part of a JSON string, without its quotation marks. What is no UTF-8 becomes replacement characters.
func (s *streamed) quote(part []byte) error {
	quoted, _ := jsontext.AppendQuote(nil, part) // the error tells of such bytes only
	_, err := s.out.Write(quoted[1 : len(quoted)-1])
	return err
}

// value writes a JSON value.
func (s *streamed) value(v any) error {
	body, err := json.Marshal(v, json.Deterministic(true))
	if err == nil {
		_, err = s.out.Write(body)
	}
	return err
}

// array is a streamed list.
type array struct{ *streamed }

func newArray(c *gin.Context) array {
	return array{newStream(c)}
}

// add writes an item.
func (a array) add(item any) error {
	before := ","
	if a.items == 0 {
		before = "["
	}
	a.items++
	if err := a.raw(before); err != nil {
		return err
	}
	return a.value(item)
}

func (a array) end(err error) error {
	if err == nil {
		closing := "]"
		if a.items == 0 {
			closing = "[]"
		}
		err = a.raw(closing)
	}
	return a.streamed.end(err)
}
