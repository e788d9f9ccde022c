package e2e

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/ingest/pgweb"
	"github.com/millrace/millrace/ingest/pgweb/pgwebtest"
	"github.com/millrace/millrace/processor/access"
)

// community is a pgweb over HTTP, at which one user is logged in.
type community struct {
	*httptest.Server
	registration pgweb.Config
	callback     string // the site's
}

// newCommunity starts a pgweb that speaks a version of the protocol.
func newCommunity(t *testing.T, version int, user pgweb.User) *community {
	t.Helper()
	key := make([]byte, map[int]int{2: 32, 3: 64, 4: 32}[version])
	rand.Read(key)
	c := &community{registration: pgweb.Config{Key: key, Version: version}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		pgwebtest.Handler(c.registration, user, c.callback).ServeHTTP(w, r)
	}))
	t.Cleanup(c.Close)
	c.registration.LoginURL = c.URL + "/account/auth/7/"
	return c
}

func (c *community) settings() []string {
	return []string{
		"MILLRACE_PGPERFFARM_LOGIN_URL=" + c.registration.LoginURL, fmt.Sprintf("MILLRACE_PGPERFFARM_AUTH_VERSION=%d", c.registration.Version),
		"MILLRACE_PGPERFFARM_AUTH_KEY=" + base64.StdEncoding.EncodeToString(c.registration.Key), "MILLRACE_PGPERFFARM_AFTER_LOGIN=/machine/list?welcome",
	}
}

// surfer is a browser that follows redirects and keeps cookies.
type surfer struct {
	lab *Lab
	*http.Client
}

func newSurfer(t *testing.T, lab *Lab) *surfer {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &surfer{lab: lab, Client: &http.Client{Jar: jar, Timeout: time.Minute}}
}

// goes asks for a page, and gives the address at which the redirects end with the answer there.
func (s *surfer) goes(t *testing.T, path string) (at *url.URL, status int, body string) {
	t.Helper()
	noteCall(t, http.MethodGet, path)
	response, err := s.Get(s.lab.URL() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for step := response.Request; step != nil; { // every redirect is a call of its own
		noteCall(t, http.MethodGet, step.URL.Path)
		if step.Response == nil {
			break
		}
		step = step.Response.Request
	}
	return response.Request.URL, response.StatusCode, string(text)
}

func TestBrowserLogsInByEveryVersionOfTheProtocolAndStaysLoggedInThroughARestart(t *testing.T) {
	covers(t, "GET /user/community_login", "GET /user/auth_receive", "GET /user/logout", "GET /machine/user")
	for _, version := range []int{2, 3, 4} {
		t.Run(fmt.Sprintf("version %d", version), func(t *testing.T) {
			pgweb := newCommunity(t, version, person("jdoe"))
			lab := startWith(t, pgweb.settings()...)
			pgweb.callback = lab.URL() + "/user/auth_receive/"
			browser := newSurfer(t, lab)
			if at, status, body := browser.goes(t, "/machine/user?a=b"); at.RequestURI() != "/machine/user?a=b" || status != http.StatusOK || body != "[]" {
				t.Errorf("the login ends at %s with %d %s, want the page that asked for it", at, status, body)
			}
			lab.Restart(t)
			if _, status, body := browser.goes(t, "/machine/user"); status != http.StatusOK || body != "[]" {
				t.Errorf("after a restart the session gives %d %s", status, body)
			}
			if at, _, _ := browser.goes(t, "/user/logout"); at.RequestURI() != "/ui" {
				t.Errorf("the logout ends at %s, want the pages by way of pgweb and /", at)
			}
			if answer := lab.visitor(t).with("Cookie", cookieHeader(browser, lab)).get(t, "/machine/user"); answer.Status != http.StatusFound {
				t.Errorf("after the logout: %d %s", answer.Status, answer.Body)
			}
			if at, _, _ := browser.goes(t, "/user/community_login/"); at.RequestURI() != "/machine/list?welcome" {
				t.Errorf("a login without target ends at %s, want pgperffarm.after_login", at)
			}
		})
	}
}

func cookieHeader(s *surfer, lab *Lab) string {
	site, _ := url.Parse(lab.URL())
	var cookies []string
	for _, cookie := range s.Jar.Cookies(site) {
		cookies = append(cookies, cookie.Name+"="+cookie.Value)
	}
	return strings.Join(cookies, "; ")
}

func TestLoginSetsTheCookiesOfTheContract(t *testing.T) {
	covers(t, "GET /user/auth_receive")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		answer := lab.visitor(t).get(t, callback(t, login, person(Unique("jane"))))
		if to := answer.location(t).String(); to != "/ui" {
			t.Errorf("a login without target goes to %q, want /ui, the default of pgperffarm.after_login", to)
		}
		cookies := answer.cookies()
		session, forgery := cookies[access.SessionCookie], cookies[access.ForgeryCookie]
		if len(cookies) != 2 || session == nil || forgery == nil {
			t.Fatalf("cookies are %v, want sessionid and csrftoken", cookies)
		}
		if !session.HttpOnly || session.SameSite != http.SameSiteLaxMode || session.Path != "/" || session.MaxAge != 1209600 || len(session.Value) < 32 {
			t.Errorf("sessionid is %v, want it opaque, HttpOnly, SameSite=Lax, Path=/ and 14 days", session)
		}
		if forgery.HttpOnly || forgery.SameSite != http.SameSiteLaxMode || forgery.Path != "/" || forgery.MaxAge != 31449600 || len(forgery.Value) < 32 {
			t.Errorf("csrftoken is %v, want it readable by scripts, SameSite=Lax, Path=/ and one year", forgery)
		}
	})
}

