package testflinger

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Result is what an agent posts to the result of a job (4).
type Result struct {
	// State is the job's new one; nil when none is reported.
	State *string
	// Members are the names of the others, in ascending order.
	Members []string

	members map[string]any
}

// stateMember is where a result has the job's state.
const stateMember = "job_state"

// ReadResult reads what is posted. Errors are ErrNotJSON or an *InvalidError.
func ReadResult(g Generation, contentType string, body []byte) (*Result, error) {
	given, err := resultObject(g).read(contentType, body)
	if err != nil {
		return nil, err
	}
	r := &Result{members: given}
	if state, there := given[stateMember]; there {
		reported := asText(state)
		r.State = &reported
		delete(given, stateMember)
	}
	r.Members = slices.Sorted(maps.Keys(given))
	size := max(0, len(r.Members)-1) // each name but one has a separator
	for _, name := range r.Members {
		size += len(name)
	}
	if size > maxMemberNames {
		return nil, invalid(nil, Faults{wholeObject: []string{
			fmt.Sprintf("The names of its members have %d bytes together, the limit is %d.", size, maxMemberNames),
		}})
	}
	return r, nil
}

// maxMemberNames bounds the names of a result's members, in bytes: they stand in its event, whatever becomes of the rest.
const maxMemberNames = 256 << 10

// Document is what was posted, but for the state.
func (r *Result) Document() ([]byte, error) { return encode(r.members) }

// resultObject is what a result may have. Members that are not known are answered again as they came (11); those of the
// older generation's form are no longer taken by Latest.
func resultObject(g Generation) *object {
	o := &object{members: []member{{name: stateMember, check: text(maxName)}, {name: "device_info", check: free}}}
	if g == Latest {
		status := &object{strict: true}
		for _, phase := range Phases() {
			status.members = append(status.members, member{name: phase, check: integer})
			o.refused = append(o.refused, phase+"_status", phase+"_output", phase+"_serial")
		}
		o.members = append(o.members, member{name: "status", check: status.check})
		return o
	}
	for _, phase := range Phases() {
		o.members = append(o.members, member{name: phase + "_status", check: integer},
			member{name: phase + "_output", check: anyText}, member{name: phase + "_serial", check: anyText})
	}
	return o
}

// anyText takes strings as long as a body may be.
func anyText(value any) (stored, fault any) {
	if _, ok := value.(string); !ok {
		return value, []string{notString}
	}
	return value, nil
}

// ReadAction reads what is to be done with a job: to cancel it (2). The API's first description spells it with a capital
// letter (11).
func ReadAction(contentType string, body []byte) error {
	cancel := func(value any) (any, any) {
		if value == "Cancel" {
			value = "cancel"
		}
		return oneOf("cancel")(value)
	}
	_, err := (&object{strict: true, members: []member{{name: "action", check: cancel, required: true}}}).read(contentType, body)
	return err
}

// Fragment is a piece of a job's log (2, Latest).
type Fragment struct {
	Number int64
	Time   time.Time
	Phase  string
	Text   string
}

// ReadFragment reads a piece of a log.
func ReadFragment(contentType string, body []byte) (*Fragment, error) {
	o := &object{strict: true, members: []member{
		{name: "fragment_number", check: ordinal, required: true}, {name: "timestamp", check: timestamp, required: true},
		{name: "phase", check: oneOf(Phases()...), required: true}, {name: "log_data", check: anyText, required: true},
	}}
	given, err := o.read(contentType, body)
	if err != nil {
		return nil, err
	}
	at, err := ParseTime(asText(given["timestamp"]))
	if err != nil {
		return nil, fmt.Errorf("read a log fragment: %w", err)
	}
	return &Fragment{
		Number: number(given["fragment_number"]), Time: at, Phase: asText(given["phase"]), Text: asText(given["log_data"]),
	}, nil
}

// ordinal takes whole numbers from 0.
func ordinal(value any) (stored, fault any) {
	stored, fault = integer(value)
	if fault == nil && number(stored) < 0 {
		return value, []string{notNegative}
	}
	return stored, fault
}

func timestamp(value any) (stored, fault any) {
	s, ok := value.(string)
	if _, err := ParseTime(s); !ok || err != nil {
		return value, []string{"Not a valid datetime."}
	}
	return s, nil
}

// ParseTime reads ISO 8601; a time without a zone is UTC.
func ParseTime(text string) (time.Time, error) {
	text = strings.Replace(text, " ", "T", 1)
	at, err := time.Parse(time.RFC3339Nano, text)
	for _, layout := range []string{"2006-01-02T15:04:05.999999999", "2006-01-02T15:04:05.999999999-0700", "2006-01-02T15:04"} {
		if err != nil {
			at, err = time.Parse(layout, text)
		}
	}
	if err == nil && (at.Year() < 1970 || at.Year() > 2200) {
		return at, fmt.Errorf("the year is %d, it must be from 1970 to 2200", at.Year())
	}
	return at, err
}

// What a job's artifact is called, and what it is answered as (2).
const (
	ArtifactName = "artifact.tar.gz"
	ArtifactType = "application/x-tar"
)
