package access

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/schemas/keyring"
	"github.com/millrace/millrace/schemas/route"
)

// SessionCookie holds the session of a community user (contract 3.2).
const SessionCookie = "sessionid"

// MachineParam is the path parameter that names a machine in routes of access Owner.
const MachineParam = "machine_id"

// loginPath is where who needs a session is sent.
const loginPath = "/user/community_login"

// Visitor is the principal of a request with an open session.
type Visitor struct {
	User    uint64
	Name    registry.Hash
	Staff   bool
	Session registry.Hash
}

// Uploader is the principal of a request with an approved machine's secret.
type Uploader struct{ Machine uint64 }

// FarmConfig says how the Performance Farm's doors behave.
type FarmConfig struct {
	// Hold is how long an upload waits for the log before it is refused, because its sender never repeats.
	Hold time.Duration
	// Refused is told of an upload that is refused for its secret (machine is 0 when it names none) or for a machine that
	// is not approved, and says what is answered. The body is not read yet. Nil leaves the refusal as it is.
	Refused func(c *gin.Context, machine uint64, refusal *route.Error) error
}

// Farm authorizes the Performance Farm's API: machine secrets, sessions, and tokens against request forgery.
type Farm struct {
	config   FarmConfig
	registry Registry
	ring     *keyring.Keyring
	attempts *Attempts
	now      func() time.Time
}

// NewFarm gives the authorizer.
func NewFarm(config FarmConfig, r Registry, ring *keyring.Keyring, attempts *Attempts, now func() time.Time) *Farm {
	return &Farm{config: config, registry: r, ring: ring, attempts: attempts, now: now}
}

// API is what the routes of the Performance Farm share (contract 2.2).
func (f *Farm) API() route.API {
	return route.API{Authorize: f.Authorize, Header: http.Header{
		"X-Frame-Options":        {"DENY"},
		"X-Content-Type-Options": {"nosniff"},
		"Referrer-Policy":        {"same-origin"},
	}}
}

// Authorize is the route.Authorizer. The principal is an Uploader or a Visitor, and nil where anyone may come: such a
// route asks Visitor itself when it wants to know.
func (f *Farm) Authorize(c *gin.Context, access route.Access) (any, error) {
	if access == route.MachineSecret {
		return f.uploader(c)
	}
	if c.Request.Method == http.MethodPost && !forgeryTokenMatches(c.Request) {
		refuseForgery(c)
		return nil, route.ErrAnswered
	}
	if access == route.Anyone {
		return nil, nil
	}
	return f.enter(c, access)
}

// Visitor identifies the caller of a route that is open to anyone; nil without an open session. It does not wait for
// the log: what such a route shows to a visitor beyond others is only left out.
func (f *Farm) Visitor(c *gin.Context) *Visitor {
	c.Header("Vary", "Cookie")
	session, carried := f.session(c)
	if !carried {
		return nil
	}
	var visitor *Visitor
	f.registry.View(func(s *registry.State) { visitor = f.find(s, session) })
	return visitor
}

// session gives the hash of the session that the request carries.
func (f *Farm) session(c *gin.Context) (registry.Hash, bool) {
	const longest = 256
	cookie, err := c.Request.Cookie(SessionCookie)
	if err != nil || cookie.Value == "" || len(cookie.Value) > longest {
		return registry.Hash{}, false
	}
	return HashSession(f.ring, cookie.Value), true
}

func (f *Farm) find(s *registry.State, session registry.Hash) *Visitor {
	user := s.Session(session, f.now())
	if user == nil {
		return nil
	}
	return &Visitor{User: user.ID, Name: user.NameHash, Staff: user.Staff, Session: session}
}

// enter lets visitors in whom access allows.
func (f *Farm) enter(c *gin.Context, access route.Access) (any, error) {
	c.Header("Vary", "Cookie")
	session, carried := f.session(c)
	if !carried {
		return nil, refuseAnonymous(c, access)
	}
	machine, err := ownedMachine(c, access)
	if err != nil {
		return nil, err
	}
	var visitor *Visitor
	var caller route.Caller
	known := true
	err = settle(c.Request.Context(), f.registry, func(s *registry.State) bool {
		visitor = f.find(s, session)
		caller = kind(s, visitor, machine)
		known = access != route.Owner || s.Machine(machine) != nil
		return access.Allows(caller)
	})
	switch {
	case err != nil:
		return nil, err
	case visitor == nil:
		return nil, refuseAnonymous(c, access)
	case !known:
		return nil, route.Errorf(http.StatusNotFound, "there is no machine %d", machine)
	case !access.Allows(caller):
		return nil, refuseVisitor(c, access)
	}
	return *visitor, nil
}

