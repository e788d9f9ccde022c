package pgperffarm

import (
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// cursor walks over JSON that has been checked, where a part's end is found without reading the part again.
type cursor struct {
	rest []byte
	// within are the containers that are open, outermost first.
	within []container
}

// usualDepth is how many containers of a member are open at once in ordinary documents.
const usualDepth = 8

// container is an array or object that is open.
type container struct {
	array bool
	// begun counts the elements that began, or the names and values of members.
	begun int
	// name is that of the last member, as it stands there.
	name []byte
}

// kind tells what comes next; invalid at the end of everything.
func (c *cursor) kind() jsontext.Kind {
	for len(c.rest) > 0 {
		switch c.rest[0] {
		case ' ', '\t', '\r', '\n', ',', ':':
			c.rest = c.rest[1:]
		default:
			return jsontext.Value(c.rest[:1]).Kind()
		}
	}
	return jsontext.KindInvalid
}

// skip goes over the next value and returns it.
func (c *cursor) skip() jsontext.Value {
	c.kind()
	length := valueLength(c.rest)
	value := c.rest[:length:length]
	c.rest = c.rest[length:]
	if len(c.within) > 0 {
		c.within[len(c.within)-1].begin(value)
	}
	return value
}

func (o *container) begin(value []byte) {
	if !o.array && o.begun%2 == 0 {
		o.name = value
	}
	o.begun++
}

// step goes over the bracket that comes next.
func (c *cursor) step() {
	kind := c.kind()
	if kind == jsontext.KindInvalid {
		return
	}
	c.rest = c.rest[1:]
	if kind == jsontext.KindEndArray || kind == jsontext.KindEndObject {
		c.within = c.within[:len(c.within)-1]
		return
	}
	if len(c.within) > 0 {
		c.within[len(c.within)-1].begin(nil)
	}
	c.within = append(c.within, container{array: kind == jsontext.KindBeginArray})
}

// appendPath writes the place of what was gone over last.
func (c *cursor) appendPath(b *strings.Builder) {
	for _, o := range c.within {
		switch {
		case o.begun == 0:
		case o.array:
			appendStep(b, strconv.Itoa(o.begun-1), true)
		default:
			appendStep(b, string(unquoteName(o.name)), false)
		}
	}
}

// valueLength returns the length of the JSON value at the start of b.
func valueLength(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	switch b[0] {
	case '"':
		return stringLength(b)
	case '[', '{':
		return containerLength(b)
	}
	for i, c := range b {
		switch c {
		case ',', ']', '}', ' ', '\t', '\r', '\n':
			return i
		}
	}
	return len(b)
}

func containerLength(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i += stringLength(b[i:]) - 1
		case '[', '{':
			depth++
		case ']', '}':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(b)
}
