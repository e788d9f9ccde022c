package pgperffarm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/processor/runs"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// hole is a value of the registry that is filled in when a body is sent. In the body it is a JSON string that begins
// with a NUL, which no other string of a body does: NUL is refused at every door. What follows is the kind and the
// machine.
type hole struct {
	kind    byte
	machine uint64
}

const (
	holeAlias       = 'a'
	holeDescription = 'd'
	holeType        = 't'
	holeAddTime     = 'c'
	holeUsername    = 'u'
	holeEmail       = 'e'
	// The farm's own, of no machine.
	holeMachines = 'm'
	holeOwners   = 'o'
)

// holeMark begins every hole.
const holeMark = `"\u0000`

// JSONForm is for the API's description.
func (hole) JSONForm() (route.Kind, string) { return route.String, "" }

// MarshalJSONTo writes the string.
func (h hole) MarshalJSONTo(e *jsontext.Encoder) error {
	b := append(make([]byte, 0, 32), holeMark...)
	b = strconv.AppendUint(append(b, h.kind), h.machine, 10)
	return e.WriteValue(append(b, '"'))
}

// holes are the values of one machine.
func holes(machine uint64) (h struct{ alias, description, machineType, addTime, username, email hole }) {
	h.alias, h.description = hole{holeAlias, machine}, hole{holeDescription, machine}
	h.machineType, h.addTime = hole{holeType, machine}, hole{holeAddTime, machine}
	h.username, h.email = hole{holeUsername, machine}, hole{holeEmail, machine}
	return h
}

// instantHole is a hole for a timestamp.
type instantHole struct{ hole }

// JSONForm is for the API's description.
func (instantHole) JSONForm() (route.Kind, string) { return route.String, "date-time" }

// countHole is a hole for a number.
type countHole struct{ hole }

// JSONForm is for the API's description.
func (countHole) JSONForm() (route.Kind, string) { return route.Integer, "" }

func parseHole(text []byte) (hole, error) {
	if len(text) < 2 {
		return hole{}, errors.New("a hole without kind or machine")
	}
	machine, err := strconv.ParseUint(string(text[1:]), 10, 64)
	if err != nil {
		return hole{}, fmt.Errorf("a hole's machine: %w", err)
	}
	return hole{kind: text[0], machine: machine}, nil
}

// filler fills the holes of a body for one visitor.
type filler struct {
	farm    *Farm
	visitor *access.Visitor // nil when nobody is signed in
	// last is the machine filled in last: lists often speak of one machine only.
	last machineTexts
}

// machineTexts is what holes show of a machine, each as JSON.
type machineTexts struct {
	id                                                        uint64
	alias, description, machineType, addTime, username, email []byte
}

// fill appends a body to b with all holes filled.
func (l *filler) fill(ctx context.Context, b, body []byte) ([]byte, error) {
	for {
		at := bytes.Index(body, []byte(holeMark))
		if at < 0 {
			return append(b, body...), nil
		}
		b = append(b, body[:at]...)
		body = body[at+len(holeMark):]
		end := bytes.IndexByte(body, '"')
		if end < 0 {
			return nil, errors.New("a hole without end")
		}
		h, err := parseHole(body[:end])
		if err != nil {
			return nil, err
		}
		if b, err = l.append(ctx, b, h); err != nil {
			return nil, err
		}
		body = body[end+1:]
	}
}

func (l *filler) append(ctx context.Context, b []byte, h hole) ([]byte, error) {
	switch h.kind {
	case holeMachines, holeOwners:
		return l.farm.appendCount(b, h.kind), nil
	}
	if l.last.id != h.machine {
		texts, err := l.farm.machineTexts(ctx, h.machine, l.visitor)
		if err != nil {
			return nil, err
		}
		l.last = texts
	}
	switch h.kind {
	case holeAlias:
		return append(b, l.last.alias...), nil
	case holeDescription:
		return append(b, l.last.description...), nil
	case holeType:
		return append(b, l.last.machineType...), nil
	case holeAddTime:
		return append(b, l.last.addTime...), nil
	case holeUsername:
		return append(b, l.last.username...), nil
	case holeEmail:
		return append(b, l.last.email...), nil
	}
	return nil, fmt.Errorf("a hole of unknown kind %q", h.kind)
}

// appendCount writes the number of machines, or of people who own some (5.1.1).
func (f *Farm) appendCount(b []byte, kind byte) []byte {
	n := 0
	f.Registry.View(func(s *registry.State) {
		if n = len(s.Machines); kind == holeMachines {
			return
		}
		owners := make(map[uint64]struct{})
		for _, m := range s.Machines {
			owners[m.Owner] = struct{}{}
		}
		n = len(owners)
	})
	return strconv.AppendInt(b, int64(n), 10)
}

// machineTexts looks a machine up. E-mail addresses are for their owners and for staff (5.1.3).
func (f *Farm) machineTexts(ctx context.Context, id uint64, visitor *access.Visitor) (machineTexts, error) {
	m, owner := f.machine(id)
	if m.ID == 0 {
		// The machine is newer than this request: only the other fold has shown a run of it so far.
		if err := f.arrive(ctx, eventlog.Position{}); err != nil {
			return machineTexts{}, err
		}
		if m, owner = f.machine(id); m.ID == 0 {
			return machineTexts{}, fmt.Errorf("a run is of machine %d, which the registry does not know", id)
		}
	}
	person, err := f.people.open(owner)
	if err != nil {
		return machineTexts{}, err
	}
	texts := machineTexts{
		id: id, alias: quoted(m.Alias), description: quoted(m.Description), machineType: quoted(f.machineType(id)),
		addTime: appendTimestamp(nil, unixMilli(m.AddTime)), username: quoted(person.username), email: []byte("null"),
	}
	if visitor != nil && (visitor.Staff || visitor.User == m.Owner) && person.email != "" {
		texts.email = quoted(person.email)
	}
	return texts, nil
}

// machine gives a machine and its owner's profile; the zero one when there is none.
func (f *Farm) machine(id uint64) (m registry.Machine, owner profile) {
	f.Registry.View(func(s *registry.State) {
		if known := s.Machine(id); known != nil {
			m = *known
			owner = f.people.seen(s.User(known.Owner))
		}
	})
	return m, owner
}

// machineType is what the machine's first run fixed, empty before it.
func (f *Farm) machineType(id uint64) (name string) {
	f.Runs.View(func(s *runs.State) {
		if known := s.Machines[id]; known != nil {
			name = known.Type
		}
	})
	return name
}

// quoted gives a text as JSON. It cannot fail: what is not UTF-8 is replaced.
func quoted(text string) []byte {
	b, _ := jsontext.AppendQuote(nil, text)
	return b
}
