package e2e

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/schemas/route"
)

// items are the rows of a page of /millrace/v1.
func (c *caller) items(t testing.TB, path string) (rows []map[string]any, next string) {
	t.Helper()
	var page struct {
		Items    []map[string]any
		Next     *string
		Position string
	}
	answer := c.get(t, "/millrace/v1"+path).Want(t, http.StatusOK)
	answer.JSON(t, &page)
	if page.Items == nil || page.Position == "" {
		t.Fatalf("%s: %.600s has no items or no position", answer.Asked, answer.Body)
	}
	if page.Next != nil {
		next = url.QueryEscape(*page.Next)
	}
	return page.Items, next
}

// column are the values of a member of rows, as text.
func column(rows []map[string]any, key string) []string {
	values := make([]string, len(rows))
	for i, row := range rows {
		values[i] = fmt.Sprint(row[key])
	}
	return values
}

func TestNativeListsShowWhatWasUploaded(t *testing.T) {
	covers(t, "GET /millrace/v1/machines", "GET /millrace/v1/runs", "GET /millrace/v1/runs/:run_id", "GET /millrace/v1/results",
		"GET /millrace/v1/configs", "GET /millrace/v1/branches", "GET /millrace/v1/metrics", "GET /millrace/v1/metrics/names", "GET /millrace/v1/trend",
		"GET /millrace/v1/refused-uploads")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		m := playModel(t, lab, 99, 30)
		operator := lab.operator(t)
		of := fmt.Sprintf("machine=%d", m.machine.ID)
		machines, _ := operator.items(t, "/machines?"+of)
		wantMembers(t, machines[0], map[string]any{"machine_id": m.machine.ID, "alias": m.machine.Alias, "type": "aarch64", "runs": len(m.runs), "approved": true})
		m.wantNativeRuns(t, operator, of)
		branches, _ := operator.items(t, "/branches?"+of)
		configs, _ := operator.items(t, "/configs?"+of)
		if len(branches) == 0 || len(configs) < len(m.configs) {
			t.Errorf("the machine has %d branches and %d configurations", len(branches), len(configs))
		}
		m.wantNativeSeries(t, operator, of, branches)
		m.machine.upload(t, smallDocument(0).body()).Want(t, http.StatusNotAcceptable)
		refused, _ := operator.items(t, "/refused-uploads?"+of)
		wantMembers(t, refused[0], map[string]any{"machine_id": m.machine.ID, "status": 406})
		if reason := fmt.Sprint(refused[0]["reason"]); !strings.Contains(reason, "run_start_time") {
			t.Errorf("the refusal's reason is %q", reason)
		}
	})
}

// wantNativeRuns reads runs and results whole, and runs page by page, which must be the same.
func (m *model) wantNativeRuns(t *testing.T, by *caller, of string) {
	t.Helper()
	all, next := by.items(t, "/runs?limit=1000&sort=start_time&"+of)
	if len(all) != len(m.runs) || next != "" {
		t.Fatalf("%d runs are listed, %d were stored", len(all), len(m.runs))
	}
	results := 0
	for i, p := range m.runs {
		results += len(p.results)
		wantMembers(t, all[i], map[string]any{"run_id": p.id, "commit": p.commit, "branch": p.branch, "official": p.official(), "results": len(p.results)})
	}
	var paged []map[string]any
	for cursor := ""; ; {
		page, next := by.items(t, "/runs?limit=7&sort=start_time&fields=run_id&"+of+cursor)
		paged = append(paged, page...)
		if next == "" {
			break
		}
		cursor = "&cursor=" + next
	}
	if !slices.Equal(column(paged, "run_id"), column(all, "run_id")) {
		t.Errorf("page by page the runs are %v, at once %v", column(paged, "run_id"), column(all, "run_id"))
	}
	listed, _ := by.items(t, "/results?limit=1000&"+of)
	if len(listed) != results {
		t.Errorf("%d results are listed, %d were stored", len(listed), results)
	}
	var one struct {
		Run     map[string]any
		Results []map[string]any
	}
	by.get(t, fmt.Sprintf("/millrace/v1/runs/%d", m.runs[0].id)).Want(t, http.StatusOK).JSON(t, &one)
	if len(one.Results) != len(m.runs[0].results) {
		t.Errorf("run %d has the results %v", m.runs[0].id, one.Results)
	}
	wantMembers(t, one.Run, map[string]any{"run_id": m.runs[0].id, "commit": m.runs[0].commit})
}

