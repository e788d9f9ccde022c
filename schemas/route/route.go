package route

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
)

// Side names the service that serves a route.
type Side uint8

// The zero Side is invalid, so that a route cannot forget to name one.
const (
	// Ingest routes append to the log.
	Ingest Side = iota + 1
	// Query routes read projections.
	Query
	// Each route is served by every service for itself (health, metrics). It is
	// not forwarded by the proxy and not subject to admission.
	Each
)

// String gives the name of the service.
func (s Side) String() string {
	switch s {
	case Ingest:
		return "ingest"
	case Query:
		return "query"
	case Each:
		return "each"
	}
	return fmt.Sprintf("Side(%d)", uint8(s))
}

// Route describes one endpoint completely.
type Route struct {
	// Method is the one HTTP method answered; GET answers HEAD too.
	Method string
	// Path is a gin pattern, as in "/run/:run_id".
	Path string
	// Slash makes the path with one trailing slash an equal of Path, answered
	// directly: a redirected POST would lose its body in most clients.
	Slash bool
	// Side is the service that serves the route.
	Side Side
	// API is the name of the table's owner, as in "pgperffarm". It selects the
	// entry of Options.APIs and is the tag in OpenAPI.
	API string
	// Access is the set of callers that are let in. There is no default.
	Access Access
	// Summary says in one line what a call does.
	Summary string
	// Contract is the section of the API's contract, as in "5.1.3"; empty for
	// endpoints that no contract describes.
	Contract string
	// Params lists every path, query and header parameter.
	Params []Param

	// Body is a value of the type that the request body has; nil without body.
	Body any
	// BodyLimit is the largest body accepted, in bytes as sent. A route with
	// limit 0 sees an empty body whatever is sent.
	BodyLimit int64
	// GzipLimit is the largest body in bytes after decoding Content-Encoding
	// gzip; 0 refuses encoded bodies with 415.
	GzipLimit int64
	// ContentTypes are the media types documented for the body; none means
	// application/json.
	ContentTypes []string

	// Answers lists what callers have to expect, by ascending status.
	Answers []Answer
	// Timeout bounds the request's context. 0 takes Options.Timeout.
	Timeout time.Duration
	// Waits says that a call may wait long for something to happen. Such calls have an admission of their own, so that
	// idle clients do not keep others out.
	Waits bool
	// Streams says that a body of any size goes in or out piece by piece, which may take long: such calls have an admission
	// of their own too. The bytes of one that comes in do not count among those in flight, nor does it have to arrive within
	// the bound of other bodies.
	Streams bool
	// Handler answers the calls that were let in.
	Handler gin.HandlerFunc

	// verbatim routes hand the body on as it came: the proxy must not decode
	// what the upstream will decode.
	verbatim bool
}

// Place says where a parameter travels.
type Place string

// Places of parameters, named as in OpenAPI.
const (
	InPath   Place = "path"
	InQuery  Place = "query"
	InHeader Place = "header"
)

// Kind is the type of a parameter's value, named as in JSON Schema.
type Kind string

// Kinds of parameters.
const (
	Integer Kind = "integer"
	Number  Kind = "number"
	String  Kind = "string"
	Boolean Kind = "boolean"
	// Time is RFC 3339, a string in JSON Schema.
	Time Kind = "time"
)

// Param describes one parameter. Its constraints are documented from here, and
// enforced from here by Int, Text, Texts, Bool and Instant.
type Param struct {
	Name string
	// In is where it travels; empty means the path if the pattern names it,
	// otherwise the query string.
	In Place
	// Type is the kind of its value; empty means String.
	Type Kind
	// Min and Max bound an integer, both inclusive. Max 0 beside a Min that is not
	// negative means the largest integer of 63 bits.
	Min, Max int64
	// MaxLength bounds a string in bytes; 0 means by the request line only.
	MaxLength int
	// Enum lists the accepted values; none means all.
	Enum []string
	// Default is taken when the parameter is absent.
	Default string
	// Required refuses a call without it. Path parameters always are.
	Required bool
	// Repeated parameters may be given several times.
	Repeated    bool
	Description string
}