// ownedMachine reads which machine the path of a route of access Owner names.
func ownedMachine(c *gin.Context, access route.Access) (uint64, error) {
	if access != route.Owner {
		return 0, nil
	}
	id, err := strconv.ParseUint(c.Param(MachineParam), 10, 63)
	if err != nil {
		return 0, route.Errorf(http.StatusNotFound, "nothing has this address: a machine's id is a number of at most 63 bits")
	}
	return id, nil
}

func kind(s *registry.State, visitor *Visitor, machine uint64) route.Caller {
	switch m := s.Machine(machine); {
	case visitor == nil:
		return route.Anonymous
	case m != nil && m.Owner == visitor.User:
		return route.OwnerUser
	case visitor.Staff:
		return route.StaffUser
	}
	return route.User
}

// refuseAnonymous sends a person to the login; an owner's request is an API call and gets 403 (contract 3.2).
func refuseAnonymous(c *gin.Context, access route.Access) error {
	if access == route.Owner {
		return route.Errorf(http.StatusForbidden, "only the machine's owner may do this: sign in at %s", loginPath)
	}
	c.Redirect(http.StatusFound, loginPath+"?next="+quote(c.Request.URL.RequestURI()))
	return route.ErrAnswered
}

// refuseVisitor answers 403: with an empty body where staff is asked for (contract 5.2.4).
func refuseVisitor(c *gin.Context, access route.Access) error {
	if access == route.Staff {
		c.AbortWithStatus(http.StatusForbidden)
		c.Writer.WriteHeaderNow()
		return route.ErrAnswered
	}
	return route.Errorf(http.StatusForbidden, "only the machine's owner may do this")
}

// quote percent-encodes a path with its query for another query, and leaves slashes (contract 3.2).
func quote(text string) string {
	const digits = "0123456789ABCDEF"
	quoted := make([]byte, 0, len(text)+16)
	for i := range len(text) {
		b := text[i]
		if plain(b) {
			quoted = append(quoted, b)
		} else {
			quoted = append(quoted, '%', digits[b>>4], digits[b&15])
		}
	}
	return string(quoted)
}

func plain(b byte) bool {
	switch {
	case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9':
		return true
	case b == '/', b == '-', b == '_', b == '.', b == '~':
		return true
	}
	return false
}

// maxSecret is the longest secret a machine has (contract 3.1).
const maxSecret = 128

// uploader finds the approved machine whose secret the request carries: the header's whole value, no scheme word.
func (f *Farm) uploader(c *gin.Context) (any, error) {
	secret, address := c.GetHeader("Authorization"), c.ClientIP()
	possible := secret != "" && len(secret) <= maxSecret && len(c.Request.Header.Values("Authorization")) == 1
	var hash registry.Hash
	if possible {
		hash = HashMachineSecret(f.ring, secret)
	}
	if wait := f.attempts.Wait(address, hash, f.now()); wait > 0 {
		return nil, tooManyAttempts(wait)
	}
	if !possible {
		f.attempts.Failed(address, f.now())
		return nil, f.refused(c, 0, "one Authorization header must hold the machine's secret and nothing else")
	}
	id, approved := f.machine(hash)
	if id == 0 || !approved {
		if err := f.catchUp(c.Request.Context()); err != nil {
			return nil, err
		}
		id, approved = f.machine(hash)
	}
	switch {
	case id == 0:
		f.attempts.Failed(address, f.now())
		return nil, f.refused(c, 0, "no machine has this secret: send the machine's secret alone in the Authorization header")
	case !approved:
		return nil, f.refused(c, id, "the machine waits for its approval by the farm's staff")
	}
	f.attempts.Passed(address, hash)
	return Uploader{Machine: id}, nil
}

func (f *Farm) machine(secret registry.Hash) (id uint64, approved bool) {
	f.registry.View(func(s *registry.State) {
		if m := s.BySecret(secret); m != nil {
			id, approved = m.ID, m.Approved
		}
	})
	return id, approved
}

// catchUp waits for the log as long as an upload is held.
func (f *Farm) catchUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, f.config.Hold)
	defer cancel()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		if f.registry.CatchUp(ctx) == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return unavailable()
		case <-ticker.C:
		}
	}
}

func (f *Farm) refused(c *gin.Context, machine uint64, reason string) error {
	refusal := &route.Error{Status: http.StatusNotAcceptable, Message: reason}
	if f.config.Refused == nil {
		return refusal
	}
	return f.config.Refused(c, machine, refusal)
}
