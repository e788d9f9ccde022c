package pgperffarm_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/millrace/millrace/processor/pgperffarm"
)

const (
	pgbenchDoc = "pgbench.json" // the contract's synthetic document
	customDoc  = "pgbench_custom.json"
	darwinDoc  = "darwin.json"
	tpchDoc    = "tpch_c.json"
	tpchDDoc   = "tpch_d.json"
)

// edit changes the object of a document.
type edit func(t testing.TB, doc map[string]any)

// set puts a value at a path such as pgbench[0].iterations[0].tps.
func set(path string, value any) edit {
	return func(t testing.TB, doc map[string]any) {
		t.Helper()
		walk(t, doc, path, func(object map[string]any, name string) { object[name] = value })
	}
}

func remove(path string) edit {
	return func(t testing.TB, doc map[string]any) {
		t.Helper()
		walk(t, doc, path, func(object map[string]any, name string) {
			if _, ok := object[name]; !ok {
				t.Fatalf("%s is not in the document", path)
			}
			delete(object, name)
		})
	}
}

// walk calls change with the object that holds the last name of the path.
func walk(t testing.TB, doc map[string]any, path string, change func(object map[string]any, name string)) {
	t.Helper()
	var at any = doc
	names := strings.Split(path, ".")
	for i, step := range names {
		name, indexes, _ := strings.Cut(step, "[")
		if i == len(names)-1 && indexes == "" {
			change(at.(map[string]any), name)
			return
		}
		at = at.(map[string]any)[name]
		for index := range strings.SplitSeq(indexes, "[") {
			if index == "" {
				continue
			}
			n, err := strconv.Atoi(strings.TrimSuffix(index, "]"))
			if err != nil {
				t.Fatalf("path %s: %v", path, err)
			}
			at = at.([]any)[n]
		}
	}
	t.Fatalf("path %s does not end with a name", path)
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// body returns a document of testdata with changes.
func body(t testing.TB, name string, edits ...edit) []byte {
	t.Helper()
	var docs []map[string]any
	if err := json.Unmarshal(readFile(t, name), &docs); err != nil {
		t.Fatal(err)
	}
	for _, e := range edits {
		e(t, docs[0])
	}
	changed, err := json.Marshal(docs)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

func accept(t testing.TB, name string, edits ...edit) *pgperffarm.Document {
	t.Helper()
	doc, err := pgperffarm.Parse(body(t, name, edits...), pgperffarm.DefaultLimits())
	if err != nil {
		t.Fatalf("refused: %v", err)
	}
	return doc
}

// wantRefused checks for a DocumentError that names the member and says the reason.
func wantRefused(t testing.TB, upload []byte, limits pgperffarm.Limits, member, reason string) {
	t.Helper()
	_, err := pgperffarm.Parse(upload, limits)
	var refused *pgperffarm.DocumentError
	if !errors.As(err, &refused) {
		t.Fatalf("error is %v, want a DocumentError about %s", err, member)
	}
	if refused.Member != member || !strings.Contains(refused.Reason, reason) {
		t.Errorf("refused %q because it %q, want %q because it %q", refused.Member, refused.Reason, member, reason)
	}
}

func wantMalformed(t testing.TB, upload []byte, reason string) {
	t.Helper()
	_, err := pgperffarm.Parse(upload, pgperffarm.DefaultLimits())
	var malformed *pgperffarm.FormatError
	if !errors.As(err, &malformed) {
		t.Fatalf("error is %v, want a FormatError", err)
	}
	if !strings.Contains(malformed.Error(), reason) {
		t.Errorf("error is %q, want %q in it", malformed.Error(), reason)
	}
}

func ptr[T any](v T) *T { return &v }

// result returns an element of iterations as the contract's document has it, with changes.
func result(changes map[string]any) map[string]any {
	r := map[string]any{
		"mode": "simple", "clients": "8", "threads": "8", "latency": "9.9", "tps": "801.0",
		"statement_latencies": -1, "init": 4.25, "start": 1625223600.5, "end": 1625223720.75, "iteration": 0,
		"pg_stat_statements": []any{}, "collectd": map[string]any{},
	}
	for name, value := range changes {
		r[name] = value
	}
	return r
}

const logLine = "1625223600 799 7910100 78309990000 610 15020\n"
