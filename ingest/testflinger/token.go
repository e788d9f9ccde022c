package testflinger

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/keyring"
	"github.com/millrace/millrace/schemas/route"
)

// Texts of refused requests for a token (6).
const (
	noCredentials    = "No authorization header specified"
	otherCredentials = "Client id and key must be specified in authorization header"
	wrongCredentials = "Invalid client id or client key"
)

// AccessToken is the newer generation's answer to a request for a token.
type AccessToken struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in" doc:"seconds"`
	RefreshToken string `json:"refresh_token,omitzero"`
}

// token answers POST /v1/oauth2/token, and GET (6, 11).
func (t *Testflinger) token(c *gin.Context) {
	client, secret, fault := credentials(c.GetHeader("Authorization"))
	if fault != "" {
		say(c, http.StatusUnauthorized, fault)
		return
	}
	permission, err := t.signIn(c, client, secret)
	switch {
	case err != nil:
		refuse(c, err)
	case permission == nil:
		say(c, http.StatusUnauthorized, wrongCredentials)
	default:
		t.giveToken(c, permission)
	}
}

// credentials reads HTTP Basic: the id before the first colon.
func credentials(header string) (client, secret, fault string) {
	scheme, encoded, _ := strings.Cut(header, " ")
	switch {
	case header == "":
		return "", "", noCredentials
	case !strings.EqualFold(scheme, "Basic"):
		return "", "", otherCredentials
	}
	plain, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	if err != nil || !utf8.Valid(plain) {
		return "", "", noCredentials
	}
	client, secret, _ = strings.Cut(string(plain), ":")
	return client, secret, ""
}

