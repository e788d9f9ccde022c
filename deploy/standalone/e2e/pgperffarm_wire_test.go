package e2e

import (
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/schemas/route"
)

// farmRoutes are the routes of the Performance Farm's API.
func farmRoutes(t *testing.T) []route.Route {
	t.Helper()
	routes, err := tables()
	if err != nil {
		t.Fatal(err)
	}
	var own []route.Route
	for _, r := range routes {
		if r.API == "pgperffarm" {
			own = append(own, r)
		}
	}
	if len(own) != 22 {
		t.Fatalf("the tables have %d endpoints of the farm's, the contract has 21 and one that is spelled in two ways", len(own))
	}
	return own
}

// filled puts values into the parameters of a path: those of a run that is stored.
func (r storedRun) filled(path string) string {
	for name, value := range map[string]string{
		":machine_id": strconv.FormatUint(r.machine.ID, 10), ":benchmark_config_id": strconv.FormatUint(r.config, 10),
		":git_commit": commitHash(1), ":pgbench_result_id": strconv.FormatUint(r.run<<10+1, 10), ":run_id": strconv.FormatUint(r.run, 10),
		":scale_factor": "10", ":commit": commitHash(1),
	} {
		path = strings.ReplaceAll(path, name, value)
	}
	return path
}

// storedRun is a run with one result.
type storedRun struct {
	machine     machine
	run, config uint64
	tpch        uint64
}

// newRun makes a machine with a pgbench run and a TPC-H run.
func newRun(t *testing.T, lab *Lab) storedRun {
	t.Helper()
	m := lab.newMachine(t)
	r := storedRun{machine: m, run: m.store(t, smallDocument(0))}
	r.tpch = m.store(t, tpchDocument(minute(1), "10", 3, [3]float64{2500.5, 1600, 2000.2}))
	row := lab.visitor(t).get(t, "/run/"+strconv.FormatUint(r.run, 10)).rows(t)[0]
	r.config = uint64(row["pgbench_result"].([]any)[0].(map[string]any)["benchmark_config_id"].(float64))
	return r
}

func TestEveryEndpointAnswersWithAndWithoutOneTrailingSlash(t *testing.T) {
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		r := newRun(t, lab)
		owner := lab.browser(t, r.machine.Owner)
		for _, endpoint := range farmRoutes(t) {
			if endpoint.Method != http.MethodGet {
				continue // posts: TestPostsAreNeverRedirectedToTheOtherForm
			}
			t.Run(endpoint.Key(), func(t *testing.T) {
				path := r.filled(endpoint.Path)
				if strings.HasPrefix(path, "/tpch/details/") {
					path = "/tpch/details/" + strconv.FormatUint(r.tpch, 10)
				}
				by := owner
				if path == "/user/logout" {
					by = lab.visitor(t) // the others need the session
				}
				plain, slashed := by.get(t, path), by.get(t, path+"/")
				if plain.Status >= http.StatusBadRequest && path != "/user/auth_receive" {
					t.Fatalf("%s: %d %s", path, plain.Status, plain.Body)
				}
				slashed.is(t, plain.Status, string(plain.Body))
				if slashed.Header.Get("Location") != plain.Header.Get("Location") {
					t.Errorf("Location is %q, with a slash %q", plain.Header.Get("Location"), slashed.Header.Get("Location"))
				}
				owner.get(t, path+"//").refuses(t, http.StatusNotFound)
				owner.get(t, path+"XYZ/x/y/z/1/2").refuses(t, http.StatusNotFound)
			})
		}
	})
}

func TestPostsAreNeverRedirectedToTheOtherForm(t *testing.T) {
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		owner, boss := lab.browser(t, Unique("owner")), lab.browser(t, staff)
		m := lab.newMachine(t)
		for n, slash := range []string{"", "/"} {
			alias := Unique("beaver")
			owner.post(t, "/machine/add"+slash, `{"alias": "`+alias+`", "description": ""}`).is(t, http.StatusCreated, "Machine added successfully!")
			boss.post(t, "/machine/approve"+slash, `{"alias": "`+alias+`"}`).is(t, http.StatusCreated, "Machine approved successfully!")
			id := owner.get(t, "/machine/user").rows(t)[n]["machine_id"].(float64)
			owner.post(t, "/machine/edit/"+number(id)+slash, `{"description": "x"}`).is(t, http.StatusCreated, "")
			lab.visitor(t).as(m).do(t, http.MethodPost, "/run/upload"+slash, smallDocument(n).body()).is(t, http.StatusCreated, "")
		}
	})
}