// wantNativeSeries compares the samples of a metric with what was uploaded, and the trend with the samples.
func (m *model) wantNativeSeries(t *testing.T, by *caller, of string, branches []map[string]any) {
	t.Helper()
	checked := 0
	for config, configID := range m.configs {
		for _, branch := range branches {
			var want []string
			for _, p := range m.runs {
				for _, r := range p.results {
					if r.config == config && !r.custom && p.branch == branch["branch"] && p.remote == branch["repository"] {
						want = append(want, fmt.Sprint(r.tps))
					}
				}
			}
			series := fmt.Sprintf("%s&config=%d&branch=%v&metric=tps", of, configID, branch["branch_id"])
			samples, _ := by.items(t, "/metrics?limit=1000&"+series)
			got := column(samples, "value")
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("the samples of %s are %v, want %v", series, got, want)
			}
			points, _ := by.items(t, "/trend?resolution=raw&"+series)
			if len(points) != len(samples) {
				t.Errorf("the trend of %s has %d points for %d samples", series, len(points), len(samples))
			}
			checked += len(samples)
		}
	}
	names, _ := by.items(t, "/metrics/names?limit=1000&prefix=tps&"+of)
	counted := 0.0
	for _, series := range names {
		counted += series["samples"].(float64)
	}
	if checked == 0 || counted != float64(checked) {
		t.Errorf("the series have %v samples, %d were compared", counted, checked)
	}
}

func TestSamplesOfARunAreReadBackAndARepeatCountsOnce(t *testing.T) {
	covers(t, "POST /millrace/v1/runs/:run_id/samples", "GET /millrace/v1/metrics")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		r := newRun(t, lab)
		writer := lab.visitor(t).with("Authorization", "Bearer "+lab.Token(t, "writer"))
		path := fmt.Sprintf("/millrace/v1/runs/%d/samples", r.run)
		body := `{"metric": "room.temperature", "points": [[1625223601, 21.5], [1625223600.25, 20]]}`
		for range 2 {
			writer.keyed("samples").post(t, path, body).is(t, http.StatusCreated, `{"points":2}`)
		}
		names, _ := lab.operator(t).items(t, fmt.Sprintf("/metrics/names?machine=%d&prefix=room", r.machine.ID))
		if len(names) != 1 {
			t.Fatalf("the series are %v, want one", names)
		}
		series := fmt.Sprintf("machine=%v&config=%v&branch=%v&metric=room.temperature", names[0]["machine_id"], names[0]["config_id"], names[0]["branch_id"])
		samples, _ := lab.operator(t).items(t, "/metrics?"+series)
		if got := column(samples, "value"); !slices.Equal(got, []string{"20", "21.5"}) {
			t.Errorf("the samples are %v, want both, once, in the order of their times", got)
		}
		for _, bad := range []string{
			"", "{}", `{"metric": "x", "points": []}`, `{"metric": "", "points": [[1, 1]]}`, `{"metric": "x", "points": [[1625223600]]}`,
			`{"metric": "x", "points": [[1625223600000, 1]]}`, `{"metric": "x", "points": [[1625223600, 1e200]]}`, `{"metric": "x", "points": [[1625223600, null]]}`,
			`{"metric": "x", "points": [[1625223600, 1]], "more": 1}`,
		} {
			writer.post(t, path, bad).refuses(t, http.StatusBadRequest)
		}
		for _, unknown := range []string{"/millrace/v1/runs/0/samples", "/millrace/v1/runs/999999999/samples", "/millrace/v1/runs/x/samples"} {
			writer.post(t, unknown, body).refuses(t, http.StatusNotFound)
		}
	})
}