// enterBcrypt waits for a place among those who work on secrets.
func (t *Testflinger) enterBcrypt(ctx context.Context) (leave func(), err error) {
	select {
	case t.bcrypts <- struct{}{}:
		return func() { <-t.bcrypts }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// signIn gives what a client may do whose secret this is; nil when it is nobody's.
func (t *Testflinger) signIn(c *gin.Context, id, secret string) (*testflinger.Permission, error) {
	ctx, hash := c.Request.Context(), access.HashTestflingerClient(t.Keyring, id)
	address, attempt := c.ClientIP(), access.HashTestflingerClient(t.Keyring, id+"\x00"+secret)
	if wait := t.Attempts.Wait(address, attempt, t.Now()); wait > 0 {
		return nil, &route.Error{
			Status: http.StatusTooManyRequests, RetryAfter: wait,
			Message: "too many requests from your address had a wrong client id or key; wait, then send the right ones",
		}
	}
	if err := t.Registry.CatchUp(ctx); err != nil { // the token says what is so now
		return nil, door.Refusal(err)
	}
	client, good, err := t.tryOn(ctx, hash, secret)
	if err != nil {
		return nil, err
	}
	if !good {
		t.Attempts.Failed(address, t.Now())
		return nil, nil
	}
	t.Attempts.Passed(address, attempt)
	return t.permissionOf(id, hash, client)
}

// tryOn tries a secret on a client. It takes as long where there is none.
func (t *Testflinger) tryOn(ctx context.Context, hash registry.Hash, secret string) (registry.TestflingerClient, bool, error) {
	var client registry.TestflingerClient
	known := false
	t.Registry.View(func(s *registry.State) { client, known = s.Testflinger.Client(hash) })
	encrypted := client.SecretBcrypt
	if !known {
		encrypted = t.nobody
	}
	leave, err := t.enterBcrypt(ctx)
	if err != nil {
		return client, false, err
	}
	defer leave()
	return client, access.IsTestflingerSecret(t.Keyring, encrypted, secret) && known, nil
}

// permissionOf is what a token of a client says; nil when the client was erased.
func (t *Testflinger) permissionOf(id string, hash registry.Hash, client registry.TestflingerClient) (*testflinger.Permission, error) {
	profile, err := access.OpenTestflingerProfile(t.Keyring, hash, client.SealedProfile)
	if errors.Is(err, keyring.ErrErased) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	p := &testflinger.Permission{
		ClientID: id, Role: testflinger.RoleOf(client.Role), MaxPriority: client.MaxPriority, AllowedQueues: client.AllowedQueues,
		MaxReservation: client.MaxReservation,
	}
	if t.latest() {
		p.Email = profile.GetEmail()
	}
	return p, nil
}

// giveToken answers with a new token, by Latest with one more to refresh it.
func (t *Testflinger) giveToken(c *gin.Context, p *testflinger.Permission) {
	signed, err := t.Tokens.Sign(*p)
	if err != nil {
		refuse(c, err)
		return
	}
	if !t.latest() {
		say(c, http.StatusOK, signed)
		return
	}
	random := make([]byte, 36) // 48 characters
	rand.Read(random)
	refresh := base64.RawURLEncoding.EncodeToString(random)
	token, client := access.HashTestflingerRefresh(t.Keyring, refresh), access.HashTestflingerClient(t.Keyring, p.ClientID)
	outcome, err := t.decideClient(c, &event.TestflingerRefreshTokenIssued{
		TokenHash: token[:], IdHash: client[:], Expires: t.Now().Add(testflinger.RefreshLifetime).UnixMilli(),
	})
	if err == nil && outcome.Result != registry.Done { // the client was deleted a moment ago
		say(c, http.StatusUnauthorized, wrongCredentials)
		return
	}
	if err != nil {
		refuse(c, err)
		return
	}
	answer := t.accessToken(signed)
	answer.RefreshToken = refresh
	access.TestflingerJSON(c, http.StatusOK, answer)
}

func (t *Testflinger) accessToken(signed string) AccessToken {
	return AccessToken{AccessToken: signed, TokenType: "Bearer", ExpiresIn: int64(t.Tokens.Lifetime() / time.Second)}
}

// refresh answers POST /v1/oauth2/refresh (6, Latest).
func (t *Testflinger) refresh(c *gin.Context) {
	given, err := read(c, testflinger.ReadRefreshToken)
	var signed string
	if err == nil {
		signed, err = t.refreshed(c.Request.Context(), given)
	}
	if err != nil {
		refuse(c, err)
		return
	}
	access.TestflingerJSON(c, http.StatusOK, t.accessToken(signed))
}

func (t *Testflinger) refreshed(ctx context.Context, given string) (string, error) {
	hash := access.HashTestflingerRefresh(t.Keyring, given)
	var token registry.TestflingerRefresh
	var client registry.TestflingerClient
	known := false
	if err := t.Registry.CatchUp(ctx); err != nil {
		return "", door.Refusal(err)
	}
	t.Registry.View(func(s *registry.State) {
		token, known = s.Testflinger.Refresh[hash]
		client, _ = s.Testflinger.Client(token.Client)
	})
	switch {
	case !known:
		return "", invalidRefresh()
	case token.Revoked:
		return "", bad(http.StatusBadRequest, "Refresh token revoked.")
	case token.Expires <= t.Now().UnixMilli():
		return "", bad(http.StatusBadRequest, "Refresh token expired")
	}
	profile, err := access.OpenTestflingerProfile(t.Keyring, token.Client, client.SealedProfile)
	if errors.Is(err, keyring.ErrErased) {
		return "", invalidRefresh()
	}
	if err != nil {
		return "", err
	}
	p, err := t.permissionOf(profile.GetClientId(), token.Client, client)
	switch {
	case err != nil:
		return "", err
	case p == nil: // it was erased a moment ago
		return "", invalidRefresh()
	}
	return t.Tokens.Sign(*p)
}

func invalidRefresh() error { return bad(http.StatusBadRequest, "Invalid refresh token.") }

// revoke answers POST /v1/oauth2/revoke (2, Latest).
func (t *Testflinger) revoke(c *gin.Context) {
	given, err := read(c, testflinger.ReadRefreshToken)
	var outcome registry.Outcome
	if err == nil {
		hash := access.HashTestflingerRefresh(t.Keyring, given)
		outcome, err = t.decideClient(c, &event.TestflingerRefreshTokenRevokeRequested{TokenHash: hash[:]})
	}
	switch {
	case err != nil:
	case outcome.Result == registry.UnknownRefreshToken:
		err = bad(http.StatusBadRequest, "Refresh token not found")
	case outcome.Result == registry.RefreshTokenRevoked:
		err = bad(http.StatusBadRequest, "Refresh token has already been revoked")
	}
	if err != nil {
		refuse(c, err)
		return
	}
	access.TestflingerJSON(c, http.StatusOK, Status{Status: "OK"})
}
