package operator

import (
	"crypto/sha256"
	"errors"
	"net/http"
	"strings"
	"unicode"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/route"
)

// UserSet is the command that makes or changes a user.
type UserSet struct {
	Name  string `json:"name" doc:"the community user name"`
	Staff *bool  `json:"staff,omitzero" doc:"whether the user may approve machines; unchanged when absent"`
	Email string `json:"email,omitzero" doc:"the primary address; unchanged when absent"`
}

// User is the answer to a command about a user.
type User struct {
	UserID uint64 `json:"user_id" doc:"the number at the Performance Farm; 0 for a user of debci alone"`
}

// UserErase is the command that erases a user.
type UserErase struct {
	Name string `json:"name" doc:"the community user name, or a debci user's"`
}

// setUser answers POST /millrace/v1/admin/pgperffarm/users.
func (o *Operator) setUser(c *gin.Context) {
	asked, key, err := command[UserSet](o, c)
	if err == nil {
		err = firstError(checkText("name", asked.Name, 1, 150), checkEmail(asked.Email))
	}
	if err != nil {
		route.Refuse(c, err)
		return
	}
	user, err := o.farmUser(asked)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	outcome, err := o.decide(c, &event.FarmUserSetRequested{User: user, Staff: asked.Staff, Idempotency: key})
	if err != nil {
		route.Refuse(c, err)
		return
	}
	c.JSON(http.StatusOK, User{UserID: outcome.ID})
}

// farmUser is the user as events show them. The profile that is known is kept, but for what the command changes.
func (o *Operator) farmUser(asked UserSet) (*event.FarmUser, error) {
	name := access.HashUser(o.Keyring, asked.Name)
	user := &event.FarmUser{NameHash: name[:]}
	known := o.sealedProfile(name)
	if len(known) > 0 && asked.Email == "" {
		return user, nil
	}
	profile, err := access.OpenProfile(o.Keyring, name, known)
	if err != nil {
		profile = &event.FarmProfile{Username: asked.Name}
	}
	if asked.Email != "" {
		hash := access.HashEmail(o.Keyring, asked.Email)
		profile.Email, user.EmailHash = asked.Email, hash[:]
	}
	user.SealedProfile, err = access.SealProfile(o.Keyring, name, profile)
	return user, err
}

func (o *Operator) sealedProfile(name registry.Hash) (sealed []byte) {
	o.Registry.View(func(s *registry.State) {
		if user := s.ByName(name); user != nil {
			sealed = user.SealedProfile
		}
	})
	return sealed
}

// eraseUser answers POST /millrace/v1/admin/users/erase: whoever has the name, at the Performance Farm or at debci. A
// user's own key is deleted once the log says so; when that fails the command is repeated.
func (o *Operator) eraseUser(c *gin.Context) {
	asked, key, err := command[UserErase](o, c)
	if err == nil {
		err = checkText("name", asked.Name, 1, 150)
	}
	if err != nil {
		route.Refuse(c, err)
		return
	}
	farm, err := o.eraseFarmUser(c, asked.Name, key)
	if err == nil || isUnknown(err) {
		known := err == nil
		if err = o.eraseDebciUser(c, asked.Name, key); isUnknown(err) && known {
			err = nil
		}
	}
	if err != nil {
		route.Refuse(c, err)
		return
	}
	c.JSON(http.StatusOK, User{UserID: farm})
}

func isUnknown(err error) bool {
	refusal := (*route.Error)(nil)
	return errors.As(err, &refusal) && refusal.Status == http.StatusNotFound
}

func (o *Operator) eraseFarmUser(c *gin.Context, user string, key *event.Idempotency) (uint64, error) {
	name := access.HashUser(o.Keyring, user)
	outcome, err := o.decide(c, &event.FarmUserErased{NameHash: name[:], Idempotency: key})
	if err == nil && (!outcome.Repeated || o.erased(outcome.ID)) {
		err = o.Keyring.Erase(access.Subject(name))
	}
	return outcome.ID, err
}

func (o *Operator) eraseDebciUser(c *gin.Context, user string, key *event.Idempotency) error {
	if key != nil { // the first request has taken it
		own := sha256.Sum256(append([]byte("debci"), key.GetKey()...))
		key = &event.Idempotency{Key: own[:], Body: key.GetBody(), KeepSeconds: key.GetKeepSeconds()}
	}
	name := access.HashDebciUser(o.Keyring, user)
	outcome, err := o.decide(c, &event.DebciUserErased{NameHash: name[:], Idempotency: key})
	if isUnknown(err) {
		return route.Errorf(http.StatusNotFound, "no user has this name, neither at the Performance Farm nor at debci")
	}
	if err == nil && (!outcome.Repeated || !o.hasDebciUser(name)) {
		err = o.Keyring.Erase(access.DebciSubject(name))
	}
	return err
}

// hasDebciUser tells whether a debci user is known, perhaps since the user was erased.
func (o *Operator) hasDebciUser(name registry.Hash) (has bool) {
	o.Registry.View(func(s *registry.State) { _, has = s.DebciUsers[name] })
	return has
}

// erased tells whether a user is still erased: one who came back after the first request keeps the new key when that
// request is repeated.
func (o *Operator) erased(user uint64) (is bool) {
	o.Registry.View(func(s *registry.State) { is = s.User(user).Erased })
	return is
}

// checkText bounds a name of the operator's choice, in characters.
func checkText(member, text string, least, most int) error {
	length := len([]rune(text))
	switch {
	case length < least || length > most:
		return route.Errorf(http.StatusBadRequest, "member /%s must have %d to %d characters, not %d", member, least, most, length)
	case strings.ContainsFunc(text, unicode.IsControl):
		return route.Errorf(http.StatusBadRequest, "member /%s must not have control characters", member)
	}
	return nil
}

func checkEmail(address string) error {
	if address == "" {
		return nil
	}
	if err := checkText("email", address, 3, 254); err != nil {
		return err
	}
	if at := strings.LastIndexByte(address, '@'); at < 1 || at == len(address)-1 {
		return route.Errorf(http.StatusBadRequest, "member /email must be an address such as jane@example.org")
	}
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
