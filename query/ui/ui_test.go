package ui_test

import (
	"bytes"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	nethtml "golang.org/x/net/html"

	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/pgperffarm/farmdoc"
	"github.com/millrace/millrace/query/download"
	"github.com/millrace/millrace/query/native"
	"github.com/millrace/millrace/query/native/artifacts"
	"github.com/millrace/millrace/query/native/labtest"
	"github.com/millrace/millrace/query/ui"
	"github.com/millrace/millrace/schemas/blob"
	documents "github.com/millrace/millrace/schemas/document"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/route"
)

// tokens is who may do what: reads are open unless they are closed, and two tokens are known.
type tokens struct{ closed bool }

func (k tokens) authorize(c *gin.Context, wanted route.Access) (any, error) {
	token, given := strings.CutPrefix(c.GetHeader("Authorization"), "Bearer ")
	caller, known := map[string]route.Caller{"viewer-token": route.Viewer, "operator-token": route.Operator}[token]
	switch {
	case wanted == route.Anyone:
		return nil, nil
	case !given && !k.closed && wanted.Allows(route.Local):
		return nil, nil
	case !given:
		return nil, route.Errorf(http.StatusUnauthorized, "this wants a token")
	case !known:
		return nil, route.Errorf(http.StatusUnauthorized, "the token is not known, or was revoked")
	case !wanted.Allows(caller):
		return nil, route.Errorf(http.StatusForbidden, "the token has the role %s", caller)
	}
	return access.Bearer{Name: token, Role: map[route.Caller]event.Role{route.Viewer: event.Role_ROLE_VIEWER, route.Operator: event.Role_ROLE_OPERATOR}[caller]}, nil
}

type site struct {
	*testing.T

	handler http.Handler
}

func serve(t *testing.T, l *labtest.Lab, k tokens) site {
	t.Helper()
	return serveAt(t, l, k, time.Now)
}

// fill gives the pages what they read: a lab, and a store with the content of one file.
func fill(t *testing.T, config *ui.Config, l *labtest.Lab) {
	t.Helper()
	blobs, err := blob.Open(t.Context(), "mem://")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = blobs.Close() })
	if _, err := blobs.PutBytes(t.Context(), []byte(coreDump)); err != nil {
		t.Fatal(err)
	}
	packer, err := documents.NewPacker(blobs, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	config.Answers, config.Reader, config.Packer = l.Answers, l.Reader, packer
	config.Artifacts = artifacts.New(artifacts.Config{DB: l.DB, Gate: l.Answers.Gate, Sender: &download.Sender{Blobs: blobs, Logger: slog.New(slog.DiscardHandler)}})
}

