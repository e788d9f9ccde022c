package access

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
	"golang.org/x/crypto/bcrypt"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/keyring"
	"github.com/millrace/millrace/schemas/route"
)

// Purposes under which the keyring works for Testflinger. Those of hashing and sealing are part of the log's format and
// never change.
const (
	purposeTestflingerClient  = "testflinger-client"
	purposeTestflingerSecret  = "testflinger-client-secret"
	purposeTestflingerRefresh = "testflinger-refresh-token"
	purposeTestflingerTokens  = "testflinger-access-tokens"
)

// TestflingerCaller is the principal of a request to the Testflinger API.
type TestflingerCaller struct {
	// Permission is what the request's token allows; nil without one.
	Permission *testflinger.Permission
	// Fault is what is wrong with the token, on routes that look at it only when it matters.
	Fault error
}

// Testflinger authorizes the Testflinger API. It asks nobody: a token carries what its client may do (contract 6).
type Testflinger struct{ tokens *testflinger.Tokens }

// NewTestflinger gives the authorizer.
func NewTestflinger(tokens *testflinger.Tokens) *Testflinger { return &Testflinger{tokens} }

// API is what the routes of the Testflinger API share.
func (t *Testflinger) API() route.API {
	api := TestflingerForm()
	api.Authorize = t.Authorize
	api.Header = http.Header{
		"X-Content-Type-Options": {"nosniff"},
		// What anybody posted as output is answered as HTML (contract 1): in a browser it is nobody's page, and runs nothing.
		"Content-Security-Policy": {"sandbox"},
	}
	return api
}

// TestflingerForm is how what no handler answers is answered (contract 1): all that a proxy needs of the API.
func TestflingerForm() route.API {
	return route.API{Refuse: RefuseTestflinger, Root: "/v1", Options: true, Unknown: func(c *gin.Context) {
		TestflingerText(c, http.StatusNotFound, "Not found: 404 Not Found: "+route.NoEndpoint)
	}}
}

// callerOfRole maps roles to the kinds of callers that routes let in. The role user gives nothing that nobody has.
var callerOfRole = map[testflinger.Role]route.Caller{
	testflinger.Admin: route.TestflingerAdmin, testflinger.Manager: route.TestflingerManager,
	testflinger.Contributor: route.TestflingerContributor, testflinger.Agents: route.TestflingerAgent,
	testflinger.User: route.Anonymous,
}

// Authorize is the route.Authorizer. The principal is a TestflingerCaller.
func (t *Testflinger) Authorize(c *gin.Context, access route.Access) (any, error) {
	permission, err := t.tokens.Check(c.GetHeader("Authorization"))
	caller := TestflingerCaller{Permission: permission, Fault: err}
	if access == route.Anyone || access == route.TestflingerBasic { // a secret is tried where tokens are given
		return caller, nil
	}
	if err != nil {
		return nil, testflingerRefusal(err)
	}
	kind := route.Anonymous
	if permission != nil {
		kind = callerOfRole[permission.Role]
	}
	switch {
	case access.Allows(kind):
		return caller, nil
	case permission == nil && (t.tokens.Generation() == testflinger.Seed || access.Allows(route.TestflingerContributor)):
		return nil, route.Errorf(http.StatusUnauthorized, "Authentication is required for specified endpoint")
	}
	return nil, route.Errorf(http.StatusForbidden, "Specified action requires role: %s", rolesOf(access))
}

// testflingerRefusal is the answer to a token that is not good.
func testflingerRefusal(err error) error {
	if refusal := (*testflinger.Refusal)(nil); errors.As(err, &refusal) {
		return route.Errorf(refusal.Status, "%s", refusal.Message)
	}
	return err
}

// rolesOf lists the roles that are let in, in the contract's order.
func rolesOf(access route.Access) string {
	var roles []string
	for _, role := range testflinger.Roles(testflinger.Latest) {
		if access.Allows(callerOfRole[role]) {
			roles = append(roles, string(role))
		}
	}
	return strings.Join(roles, ", ")
}

// RefuseTestflinger answers as Testflinger does (contract 1).
func RefuseTestflinger(c *gin.Context, refusal *route.Error) {
	message := refusal.Message
	if refusal.Status == http.StatusRequestEntityTooLarge {
		message = "Payload too large"
	}
	if refusal.Fault {
		TestflingerText(c, refusal.Status, "Unhandled Exception: "+message)
		return
	}
	TestflingerJSON(c, refusal.Status, TestflingerError{Detail: map[string]any{}, Message: message})
}