// Answer describes one status that a route answers with.
type Answer struct {
	Status int
	// Body is a value of the type that the answer's body has; nil for an empty one.
	Body any
	// ContentType is the media type of Body; empty means application/json.
	ContentType string
	Description string
}

// Key names the route for people and maps: method, space, path pattern.
func (r *Route) Key() string { return r.Method + " " + r.Path }

// methods are the HTTP methods that a table may use. HEAD follows GET.
var methods = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// Validate reports everything that is wrong with the tables: routes that say too
// little, contradict themselves or stand twice.
func Validate(routes []Route) error {
	var errs []error
	seen := make(map[string]bool, len(routes))
	for i := range routes {
		r := &routes[i]
		if seen[r.Key()] {
			errs = append(errs, fmt.Errorf("route %s: declared twice", r.Key()))
		}
		seen[r.Key()] = true
		for _, fault := range r.faults() {
			errs = append(errs, fmt.Errorf("route %s: %s", r.Key(), fault))
		}
	}
	return errors.Join(errs...)
}

func (r *Route) faults() []string {
	var faults []string
	bad := func(wrong bool, format string, args ...any) {
		if wrong {
			faults = append(faults, fmt.Sprintf(format, args...))
		}
	}
	bad(!slices.Contains(methods, r.Method), "method must be one of %s", strings.Join(methods, ", "))
	bad(!strings.HasPrefix(r.Path, "/"), "path must begin with /")
	bad(r.Slash && strings.HasSuffix(r.Path, "/"), "path must not end with / when Slash is set")
	bad(r.Side < Ingest || r.Side > Each, "side is not set")
	bad(r.API == "", "API is not set")
	bad(r.Access == 0, "access is not set: say who may call it")
	bad(r.Summary == "", "summary is not set")
	bad(len(r.Answers) == 0, "no answers are described")
	bad(r.Body != nil && r.BodyLimit <= 0, "a body needs a BodyLimit")
	bad(r.GzipLimit > 0 && r.BodyLimit <= 0, "GzipLimit needs a BodyLimit")
	bad(!slices.IsSortedFunc(r.Answers, func(a, b Answer) int { return a.Status - b.Status }), "answers are not in ascending order of status")
	return append(faults, r.paramFaults()...)
}

func (r *Route) paramFaults() []string {
	var faults []string
	inPath := pathParams(r.Path)
	var declared []string
	for i := range r.Params {
		p := &r.Params[i]
		switch {
		case p.Description == "":
			faults = append(faults, fmt.Sprintf("parameter %s has no description", p.Name))
		case r.place(p) == InPath && !slices.Contains(inPath, p.Name):
			faults = append(faults, fmt.Sprintf("parameter %s is not in the path", p.Name))
		}
		declared = append(declared, p.Name)
	}
	for _, name := range inPath {
		if !slices.Contains(declared, name) {
			faults = append(faults, fmt.Sprintf("path parameter %s is not described", name))
		}
	}
	return faults
}

// place resolves a parameter's default place.
func (r *Route) place(p *Param) Place {
	switch {
	case p.In != "":
		return p.In
	case slices.Contains(pathParams(r.Path), p.Name):
		return InPath
	}
	return InQuery
}

// pathParams lists the names in a gin pattern, in order.
func pathParams(pattern string) []string {
	var names []string
	for segment := range strings.SplitSeq(pattern, "/") {
		if segment != "" && (segment[0] == ':' || segment[0] == '*') {
			names = append(names, segment[1:])
		}
	}
	return names
}

// matches tells whether a request path (without its trailing slash form) fits a
// gin pattern.
func matches(pattern, path string) bool {
	for pattern != "" {
		want, restPattern, more := strings.Cut(pattern, "/")
		if strings.HasPrefix(want, "*") {
			return true
		}
		got, restPath, has := strings.Cut(path, "/")
		if more != has || (want != got && !(strings.HasPrefix(want, ":") && got != "")) {
			return false
		}
		pattern, path = restPattern, restPath
	}
	return path == ""
}
