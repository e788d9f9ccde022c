package testflinger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ErrNotJSON is a body that cannot be parsed.
var ErrNotJSON = errors.New("the body is no JSON")

// InvalidError is a body that does not fit, with all that is wrong.
type InvalidError struct{ Faults Faults }

func (e *InvalidError) Error() string { return fmt.Sprintf("Validation error: %v", e.Faults) }

// Faults are what is wrong with an object, by member: a list of texts, or Faults for what lies deeper (1).
type Faults map[string]any

// Texts of faults (1).
const (
	missing     = "Missing data for required field."
	unknown     = "Unknown field."
	notNull     = "Field may not be null."
	notString   = "Not a valid string."
	notInteger  = "Not a valid integer."
	notBoolean  = "Not a valid boolean."
	notList     = "Not a valid list."
	notMapping  = "Not a valid mapping type."
	notNegative = "Must be greater than or equal to 0."
	notPattern  = "String does not match expected pattern."
	notObject   = "Invalid input type."
	wholeObject = "_schema"
)

// check looks at a value and gives it as it is stored; fault is nil, a list of texts or Faults.
type check func(value any) (stored, fault any)

// member is one that an object may have.
type member struct {
	name     string
	check    check
	required bool
	nullable bool
}

// object is what a JSON object may have.
type object struct {
	members []member
	// strict refuses members that are not listed; otherwise they are kept as they are.
	strict bool
	// refused are never taken.
	refused []string
}

// maxDepth bounds the nesting of what clients send.
const maxDepth = 100

// IsJSON tells whether a content type says that a body is JSON.
func IsJSON(contentType string) bool {
	kind, _, _ := mime.ParseMediaType(contentType)
	return kind == "application/json" || strings.HasPrefix(kind, "application/") && strings.HasSuffix(kind, "+json")
}

// decode parses a body. One that is not said to be JSON, or is empty, is an empty object (1). Of a member that stands twice
// the last one counts.
func decode(contentType string, body []byte) (any, error) {
	if !IsJSON(contentType) || len(bytes.TrimSpace(body)) == 0 {
		return map[string]any{}, nil
	}
	if !utf8.Valid(body) { // the decoder would put other characters in its place, three bytes for each
		return nil, ErrNotJSON
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil || decoder.InputOffset() != int64(len(bytes.TrimRight(body, " \t\r\n"))) {
		return nil, ErrNotJSON
	}
	if tooDeep(value, maxDepth) {
		return nil, ErrNotJSON
	}
	return value, nil
}

func tooDeep(value any, left int) bool {
	if left == 0 {
		return true
	}
	switch v := value.(type) {
	case map[string]any:
		for _, item := range v {
			if tooDeep(item, left-1) {
				return true
			}
		}
	case []any:
		for _, item := range v {
			if tooDeep(item, left-1) {
				return true
			}
		}
	}
	return false
}

// encode writes a value as JSON, with the members of objects in ascending order.
func encode(value any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, fmt.Errorf("encode JSON: %w", err)
	}
	return bytes.TrimRight(text.Bytes(), "\n"), nil
}

// read parses a body that must be such an object.
func (o *object) read(contentType string, body []byte) (map[string]any, error) {
	value, err := decode(contentType, body)
	if err != nil {
		return nil, err
	}
	stored, fault := o.check(value)
	if faults, bad := fault.(Faults); bad {
		return nil, &InvalidError{Faults: faults}
	}
	read, _ := stored.(map[string]any)
	return read, nil
}

// check is the check of a value that must be such an object.
func (o *object) check(value any) (stored, fault any) {
	given, ok := value.(map[string]any)
	if !ok {
		return value, Faults{wholeObject: []string{notObject}}
	}
	faults := Faults{}
	for i := range o.members {
		m := &o.members[i]
		v, there := given[m.name]
		switch {
		case !there && m.required:
			faults[m.name] = []string{missing}
		case !there || v == nil && m.nullable:
		case v == nil:
			faults[m.name] = []string{notNull}
		default:
			stored, fault := m.check(v)
			given[m.name] = stored
			if fault != nil {
				faults[m.name] = fault
			}
		}
	}
	for name := range given {
		if o.strict && !o.has(name) || slices.Contains(o.refused, name) {
			faults[name] = []string{unknown}
		}
	}
	if len(faults) > 0 {
		return given, faults
	}
	return given, nil
}

