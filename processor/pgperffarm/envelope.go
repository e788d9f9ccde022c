package pgperffarm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// split checks that the body is JSON, an array of exactly one object and not nested too deeply, and returns the values of
// the object's known members. They share memory with body.
//
// A member name that stands twice in an object is refused: which of the two values counts would depend on the reader,
// and no client sends such a document. It is a document that JSON allows, hence a DocumentError.
func split(body []byte, maxDepth int) (*members, error) {
	if at := invalidUTF8(body); at >= 0 {
		return nil, &FormatError{Offset: int64(at), Reason: "not UTF-8"}
	}
	if found, ok := quickSplit(body, maxDepth); ok {
		return found, nil
	}
	if at := tooDeep(body, maxDepth); at >= 0 {
		return nil, &FormatError{Offset: int64(at), Reason: fmt.Sprintf("nested too deeply, the limit is %d levels", maxDepth)}
	}
	found, err := scan(body, false)
	var syntactic *jsontext.SyntacticError
	if errors.As(err, &syntactic) && errors.Is(syntactic, jsontext.ErrDuplicateName) {
		_, err = scan(body, true)
		if err == nil {
			return nil, &DocumentError{Member: pointerPath(syntactic.JSONPointer), Reason: "appears twice in its object"}
		}
	}
	if err != nil {
		return nil, formatError(body, err)
	}
	return found, nil
}

// members holds the values of the known top-level members in the places of memberPlaces, nil for those that are absent.
type members [len(memberNames)]jsontext.Value

// memberNames are the top-level members that are read. All others are ignored: the client copies every file of its log
// folder into the object (section 6).
var memberNames = [...]string{
	"meta", "git", "kernel", "os_information", "system", "sysctl_log", "compiler", "postgres_settings",
	"run_received_time", "run_start_time", "run_end_time",
	"git_clone_runtime", "git_pull_runtime", "configure_runtime", "build_runtime", "install_runtime", "cleanup_runtime",
	"git_clone_log", "configure_log", "build_log", "install_log", "cleanup_log", "pg_ctl", "pgbench_log",
	"pgbench_log_aggregate", "pgbench", "pgbench_custom",
	"scale_factor", "num_streams", "power_size", "throughput_size", "qphh_size", "power", "throughput",
}

var memberPlaces = func() map[string]int {
	places := make(map[string]int, len(memberNames))
	for i, name := range memberNames {
		places[name] = i
	}
	return places
}()

// get returns the value of a known member, nil when it is absent.
func (m *members) get(name string) jsontext.Value { return m[memberPlaces[name]] }

// scan reads the whole body once. Lone surrogates pass, because they matter only in texts that are kept.
func scan(body []byte, duplicates bool) (*members, error) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(body),
		jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(duplicates))
	if err := expect(dec, jsontext.KindBeginArray, "the top level"); err != nil {
		return nil, err
	}
	if dec.PeekKind() == jsontext.KindEndArray {
		return nil, &FormatError{Offset: -1, Reason: "the array is empty, it must hold exactly one object"}
	}
	if err := expect(dec, jsontext.KindBeginObject, "the array's element"); err != nil {
		return nil, err
	}
	found, err := scanMembers(dec, body)
	if err != nil {
		return nil, err
	}
	if dec.PeekKind() != jsontext.KindEndArray {
		if err := dec.SkipValue(); err != nil {
			return nil, err
		}
		return nil, &FormatError{Offset: -1, Reason: "the array holds more than one element, it must hold exactly one object"}
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, err
	}
	if _, err := dec.ReadToken(); err != io.EOF {
		return nil, &FormatError{Offset: dec.InputOffset(), Reason: "more data after the end of the array"}
	}
	return found, nil
}

func scanMembers(dec *jsontext.Decoder, body []byte) (*members, error) {
	found := new(members)
	for dec.PeekKind() != jsontext.KindEndObject {
		name, err := dec.ReadValue()
		if err != nil {
			return nil, err
		}
		end := dec.InputOffset()
		name = body[end-int64(len(name)) : end]
		value, err := dec.ReadValue()
		if err != nil {
			return nil, err
		}
		end = dec.InputOffset()
		if place, known := memberPlaces[string(unquoteName(name))]; known {
			found[place] = body[end-int64(len(value)) : end]
		}
	}
	_, err := dec.ReadToken()
	return found, err
}

// expect reads the opening delimiter of a container.
func expect(dec *jsontext.Decoder, kind jsontext.Kind, what string) error {
	if found := dec.PeekKind(); found != kind {
		if err := dec.SkipValue(); err != nil {
			return err
		}
		return &FormatError{
			Offset: -1,
			Reason: fmt.Sprintf("%s is %s, the body must be an array with exactly one object", what, kindName(found)),
		}
	}
	_, err := dec.ReadToken()
	return err
}

func formatError(body []byte, err error) error {
	var format *FormatError
	if errors.As(err, &format) {
		return format
	}
	var syntactic *jsontext.SyntacticError
	if !errors.As(err, &syntactic) {
		return &FormatError{Offset: -1, Reason: "not JSON: the body is empty or ends too early"}
	}
	return &FormatError{
		Offset: syntactic.ByteOffset,
		Member: pointerPath(syntactic.JSONPointer),
		Reason: "not JSON: " + syntaxReason(body, syntactic),
	}
}

// syntaxReason explains what Python's JSON writer does with numbers that JSON does not have.
func syntaxReason(body []byte, err *jsontext.SyntacticError) string {
	at := body[min(int(err.ByteOffset), len(body)):]
	if bytes.HasPrefix(at, []byte("NaN")) || bytes.HasPrefix(at, []byte("Infinity")) {
		return "numbers must be finite, there is no NaN and no Infinity"
	}
	return err.Err.Error()
}

// tooDeep returns the position of the first bracket that opens more than limit levels, or -1. It looks only at brackets
// outside of strings; whether they match is for the parser, which this protects.
func tooDeep(body []byte, limit int) int {
	if bytes.Count(body, []byte("["))+bytes.Count(body, []byte("{")) <= limit {
		return -1
	}
	depth := 0
	for i := 0; i < len(body); i++ {
		switch body[i] {
		case '"':
			i += stringLength(body[i:]) - 1
		case '[', '{':
			depth++
			if depth > limit {
				return i
			}
		case ']', '}':
			depth--
		}
	}
	return -1
}

// stringLength returns the length of the JSON string at the start of b, quotes included, or all of b when it has no end.
func stringLength(b []byte) int {
	for i := 1; i < len(b); i++ {
		next := bytes.IndexByte(b[i:], '"')
		if next < 0 {
			break
		}
		i += next
		escapes := i - 1
		for escapes > 0 && b[escapes] == '\\' {
			escapes--
		}
		if (i-1-escapes)%2 == 0 {
			return i + 1
		}
	}
	return len(b)
}

func invalidUTF8(body []byte) int {
	if utf8.Valid(body) {
		return -1
	}
	for i := 0; i < len(body); {
		r, size := utf8.DecodeRune(body[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

func kindName(kind jsontext.Kind) string {
	switch kind {
	case jsontext.KindNull:
		return "null"
	case jsontext.KindTrue, jsontext.KindFalse:
		return "a boolean"
	case jsontext.KindString:
		return "a string"
	case jsontext.KindNumber:
		return "a number"
	case jsontext.KindBeginObject:
		return "an object"
	case jsontext.KindBeginArray:
		return "an array"
	}
	return "not a value"
}
