package access_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/schemas/route"
)

// testflingerDoor has a route for each set of callers, named by it.
func testflingerDoor(t *testing.T, tokens *testflinger.Tokens) *gin.Engine {
	t.Helper()
	var routes []route.Route
	for path, in := range map[string]route.Access{
		"/anyone": route.Anyone, "/token": route.TestflingerToken, "/clients": route.TestflingerClients,
		"/managers": route.TestflingerManagers, "/admins": route.TestflingerAdmins, "/agents": route.TestflingerAgents,
		"/humans": route.TestflingerToken &^ route.TestflingerAgents,
	} {
		routes = append(routes, route.Route{
			Method: http.MethodGet, Path: path, Side: route.Query, API: "testflinger", Access: in, Summary: "Test a token",
			Answers: []route.Answer{{Status: 200}},
			Handler: func(c *gin.Context) {
				caller, _ := route.Principal[access.TestflingerCaller](c)
				id := ""
				if caller.Permission != nil {
					id = caller.Permission.ClientID
				}
				c.String(http.StatusOK, "%s %v", id, caller.Fault)
			},
		})
	}
	engine := gin.New()
	err := route.Mount(engine, routes, route.Options{
		Log: slog.New(slog.DiscardHandler), APIs: map[string]route.API{"testflinger": access.NewTestflinger(tokens).API()},
	})
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

func askWithToken(engine *gin.Engine, path, authorization string) string {
	request := httptest.NewRequest(http.MethodGet, path, nil)
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	answer := httptest.NewRecorder()
	engine.ServeHTTP(answer, request)
	return fmt.Sprintf("%d %s", answer.Code, strings.TrimSpace(answer.Body.String()))
}

func TestTestflingerRolesAreLetInAsTheTableSays(t *testing.T) {
	now := func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }
	for _, g := range []testflinger.Generation{testflinger.Seed, testflinger.Latest} {
		tokens := testflinger.NewTokens(g, []byte("key"), now)
		engine := testflingerDoor(t, tokens)
		as := func(role testflinger.Role) string {
			token, err := tokens.Sign(testflinger.Permission{ClientID: string(role), Role: role})
			if err != nil {
				t.Fatal(err)
			}
			return "Bearer " + token
		}
		nobody := map[testflinger.Generation]string{
			testflinger.Seed:   `401 {"detail":{},"message":"Authentication is required for specified endpoint"}`,
			testflinger.Latest: `403 {"detail":{},"message":"Specified action requires role: admin, manager"}`,
		}
		for _, tc := range []struct{ path, authorization, want string }{
			{"/clients", as(testflinger.Contributor), "200 contributor <nil>"},
			{"/clients", as(testflinger.Agents), `403 {"detail":{},"message":"Specified action requires role: admin, manager, contributor"}`},
			{"/clients", as(testflinger.User), `403 {"detail":{},"message":"Specified action requires role: admin, manager, contributor"}`},
			{"/managers", as(testflinger.Contributor), `403 {"detail":{},"message":"Specified action requires role: admin, manager"}`},
			{"/managers", as(testflinger.Manager), "200 manager <nil>"},
			{"/managers", "", nobody[g]},
			{"/clients", "", `401 {"detail":{},"message":"Authentication is required for specified endpoint"}`},
			{"/admins", as(testflinger.Manager), `403 {"detail":{},"message":"Specified action requires role: admin"}`},
			{"/admins", as(testflinger.Admin), "200 admin <nil>"},
			{"/agents", as(testflinger.Agents), "200 agent <nil>"},
			{"/agents", as(testflinger.Admin), `403 {"detail":{},"message":"Specified action requires role: agent"}`},
			{"/humans", as(testflinger.Agents), `403 {"detail":{},"message":"Specified action requires role: admin, manager, contributor"}`},
			{"/humans", "", "200 <nil>"},
			{"/token", "", "200 <nil>"},
			{"/token", as(testflinger.User), "200 user <nil>"},
		} {
			if got := askWithToken(engine, tc.path, tc.authorization); got != tc.want {
				t.Errorf("%s: %s as %.20q: %s, want %s", g, tc.path, tc.authorization, got, tc.want)
			}
		}
		if got := askWithToken(engine, "/anyone", "Bearer x"); !strings.HasPrefix(got, "200") {
			t.Errorf("%s: where anyone may come, a bad token is answered %s", g, got)
		}
		if got := askWithToken(engine, "/token", "Bearer x"); !strings.HasPrefix(got, "403") {
			t.Errorf("%s: where a token may come, a bad one is answered %s", g, got)
		}
	}
}

func TestTestflingerSecretsAreStoredSoThatTheyCannotBeReadAndOthersDoNotFit(t *testing.T) {
	ring := newRing(t)
	long := strings.Repeat("x", 100)
	encrypted, err := access.EncryptTestflingerSecret(ring, long+"1")
	if err != nil {
		t.Fatal(err)
	}
	if !access.IsTestflingerSecret(ring, encrypted, long+"1") || access.IsTestflingerSecret(ring, encrypted, long+"2") {
		t.Error("the end of a long secret does not count")
	}
	if access.IsTestflingerSecret(newRing(t), encrypted, long+"1") {
		t.Error("a secret fits under another installation's key")
	}
}

func TestFaultsOfTheServerAreTexts(t *testing.T) {
	fail := func(path string, handler gin.HandlerFunc) route.Route {
		return route.Route{
			Method: http.MethodGet, Path: path, Side: route.Query, API: "testflinger", Access: route.Anyone, Summary: "Fail",
			Answers: []route.Answer{{Status: 200}}, Handler: handler,
		}
	}
	engine := gin.New()
	err := route.Mount(engine, []route.Route{
		fail("/v1/fault", func(c *gin.Context) { route.Refuse(c, errors.New("secret")) }),
		fail("/v1/panic", func(*gin.Context) { panic("secret") }),
		fail("/v1/said", func(c *gin.Context) {
			route.Refuse(c, route.Errorf(http.StatusInternalServerError, "as the contract words it"))
		}),
	}, route.Options{Log: slog.New(slog.DiscardHandler), APIs: map[string]route.API{"testflinger": access.TestflingerForm()}})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/v1/fault", "/v1/panic"} {
		if got := askWithToken(engine, path, ""); !strings.HasPrefix(got, "500 Unhandled Exception: ") || strings.Contains(got, "secret") {
			t.Errorf("%s is answered %s", path, got)
		}
	}
	if got := askWithToken(engine, "/v1/said", ""); got != `500 {"detail":{},"message":"as the contract words it"}` {
		t.Errorf("a refusal is answered %s", got)
	}
}
