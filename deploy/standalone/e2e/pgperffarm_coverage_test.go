package e2e

import (
	"flag"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/deploy/standalone/app"
	"github.com/millrace/millrace/deploy/standalone/config"
	"github.com/millrace/millrace/schemas/route"
)

var updateGolden = flag.Bool("update", false, "write the golden files and docs/coverage.md anew")

// covers says which endpoints a test is about, by their route keys. The test must really call them. The coverage page is
// made from these calls in the source.
func covers(t *testing.T, keys ...string) {
	t.Helper()
	called := &callsOf{keys: map[string]bool{}}
	calls.Store(t.Name(), called)
	t.Cleanup(func() {
		calls.Delete(t.Name())
		for _, key := range keys {
			if !called.keys[key] && !t.Skipped() && !t.Failed() {
				t.Errorf("the test says that it covers %s, and never called it", key)
			}
		}
	})
}

// calls are the endpoints called so far by each running test that covers some, by its name.
var calls sync.Map

type callsOf struct {
	mu   sync.Mutex
	keys map[string]bool
}

// tables are the routes of every API.
var tables = sync.OnceValues(func() ([]route.Route, error) { return app.Tables(config.Default()) })

// noteCall remembers that a test called an endpoint; a subtest calls for the test around it.
func noteCall(t testing.TB, method, path string) {
	t.Helper()
	name, _, _ := strings.Cut(t.Name(), "/")
	noted, ok := calls.Load(name)
	if !ok {
		return
	}
	routes, err := tables()
	if err != nil {
		t.Fatal(err)
	}
	called := noted.(*callsOf)
	called.mu.Lock()
	defer called.mu.Unlock()
	for i := range routes {
		if routes[i].Method == method && (fits(routes[i].Path, path) || fits(routes[i].Path, strings.TrimSuffix(path, "/"))) {
			called.keys[routes[i].Key()] = true
		}
	}
}

// fits tells whether a path is one of a pattern's.
func fits(pattern, path string) bool {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	for i, segment := range want {
		if strings.HasPrefix(segment, "*") {
			return true
		}
		if i >= len(got) || segment != got[i] && !strings.HasPrefix(segment, ":") {
			return false
		}
	}
	return len(want) == len(got)
}
