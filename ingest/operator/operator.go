// Package operator is what only the operator may do: make staff and machines, give out tokens and keys, erase people, and put
// dead letters back into the log. The same table serves the Unix socket of one machine and /millrace/v1 of a cluster.
package operator

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/keyring"
	"github.com/millrace/millrace/schemas/route"
)

// API is the name of the route table that this one is a part of: Millrace's own API.
const API = "millrace"

// source names this door in events.
const source = "/operator"

// Dependencies are what the commands work with. All are required.
type Dependencies struct {
	Log      door.Log
	Registry door.Fold[*registry.State, registry.Outcome]
	Keyring  *keyring.Keyring
	// DeadLetter finds a dead letter by its id; nil when there is none. Its answer contains every letter that was in the
	// log when it was asked.
	DeadLetter func(ctx context.Context, id string) (*event.DeadLetter, error)
	// KeepKeys is how long an Idempotency-Key is remembered, in log time.
	KeepKeys time.Duration
}

// Operator answers the operator's commands.
type Operator struct{ Dependencies }

// New gives the commands.
func New(d Dependencies) *Operator { return &Operator{d} }

// maxBody bounds a command, in bytes; depth its nesting.
const (
	maxBody = 64 << 10
	depth   = 4
)

// command reads a JSON command. A member that is not known is a mistake of the sender's.
func command[T any](o *Operator, c *gin.Context) (T, *event.Idempotency, error) {
	var none T
	body, err := route.ReadBody(c)
	if err != nil {
		return none, nil, err
	}
	key, err := door.Idempotency(c, credential(c), body, o.KeepKeys)
	if err != nil {
		return none, nil, err
	}
	value, err := route.DecodeJSON[T](body, depth, json.RejectUnknownMembers(true))
	return value, key, err
}

// credential names the caller for idempotency keys: a token, or the owner of the socket.
func credential(c *gin.Context) string {
	bearer, _ := route.Principal[access.Bearer](c)
	return "token:" + bearer.Name
}

// decide has the log decide on a command; what is not done is an error that the client is answered.
func (o *Operator) decide(c *gin.Context, request proto.Message) (registry.Outcome, error) {
	outcome, position, err := door.Decide(c.Request.Context(), o.Log, o.Registry, source, request)
	if err != nil {
		return outcome, err
	}
	door.SetPosition(c, position)
	return outcome, refusalOf(outcome.Result)
}

// refusalOf words what the registry decided; nil for what is done.
func refusalOf(result registry.Result) error {
	switch result {
	case registry.Done:
		return nil
	case registry.AliasTaken:
		return route.Errorf(http.StatusConflict, "another machine has this alias")
	case registry.SecretTaken:
		return route.Errorf(http.StatusConflict, "another machine has this secret: take another one, or none for a random one")
	case registry.NameTaken:
		return route.Errorf(http.StatusConflict, "another token has this name: revoke it first, or take another name")
	case registry.EmailTaken:
		return route.Errorf(http.StatusConflict, "another user has this e-mail address")
	case registry.UnknownAlias:
		return route.Errorf(http.StatusNotFound, "no machine has this alias")
	case registry.UnknownUser:
		return route.Errorf(http.StatusNotFound, "no user has this name: make one with user set, or have them sign in")
	case registry.UnknownToken:
		return route.Errorf(http.StatusNotFound, "no token has this name")
	case registry.DebciKeyTaken:
		return route.Errorf(http.StatusConflict, "another debci user has this key: take another one, or none for a random one")
	case registry.UnknownDebciUser:
		return route.Errorf(http.StatusNotFound, "no debci user has this name")
	case registry.UnknownDebciKey:
		return route.Errorf(http.StatusNotFound, "the debci user has no such key")
	case registry.UnknownTestflingerClient:
		return route.Errorf(http.StatusNotFound, "no client of Testflinger's has this id")
	case registry.TestflingerSecretMissing:
		return route.Errorf(http.StatusBadRequest, "member /secret is missing: there is no such client yet, and a new one needs it")
	case registry.KeyReused:
		return door.KeyReused()
	}
	return fmt.Errorf("operator's command: the registry answers %d", result)
}
