package access

import (
	"encoding/hex"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/keyring"
)

// Purposes under which the keyring hashes and seals. They are part of the log's format and never change.
const (
	purposeUser    = "farm-user"
	purposeEmail   = "farm-email"
	purposeSession = "farm-session"
	purposeMachine = "farm-machine-secret"
	purposeToken   = "token"
	purposeOwner   = "token-owner"

	purposeDebciUser = "debci-user"
	purposeDebciKey  = "debci-key"
)

// HashUser gives the hash under which a community user stands in the log.
func HashUser(ring *keyring.Keyring, username string) registry.Hash {
	return ring.Lookup(purposeUser, username)
}

// HashEmail gives the hash of an e-mail address, in which case does not count.
func HashEmail(ring *keyring.Keyring, address string) registry.Hash {
	return ring.Lookup(purposeEmail, strings.ToLower(address))
}

// HashSession gives the hash of a session cookie's value.
func HashSession(ring *keyring.Keyring, cookie string) registry.Hash {
	return ring.Lookup(purposeSession, cookie)
}

// HashMachineSecret gives the hash by which an upload's secret is found.
func HashMachineSecret(ring *keyring.Keyring, secret string) registry.Hash {
	return ring.Lookup(purposeMachine, secret)
}

// HashToken gives the hash by which a token of /millrace/v1 is found.
func HashToken(ring *keyring.Keyring, token string) registry.Hash {
	return ring.Lookup(purposeToken, token)
}

// HashTokenOwner gives the hash by which the jobs that a token submitted are found, by the token's name.
func HashTokenOwner(ring *keyring.Keyring, name string) registry.Hash {
	return ring.Lookup(purposeOwner, name)
}

// Subject names a user's own key in the keyring; erasing it erases the user's profile wherever it lies.
func Subject(user registry.Hash) string { return purposeUser + ":" + hex.EncodeToString(user[:]) }

// SealProfile seals a profile under the user's own key.
func SealProfile(ring *keyring.Keyring, user registry.Hash, profile *event.FarmProfile) ([]byte, error) {
	plain, err := proto.Marshal(profile)
	if err != nil {
		return nil, fmt.Errorf("encode a user's profile: %w", err)
	}
	return ring.SealFor(Subject(user), plain)
}

// OpenProfile opens what SealProfile made; keyring.ErrErased once the user was erased.
func OpenProfile(ring *keyring.Keyring, user registry.Hash, sealed []byte) (*event.FarmProfile, error) {
	plain, err := ring.OpenFor(Subject(user), sealed)
	if err != nil {
		return nil, err
	}
	profile := new(event.FarmProfile)
	if err := proto.Unmarshal(plain, profile); err != nil {
		return nil, fmt.Errorf("decode a user's profile: %w", err)
	}
	return profile, nil
}

// SealMachineSecret seals a machine's secret, which its owner may read again.
func SealMachineSecret(ring *keyring.Keyring, secret string) []byte {
	return ring.Seal(purposeMachine, []byte(secret))
}

// OpenMachineSecret opens what SealMachineSecret made.
func OpenMachineSecret(ring *keyring.Keyring, sealed []byte) (string, error) {
	secret, err := ring.Open(purposeMachine, sealed)
	return string(secret), err
}
