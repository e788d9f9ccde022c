package pgperffarm_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/ingest/pgperffarm"
	"github.com/millrace/millrace/ingest/pgweb"
	"github.com/millrace/millrace/ingest/pgweb/pgwebtest"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

func TestLoginSetsBothCookiesAsTheContractSays(t *testing.T) {
	l := newLab(t)
	answer := l.get(l.callback("jdoe", ""), nil)
	wantSaying(t, answer, http.StatusFound)
	if got := answer.Header().Get("Location"); got != "/profile" {
		t.Errorf("Location is %q, want the page after a login", got)
	}
	var got []string
	for _, cookie := range answer.Result().Cookies() {
		line := cookie.Raw
		got = append(got, strings.Replace(line, cookie.Value, "VALUE", 1))
		if len(cookie.Value) < 32 {
			t.Errorf("cookie %s has the value %q, want at least 32 characters", cookie.Name, cookie.Value)
		}
	}
	wanted := []string{
		"sessionid=VALUE; Path=/; Max-Age=1209600; HttpOnly; SameSite=Lax",
		"csrftoken=VALUE; Path=/; Max-Age=31449600; SameSite=Lax",
	}
	if diff := cmp.Diff(wanted, got); diff != "" {
		t.Errorf("cookies differ (-want +got):\n%s", diff)
	}
	if position(t, answer, eventlog.Registry) != l.lastOffset(eventlog.Registry) {
		t.Errorf("position is %q", answer.Header().Get(eventlog.PositionHeader))
	}
}

func TestCookiesAreSecureBehindATrustedProxyWithHTTPS(t *testing.T) {
	l := newLab(t, func(c *pgperffarm.Config, _ *pgperffarm.Dependencies) {
		c.Proxies, _ = access.ParseProxies([]string{"192.0.2.0/24"})
	})
	header := http.Header{"X-Forwarded-Proto": {"https"}}
	for from, secure := range map[string]bool{"192.0.2.9:1": true, "198.51.100.9:1": false} {
		answer := l.do(call{method: http.MethodGet, path: l.callback("jdoe", ""), header: header, from: from})
		for _, cookie := range answer.Result().Cookies() {
			if cookie.Secure != secure {
				t.Errorf("from %s cookie %s has Secure %v, want %v", from, cookie.Name, cookie.Secure, secure)
			}
		}
		l.clock.Pass(time.Second)
	}
}

func TestLoginWithoutTargetGoesToPgwebWithoutQuery(t *testing.T) {
	l := newLab(t)
	for _, path := range []string{"/user/community_login", "/user/community_login/", "/user/community_login?next="} {
		answer := l.get(path, nil)
		if answer.Code != http.StatusFound || answer.Header().Get("Location") != l.login.LoginURL {
			t.Errorf("%s: %d to %q, want 302 to %s", path, answer.Code, answer.Header().Get("Location"), l.login.LoginURL)
		}
	}
}

func TestLoginComesBackToTheTarget(t *testing.T) {
	l := newLab(t)
	for _, next := range []string{"/machine/user?a=b&c=ü", "/", "http://example.com/run/7"} {
		blob := location(t, l.get("/user/community_login?next="+url.QueryEscape(next), nil)).Query().Get("d")
		if blob == "" || strings.Trim(blob, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~=$") != "" {
			t.Errorf("next %q: d is %q, which pgweb would drop", next, blob)
		}
		answer := l.get(l.callback("jdoe", blob), nil)
		wanted := strings.TrimPrefix(next, "http://example.com") // the test's own host
		if got, _ := url.PathUnescape(answer.Header().Get("Location")); answer.Code != http.StatusFound || got != wanted {
			t.Errorf("next %q: %d to %q", next, answer.Code, got)
		}
		l.clock.Pass(time.Second)
	}
}

func TestExpiredTargetStillSignsIn(t *testing.T) {
	l := newLab(t)
	blob := location(t, l.get("/user/community_login?next=/run/7", nil)).Query().Get("d")
	l.clock.Pass(time.Hour)
	answer := l.get(l.callback("jdoe", blob), nil)
	if answer.Code != http.StatusFound || answer.Header().Get("Location") != "/profile" {
		t.Errorf("answer is %d to %q, want 302 to /profile", answer.Code, answer.Header().Get("Location"))
	}
}

