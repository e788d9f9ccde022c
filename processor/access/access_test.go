package access_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/keyring"
	"github.com/millrace/millrace/schemas/route"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.ReleaseMode)
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) { os.Exit(code) }))
}

// memory is a registry that sees new events only when it catches up.
type memory struct {
	state   *registry.State
	pending []proto.Message
	caught  int // times that a request waited for it
	down    error
}

func newMemory() *memory { return &memory{state: registry.NewState()} }

func (m *memory) View(look func(*registry.State)) { look(m.state) }

func (m *memory) CatchUp(context.Context) error {
	m.caught++
	if m.down != nil {
		return m.down
	}
	for _, message := range m.pending {
		m.apply(message)
	}
	m.pending = nil
	return nil
}

func (m *memory) apply(message proto.Message) {
	e, err := eventlog.NewEvent("/test", message)
	if err != nil {
		panic(err)
	}
	registry.Apply(m.state, &eventlog.Record{Event: e, LogTime: now().UnixMilli()})
}

func now() time.Time { return time.Date(2023, 11, 14, 22, 13, 20, 0, time.UTC) }

func newRing(t *testing.T) *keyring.Keyring {
	t.Helper()
	ring, err := keyring.Open(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// world has one user of each kind, one machine of each kind and one token of each role.
type world struct {
	*memory
	ring   *keyring.Keyring
	engine *gin.Engine
}

const (
	userCookie, staffCookie, ownerCookie = "user-session", "staff-session", "owner-session"
	goodSecret, waitingSecret            = "0f1e2d3c4b5a69788796a5b4c3d2e1f0", "ffffffffffffffffffffffffffffffff"
)

func (w *world) user(name, session string, staff bool) {
	nameHash, hash := access.HashUser(w.ring, name), access.HashSession(w.ring, session)
	callback := access.HashToken(w.ring, "callback of "+name)
	w.apply(&event.FarmSignInRequested{
		User: &event.FarmUser{NameHash: nameHash[:]}, CallbackHash: callback[:], CallbackExpires: now().Unix() + 60,
		SessionHash: hash[:], SessionExpires: now().Add(time.Hour).Unix(), Staff: staff,
	})
}

func (w *world) addMachine(alias, secret string, approved bool) {
	owner, hash := access.HashUser(w.ring, "owner"), access.HashMachineSecret(w.ring, secret)
	w.apply(&event.FarmMachineAddRequested{OwnerNameHash: owner[:], Alias: alias, SecretHash: hash[:], Approved: approved})
}

func newWorld(t *testing.T, routes []route.Route, config access.TokensConfig) *world {
	t.Helper()
	w := &world{memory: newMemory(), ring: newRing(t), engine: gin.New()}
	w.user("user", userCookie, false)
	w.user("staff", staffCookie, true)
	w.user("owner", ownerCookie, false)
	w.addMachine("good", goodSecret, true)
	w.addMachine("waiting", waitingSecret, false)
	for role, name := range map[event.Role]string{
		event.Role_ROLE_VIEWER: "viewer", event.Role_ROLE_WRITER: "writer", event.Role_ROLE_OPERATOR: "operator",
	} {
		hash := access.HashToken(w.ring, name+"-token")
		w.apply(&event.TokenAddRequested{Name: name, TokenHash: hash[:], Role: role})
	}
	if err := w.engine.SetTrustedProxies([]string{"127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	attempts := access.NewAttempts()
	err := route.Mount(w.engine, routes, route.Options{Log: slog.New(slog.DiscardHandler), APIs: map[string]route.API{
		"pgperffarm": access.NewFarm(access.FarmConfig{Hold: time.Second}, w.memory, w.ring, attempts, now).API(),
		"millrace":   access.NewTokens(config, w.memory, w.ring, attempts, now).API(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// open answers every call that is let in with 200.
func open(method, path, api string, who route.Access, params ...route.Param) route.Route {
	return route.Route{Method: method, Path: path, Side: route.Query, API: api, Access: who, Summary: "test it", Params: params,
		Answers: []route.Answer{{Status: 200}}, Handler: func(c *gin.Context) { c.Status(http.StatusOK) }}
}

// as is a request of a kind of caller.
func as(method, path string, caller route.Caller) *http.Request {
	r := httptest.NewRequest(method, path, nil)
	cookies := map[route.Caller]string{route.User: userCookie, route.OwnerUser: ownerCookie, route.StaffUser: staffCookie}
	if session, signedIn := cookies[caller]; signedIn {
		r.AddCookie(&http.Cookie{Name: access.SessionCookie, Value: session})
	}
	if method == http.MethodPost {
		r.AddCookie(&http.Cookie{Name: access.ForgeryCookie, Value: "token"})
		r.Header.Set("X-CSRFToken", "token")
	}
	switch caller {
	case route.Machine:
		r.Header.Set("Authorization", goodSecret)
	case route.Viewer, route.Writer, route.Operator:
		r.Header.Set("Authorization", "Bearer "+caller.String()+"-token")
	case route.Local:
		fromLoopback(r)
	}
	return r
}

func fromLoopback(r *http.Request) { r.RemoteAddr, r.Host = "127.0.0.1:4711", "127.0.0.1:8480" }

func TestEveryKindOfCallerIsLetInAsTheTableSays(t *testing.T) {
	machine := route.Param{Name: access.MachineParam, Type: route.Integer, Description: "its id"}
	routes := []route.Route{
		open("GET", "/list", "pgperffarm", route.Anyone),
		open("POST", "/run/upload", "pgperffarm", route.MachineSecret),
		open("GET", "/machine/user", "pgperffarm", route.Session),
		open("POST", "/machine/add", "pgperffarm", route.Session),
		open("POST", "/machine/approve", "pgperffarm", route.Staff),
		open("POST", "/machine/edit/:machine_id", "pgperffarm", route.Owner, machine),
		open("GET", "/millrace/v1/open", "millrace", route.Anyone),
		open("GET", "/millrace/v1/runs", "millrace", route.LoopbackOrViewer),
		open("GET", "/millrace/v1/jobs", "millrace", route.TokenViewer),
		open("POST", "/millrace/v1/samples", "millrace", route.TokenWriter),
		open("POST", "/millrace/v1/admin", "millrace", route.TokenOperator),
	}
	w := newWorld(t, routes, access.TokensConfig{Loopback: true})
	for _, tc := range route.Matrix(routes) {
		t.Run(tc.Name(), func(t *testing.T) {
			answer := httptest.NewRecorder()
			path := strings.Replace(tc.Route.Path, ":machine_id", "1", 1)
			w.engine.ServeHTTP(answer, as(tc.Route.Method, path, tc.Caller))
			if letIn := answer.Code == http.StatusOK; letIn != tc.Allowed {
				t.Errorf("answer is %d %s, want let in: %v", answer.Code, answer.Body, tc.Allowed)
			}
		})
	}
}

func TestReadsAreOpenToThisMachineOnly(t *testing.T) {
	loopback := access.TokensConfig{Loopback: true}
	proxied := access.TokensConfig{Loopback: true, Proxies: mustProxies(t, "127.0.0.1")}
	cases := map[string]struct {
		config access.TokensConfig
		remote string
		header http.Header
		status int
	}{
		"from this machine":                         {loopback, "127.0.0.1:1", nil, 200},
		"from this machine by IPv6":                 {loopback, "[::1]:1", nil, 200},
		"from elsewhere":                            {loopback, "192.0.2.1:1", nil, 401},
		"listener is not on loopback":               {access.TokensConfig{}, "127.0.0.1:1", nil, 401},
		"forwarded":                                 {loopback, "127.0.0.1:1", http.Header{"X-Forwarded-For": {"127.0.0.1"}}, 401},
		"forwarded, by another header":              {loopback, "127.0.0.1:1", http.Header{"Forwarded": {"for=127.0.0.1"}}, 401},
		"forwarded, empty":                          {loopback, "127.0.0.1:1", http.Header{"X-Real-Ip": {""}}, 401},
		"by a trusted proxy for this machine":       {proxied, "127.0.0.1:1", http.Header{"X-Forwarded-For": {"127.0.0.1"}}, 200},
		"by a trusted proxy for somebody else":      {proxied, "127.0.0.1:1", http.Header{"X-Forwarded-For": {"192.0.2.1"}}, 401},
		"by a trusted proxy for somebody who lies":  {proxied, "127.0.0.1:1", http.Header{"X-Forwarded-For": {"127.0.0.1, 192.0.2.1"}}, 401},
		"by a trusted proxy through another one":    {proxied, "127.0.0.1:1", http.Header{"X-Forwarded-For": {"::1", "127.0.0.1, 127.0.0.2"}}, 200},
		"by a trusted proxy that tells the port":    {proxied, "127.0.0.1:1", http.Header{"X-Forwarded-For": {"192.0.2.1:4711"}}, 401},
		"by a trusted proxy that does not know":     {proxied, "127.0.0.1:1", http.Header{"X-Forwarded-For": {"unknown"}, "X-Real-Ip": {"127.0.0.1"}}, 401},
		"by a trusted proxy that tells two":         {proxied, "127.0.0.1:1", http.Header{"X-Forwarded-For": {"127.0.0.1"}, "X-Real-Ip": {"192.0.2.1"}}, 401},
		"by a trusted proxy that does not say":      {proxied, "127.0.0.1:1", http.Header{"Via": {"1.1 proxy"}}, 401},
		"by a trusted proxy that says nothing":      {proxied, "127.0.0.1:1", http.Header{"X-Forwarded-For": {""}}, 401},
		"by a trusted proxy that says it otherwise": {proxied, "127.0.0.1:1", http.Header{"Forwarded": {"for=192.0.2.1"}}, 401},
		"public reads":                              {access.TokensConfig{PublicReads: true}, "192.0.2.1:1", nil, 200},
		"unknown token":                             {loopback, "127.0.0.1:1", http.Header{"Authorization": {"Bearer nobody"}}, 401},
		"another scheme":                            {loopback, "127.0.0.1:1", http.Header{"Authorization": {"Basic eDp5"}}, 200},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, []route.Route{open("GET", "/runs", "millrace", route.LoopbackOrViewer)}, tc.config)
			r := httptest.NewRequest(http.MethodGet, "/runs", nil)
			r.RemoteAddr, r.Host = tc.remote, "localhost:8480"
			for name, values := range tc.header {
				r.Header[name] = values
			}
			answer := httptest.NewRecorder()
			w.engine.ServeHTTP(answer, r)
			if answer.Code != tc.status {
				t.Errorf("answer is %d %s, want %d", answer.Code, answer.Body, tc.status)
			}
			if tc.status == http.StatusUnauthorized && !strings.HasPrefix(answer.Header().Get("WWW-Authenticate"), "Bearer ") {
				t.Errorf("WWW-Authenticate is %q, want Bearer", answer.Header().Get("WWW-Authenticate"))
			}
		})
	}
}

func TestReadsWithoutATokenWantAHostThatIsThisMachine(t *testing.T) {
	config := access.TokensConfig{Loopback: true, Proxies: mustProxies(t, "127.0.0.1")}
	w := newWorld(t, []route.Route{open("GET", "/runs", "millrace", route.LoopbackOrViewer)}, config)
	for host, status := range map[string]int{
		"localhost": 200, "LocalHost:8480": 200, "localhost.:8480": 200, "millrace.localhost:1": 200,
		"127.0.0.1": 200, "127.1.2.3:8480": 200, "[::1]": 200, "[::1]:8480": 200, "[::ffff:127.0.0.1]:8480": 200,
		"": 401, "evil.com": 401, "evil.com:8480": 401, "localhost.evil.com": 401, "evillocalhost": 401, "127.0.0.1.evil.com": 401,
		"192.0.2.1:8480": 401, "0.0.0.0:8480": 401, "[::]:8480": 401, "127.0.0.1:8480:1": 401,
	} {
		for _, header := range []http.Header{{}, {"X-Forwarded-For": {"127.0.0.1"}}} {
			r := httptest.NewRequest(http.MethodGet, "/runs", nil)
			r.RemoteAddr, r.Host, r.Header = "127.0.0.1:1", host, header
			answer := httptest.NewRecorder()
			w.engine.ServeHTTP(answer, r)
			if answer.Code != status {
				t.Errorf("Host %q with %v: answer is %d, want %d", host, header, answer.Code, status)
			}
		}
	}
	r := as(http.MethodGet, "/runs", route.Viewer)
	r.RemoteAddr, r.Host = "127.0.0.1:1", "millrace.example"
	answer := httptest.NewRecorder()
	if w.engine.ServeHTTP(answer, r); answer.Code != http.StatusOK {
		t.Errorf("a token under another Host: answer is %d, want 200", answer.Code)
	}
}

func TestPublicReadsDoNotOpenWhatViewersMayNotRead(t *testing.T) {
	w := newWorld(t, []route.Route{open("GET", "/metrics", "millrace", route.Loopback|route.TokenOperator)},
		access.TokensConfig{PublicReads: true, Loopback: true})
	for remote, status := range map[string]int{"192.0.2.1:1": 401, "127.0.0.1:1": 200} {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.RemoteAddr, r.Host = remote, "localhost:8480"
		answer := httptest.NewRecorder()
		w.engine.ServeHTTP(answer, r)
		if answer.Code != status {
			t.Errorf("from %s the answer is %d, want %d", remote, answer.Code, status)
		}
	}
}

func TestSecretsThatNobodyCanHaveCountAsGuesses(t *testing.T) {
	for name, secret := range map[string]string{"none": "", "too long": strings.Repeat("x", 129)} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, []route.Route{open("GET", "/upload", "pgperffarm", route.MachineSecret)}, access.TokensConfig{})
			statuses := map[int]int{}
			for range 25 {
				r := httptest.NewRequest(http.MethodGet, "/upload", nil)
				r.Header.Set("Authorization", secret)
				answer := httptest.NewRecorder()
				w.engine.ServeHTTP(answer, r)
				statuses[answer.Code]++
			}
			if statuses[http.StatusNotAcceptable] != 20 || statuses[http.StatusTooManyRequests] != 5 {
				t.Errorf("answers by status are %v, want 20 of 406, then 429", statuses)
			}
		})
	}
}

func TestUploadWithTwoSecretsIsRefused(t *testing.T) {
	w := newWorld(t, []route.Route{open("POST", "/run/upload", "pgperffarm", route.MachineSecret)}, access.TokensConfig{})
	for _, second := range []string{goodSecret, waitingSecret, ""} {
		r := as(http.MethodPost, "/run/upload", route.Machine)
		r.Header.Add("Authorization", second)
		answer := httptest.NewRecorder()
		w.engine.ServeHTTP(answer, r)
		if answer.Code != http.StatusNotAcceptable || !strings.Contains(answer.Body.String(), "one Authorization header") {
			t.Errorf("a second secret %q: answer is %d %s, want 406", second, answer.Code, answer.Body)
		}
	}
}

func mustProxies(t *testing.T, list ...string) access.Proxies {
	t.Helper()
	proxies, err := access.ParseProxies(list)
	if err != nil {
		t.Fatal(err)
	}
	return proxies
}

func TestTokenOfLesserRoleIs403NamingTheRole(t *testing.T) {
	w := newWorld(t, []route.Route{open("POST", "/admin", "millrace", route.TokenOperator)}, access.TokensConfig{})
	answer := httptest.NewRecorder()
	w.engine.ServeHTTP(answer, as(http.MethodPost, "/admin", route.Writer))
	want := `{"error":"token \"writer\" has the role writer, and this wants: operator"}`
	if answer.Code != http.StatusForbidden || answer.Body.String() != want {
		t.Errorf("answer is %d %s, want 403 %s", answer.Code, answer.Body, want)
	}
}

func TestWhoSendsNoTokenIsToldTheRolesThatHaveOne(t *testing.T) {
	w := newWorld(t, []route.Route{open("GET", "/runs", "millrace", route.LoopbackOrViewer)}, access.TokensConfig{})
	answer := httptest.NewRecorder()
	w.engine.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/runs", nil))
	want := `{"error":"this wants a token (viewer, writer, operator): send Authorization: Bearer TOKEN"}`
	if answer.Code != http.StatusUnauthorized || answer.Body.String() != want {
		t.Errorf("answer is %d %s, want 401 %s", answer.Code, answer.Body, want)
	}
}

func TestRefusalRestsOnTheLogsEnd(t *testing.T) {
	w := newWorld(t, []route.Route{open("GET", "/runs", "millrace", route.TokenViewer)}, access.TokensConfig{})
	hash := access.HashToken(w.ring, "fresh")
	w.pending = append(w.pending, &event.TokenAddRequested{Name: "fresh", TokenHash: hash[:], Role: event.Role_ROLE_VIEWER})
	answer := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/runs", nil)
	r.Header.Set("Authorization", "Bearer fresh")
	w.engine.ServeHTTP(answer, r)
	if answer.Code != http.StatusOK || w.caught != 1 {
		t.Errorf("answer is %d after catching up %d times, want 200 after 1", answer.Code, w.caught)
	}
	w.engine.ServeHTTP(httptest.NewRecorder(), r)
	if w.caught != 1 {
		t.Errorf("a token that is known was looked up at the log's end")
	}
}

func TestWhileTheLogIsOutOfReachNobodyIsRefusedForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		machine := route.Param{Name: access.MachineParam, Type: route.Integer, Description: "its id"}
		w := newWorld(t, []route.Route{
			open("GET", "/runs", "millrace", route.TokenViewer),
			open("GET", "/machine/user", "pgperffarm", route.Session),
			open("POST", "/machine/edit/:machine_id", "pgperffarm", route.Owner, machine),
			open("POST", "/run/upload", "pgperffarm", route.MachineSecret),
		}, access.TokensConfig{})
		w.down = errors.New("no broker")
		token := httptest.NewRequest(http.MethodGet, "/runs", nil)
		token.Header.Set("Authorization", "Bearer unknown")
		session := httptest.NewRequest(http.MethodGet, "/machine/user", nil)
		session.AddCookie(&http.Cookie{Name: access.SessionCookie, Value: "unknown"})
		waiting := httptest.NewRequest(http.MethodPost, "/run/upload", nil)
		waiting.Header.Set("Authorization", waitingSecret)
		for _, r := range []*http.Request{token, session, as(http.MethodPost, "/machine/edit/1", route.StaffUser), waiting} {
			answer := httptest.NewRecorder()
			w.engine.ServeHTTP(answer, r)
			if answer.Code != http.StatusServiceUnavailable || answer.Header().Get("Retry-After") == "" {
				t.Errorf("%s: answer is %d, want 503 with Retry-After", r.URL, answer.Code)
			}
		}
		for _, r := range []*http.Request{as("GET", "/runs", route.Viewer), as("GET", "/machine/user", route.User), as("POST", "/run/upload", route.Machine)} {
			answer := httptest.NewRecorder()
			w.engine.ServeHTTP(answer, r)
			if answer.Code != http.StatusOK {
				t.Errorf("%s: who is known gets %d, want 200", r.URL, answer.Code)
			}
		}
	})
}

