package pgperffarm

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/schemas/keyring"
)

// erased is the name of a person whose own key was deleted.
const erased = "erased"

// reopenAfter bounds how long an opened profile is shown without asking the keyring again, and so how long the deletion
// of a key goes unnoticed until the log tells of it.
const reopenAfter = time.Second

// people opens the sealed profiles of users and remembers them for a moment: nowhere but in this process's memory.
type people struct {
	ring   *keyring.Keyring
	now    func() time.Time
	opened sync.Map // user id to *person
}

// person is an opened profile. An erased one has a name only.
type person struct {
	username, email string
	sealed          []byte
	until           time.Time
}

// profile is what has to be known of a user to open the profile.
type profile struct {
	user   uint64
	name   registry.Hash
	sealed []byte // nil for an erased user
	person *person
}

// seen notes a user's profile while the registry is being viewed; nil is a user who is not known.
func (p *people) seen(u *registry.User) profile {
	if u == nil || u.Erased || len(u.SealedProfile) == 0 {
		return profile{}
	}
	known, ok := p.opened.Load(u.ID)
	if ok && bytes.Equal(known.(*person).sealed, u.SealedProfile) && p.now().Before(known.(*person).until) {
		return profile{person: known.(*person)}
	}
	return profile{user: u.ID, name: u.NameHash, sealed: bytes.Clone(u.SealedProfile)}
}

// open gives the person. It may read the key's file, so the registry must not be viewed meanwhile.
func (p *people) open(of profile) (*person, error) {
	switch {
	case of.person != nil:
		return of.person, nil
	case of.sealed == nil:
		return &person{username: erased}, nil
	}
	opened, err := access.OpenProfile(p.ring, of.name, of.sealed)
	if errors.Is(err, keyring.ErrErased) {
		p.opened.Delete(of.user)
		return &person{username: erased}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the profile of user %d: %w", of.user, err)
	}
	found := &person{
		username: opened.GetUsername(), email: opened.GetEmail(), sealed: of.sealed, until: p.now().Add(reopenAfter),
	}
	p.opened.Store(of.user, found)
	return found, nil
}
