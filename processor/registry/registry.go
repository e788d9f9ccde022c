// Package registry is the fold over topic registry: users, machines, sessions, tokens and subscriptions.
//
// Personal data and secrets stand here sealed or as keyed hashes only.
package registry

import (
	"bytes"
	"encoding/gob"
	"fmt"

	"github.com/millrace/millrace/processor/fold"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// Hash is a keyed hash, of a name or of a secret.
type Hash [32]byte

// ToHash copies a hash out of an event; ok is false when it is none.
func ToHash(b []byte) (hash Hash, ok bool) {
	return hash, copy(hash[:], b) == len(hash) && len(b) == len(hash)
}

// User is a person of the Performance Farm.
type User struct {
	// ID is the user's ordinal, from 1.
	ID       uint64
	NameHash Hash
	// EmailHash is zero when no address is known.
	EmailHash Hash
	// SealedProfile holds an event.FarmProfile under the user's own key.
	SealedProfile []byte
	Staff         bool
	Erased        bool
	// AddTime is Unix milliseconds of log time.
	AddTime int64
}

// Machine is a registered computer.
type Machine struct {
	// ID is the machine's ordinal, from 1.
	ID           uint64
	Alias        string
	Description  string
	Owner        uint64
	Approved     bool
	Revoked      bool
	SecretHash   Hash
	SealedSecret []byte
	// AddTime is Unix milliseconds of log time.
	AddTime int64
}

// Session is an open login.
type Session struct {
	User uint64
	// Expires is Unix seconds.
	Expires int64
}

// Token is a token of /millrace/v1.
type Token struct {
	Name string
	Role event.Role
}

// State is what the registry knows. Its fields are exported for encoding; read it through the methods.
type State struct {
	// KeyID names the installation key that the log's secrets are sealed under.
	KeyID string
	// Changes counts the events that had an effect: a version for caches.
	Changes  uint64
	Users    []*User
	Names    map[Hash]uint64
	Emails   map[Hash]uint64
	Machines []*Machine
	Aliases  map[string]uint64
	Secrets  map[Hash]uint64
	Sessions map[Hash]Session
	// Callbacks are used login callbacks and the Unix second until which they could be replayed.
	Callbacks map[Hash]int64
	// Swept is the number of sessions and callbacks left by the last sweep of expired ones.
	Swept   int
	Tokens  map[Hash]*Token
	TokenOf map[string]Hash
	// DebciUsers are the debci users' names by their hashes, each sealed under the user's own key.
	DebciUsers map[Hash][]byte
	// DebciKeys gives for each key that works whose it is.
	DebciKeys map[Hash]Hash
	// Subscribed are the subscriptions by their names.
	Subscribed  map[string]*Subscription
	Testflinger Testflinger
	Repeats     fold.Repeats[Outcome]
}

// Result is what became of a request.
type Result uint8

// The results. Their numbers are stored: a new one comes last.
const (
	// Ignored is an event that asks for nothing or cannot be read.
	Ignored Result = iota
	Done
	AliasTaken
	UnknownAlias
	UnknownMachine
	UnknownUser
	NotStaff
	NotOwner
	EmailTaken
	CallbackUsed
	NameTaken
	UnknownToken
	KeyReused
	// SecretTaken is a secret that another machine has: it could not tell the two apart.
	SecretTaken
	// KeyUnchecked is a request whose key may be a forgotten one: it had no effect.
	KeyUnchecked
	// DebciKeyTaken is a key that another debci user has.
	DebciKeyTaken
	UnknownDebciUser
	UnknownDebciKey
	SubscriptionNameTaken
	UnknownSubscription
	// TestflingerClientKnown is a client that was to be made, and is there.
	TestflingerClientKnown
	UnknownTestflingerClient
	// TestflingerSecretMissing is a client that was to be made without a secret.
	TestflingerSecretMissing
	// TestflingerMayNotCreate, TestflingerMayNotModify and TestflingerMayNotAssign are requests about a role, the outcome's,
	// that is above the asker's: a new client's, a client's before, a client's after.
	TestflingerMayNotCreate
	TestflingerMayNotModify
	TestflingerMayNotAssign
	// TestflingerQueueOpen is a queue that is not restricted.
	TestflingerQueueOpen
	UnknownRefreshToken
	RefreshTokenRevoked
	UnknownTestflingerSecret
	TooManySecrets
)

// Outcome is the answer that the log gives to a request. Its fields are stored, for repeats.
type Outcome struct {
	Result Result
	// ID is the machine or user concerned.
	ID uint64
	// Repeated marks the answer to a repeated idempotency key: the effect is the first request's.
	Repeated bool
	// New says that the request made what it names, a client of Testflinger's, and Role is that one's, or the one that the
	// asker may not touch.
	New  bool
	Role event.TestflingerRole
}

// Fold is the registry's fold.
func Fold() *fold.Definition[*State, Outcome] {
	return &fold.Definition[*State, Outcome]{
		Name: "registry", Version: 6, Topic: eventlog.Registry,
		New: NewState, Apply: Apply, Encode: encode, Decode: decode,
		Keys: &fold.Keys[*State, Outcome]{
			Repeats: func(s *State) *fold.Repeats[Outcome] { return &s.Repeats }, Answer: answer,
			Unchecked: func(o Outcome) bool { return o.Result == KeyUnchecked },
		},
	}
}

// NewState is an empty registry.
func NewState() *State {
	return &State{
		Names: map[Hash]uint64{}, Emails: map[Hash]uint64{}, Aliases: map[string]uint64{}, Secrets: map[Hash]uint64{},
		Sessions: map[Hash]Session{}, Callbacks: map[Hash]int64{}, Tokens: map[Hash]*Token{}, TokenOf: map[string]Hash{},
		DebciUsers: map[Hash][]byte{}, DebciKeys: map[Hash]Hash{}, Subscribed: map[string]*Subscription{}, Testflinger: newTestflinger(),
	}
}

func encode(s *State) ([]byte, error) {
	var buffer bytes.Buffer
	err := gob.NewEncoder(&buffer).Encode(s)
	return buffer.Bytes(), err
}

func decode(b []byte) (*State, error) {
	s := NewState()
	if err := gob.NewDecoder(bytes.NewReader(b)).Decode(s); err != nil {
		return nil, fmt.Errorf("registry state: %w", err)
	}
	return s, nil
}
