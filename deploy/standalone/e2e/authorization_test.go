package e2e

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/millrace/millrace/schemas/route"
)

// cast is one caller of each kind.
type cast struct {
	lab     *Lab
	machine machine
	run     storedRun
	tokens  map[route.Caller]string
	debci   *caller
	// clients are those of Testflinger's, by the kind of their role.
	clients map[route.Caller]*testflingerClient
}

func newCast(t *testing.T, lab *Lab) *cast {
	t.Helper()
	c := &cast{lab: lab, run: newRun(t, lab), tokens: map[route.Caller]string{}}
	c.machine, c.debci = c.run.machine, lab.debciUser(t, Unique("debci"))
	c.clients = map[route.Caller]*testflingerClient{
		route.TestflingerAdmin: lab.client(t, "admin"), route.TestflingerManager: lab.client(t, "manager"),
		route.TestflingerContributor: lab.client(t, "contributor"), route.TestflingerAgent: lab.client(t, "agent"),
	}
	for _, role := range []route.Caller{route.Viewer, route.Writer, route.Operator} {
		c.tokens[role] = lab.Token(t, role.String())
	}
	return c
}

// play is a caller of a kind. All but those who are on this machine come by a proxy that nobody trusts.
func (c *cast) play(t *testing.T, kind route.Caller) *caller {
	t.Helper()
	remote := c.lab.visitor(t).with("X-Forwarded-For", "203.0.113.9").with("Cookie", "csrftoken=t").with("X-CSRFToken", "t")
	switch kind {
	case route.Local:
		return remote.with("X-Forwarded-For", "")
	case route.Machine:
		return remote.as(c.machine)
	case route.User:
		return c.signedIn(t, Unique("john"))
	case route.OwnerUser:
		return c.signedIn(t, c.machine.Owner)
	case route.StaffUser:
		return c.signedIn(t, staff)
	case route.DebciUser:
		return remote.with("Auth-Key", c.debci.header.Get("Auth-Key"))
	case route.TestflingerAdmin, route.TestflingerManager, route.TestflingerContributor, route.TestflingerAgent:
		return remote.with("Authorization", c.clients[kind].token(t))
	case route.TestflingerSecret:
		return remote.with("Authorization", c.clients[route.TestflingerAdmin].basic())
	case route.Viewer, route.Writer, route.Operator:
		return remote.with("Authorization", "Bearer "+c.tokens[kind])
	}
	return remote
}

func (c *cast) signedIn(t *testing.T, name string) *caller {
	t.Helper()
	return c.lab.browser(t, name).with("X-Forwarded-For", "203.0.113.9")
}

// path fills a pattern's parameters with what there is.
func (c *cast) path(pattern string) string {
	path := c.run.filled(pattern)
	if strings.HasPrefix(path, "/tpch/details/") {
		path = "/tpch/details/" + strconv.FormatUint(c.run.tpch, 10)
	}
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		if strings.HasPrefix(segment, ":") || strings.HasPrefix(segment, "*") {
			segments[i] = "1"
		}
	}
	return strings.Join(segments, "/")
}

// body is what a request to a path carries: where an endpoint looks at it before it looks at its caller, or takes a
// credential from it, it has to be a good one.
func (c *cast) body(path string) []byte {
	switch path {
	case "/run/upload":
		return smallDocument(0).body() // stored already, so that it has no further effect
	case "/ui/sign-in":
		return []byte("token=" + c.tokens[route.Viewer])
	}
	return nil
}

// isRefusal tells whether an answer turns its caller away: for want of a token or a role, of a session, of the forgery
// token or ownership, or of a machine's secret.
func isRefusal(a Answer) bool {
	switch a.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return true
	case http.StatusFound:
		return strings.HasPrefix(a.Header.Get("Location"), "/user/community_login")
	case http.StatusNotAcceptable:
		return strings.Contains(string(a.Body), "secret")
	}
	return false
}

func TestEveryCallerIsLetInAsTheTableSays(t *testing.T) {
	lab := start(t, "standalone")
	cast := newCast(t, lab)
	routes, err := tables()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range route.Matrix(routes) {
		t.Run(tc.Name(), func(t *testing.T) {
			by := cast.play(t, tc.Caller)
			answer := by.do(t, tc.Route.Method, cast.path(tc.Route.Path), cast.body(tc.Route.Path))
			if isRefusal(answer) == tc.Allowed || answer.Status >= http.StatusInternalServerError {
				t.Errorf("the answer is %d %.300s; the table lets in %s", answer.Status, answer.Body, tc.Route.Access)
			}
		})
	}
}

// What a proxy hands on does not come from this machine, whatever it says, unless the operator trusts the proxy.
func TestForwardedRequestIsRemoteUnlessItsProxyIsTrusted(t *testing.T) {
	const path = "/millrace/v1/machines"
	trusting := startWith(t, "MILLRACE_TRUSTED_PROXIES=127.0.0.1")
	public := startWith(t, "MILLRACE_PUBLIC_READS=on")
	everywhere := startWith(t, "MILLRACE_LISTEN=0.0.0.0:*")
	for _, tc := range []struct {
		name, header, value string
		lab                 *Lab
		status              int
	}{
		{"direct", "", "", trusting, http.StatusOK},
		{"by the trusted proxy for this machine", "X-Forwarded-For", "127.0.0.1", trusting, http.StatusOK},
		{"by the trusted proxy for somebody else", "X-Forwarded-For", "203.0.113.9", trusting, http.StatusUnauthorized},
		{"by the trusted proxy for one who claims to be here", "X-Forwarded-For", "127.0.0.1, 203.0.113.9", trusting, http.StatusUnauthorized},
		{"by the trusted proxy in another form", "Forwarded", "for=203.0.113.9", trusting, http.StatusUnauthorized},
		{"to a listener that others reach too", "", "", everywhere, http.StatusUnauthorized},
		{"for somebody else where reads are public", "X-Forwarded-For", "203.0.113.9", public, http.StatusOK},
	} {
		t.Run(tc.name, func(t *testing.T) {
			answer := tc.lab.visitor(t).with(tc.header, tc.value).get(t, path)
			if answer.Status != tc.status {
				t.Errorf("status %d, want %d: %s", answer.Status, tc.status, answer.Body)
			}
			if page := tc.lab.visitor(t).with(tc.header, tc.value).get(t, "/ui"); page.Status != tc.status {
				t.Errorf("the pages answer %d, want %d", page.Status, tc.status)
			}
			tc.lab.visitor(t).with(tc.header, tc.value).get(t, "/millrace/v1/dead-letters").refuses(t, http.StatusUnauthorized, "operator")
		})
	}
}