func (o *object) has(name string) bool {
	return slices.ContainsFunc(o.members, func(m member) bool { return m.name == name })
}

// text takes strings of up to most characters.
func text(most int) check {
	return func(value any) (any, any) {
		s, ok := value.(string)
		switch {
		case !ok:
			return value, []string{notString}
		case utf8.RuneCountInString(s) > most:
			return value, []string{fmt.Sprintf("Longer than maximum length %d.", most)}
		}
		return s, nil
	}
}

// filled takes strings that are not shorter than a length.
func filled(least, most int) check {
	return func(value any) (any, any) {
		stored, fault := text(most)(value)
		if s, _ := stored.(string); fault == nil && utf8.RuneCountInString(s) < least {
			return value, []string{fmt.Sprintf("Shorter than minimum length %d.", least)}
		}
		return stored, fault
	}
}

// pattern takes strings of a form, as long as a name may be.
func pattern(form *regexp.Regexp) check {
	return func(value any) (any, any) {
		stored, fault := text(maxName)(value)
		if s, _ := stored.(string); fault == nil && !form.MatchString(s) {
			return value, []string{notPattern}
		}
		return stored, fault
	}
}

// oneOf takes some strings.
func oneOf(values ...string) check {
	return func(value any) (any, any) {
		s, ok := value.(string)
		switch {
		case !ok:
			return value, []string{notString}
		case !slices.Contains(values, s):
			return value, []string{"Must be one of: " + strings.Join(values, ", ") + "."}
		}
		return s, nil
	}
}

// integer takes whole numbers, also as strings (1), and stores numbers.
func integer(value any) (stored, fault any) {
	var digits string
	switch v := value.(type) {
	case json.Number:
		digits = v.String()
		if whole, fraction, cut := strings.Cut(digits, "."); cut && strings.Trim(fraction, "0") == "" {
			digits = whole
		}
	case string:
		digits = strings.TrimSpace(v)
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return value, []string{notInteger}
	}
	return json.Number(strconv.FormatInt(n, 10)), nil
}

// boolean takes true and false, also as words.
func boolean(value any) (stored, fault any) {
	switch v := value.(type) {
	case bool:
		return v, nil
	case string:
		if b, err := strconv.ParseBool(v); err == nil {
			return b, nil
		}
	}
	return value, []string{notBoolean}
}

// listOf takes lists of up to most items; faults are by index.
func listOf(item check, least, most int) check {
	return func(value any) (any, any) {
		given, ok := value.([]any)
		switch {
		case !ok:
			return value, []string{notList}
		case len(given) < least:
			return value, []string{fmt.Sprintf("Shorter than minimum length %d.", least)}
		case len(given) > most:
			return value, []string{fmt.Sprintf("Longer than maximum length %d.", most)}
		}
		faults := Faults{}
		for i := range given {
			fault := any([]string{notNull})
			if given[i] != nil {
				given[i], fault = item(given[i])
			}
			if fault != nil {
				faults[strconv.Itoa(i)] = fault
			}
		}
		if len(faults) > 0 {
			return value, faults
		}
		return given, nil
	}
}

// mapOf takes objects whose names and values are of one kind; faults are by name, under key and value.
func mapOf(name, item check) check {
	return func(value any) (any, any) {
		given, ok := value.(map[string]any)
		if !ok {
			return value, []string{notMapping}
		}
		faults := Faults{}
		for key, v := range given {
			at := Faults{}
			if _, fault := name(key); fault != nil {
				at["key"] = fault
			}
			fault := any([]string{notNull})
			if v != nil {
				given[key], fault = item(v)
			}
			if fault != nil {
				at["value"] = fault
			}
			if len(at) > 0 {
				faults[key] = at
			}
		}
		if len(faults) > 0 {
			return value, faults
		}
		return given, nil
	}
}

// free takes every object.
func free(value any) (stored, fault any) {
	if _, ok := value.(map[string]any); !ok {
		return value, []string{notMapping}
	}
	return value, nil
}

// number reads an integer that was checked.
func number(value any) int64 {
	n, _ := value.(json.Number)
	i, _ := n.Int64()
	return i
}

func asText(value any) string {
	s, _ := value.(string)
	return s
}

func asTexts(value any) []string {
	list, _ := value.([]any)
	texts := make([]string, 0, len(list))
	for _, item := range list {
		texts = append(texts, asText(item))
	}
	return texts
}