func TestCallbackTable(t *testing.T) {
	l := newLab(t)
	l.signIn("jdoe")
	plain := func(text string) string {
		query, err := pgwebtest.Encrypt(l.login, make([]byte, 16), text)
		if err != nil {
			t.Fatal(err)
		}
		return query.Encode()
	}
	without := func(name string) string {
		query, _ := url.ParseQuery(strings.TrimPrefix(l.callback("jdoe", ""), "/user/auth_receive/?"))
		query.Del(name)
		return query.Encode()
	}
	otherKey := l.login
	otherKey.Key = []byte(strings.Repeat("k", 64))
	foreign, _ := pgwebtest.Callback(otherKey, pgweb.User{Username: "x", First: "x", Last: "x", Email: "x@example.org", At: l.clock.Now()})
	cases := map[string]struct {
		query  string
		status int
		says   string
	}{
		"logout":         {"s=logout", http.StatusFound, ""},
		"no nonce":       {without("n"), http.StatusBadRequest, "Missing nonce in url!"},
		"no data":        {without("d"), http.StatusBadRequest, "Missing data in url!"},
		"nothing":        {"", http.StatusBadRequest, "Missing"},
		"no query text":  {plain("t=1700000000&u"), http.StatusBadRequest, "Invalid encrypted data received."},
		"too old":        {plain("t=1699999989&u=a&f=b&l=c&e=d%40example.org"), http.StatusBadRequest, "Authentication token too old."},
		"no user":        {plain("t=1700000000&f=b&l=c&e=d%40example.org"), http.StatusBadRequest, "Incomplete"},
		"bad base64":     {"n=!&d=!&t=!", http.StatusBadRequest, "Invalid encrypted data received."},
		"wrong key":      {foreign.Encode(), http.StatusBadRequest, "Invalid encrypted data received."},
		"e-mail is used": {plain("t=1700000000&u=other&f=b&l=c&e=JDOE%40example.org"), http.StatusConflict, "e-mail"},
		"ten seconds":    {plain("t=1699999990&u=old&f=b&l=c&e=old%40example.org"), http.StatusFound, ""},
		"in the future":  {plain("t=1700000300&u=new&f=b&l=c&e=new%40example.org"), http.StatusFound, ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			answer := l.get("/user/auth_receive?"+tc.query, nil)
			wantSaying(t, answer, tc.status, tc.says)
			signedIn := tc.status == http.StatusFound && name != "logout"
			if (len(answer.Result().Cookies()) > 0) != signedIn {
				t.Errorf("cookies are %v", answer.Result().Cookies())
			}
			if tc.status >= 400 && answer.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
				t.Errorf("Content-Type is %q, want plain text", answer.Header().Get("Content-Type"))
			}
		})
	}
}

func TestCallbackOfTheContractsTestVectorSignsIn(t *testing.T) {
	key := make([]byte, 64)
	for i := range key {
		key[i] = byte(i)
	}
	l := newLab(t, func(c *pgperffarm.Config, _ *pgperffarm.Dependencies) { c.Login.Key = key })
	answer := l.get("/user/auth_receive/?n=AAECAwQFBgcICQoLDA0ODw==&d=zpAzN5t02mOWIyqnBNLS5qIxhWq9cMo0BM_ZJL7IeNSfJXB-FhFc6B_XEHmJT4I0ElKfVJmI_FcGe1BLM7AeoZrFoVOwSHQ66w==&t=LnpJOctAX0lrKFlSUmomCA==", nil)
	wantSaying(t, answer, http.StatusFound)
	signIn := events[*event.FarmSignInRequested](l.installation, t, eventlog.Registry)[0]
	name, _ := registry.ToHash(signIn.GetUser().GetNameHash())
	profile, err := access.OpenProfile(l.ring, name, signIn.GetUser().GetSealedProfile())
	if err != nil {
		t.Fatal(err)
	}
	got := []string{profile.GetUsername(), profile.GetFirstName(), profile.GetLastName(), profile.GetEmail()}
	if diff := cmp.Diff([]string{"jdoe", "Jane", "Doe", "jane@example.org"}, got); diff != "" {
		t.Errorf("profile differs (-want +got):\n%s", diff)
	}
}

func TestConfiguredUsersAreStaffFromTheirLoginOn(t *testing.T) {
	l := newLab(t)
	l.signIn("boss")
	l.signIn("jdoe")
	l.registry.View(func(s *registry.State) {
		if !s.User(1).Staff || s.User(2).Staff {
			t.Errorf("staff is %v and %v, want true and false", s.User(1).Staff, s.User(2).Staff)
		}
	})
}

