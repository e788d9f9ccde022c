package route

import (
	"fmt"
	"slices"
	"strings"
)

// Coverage writes the tables as a Markdown table of endpoint, section of the
// contract, callers and tests. Tests are given by Route.Key; a route without any
// stands out by an empty cell.
func Coverage(routes []Route, tests map[string][]string) string {
	var b strings.Builder
	b.WriteString("| endpoint | API | contract | callers | tests |\n| --- | --- | --- | --- | --- |\n")
	for i := range routes {
		r := &routes[i]
		names := slices.Sorted(slices.Values(tests[r.Key()]))
		for j := range names {
			names[j] = "`" + names[j] + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", r.Key(), r.API, r.Contract, r.Access, strings.Join(names, ", "))
	}
	return b.String()
}
