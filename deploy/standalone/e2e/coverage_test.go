package e2e

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/millrace/millrace/schemas/route"
)

// coveragePage is made from the route tables and from what the tests say that they cover.
const coveragePage = "../../../docs/coverage.md"

func TestCoveragePageShowsEveryEndpointWithItsTests(t *testing.T) {
	routes, err := tables()
	if err != nil {
		t.Fatal(err)
	}
	tests := coverage(t, routes)
	for i := range routes {
		if key := routes[i].Key(); len(tests[key]) == 0 {
			t.Errorf("no end-to-end test covers %s", key)
		}
	}
	page := coverageIntroduction + route.Coverage(routes, tests)
	if *updateGolden {
		if err := os.WriteFile(coveragePage, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	written, err := os.ReadFile(coveragePage)
	if err != nil {
		t.Fatal(err)
	}
	if string(written) != page {
		t.Errorf("docs/coverage.md is not what the tables and tests say: run go test -run %s ./e2e -update in deploy/standalone", t.Name())
	}
}

const coverageIntroduction = `# Endpoints and their tests

Every endpoint that Millrace serves, with the section of the API's contract that describes it, who may call it, and the
end-to-end tests that call it on a running standalone. Besides, TestEveryCallerIsLetInAsTheTableSays calls each endpoint as
every kind of caller.

This page is generated: in deploy/standalone, run ` + "`go test -run TestCoveragePage ./e2e -update`" + `.

`

// coverage reads from the source of this package which tests cover which endpoints.
func coverage(t *testing.T, routes []route.Route) map[string][]string {
	t.Helper()
	known := map[string]bool{}
	for i := range routes {
		known[routes[i].Key()] = true
	}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string][]string{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, declared := range file.Decls {
			f, ok := declared.(*ast.FuncDecl)
			if !ok || !strings.HasPrefix(f.Name.Name, "Test") {
				continue
			}
			for _, key := range coveredBy(f) {
				if !known[key] {
					t.Errorf("%s covers %q, which no route table has", f.Name.Name, key)
				}
				if !slices.Contains(tests[key], f.Name.Name) {
					tests[key] = append(tests[key], f.Name.Name)
				}
			}
		}
	}
	return tests
}

// coveredBy lists the keys in a test's calls of covers.
func coveredBy(f *ast.FuncDecl) (keys []string) {
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if called, ok := call.Fun.(*ast.Ident); !ok || called.Name != "covers" {
			return true
		}
		for _, argument := range call.Args[1:] {
			literal, ok := argument.(*ast.BasicLit)
			if !ok {
				panic(fmt.Sprintf("%s: covers takes string literals, for the coverage page is made from the source", f.Name.Name))
			}
			key, err := strconv.Unquote(literal.Value)
			if err != nil {
				panic(err)
			}
			keys = append(keys, key)
		}
		return true
	})
	return keys
}
