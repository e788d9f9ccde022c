package config

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// fill sets a struct's fields from a file's keys, and gives every mistake among them.
func fill(to reflect.Value, given map[string]any, prefix string) []error {
	var mistakes []error
	for _, key := range slices.Sorted(maps.Keys(given)) {
		field, known := fieldOf(to, key)
		switch name := prefix + key; {
		case !known && strings.Contains(key, "."):
			mistakes = append(mistakes, fmt.Errorf("%s: write each part of the key on a line of its own, indented below the one before", name))
		case !known:
			mistakes = append(mistakes, fmt.Errorf("%s: there is no such setting; there are %s", name, strings.Join(keysOf(to.Type()), ", ")))
		default:
			mistakes = append(mistakes, set(field, given[key], name)...)
		}
	}
	return mistakes
}

func fieldOf(of reflect.Value, key string) (reflect.Value, bool) {
	for i := range of.NumField() {
		if of.Type().Field(i).Tag.Get("koanf") == key {
			return of.Field(i), true
		}
	}
	return reflect.Value{}, false
}

func keysOf(t reflect.Type) []string {
	var keys []string
	for i := range t.NumField() {
		keys = append(keys, t.Field(i).Tag.Get("koanf"))
	}
	return keys
}

// set takes a value as a file or a variable has it. What has none, as a key whose every line below is a comment, stays.
func set(to reflect.Value, value any, name string) []error {
	if value == nil {
		return nil
	}
	text := fmt.Sprint(value)
	var err error
	switch kind := to.Kind(); {
	case kind == reflect.Struct:
		return setStruct(to, value, name)
	case kind == reflect.Map:
		return setMap(to, value, name)
	case kind == reflect.Slice:
		return setList(to, value, name)
	case !isScalar(value):
		return []error{fmt.Errorf("%s: wants one value, not a list or keys below it", name)}
	case kind == reflect.String:
		to.SetString(text)
	case kind == reflect.Bool:
		err = setSwitch(to, text)
	case to.Type() == reflect.TypeFor[time.Duration]():
		err = setTime(to, text)
	case kind == reflect.Float64:
		err = setNumber(to, text)
	default:
		err = setWhole(to, value, text)
	}
	if err != nil {
		return []error{fmt.Errorf("%s: %w", name, err)}
	}
	return nil
}

func isScalar(value any) bool {
	kind := reflect.TypeOf(value).Kind()
	return kind != reflect.Map && kind != reflect.Slice
}

func setStruct(to reflect.Value, value any, name string) []error {
	if entry, is := value.(string); is && to.Type() == reflect.TypeFor[AptSource]() {
		to.Set(reflect.ValueOf(AptSource{Entry: entry}))
		return nil
	}
	below, is := value.(map[string]any)
	if !is {
		return []error{fmt.Errorf("%s: wants keys on lines below it, indented: %s", name, strings.Join(keysOf(to.Type()), ", "))}
	}
	return fill(to, below, name+".")
}

// setMap takes name=value,name=value too, since a variable is one line.
func setMap(to reflect.Value, value any, name string) []error {
	pairs, is := value.(map[string]any)
	if !is {
		pairs = map[string]any{}
		for pair := range strings.SplitSeq(fmt.Sprint(value), ",") {
			key, value, found := strings.Cut(strings.TrimSpace(pair), "=")
			if !found {
				return []error{fmt.Errorf("%s: %q is not NAME=VALUE", name, pair)}
			}
			pairs[key] = value
		}
	}
	var mistakes []error
	made := reflect.MakeMap(to.Type())
	for _, key := range slices.Sorted(maps.Keys(pairs)) {
		element := reflect.New(to.Type().Elem()).Elem()
		mistakes = append(mistakes, set(element, pairs[key], name+"."+key)...)
		made.SetMapIndex(reflect.ValueOf(key), element)
	}
	to.Set(made)
	return mistakes
}

func setList(to reflect.Value, value any, name string) []error {
	list := []string{}
	switch value := value.(type) {
	case map[string]any:
		return []error{fmt.Errorf("%s: wants a list, not keys below it", name)}
	case []any:
		for _, element := range value {
			list = append(list, fmt.Sprint(element))
		}
	default:
		for element := range strings.FieldsFuncSeq(fmt.Sprint(value), func(r rune) bool { return r == ',' }) {
			list = append(list, strings.TrimSpace(element))
		}
	}
	to.Set(reflect.ValueOf(list))
	return nil
}

func setSwitch(to reflect.Value, text string) error {
	switch strings.ToLower(text) {
	case "on", "yes", "true", "1":
		to.SetBool(true)
	case "off", "no", "false", "0", "":
		to.SetBool(false)
	default:
		return fmt.Errorf("%q is neither on nor off", text)
	}
	return nil
}

func setTime(to reflect.Value, text string) error {
	d, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q is not a time with its unit, such as 250ms, 5s or 168h", text)
	}
	to.SetInt(int64(d))
	return nil
}

func setNumber(to reflect.Value, text string) error {
	number, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return fmt.Errorf("%q is not a number", text)
	}
	to.SetFloat(number)
	return nil
}

// setWhole takes 1e6 from a file too, which YAML reads as a fraction.
func setWhole(to reflect.Value, value any, text string) error {
	whole, err := strconv.ParseInt(text, 0, 64)
	if number, is := value.(float64); is && number == float64(int64(number)) {
		whole, err = int64(number), nil
	}
	if err = cmp.Or(err, overflow(to, whole)); err != nil {
		return fmt.Errorf("%q is not a whole number", text)
	}
	to.SetInt(whole)
	return nil
}

func overflow(to reflect.Value, whole int64) error {
	if to.OverflowInt(whole) {
		return strconv.ErrRange
	}
	return nil
}