func TestLoginRedirectEncodesPathAndQuery(t *testing.T) {
	w := newWorld(t, []route.Route{open("GET", "/machine/user", "pgperffarm", route.Session)}, access.TokensConfig{})
	cases := map[string]string{
		"/machine/user?a=b":        "/user/community_login?next=/machine/user%3Fa%3Db",
		"/machine/user":            "/user/community_login?next=/machine/user",
		"/machine/user?q=%C3%BC+1": "/user/community_login?next=/machine/user%3Fq%3D%25C3%25BC%2B1",
		"/machine/user?~a-b_c.d/e": "/user/community_login?next=/machine/user%3F~a-b_c.d/e",
	}
	for path, want := range cases {
		answer := httptest.NewRecorder()
		w.engine.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		if got := answer.Header().Get("Location"); answer.Code != http.StatusFound || got != want {
			t.Errorf("%s: %d to %q, want 302 to %q", path, answer.Code, got, want)
		}
		if answer.Header().Get("Vary") != "Cookie" {
			t.Errorf("Vary is %q, want Cookie", answer.Header().Get("Vary"))
		}
	}
}

func TestExpiredSessionIsAnonymous(t *testing.T) {
	w := newWorld(t, []route.Route{open("GET", "/machine/user", "pgperffarm", route.Session)}, access.TokensConfig{})
	name, session, callback := access.HashUser(w.ring, "old"), access.HashSession(w.ring, "old-session"), access.HashToken(w.ring, "c")
	w.apply(&event.FarmSignInRequested{User: &event.FarmUser{NameHash: name[:]}, CallbackHash: callback[:], SessionHash: session[:],
		SessionExpires: now().Unix()})
	r := httptest.NewRequest(http.MethodGet, "/machine/user", nil)
	r.AddCookie(&http.Cookie{Name: access.SessionCookie, Value: "old-session"})
	answer := httptest.NewRecorder()
	w.engine.ServeHTTP(answer, r)
	if answer.Code != http.StatusFound {
		t.Errorf("answer is %d, want 302", answer.Code)
	}
}