func TestCallbackThatSaysNothingUsefulIs400WithAText(t *testing.T) {
	covers(t, "GET /user/auth_receive")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		other := login
		other.Key = slices.Repeat([]byte{1}, 64)
		sealed := func(registration pgweb.Config, plaintext string) string {
			query, err := pgwebtest.Encrypt(registration, make([]byte, 16), plaintext)
			if err != nil {
				t.Fatal(err)
			}
			return query.Encode()
		}
		now := time.Now().Unix()
		user := "&u=" + Unique("jane") + "&f=Jane&l=Doe&e=" + Unique("jane") + "%40example.org&se="
		good := sealed(login, fmt.Sprintf("t=%d%s", now, user))
		tampered, _ := url.ParseQuery(good)
		tampered.Set("t", base64.URLEncoding.EncodeToString(make([]byte, 16)))
		for name, tc := range map[string]struct{ query, says string }{
			"nothing":         {"", "nonce"},
			"no data":         {"n=AAECAwQFBgcICQoLDA0ODw%3D%3D", "Missing"},
			"no base64":       {"n=!&d=!&t=!", ""},
			"another key":     {sealed(other, fmt.Sprintf("t=%d%s", now, user)), ""},
			"another tag":     {tampered.Encode(), ""},
			"no query string": {sealed(login, fmt.Sprintf("t=%d&u", now)), "Invalid"},
			"no user name":    {sealed(login, fmt.Sprintf("t=%d&f=Jane&l=Doe&e=j%%40example.org", now)), ""},
			"no first name":   {sealed(login, fmt.Sprintf("t=%d&u=jane&l=Doe&e=j%%40example.org", now)), ""},
			"no address":      {sealed(login, fmt.Sprintf("t=%d&u=jane&f=Jane&l=Doe", now)), ""},
			"no time":         {sealed(login, "u=jane&f=Jane&l=Doe&e=j%40example.org"), ""},
			"no number":       {sealed(login, "t=now"+user), ""},
			"too old":         {sealed(login, fmt.Sprintf("t=%d%s", now-60, user)), "too old"},
			"version 2":       {"i=AAECAwQFBgcICQoLDA0ODw%3D%3D&d=AAECAwQFBgcICQoLDA0ODw%3D%3D", ""},
		} {
			answer := lab.visitor(t).get(t, "/user/auth_receive/?"+tc.query)
			answer.says(t, http.StatusBadRequest, tc.says)
			if kind := answer.Header.Get("Content-Type"); !strings.HasPrefix(kind, "text/plain") || len(answer.cookies()) > 0 {
				t.Errorf("%s: Content-Type %q and cookies %v, want text and none", name, kind, answer.cookies())
			}
		}
		lab.visitor(t).get(t, "/user/auth_receive/?"+good).Want(t, http.StatusFound)
		ahead := fmt.Sprintf("t=%d&u=%s&f=Jane&l=Doe&e=%s%%40example.org", now+300, Unique("jane"), Unique("jane"))
		lab.visitor(t).get(t, "/user/auth_receive/?"+sealed(login, ahead)).Want(t, http.StatusFound)
		if to := lab.visitor(t).get(t, "/user/auth_receive?s=logout").location(t).String(); to != "/" {
			t.Errorf("pgweb's logout goes to %q, want /", to)
		}
	})
}

func TestCallbackIsGoodOnceAtAnyDoor(t *testing.T) {
	covers(t, "GET /user/auth_receive")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		path := callback(t, login, person(Unique("jane")))
		lab.visitor(t).get(t, path).Want(t, http.StatusFound)
		for _, door := range append(lab.Ingest(), lab.URL()) {
			answer := send(t, http.MethodGet, door+path, nil)
			answer.says(t, http.StatusBadRequest, "used before")
			if len(answer.cookies()) > 0 {
				t.Errorf("a replay sets cookies: %v", answer.cookies())
			}
		}
	})
}

func TestAddressOfAnotherUserIs409AndOpensNoSession(t *testing.T) {
	covers(t, "GET /user/auth_receive")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		jane, thief := person(Unique("jane")), person(Unique("thief"))
		lab.visitor(t).get(t, callback(t, login, jane)).Want(t, http.StatusFound)
		thief.Email = strings.ToUpper(jane.Email)
		answer := lab.visitor(t).get(t, callback(t, login, thief))
		answer.says(t, http.StatusConflict, "e-mail")
		if kind := answer.Header.Get("Content-Type"); !strings.HasPrefix(kind, "text/plain") || len(answer.cookies()) > 0 {
			t.Errorf("Content-Type %q and cookies %v, want text and none", kind, answer.cookies())
		}
	})
}

