package operator

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/ingest/pgperffarm"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/route"
)

// MachineAdd is the command that registers a machine.
type MachineAdd struct {
	Alias       string `json:"alias" doc:"unique, 1 to 100 characters"`
	Owner       string `json:"owner" doc:"community user name of the owner"`
	Description string `json:"description,omitzero" doc:"up to 200 characters"`
	Approved    bool   `json:"approved,omitzero" doc:"whether it may upload at once"`
	Secret      string `json:"secret,omitzero" doc:"its secret, up to 128 characters; a random one when absent"`
}

// MachineRotate is the command that gives a machine another secret.
type MachineRotate struct {
	Alias  string `json:"alias"`
	Secret string `json:"secret,omitzero" doc:"its secret from now on, up to 128 characters; a random one when absent"`
}

// MachineName is the command that concerns a machine as it is.
type MachineName struct {
	Alias string `json:"alias"`
}

// Machine is the answer to a command about a machine.
type Machine struct {
	MachineID uint64 `json:"machine_id"`
	Alias     string `json:"alias"`
	Secret    string `json:"secret,omitzero" doc:"shown once: a repeated command does not show it again"`
}

// addMachine answers POST /millrace/v1/admin/pgperffarm/machines.
func (o *Operator) addMachine(c *gin.Context) {
	asked, key, err := command[MachineAdd](o, c)
	if err == nil {
		err = firstError(checkForm(pgperffarm.CheckAlias(asked.Alias)), checkForm(pgperffarm.CheckDescription(asked.Description)),
			checkText("owner", asked.Owner, 1, 150))
	}
	if err != nil {
		route.Refuse(c, err)
		return
	}
	secret, err := secretOf(asked.Secret)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	owner, hash := access.HashUser(o.Keyring, asked.Owner), access.HashMachineSecret(o.Keyring, secret)
	outcome, err := o.decide(c, &event.FarmMachineAddRequested{
		OwnerNameHash: owner[:], Alias: asked.Alias, Description: asked.Description, Approved: asked.Approved,
		SecretHash: hash[:], SealedSecret: access.SealMachineSecret(o.Keyring, secret), Idempotency: key,
	})
	if err != nil {
		route.Refuse(c, err)
		return
	}
	c.JSON(http.StatusCreated, answerMachine(outcome, asked.Alias, secret))
}

// answerMachine shows the secret, unless this is a repeat: then it never took effect, or was shown before.
func answerMachine(outcome registry.Outcome, alias, secret string) Machine {
	if outcome.Repeated {
		secret = ""
	}
	return Machine{MachineID: outcome.ID, Alias: alias, Secret: secret}
}

func checkForm(reason string) error {
	if reason == "" {
		return nil
	}
	return route.Errorf(http.StatusBadRequest, "%s", reason)
}

// secretOf gives the secret that was asked for, or a random one.
func secretOf(asked string) (string, error) {
	if asked == "" {
		return pgperffarm.NewSecret(), nil
	}
	return asked, checkHeaderText("secret", asked, maxSecret)
}

// maxSecret is the longest secret of a machine in bytes.
const maxSecret = 128

// checkHeaderText bounds a secret of the operator's choice, which travels in a header.
func checkHeaderText(member, text string, longest int) error {
	if len(text) > longest {
		return route.Errorf(http.StatusBadRequest, "member /%s must have at most %d characters, not %d", member, longest, len(text))
	}
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' {
			return route.Errorf(http.StatusBadRequest, "member /%s must be printable ASCII without spaces: it travels in a header", member)
		}
	}
	return nil
}

// rotateMachine answers POST /millrace/v1/admin/pgperffarm/machines/rotate.
func (o *Operator) rotateMachine(c *gin.Context) {
	asked, key, err := command[MachineRotate](o, c)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	secret, err := secretOf(asked.Secret)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	hash := access.HashMachineSecret(o.Keyring, secret)
	outcome, err := o.decide(c, &event.FarmMachineRotateRequested{
		Alias: asked.Alias, SecretHash: hash[:], SealedSecret: access.SealMachineSecret(o.Keyring, secret), Idempotency: key,
	})
	if err != nil {
		route.Refuse(c, err)
		return
	}
	c.JSON(http.StatusOK, answerMachine(outcome, asked.Alias, secret))
}

// revokeMachine answers POST /millrace/v1/admin/pgperffarm/machines/revoke.
func (o *Operator) revokeMachine(c *gin.Context) {
	asked, key, err := command[MachineName](o, c)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	outcome, err := o.decide(c, &event.FarmMachineRevokeRequested{Alias: asked.Alias, Idempotency: key})
	o.answerMachine(c, outcome, asked.Alias, err)
}

// approveMachine answers POST /millrace/v1/admin/pgperffarm/machines/approve.
func (o *Operator) approveMachine(c *gin.Context) {
	asked, key, err := command[MachineName](o, c)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	outcome, err := o.decide(c, &event.FarmMachineApproveRequested{Alias: asked.Alias, Idempotency: key})
	o.answerMachine(c, outcome, asked.Alias, err)
}

func (o *Operator) answerMachine(c *gin.Context, outcome registry.Outcome, alias string, err error) {
	if err != nil {
		route.Refuse(c, err)
		return
	}
	c.JSON(http.StatusOK, Machine{MachineID: outcome.ID, Alias: alias})
}