func serveAt(t *testing.T, l *labtest.Lab, k tokens, now func() time.Time) site {
	t.Helper()
	config := ui.Config{Now: now, Authorize: k.authorize, Secure: func(*http.Request) bool { return false }}
	if l != nil {
		fill(t, &config, l)
	}
	u, err := ui.New(config)
	if err != nil {
		t.Fatal(err)
	}
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	described := native.New(native.Config{Describe: func() ([]byte, error) { return route.OpenAPI("Millrace", "test", u.Routes()) }})
	err = route.Mount(engine, append(u.Routes(), described.Routes()...), route.Options{
		APIs: map[string]route.API{ui.API: u.API(), native.API: {Authorize: k.authorize}}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return site{t, engine}
}

func (s site) do(r *http.Request) *httptest.ResponseRecorder {
	answer := httptest.NewRecorder()
	s.handler.ServeHTTP(answer, r)
	return answer
}

func (s site) get(path string, cookies ...*http.Cookie) *httptest.ResponseRecorder {
	s.Helper()
	request := httptest.NewRequestWithContext(s.Context(), http.MethodGet, path, nil)
	for _, cookie := range cookies {
		request.AddCookie(cookie)
	}
	return s.do(request)
}

// page gives the text of a page that must be there.
func (s site) page(path string) string {
	s.Helper()
	answer := s.get(path)
	if answer.Code != http.StatusOK {
		s.Fatalf("GET %s: %d %s", path, answer.Code, answer.Body)
	}
	return answer.Body.String()
}

// shows checks that a page holds some texts, as a reader sees them.
func (s site) shows(path string, texts ...string) {
	s.Helper()
	seen := visible(s.page(path))
	for _, text := range texts {
		if !strings.Contains(seen, text) {
			s.Errorf("GET %s does not show %q, but: %s", path, text, seen)
		}
	}
}

var (
	markup = regexp.MustCompile(`<[^>]*>`)
	blanks = regexp.MustCompile(`\s+`)
)

func visible(page string) string {
	return blanks.ReplaceAllString(html.UnescapeString(markup.ReplaceAllString(page, " ")), " ")
}

func document(day int, branch string) []byte {
	return farmdoc.Synthetic(farmdoc.Options{
		Seed: uint64(day), Branch: branch, TPS: 1000 + float64(day), LogSeconds: 5, Start: time.Date(2026, 2, 1+day, 6, 0, 0, 0, time.UTC),
		Configs: []farmdoc.Config{{Clients: 1, Scale: 10, Duration: 60}, {Clients: 8, Scale: 10, Duration: 60, ReadOnly: true}},
	})
}

func filled(t *testing.T) *labtest.Lab {
	l := labtest.New(t)
	l.Together(func() {
		id := l.AddMachine("kestrel", true)
		for day := range 6 {
			l.Now = l.Now.Add(time.Minute)
			l.Upload(id, document(day, []string{"master", "REL_18_STABLE"}[day%2]))
		}
		l.AddMachine("hobby", false)
	})
	return l
}

func TestPagesShowWhatTheLabHolds(t *testing.T) {
	s := serve(t, filled(t), tokens{})
	s.shows("/ui", "6 runs from 2 machines", "kestrel", "approved", "hobby", "not approved", "No benchmark yet.",
		"1 client · scale 10 · 60 s · read-write", "1\u2009005 tps", "6 runs, the last 6 Feb 2026 of REL_18_STABLE", "Newest runs")
	s.shows("/ui/machines/1", "kestrel", "x86_64", "8 clients · scale 10 · 60 s · read-only", "REL_18_STABLE", "Run Started Machine Branch Commit")
	s.shows("/ui/machines/2", "hobby", "known with its first run", "No runs yet.")
	s.shows("/ui/runs/6", "Run 6", "pgbench of REL_18_STABLE", "1\u2009005", "Second by second", "Transactions in each second, tps",
		"Settings of the server", "https://github.com/postgres/postgres.git")
	s.shows("/ui/trend", "Transactions per second", "kestrel · 1 client · scale 10 · 60 s · read-write · master", "3 points, each a run",
		"Newest 1\u2009004 tps", "Highest 1\u2009004 tps", "Lowest 1\u2009000 tps")
}

func TestTrendPageHoldsTheNumbersOfItsChart(t *testing.T) {
	s := serve(t, filled(t), tokens{})
	page := s.page("/ui/trend?machine=1&config=2&branch=1&metric=tps")
	for _, row := range []string{
		`data-mean="1000" data-median="1000" data-p95="1000" data-p99="1000"`, `data-mean="1002"`, `data-mean="1004"`,
	} {
		if !strings.Contains(page, row) {
			t.Errorf("the page's table lacks %s", row)
		}
	}
	if n := strings.Count(page, `href="/ui/runs/`); n != 3+3 {
		t.Errorf("%d links lead to runs, want one for each of 3 points and 3 in the summary", n)
	}
	s.shows("/ui/trend?metric=log.tps", "mean up to p95 up to p99", "3 points, each a run, from 15 samples")
	s.shows("/ui/trend?metric=tps&resolution=raw", "3 points, each a sample")
	week := s.page("/ui/trend?metric=tps&resolution=week")
	link := html.UnescapeString(regexp.MustCompile(`/ui/trend/runs\?[^"]*from=1769385600[^"]*`).FindString(week))
	s.shows(link, "Runs behind a point", "kestrel · 1 client · scale 10 · 60 s · read-write · master", "from 26 Jan 2026 00:00", "1 Feb 2026 06:00")
	s.shows("/ui/trend?last=4w", "Nothing in this range.")
}

func TestTrendPageTakesWhatExistsForWhatDoesNot(t *testing.T) {
	s := serve(t, filled(t), tokens{})
	s.shows("/ui/trend?machine=1&config=99&branch=99&metric=nothing", "1 client · scale 10 · 60 s · read-write · master")
	s.shows("/ui/trend?machine=1&config=2&branch=6&metric=nothing", "8 clients · scale 10 · 60 s · read-only · REL_18_STABLE")
	s.shows("/ui/trend?machine=1&config=99&branch=99&metric=nothing", "There is no trend of configuration 99, branch 99, metric nothing here. This is the nearest.")
	s.shows("/ui/trend?machine=1&config=1&branch=1&metric=nothing", "There is no trend of metric nothing here.")
	if exact := visible(s.page("/ui/trend?machine=1&config=1&branch=1&metric=tps")); strings.Contains(exact, "There is no trend") {
		t.Errorf("a trend that is there is said not to be: %s", exact)
	}
	s.shows("/ui/trend?machine=2", "hobby has measured nothing yet.")
}

func TestTrendPageNamesAMachineThatIsNotThere(t *testing.T) {
	s := serve(t, filled(t), tokens{})
	page := s.page("/ui/trend?machine=99&config=1&branch=1&metric=tps")
	if seen := visible(page); !strings.Contains(seen, "There is no machine 99. Choose one of those that are here") || strings.Contains(seen, "No runs yet") {
		t.Errorf("the page shows %s", seen)
	}
	if !strings.Contains(page, `<option value="99" selected>machine 99, not here</option>`) || strings.Count(page, "selected") != 3 {
		t.Error("another machine is chosen instead")
	}
}

func TestChangesOfSettingsAreShown(t *testing.T) {
	l := labtest.New(t)
	l.Upload(l.AddMachine("kestrel", true), document(1, "master"))
	l.Upload(1, bytes.Replace(document(2, "master"), []byte("work_mem,65536"), []byte("work_mem,4096"), 1))
	s := serve(t, l, tokens{})
	s.shows("/ui/machines/1", "Changes of settings", "Run 2", "work_mem 65536 → 4096")
}

func TestChangesOfSettingsStayShortHoweverMuchWasUploaded(t *testing.T) {
	l := labtest.New(t)
	l.Upload(l.AddMachine("kestrel", true), document(1, "master"))
	var settings strings.Builder
	settings.WriteString("aaa," + strings.Repeat("v", 300_000) + ",configuration file")
	for i := range 3000 {
		fmt.Fprintf(&settings, `\r\nsetting%04d,1,configuration file`, i)
	}
	settings.WriteString(`\r\nwork_mem,65536`)
	l.Upload(1, bytes.Replace(document(2, "master"), []byte("work_mem,65536"), []byte(settings.String()), 1))
	s := serve(t, l, tokens{})
	s.shows("/ui/machines/1", "aaa – → "+strings.Repeat("v", 80)+"…", "setting0018", "and 2\u2009981 more")
	page := s.page("/ui/machines/1")
	if len(page) > 100_000 || strings.Contains(page, "setting0019") {
		t.Errorf("the page has %d bytes, want the first 20 settings in at most 100,000", len(page))
	}
	if !strings.Contains(page, `title="`+strings.Repeat("v", 200)+`…"`) {
		t.Error("a value that is cut does not show more of itself as its title")
	}
}

func TestEmptyLabSaysHowToBegin(t *testing.T) {
	l := labtest.New(t)
	s := serve(t, l, tokens{})
	const register = "millrace admin pgperffarm user set NAME millrace admin pgperffarm machine add ALIAS --owner NAME --approved"
	s.shows("/ui", "An empty lab", "No runs yet. Run make demo", register)
	s.shows("/ui/trend", "No machine is registered yet.", register)
	s.shows("/ui/queues", "http://127.0.0.1:8080/millrace/v1/jobs", "$TOKEN is what millrace admin token add NAME --role writer prints.")
	l.AddMachine("kestrel", true)
	s.shows("/ui", "0 runs from 1 machine", "No runs yet. Run make demo")
	s.shows("/ui/trend", "No runs yet. Run make demo")
}

func TestPageOfAMachineThatMayNotUploadSaysHowToApproveIt(t *testing.T) {
	l := labtest.New(t)
	l.AddMachine("hobby", false)
	l.AddMachine("Jane's new box", false)
	l.AddMachine("kestrel", true)
	s := serve(t, l, tokens{})
	s.shows("/ui/machines/1", "millrace admin pgperffarm machine approve hobby ")
	s.shows("/ui/machines/2", `millrace admin pgperffarm machine approve 'Jane'\''s new box' `)
	if page := visible(s.page("/ui/machines/3")); strings.Contains(page, "machine approve") {
		t.Errorf("a machine that is approved is to be approved: %s", page)
	}
}

func TestPagesFollowWhatComesIn(t *testing.T) {
	l := filled(t)
	s := serve(t, l, tokens{})
	s.shows("/ui", "6 runs from")
	before := l.Queries.Load()
	s.shows("/ui", "6 runs from")
	if asked := l.Queries.Load() - before; asked != 0 {
		t.Errorf("a repeated page asks ClickHouse %d times", asked)
	}
	l.Upload(1, document(9, "master"))
	s.shows("/ui", "7 runs from", "10 Feb 2026")
}

func TestNothingInAPageCanRunButTheEmbeddedScripts(t *testing.T) {
	l := filled(t)
	l.AddDeadLetter(`<script>alert(1)</script>`, `"><img src=x onerror=alert(2)>`, []byte("<b>bytes</b>"))
	l.AddMachine(`<script>alert(3)</script>`, true)
	s := serve(t, l, tokens{})
	operator := &http.Cookie{Name: "millrace_token", Value: "b3BlcmF0b3ItdG9rZW4"}
	for _, path := range []string{
		"/ui", "/ui/", "/ui/machines/1", "/ui/machines/3", "/ui/trend", "/ui/trend?machine=3", "/ui/runs/1", "/ui/dead-letters", "/docs",
		"/ui/runs/99", "/ui/machines/%3Cscript%3E", "/ui/trend?config=%3Cscript%3Ealert(4)%3C/script%3E",
	} {
		answer := s.get(path, operator)
		if policy := answer.Header().Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'; script-src 'self'; style-src 'self';") || strings.Contains(policy, "unsafe") {
			t.Errorf("GET %s: policy %q", path, policy)
		}
		if answer.Header().Get("X-Content-Type-Options") != "nosniff" || !strings.HasPrefix(answer.Header().Get("Content-Type"), "text/html") {
			t.Errorf("GET %s: header %v", path, answer.Header())
		}
		for _, fault := range faults(answer.Body) {
			t.Errorf("GET %s: %d, and the page has %s", path, answer.Code, fault)
		}
	}
}

// faults lists what a page has that its policy would stop, or that leads to another host.
func faults(page io.Reader) (found []string) {
	local := regexp.MustCompile(`^(?:|/|/[^/\\].*|#.*)$`)
	tokens := nethtml.NewTokenizer(page)
	for kind := tokens.Next(); kind != nethtml.ErrorToken; kind = tokens.Next() {
		token := tokens.Token()
		if kind != nethtml.StartTagToken && kind != nethtml.SelfClosingTagToken {
			continue
		}
		source := ""
		for _, attribute := range token.Attr {
			switch name := attribute.Key; {
			case name == "style" || strings.HasPrefix(name, "on"):
				found = append(found, token.String())
			case name == "src":
				source = attribute.Val
				fallthrough
			case name == "href" || name == "action" || name == "data-source":
				if !local.MatchString(attribute.Val) {
					found = append(found, token.String())
				}
			}
		}
		if token.Data == "style" || token.Data == "iframe" || token.Data == "script" && !strings.HasPrefix(source, "/ui/assets/") {
			found = append(found, token.String())
		}
	}
	return found
}

func TestAddressAloneLeadsToThePages(t *testing.T) {
	if answer := serve(t, nil, tokens{closed: true}).get("/"); answer.Code != http.StatusFound || answer.Header().Get("Location") != "/ui" {
		t.Errorf("GET /: %d to %q, want 302 to /ui", answer.Code, answer.Header().Get("Location"))
	}
}

func TestRefusalsAreReadable(t *testing.T) {
	s := serve(t, filled(t), tokens{})
	for path, want := range map[string]struct {
		status int
		text   string
	}{
		"/ui/runs/99":                   {404, "There is no run 99."},
		"/ui/runs/x":                    {404, "Nothing has this address"},
		"/ui/machines/99":               {404, "There is no machine 99."},
		"/ui/machines/1?after=x":        {400, "Query parameter after must be a run's id."},
		"/ui/trend?machine=x":           {400, "Query parameter machine must be an integer"},
		"/ui/trend?config=x":            {400, "Query parameter config must be a configuration's id"},
		"/ui/trend?resolution=minute":   {400, "Query parameter resolution must be one of auto, raw, run, hour, day, week."},
		"/ui/trend/runs?machine=1":      {400, "Query parameter from must be"},
		"/ui/assets/whatever/secret.go": {404, "There is no such file."},
		"/ui/nothing":                   {404, "Nothing has this address. To the lab"},
		"/ui/jobs/job-1/nothing":        {404, "Nothing has this address. To the lab"},
	} {
		answer := s.get(path)
		if kind := answer.Header().Get("Content-Type"); kind != "text/html; charset=utf-8" || answer.Header().Get("Content-Security-Policy") == "" {
			t.Errorf("GET %s: type %q with header %v, want a page under the policy", path, kind, answer.Header())
		}
		if answer.Code != want.status || !strings.Contains(visible(answer.Body.String()), want.text) {
			t.Errorf("GET %s: %d %s, want %d with %q", path, answer.Code, visible(answer.Body.String()), want.status, want.text)
		}
	}
}

func TestAssetsAreKeptByBrowsersUnderTheirVersion(t *testing.T) {
	s := serve(t, nil, tokens{closed: true})
	page := s.get("/docs").Body.String()
	for _, asset := range regexp.MustCompile(`/ui/assets/[^"]+`).FindAllString(page, -1) {
		answer := s.get(asset)
		if answer.Code != 200 || answer.Body.Len() == 0 || !strings.Contains(answer.Header().Get("Cache-Control"), "immutable") {
			t.Errorf("GET %s: %d with header %v", asset, answer.Code, answer.Header())
		}
		stale := regexp.MustCompile(`assets/[^/]+`).ReplaceAllString(asset, "assets/older")
		if answer := s.get(stale); answer.Code != 200 || answer.Header().Get("Cache-Control") != "" {
			t.Errorf("GET %s: %d with Cache-Control %q, want the file and no promise", stale, answer.Code, answer.Header().Get("Cache-Control"))
		}
	}
}

func (s site) signIn(token, next string, header ...string) *httptest.ResponseRecorder {
	s.Helper()
	form := url.Values{"token": {token}, "next": {next}}
	request := httptest.NewRequestWithContext(s.Context(), http.MethodPost, "/ui/sign-in", strings.NewReader(form.Encode()))
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	return s.do(request)
}

func TestBrowsersSignInWithAToken(t *testing.T) {
	l := filled(t)
	l.AddDeadLetter("millrace.event.v1.Odd", "its type is not known", nil)
	s := serve(t, l, tokens{closed: true})
	refused := s.get("/ui/runs/1")
	if refused.Code != 401 || !strings.Contains(refused.Body.String(), `name="next" value="/ui/runs/1"`) || !strings.Contains(visible(refused.Body.String()), "This page is for people with a token.") {
		t.Errorf("without a token: %d %s, want a form that leads back", refused.Code, refused.Body)
	}
	if wrong := s.signIn("guess", "/ui"); wrong.Code != 401 || len(wrong.Result().Cookies()) != 0 || !strings.Contains(visible(wrong.Body.String()), "The token is not known, or was revoked.") {
		t.Errorf("with a wrong token: %d %s", wrong.Code, wrong.Body)
	}
	in := s.signIn(" viewer-token ", "/ui/runs/1")
	cookies := in.Result().Cookies()
	if in.Code != http.StatusSeeOther || in.Header().Get("Location") != "/ui/runs/1" || len(cookies) != 2 {
		t.Fatalf("signing in: %d to %s with cookies %v", in.Code, in.Header().Get("Location"), cookies)
	}
	if c := cookies[0]; !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/ui" || cookies[1].Path != "/docs" {
		t.Errorf("the cookie is %v", c)
	}
	if page := s.get("/ui/runs/1", cookies[0]); page.Code != 200 {
		t.Errorf("with the cookie: %d", page.Code)
	}
	if page := s.get("/ui/dead-letters", cookies[0]); page.Code != 403 || !strings.Contains(visible(page.Body.String()), "The token has the role viewer.") {
		t.Errorf("a viewer at the dead letters: %d %s", page.Code, visible(page.Body.String()))
	}
	operator := s.signIn("operator-token", "/ui/dead-letters").Result().Cookies()[0]
	if page := s.get("/ui/dead-letters", operator); page.Code != 200 || !strings.Contains(page.Body.String(), "its type is not known") {
		t.Errorf("an operator at the dead letters: %d %s", page.Code, page.Body)
	}
}