func TestLaterLoginBringsTheProfileUpToDate(t *testing.T) {
	covers(t, "GET /user/auth_receive", "GET /machine/user")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		jane := person(Unique("jane"))
		first := lab.visitor(t).keep(t, lab.visitor(t).get(t, callback(t, login, jane)))
		first.post(t, "/machine/add", `{"alias": "`+Unique("otter")+`", "description": ""}`).Want(t, http.StatusCreated)
		jane.Email, jane.At = Unique("elsewhere")+"@example.org", time.Now()
		lab.visitor(t).get(t, callback(t, login, jane)).Want(t, http.StatusFound)
		row := first.get(t, "/machine/user").rows(t)[0]
		if row["owner_id__email"] != jane.Email || row["email"] != jane.Email || row["owner_id__username"] != jane.Username {
			t.Errorf("the machine's owner is shown as %v %v, want %s", row["owner_id__username"], row["owner_id__email"], jane.Email)
		}
	})
}

func TestLogoutEndsTheSessionEverywhereAndSendsAnybodyOnToPgweb(t *testing.T) {
	covers(t, "GET /user/logout")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		jane := lab.browser(t, Unique("jane"))
		jane.get(t, "/machine/user").is(t, http.StatusOK, "[]")
		answer := jane.get(t, "/user/logout")
		if to := answer.location(t).String(); to != login.LoginURL+"logout/" {
			t.Errorf("the logout goes to %q, want %slogout/", to, login.LoginURL)
		}
		if cookie := answer.cookies()[access.SessionCookie]; cookie == nil || cookie.MaxAge >= 0 || cookie.Value != "" {
			t.Errorf("the logout sets sessionid to %v, want it deleted", cookie)
		}
		jane.get(t, "/machine/user").Want(t, http.StatusFound)
		jane.post(t, "/machine/add", `{"alias": "x", "description": ""}`).Want(t, http.StatusFound)
		if to := lab.visitor(t).get(t, "/user/logout/").location(t).String(); to != login.LoginURL+"logout/" {
			t.Errorf("an anonymous visitor's logout goes to %q", to)
		}
	})
}

func TestAnonymousRequestsAreSentToTheLoginWithTheirPage(t *testing.T) {
	covers(t, "GET /machine/user", "POST /machine/add", "POST /machine/approve", "POST /machine/edit/:machine_id")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		pair := lab.visitor(t).with("Cookie", "csrftoken=t").with("X-CSRFToken", "t")
		for path, want := range map[string]string{
			"/machine/user?a=b": "/user/community_login?next=/machine/user%3Fa%3Db",
			"/machine/user/":    "/user/community_login?next=/machine/user/",
		} {
			if to := lab.visitor(t).get(t, path).location(t).String(); to != want {
				t.Errorf("%s goes to %q, want %q", path, to, want)
			}
			if to := pair.with("Cookie", "sessionid=unknown").get(t, path).location(t).String(); to != want {
				t.Errorf("%s with an unknown session goes to %q, want %q", path, to, want)
			}
		}
		for _, path := range []string{"/machine/add", "/machine/approve"} {
			if to := pair.post(t, path, `{}`).location(t).String(); to != "/user/community_login?next="+path {
				t.Errorf("POST %s goes to %q", path, to)
			}
		}
		pair.post(t, "/machine/edit/1", `{"description": ""}`).refuses(t, http.StatusForbidden, "sign in")
	})
}

// The token against forgery is looked at before anything else (contract 3.2).
func TestPostWithoutForgeryTokenIs403InHTMLBeforeTheLoginIsLookedAt(t *testing.T) {
	covers(t, "POST /machine/add", "POST /machine/approve", "POST /machine/edit/:machine_id")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		jane := lab.browser(t, Unique("jane"))
		callers := map[string]*caller{
			"anonymous":         lab.visitor(t),
			"no header":         jane.with("X-CSRFToken", ""),
			"another value":     jane.with("X-CSRFToken", "another"),
			"no cookie":         lab.visitor(t).with("X-CSRFToken", jane.header.Get("X-CSRFToken")),
			"both empty":        lab.visitor(t).with("Cookie", "csrftoken="),
			"the session alone": lab.visitor(t).with("Cookie", strings.Split(jane.header.Get("Cookie"), ";")[0]),
		}
		for _, name := range slices.Sorted(maps.Keys(callers)) {
			for _, path := range []string{"/machine/add", "/machine/approve/", "/machine/edit/1", "/machine/edit/x"} {
				answer := callers[name].post(t, path, `not even JSON`)
				answer.says(t, http.StatusForbidden, "<!DOCTYPE html>")
				if kind := answer.Header.Get("Content-Type"); !strings.HasPrefix(kind, "text/html") {
					t.Errorf("%s at %s: Content-Type is %q, want HTML", name, path, kind)
				}
			}
		}
		token := jane.header.Get("X-CSRFToken")
		jane.with("X-CSRFToken", "").with("X-CSRFTOKEN", token).post(t, "/machine/add", `{}`).refuses(t, http.StatusBadRequest)
	})
}