func TestHEADAnswersAsGETWithoutBody(t *testing.T) {
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		r := newRun(t, lab)
		for _, endpoint := range farmRoutes(t) {
			if endpoint.Method != http.MethodGet || strings.HasPrefix(endpoint.Path, "/tpch/details") {
				continue
			}
			path := r.filled(endpoint.Path)
			get, head := lab.visitor(t).get(t, path), lab.visitor(t).do(t, http.MethodHead, path, nil)
			head.is(t, get.Status, "")
			names := []string{"Content-Type", "Location", "X-Frame-Options", "Vary"}
			if get.Status == http.StatusOK {
				names = append(names, "Content-Length")
			}
			for _, name := range names {
				if get.Header.Get(name) != head.Header.Get(name) {
					t.Errorf("HEAD %s: %s is %q, with GET %q", path, name, head.Header.Get(name), get.Header.Get(name))
				}
			}
		}
	})
}

func TestOtherMethodsGet405WithAllow(t *testing.T) {
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		r := newRun(t, lab)
		for _, endpoint := range farmRoutes(t) {
			allow := map[string]string{http.MethodGet: "GET, HEAD", http.MethodPost: "POST"}[endpoint.Method]
			others := []string{http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodPost, http.MethodGet, http.MethodOptions}
			for _, method := range others {
				if method == endpoint.Method {
					continue
				}
				for _, slash := range []string{"", "/"} {
					a := lab.visitor(t).do(t, method, r.filled(endpoint.Path)+slash, []byte(`{}`))
					a.refuses(t, http.StatusMethodNotAllowed, method)
					if got := a.Header.Get("Allow"); got != allow {
						t.Errorf("%s %s: Allow is %q, want %q", method, endpoint.Path+slash, got, allow)
					}
				}
			}
		}
	})
}

func TestUnknownPathsAreJSON404(t *testing.T) {
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		for _, path := range []string{
			"/benchmark", "/benchmark/", "/benchmark/overviewXYZ", "/machine/lists", "/machine", "/run", "/run/", "/run/1/2",
			"/machine/user/1", "/tpch/upload", "/user/login", "/Benchmark/overview", "/benchmark//overview", "/benchmark/pgbench_trends/1",
			"/benchmark/pgbench_results_commit/abc/1", "/%00", "/run/upload/1", "/benchmark/history/",
		} {
			lab.visitor(t).get(t, path).refuses(t, http.StatusNotFound)
		}
	})
}

// idForms are texts that are no id (contract 2.3): ASCII digits that fit 63 bits are one.
var idForms = []string{
	"x", "-1", "+1", "1.0", "1e3", "0x1", "9223372036854775808", "99999999999999999999999", "１", "1 ", " 1", "1'--", "1;", "%", "null", "-0", "1_0",
}

func TestMalformedIdsAre404(t *testing.T) {
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		owner := lab.browser(t, Unique("owner"))
		for _, pattern := range []string{
			"/benchmark/history/#", "/benchmark/postgres/#", "/benchmark/pgbench_trends/#/1", "/benchmark/pgbench_trends/1/#",
			"/benchmark/pgbench_results_commit/abc/#/1", "/benchmark/pgbench_results_commit/abc/1/#",
			"/benchmark/pgbench_results_complete/#", "/run/#", "/tpch/details/#", "/tpch/trend/#/1", "/tpch/trends/#/1", "/tpch/runs_commit/#/1/abc",
		} {
			for _, form := range idForms {
				lab.visitor(t).get(t, strings.Replace(pattern, "#", url.PathEscape(form), 1)).refuses(t, http.StatusNotFound)
			}
		}
		for _, form := range idForms {
			owner.post(t, "/machine/edit/"+url.PathEscape(form), `{"description": ""}`).refuses(t, http.StatusNotFound)
		}
	})
}

func TestScaleFactorsThatAreNoDecimalNumberAre404(t *testing.T) {
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		for _, form := range []string{"x", "-1", "+1", "1e3", "0x1", "NaN", "Infinity", "1,5", ".", "1.2.3", "1 "} {
			lab.visitor(t).get(t, "/tpch/trend/1/"+url.PathEscape(form)).refuses(t, http.StatusNotFound, "scale_factor")
			lab.visitor(t).get(t, "/tpch/runs_commit/1/"+url.PathEscape(form)+"/abc").refuses(t, http.StatusNotFound, "scale_factor")
		}
	})
}

