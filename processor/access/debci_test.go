package access_test

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gin-gonic/gin"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/keyring"
	"github.com/millrace/millrace/schemas/route"
)

// addKey is the event that gives a debci user a key.
func addKey(t *testing.T, ring *keyring.Keyring, name, key string) *event.DebciKeyAddRequested {
	t.Helper()
	user, hash := access.HashDebciUser(ring, name), access.HashDebciKey(ring, key)
	sealed, err := access.SealDebciName(ring, user, name)
	if err != nil {
		t.Fatal(err)
	}
	return &event.DebciKeyAddRequested{NameHash: user[:], SealedName: sealed, KeyHash: hash[:]}
}

func newDebci(t *testing.T, replica *memory, ring *keyring.Keyring) *gin.Engine {
	t.Helper()
	engine := gin.New()
	err := route.Mount(engine, []route.Route{{
		Method: http.MethodGet, Path: "/auth", Side: route.Query, API: "debci", Access: route.DebciKey, Summary: "Test a key",
		Answers: []route.Answer{{Status: 200}},
		Handler: func(c *gin.Context) {
			if user, ok := route.Principal[access.DebciUser](c); !ok || user.Hash != access.HashDebciUser(ring, user.Name) {
				t.Errorf("the principal is %+v", user)
			}
			c.Status(http.StatusOK)
		},
	}}, route.Options{Log: slog.New(slog.DiscardHandler), APIs: map[string]route.API{"debci": access.NewDebci(replica, ring).API()}})
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

func askWithKey(engine *gin.Engine, method, key string) *httptest.ResponseRecorder {
	request := httptest.NewRequest(method, "/auth", nil)
	if key != "" {
		request.Header.Set(access.DebciKeyHeader, key)
	}
	answer := httptest.NewRecorder()
	engine.ServeHTTP(answer, request)
	return answer
}

func TestDebciKeysNameTheirUserAndOthersAreRefused(t *testing.T) {
	replica, ring := newMemory(), newRing(t)
	engine := newDebci(t, replica, ring)
	replica.apply(addKey(t, ring, "jane", "k1"))
	replica.apply(addKey(t, ring, "jane", "k2"))
	replica.pending = []proto.Message{addKey(t, ring, "joe", "k3")} // made a moment ago, at another replica
	for key, name := range map[string]string{"k1": "jane", "k2": "jane", "k3": "joe"} {
		if answer := askWithKey(engine, http.MethodGet, key); answer.Code != http.StatusOK || answer.Header().Get("Auth-User") != name {
			t.Errorf("key %s: %d for %q, want 200 for %s", key, answer.Code, answer.Header().Get("Auth-User"), name)
		}
	}
	for _, key := range []string{"", "k4", string(make([]byte, 500))} {
		answer := askWithKey(engine, http.MethodGet, key)
		if answer.Code != http.StatusForbidden || answer.Body.String() != "Invalid key\n" ||
			answer.Header().Get("Content-Type") != "text/html;charset=utf-8" || answer.Header().Get("Auth-User") != "" {
			t.Errorf("key %.5q: %d %q %v", key, answer.Code, answer.Body, answer.Header())
		}
	}
	if answer := askWithKey(engine, http.MethodPut, "k1"); answer.Code != http.StatusNotFound || answer.Header().Get("Allow") != "" {
		t.Errorf("an unknown method: %d %v, want 404", answer.Code, answer.Header())
	}
}

func TestDebciKeysOfAnErasedUserAreRefused(t *testing.T) {
	replica, ring := newMemory(), newRing(t)
	engine := newDebci(t, replica, ring)
	replica.apply(addKey(t, ring, "jane", "k1"))
	if err := ring.Erase(access.DebciSubject(access.HashDebciUser(ring, "jane"))); err != nil {
		t.Fatal(err)
	}
	if answer := askWithKey(engine, http.MethodGet, "k1"); answer.Code != http.StatusForbidden {
		t.Errorf("status %d %s, want 403", answer.Code, answer.Body)
	}
}

func TestUnknownDebciKeyIsNotRefusedWhileTheLogIsOutOfReach(t *testing.T) {
	replica, ring := newMemory(), newRing(t)
	engine := newDebci(t, replica, ring)
	replica.down = errors.New("no broker")
	if answer := askWithKey(engine, http.MethodGet, "k1"); answer.Code != http.StatusServiceUnavailable || answer.Header().Get("Retry-After") == "" {
		t.Errorf("status %d, want 503 with Retry-After", answer.Code)
	}
}
