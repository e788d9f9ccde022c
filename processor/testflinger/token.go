package testflinger

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Access tokens (6).
const (
	accessSubject = "access_token"
	seedLifetime  = 30 * time.Second
	// LatestLifetime is that of an access token, RefreshLifetime that of a refresh token.
	LatestLifetime  = 10 * time.Minute
	RefreshLifetime = 6 * 24 * time.Hour
	latestLeeway    = 5 * time.Second
)

// Tokens makes and checks access tokens: a token carries a copy of what its client may do, and nobody is asked about it
// until it has expired.
type Tokens struct {
	generation Generation
	key        []byte
	now        func() time.Time
	parser     *jwt.Parser
}

// NewTokens signs with a key that every process of the installation has.
func NewTokens(g Generation, key []byte, now func() time.Time) *Tokens {
	options := []jwt.ParserOption{
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithExpirationRequired(), jwt.WithTimeFunc(now),
		jwt.WithSubject(accessSubject),
	}
	if g == Latest {
		options = append(options, jwt.WithIssuedAt(), jwt.WithLeeway(latestLeeway))
	}
	return &Tokens{generation: g, key: key, now: now, parser: jwt.NewParser(options...)}
}

// Generation is the one whose tokens these are.
func (t *Tokens) Generation() Generation { return t.generation }

// Lifetime is how long a new token is good.
func (t *Tokens) Lifetime() time.Duration {
	if t.generation == Latest {
		return LatestLifetime
	}
	return seedLifetime
}

type claims struct {
	jwt.RegisteredClaims

	Permissions *Permission `json:"permissions"`
}

// Sign makes a token.
func (t *Tokens) Sign(p Permission) (string, error) {
	now := t.now()
	if p.AllowedQueues == nil {
		p.AllowedQueues = []string{}
	}
	if p.MaxPriority == nil {
		p.MaxPriority = map[string]int64{}
	}
	if p.MaxReservation == nil {
		p.MaxReservation = map[string]int64{}
	}
	return jwt.NewWithClaims(jwt.SigningMethodHS256, claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Subject: accessSubject, IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(t.Lifetime())),
		},
		Permissions: &p,
	}).SignedString(t.key)
}

// Check reads the header Authorization: nil when there is none, else the permissions of the token in it or a *Refusal.
func (t *Tokens) Check(authorization string) (*Permission, error) {
	token, isBearer := strings.CutPrefix(authorization, "Bearer ")
	switch {
	case authorization == "":
		return nil, nil
	case t.generation == Latest && (!isBearer || strings.TrimSpace(token) == ""):
		return nil, refuse(http.StatusUnauthorized, "Unauthorized")
	}
	var c claims
	_, err := t.parser.ParseWithClaims(strings.TrimSpace(token), &c, func(*jwt.Token) (any, error) { return t.key, nil })
	switch {
	case err != nil:
		return nil, t.refusal(err, &c)
	case c.IssuedAt == nil:
		return nil, t.lacks("iat")
	case c.Permissions == nil:
		return nil, t.lacks("permissions")
	case c.Permissions.ClientID == "":
		return nil, t.lacks("client_id")
	case c.Permissions.Role.Event() == 0:
		c.Permissions.Role = Contributor
	}
	return c.Permissions, nil
}

// refusal words what is wrong with a token.
func (t *Tokens) refusal(err error, c *claims) *Refusal {
	switch {
	case errors.Is(err, jwt.ErrTokenExpired) && !errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return refuse(http.StatusUnauthorized, "Token has expired")
	case t.generation == Seed:
		return refuse(http.StatusForbidden, "Invalid Token")
	case errors.Is(err, jwt.ErrTokenMalformed):
		return refuse(http.StatusForbidden, "Unable to decode token")
	case errors.Is(err, jwt.ErrTokenSignatureInvalid), errors.Is(err, jwt.ErrTokenUnverifiable):
		return refuse(http.StatusForbidden, "Invalid Token signature")
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return refuse(http.StatusUnauthorized, "Token not yet valid")
	case c.ExpiresAt == nil:
		return t.lacks("exp")
	case c.Subject == "":
		return t.lacks("sub")
	}
	return refuse(http.StatusForbidden, "Invalid Token")
}

func (t *Tokens) lacks(claim string) *Refusal {
	if t.generation == Seed {
		return refuse(http.StatusForbidden, "Invalid Token")
	}
	return refuse(http.StatusForbidden, "Token missing required claim: %s", claim)
}