func TestUnknownIdsAre404ForOneThingAndEmptyForLists(t *testing.T) {
	covers(t, "GET /run/:run_id", "GET /benchmark/pgbench_results_complete/:pgbench_result_id", "GET /tpch/details/:run_id",
		"GET /benchmark/history/:machine_id", "GET /benchmark/postgres/:machine_id", "POST /machine/edit/:machine_id")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		r := newRun(t, lab)
		for _, id := range []string{"0", "999999999", "9223372036854775807"} {
			for _, path := range []string{"/run/", "/benchmark/pgbench_results_complete/", "/tpch/details/"} {
				lab.visitor(t).get(t, path+id).refuses(t, http.StatusNotFound, id)
			}
			for _, path := range []string{
				"/benchmark/history/" + id, "/benchmark/postgres/" + id, "/benchmark/pgbench_trends/" + id + "/1", "/tpch/trend/" + id + "/10",
				"/benchmark/pgbench_results_commit/abc/" + id + "/1", "/tpch/runs_commit/" + id + "/10/abc",
				r.filled("/benchmark/pgbench_trends/:machine_id/") + id,
			} {
				lab.visitor(t).get(t, path).is(t, http.StatusOK, "[]")
			}
			lab.browser(t, r.machine.Owner).post(t, "/machine/edit/"+id, `{"description": ""}`).refuses(t, http.StatusNotFound)
		}
		lab.visitor(t).get(t, "/tpch/details/"+strconv.FormatUint(r.run, 10)).refuses(t, http.StatusNotFound) // a pgbench run
		lab.visitor(t).get(t, r.filled("/benchmark/pgbench_results_complete/")+strconv.FormatUint(r.run<<10, 10)).refuses(t, http.StatusNotFound)
		lab.visitor(t).get(t, r.filled("/benchmark/pgbench_results_complete/")+strconv.FormatUint(r.run<<10+2, 10)).refuses(t, http.StatusNotFound)
	})
}

func TestUnknownQueryParametersAreIgnored(t *testing.T) {
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		r := newRun(t, lab)
		path := r.filled("/run/:run_id")
		want := lab.visitor(t).get(t, path)
		lab.visitor(t).get(t, path+"/?limit=1&page=2&%zz&a=b;c").is(t, want.Status, string(want.Body))
	})
}

func TestEveryAnswerHasTheHeadersOfTheContract(t *testing.T) {
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		r := newRun(t, lab)
		for _, path := range []string{
			"/benchmark/overview", r.filled("/run/:run_id"), "/run/0", "/run/x", "/machine/user", "/user/community_login", "/user/auth_receive/", "/run/upload",
		} {
			a := lab.visitor(t).get(t, path)
			for name, want := range map[string]string{
				"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin",
				"Access-Control-Allow-Origin": "", "Content-Encoding": "", "Server": "",
			} {
				if got := a.Header.Get(name); got != want {
					t.Errorf("%s: %s is %q, want %q", path, name, got, want)
				}
			}
		}
		for path, want := range map[string]string{
			"/machine/user": "Cookie", r.filled("/benchmark/history/:machine_id"): "Cookie",
			r.filled("/benchmark/pgbench_trends/:machine_id/:benchmark_config_id"): "Cookie", "/benchmark/overview": "", "/machine/list": "",
		} {
			if got := lab.visitor(t).get(t, path).Header.Get("Vary"); got != want {
				t.Errorf("%s: Vary is %q, want %q", path, got, want)
			}
		}
	})
}

func TestTimestampsAreUTCWithMillisecondsUnlessTheyAreZero(t *testing.T) {
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		r := newRun(t, lab)
		form := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z$`)
		row := lab.visitor(t).get(t, r.filled("/run/:run_id")).rows(t)[0]
		for _, key := range []string{"add_time", "machine_id__add_time"} {
			text, _ := row[key].(string)
			at, err := time.Parse(time.RFC3339, text)
			if !form.MatchString(text) || err != nil || strings.HasSuffix(text, ".000Z") {
				t.Errorf("%s is %q, want UTC with three digits of a fraction, or none", key, text)
			}
			if age := time.Since(at); age < -time.Minute || age > time.Hour {
				t.Errorf("%s is %q, want the server's time of the insert", key, text)
			}
		}
		result := lab.visitor(t).get(t, r.filled("/benchmark/pgbench_results_complete/:pgbench_result_id"))
		if !strings.Contains(string(result.Body), `"interval_start":"2021-07-02T11:00:00Z"`) {
			t.Errorf("a whole second is not written without a fraction: %s", result.Body)
		}
	})
}
