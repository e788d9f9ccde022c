package config

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
)

// decode takes settings, keys below keys, into the configuration, and gives every mistake among them. named tells what a
// key is called where the settings come from.
func decode(given map[string]any, config *Config, named func(key string) string) []error {
	decoder, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		Result: config, TagName: "koanf", DecodeHook: mapstructure.DecodeHookFuncValue(convert), ErrorUnused: true,
	})
	if err != nil {
		return []error{fmt.Errorf("settings: %w", err)}
	}
	return mistakesOf(decoder.Decode(given), named)
}

// mistakesOf parts the decoder's error into one for each setting.
func mistakesOf(err error, named func(key string) string) (mistakes []error) {
	switch e := err.(type) { //nolint:errorlint // it is taken apart level by level
	case nil:
		return nil
	case *mapstructure.DecodeError:
		if e.Name() == reflect.TypeFor[Config]().String() { // the decoder's name of the configuration itself
			return []error{e.Unwrap()}
		}
		return []error{fmt.Errorf("%s: %w", named(e.Name()), e.Unwrap())}
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			mistakes = append(mistakes, mistakesOf(one, named)...)
		}
		return mistakes
	}
	if below := errors.Unwrap(err); below != nil {
		return mistakesOf(below, named)
	}
	return []error{err}
}

// convert is the decoder's hook: it reads values as operators write them, and says what is wrong in their words.
func convert(from, to reflect.Value) (any, error) {
	given := from.Interface()
	text, one := fmt.Sprint(given), from.Kind() != reflect.Map && from.Kind() != reflect.Slice
	switch kind := to.Kind(); {
	case to.Type() == reflect.TypeFor[AptSource]() && one:
		return AptSource{Entry: text}, nil
	case kind == reflect.Struct && from.Kind() != reflect.Map:
		return nil, errors.New("wants keys on lines below it, indented")
	case kind == reflect.Map && one:
		return pairs(text)
	case kind == reflect.Slice && one:
		return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }), nil
	case kind == reflect.Slice && from.Kind() == reflect.Map:
		return nil, errors.New("wants a list, not keys below it")
	case kind == reflect.Struct || kind == reflect.Map || kind == reflect.Slice:
		return given, nil
	case !one:
		return nil, errors.New("wants one value, not a list or keys below it")
	}
	return scalar(text, given, to)
}

// scalar reads a single value.
func scalar(text string, given any, to reflect.Value) (any, error) {
	switch kind := to.Kind(); {
	case kind == reflect.String:
		return text, nil
	case kind == reflect.Bool:
		return onOrOff(text)
	case to.Type() == reflect.TypeFor[time.Duration]():
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil, fmt.Errorf("%q is not a time with its unit, such as 250ms, 5s or 168h", text)
		}
		return d, nil
	}
	number, err := strconv.ParseFloat(text, 64)
	switch _, exact := given.(int); {
	case to.Kind() == reflect.Float64 && err == nil:
		return number, nil
	case to.Kind() == reflect.Float64:
		return nil, fmt.Errorf("%q is not a number", text)
	case exact: // all its digits count
		return given, nil
	case err != nil || number != math.Trunc(number) || math.Abs(number) > 1<<53:
		return nil, fmt.Errorf("%q is not a whole number", text)
	}
	return int64(number), nil // 1e6 too
}

func onOrOff(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "on", "yes", "true", "1":
		return true, nil
	case "off", "no", "false", "0", "":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither on nor off", text)
}

// pairs reads name=value,name=value, since a variable is one line.
func pairs(text string) (map[string]any, error) {
	given := map[string]any{}
	for pair := range strings.SplitSeq(text, ",") {
		name, value, found := strings.Cut(strings.TrimSpace(pair), "=")
		if !found {
			return nil, fmt.Errorf("%q is not NAME=VALUE", pair)
		}
		given[name] = value
	}
	return given, nil
}
