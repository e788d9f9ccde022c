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
	UserID uint64 `json:"user_id" doc:"the number at the Performance Farm; 0 for who is not known there"`
}

// UserErase is the command that erases a user.
type UserErase struct {
	Name string `json:"name" doc:"the community user name, a debci user's, or the id of a client of Testflinger's"`
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

// eraseUser answers POST /millrace/v1/admin/users/erase: whoever has the name, at any of the old APIs. A
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
	known := err == nil
	for _, erase := range []func(*gin.Context, string, *event.Idempotency) error{o.eraseDebciUser, o.eraseTestflingerClient} {
		if err == nil || isUnknown(err) {
			err = erase(c, asked.Name, key)
			known = known || err == nil
		}
	}
	if err != nil && (!isUnknown(err) || !known) {
		route.Refuse(c, err)
		return
	}
	c.JSON(http.StatusOK, User{UserID: farm})
}

// keyFor makes a key of its own for a part of a command whose first part has taken the command's key.
func keyFor(part string, key *event.Idempotency) *event.Idempotency {
	if key == nil {
		return nil
	}
	own := sha256.Sum256(append([]byte(part), key.GetKey()...))
	return &event.Idempotency{Key: own[:], Body: key.GetBody(), KeepSeconds: key.GetKeepSeconds()}
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
	name := access.HashDebciUser(o.Keyring, user)
	outcome, err := o.decide(c, &event.DebciUserErased{NameHash: name[:], Idempotency: keyFor("debci", key)})
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
