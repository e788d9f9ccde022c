package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// debciUser is the caller with a new key of a debci user.
func (l *Lab) debciUser(t testing.TB, name string) *caller {
	t.Helper()
	var added struct{ Key string }
	l.Admin(t, &added, "admin", "debci", "key", "add", name)
	if added.Key == "" {
		t.Fatal("key add printed no key")
	}
	return l.visitor(t).with("Auth-Key", added.Key)
}

// form posts fields, names and values in turn.
func (c *caller) form(t testing.TB, path string, fields ...string) Answer {
	t.Helper()
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	return c.with("Content-Type", "application/x-www-form-urlencoded").do(t, http.MethodPost, path, []byte(form.Encode()))
}

// file posts one field as a file.
func (c *caller) file(t testing.TB, path, name, content string) Answer {
	t.Helper()
	var body bytes.Buffer
	parts := multipart.NewWriter(&body)
	part, err := parts.CreateFormFile(name, name+".json")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(part, content)
	if err := parts.Close(); err != nil {
		t.Fatal(err)
	}
	return c.with("Content-Type", parts.FormDataContentType()).do(t, http.MethodPost, path, body.Bytes())
}

// runs wants an empty 201 and gives the first run that was made.
func (a Answer) runs(t testing.TB) uint64 {
	t.Helper()
	a.is(t, http.StatusCreated, "")
	first, _, _ := strings.Cut(a.Header.Get("Millrace-Runs"), "-")
	run, err := strconv.ParseUint(first, 10, 64)
	if err != nil {
		t.Fatalf("%s: Millrace-Runs is %q", a.Asked, a.Header.Get("Millrace-Runs"))
	}
	return run
}

// debciList is an answer to GET /api/v1/test.
type debciList struct {
	Until   int64
	Results []debciResult
}

type debciResult struct {
	RunID      uint64 `json:"run_id"`
	Package    string
	Suite      string
	Arch       string
	Trigger    *string
	Status     *string
	Version    *string
	Private    bool   `json:"is_private"`
	UpdatedAt  string `json:"updated_at"`
	CreatedAt  string `json:"created_at"`
	AptSources []string
}

func (c *caller) results(t testing.TB, query string) debciList {
	t.Helper()
	var list debciList
	c.get(t, "/api/v1/test"+query).Want(t, http.StatusOK).JSON(t, &list)
	return list
}

// finish works on a test as a worker does, and gives what it was handed.
func (l *Lab) finish(t testing.TB, run uint64, result string) map[string]any {
	t.Helper()
	writer := l.visitor(t).with("Authorization", "Bearer "+l.Token(t, "writer"))
	id := fmt.Sprintf("debci-%d", run)
	var job struct {
		ID, Queue string
		Payload   map[string]any
		Lease     struct{ Token string }
	}
	writer.post(t, "/millrace/v1/jobs/claim", fmt.Sprintf(`{"id": %q}`, id)).Want(t, http.StatusOK).JSON(t, &job)
	if want := fmt.Sprintf("debci/%s/%s", job.Payload["suite"], job.Payload["arch"]); job.ID != id || job.Queue != want {
		t.Errorf("the job is %s of queue %s, want %s of %s", job.ID, job.Queue, id, want)
	}
	writer.with("Millrace-Lease", job.Lease.Token).post(t, "/millrace/v1/jobs/"+id+"/result", result).Want(t, http.StatusOK)
	return job.Payload
}

// untilRefused asks until every replica may have heard that a key is gone: each reads the log by itself, so that one may be
// a moment behind the one that took the revocation.
func (c *caller) untilRefused(t testing.TB, path string) Answer {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		if answer := c.get(t, path); answer.Status == http.StatusForbidden || time.Now().After(deadline) {
			return answer
		}
	}
}

