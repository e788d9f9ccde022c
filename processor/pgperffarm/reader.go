package pgperffarm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// reader reads one member of the document, value by value. The first failure stays in err; from then on loops end and
// every method returns a zero value, so that callers check once. Bytes that it returns share memory with the body.
type reader struct {
	cursor

	root string // path of the value that is read
	err  error
}

// newReader reads a text that has not been checked: JSON within a string.
func newReader(root string, text []byte) *reader {
	r := new(reader)
	r.start(root, text)
	if quickValid(text, depthCeiling) {
		return r
	}
	dec := jsontext.NewDecoder(bytes.NewBuffer(text), jsontext.AllowInvalidUTF8(true))
	if _, err := dec.ReadValue(); err != nil {
		r.broken(err)
	} else if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		r.fail("does not hold JSON: there is more after its end")
	}
	return r
}

// start turns to a value of the body.
func (r *reader) start(root string, value []byte) {
	r.root, r.cursor = root, cursor{rest: value, within: r.within[:0]}
}

func (r *reader) kind() jsontext.Kind {
	if r.err != nil {
		return jsontext.KindInvalid
	}
	return r.cursor.kind()
}

// value reads the next value whole.
func (r *reader) value() jsontext.Value {
	if r.err != nil {
		return nil
	}
	return r.skip()
}

func (r *reader) token() {
	if r.err == nil {
		r.step()
	}
}

// object reads an object. For each member it calls read with the name, which is valid until the next value is read; a
// member that read leaves alone, returning false, is skipped. A required member that is absent is a failure.
func (r *reader) object(required []string, read func(name []byte) bool) {
	if r.kind() != jsontext.KindBeginObject {
		r.wrongKind("an object")
		return
	}
	r.token()
	found := uint64(0)
	for r.err == nil && r.cursor.kind() != jsontext.KindEndObject {
		name := unquoteName(r.value())
		if i := indexOf(required, name); i >= 0 {
			found |= 1 << i
		}
		if r.err == nil && !read(name) {
			r.value()
		}
	}
	r.token()
	for i, name := range required {
		if found&(1<<i) == 0 {
			r.failAt(name, "is missing")
		}
	}
}

func indexOf(names []string, name []byte) int {
	for i, n := range names {
		if n == string(name) {
			return i
		}
	}
	return -1
}

// elements reads an array; the loop's body reads each element.
func (r *reader) elements() iter.Seq[int] {
	return func(yield func(int) bool) {
		if r.kind() != jsontext.KindBeginArray {
			r.wrongKind("an array")
			return
		}
		r.token()
		for i := 0; r.err == nil && r.cursor.kind() != jsontext.KindEndArray; i++ {
			if !yield(i) {
				return
			}
		}
		r.token()
	}
}

// text reads a string of at most limit characters; 0 means without a limit.
func (r *reader) text(limit int) string {
	raw := r.value()
	if r.err != nil {
		return ""
	}
	if raw.Kind() != jsontext.KindString {
		r.mustBe("a string", raw)
		return ""
	}
	s := string(r.unquote(raw, nil))
	if limit > 0 && len(s) > limit {
		if n := utf8.RuneCountInString(s); n > limit {
			r.fail("is %d characters long, the limit is %d", n, limit)
		}
	}
	return s
}

// requiredText reads a string of 1 to limit characters.
func (r *reader) requiredText(limit int) string {
	s := r.text(limit)
	if r.err == nil && s == "" {
		r.fail("is empty")
	}
	return s
}

// textOrNull reads a string or null, which counts as an empty string.
func (r *reader) textOrNull(limit int) string {
	if r.kind() == jsontext.KindNull {
		r.value()
		return ""
	}
	return r.text(limit)
}

// unquote returns the content of a JSON string, appended to buf when it has escapes. What the tables cannot hold, NUL
// and half of a surrogate pair, is a failure.
func (r *reader) unquote(raw jsontext.Value, buf []byte) []byte {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1]
	}
	content, err := jsontext.AppendUnquote(buf, raw)
	if err != nil {
		r.fail("holds half of a surrogate pair, which is not a character")
		return nil
	}
	if bytes.IndexByte(content, 0) >= 0 {
		r.fail("holds a NUL character")
		return nil
	}
	return content
}