func TestErasedUserIsShownAsErasedEverywhereAndAfterARebuild(t *testing.T) {
	covers(t, "POST /millrace/v1/admin/users/erase", "POST /millrace/v1/admin/replay", "GET /machine/list", "GET /benchmark/history/:machine_id")
	lab := start(t, "standalone")
	m := lab.newMachine(t)
	m.store(t, smallDocument(0))
	owner := lab.browser(t, m.Owner)
	lab.operate(t, "/users/erase", map[string]any{"name": m.Owner})
	shown := func() {
		t.Helper()
		for _, path := range []string{"/machine/list", fmt.Sprintf("/benchmark/history/%d", m.ID), "/benchmark/machines"} {
			body := string(lab.visitor(t).get(t, path).Want(t, http.StatusOK).Body)
			if strings.Contains(body, m.Owner) || !strings.Contains(body, `"erased"`) {
				t.Errorf("%s shows %s", path, body)
			}
		}
	}
	shown()
	owner.get(t, "/machine/user").Want(t, http.StatusFound) // the sessions are gone too
	progress := string(lab.operator(t).do(t, http.MethodPost, "/millrace/v1/admin/replay", nil).Want(t, http.StatusOK).Body)
	if lines := strings.Split(strings.TrimSpace(progress), "\n"); !strings.Contains(lines[len(lines)-1], `"report"`) {
		t.Errorf("the replay ends with %s, want its report", lines[len(lines)-1])
	}
	shown()
	m.store(t, smallDocument(1)) // the machine goes on
}

func TestBackupIsAnArchiveThatHoldsTheInstallation(t *testing.T) {
	covers(t, "POST /millrace/v1/admin/backup")
	lab := start(t, "standalone")
	newRun(t, lab)
	answer := lab.operator(t).do(t, http.MethodPost, "/millrace/v1/admin/backup", nil).Want(t, http.StatusOK)
	packed, err := gzip.NewReader(bytes.NewReader(answer.Body))
	if err != nil {
		t.Fatal(err)
	}
	if content, err := io.ReadAll(packed); err != nil || len(content) == 0 {
		t.Errorf("the backup holds %d bytes: %v", len(content), err)
	}
}

func TestHealthReadinessAndMeasurementsAreServed(t *testing.T) {
	covers(t, "GET /healthz", "GET /readyz", "GET /metrics")
	lab := start(t, "standalone")
	newRun(t, lab)
	lab.visitor(t).get(t, "/machine/list").Want(t, http.StatusOK)
	lab.visitor(t).get(t, "/healthz").is(t, http.StatusOK, `{"status":"ok"}`)
	lab.visitor(t).get(t, "/readyz").is(t, http.StatusOK, `{"status":"ready"}`)
	measured := string(lab.visitor(t).get(t, "/metrics").Want(t, http.StatusOK).Body)
	for _, name := range []string{"millrace_", "go_goroutines", `route="/machine/list"`} {
		if !strings.Contains(measured, name) {
			t.Errorf("the measurements have no %s", name)
		}
	}
}

// outside matches what a page would load from, or lead a form to, another host.
var outside = regexp.MustCompile(`(?:src|action)="(?:https?:)?//|<link[^>]+href="(?:https?:)?//|url\((?:https?:)?//`)

