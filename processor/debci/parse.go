package debci

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Errors of reading a document of tests, found with errors.As.
type (
	// SyntaxError is a document that is no JSON.
	SyntaxError struct{ Err error }
	// InvalidError is a document whose tests cannot be accepted, with all that is wrong.
	InvalidError struct{ Faults []string }
)

func (e *SyntaxError) Error() string { return "Invalid JSON: " + e.Err.Error() }

// Unwrap gives the parser's error.
func (e *SyntaxError) Unwrap() error { return e.Err }

// Error lists the faults, one in each line.
func (e *InvalidError) Error() string { return strings.Join(e.Faults, "\n") }

// maxFaults bounds how many faults an answer lists.
const maxFaults = 100

// reader reads documents of tests for a user.
type reader struct {
	rules *Rules
	user  string
	// left is how many more tests there may be.
	left   int
	faults []string
}

func (r *reader) bad(format string, args ...any) {
	if len(r.faults) < maxFaults {
		r.faults = append(r.faults, fmt.Sprintf(format, args...))
	}
}

func (r *reader) result(requests []Request) ([]Request, error) {
	if len(r.faults) > 0 {
		return nil, &InvalidError{Faults: r.faults}
	}
	return requests, nil
}

// jsonOptions: of a member that stands twice the last one counts, as it does for debci.
func jsonOptions() json.Options { return jsontext.AllowDuplicateNames(true) }

// syntax tells whether a text is JSON.
func syntax(document []byte) error {
	decoder := jsontext.NewDecoder(bytes.NewReader(document), jsonOptions())
	if err := decoder.SkipValue(); err != nil {
		return &SyntaxError{err}
	}
	if _, err := decoder.ReadToken(); err == nil {
		return &SyntaxError{errors.New("something follows the document")}
	}
	rest := document[decoder.InputOffset():]
	if len(bytes.TrimLeft(rest, " \t\r\n")) > 0 {
		return &SyntaxError{errors.New("something follows the document")}
	}
	return nil
}

// ParseTests reads the tests of one suite and architecture, at most limit, that a user asks for: all of them, or an error
// that is a *SyntaxError or an *InvalidError.
func ParseTests(document []byte, rules *Rules, user, suite, arch string, limit int) ([]Request, error) {
	if err := syntax(document); err != nil {
		return nil, err
	}
	r := &reader{rules: rules, user: user, left: limit}
	return r.result(r.tests(document, "tests", suite, []string{arch}))
}

// ParseBatch reads tests of several suites and architectures: an array of {suite, arch: […], tests: […]}.
func ParseBatch(document []byte, rules *Rules, user string, limit int) ([]Request, error) {
	if err := syntax(document); err != nil {
		return nil, err
	}
	r := &reader{rules: rules, user: user, left: limit}
	entries, ok := list(document)
	if !ok {
		r.bad("tests must be an array")
	}
	var requests []Request
	for i, entry := range entries {
		requests = append(requests, r.entry(i, entry)...)
	}
	requests, err := r.result(requests)
	// The tests of a queue stand together.
	slices.SortStableFunc(requests, func(a, b Request) int {
		return strings.Compare(Queue(a.Suite, a.Arch), Queue(b.Suite, b.Arch))
	})
	return requests, err
}

// rawEntry is an entry of a batch before it is checked.
type rawEntry struct {
	Suite jsontext.Value `json:"suite"`
	Arch  jsontext.Value `json:"arch"`
	Tests jsontext.Value `json:"tests"`
}

func (r *reader) entry(i int, value jsontext.Value) []Request {
	var raw rawEntry
	if value.Kind() != '{' || json.Unmarshal(value, &raw, jsonOptions()) != nil {
		r.bad("request %d must be an object with suite, arch and tests", i)
		return nil
	}
	suite, isText := text(raw.Suite)
	arches, isList := texts(raw.Arch)
	switch {
	case !isText:
		r.bad("suite of request %d must be a string", i)
		return nil
	case !isList || len(arches) == 0:
		r.bad("arch of request %d must be an array of architectures", i)
		return nil
	}
	before := len(r.faults)
	for _, arch := range arches {
		if fault := r.rules.CheckTarget(suite, arch); fault != "" {
			r.bad("%s at request %d", fault, i)
		}
	}
	if len(r.faults) > before {
		return nil
	}
	return r.tests(raw.Tests, fmt.Sprintf("tests of request %d", i), suite, arches)
}

// rawTest is a test before it is checked.
type rawTest struct {
	Package    jsontext.Value `json:"package"`
	Trigger    jsontext.Value `json:"trigger"`
	Pins       jsontext.Value `json:"pin-packages"`
	Private    jsontext.Value `json:"is_private"`
	AptSources jsontext.Value `json:"extra-apt-sources"`
	Backend    jsontext.Value `json:"backend"`
}

