package operator

import (
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/route"
)

// DebciKeyAdd is the command that gives a debci user a key.
type DebciKeyAdd struct {
	User string `json:"user" doc:"the user's name, 1 to 100 characters; a new one makes the user"`
	Key  string `json:"key,omitzero" doc:"the key, up to 128 characters; a random UUID when absent"`
}

// DebciKeyRevoke is the command that ends keys of a debci user.
type DebciKeyRevoke struct {
	User string `json:"user"`
	Key  string `json:"key,omitzero" doc:"the key to end"`
	All  bool   `json:"all,omitzero" doc:"end all keys of the user, instead of one"`
}

// DebciKey is the answer to a command about debci keys.
type DebciKey struct {
	User string `json:"user"`
	Key  string `json:"key,omitzero" doc:"shown once: a repeated command does not show it again"`
}

// addDebciKey answers POST /millrace/v1/admin/debci/keys.
func (o *Operator) addDebciKey(c *gin.Context) {
	asked, key, err := command[DebciKeyAdd](o, c)
	if err == nil {
		err = firstError(checkDebciUser(asked.User), checkHeaderText("key", asked.Key, access.MaxDebciKey))
	}
	if err != nil {
		route.Refuse(c, err)
		return
	}
	answer := DebciKey(asked)
	if answer.Key == "" {
		answer.Key = uuid.NewString()
	}
	user, hash := access.HashDebciUser(o.Keyring, asked.User), access.HashDebciKey(o.Keyring, answer.Key)
	sealed, err := access.SealDebciName(o.Keyring, user, asked.User)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	outcome, err := o.decide(c, &event.DebciKeyAddRequested{NameHash: user[:], SealedName: sealed, KeyHash: hash[:], Idempotency: key})
	if err != nil {
		route.Refuse(c, err)
		return
	}
	if outcome.Repeated {
		answer.Key = ""
	}
	c.JSON(http.StatusCreated, answer)
}

// revokeDebciKey answers POST /millrace/v1/admin/debci/keys/revoke.
func (o *Operator) revokeDebciKey(c *gin.Context) {
	asked, key, err := command[DebciKeyRevoke](o, c)
	if err == nil && asked.All == (asked.Key != "") {
		err = route.Errorf(http.StatusBadRequest, "member /key must name the key to end, or /all be true: one of the two")
	}
	if err != nil {
		route.Refuse(c, err)
		return
	}
	user := access.HashDebciUser(o.Keyring, asked.User)
	request := &event.DebciKeyRevokeRequested{NameHash: user[:], Idempotency: key}
	if !asked.All {
		hash := access.HashDebciKey(o.Keyring, asked.Key)
		request.KeyHash = hash[:]
	}
	if _, err := o.decide(c, request); err != nil {
		route.Refuse(c, err)
		return
	}
	c.JSON(http.StatusOK, DebciKey{User: asked.User})
}

// checkDebciUser bounds a user's name, which travels in the header Auth-User.
func checkDebciUser(name string) error {
	if name != strings.TrimSpace(name) {
		return route.Errorf(http.StatusBadRequest, "member /user must not begin or end with a space")
	}
	return checkText("user", name, 1, access.MaxDebciName)
}