// TestflingerText answers with a bare text (contract 1).
func TestflingerText(c *gin.Context, status int, text string) {
	c.Abort()
	c.Data(status, "text/html; charset=utf-8", []byte(text))
}

// TestflingerJSON answers with JSON, whose type says nothing of a charset (contract 1).
func TestflingerJSON(c *gin.Context, status int, value any) {
	c.Abort()
	body, err := json.Marshal(value)
	if err != nil {
		route.Refuse(c, fmt.Errorf("encode an answer: %w", err))
		return
	}
	c.Data(status, "application/json", body)
}

// TestflingerError is the body of refusals.
type TestflingerError struct {
	Detail  any    `json:"detail" doc:"by json or query, what is wrong with each member or parameter; else empty"`
	Message string `json:"message"`
}

// HashTestflingerClient gives the hash under which a client stands in the log.
func HashTestflingerClient(ring *keyring.Keyring, id string) registry.Hash {
	return ring.Lookup(purposeTestflingerClient, id)
}

// TestflingerSubject names a client's own key in the keyring.
func TestflingerSubject(client registry.Hash) string {
	return purposeTestflingerClient + ":" + hex.EncodeToString(client[:])
}

// SealTestflingerProfile seals who a client is under the client's own key.
func SealTestflingerProfile(ring *keyring.Keyring, client registry.Hash, profile *event.TestflingerProfile) ([]byte, error) {
	plain, err := proto.Marshal(profile)
	if err != nil {
		return nil, fmt.Errorf("encode a client's profile: %w", err)
	}
	return ring.SealFor(TestflingerSubject(client), plain)
}

// OpenTestflingerProfile opens what SealTestflingerProfile made; keyring.ErrErased once the client was erased.
func OpenTestflingerProfile(ring *keyring.Keyring, client registry.Hash, sealed []byte) (*event.TestflingerProfile, error) {
	plain, err := ring.OpenFor(TestflingerSubject(client), sealed)
	if err != nil {
		return nil, err
	}
	profile := new(event.TestflingerProfile)
	if err := proto.Unmarshal(plain, profile); err != nil {
		return nil, fmt.Errorf("decode a client's profile: %w", err)
	}
	return profile, nil
}

// SealForTestflinger seals a text under a client's own key: the client's id with a job, a secret.
func SealForTestflinger(ring *keyring.Keyring, client registry.Hash, text string) ([]byte, error) {
	return ring.SealFor(TestflingerSubject(client), []byte(text))
}

// OpenForTestflinger opens what SealForTestflinger made; keyring.ErrErased once the client was erased.
func OpenForTestflinger(ring *keyring.Keyring, client registry.Hash, sealed []byte) (string, error) {
	text, err := ring.OpenFor(TestflingerSubject(client), sealed)
	return string(text), err
}

// testflingerCost is bcrypt's. The hash that it works on is keyed: who has the log alone cannot even begin to guess.
const testflingerCost = 10

// EncryptTestflingerSecret gives a client's secret as it stands in the log: bcrypt of its keyed hash, so that secrets of any
// length count whole.
func EncryptTestflingerSecret(ring *keyring.Keyring, secret string) ([]byte, error) {
	hash := ring.Lookup(purposeTestflingerSecret, secret)
	encrypted, err := bcrypt.GenerateFromPassword([]byte(hex.EncodeToString(hash[:])), testflingerCost)
	if err != nil {
		return nil, fmt.Errorf("encrypt a client's secret: %w", err)
	}
	return encrypted, nil
}

// IsTestflingerSecret says whether a secret is the one that was encrypted.
func IsTestflingerSecret(ring *keyring.Keyring, encrypted []byte, secret string) bool {
	hash := ring.Lookup(purposeTestflingerSecret, secret)
	return bcrypt.CompareHashAndPassword(encrypted, []byte(hex.EncodeToString(hash[:]))) == nil
}

// HashTestflingerRefresh gives the hash by which a refresh token is found.
func HashTestflingerRefresh(ring *keyring.Keyring, token string) registry.Hash {
	return ring.Lookup(purposeTestflingerRefresh, token)
}

// TestflingerTokenKey is the key of access tokens where the operator names none.
func TestflingerTokenKey(ring *keyring.Keyring) []byte {
	key := ring.Derive(purposeTestflingerTokens)
	return key[:]
}