// tests reads an array of tests for each of the architectures.
func (r *reader) tests(value jsontext.Value, what, suite string, arches []string) []Request {
	items, ok := list(value)
	if !ok {
		r.bad("%s must be an array", what)
		return nil
	}
	if r.left -= len(items) * len(arches); r.left < 0 {
		r.bad("more tests than one request may have: send them in several")
		return nil
	}
	tests := make([]Request, len(items))
	for i, item := range items {
		tests[i] = r.test(i, item)
	}
	requests := make([]Request, 0, len(items)*len(arches))
	for _, arch := range arches {
		for _, request := range tests {
			request.Suite, request.Arch = suite, arch
			requests = append(requests, request)
		}
	}
	return requests
}

func (r *reader) test(i int, value jsontext.Value) (request Request) {
	var raw rawTest
	if value.Kind() != '{' || json.Unmarshal(value, &raw, jsonOptions()) != nil {
		r.bad("test %d must be an object", i)
		return request
	}
	name, isText := text(raw.Package)
	if !isText {
		name = string(raw.Package)
	}
	fault := BadPackage(name)
	if fault == "" && !isText {
		fault = "Invalid package name: " + name
	}
	if fault != "" {
		r.bad("%s", fault)
	}
	request.Package, name = name, shortened(name)
	request.Trigger = r.trigger(name, raw.Trigger)
	request.Pins = r.pins(name, raw.Pins)
	request.Private = r.private(name, raw.Private)
	request.AptSources = r.sources(name, raw.AptSources)
	request.Backend = r.backend(raw.Backend)
	return request
}

func (r *reader) trigger(name string, value jsontext.Value) *string {
	if absent(value) {
		return nil
	}
	trigger, ok := text(value)
	if !ok {
		r.bad("Invalid value for trigger for package: %s: it must be a string", name)
		return nil
	}
	if len(trigger) > MaxTrigger {
		r.bad("Invalid value for trigger for package: %s: it has %d bytes, the limit is %d", name, len(trigger), MaxTrigger)
		return nil
	}
	return &trigger
}

func (r *reader) pins(name string, value jsontext.Value) [][]string {
	if absent(value) {
		return nil
	}
	items, ok := list(value)
	pins := make([][]string, len(items))
	for i, item := range items {
		var isList bool
		pins[i], isList = texts(item)
		ok = ok && isList && len(pins[i]) >= 2
	}
	if !ok {
		r.bad("Invalid value for pin-packages for package: %s: it must be an array of arrays of packages, each with a suite at its end", name)
	}
	return pins
}

func (r *reader) private(name string, value jsontext.Value) bool {
	switch {
	case absent(value):
		return false
	case value.Kind() != 't' && value.Kind() != 'f':
		r.bad("%s", BadPrivate(name))
	}
	return value.Kind() == 't'
}

// BadPrivate is the fault of a package's is_private that is neither true nor false.
func BadPrivate(name string) string {
	return "Invalid value for bool parameter is_private for package: " + name
}

func (r *reader) sources(name string, value jsontext.Value) []AptSource {
	if absent(value) {
		return nil
	}
	names, ok := texts(value)
	if !ok {
		r.bad("Invalid value for extra-apt-sources for package: %s: it must be an array of names", name)
		return nil
	}
	sources, refused := r.rules.Sources(r.user, names)
	if len(refused) > 0 {
		r.bad("Invalid value for extra_apt_sources: %s", strings.Join(refused, ", "))
	}
	return sources
}

func (r *reader) backend(value jsontext.Value) string {
	if absent(value) {
		return ""
	}
	backend, ok := text(value)
	if !ok {
		backend = string(value)
	}
	if !ok || !slices.Contains(r.rules.Backends, backend) {
		r.bad("Invalid backend: %s", backend)
	}
	return backend
}

// ParseNames reads a JSON array of names.
func ParseNames(document []byte) ([]string, error) {
	if err := syntax(document); err != nil {
		return nil, err
	}
	names, ok := texts(document)
	if !ok {
		return nil, &SyntaxError{errors.New("it is no array of names")}
	}
	return names, nil
}

func absent(value jsontext.Value) bool { return len(value) == 0 || value.Kind() == 'n' }

// list gives the elements of an array.
func list(value jsontext.Value) (items []jsontext.Value, ok bool) {
	if value.Kind() != '[' {
		return nil, false
	}
	return items, json.Unmarshal(value, &items, jsonOptions()) == nil
}

// text gives a string that can be kept.
func text(value jsontext.Value) (content string, ok bool) {
	if value.Kind() != '"' || json.Unmarshal(value, &content) != nil {
		return "", false
	}
	return content, storable(content)
}

// texts gives the strings of an array of strings.
func texts(value jsontext.Value) ([]string, bool) {
	items, ok := list(value)
	contents := make([]string, len(items))
	for i, item := range items {
		var isText bool
		contents[i], isText = text(item)
		ok = ok && isText
	}
	return contents, ok
}