func TestPagesAreServedWithEverythingTheyNeedFromHere(t *testing.T) {
	covers(t, "GET /", "GET /ui", "GET /ui/machines/:id", "GET /ui/trend", "GET /ui/trend/runs", "GET /ui/runs/:id", "GET /ui/dead-letters",
		"GET /ui/dead-letters/:id", "GET /docs", "GET /ui/assets/:version/:name")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		r := newRun(t, lab)
		operator := lab.operator(t)
		if to := lab.visitor(t).get(t, "/").location(t).String(); to != "/ui" {
			t.Errorf("/ leads to %q", to)
		}
		series := fmt.Sprintf("machine=%d&config=%d&branch=1&metric=tps", r.machine.ID, r.config)
		for _, path := range []string{
			"/ui", fmt.Sprintf("/ui/machines/%d", r.machine.ID), "/ui/trend", "/ui/trend?" + series, fmt.Sprintf("/ui/runs/%d", r.run), "/ui/dead-letters", "/docs",
		} {
			page := operator.get(t, path).Want(t, http.StatusOK)
			if kind := page.Header.Get("Content-Type"); !strings.HasPrefix(kind, "text/html") || outside.Match(page.Body) {
				t.Errorf("%s is %s, or loads something from elsewhere: %s", path, kind, outside.Find(page.Body))
			}
			policy := page.Header.Get("Content-Security-Policy")
			if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") {
				t.Errorf("%s has the content security policy %q", path, policy)
			}
			for _, asset := range regexp.MustCompile(`(?:src|href)="(/ui/assets/[^"]+)"`).FindAllSubmatch(page.Body, -1) {
				lab.visitor(t).with("X-Forwarded-For", "203.0.113.9").get(t, string(asset[1])).Want(t, http.StatusOK)
			}
		}
		for path, status := range map[string]int{
			"/ui/machines/999999999": 404, "/ui/machines/x": 404, "/ui/runs/999999999": 404, "/ui/dead-letters/x": 404,
			"/ui/dead-letters/0198c0de-0000-7000-8000-000000000000": 404, "/ui/trend?machine=x": 400, "/ui/trend/runs?machine=x": 400, "/ui/assets/x/y": 404,
		} {
			if got := operator.get(t, path).Status; got != status {
				t.Errorf("%s: status %d, want %d", path, got, status)
			}
		}
	})
}

func TestTokenIsKeptInTheBrowserUntilItSignsOut(t *testing.T) {
	covers(t, "GET /ui/sign-in", "POST /ui/sign-in", "POST /ui/sign-out", "GET /ui/dead-letters")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		visitor := lab.visitor(t)
		visitor.get(t, "/ui/dead-letters").says(t, http.StatusUnauthorized, "token")
		visitor.get(t, "/ui/sign-in?next=%2Fui%2Fjobs").says(t, http.StatusOK, `name="next" value="/ui/jobs"`)
		form := visitor.with("Content-Type", "application/x-www-form-urlencoded")
		token := lab.Token(t, route.Operator.String())
		signedIn := form.do(t, http.MethodPost, "/ui/sign-in", []byte("token="+token+"&next="+url.QueryEscape("//evil.example"))).Want(t, http.StatusSeeOther)
		if to := signedIn.Header.Get("Location"); to != "/ui" {
			t.Errorf("the sign-in leads to %q", to)
		}
		var cookie *http.Cookie
		for _, set := range signedIn.cookies() {
			cookie = set
		}
		if cookie == nil || !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || strings.Contains(cookie.Value, token) {
			t.Fatalf("the cookie is %v, want it HttpOnly, SameSite=Strict, and the token not in clear", cookie)
		}
		browser := visitor.with("Cookie", cookie.Name+"="+cookie.Value)
		browser.get(t, "/ui/dead-letters").Want(t, http.StatusOK)
		browser.get(t, "/millrace/v1/dead-letters").Want(t, http.StatusUnauthorized) // the cookie is for the pages only
		form.with("Sec-Fetch-Site", "cross-site").do(t, http.MethodPost, "/ui/sign-in", []byte("token="+token)).Want(t, http.StatusForbidden)
		out := browser.do(t, http.MethodPost, "/ui/sign-out", nil).Want(t, http.StatusSeeOther)
		if set := out.cookies()[cookie.Name]; set == nil || set.MaxAge >= 0 {
			t.Errorf("the sign-out sets the cookie to %v, want it deleted", set)
		}
	})
}