func TestVisitorOfAnOpenRouteIsKnown(t *testing.T) {
	var farm *access.Farm
	var seen *access.Visitor
	r := open("GET", "/list", "pgperffarm", route.Anyone)
	r.Handler = func(c *gin.Context) { seen = farm.Visitor(c) }
	w := newWorld(t, []route.Route{r}, access.TokensConfig{})
	farm = access.NewFarm(access.FarmConfig{}, w.memory, w.ring, access.NewAttempts(), now)
	w.engine.ServeHTTP(httptest.NewRecorder(), as("GET", "/list", route.StaffUser))
	if seen == nil || seen.User != 2 || !seen.Staff {
		t.Errorf("visitor is %+v, want user 2, staff", seen)
	}
	w.engine.ServeHTTP(httptest.NewRecorder(), as("GET", "/list", route.Anonymous))
	if seen != nil {
		t.Errorf("visitor is %+v, want none", seen)
	}
}

func TestAttemptsForgetAsTimePassesAndKeepAddressesApart(t *testing.T) {
	attempts := access.NewAttempts()
	var hash registry.Hash
	for range 25 {
		attempts.Failed("2001:db8::1", now())
	}
	for address, waits := range map[string]bool{"2001:db8::2": true, "2001:db8:0:1::1": false, "192.0.2.1": false, "::ffff:192.0.2.1": false} {
		if wait := attempts.Wait(address, hash, now()); (wait > 0) != waits || wait > time.Second {
			t.Errorf("%s waits %s, want to wait: %v", address, wait, waits)
		}
	}
	if wait := attempts.Wait("2001:db8::1", hash, now().Add(time.Second)); wait > 0 {
		t.Errorf("after a second the wait is %s, want none", wait)
	}
}

