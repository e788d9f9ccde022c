package access

import (
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/keyring"
	"github.com/millrace/millrace/schemas/route"
)

// Bearer is the principal of a request with a token, and of the operator at the socket.
type Bearer struct {
	// Name is the token's; empty for the operator at the socket.
	Name string
	Role event.Role
}

// HasToken tells whether a caller has a token, or is the operator at the socket, and so may see payloads and what is private.
func HasToken(c *gin.Context) bool {
	_, given := route.Principal[Bearer](c)
	return given
}

// TokensConfig says who needs a token.
type TokensConfig struct {
	// Loopback says that the listener is bound to a loopback address: reads from this machine, under one of its loopback
	// names or addresses, need no token.
	Loopback bool
	// PublicReads opens to everybody what a viewer may read (MILLRACE_PUBLIC_READS).
	PublicReads bool
	// Proxies may forward a local client's requests.
	Proxies Proxies
}

// Local tells whether a request was made on this machine, to a listener that others do not reach.
func (c TokensConfig) Local(r *http.Request) bool { return c.Loopback && c.Proxies.local(r) }

// Tokens authorizes Millrace's own API (/millrace/v1, /ui, /metrics).
type Tokens struct {
	config   TokensConfig
	registry Registry
	ring     *keyring.Keyring
	attempts *Attempts
	now      func() time.Time
}

// NewTokens gives the authorizer.
func NewTokens(config TokensConfig, r Registry, ring *keyring.Keyring, attempts *Attempts, now func() time.Time) *Tokens {
	return &Tokens{config: config, registry: r, ring: ring, attempts: attempts, now: now}
}

// API is what the routes of /millrace/v1 share.
func (t *Tokens) API() route.API {
	return route.API{Authorize: t.Authorize, Header: http.Header{"X-Content-Type-Options": {"nosniff"}}}
}

// Authorize is the route.Authorizer. The principal is a Bearer, or nil for who needs no token.
func (t *Tokens) Authorize(c *gin.Context, access route.Access) (any, error) {
	if access == route.Anyone {
		return nil, nil
	}
	token, given := bearerToken(c.Request.Header)
	if !given {
		return nil, t.withoutToken(c, access)
	}
	bearer, err := t.bearer(c, token)
	if err != nil {
		return nil, err
	}
	if !access.Allows(callerOf[bearer.Role]) {
		return nil, route.Errorf(http.StatusForbidden, "token %q has the role %s, and this wants: %s", bearer.Name, callerOf[bearer.Role], access&^route.Loopback)
	}
	return bearer, nil
}

// callerOf maps roles to the kinds of callers that routes let in.
var callerOf = map[event.Role]route.Caller{
	event.Role_ROLE_VIEWER:   route.Viewer,
	event.Role_ROLE_WRITER:   route.Writer,
	event.Role_ROLE_OPERATOR: route.Operator,
}

func (t *Tokens) withoutToken(c *gin.Context, access route.Access) error {
	public := t.config.PublicReads && access.Allows(route.Viewer) // what no viewer may read is not made public either
	open := public || t.config.Local(c.Request)
	if open && access.Allows(route.Local) {
		return nil
	}
	c.Header("WWW-Authenticate", `Bearer realm="millrace"`)
	return route.Errorf(http.StatusUnauthorized, "this wants a token (%s): send Authorization: Bearer TOKEN", access&^route.Loopback)
}

// bearer finds the token's record.
func (t *Tokens) bearer(c *gin.Context, token string) (Bearer, error) {
	hash, address := HashToken(t.ring, token), c.ClientIP()
	if wait := t.attempts.Wait(address, hash, t.now()); wait > 0 {
		return Bearer{}, tooManyAttempts(wait)
	}
	var found *registry.Token
	err := settle(c.Request.Context(), t.registry, func(s *registry.State) bool {
		found = s.Token(hash)
		return found != nil
	})
	switch {
	case err != nil:
		return Bearer{}, err
	case found == nil:
		t.attempts.Failed(address, t.now())
		c.Header("WWW-Authenticate", `Bearer realm="millrace", error="invalid_token"`)
		return Bearer{}, route.Errorf(http.StatusUnauthorized, "the token is not known, or was revoked")
	}
	t.attempts.Passed(address, hash)
	return Bearer{Name: found.Name, Role: found.Role}, nil
}

func tooManyAttempts(wait time.Duration) *route.Error {
	return &route.Error{
		Status: http.StatusTooManyRequests, RetryAfter: wait,
		Message: "too many requests from your address had a wrong secret or token; wait, then send the right one",
	}
}

// bearerToken cuts the token out of the Authorization header; given is false when another scheme or none is used.
func bearerToken(h http.Header) (token string, given bool) {
	scheme, token, _ := strings.Cut(h.Get("Authorization"), " ")
	return strings.TrimSpace(token), strings.EqualFold(scheme, "Bearer")
}

// Socket authorizes what comes over the operator's Unix socket: whoever can open it owns the data folder and may do
// everything (design: the socket has mode 0600).
func Socket(*gin.Context, route.Access) (any, error) {
	return Bearer{Role: event.Role_ROLE_OPERATOR}, nil
}