func TestDebciKeysWorkUntilTheyAreRevoked(t *testing.T) {
	covers(t, "GET /api/v1/auth", "POST /millrace/v1/admin/debci/keys", "POST /millrace/v1/admin/debci/keys/revoke")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		name := Unique("jane")
		first, second := lab.debciUser(t, name), lab.debciUser(t, name)
		chosen := Unique("key")
		lab.operate(t, "/debci/keys", map[string]any{"user": name, "key": chosen}).Want(t, http.StatusCreated)
		own := lab.visitor(t).with("Auth-Key", chosen)
		for _, c := range []*caller{first, second, own} {
			answer := c.get(t, "/api/v1/auth")
			if answer.is(t, http.StatusOK, ""); answer.Header.Get("Auth-User") != name {
				t.Errorf("Auth-User is %q, want %s", answer.Header.Get("Auth-User"), name)
			}
		}
		lab.operate(t, "/debci/keys/revoke", map[string]any{"user": name, "key": chosen})
		own.untilRefused(t, "/api/v1/auth").is(t, http.StatusForbidden, "Invalid key\n")
		first.get(t, "/api/v1/auth").is(t, http.StatusOK, "")
		lab.Admin(t, nil, "admin", "debci", "key", "revoke", name, "--all")
		for _, c := range []*caller{first, second, own, lab.visitor(t)} {
			answer := c.untilRefused(t, "/api/v1/auth")
			if answer.is(t, http.StatusForbidden, "Invalid key\n"); answer.Header.Get("Content-Type") != "text/html;charset=utf-8" {
				t.Errorf("Content-Type %q", answer.Header.Get("Content-Type"))
			}
		}
		lab.RefusedAdmin(t, "admin", "debci", "key", "revoke", Unique("nobody"), "--all")
	})
}

func TestDebciTestsAreAskedForRunAndReported(t *testing.T) {
	covers(t, "POST /api/v1/test/:suite/:arch", "POST /api/v1/test/:suite/:arch/:package", "GET /api/v1/test", "GET /api/v1/job_state/:run_id")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		name := Unique("jane")
		jane := lab.debciUser(t, name)
		if list := jane.results(t, ""); list.Until != 0 || list.Results == nil || len(list.Results) != 0 {
			t.Errorf("before the first test the list is %+v", list)
		}
		first := jane.file(t, "/api/v1/test/testing/amd64", "tests", `[
			{"package": "debci", "trigger": "ruby/X.Y more/1", "pin-packages": [["src:ruby-defaults,src:b", "unstable"]]},
			{"package": "libstdc++-x", "is_private": true}, {"package": "dash"}, {"package": "zsh"}, {"package": "bash"}]`).runs(t)
		shortcut := jane.form(t, "/api/v1/test/unstable/arm64/vim").runs(t)
		pending := jane.get(t, "/api/v1/test").Want(t, http.StatusOK)
		compareGolden(t, "debci/pending", debciGolden(t, pending, name, first))
		state := fmt.Sprintf("/api/v1/job_state/%d", first)
		lab.visitor(t).get(t, state).is(t, http.StatusOK, `{"state":"pending"}`)
		payload := lab.finish(t, first, `{"status": "pass", "version": "1.2-3", "message": "fine", "duration_seconds": 61}`)
		wantMembers(t, payload, map[string]any{"package": "debci", "suite": "testing", "arch": "amd64", "trigger": "ruby/X.Y more/1"})
		lab.finish(t, first+1, `{"status": "fail", "version": "1"}`)
		lab.finish(t, first+2, `{"status": "neutral"}`)
		lab.finish(t, first+3, `{"status": "tmpfail", "message": "the testbed broke"}`)
		lab.visitor(t).get(t, state).is(t, http.StatusOK, `{"state":"completed"}`)
		finished := jane.get(t, "/api/v1/test?since=0").Want(t, http.StatusOK)
		compareGolden(t, "debci/finished", debciGolden(t, finished, name, first))
		lab.debciUser(t, name).get(t, "/api/v1/test").is(t, http.StatusOK, string(finished.Body)) // another key of the same user
		if list := lab.debciUser(t, Unique("joe")).results(t, ""); len(list.Results) != 0 {
			t.Errorf("another user sees %+v", list.Results)
		}
		wantSince(t, jane, shortcut)
	})
}

// wantSince wants that until is the newest creation, given back shows what changed since, and later times nothing.
func wantSince(t *testing.T, jane *caller, newest uint64) {
	t.Helper()
	all := jane.results(t, "")
	var last int64
	for i, r := range all.Results {
		created, err := time.Parse("2006-01-02T15:04:05.000Z", r.CreatedAt)
		if err != nil {
			t.Fatal(err)
		}
		if last = max(last, created.Unix()); i > 0 && all.Results[i-1].UpdatedAt > r.UpdatedAt {
			t.Errorf("%s stands before %s", all.Results[i-1].UpdatedAt, r.UpdatedAt)
		}
	}
	if all.Until != last {
		t.Errorf("until is %d, the newest creation %d", all.Until, last)
	}
	again, seen := jane.results(t, fmt.Sprintf("?since=%d", all.Until)), false
	for _, r := range again.Results {
		seen = seen || r.RunID == newest
	}
	if !seen {
		t.Errorf("since %d does not show the newest test: %+v", all.Until, again)
	}
	jane.get(t, fmt.Sprintf("/api/v1/test?since=%d", all.Until+1000)).is(t, http.StatusOK, `{"until":0,"results":[]}`)
	for _, since := range []string{"1.5", "1e3", "1;2", "-1", "x", "+1", "99999999999999999999"} {
		jane.get(t, "/api/v1/test?since="+url.QueryEscape(since)).says(t, http.StatusBadRequest, "since")
	}
}