func TestLogoutEndsTheSessionEverywhereAndGoesOnToPgweb(t *testing.T) {
	shared := newInstallation(t)
	here, there := shared.door(t), shared.door(t)
	jane := here.signIn("jdoe")
	answer := there.get("/user/logout", jane)
	wantSaying(t, answer, http.StatusFound)
	if got := answer.Header().Get("Location"); got != "https://www.postgresql.org/account/auth/99/logout/" {
		t.Errorf("Location is %q", got)
	}
	if got := answer.Header().Get("Set-Cookie"); got != "sessionid=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax" {
		t.Errorf("Set-Cookie is %q, want the session deleted", got)
	}
	body := `{"alias": "otter", "description": ""}`
	wantSaying(t, there.post("/machine/add", body, jane), http.StatusFound)
}

func TestLogoutOfAnonymousVisitorsRedirectsAndWritesNothing(t *testing.T) {
	l := newLab(t)
	for _, header := range []http.Header{nil, {"Cookie": {"sessionid=made-up"}}} {
		answer := l.get("/user/logout/", header)
		if answer.Code != http.StatusFound || !strings.HasSuffix(answer.Header().Get("Location"), "/logout/") {
			t.Errorf("answer is %d to %q", answer.Code, answer.Header().Get("Location"))
		}
	}
	if n := len(l.log.Records(eventlog.Registry)); n != 0 {
		t.Errorf("%d events were written", n)
	}
}

func TestHEADNeitherSignsInNorOut(t *testing.T) {
	l := newLab(t)
	jane := l.signIn("jdoe")
	before := l.lastOffset(eventlog.Registry)
	callback := l.callback("jdoe", "")
	wantSaying(t, l.do(call{method: http.MethodHead, path: "/user/logout", header: jane}), http.StatusFound)
	wantSaying(t, l.do(call{method: http.MethodHead, path: callback}), http.StatusFound)
	if after := l.lastOffset(eventlog.Registry); after != before {
		t.Errorf("%d events were written", after-before)
	}
	wantSaying(t, l.get(callback, nil), http.StatusFound)
}

func TestWithoutConfigurationTheLoginSaysSo(t *testing.T) {
	l := newLab(t, func(c *pgperffarm.Config, _ *pgperffarm.Dependencies) { c.Login = pgweb.Config{} })
	wantSaying(t, l.get("/user/community_login", nil), http.StatusServiceUnavailable, "pgperffarm.login_url")
	wantSaying(t, l.get("/user/auth_receive?n=a", nil), http.StatusServiceUnavailable, "pgperffarm.login_url")
	answer := l.get("/user/logout", nil)
	if answer.Code != http.StatusFound || answer.Header().Get("Location") != "/" {
		t.Errorf("logout is %d to %q, want 302 to /", answer.Code, answer.Header().Get("Location"))
	}
}

func TestErasedUserSignsInAnewWithAnotherKey(t *testing.T) {
	l := newLab(t)
	jane := l.signIn("jdoe")
	l.operate("/users/erase", `{"name": "jdoe"}`)
	wantSaying(t, l.post("/machine/add", `{"alias": "otter", "description": ""}`, jane), http.StatusFound)
	first := events[*event.FarmSignInRequested](l.installation, t, eventlog.Registry)[0].GetUser()
	name, _ := registry.ToHash(first.GetNameHash())
	if _, err := access.OpenProfile(l.ring, name, first.GetSealedProfile()); err == nil {
		t.Error("the profile of the erased user can still be opened")
	}
	l.clock.Pass(time.Second)
	want(t, l.post("/machine/add", `{"alias": "otter", "description": ""}`, l.signIn("jdoe")), http.StatusCreated, "Machine added successfully!")
	if _, err := access.OpenProfile(l.ring, name, first.GetSealedProfile()); err == nil {
		t.Error("a new login opens what was erased")
	}
}

func TestLoginWithoutTheLogIs503AndTheSameCallbackWorksLater(t *testing.T) {
	l := newLab(t)
	callback := l.callback("jdoe", "")
	l.log.Fail(func(eventlog.Event) error { return eventlog.ErrOverloaded })
	answer := l.get(callback, nil)
	wantSaying(t, answer, http.StatusServiceUnavailable)
	if len(answer.Result().Cookies()) != 0 {
		t.Error("cookies were set")
	}
	l.log.Fail(nil)
	wantSaying(t, l.get(callback, nil), http.StatusFound)
}
