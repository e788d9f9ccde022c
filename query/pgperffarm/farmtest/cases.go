package farmtest

import (
	"fmt"
	"net/http"
	"net/url"
)

// Farm names what the farm under test holds: one machine with pgbench results of one configuration and with a TPC-H
// run, and what is on none of them.
type Farm struct {
	Machine, Config, Run, Result uint64
	// Commit is that of Run, at least 20 characters long; its results are of an official repository.
	Commit  string
	TPCHRun uint64
	// Scale is the scale factor of TPCHRun.
	Scale uint64
	// TPCHCommit is that of TPCHRun.
	TPCHCommit string
	// Absent is an id that no machine, configuration, run or result has.
	Absent uint64
}

// Case is one promise of the contract about reading.
type Case struct {
	Section      string
	Method, Path string
	Status       int
	// Body is the whole body; empty where Shape or the status says enough.
	Body string
	// Shape says that the body must be of the section's shape.
	Shape bool
	// Some says that the body must have at least one row.
	Some bool
	// Error says that the body must be an object with the one member error.
	Error bool
	// Allow is the header of a 405.
	Allow string
}

// Name labels the case for a subtest.
func (c Case) Name() string { return c.Section + " " + c.Method + " " + c.Path }

// Cases are the promises that can be checked with the farm alone, without a session.
func Cases(f Farm) []Case {
	var cases []Case
	for _, e := range f.endpoints() {
		cases = append(cases, e.answers()...)
		cases = append(cases, e.otherMethods()...)
	}
	cases = append(cases, f.absent()...)
	cases = append(cases, f.commits()...)
	return append(cases, f.scales()...)
}

// endpoint is a read endpoint with a path that finds something.
type endpoint struct{ section, path string }

func (f Farm) endpoints() []endpoint {
	return []endpoint{
		{"5.1.1", "/benchmark/overview"},
		{"5.1.2", "/benchmark/machines"},
		{"5.1.3", fmt.Sprintf("/benchmark/history/%d", f.Machine)},
		{"5.1.4", fmt.Sprintf("/benchmark/postgres/%d", f.Machine)},
		{"5.1.5", fmt.Sprintf("/benchmark/pgbench_trends/%d/%d", f.Machine, f.Config)},
		{"5.1.6", fmt.Sprintf("/benchmark/pgbench_results_commit/%s/%d/%d", url.PathEscape(f.Commit), f.Machine, f.Config)},
		{"5.1.7", fmt.Sprintf("/benchmark/pgbench_results_complete/%d", f.Result)},
		{"5.2.1", "/machine/list"},
		{"5.4.2", fmt.Sprintf("/run/%d", f.Run)},
		{"5.4.2", fmt.Sprintf("/run/%d", f.TPCHRun)},
		{"5.5.1", "/tpch/machines"},
		{"5.5.2", fmt.Sprintf("/tpch/details/%d", f.TPCHRun)},
		{"5.5.3", fmt.Sprintf("/tpch/trend/%d/%d", f.Machine, f.Scale)},
		{"5.5.3", fmt.Sprintf("/tpch/trends/%d/%d", f.Machine, f.Scale)},
		{"5.5.4", fmt.Sprintf("/tpch/runs_commit/%d/%d/%s", f.Machine, f.Scale, url.PathEscape(f.TPCHCommit))},
	}
}

// answers: both forms of the path are answered directly, unknown query parameters are ignored, junk is not (2.1).
func (e endpoint) answers() []Case {
	some := e.section != "5.1.4" // settings may never have changed
	var cases []Case
	for _, form := range []string{"", "/", "?unknown=1"} {
		cases = append(cases, Case{Section: e.section, Method: http.MethodGet, Path: e.path + form, Status: http.StatusOK, Shape: true, Some: some})
	}
	return append(cases,
		Case{Section: e.section, Method: http.MethodHead, Path: e.path, Status: http.StatusOK},
		Case{Section: e.section, Method: http.MethodGet, Path: e.path + "//", Status: http.StatusNotFound, Error: true},
		Case{Section: e.section, Method: http.MethodGet, Path: e.path + "/junk/junk/junk", Status: http.StatusNotFound, Error: true})
}

// otherMethods: GET and HEAD exactly as in the seed, otherwise 405 with Allow (2.1).
func (e endpoint) otherMethods() []Case {
	var cases []Case
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		cases = append(cases, Case{Section: e.section, Method: method, Path: e.path, Status: http.StatusMethodNotAllowed, Allow: "GET, HEAD"})
	}
	return cases
}

