package route

import (
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Formed is implemented by types that marshal themselves, to tell what they look
// like in JSON: the kind, and a format of JSON Schema such as "date-time" or "".
type Formed interface {
	JSONForm() (Kind, string)
}

// schema is a JSON Schema (2020-12), as far as OpenAPI documents of ours need it.
type schema struct {
	Ref         string             `json:"$ref,omitzero"`
	Type        any                `json:"type,omitzero"` // a name, or names
	Format      string             `json:"format,omitzero"`
	Encoding    string             `json:"contentEncoding,omitzero"`
	Description string             `json:"description,omitzero"`
	Items       *schema            `json:"items,omitzero"`
	Properties  map[string]*schema `json:"properties,omitzero"`
	Required    []string           `json:"required,omitzero"`
	Values      *schema            `json:"additionalProperties,omitzero"`
	AnyOf       []*schema          `json:"anyOf,omitzero"`
	Enum        []string           `json:"enum,omitzero"`
	Minimum     *int64             `json:"minimum,omitzero"`
	Maximum     *int64             `json:"maximum,omitzero"`
	MaxLength   int                `json:"maxLength,omitzero"`
	Default     any                `json:"default,omitzero"`
}

// schemas derives schemas from Go types. Named structs become components, each
// described once and referred to by name.
type schemas struct {
	components map[string]*schema
	names      map[reflect.Type]string
}

func newSchemas() *schemas {
	return &schemas{components: map[string]*schema{}, names: map[reflect.Type]string{}}
}

// of gives the schema of a type as it stands in a document.
func (s *schemas) of(t reflect.Type) *schema {
	switch {
	case t.Kind() == reflect.Pointer:
		return orNull(s.of(t.Elem()))
	case t == reflect.TypeFor[time.Time]():
		return &schema{Type: "string", Format: "date-time"}
	case t == reflect.TypeFor[jsontext.Value]():
		return &schema{}
	case encodesItself(t):
		return s.ofSelf(t)
	case t.Kind() == reflect.Struct && t.Name() != "":
		return &schema{Ref: "#/components/schemas/" + s.component(t)}
	}
	return s.ofKind(t)
}

func (s *schemas) ofSelf(t reflect.Type) *schema {
	if formed, ok := reflect.Zero(t).Interface().(Formed); ok {
		kind, format := formed.JSONForm()
		return &schema{Type: string(kind), Format: format}
	}
	if t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) && !t.Implements(reflect.TypeFor[json.Marshaler]()) {
		return &schema{Type: "string"}
	}
	return &schema{} // anything
}

func (s *schemas) ofKind(t reflect.Type) *schema {
	switch t.Kind() {
	case reflect.Bool:
		return &schema{Type: "boolean"}
	case reflect.String:
		return &schema{Type: "string"}
	case reflect.Int, reflect.Int64:
		return &schema{Type: "integer", Format: "int64"}
	case reflect.Int8, reflect.Int16, reflect.Int32:
		return &schema{Type: "integer", Format: "int32"}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return &schema{Type: "integer", Minimum: new(int64)}
	case reflect.Float32, reflect.Float64:
		return &schema{Type: "number", Format: "double"}
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return &schema{Type: "string", Encoding: "base64"}
		}
		return &schema{Type: "array", Items: s.of(t.Elem())}
	case reflect.Map:
		return &schema{Type: "object", Values: s.of(t.Elem())}
	case reflect.Struct:
		return s.object(t)
	}
	return &schema{}
}

// object describes a struct's members.
func (s *schemas) object(t reflect.Type) *schema {
	object := &schema{Type: "object", Properties: map[string]*schema{}}
	for _, m := range members(t) {
		property := s.of(m.typ)
		if m.quoted {
			property.quote()
		}
		property.Description = m.doc
		object.Properties[m.name] = property
		if m.required {
			object.Required = append(object.Required, m.name)
		}
	}
	return object
}

// quote turns a number's schema into that of the number in a string.
func (s *schema) quote() {
	_, nullable := s.Type.([]string)
	*s = schema{Type: "string", Format: s.Format}
	if nullable {
		s.Type = []string{"string", "null"}
	}
}

// component names a struct type's schema, describing it when it is new.
func (s *schemas) component(t reflect.Type) string {
	if name, known := s.names[t]; known {
		return name
	}
	base := strings.Trim(unnameable.ReplaceAllString(importPath.ReplaceAllString(t.String(), ""), "_"), "_")
	name := base
	for i := 2; s.components[name] != nil; i++ {
		name = fmt.Sprintf("%s.%d", base, i)
	}
	s.names[t] = name
	s.components[name] = &schema{} // ends recursion
	*s.components[name] = *s.object(t)
	return name
}

var (
	// importPath is what stands before the package's name in a type argument.
	importPath = regexp.MustCompile(`[^/\[\],]+/`)
	// unnameable is what a component's name must not contain.
	unnameable = regexp.MustCompile(`[^a-zA-Z0-9._-]+`)
)

// orNull lets a schema's values be null too.
func orNull(s *schema) *schema {
	switch name := s.Type.(type) {
	case string:
		s.Type = []string{name, "null"}
		return s
	case []string:
		return s
	}
	if s.Ref == "" && s.AnyOf == nil {
		return s // anything, null included
	}
	return &schema{AnyOf: []*schema{s, {Type: "null"}}}
}

// encodesItself tells whether a type, or a pointer to it, writes its own JSON.
func encodesItself(t reflect.Type) bool {
	for _, marshaler := range []reflect.Type{reflect.TypeFor[json.Marshaler](), reflect.TypeFor[json.MarshalerTo](),
		reflect.TypeFor[encoding.TextMarshaler]()} {
		if t.Implements(marshaler) || reflect.PointerTo(t).Implements(marshaler) {
			return true
		}
	}
	return false
}
