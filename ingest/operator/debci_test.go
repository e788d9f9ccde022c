package operator_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"testing"

	"github.com/google/uuid"

	"github.com/millrace/millrace/ingest/operator"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/schemas/keyring"
)

// debciName is whose a key is, "" when it does not work.
func (d *desk) debciName(key string) string {
	d.t.Helper()
	var sealed []byte
	var user registry.Hash
	d.registry.View(func(s *registry.State) { user, sealed, _ = s.DebciKey(access.HashDebciKey(d.ring, key)) })
	if sealed == nil {
		return ""
	}
	name, err := access.OpenDebciName(d.ring, user, sealed)
	if err != nil {
		d.t.Fatal(err)
	}
	return name
}

func TestDebciKeyIsShownOnceAndWorksUntilItIsRevoked(t *testing.T) {
	d := newDesk(t)
	var first, again operator.DebciKey
	for _, into := range []*operator.DebciKey{&first, &again} {
		answer := d.post("/admin/debci/keys", `{"user": "jane"}`, "k1")
		if err := json.Unmarshal(answer.Body.Bytes(), into); err != nil || answer.Code != http.StatusCreated {
			t.Fatalf("%d %s", answer.Code, answer.Body)
		}
	}
	if _, err := uuid.Parse(first.Key); err != nil || again.Key != "" || first.User != "jane" {
		t.Errorf("first answer %+v, repeat %+v; want a UUID in the first only", first, again)
	}
	for _, key := range []string{"second", "third"} {
		d.command("/debci/keys", `{"user": "jane", "key": "`+key+`"}`, 201)
	}
	d.command("/debci/keys", `{"user": "joe", "key": "second"}`, 409)
	d.command("/debci/keys/revoke", `{"user": "jane", "key": "second"}`, 200)
	d.command("/debci/keys/revoke", `{"user": "jane", "key": "second"}`, 404)
	if d.debciName("second") != "" || d.debciName("third") != "jane" || d.debciName(first.Key) != "jane" {
		t.Error("of three keys the revoked one must not work and the others must")
	}
	d.command("/debci/keys/revoke", `{"user": "jane", "all": true}`, 200)
	if d.debciName("third") != "" || d.debciName(first.Key) != "" {
		t.Error("a key works after all were revoked")
	}
	d.command("/debci/keys", `{"user": "jane", "key": "third"}`, 201)
	if d.debciName("third") != "jane" {
		t.Error("a user without keys gets none")
	}
}

func TestDebciKeyCommandsThatAreWrongAreRefused(t *testing.T) {
	d := newDesk(t)
	for body, status := range map[string]int{
		`{"user": ""}`: 400, `{"user": " jane"}`: 400, `{"user": "ja\nne"}`: 400, `{"user": "jane", "key": "with space"}`: 400,
		`{"user": "jane", "kee": "x"}`: 400,
	} {
		d.command("/debci/keys", body, status)
	}
	for body, status := range map[string]int{
		`{"user": "nobody", "all": true}`: 404, `{"user": "nobody"}`: 400, `{"user": "nobody", "key": "k", "all": true}`: 400,
	} {
		d.command("/debci/keys/revoke", body, status)
	}
}

func TestEraseEndsADebciUserAndTheName(t *testing.T) {
	d := newDesk(t)
	d.command("/debci/keys", `{"user": "jane", "key": "k"}`, 201)
	var sealed []byte
	var user registry.Hash
	d.registry.View(func(s *registry.State) { user, sealed, _ = s.DebciKey(access.HashDebciKey(d.ring, "k")) })
	for range 2 {
		if answer := d.post("/admin/users/erase", `{"name": "jane"}`, "once"); answer.Code != http.StatusOK {
			t.Fatalf("%d %s", answer.Code, answer.Body)
		}
	}
	if _, err := access.OpenDebciName(d.ring, user, sealed); !errors.Is(err, keyring.ErrErased) || d.debciName("k") != "" {
		t.Errorf("after the erasure the name gives %v, the key %q", err, d.debciName("k"))
	}
	d.command("/debci/keys", `{"user": "jane", "key": "k"}`, 201)
	if answer := d.post("/admin/users/erase", `{"name": "jane"}`, "once"); answer.Code != http.StatusOK || d.debciName("k") != "jane" {
		t.Errorf("a repeat of the erasure (%d) took the key of who came back", answer.Code)
	}
}
