package operator_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/keyring"
)

func (d *desk) testflingerClient(id string) (client registry.TestflingerClient, known bool) {
	d.registry.View(func(s *registry.State) {
		client, known = s.Testflinger.Client(access.HashTestflingerClient(d.ring, id))
	})
	return client, known
}

func TestTestflingerClientIsMadeAndKeepsWhatIsNotGiven(t *testing.T) {
	d := newDesk(t)
	d.command("/testflinger/clients", `{"id": "jane"}`, 400)
	d.command("/testflinger/clients", `{"id": "jane", "secret": "s", "role": "manager", "max_priority": {"q": 3}, "email": "jane@example.org"}`, 200)
	d.command("/testflinger/clients", `{"id": "jane", "allowed_queues": ["own"], "max_reservation": {"*": 40000}}`, 200)
	client, _ := d.testflingerClient("jane")
	if client.Role != event.TestflingerRole_TESTFLINGER_ROLE_MANAGER || client.MaxPriority["q"] != 3 || client.MaxReservation["*"] != 40000 ||
		len(client.AllowedQueues) != 1 || !access.IsTestflingerSecret(d.ring, client.SecretBcrypt, "s") {
		t.Errorf("the client is %+v", client)
	}
	profile, err := access.OpenTestflingerProfile(d.ring, access.HashTestflingerClient(d.ring, "jane"), client.SealedProfile)
	if err != nil || profile.GetEmail() != "jane@example.org" || profile.GetClientId() != "jane" {
		t.Errorf("the client is %v, %v", profile, err)
	}
	for _, body := range []string{`{"id": ""}`, `{"id": "x", "secret": "s", "role": "king"}`, `{"id": "x", "secret": "s", "email": "no"}`, `{"id": "x", "kee": 1}`} {
		d.command("/testflinger/clients", body, 400)
	}
	d.command("/testflinger/restricted-queues", `{"name": "own"}`, 200)
	d.command("/testflinger/restricted-queues", `{"name": ""}`, 400)
	d.registry.View(func(s *registry.State) {
		if !s.Testflinger.Restricted["own"] || len(s.Testflinger.Owners("own")) != 1 {
			t.Errorf("restricted queues are %v", s.Testflinger.Restricted)
		}
	})
}

func TestEraseEndsAClientOfTestflingersAndItsName(t *testing.T) {
	d := newDesk(t)
	d.command("/testflinger/clients", `{"id": "jane", "secret": "s"}`, 200)
	before, _ := d.testflingerClient("jane")
	for range 2 {
		if answer := d.post("/admin/users/erase", `{"name": "jane"}`, "once"); answer.Code != http.StatusOK {
			t.Fatalf("%d %s", answer.Code, answer.Body)
		}
	}
	_, err := access.OpenTestflingerProfile(d.ring, access.HashTestflingerClient(d.ring, "jane"), before.SealedProfile)
	if _, known := d.testflingerClient("jane"); known || !errors.Is(err, keyring.ErrErased) {
		t.Errorf("after the erasure the client is known: %t, its profile gives %v", known, err)
	}
	d.command("/testflinger/clients", `{"id": "jane", "secret": "s"}`, 200)
	if answer := d.post("/admin/users/erase", `{"name": "jane"}`, "once"); answer.Code != http.StatusOK {
		t.Errorf("%d %s", answer.Code, answer.Body)
	}
	if _, known := d.testflingerClient("jane"); !known {
		t.Error("a repeat of the erasure took the client that came back")
	}
	d.command("/users/erase", `{"name": "nobody"}`, 404)
}
