package access

import (
	"encoding/hex"
	"errors"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/schemas/keyring"
	"github.com/millrace/millrace/schemas/route"
)

// Headers of the debci API (contract 2): the key comes with a request, and whose it is goes with every answer to it.
const (
	DebciKeyHeader  = "Auth-Key"
	debciUserHeader = "Auth-User"
)

// MaxDebciKey is the longest key in bytes, MaxDebciName the longest user name in characters.
const (
	MaxDebciKey  = 128
	MaxDebciName = 100
)

// DebciUser is the principal of a request with a key that works.
type DebciUser struct {
	// Hash is the user's identity in the log.
	Hash registry.Hash
	Name string
}

// Debci authorizes the debci API. Who guesses keys is not slowed down: a key that Millrace made has 122 random bits, and
// clients know no answer to a wrong one but 403.
type Debci struct {
	registry Registry
	ring     *keyring.Keyring
}

// NewDebci gives the authorizer.
func NewDebci(r Registry, ring *keyring.Keyring) *Debci { return &Debci{registry: r, ring: ring} }

// API is what the routes of the debci API share.
func (d *Debci) API() route.API {
	return route.API{Authorize: d.Authorize, Refuse: RefuseDebci, Header: http.Header{"X-Content-Type-Options": {"nosniff"}}}
}

// Authorize is the route.Authorizer. The principal is a DebciUser, or nil where anyone may come.
func (d *Debci) Authorize(c *gin.Context, access route.Access) (any, error) {
	if access == route.Anyone {
		return nil, nil
	}
	user, err := d.user(c)
	if err != nil {
		return nil, err
	}
	c.Header(debciUserHeader, user.Name)
	return user, nil
}

func (d *Debci) user(c *gin.Context) (DebciUser, error) {
	invalid := route.Errorf(http.StatusForbidden, "Invalid key")
	key := c.GetHeader(DebciKeyHeader)
	if key == "" || len(key) > MaxDebciKey {
		return DebciUser{}, invalid
	}
	var user DebciUser
	var sealed []byte
	hash, known := HashDebciKey(d.ring, key), false
	err := settle(c.Request.Context(), d.registry, func(s *registry.State) bool {
		user.Hash, sealed, known = s.DebciKey(hash)
		return known
	})
	switch {
	case err != nil:
		return DebciUser{}, err
	case !known:
		return DebciUser{}, invalid
	}
	user.Name, err = OpenDebciName(d.ring, user.Hash, sealed)
	if errors.Is(err, keyring.ErrErased) {
		return DebciUser{}, invalid
	}
	return user, err
}

// RefuseDebci answers as debci does: text that calls itself HTML (contract 1). A method that a path does not have makes
// the path an unknown one.
func RefuseDebci(c *gin.Context, refusal *route.Error) {
	if refusal.Status == http.StatusMethodNotAllowed {
		c.Writer.Header().Del("Allow")
		route.Fail(c, http.StatusNotFound, "no endpoint has this path and method; see /api/doc for those that exist")
		return
	}
	c.Abort()
	c.Data(refusal.Status, "text/html;charset=utf-8", []byte(strings.TrimSuffix(refusal.Message, "\n")+"\n"))
}

// HashDebciUser gives the hash under which a debci user stands in the log.
func HashDebciUser(ring *keyring.Keyring, name string) registry.Hash {
	return ring.Lookup(purposeDebciUser, name)
}

// HashDebciKey gives the hash by which a debci user's key is found.
func HashDebciKey(ring *keyring.Keyring, key string) registry.Hash {
	return ring.Lookup(purposeDebciKey, key)
}

// DebciSubject names a debci user's own key in the keyring.
func DebciSubject(user registry.Hash) string {
	return purposeDebciUser + ":" + hex.EncodeToString(user[:])
}

// SealDebciName seals a user's name under the user's own key.
func SealDebciName(ring *keyring.Keyring, user registry.Hash, name string) ([]byte, error) {
	return ring.SealFor(DebciSubject(user), []byte(name))
}

// OpenDebciName opens what SealDebciName made; keyring.ErrErased once the user was erased.
func OpenDebciName(ring *keyring.Keyring, user registry.Hash, sealed []byte) (string, error) {
	name, err := ring.OpenFor(DebciSubject(user), sealed)
	return string(name), err
}
