package route

import (
	"reflect"
	"strings"
)

// member is one JSON object member that a Go struct stands for.
type member struct {
	name string
	// typ is the Go type of its value.
	typ reflect.Type
	// required members are always present: neither omitempty nor omitzero.
	required bool
	// quoted members are numbers written as strings.
	quoted bool
	// doc comes from the struct tag of that name.
	doc string
}

// members lists the JSON members of a struct type by the rules of JSON v2:
// embedded structs are promoted, outer names win.
func members(t reflect.Type) []member {
	var own, promoted []member
	for i := range t.NumField() {
		field := t.Field(i)
		tag := field.Tag.Get("json")
		name, options, _ := strings.Cut(tag, ",")
		switch {
		case tag == "-":
		case isPromoted(field, name, options):
			promoted = append(promoted, members(deref(field.Type))...)
		case field.IsExported():
			own = append(own, newMember(field, name, options))
		}
	}
	for _, m := range promoted {
		if !hasMember(own, m.name) {
			own = append(own, m)
		}
	}
	return own
}

func isPromoted(field reflect.StructField, name, options string) bool {
	embedded := field.Anonymous || hasOption(options, "embed") || hasOption(options, "inline")
	return embedded && name == "" && deref(field.Type).Kind() == reflect.Struct
}

func newMember(field reflect.StructField, name, options string) member {
	if name == "" {
		name = field.Name
	}
	return member{
		name:     strings.Trim(name, "'"),
		typ:      field.Type,
		required: !hasOption(options, "omitempty") && !hasOption(options, "omitzero"),
		quoted:   hasOption(options, "string"),
		doc:      field.Tag.Get("doc"),
	}
}

func hasOption(options, name string) bool {
	for option := range strings.SplitSeq(options, ",") {
		if option == name {
			return true
		}
	}
	return false
}

func hasMember(list []member, name string) bool {
	for i := range list {
		if list[i].name == name {
			return true
		}
	}
	return false
}

func deref(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}