// absent: lists about what is not there are empty, one thing that is not there is not found, and neither is a malformed
// id (2.3).
func (f Farm) absent() []Case {
	var cases []Case
	commit, tpchCommit := url.PathEscape(f.Commit), url.PathEscape(f.TPCHCommit)
	for section, pattern := range map[string]string{
		"5.1.3": "/benchmark/history/%v", "5.1.4": "/benchmark/postgres/%v",
		"5.1.5": fmt.Sprintf("/benchmark/pgbench_trends/%d/%%v", f.Machine),
		"5.1.6": "/benchmark/pgbench_results_commit/" + escape(commit) + "/%v/" + fmt.Sprint(f.Config),
		"5.5.3": "/tpch/trend/%v/" + fmt.Sprint(f.Scale),
		"5.5.4": "/tpch/runs_commit/%v/" + fmt.Sprint(f.Scale) + "/" + escape(tpchCommit),
	} {
		cases = append(cases,
			Case{Section: section, Method: http.MethodGet, Path: fmt.Sprintf(pattern, f.Absent), Status: http.StatusOK, Body: "[]"},
			Case{Section: section, Method: http.MethodGet, Path: fmt.Sprintf(pattern, 0), Status: http.StatusOK, Body: "[]"})
		cases = append(cases, malformed(section, pattern)...)
	}
	for section, pattern := range map[string]string{
		"5.1.7": "/benchmark/pgbench_results_complete/%v", "5.4.2": "/run/%v", "5.5.2": "/tpch/details/%v",
	} {
		for _, id := range []any{f.Absent, 0, "9223372036854775807"} {
			cases = append(cases, Case{Section: section, Method: http.MethodGet, Path: fmt.Sprintf(pattern, id), Status: http.StatusNotFound, Error: true})
		}
		cases = append(cases, malformed(section, pattern)...)
	}
	return append(cases,
		Case{Section: "5.5.2", Method: http.MethodGet, Path: fmt.Sprintf("/tpch/details/%d", f.Run), Status: http.StatusNotFound, Error: true},
		Case{Section: "5.4.1", Method: http.MethodGet, Path: "/run/upload/", Status: http.StatusMethodNotAllowed, Allow: "POST"})
}

// escape keeps a path from being taken for a format.
func escape(path string) string {
	escaped := ""
	for _, c := range path {
		if c == '%' {
			escaped += "%"
		}
		escaped += string(c)
	}
	return escaped
}

func malformed(section, pattern string) []Case {
	var cases []Case
	for _, id := range []string{"x", "-1", "-0", "+1", "1x", "1.0", "1e3", "0x1", "%20", "9223372036854775808"} {
		cases = append(cases, Case{Section: section, Method: http.MethodGet, Path: fmt.Sprintf(pattern, id), Status: http.StatusNotFound, Error: true})
	}
	return cases
}

// commits: the whole hash or its end, taken to the letter (5.1.6).
func (f Farm) commits() []Case {
	path := func(commit string) string {
		return fmt.Sprintf("/benchmark/pgbench_results_commit/%s/%d/%d", url.PathEscape(commit), f.Machine, f.Config)
	}
	none := func(commit string) Case {
		return Case{Section: "5.1.6", Method: http.MethodGet, Path: path(commit), Status: http.StatusOK, Body: "[]"}
	}
	return []Case{
		{Section: "5.1.6", Method: http.MethodGet, Path: path(f.Commit[len(f.Commit)-8:]), Status: http.StatusOK, Shape: true, Some: true},
		none(f.Commit[:len(f.Commit)-1]), none("%"), none("_"), none("%" + f.Commit), none("x" + f.Commit), none("'"), none(`\`),
	}
}

// scales: a scale factor is a decimal number and compared as one (5.5).
func (f Farm) scales() []Case {
	var cases []Case
	path := func(scale string) string { return fmt.Sprintf("/tpch/trend/%d/%s", f.Machine, scale) }
	for _, form := range []string{"%d.0", "%d.00", "0%d"} {
		cases = append(cases, Case{Section: "5.5.3", Method: http.MethodGet, Path: path(fmt.Sprintf(form, f.Scale)), Status: http.StatusOK, Shape: true, Some: true})
	}
	for _, scale := range []string{"ten", "-1", "1e1", "NaN", "Inf", "0x1"} {
		cases = append(cases, Case{Section: "5.5.3", Method: http.MethodGet, Path: path(scale), Status: http.StatusNotFound, Error: true})
	}
	return append(cases, Case{Section: "5.5.3", Method: http.MethodGet, Path: path("987654.5"), Status: http.StatusOK, Body: "[]"})
}