// unquoteName returns the content of a member name. Names are compared, not kept, so they may hold anything.
func unquoteName(raw jsontext.Value) []byte {
	if len(raw) < 2 {
		return nil
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1]
	}
	name, _ := jsontext.AppendUnquote([]byte(nil), raw)
	return name
}

func (r *reader) boolean() bool {
	raw := r.value()
	if r.err != nil {
		return false
	}
	switch raw.Kind() {
	case jsontext.KindTrue:
		return true
	case jsontext.KindFalse:
		return false
	}
	r.mustBe("a boolean", raw)
	return false
}

// integer reads a JSON number that is an integer from low to high.
func (r *reader) integer(low, high int64) int64 {
	raw := r.value()
	if r.err == nil && raw.Kind() != jsontext.KindNumber {
		r.mustBe("an integer", raw)
	}
	return r.toInteger(raw, low, high)
}

// looseInteger reads an integer that may come as a string.
func (r *reader) looseInteger(low, high int64) int64 {
	return r.toInteger(r.numeral(), low, high)
}

// greatest bounds measured values: the squares of their deviations must be finite even when millions are summed.
const greatest = 1e150

// endOfTime is the first Unix second that the tables cannot hold, that of the year 2262.
const endOfTime = 9_214_646_400

// looseNumber reads a number that may come as a string.
func (r *reader) looseNumber() float64 {
	return r.toFloat(r.numeral(), -greatest)
}

// instant reads Unix seconds, with a fraction, that may come as a string.
func (r *reader) instant() float64 {
	seconds := r.toFloat(r.numeral(), 0)
	if seconds >= endOfTime {
		r.fail("is %v, it must be Unix seconds from 1970 to 2261", seconds)
	}
	return seconds
}

// measure reads a number that may come as a string and is not negative.
func (r *reader) measure() float64 {
	return r.toFloat(r.numeral(), 0)
}

// numeral reads a number or a string and returns the text of the number.
func (r *reader) numeral() []byte {
	raw := r.value()
	if r.err != nil {
		return nil
	}
	switch raw.Kind() {
	case jsontext.KindNumber:
		return raw
	case jsontext.KindString:
		return bytes.TrimSpace(r.unquote(raw, nil))
	}
	r.mustBe("a number", raw)
	return nil
}

func (r *reader) toInteger(numeral []byte, low, high int64) int64 {
	if r.err != nil {
		return 0
	}
	n, ok := parseInteger(numeral)
	switch {
	case !ok:
		r.fail("must be an integer, not %s", shown(numeral))
		return 0
	case n < low || n > high:
		r.fail("is %d, it must be from %d to %d", n, low, high)
		return 0
	}
	return n
}

func (r *reader) toFloat(numeral []byte, low float64) float64 {
	if r.err != nil {
		return 0
	}
	f, ok := parseFloat(numeral)
	switch {
	case !ok:
		r.fail("must be a finite number, not %s", shown(numeral))
		return 0
	case f < low || f > greatest:
		r.fail("is %s, it must be at least %v and at most %v", numeral[:min(len(numeral), maxValueShown)], low, greatest)
		return 0
	}
	return f
}

// path names the value that was read last.
func (r *reader) path() string {
	var b strings.Builder
	b.WriteString(r.root)
	r.appendPath(&b)
	return clip(b.String(), maxPathShown)
}

// fail refuses the value that was read last.
func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = &DocumentError{Member: r.path(), Reason: fmt.Sprintf(format, args...)}
	}
}

// failAt refuses a member of the object that was read last.
func (r *reader) failAt(member, reason string) {
	if r.err == nil {
		r.err = &DocumentError{Member: r.path() + "." + member, Reason: reason}
	}
}

func (r *reader) mustBe(what string, raw jsontext.Value) {
	r.fail("must be %s, not %s", what, kindName(raw.Kind()))
}

func (r *reader) wrongKind(want string) {
	if raw := r.value(); r.err == nil {
		r.mustBe(want, raw)
	}
}

// broken reports a syntax error in a text that was to be checked.
func (r *reader) broken(err error) {
	reason := err.Error()
	var syntactic *jsontext.SyntacticError
	if errors.As(err, &syntactic) {
		reason = syntactic.Err.Error()
	}
	r.fail("does not hold JSON: %s", reason)
}
