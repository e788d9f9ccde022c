package debci

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
)

// The statuses of a finished test (5). A test that waits or runs has none.
const (
	Pass    = "pass"
	Fail    = "fail"
	Neutral = "neutral"
	TmpFail = "tmpfail"
)

// NoVersion stands where a run could not tell which version it tested.
const NoVersion = "n/a"

// Result is what a worker reports of a test.
type Result struct {
	Status          string `json:"status" doc:"pass, fail, neutral or tmpfail"`
	Message         string `json:"message,omitzero"`
	Version         string `json:"version,omitzero" doc:"the tested version of the package"`
	DurationSeconds *int64 `json:"duration_seconds,omitzero"`
}

// maxVersion bounds a version, in bytes.
const maxVersion = 255

// ParseResult reads and checks what a worker reports, a JSON object. Members that a result does not have are ignored.
func ParseResult(report []byte) (Result, error) {
	var r Result
	if err := json.Unmarshal(report, &r, jsonOptions()); err != nil {
		return r, fmt.Errorf("a debci result must be an object with status, message, version and duration_seconds: %w", err)
	}
	statuses := []string{Pass, Fail, Neutral, TmpFail}
	switch {
	case !slices.Contains(statuses, r.Status):
		return r, fmt.Errorf("status is %q: it must be one of %s", r.Status, strings.Join(statuses, ", "))
	case len(r.Version) > maxVersion:
		return r, fmt.Errorf("version has %d bytes: the limit is %d", len(r.Version), maxVersion)
	case r.DurationSeconds != nil && *r.DurationSeconds < 0:
		return r, errors.New("duration_seconds must not be negative")
	}
	return r, nil
}

// Outcome is how a job ended that left nothing but its state and perhaps a report: one that no worker finished can be tried
// again.
func Outcome(rejected bool, report []byte) Result {
	if rejected {
		return Result{Status: Fail, Message: "The package is in the reject list."}
	}
	r, err := ParseResult(report)
	if err != nil {
		return Result{Status: TmpFail, Version: NoVersion}
	}
	if r.Version == "" {
		r.Version = NoVersion
	}
	return r
}
