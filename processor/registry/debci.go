package registry

import (
	"bytes"

	"github.com/millrace/millrace/schemas/event"
)

// DebciKey gives whose a debci key is and the name, sealed; ok is false for a key that nobody has.
func (s *State) DebciKey(key Hash) (user Hash, sealedName []byte, ok bool) {
	user, ok = s.DebciKeys[key]
	return user, bytes.Clone(s.DebciUsers[user]), ok
}

func (s *State) addDebciKey(m *event.DebciKeyAddRequested) Outcome {
	user, named := ToHash(m.GetNameHash())
	key, ok := ToHash(m.GetKeyHash())
	if !named || !ok {
		return Outcome{}
	}
	if owner, taken := s.DebciKeys[key]; taken && owner != user {
		return Outcome{Result: DebciKeyTaken}
	}
	s.DebciUsers[user] = m.GetSealedName()
	s.DebciKeys[key] = user
	return Outcome{Result: Done}
}

func (s *State) revokeDebciKey(m *event.DebciKeyRevokeRequested) Outcome {
	user, _ := ToHash(m.GetNameHash())
	if _, known := s.DebciUsers[user]; !known {
		return Outcome{Result: UnknownDebciUser}
	}
	if len(m.GetKeyHash()) == 0 {
		s.endDebciKeys(user)
		return Outcome{Result: Done}
	}
	key, _ := ToHash(m.GetKeyHash())
	if owner, known := s.DebciKeys[key]; !known || owner != user {
		return Outcome{Result: UnknownDebciKey}
	}
	delete(s.DebciKeys, key)
	return Outcome{Result: Done}
}

func (s *State) endDebciKeys(user Hash) {
	for key, owner := range s.DebciKeys {
		if owner == user {
			delete(s.DebciKeys, key)
		}
	}
}

func (s *State) eraseDebciUser(m *event.DebciUserErased) Outcome {
	user, _ := ToHash(m.GetNameHash())
	if _, known := s.DebciUsers[user]; !known {
		return Outcome{Result: UnknownDebciUser}
	}
	s.endDebciKeys(user)
	delete(s.DebciUsers, user)
	return Outcome{Result: Done}
}
