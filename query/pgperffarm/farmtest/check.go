package farmtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// CheckShape tells how an answer to an endpoint differs from what a section of the contract says: it must be an array
// of rows that have exactly the section's members, in the section's order, of the section's types.
func CheckShape(section string, body []byte) error {
	text, known := shapes[section]
	if !known {
		return fmt.Errorf("section %s describes no answer", section)
	}
	shape, err := parseShape(jsontext.NewDecoder(strings.NewReader(text)))
	if err != nil {
		return fmt.Errorf("shape of section %s: %w", section, err)
	}
	d := jsontext.NewDecoder(bytes.NewReader(body))
	if err := (&node{element: shape}).check(d, ""); err != nil {
		return fmt.Errorf("section %s: %w", section, err)
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("section %s: there is something behind the array: %w", section, err)
	}
	return nil
}

// node is a part of a shape: a type, an array of elements, or an object of members.
type node struct {
	kind    string
	element *node
	names   []string
	members map[string]*node
}

func parseShape(d *jsontext.Decoder) (*node, error) {
	token, err := d.ReadToken()
	if err != nil {
		return nil, err
	}
	switch token.Kind() {
	case '"':
		return &node{kind: token.String()}, nil
	case '[':
		element, err := parseShape(d)
		if err == nil {
			_, err = d.ReadToken()
		}
		return &node{element: element}, err
	case '{':
		return parseMembers(d)
	}
	return nil, fmt.Errorf("a shape cannot hold %v", token)
}

func parseMembers(d *jsontext.Decoder) (*node, error) {
	object := &node{members: map[string]*node{}}
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		key := name.String()
		object.names = append(object.names, key)
		if object.members[key], err = parseShape(d); err != nil {
			return nil, err
		}
	}
	_, err := d.ReadToken()
	return object, err
}

func (n *node) check(d *jsontext.Decoder, at string) error {
	switch {
	case n.element != nil:
		return n.checkElements(d, at)
	case n.members != nil:
		return n.checkMembers(d, at)
	}
	value, err := d.ReadValue()
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	return n.checkScalar(value, at)
}

func (n *node) checkElements(d *jsontext.Decoder, at string) error {
	if kind := d.PeekKind(); kind != '[' {
		return fmt.Errorf("%s is %v, want an array", at, kind)
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for i := 0; d.PeekKind() != ']'; i++ {
		if err := n.element.check(d, fmt.Sprintf("%s/%d", at, i)); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

// checkMembers wants exactly the members. Their order matters in rows, where the original has one; what stands inside
// of rows may have another.
func (n *node) checkMembers(d *jsontext.Decoder, at string) error {
	if kind := d.PeekKind(); kind != '{' {
		return fmt.Errorf("%s is %v, want an object", at, kind)
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	var names []string
	for d.PeekKind() != '}' {
		token, err := d.ReadToken()
		if err != nil {
			return err
		}
		name := token.String()
		names = append(names, name)
		member, known := n.members[name]
		if !known {
			return fmt.Errorf("%s has the member %s, which is not in the contract", at, name)
		}
		if err := member.check(d, at+"/"+name); err != nil {
			return err
		}
	}
	wanted := slices.Clone(n.names)
	if strings.Count(at, "/") > 1 {
		slices.Sort(wanted)
		slices.Sort(names)
	}
	if !slices.Equal(names, wanted) {
		return fmt.Errorf("%s has the members %v, want %v", at, names, wanted)
	}
	_, err := d.ReadToken()
	return err
}

// scalars are the forms of values, by type. Numbers are plain: NaN and infinities are none.
var scalars = map[string]*regexp.Regexp{
	"int":    regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`),
	"number": regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`),
	"string": regexp.MustCompile(`^"`),
	"bool":   regexp.MustCompile(`^(true|false)$`),
	"time":   regexp.MustCompile(`^"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{3})?Z"$`),
	"any":    regexp.MustCompile(`.`),
}

func (n *node) checkScalar(value jsontext.Value, at string) error {
	kind, nullable := strings.CutSuffix(n.kind, "?")
	if nullable && string(value) == "null" {
		return nil
	}
	form, known := scalars[kind]
	if !known {
		return fmt.Errorf("%s: the shape has an unknown type %q", at, n.kind)
	}
	if !form.Match(value) {
		return fmt.Errorf("%s is %.80s, want %s", at, value, n.kind)
	}
	return nil
}