// debciGolden is a list with what differs from run to run named.
func debciGolden(t *testing.T, a Answer, user string, first uint64) string {
	t.Helper()
	body := strings.ReplaceAll(string(a.Body), strconv.Quote(user), `"USER"`)
	body = timestampForm.ReplaceAllString(body, `"TIME"`)
	var list struct {
		Until   int64            `json:"until"`
		Results []map[string]any `json:"results"`
	}
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatal(err)
	}
	if age := time.Since(time.Unix(list.Until, 0)); age < -time.Minute || age > 10*time.Minute {
		t.Errorf("until is %d, %s ago", list.Until, age)
	}
	for _, r := range list.Results {
		r["run_id"] = r["run_id"].(float64) - float64(first) + 1
	}
	named, err := json.Marshal(list.Results)
	if err != nil {
		t.Fatal(err)
	}
	return string(named)
}

func TestDebciRefusesAWholeRequestAndSaysWhy(t *testing.T) {
	covers(t, "POST /api/v1/test/batch")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		jane := lab.debciUser(t, Unique("jane"))
		const path, good = "/api/v1/test/testing/amd64", `[{"package": "bash"}]`
		jane.form(t, "/api/v1/test/sid/vax", "tests", good).is(t, 400, "Invalid architecture: vax\n")
		jane.form(t, "/api/v1/test/sid/amd64", "tests", good).is(t, 400, "Invalid suite: sid\n")
		jane.form(t, path, "tests", good, "priority", "11").is(t, 400, "Invalid priority: 11\n")
		jane.form(t, path).is(t, 400, "Error: No tests\n")
		jane.form(t, path, "tests", "{").says(t, 400, "Invalid JSON: ")
		jane.form(t, path, "tests", "{}").says(t, 400, "array")
		jane.form(t, path, "tests", `[{"package": "bash"}, {"package": "B"}, {"package": "c"}]`).is(t, 400, "Invalid request: Invalid package name: B\nInvalid package name: c\n")
		jane.form(t, path, "tests", "[{\"package\": \"bash\", \"trigger\": \"\xff\"}]").says(t, 400, "Invalid JSON: ")
		jane.form(t, path, "tests", `[{"package": "bash", "trigger": "\ud800"}]`).says(t, 400, "Invalid JSON: ")
		jane.form(t, path, "tests", `[{"package": "bash", "trigger": 5}]`).says(t, 400, "trigger")
		jane.form(t, path+"/B").is(t, 400, "Invalid package name: B\n")
		jane.post(t, path, good).is(t, 400, "Error: No tests\n")
		batch := `[{"suite": "testing", "arch": ["amd64", "arm64"], "tests": [{"package": "bash"}]}, {"suite": "unstable", "arch": ["arm64"], "tests": [{"package": "%s"}]}]`
		jane.form(t, "/api/v1/test/batch", "tests", fmt.Sprintf(batch, "B")).is(t, 400, "Error: Invalid package name: B\n")
		jane.form(t, "/api/v1/test/batch", "tests", "{}").says(t, 400, "Error: ")
		jane.form(t, "/api/v1/test/batch", "tests", "[]").is(t, http.StatusCreated, "")
		for _, path := range []string{path, path + "/bash", "/api/v1/test/batch", "/api/v1/test/publish", "/api/v1/retry/1", "/api/v1/test/sid/vax"} {
			lab.visitor(t).form(t, path, "tests", "[]").is(t, http.StatusForbidden, "Invalid key\n")
		}
		if list := jane.results(t, ""); len(list.Results) != 0 {
			t.Errorf("refused requests made %+v", list.Results)
		}
		jane.form(t, "/api/v1/test/batch", "tests", fmt.Sprintf(batch, "dash")).is(t, http.StatusCreated, "")
		var places []string
		for _, r := range jane.results(t, "").Results {
			places = append(places, r.Package+" "+r.Suite+" "+r.Arch)
		}
		if got := strings.Join(places, ", "); got != "bash testing amd64, bash testing arm64, dash unstable arm64" {
			t.Errorf("the batch made %s", got)
		}
	})
}

