// Package debci is what the two sides of the debci API and its workers share: test requests, the reject list and results.
//
// A test request is a job: it waits in the queue debci/SUITE/ARCH and its document is a Request. Section numbers in
// comments are those of the API's wire contract.
package debci

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Priorities that a submission may have (4).
const (
	MinPriority     = 1
	DefaultPriority = 5
	MaxPriority     = 10
)

// Queue is where the tests of a suite and architecture wait.
func Queue(suite, arch string) string { return "debci/" + suite + "/" + arch }

// Request is one test as it was asked for: the document of its job, which a worker gets as payload.
type Request struct {
	Suite   string `json:"suite"`
	Arch    string `json:"arch"`
	Package string `json:"package"`
	// Trigger is nil when none was given.
	Trigger *string `json:"trigger"`
	// Pins are lists of packages with the suite that they come from as the last element.
	Pins       [][]string  `json:"pin-packages,omitempty"`
	Private    bool        `json:"is_private,omitempty"`
	AptSources []AptSource `json:"extra-apt-sources,omitempty"`
	Backend    string      `json:"backend,omitempty"`
}

// AptSource is an extra source that a test may use, with its entry for the worker.
type AptSource struct {
	Name  string `json:"name"`
	Entry string `json:"entry"`
}

// ReadRequest reads a job's document.
func ReadRequest(document []byte) (Request, error) {
	var r Request
	if err := json.Unmarshal(document, &r); err != nil {
		return r, fmt.Errorf("read a debci test request: %w", err)
	}
	return r, nil
}

// packageName is the form of a package's name (4).
var packageName = regexp.MustCompile(`\A[a-z0-9][a-z0-9+.-]+\z`)

// MaxPackage is the longest package name and MaxTrigger the longest trigger, in bytes.
const (
	MaxPackage = 200
	MaxTrigger = 4096
)

// BadPackage is the fault of a package's name; "" when it can be one. Whether there is such a package is never checked.
func BadPackage(name string) string {
	switch {
	case len(name) > MaxPackage:
		return fmt.Sprintf("Invalid package name: %s: it has %d bytes, the limit is %d", shortened(name), len(name), MaxPackage)
	case !packageName.MatchString(name):
		return "Invalid package name: " + name
	}
	return ""
}

// shortened is a name as answers repeat it.
func shortened(name string) string {
	const shown = 50
	if len(name) <= MaxPackage {
		return name
	}
	return strings.ToValidUTF8(name[:shown], "") + "…"
}

// Rules are what an operator lets be tested.
type Rules struct {
	Suites, Architectures, Backends []string
	// AptSources are the extra sources by name.
	AptSources map[string]AllowedSource
}

// AllowedSource is an extra source and who may use it: everybody when AllowedUsers is empty.
type AllowedSource struct {
	Entry        string
	AllowedUsers []string
}

// CheckTarget says what is wrong with an architecture and a suite, in the order in which debci looks (4); "" when nothing.
func (r *Rules) CheckTarget(suite, arch string) string {
	switch {
	case !slices.Contains(r.Architectures, arch):
		return "Invalid architecture: " + arch
	case !slices.Contains(r.Suites, suite):
		return "Invalid suite: " + suite
	}
	return ""
}

// Sources gives the named extra sources with their entries, and the names that the user may not use.
func (r *Rules) Sources(user string, names []string) (sources []AptSource, refused []string) {
	for _, name := range names {
		source, known := r.AptSources[name]
		if !known || len(source.AllowedUsers) > 0 && !slices.Contains(source.AllowedUsers, user) {
			refused = append(refused, name)
			continue
		}
		sources = append(sources, AptSource{Name: name, Entry: source.Entry})
	}
	return sources, refused
}

// Names lists the names of extra sources.
func Names(sources []AptSource) []string {
	names := make([]string, len(sources))
	for i, source := range sources {
		names[i] = source.Name
	}
	return names
}

// storable tells whether a text can be kept and shown again in JSON.
func storable(text string) bool { return utf8.ValidString(text) && !strings.ContainsRune(text, 0) }
