package pgperffarm

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/gin-gonic/gin"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/route"
)

// Lengths in characters (contract 4.1).
const (
	maxAlias       = 100
	maxDescription = 200
)

// formDepth is the deepest nesting of a form: one object.
const formDepth = 4

type newMachine struct {
	Alias       string `json:"alias" doc:"unique, 1 to 100 characters"`
	Description string `json:"description" doc:"up to 200 characters"`
}

type approval struct {
	Alias string `json:"alias" doc:"of the machine to approve"`
}

type edit struct {
	Description string `json:"description" doc:"up to 200 characters"`
}

// form reads a JSON body whatever its content type says (contract 3.2), with the request's idempotency key.
func form[T any](f *Farm, c *gin.Context, visitor access.Visitor) (T, *event.Idempotency, error) {
	var none T
	body, err := route.ReadBody(c)
	if err != nil {
		return none, nil, err
	}
	key, err := door.Idempotency(c, "user:"+hex.EncodeToString(visitor.Name[:]), body, f.config.KeepKeys)
	if err != nil {
		return none, nil, err
	}
	value, err := route.DecodeJSON[T](body, formDepth)
	return value, key, err
}

// addMachine answers POST /machine/add.
func (f *Farm) addMachine(c *gin.Context) {
	visitor, _ := route.Principal[access.Visitor](c)
	asked, key, err := form[newMachine](f, c, visitor)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	if reason := firstOf(CheckAlias(asked.Alias), CheckDescription(asked.Description)); reason != "" {
		emptyBadRequest(c, reason)
		return
	}
	secret := NewSecret()
	hash := access.HashMachineSecret(f.Keyring, secret)
	f.decideMachine(c, &event.FarmMachineAddRequested{
		OwnerNameHash: visitor.Name[:], Alias: asked.Alias, Description: asked.Description,
		SecretHash: hash[:], SealedSecret: access.SealMachineSecret(f.Keyring, secret), Idempotency: key,
	}, "Machine added successfully!")
}

// NewSecret makes a machine's secret: random, in the form that upstream's have (W1).
func NewSecret() string { return randomHex(16) }

// CheckAlias says what is wrong with an alias, or "".
func CheckAlias(alias string) string {
	switch {
	case alias == "":
		return "alias is empty"
	case utf8.RuneCountInString(alias) > maxAlias:
		return fmt.Sprintf("alias has more than %d characters", maxAlias)
	case strings.ContainsFunc(alias, unicode.IsControl):
		return "alias has a control character"
	}
	return ""
}

// CheckDescription says what is wrong with a description, or "".
func CheckDescription(description string) string {
	switch {
	case utf8.RuneCountInString(description) > maxDescription:
		return fmt.Sprintf("description has more than %d characters", maxDescription)
	case strings.ContainsRune(description, 0):
		return "description has a NUL character"
	}
	return ""
}

func firstOf(reasons ...string) string {
	for _, reason := range reasons {
		if reason != "" {
			return reason
		}
	}
	return ""
}

// reasonHeader tells why, where the contract wants an empty body.
const reasonHeader = "Millrace-Reason"

func emptyBadRequest(c *gin.Context, reason string) {
	c.Header(reasonHeader, reason)
	c.AbortWithStatus(http.StatusBadRequest)
	c.Writer.WriteHeaderNow()
}

// approveMachine answers POST /machine/approve.
func (f *Farm) approveMachine(c *gin.Context) {
	visitor, _ := route.Principal[access.Visitor](c)
	asked, key, err := form[approval](f, c, visitor)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	f.decideMachine(c, &event.FarmMachineApproveRequested{
		Alias: asked.Alias, ByNameHash: visitor.Name[:], Idempotency: key,
	}, "Machine approved successfully!")
}

// editMachine answers POST /machine/edit/{machine_id}.
func (f *Farm) editMachine(c *gin.Context) {
	visitor, _ := route.Principal[access.Visitor](c)
	machine, err := route.Int(c, access.MachineParam)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	asked, key, err := form[edit](f, c, visitor)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	if reason := CheckDescription(asked.Description); reason != "" {
		route.Refuse(c, route.Errorf(http.StatusBadRequest, "%s", reason))
		return
	}
	f.decideMachine(c, &event.FarmMachineEditRequested{
		MachineId: uint64(machine), Description: asked.Description, ByNameHash: visitor.Name[:], Idempotency: key,
	}, "")
}

// decideMachine has the log decide about a machine and answers: 201 with a text when it is done.
func (f *Farm) decideMachine(c *gin.Context, request proto.Message, done string) {
	outcome, position, err := door.Decide(c.Request.Context(), f.Log, f.Registry, source, request)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	door.SetPosition(c, position)
	switch outcome.Result {
	case registry.Done:
		created(c, done)
	case registry.AliasTaken:
		emptyBadRequest(c, "alias is taken")
	case registry.NotStaff:
		c.AbortWithStatus(http.StatusForbidden)
		c.Writer.WriteHeaderNow()
	default:
		route.Refuse(c, machineRefusal(outcome))
	}
}

func created(c *gin.Context, done string) {
	if done == "" {
		c.Status(http.StatusCreated)
		c.Writer.WriteHeaderNow()
		return
	}
	c.Data(http.StatusCreated, plainText, []byte(done))
}

func machineRefusal(outcome registry.Outcome) error {
	switch outcome.Result {
	case registry.UnknownAlias:
		return route.Errorf(http.StatusNotFound, "no machine has this alias")
	case registry.UnknownMachine:
		return route.Errorf(http.StatusNotFound, "there is no such machine")
	case registry.NotOwner:
		return route.Errorf(http.StatusForbidden, "only the machine's owner may do this")
	case registry.UnknownUser:
		return route.Errorf(http.StatusForbidden, "your account was erased: sign in again")
	case registry.KeyReused:
		return door.KeyReused()
	}
	return unexpected("change a machine", outcome)
}

func unexpected(what string, outcome registry.Outcome) error {
	return fmt.Errorf("%s: the registry answers %d", what, outcome.Result)
}
