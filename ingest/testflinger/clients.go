package testflinger

import (
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/schemas/event"
)

// addClient answers POST /v1/client-permissions (6, Seed).
func (t *Testflinger) addClient(c *gin.Context) {
	client, err := read(c, testflinger.ReadNewClient)
	if err == nil && (client.ID == "" || client.Secret == "") {
		err = bad(http.StatusBadRequest, "Missing client_id and/or client_secret in JSON data")
	}
	if err == nil {
		_, err = t.setClient(c, client, event.TestflingerExpected_TESTFLINGER_EXPECTED_NEW)
	}
	if err != nil {
		refuse(c, err)
		return
	}
	done(c)
}

// editClient answers PUT /v1/client-permissions/{client_id} (6): by Latest it makes a client that is not there.
func (t *Testflinger) editClient(c *gin.Context) {
	id := c.Param(clientParam)
	expected := event.TestflingerExpected_TESTFLINGER_EXPECTED_KNOWN
	if t.latest() {
		expected = event.TestflingerExpected_TESTFLINGER_EXPECTED_UNSPECIFIED
		if id == testflinger.MasterClient {
			refuse(c, bad(http.StatusUnprocessableEntity, "The system admin client cannot be modified using the API"))
			return
		}
	}
	client, err := read(c, of(t, testflinger.ReadClient))
	if err == nil {
		client.ID = id
		var outcome registry.Outcome
		if outcome, err = t.setClient(c, client, expected); err == nil && t.latest() {
			say(c, http.StatusOK, fmt.Sprintf("Client %s %s", id, map[bool]string{true: "created", false: "updated"}[outcome.New]))
			return
		}
	}
	if err != nil {
		refuse(c, err)
		return
	}
	done(c)
}

// setClient has the log make or change a client, as far as the caller's rank goes.
func (t *Testflinger) setClient(c *gin.Context, client *testflinger.Client, expected event.TestflingerExpected) (registry.Outcome, error) {
	if err := checkName("client", client.ID); err != nil {
		return registry.Outcome{}, err
	}
	id := access.HashTestflingerClient(t.Keyring, client.ID)
	request := &event.TestflingerClientSetRequested{IdHash: id[:], Expected: expected, By: permission(c).Role.Event()}
	if client.Role != nil {
		request.Role = client.Role.Event()
	}
	request.MaxPriority, request.MaxReservation = limitsOf(client.MaxPriority), limitsOf(client.MaxReservation)
	if err := t.sealClient(c, request, id, client); err != nil {
		return registry.Outcome{}, err
	}
	outcome, err := t.decideClient(c, request)
	if err == nil {
		err = refusalOf(outcome)
	}
	return outcome, err
}

func limitsOf(limits *map[string]int64) *event.TestflingerLimits {
	if limits == nil {
		return nil
	}
	return &event.TestflingerLimits{ByQueue: *limits}
}

// sealClient puts what is secret or personal into a request, as far as it is given.
func (t *Testflinger) sealClient(c *gin.Context, request *event.TestflingerClientSetRequested, id registry.Hash, client *testflinger.Client) error {
	if err := t.Registry.CatchUp(c.Request.Context()); err != nil { // what is known of the client is kept
		return door.Refusal(err)
	}
	var known registry.TestflingerClient
	there := false
	t.Registry.View(func(s *registry.State) { known, there = s.Testflinger.Client(id) })
	if !there || client.Email != nil {
		profile := &event.TestflingerProfile{ClientId: client.ID}
		if opened, err := access.OpenTestflingerProfile(t.Keyring, id, known.SealedProfile); there && err == nil {
			profile = opened
		}
		if client.Email != nil {
			profile.Email = *client.Email
		}
		sealed, err := access.SealTestflingerProfile(t.Keyring, id, profile)
		if err != nil {
			return err
		}
		request.SealedProfile = sealed
	}
	if client.Secret == "" {
		return nil
	}
	leave, err := t.enterBcrypt(c.Request.Context())
	if err != nil {
		return err
	}
	defer leave()
	request.SecretBcrypt, err = access.EncryptTestflingerSecret(t.Keyring, client.Secret)
	return err
}