func TestSigningInLeadsToPagesOfOursOnly(t *testing.T) {
	s := serve(t, nil, tokens{})
	for next, want := range map[string]string{
		"/ui/trend?machine=1": "/ui/trend?machine=1", "": "/ui", "https://evil.example/": "/ui", "//evil.example/ui/": "/ui",
		"/docs": "/docs", "/docs/x": "/ui", "/millrace/v1/runs": "/ui", `/ui/\evil`: "/ui", "/uix": "/ui", "javascript:alert(1)": "/ui",
	} {
		if got := s.signIn("viewer-token", next).Header().Get("Location"); got != want {
			t.Errorf("next %q leads to %q, want %q", next, got, want)
		}
	}
	if other := s.signIn("viewer-token", "/ui", "Sec-Fetch-Site", "cross-site"); other.Code != 403 {
		t.Errorf("a form from another site: %d, want 403", other.Code)
	}
}

// whose cuts out of a page how it shows its visitor.
var whose = regexp.MustCompile(`(?s)<div class="visitor">(.*?)</div>`)

func visitorOf(answer *httptest.ResponseRecorder) string {
	if found := whose.FindAllStringSubmatch(answer.Body.String(), -1); len(found) == 1 {
		return strings.TrimSpace(visible(found[0][1]))
	}
	return "not one visitor"
}