func TestAttemptsRememberABoundedNumberOfAddresses(t *testing.T) {
	attempts := access.NewAttempts()
	var hash registry.Hash
	address := func(i int) string { return net.IPv4(10, byte(i>>16), byte(i>>8), byte(i)).String() }
	for range 21 {
		attempts.Failed(address(0), now())
	}
	for i := range 60_000 {
		attempts.Failed(address(i+1), now())
	}
	if wait := attempts.Wait(address(0), hash, now()); wait > 0 {
		t.Errorf("an address is remembered behind 60,000 others")
	}
	for range 20 {
		attempts.Failed(address(60_000), now())
	}
	if wait := attempts.Wait(address(60_000), hash, now()); wait == 0 {
		t.Errorf("the newest address is not remembered")
	}
}

func TestProxiesAreAddressesAndNetworks(t *testing.T) {
	for _, text := range []string{"", "localhost", "10.0.0.0/33", "10.0.0"} {
		if _, err := access.ParseProxies([]string{text}); err == nil || !strings.Contains(err.Error(), "trusted_proxies") {
			t.Errorf("%q gives the error %v, want one that names trusted_proxies", text, err)
		}
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.RemoteAddr = "10.1.2.3:1"
	r.Header.Set("X-Forwarded-Proto", "https")
	for text, secure := range map[string]bool{"10.1.2.3": true, "10.0.0.0/8": true, "10.1.2.4": false, "::/0": false} {
		if got := mustProxies(t, text).Secure(r); got != secure {
			t.Errorf("behind %s Secure is %v, want %v", text, got, secure)
		}
	}
}

func TestLogOfAnotherInstallationIsRefused(t *testing.T) {
	w := newMemory()
	ring := newRing(t)
	if named, err := access.CheckKey(t.Context(), w, ring); named || err != nil {
		t.Errorf("an empty log gives %v, %v; want false and no error", named, err)
	}
	w.pending = []proto.Message{&event.LogStarted{KeyId: ring.ID()}}
	if named, err := access.CheckKey(t.Context(), w, ring); !named || err != nil {
		t.Errorf("the installation's own log gives %v, %v; want true and no error", named, err)
	}
	_, err := access.CheckKey(t.Context(), w, newRing(t))
	if err == nil || !strings.Contains(err.Error(), "MILLRACE_KEY_FILE") || !strings.Contains(err.Error(), ring.ID()) {
		t.Errorf("error is %v, want one that names the key and what to do", err)
	}
}

func TestProfilesOpenOnlyForTheirUserAndUntilErased(t *testing.T) {
	ring := newRing(t)
	jane, john := access.HashUser(ring, "jdoe"), access.HashUser(ring, "john")
	sealed, err := access.SealProfile(ring, jane, &event.FarmProfile{Username: "jdoe", Email: "jane@example.org"})
	if err != nil {
		t.Fatal(err)
	}
	profile, err := access.OpenProfile(ring, jane, sealed)
	if err != nil || profile.GetEmail() != "jane@example.org" {
		t.Errorf("profile is %v, %v", profile, err)
	}
	if _, err := access.OpenProfile(ring, john, sealed); err == nil {
		t.Error("a profile opens for another user")
	}
	if err := ring.Erase(access.Subject(jane)); err != nil {
		t.Fatal(err)
	}
	if _, err := access.OpenProfile(ring, jane, sealed); !errors.Is(err, keyring.ErrErased) {
		t.Errorf("an erased profile gives %v, want ErrErased", err)
	}
}
