package pgperffarm_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/processor/pgperffarm"
	"github.com/millrace/millrace/processor/pgperffarm/farmdoc"
)

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, file := range files {
		seed, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Add(farmdoc.Synthetic(farmdoc.Small(farmdoc.Options{})))
	for _, seed := range []string{
		"", "[]", "[{}]", "{}", "[[[[", `[{"meta":{"benchmark":"tpch"}}]`, `[{"a":1,"a":2}]`, `[{"git":{"branch":"\ud800"}}]`,
		`[{"x":NaN}]`, "[{\"x\":\"\xff\"}]",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(checkParse)
}

// checkParse checks what holds for any body.
func checkParse(t *testing.T, upload []byte) {
	limits := pgperffarm.Limits{MaxDepth: 20, MaxResults: 5, MaxRows: 100}
	before := slices.Clone(upload)
	doc, err := pgperffarm.Parse(upload, limits)
	if !slices.Equal(before, upload) {
		t.Fatal("the body was changed")
	}
	if err != nil {
		checkError(t, doc, err)
		return
	}
	checkValue(t, "document", reflect.ValueOf(*doc))
	if !json.Valid([]byte(doc.Hardware.Mounts)) || !json.Valid([]byte(doc.Hardware.Sysctl)) {
		t.Errorf("no JSON: mounts %q, sysctl %q", doc.Hardware.Mounts, doc.Hardware.Sysctl)
	}
	if doc.Start.IsZero() || len(doc.Results) > limits.MaxResults {
		t.Errorf("start %v, %d results", doc.Start, len(doc.Results))
	}
	again, err := pgperffarm.Parse(upload, limits)
	if err != nil || !cmp.Equal(doc, again) || !slices.Equal(doc.Terms(), again.Terms()) {
		t.Errorf("the same bytes gave another answer: %v", err)
	}
	systems := new(pgperffarm.Systems)
	for _, system := range []string{"a new", "a known"} {
		again, err := systems.Parse(upload, limits)
		if err != nil || !cmp.Equal(doc, again) {
			t.Errorf("with %s system another answer: %v\n%s", system, err, cmp.Diff(doc, again))
		}
	}
}

// checkError allows the two kinds of errors, with a reason that a person can read.
func checkError(t *testing.T, doc *pgperffarm.Document, err error) {
	var malformed *pgperffarm.FormatError
	var refused *pgperffarm.DocumentError
	switch {
	case doc != nil:
		t.Error("a document beside an error")
	case errors.As(err, &malformed) && malformed.Reason != "":
	case errors.As(err, &refused) && refused.Reason != "":
	default:
		t.Errorf("error of another kind: %v", err)
	}
	if text := err.Error(); len(text) > 1000 || !utf8.ValidString(text) {
		t.Errorf("error text of %d bytes: %.1000q", len(text), text)
	}
}

// checkValue walks all fields: numbers must be finite, texts valid UTF-8 without NUL.
func checkValue(t *testing.T, path string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Float64:
		if math.IsNaN(v.Float()) || math.IsInf(v.Float(), 0) {
			t.Errorf("%s is %v", path, v.Float())
		}
	case reflect.String:
		if !utf8.ValidString(v.String()) || strings.ContainsRune(v.String(), 0) {
			t.Errorf("%s is %q", path, v.String())
		}
	case reflect.Pointer:
		if !v.IsNil() {
			checkValue(t, path, v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			checkValue(t, path+"[]", v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if field := v.Type().Field(i); field.IsExported() {
				checkValue(t, path+"."+field.Name, v.Field(i))
			}
		}
	}
}

// FuzzParseMember puts JSON of any kind, or a text, in the place of one value of a good document: changes of single bytes
// seldom get past the syntax.
func FuzzParseMember(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	var uploads [][]byte
	var places [][2]int // of all values, as start and end in the upload of the same index
	for _, file := range files {
		upload, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, place := range values(f, upload) {
			uploads = append(uploads, upload)
			places = append(places, place)
		}
	}
	for i := range uploads {
		f.Add(uint16(i), "0.5 text\n", false)
		f.Add(uint16(i), `[{"query": null}]`, false)
		f.Add(uint16(i), `[{"query": "q", "calls": 1e3}]`, true)
	}
	f.Fuzz(func(t *testing.T, which uint16, value string, raw bool) {
		i := int(which) % len(uploads)
		replacement := []byte(value)
		if !raw {
			if replacement, err = json.Marshal(value); err != nil {
				t.Fatal(err)
			}
		}
		upload := slices.Concat(uploads[i][:places[i][0]], replacement, uploads[i][places[i][1]:])
		checkParse(t, upload)
	})
}

// values finds the places of all values of a document, names of members not included.
func values(f *testing.F, upload []byte) (places [][2]int) {
	dec := jsontext.NewDecoder(bytes.NewReader(upload))
	var opened []int
	for {
		from := int(dec.InputOffset())
		token, err := dec.ReadToken()
		if errors.Is(err, io.EOF) {
			return places
		}
		if err != nil {
			f.Fatal(err)
		}
		end := int(dec.InputOffset())
		start := end - len(bytes.TrimLeft(upload[from:end], ",: \n\r\t"))
		switch token.Kind() {
		case jsontext.KindBeginArray, jsontext.KindBeginObject:
			opened = append(opened, start)
			continue
		case jsontext.KindEndArray, jsontext.KindEndObject:
			start, opened = opened[len(opened)-1], opened[:len(opened)-1]
		default:
			if kind, length := dec.StackIndex(dec.StackDepth()); kind == jsontext.KindBeginObject && length%2 == 1 {
				continue // a name
			}
		}
		places = append(places, [2]int{start, end})
	}
}