func TestEveryPageShowsWhoIsSignedInAndLetsThemLeave(t *testing.T) {
	l := filled(t)
	s := serve(t, l, tokens{})
	viewer, operator := s.signIn("viewer-token", "").Result().Cookies()[0], s.signIn("operator-token", "").Result().Cookies()[0]
	for _, path := range []string{"/ui", "/ui/machines/1", "/ui/trend", "/ui/queues", "/ui/jobs", "/ui/agents", "/ui/dead-letters", "/ui/sign-in", "/ui/nothing", "/ui/runs/99", "/docs"} {
		for range 2 { // pages are kept for everybody
			if who := visitorOf(s.get(path, viewer)); who != "viewer-token Sign out" {
				t.Errorf("GET %s shows a viewer %q", path, who)
			}
			if who := visitorOf(s.get(path, operator)); who != "operator-token Sign out" {
				t.Errorf("GET %s shows an operator %q", path, who)
			}
			if who := visitorOf(s.get(path)); who != "Sign in" {
				t.Errorf("GET %s shows a stranger %q", path, who)
			}
		}
	}
	if who := visitorOf(s.get("/docs", &http.Cookie{Name: "millrace_token", Value: "cmV2b2tlZA"})); who != "Sign in" {
		t.Errorf("who has a token that was revoked is shown %q", who)
	}
	before := l.Queries.Load()
	for _, who := range []*http.Cookie{viewer, operator} {
		s.get("/ui/trend", who)
	}
	if asked := l.Queries.Load() - before; asked != 0 {
		t.Errorf("a page that is kept asks ClickHouse %d times for other visitors", asked)
	}
}

