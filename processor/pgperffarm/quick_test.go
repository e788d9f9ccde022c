package pgperffarm

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

func TestOrdinaryDocumentsAreCheckedQuickly(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no documents: %v", err)
	}
	for _, file := range files {
		upload, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := quickSplit(upload, DefaultLimits().MaxDepth); !ok {
			t.Errorf("%s is left to the library", file)
		}
	}
}

func TestQuickCheckLeavesErrorsAndRaritiesToTheLibrary(t *testing.T) {
	manyNames := "{"
	for i := range maxQuickNames + 1 {
		manyNames += `"` + strings.Repeat("n", i) + `":0,`
	}
	for _, text := range []string{
		"", " ", "nul", "nulll", "tru", "+1", "01", "-", "-01", "1.", ".5", "1e", "1e+", "0x1", "NaN", "Infinity",
		`"`, `"\`, `"\x"`, `"\u12"`, `"\u12g4"`, "\"\n\"", "\"\x00\"", "\"01234567\x1f\"",
		"[", "]", "[,]", "[1,]", "[1 2]", "[1}", "{", "}", "{,}", `{"a"}`, `{"a":}`, `{"a":1,}`, `{"a":1 "b":2}`, `{a:1}`, `{1:1}`,
		`{"a":1,"a":2}`, `{"a":{"b":1,"b":2}}`, `{"\u0061":1}`, "1 1", "[] []", strings.Repeat("[", 6) + strings.Repeat("]", 6),
		strings.TrimSuffix(manyNames, ",") + "}",
	} {
		if quickValid([]byte(text), 5) {
			t.Errorf("%q passes", text)
		}
	}
}

func FuzzWhatTheQuickCheckPassesTheLibraryPasses(f *testing.F) {
	for _, seed := range []string{
		`[{"meta":{"benchmark":"tpch"},"git":{},"x":[[[[1]]]]}]`, ` [ { "a" : -0.5e+7 , "b" : [ true , false , null ] } ] `,
		`{"a":"\ud800\u00e4\n","b":{"a":1}}`, `"0123456789abcdef\"\\"`, "\"\x7f\u00e4\U0001f600\"", `[{"pgbench":[],"pgbench":{}}]`, `[{}]`, `[{},{}]`,
	} {
		f.Add([]byte(seed))
	}
	const depth = 5
	f.Fuzz(func(t *testing.T, text []byte) {
		if !utf8.Valid(text) {
			return
		}
		if quickValid(text, depth) {
			value := jsontext.Value(text)
			if !value.IsValid(jsontext.AllowInvalidUTF8(true)) || tooDeep(text, depth) >= 0 {
				t.Errorf("the library does not pass it, or it is too deep at %d", tooDeep(text, depth))
			}
		}
		quickly, ok := quickSplit(text, depth)
		if !ok {
			return
		}
		found, err := scan(text, false)
		if err != nil || tooDeep(text, depth) >= 0 {
			t.Fatalf("the library: %v, too deep at %d", err, tooDeep(text, depth))
		}
		for i, name := range memberNames {
			if !slices.Equal(found[i], quickly[i]) {
				t.Errorf("%s is %q, the library finds %q", name, quickly[i], found[i])
			}
		}
	})
}
