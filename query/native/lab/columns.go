package lab

import (
	"reflect"
	"slices"
	"strings"
)

// Fields lists the names under which the fields of a row type are known in JSON, in their order.
func Fields[T any]() []string {
	var names []string
	t := reflect.TypeFor[T]()
	for i := range t.NumField() {
		if name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); name != "" && name != "-" {
			names = append(names, name)
		}
	}
	return names
}

// columnsOf lists the columns of a row type whose JSON names are among the fields (all when there are none), and those
// that are always needed.
func columnsOf[T any](fields []string, always ...string) []string {
	var columns []string
	t := reflect.TypeFor[T]()
	for i := range t.NumField() {
		tag := t.Field(i).Tag
		name, _, _ := strings.Cut(tag.Get("json"), ",")
		column := tag.Get("ch")
		if column == "" || column == "-" {
			continue
		}
		if len(fields) == 0 || slices.Contains(fields, name) || slices.Contains(always, column) {
			columns = append(columns, column)
		}
	}
	return columns
}