func TestDebciPrivateTestsAreTheirOwnersUntilPublished(t *testing.T) {
	covers(t, "POST /api/v1/test/publish", "POST /api/v1/retry/:run_id", "GET /api/v1/retry/:run_id")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		jane, joe := lab.debciUser(t, Unique("jane")), lab.debciUser(t, Unique("joe"))
		run := jane.form(t, "/api/v1/test/testing/amd64", "tests", `[{"package": "bash", "trigger": "x/1", "is_private": true}]`).runs(t)
		retry := fmt.Sprintf("/api/v1/retry/%d", run)
		joe.form(t, retry).Want(t, http.StatusForbidden)
		joe.form(t, "/api/v1/test/publish", "run_ids", strconv.FormatUint(run, 10)).is(t, http.StatusOK, "")
		joe.form(t, retry).Want(t, http.StatusForbidden)
		jane.form(t, retry).is(t, http.StatusOK, "")
		if list := jane.results(t, ""); len(list.Results) != 2 || !list.Results[0].Private || !list.Results[1].Private {
			t.Fatalf("the private tests are %+v", list)
		}
		jane.form(t, "/api/v1/test/publish", "run_ids", fmt.Sprintf(" %d , 0, x, %d", run, run+1_000_000)).is(t, http.StatusOK, "")
		joe.form(t, retry).is(t, http.StatusOK, "")
		list := jane.results(t, "")
		var private []bool
		for _, r := range list.Results {
			if r.Package != "bash" || r.Trigger == nil || *r.Trigger != "x/1" {
				t.Errorf("a retry made %+v", r)
			}
			private = append(private, r.Private)
		}
		// The published one changed after the first retry, which stays private; the second retry is the newest.
		if len(list.Results) != 3 || fmt.Sprint(private) != "[true false false]" || list.Results[1].RunID != run {
			t.Errorf("the tests are %+v", list.Results)
		}
		if list := joe.results(t, ""); len(list.Results) != 0 {
			t.Errorf("a retry by another user is that user's: %+v", list.Results)
		}
		jane.form(t, "/api/v1/retry/1abc").is(t, http.StatusBadRequest, "Job ID not known: 1abc\n")
		jane.form(t, "/api/v1/retry/999999999").is(t, http.StatusBadRequest, "Job ID not known: 999999999\n")
		page := lab.visitor(t).get(t, retry).location(t)
		lab.visitor(t).get(t, page.String()).says(t, http.StatusOK, retry)
	})
}

