package operator

import (
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/route"
)

// TestflingerClientSet is the command that makes or changes a client of Testflinger's. What is absent stays as it is.
type TestflingerClientSet struct {
	ID             string            `json:"id" doc:"the client's id, 1 to 255 characters"`
	Secret         string            `json:"secret,omitzero" doc:"needed for a new client"`
	Role           testflinger.Role  `json:"role,omitzero" doc:"admin, manager, contributor, agent or user; a new client is a contributor"`
	MaxPriority    *map[string]int64 `json:"max_priority,omitzero" doc:"the highest priority by queue, * for all"`
	AllowedQueues  *[]string         `json:"allowed_queues,omitzero" doc:"restricted queues that the client may use"`
	MaxReservation *map[string]int64 `json:"max_reservation,omitzero" doc:"the longest reservation by queue, * for all, in seconds"`
	Email          string            `json:"email,omitzero"`
}

// TestflingerClient is the answer to a command about a client.
type TestflingerClient struct {
	ID   string           `json:"id"`
	Role testflinger.Role `json:"role"`
}

// TestflingerQueue is the command that restricts a queue, and its answer.
type TestflingerQueue struct {
	Name string `json:"name" doc:"the queue's name; nobody may submit to it but clients whose allowed queues name it"`
}

func (s *TestflingerClientSet) check() error {
	roles := append(testflinger.Roles(testflinger.Latest), testflinger.User)
	if s.Role != "" && !slices.Contains(roles, s.Role) {
		return route.Errorf(http.StatusBadRequest, "member /role is %.40q: want admin, manager, contributor, agent or user", s.Role)
	}
	return firstError(checkText("id", s.ID, 1, testflinger.MaxClientID), checkEmail(s.Email))
}

// setTestflingerClient answers POST /millrace/v1/admin/testflinger/clients.
func (o *Operator) setTestflingerClient(c *gin.Context) {
	asked, key, err := command[TestflingerClientSet](o, c)
	var request *event.TestflingerClientSetRequested
	if err == nil {
		err = door.Refusal(o.Registry.CatchUp(c.Request.Context())) // what is known of the client is kept
	}
	if err == nil {
		request, err = o.testflingerClient(&asked)
	}
	var outcome registry.Outcome
	if err == nil {
		request.Idempotency = key
		outcome, err = o.decide(c, request)
	}
	if err != nil {
		route.Refuse(c, err)
		return
	}
	c.JSON(http.StatusOK, TestflingerClient{ID: asked.ID, Role: testflinger.RoleOf(outcome.Role)})
}

func (o *Operator) testflingerClient(asked *TestflingerClientSet) (*event.TestflingerClientSetRequested, error) {
	if err := asked.check(); err != nil {
		return nil, err
	}
	id := access.HashTestflingerClient(o.Keyring, asked.ID)
	request := &event.TestflingerClientSetRequested{IdHash: id[:], Role: asked.Role.Event()}
	if asked.MaxPriority != nil {
		request.MaxPriority = &event.TestflingerLimits{ByQueue: *asked.MaxPriority}
	}
	if asked.MaxReservation != nil {
		request.MaxReservation = &event.TestflingerLimits{ByQueue: *asked.MaxReservation}
	}
	if asked.AllowedQueues != nil {
		request.AllowedQueues = &event.TestflingerQueues{Names: *asked.AllowedQueues}
	}
	var err error
	if asked.Secret != "" {
		if request.SecretBcrypt, err = access.EncryptTestflingerSecret(o.Keyring, asked.Secret); err != nil {
			return nil, err
		}
	}
	request.SealedProfile, err = o.testflingerProfile(id, asked)
	return request, err
}

// testflingerProfile seals who a client is; what is known of it stays where the command says nothing.
func (o *Operator) testflingerProfile(id registry.Hash, asked *TestflingerClientSet) ([]byte, error) {
	profile := &event.TestflingerProfile{ClientId: asked.ID, Email: asked.Email}
	if asked.Email == "" {
		var known registry.TestflingerClient
		o.Registry.View(func(s *registry.State) { known, _ = s.Testflinger.Client(id) })
		if opened, err := access.OpenTestflingerProfile(o.Keyring, id, known.SealedProfile); err == nil {
			profile.Email = opened.GetEmail()
		}
	}
	return access.SealTestflingerProfile(o.Keyring, id, profile)
}

// restrictTestflingerQueue answers POST /millrace/v1/admin/testflinger/restricted-queues.
func (o *Operator) restrictTestflingerQueue(c *gin.Context) {
	asked, key, err := command[TestflingerQueue](o, c)
	if err == nil {
		err = checkText("name", asked.Name, 1, testflinger.MaxClientID)
	}
	if err == nil {
		_, err = o.decide(c, &event.TestflingerQueueRestrictRequested{Queue: asked.Name, Idempotency: key})
	}
	if err != nil {
		route.Refuse(c, err)
		return
	}
	c.JSON(http.StatusOK, asked)
}

// eraseTestflingerClient ends a client and deletes its own key. One that was deleted before may have left jobs.
func (o *Operator) eraseTestflingerClient(c *gin.Context, name string, key *event.Idempotency) error {
	id := access.HashTestflingerClient(o.Keyring, name)
	outcome, err := o.decide(c, &event.TestflingerClientDeleteRequested{IdHash: id[:], Idempotency: keyFor("testflinger", key)})
	if err != nil && !isUnknown(err) {
		return err
	}
	known := false
	o.Registry.View(func(s *registry.State) { _, known = s.Testflinger.Client(id) })
	if outcome.Repeated && known { // it came back since
		return nil
	}
	if erased := o.Keyring.Erase(access.TestflingerSubject(id)); erased != nil {
		return erased
	}
	if isUnknown(err) {
		return route.Errorf(http.StatusNotFound, "no user has this name, neither at the Performance Farm nor at debci, nor a client of Testflinger's")
	}
	return nil
}
