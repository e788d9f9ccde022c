package pgperffarm

import (
	"bytes"
	"fmt"
	"net/http"

	"github.com/go-json-experiment/json"

	"github.com/millrace/millrace/schemas/route"
)

const (
	// keptBody is the largest body that is made in memory; a larger one is streamed.
	keptBody = 4 << 20
	// chunk is the size from which a part of a streamed body is sent.
	chunk = 64 << 10
)

// array writes the rows of an answer as a JSON array: into memory, or in chunks to send.
type array struct {
	send    func([]byte) error // nil: into memory
	maxRows int
	buffer  bytes.Buffer
	rows    int
	// large says that the body does not fit into memory. Its rows are then only counted.
	large bool
}

func newArray(maxRows int) *array { return &array{maxRows: maxRows} }

// add writes one row, a pointer to a struct.
func (a *array) add(row any) error {
	if a.rows == a.maxRows {
		return route.Errorf(http.StatusServiceUnavailable,
			"this list has more than %d rows, the operator's limit for lists that are given whole; /millrace/v1 gives them page by page", a.maxRows)
	}
	a.rows++
	if a.large {
		return nil
	}
	separator := byte(',')
	if a.rows == 1 {
		separator = '['
	}
	a.buffer.WriteByte(separator)
	if err := json.MarshalWrite(&a.buffer, row); err != nil {
		return fmt.Errorf("write row %d: %w", a.rows, err)
	}
	return a.spill()
}

// spill keeps the buffer within its bounds.
func (a *array) spill() error {
	switch {
	case a.send != nil && a.buffer.Len() >= chunk:
		return a.flush()
	case a.send == nil && a.buffer.Len() > keptBody:
		a.large = true
		a.buffer = bytes.Buffer{}
	}
	return nil
}

func (a *array) flush() error {
	err := a.send(a.buffer.Bytes())
	a.buffer.Reset()
	return err
}

// end closes the array.
func (a *array) end() {
	if a.rows == 0 {
		a.buffer.WriteByte('[')
	}
	a.buffer.WriteByte(']')
}
