package operator

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/route"
)

// TokenAdd is the command that gives out a token.
type TokenAdd struct {
	Name string `json:"name" doc:"unique, 1 to 100 characters"`
	Role string `json:"role" doc:"viewer, writer or operator; each may do what the ones before it may"`
}

// TokenName is the command that concerns a token as it is.
type TokenName struct {
	Name string `json:"name"`
}

// Token is the answer to a command about a token.
type Token struct {
	Name  string `json:"name"`
	Role  string `json:"role,omitzero"`
	Token string `json:"token,omitzero" doc:"shown once: a repeated command does not show it again"`
}

// roles are the roles by their names.
var roles = map[string]event.Role{
	"viewer":   event.Role_ROLE_VIEWER,
	"writer":   event.Role_ROLE_WRITER,
	"operator": event.Role_ROLE_OPERATOR,
}

// addToken answers POST /millrace/v1/admin/tokens.
func (o *Operator) addToken(c *gin.Context) {
	asked, key, err := command[TokenAdd](o, c)
	if err == nil {
		err = firstError(checkText("name", asked.Name, 1, 100), checkRole(asked.Role))
	}
	if err != nil {
		route.Refuse(c, err)
		return
	}
	token := newToken()
	hash := access.HashToken(o.Keyring, token)
	outcome, err := o.decide(c, &event.TokenAddRequested{
		Name: asked.Name, TokenHash: hash[:], Role: roles[asked.Role], Idempotency: key,
	})
	if err != nil {
		route.Refuse(c, err)
		return
	}
	answer := Token{Name: asked.Name, Role: asked.Role, Token: token}
	if outcome.Repeated {
		answer.Token = ""
	}
	c.JSON(http.StatusCreated, answer)
}

func checkRole(role string) error {
	if _, known := roles[role]; !known {
		return route.Errorf(http.StatusBadRequest, "member /role must be viewer, writer or operator, not %q", role)
	}
	return nil
}

// newToken makes a token: a prefix by which scanners know a leaked one, and 256 random bits.
func newToken() string {
	var random [32]byte
	rand.Read(random[:]) // never fails, see crypto/rand
	return "millrace_" + base64.RawURLEncoding.EncodeToString(random[:])
}

// revokeToken answers POST /millrace/v1/admin/tokens/revoke.
func (o *Operator) revokeToken(c *gin.Context) {
	asked, key, err := command[TokenName](o, c)
	if err == nil {
		_, err = o.decide(c, &event.TokenRevokeRequested{Name: asked.Name, Idempotency: key})
	}
	if err != nil {
		route.Refuse(c, err)
		return
	}
	c.JSON(http.StatusOK, Token{Name: asked.Name})
}
