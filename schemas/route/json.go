package route

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// JSON reads the request's body, whatever its content type says, as one JSON
// value of type T. Errors are *Error: 400 with the place and the rule that was
// broken, or what the limits of the route say.
//
// A member without omitempty and omitzero must be there, and must not be null
// unless its type is a pointer, map, slice or interface. Unknown members are
// ignored; json.RejectUnknownMembers(true) among the options refuses them.
// maxDepth bounds the nesting of arrays and objects.
func JSON[T any](c *gin.Context, maxDepth int, options ...json.Options) (T, error) {
	data, err := ReadBody(c)
	if err != nil {
		var none T
		return none, err
	}
	return DecodeJSON[T](data, maxDepth, options...)
}

// DecodeJSON is JSON for a body that has been read.
func DecodeJSON[T any](data []byte, maxDepth int, options ...json.Options) (T, error) {
	var value T
	if at := deeperThan(data, maxDepth); at >= 0 {
		return value, Errorf(http.StatusBadRequest, "body is nested deeper than %d levels at byte %d", maxDepth, at)
	}
	if err := json.Unmarshal(data, &value, json.JoinOptions(options...)); err != nil {
		var none T
		return none, jsonError(err)
	}
	if err := checkPresence(jsontext.NewDecoder(bytes.NewBuffer(data), options...), reflect.TypeFor[T](), ""); err != nil {
		var none T
		return none, jsonError(err)
	}
	return value, nil
}

// deeperThan gives the offset of the first bracket that opens level max+1, or -1.
// It counts brackets outside of strings, which is right for every valid text.
func deeperThan(data []byte, max int) int {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch b := data[i]; {
		case quoted && b == '\\':
			i++
		case b == '"':
			quoted = !quoted
		case quoted:
		case b == '{' || b == '[':
			if depth++; depth > max {
				return i
			}
		case b == '}' || b == ']':
			depth--
		}
	}
	return -1
}

// jsonError puts a decoding error into the client's words.
func jsonError(err error) *Error {
	var semantic *json.SemanticError
	var syntactic *jsontext.SyntacticError
	if refusal, ok := asError(err); ok {
		return refusal
	}
	switch {
	case errors.As(err, &semantic) && errors.Is(err, json.ErrUnknownName):
		return Errorf(http.StatusBadRequest, "body has the unknown member %s", shorten(semantic.JSONPointer))
	case errors.As(err, &syntactic) && errors.Is(err, jsontext.ErrDuplicateName):
		return Errorf(http.StatusBadRequest, "body has the member %s twice", shorten(syntactic.JSONPointer))
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return Errorf(http.StatusBadRequest, "body is not valid JSON: it ends early")
	case errors.As(err, &syntactic):
		return Errorf(http.StatusBadRequest, "body is not valid JSON at byte %d%s: %v", syntactic.ByteOffset, within(syntactic.JSONPointer), syntactic.Err)
	case errors.As(err, &semantic):
		return Errorf(http.StatusBadRequest, "%s must be %s, not %s", place(semantic.JSONPointer), wanted(semantic), got(semantic))
	}
	return Errorf(http.StatusBadRequest, "body is not valid JSON: %v", err)
}

func within(pointer jsontext.Pointer) string {
	if pointer == "" {
		return ""
	}
	return " within " + shorten(pointer)
}

// place names a value of the body by its JSON pointer.
func place(pointer jsontext.Pointer) string {
	if pointer == "" {
		return "body"
	}
	return "member " + shorten(pointer)
}

// shorten keeps names that a client made up from filling its answer.
func shorten(pointer jsontext.Pointer) string {
	const most = 120
	if len(pointer) <= most {
		return string(pointer)
	}
	return strings.ToValidUTF8(string(pointer[:most]), "") + "…"
}

// wanted describes what a Go type takes.
func wanted(e *json.SemanticError) string {
	if e.GoType == nil {
		return "of another form"
	}
	if errors.Is(e.Err, strconv.ErrRange) {
		return fmt.Sprintf("within the range of %s", e.GoType.Kind())
	}
	return noun(e.GoType)
}

func noun(t reflect.Type) string {
	t = deref(t)
	if t == reflect.TypeFor[time.Time]() {
		return "a time like 2006-01-02T15:04:05Z"
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "an integer"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "an integer that is not negative"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return "a string in base64"
		}
		return "an array"
	}
	return "an object"
}

func got(e *json.SemanticError) string {
	if len(e.JSONValue) > 0 && len(e.JSONValue) <= 40 {
		return string(e.JSONValue)
	}
	return kindNoun(e.JSONKind)
}

func kindNoun(kind jsontext.Kind) string {
	switch kind {
	case 'n':
		return "null"
	case 't', 'f':
		return "a boolean"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case '[':
		return "an array"
	case '{':
		return "an object"
	}
	return "what it is"
}

// checkPresence walks a value that decodes into type t, and refuses what decoding
// takes in silence: a missing required member, and null where the type has none.
func checkPresence(d *jsontext.Decoder, t reflect.Type, at jsontext.Pointer) error {
	kind := d.PeekKind()
	if kind == 'n' && !nullable(t) {
		return Errorf(http.StatusBadRequest, "%s must be %s, not null", place(at), noun(t))
	}
	t = deref(t)
	switch {
	case decodesItself(t):
	case kind == '{' && t.Kind() == reflect.Struct:
		return checkMembers(d, t, at)
	case kind == '{' && t.Kind() == reflect.Map, kind == '[' && (t.Kind() == reflect.Slice || t.Kind() == reflect.Array):
		return checkElements(d, t.Elem(), at)
	}
	return d.SkipValue()
}

func checkMembers(d *jsontext.Decoder, t reflect.Type, at jsontext.Pointer) error {
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	known := members(t)
	for d.PeekKind() != '}' {
		token, err := d.ReadToken()
		if err != nil {
			return err
		}
		name := token.String()
		found := slices.IndexFunc(known, func(m member) bool { return m.name == name })
		if found < 0 {
			err = d.SkipValue()
		} else {
			known[found].required = false
			err = checkPresence(d, known[found].typ, at.AppendToken(name))
		}
		if err != nil {
			return err
		}
	}
	if i := slices.IndexFunc(known, func(m member) bool { return m.required }); i >= 0 {
		return Errorf(http.StatusBadRequest, "member %s is missing: it must be %s", shorten(at.AppendToken(known[i].name)), noun(known[i].typ))
	}
	_, err := d.ReadToken()
	return err
}

// checkElements checks the values of an array or of a map.
func checkElements(d *jsontext.Decoder, t reflect.Type, at jsontext.Pointer) error {
	open, err := d.ReadToken()
	if err != nil {
		return err
	}
	for i := 0; d.PeekKind() != ']' && d.PeekKind() != '}'; i++ {
		name := strconv.Itoa(i)
		if open.Kind() == '{' {
			token, err := d.ReadToken()
			if err != nil {
				return err
			}
			name = token.String()
		}
		if err := checkPresence(d, t, at.AppendToken(name)); err != nil {
			return err
		}
	}
	_, err = d.ReadToken()
	return err
}

func nullable(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Interface:
		return true
	}
	return decodesItself(t) && t != reflect.TypeFor[time.Time]()
}

// decodesItself tells whether a type reads its own JSON, which then is no
// business of checks that go by the type's fields.
func decodesItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[json.UnmarshalerFrom]()) ||
		p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}