// refusalOf words what the registry decided; nil for what is done.
func refusalOf(o registry.Outcome) error {
	switch o.Result {
	case registry.Done:
		return nil
	case registry.TestflingerClientKnown:
		return bad(http.StatusConflict, "Specified client_id already exists")
	case registry.UnknownTestflingerClient:
		return bad(http.StatusNotFound, "Specified client_id does not exist")
	case registry.TestflingerSecretMissing:
		return bad(http.StatusBadRequest, "Specified client_id does not exist; a new client needs a client_secret")
	case registry.TestflingerMayNotCreate:
		return bad(http.StatusForbidden, "Insufficient permissions to create client with role: %s", testflinger.RoleOf(o.Role))
	case registry.TestflingerMayNotModify:
		return bad(http.StatusForbidden, "Insufficient permissions to modify client with role: %s", testflinger.RoleOf(o.Role))
	case registry.TestflingerMayNotAssign:
		return bad(http.StatusForbidden, "Insufficient permissions to assign role: %s", testflinger.RoleOf(o.Role))
	case registry.TestflingerQueueOpen:
		return notRestricted()
	case registry.TooManySecrets:
		return bad(http.StatusUnprocessableEntity, "The client has too many secrets: a thousand of 1 MiB together are the limit, delete some")
	}
	return fmt.Errorf("a request about Testflinger's clients: the registry answers %d", o.Result)
}

func notRestricted() error { return bad(http.StatusNotFound, "Error: Restricted queue not found.") }

// deleteClient answers DELETE /v1/client-permissions/{client_id} (2).
func (t *Testflinger) deleteClient(c *gin.Context) {
	id := c.Param(clientParam)
	if id == testflinger.MasterClient {
		refuse(c, bad(http.StatusUnprocessableEntity, "System admin can't be removed using the API"))
		return
	}
	hash := access.HashTestflingerClient(t.Keyring, id)
	t.answerClient(c, &event.TestflingerClientDeleteRequested{IdHash: hash[:]}, nil)
}

// answerClient asks the registry, unless there is something wrong, and answers OK to what is done.
func (t *Testflinger) answerClient(c *gin.Context, request proto.Message, err error) {
	var outcome registry.Outcome
	if err == nil {
		outcome, err = t.decideClient(c, request)
	}
	if err == nil {
		err = refusalOf(outcome)
	}
	if err != nil {
		refuse(c, err)
		return
	}
	done(c)
}

// restrict answers POST /v1/restricted-queues/{queue_name} (2, 11).
func (t *Testflinger) restrict(c *gin.Context) {
	queue := c.Param(queueParam)
	owner, err := t.owner(c)
	served := false
	if err == nil {
		err = checkName("queue", queue)
	}
	if err == nil {
		served, err = t.served(c, queue)
	}
	if err == nil && !served {
		err = bad(http.StatusNotFound, "Error: Queue %s does not exist or is not associated to an agent.", queue)
	}
	t.answerClient(c, &event.TestflingerQueueRestrictRequested{Queue: queue, IdHash: owner}, err)
}

// open answers DELETE /v1/restricted-queues/{queue_name} (2, 6, 11).
func (t *Testflinger) open(c *gin.Context) {
	queue := c.Param(queueParam)
	err := t.isRestricted(c, queue)
	var owner []byte
	if err == nil {
		owner, err = t.owner(c)
	}
	t.answerClient(c, &event.TestflingerQueueOpenRequested{Queue: queue, IdHash: owner}, err)
}

func (t *Testflinger) isRestricted(c *gin.Context, queue string) error {
	restricted := false
	look := func(s *registry.State) { restricted = s.Testflinger.Restricted[queue] }
	if t.Registry.View(look); restricted {
		return nil
	}
	if err := t.Registry.CatchUp(c.Request.Context()); err != nil {
		return door.Refusal(err)
	}
	if t.Registry.View(look); !restricted {
		return notRestricted()
	}
	return nil
}

// owner reads the client that a request about a queue names.
func (t *Testflinger) owner(c *gin.Context) ([]byte, error) {
	id, err := read(c, testflinger.ReadOwner)
	if err == nil && id == "" {
		err = bad(http.StatusBadRequest, "Error: Missing client ID.")
	}
	hash := access.HashTestflingerClient(t.Keyring, id)
	return hash[:], err
}