func TestSigningInLeadsBackToThePageHoweverOftenTheTokenIsWrong(t *testing.T) {
	s := serve(t, filled(t), tokens{})
	page := s.page("/ui/trend?machine=1&config=2")
	form := html.UnescapeString(regexp.MustCompile(`href="(/ui/sign-in[^"]*)"`).FindStringSubmatch(page)[1])
	const next = `name="next" value="/ui/trend?machine=1&amp;config=2"`
	if answer := s.get(form); answer.Code != 200 || !strings.Contains(answer.Body.String(), next) {
		t.Errorf("GET %s: %d %s", form, answer.Code, answer.Body)
	}
	for token, says := range map[string]string{"guess": "The token is not known, or was revoked.", " ": "That is no token"} {
		answer := s.signIn(token, "/ui/trend?machine=1&config=2")
		if answer.Code != 401 || !strings.Contains(answer.Body.String(), next) || !strings.Contains(visible(answer.Body.String()), says) {
			t.Errorf("with token %q: %d %s, want %q and a form that leads back", token, answer.Code, answer.Body, says)
		}
	}
	if answer := s.signIn("guess", "//evil.example"); !strings.Contains(answer.Body.String(), `name="next" value="/ui"`) {
		t.Errorf("the form after a wrong token leads elsewhere: %s", answer.Body)
	}
}

func TestTokenThatIsWorthNothingIsForgotten(t *testing.T) {
	s := serve(t, filled(t), tokens{})
	page := s.get("/ui", &http.Cookie{Name: "millrace_token", Value: "cmV2b2tlZA"})
	cookies := page.Result().Cookies()
	if page.Code != 200 || len(cookies) != 2 || cookies[0].MaxAge >= 0 || cookies[1].MaxAge >= 0 {
		t.Errorf("reads are open: %d with cookies %v, want the page and the cookie gone", page.Code, cookies)
	}
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/ui/sign-out", nil)
	if out := s.do(request); out.Code != http.StatusSeeOther || out.Result().Cookies()[0].MaxAge >= 0 {
		t.Errorf("signing out: %d with cookies %v", out.Code, out.Result().Cookies())
	}
}

func TestTablesDescribeThemselves(t *testing.T) {
	u, err := ui.New(ui.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := route.OpenAPI("test", "1", u.Routes()); err != nil {
		t.Error(err)
	}
	for _, r := range u.Routes() {
		if strings.Contains(r.Path, "dead-letters") != (r.Access == route.TokenOperator) {
			t.Errorf("%s lets in %s", r.Key(), r.Access)
		}
	}
}
