package registry

import "time"

// User gives a user by id, nil when there is none. So do the other look-ups.
func (s *State) User(id uint64) *User {
	if id == 0 || id > uint64(len(s.Users)) {
		return nil
	}
	return s.Users[id-1]
}

// ByName gives the user with a name's hash.
func (s *State) ByName(hash Hash) *User { return s.User(s.Names[hash]) }

// Machine gives a machine by id.
func (s *State) Machine(id uint64) *Machine {
	if id == 0 || id > uint64(len(s.Machines)) {
		return nil
	}
	return s.Machines[id-1]
}

// ByAlias gives the machine with an alias.
func (s *State) ByAlias(alias string) *Machine { return s.Machine(s.Aliases[alias]) }

// BySecret gives the machine with a secret's hash; a revoked secret finds none.
func (s *State) BySecret(hash Hash) *Machine { return s.Machine(s.Secrets[hash]) }

// Session gives the user whom an open session belongs to.
func (s *State) Session(hash Hash, now time.Time) *User {
	session, open := s.Sessions[hash]
	if !open || session.Expires <= now.Unix() {
		return nil
	}
	return s.User(session.User)
}

// Token gives the token with a hash.
func (s *State) Token(hash Hash) *Token { return s.Tokens[hash] }