func TestDebciRejectListAndExtraSources(t *testing.T) {
	covers(t, "GET /api/v1/reject_list")
	list := filepath.Join(t.TempDir(), "reject_list")
	if err := os.WriteFile(list, []byte("# It burns.\nbad\nworse-* testing amd64\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	settings := filepath.Join(t.TempDir(), "millrace.yaml")
	if err := os.WriteFile(settings, []byte(`
debci:
  suites: [testing]
  architectures: [amd64]
  backends: [lxc]
  reject_list: `+list+`
  apt_sources:
    open: {entry: "deb http://o x"}
    closed: {entry: "deb http://c x", allowed_users: [joe]}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	lab := startWith(t, "MILLRACE_CONFIG="+settings)
	jane, joe := lab.debciUser(t, "jane"), lab.debciUser(t, "joe")
	jane.get(t, "/api/v1/reject_list").is(t, http.StatusOK,
		`{"bad":{"*":{"*":{"*":"It burns."}}},"worse-*":{"testing":{"amd64":{"*":""}}}}`)
	lab.visitor(t).get(t, "/api/v1/reject_list").is(t, http.StatusForbidden, "Invalid key\n")
	jane.form(t, "/api/v1/test/unstable/amd64/bash").is(t, 400, "Invalid suite: unstable\n")
	jane.form(t, "/api/v1/test/testing/amd64/worse-x").is(t, 400, "Package: worse-x is in the reject list\n")
	jane.form(t, "/api/v1/test/testing/amd64/bash", "extra_apt_sources", `["closed"]`).is(t, 400, "Invalid extra apt sources: closed\n")
	jane.form(t, "/api/v1/test/testing/amd64", "tests", `[{"package": "bash", "backend": "qemu"}]`).is(t, 400, "Invalid request: Invalid backend: qemu\n")
	run := jane.form(t, "/api/v1/test/testing/amd64", "tests",
		`[{"package": "bad", "extra-apt-sources": ["open"]}, {"package": "bash", "backend": "lxc", "extra-apt-sources": ["open"]}]`).runs(t)
	compareGolden(t, "debci/rejected", debciGolden(t, jane.get(t, "/api/v1/test"), "jane", run))
	jane.form(t, fmt.Sprintf("/api/v1/retry/%d", run)).is(t, http.StatusForbidden, "Package bad is in the REJECT list and cannot be retried\n")
	lab.visitor(t).get(t, fmt.Sprintf("/api/v1/job_state/%d", run)).is(t, http.StatusOK, `{"state":"completed"}`)
	writer := lab.visitor(t).with("Authorization", "Bearer "+lab.Token(t, "writer"))
	var job struct {
		ID      string
		Payload json.RawMessage
	}
	writer.post(t, "/millrace/v1/jobs/claim", `{"queues": ["debci/testing/amd64"]}`).Want(t, http.StatusOK).JSON(t, &job)
	if want := fmt.Sprintf("debci-%d", run+1); job.ID != want || !strings.Contains(string(job.Payload), `"entry":"deb http://o x"`) {
		t.Errorf("the worker gets %+v, want %s", job, want)
	}
	joe.form(t, "/api/v1/test/testing/amd64/bash", "extra_apt_sources", `["closed", "open"]`).is(t, http.StatusCreated, "")
}

func TestDebciListIsTheSameAfterACrashAndARebuild(t *testing.T) {
	lab := start(t, "standalone")
	jane := lab.debciUser(t, "jane")
	run := jane.form(t, "/api/v1/test/batch", "tests", `[{"suite": "unstable", "arch": ["amd64", "arm64"],
		"tests": [{"package": "bash", "trigger": "é/1", "is_private": true}, {"package": "dash"}]}]`).runs(t)
	lab.finish(t, run, `{"status": "pass", "version": "1"}`)
	jane.form(t, "/api/v1/test/publish", "run_ids", strconv.FormatUint(run+2, 10)).is(t, http.StatusOK, "")
	jane.form(t, fmt.Sprintf("/api/v1/retry/%d", run)).is(t, http.StatusOK, "")
	before := string(jane.get(t, "/api/v1/test").Want(t, http.StatusOK).Body)
	lab.Crash(t)
	lab.Settle(t)
	jane.get(t, "/api/v1/test").is(t, http.StatusOK, before)
	lab.Admin(t, nil, "replay")
	jane.get(t, "/api/v1/test").is(t, http.StatusOK, before)
	if next := jane.form(t, "/api/v1/test/unstable/amd64/zsh").runs(t); next != run+5 {
		t.Errorf("the next test is %d, want %d", next, run+5)
	}
}

func TestDebciPagesAndUnknownPaths(t *testing.T) {
	covers(t, "GET /api", "GET /api/doc")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		jane := lab.debciUser(t, Unique("jane"))
		for _, path := range []string{"/api", "/api/"} {
			if to := lab.visitor(t).get(t, path).location(t); to.Path != "/api/doc" {
				t.Errorf("%s leads to %s", path, to)
			}
		}
		page := lab.visitor(t).get(t, "/api/doc")
		if page.says(t, http.StatusOK, "Auth-Key", "<code>testing</code>"); !strings.HasPrefix(page.Header.Get("Content-Type"), "text/html") {
			t.Errorf("Content-Type %q", page.Header.Get("Content-Type"))
		}
		for _, path := range []string{"/api/v1/nothing", "/api/v1/auth/", "/api/v1/auth/x", "/api/v1/test/testing/amd64", "/api/v1/getkey"} {
			jane.get(t, path).refuses(t, http.StatusNotFound)
		}
		jane.form(t, "/api/v1/auth").refuses(t, http.StatusNotFound)
		for _, run := range []string{"999999999", "x", "0"} {
			lab.visitor(t).get(t, "/api/v1/job_state/"+run).refuses(t, http.StatusBadRequest, run)
		}
	})
}

func TestDebciTakesAsManyTestsAsTheMigrationToolSends(t *testing.T) {
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		jane := lab.debciUser(t, Unique("britney"))
		items := make([]string, 5000)
		for i := range items {
			items[i] = fmt.Sprintf(`{"package": "pkg-%d", "trigger": "src-%d/1.2", "pin-packages": [["src:a%d,src:b%d", "unstable"]]}`, i, i, i, i)
		}
		jane.file(t, "/api/v1/test/testing/amd64", "tests", "["+strings.Join(items, ",")+"]").is(t, http.StatusCreated, "")
		list := jane.results(t, "")
		if len(list.Results) != len(items) {
			t.Fatalf("%d results for %d tests", len(list.Results), len(items))
		}
		if last := list.Results[4999]; last.Package != "pkg-4999" || *last.Trigger != "src-4999/1.2" || last.Status != nil {
			t.Errorf("the last is %+v", last)
		}
	})
}
