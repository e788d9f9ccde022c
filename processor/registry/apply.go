package registry

import (
	"github.com/millrace/millrace/processor/fold"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// Apply folds one record.
func Apply(s *State, record *eventlog.Record) Outcome {
	if record.Malformed != nil {
		return Outcome{}
	}
	message, err := record.Decode()
	if err != nil {
		return Outcome{}
	}
	decide := func() Outcome {
		outcome := s.apply(message, record.LogTime)
		if outcome.Result == Done {
			s.Changes++
		}
		return outcome
	}
	if request, repeatable := message.(interface{ GetIdempotency() *event.Idempotency }); repeatable {
		return s.Repeats.Once(request.GetIdempotency(), record.LogTime, answer, decide)
	}
	return decide()
}

// answer is the outcome of a request whose key is not new.
func answer(verdict fold.Verdict, first Outcome) Outcome {
	switch verdict {
	case fold.Repeated:
		first.Repeated = true
		return first
	case fold.Reused:
		return Outcome{Result: KeyReused}
	}
	return Outcome{Result: KeyUnchecked}
}

func (s *State) apply(message any, now int64) Outcome {
	switch m := message.(type) {
	case *event.LogStarted:
		return s.logStarted(m)
	case *event.FarmSignInRequested:
		return s.signIn(m, now)
	case *event.FarmSessionEnded:
		return s.endSession(m)
	case *event.FarmUserSetRequested:
		return s.setUser(m, now)
	case *event.FarmUserErased:
		return s.eraseUser(m)
	case *event.FarmMachineAddRequested:
		return s.addMachine(m, now)
	case *event.FarmMachineApproveRequested:
		return s.approveMachine(m)
	case *event.FarmMachineEditRequested:
		return s.editMachine(m)
	case *event.FarmMachineRotateRequested:
		return s.rotateMachine(m)
	case *event.FarmMachineRevokeRequested:
		return s.revokeMachine(m)
	case *event.TokenAddRequested:
		return s.addToken(m)
	case *event.TokenRevokeRequested:
		return s.revokeToken(m)
	case *event.DebciKeyAddRequested:
		return s.addDebciKey(m)
	case *event.DebciKeyRevokeRequested:
		return s.revokeDebciKey(m)
	case *event.DebciUserErased:
		return s.eraseDebciUser(m)
	case *event.SubscriptionAddRequested:
		return s.addSubscription(m, now)
	case *event.SubscriptionDeleteRequested:
		return s.deleteSubscription(m)
	case *event.SubscriptionPauseRequested:
		return s.pauseSubscription(m, now)
	case *event.SubscriptionResumeRequested:
		return s.resumeSubscription(m)
	}
	return s.Testflinger.apply(message, now)
}

// logStarted takes the first key: another one under the same log is never accepted.
func (s *State) logStarted(m *event.LogStarted) Outcome {
	if s.KeyID != "" {
		return Outcome{}
	}
	s.KeyID = m.GetKeyId()
	return Outcome{Result: Done}
}

func (s *State) signIn(m *event.FarmSignInRequested, now int64) Outcome {
	callback, ok := ToHash(m.GetCallbackHash())
	session, valid := ToHash(m.GetSessionHash())
	if !ok || !valid {
		return Outcome{}
	}
	s.sweep(now)
	if _, used := s.Callbacks[callback]; used {
		return Outcome{Result: CallbackUsed}
	}
	outcome := s.putUser(m.GetUser(), now)
	if outcome.Result != Done {
		return outcome
	}
	if m.GetStaff() {
		s.Users[outcome.ID-1].Staff = true
	}
	s.Callbacks[callback] = m.GetCallbackExpires()
	s.Sessions[session] = Session{User: outcome.ID, Expires: m.GetSessionExpires()}
	return outcome
}

// putUser creates or updates a user; an e-mail address belongs to one user only.
func (s *State) putUser(u *event.FarmUser, now int64) Outcome {
	name, ok := ToHash(u.GetNameHash())
	if !ok {
		return Outcome{}
	}
	email, hasEmail := ToHash(u.GetEmailHash())
	id := s.Names[name]
	if owner, taken := s.Emails[email]; hasEmail && taken && owner != id {
		return Outcome{Result: EmailTaken}
	}
	if id == 0 {
		id = uint64(len(s.Users)) + 1
		s.Users = append(s.Users, &User{ID: id, NameHash: name, AddTime: now})
		s.Names[name] = id
	}
	user := s.Users[id-1]
	user.Erased = false
	if len(u.GetSealedProfile()) > 0 {
		user.SealedProfile = u.GetSealedProfile()
	}
	if hasEmail && user.EmailHash != email {
		delete(s.Emails, user.EmailHash)
		user.EmailHash = email
		s.Emails[email] = id
	}
	return Outcome{Result: Done, ID: id}
}

// sweep forgets sessions and callbacks that have expired, once as many new ones have come as the last sweep left.
func (s *State) sweep(now int64) {
	if len(s.Sessions)+len(s.Callbacks) <= 2*s.Swept+64 {
		return
	}
	for hash, session := range s.Sessions {
		if session.Expires*1000 <= now {
			delete(s.Sessions, hash)
		}
	}
	for hash, until := range s.Callbacks {
		if until*1000 <= now {
			delete(s.Callbacks, hash)
		}
	}
	s.Swept = len(s.Sessions) + len(s.Callbacks)
}

func (s *State) endSession(m *event.FarmSessionEnded) Outcome {
	hash, _ := ToHash(m.GetSessionHash())
	session, open := s.Sessions[hash]
	if !open {
		return Outcome{}
	}
	delete(s.Sessions, hash)
	return Outcome{Result: Done, ID: session.User}
}

func (s *State) setUser(m *event.FarmUserSetRequested, now int64) Outcome {
	outcome := s.putUser(m.GetUser(), now)
	if outcome.Result == Done && m.Staff != nil {
		s.Users[outcome.ID-1].Staff = m.GetStaff()
	}
	return outcome
}

func (s *State) eraseUser(m *event.FarmUserErased) Outcome {
	name, _ := ToHash(m.GetNameHash())
	id := s.Names[name]
	if id == 0 {
		return Outcome{Result: UnknownUser}
	}
	user := s.Users[id-1]
	delete(s.Emails, user.EmailHash)
	user.EmailHash, user.SealedProfile, user.Staff, user.Erased = Hash{}, nil, false, true
	for hash, session := range s.Sessions {
		if session.User == id {
			delete(s.Sessions, hash)
		}
	}
	return Outcome{Result: Done, ID: id}
}

func (s *State) addMachine(m *event.FarmMachineAddRequested, now int64) Outcome {
	owner, _ := ToHash(m.GetOwnerNameHash())
	secret, ok := ToHash(m.GetSecretHash())
	switch {
	case !ok:
		return Outcome{}
	case s.Names[owner] == 0:
		return Outcome{Result: UnknownUser}
	case s.Aliases[m.GetAlias()] != 0:
		return Outcome{Result: AliasTaken}
	case s.Secrets[secret] != 0:
		return Outcome{Result: SecretTaken}
	}
	id := uint64(len(s.Machines)) + 1
	s.Machines = append(s.Machines, &Machine{
		ID: id, Alias: m.GetAlias(), Description: m.GetDescription(), Owner: s.Names[owner], Approved: m.GetApproved(),
		SecretHash: secret, SealedSecret: m.GetSealedSecret(), AddTime: now,
	})
	s.Aliases[m.GetAlias()] = id
	s.Secrets[secret] = id
	return Outcome{Result: Done, ID: id}
}

func (s *State) approveMachine(m *event.FarmMachineApproveRequested) Outcome {
	if len(m.GetByNameHash()) > 0 {
		by, _ := ToHash(m.GetByNameHash())
		if id := s.Names[by]; id == 0 || !s.Users[id-1].Staff {
			return Outcome{Result: NotStaff}
		}
	}
	machine := s.ByAlias(m.GetAlias())
	if machine == nil {
		return Outcome{Result: UnknownAlias}
	}
	machine.Approved = true
	return Outcome{Result: Done, ID: machine.ID}
}

func (s *State) editMachine(m *event.FarmMachineEditRequested) Outcome {
	machine := s.Machine(m.GetMachineId())
	if machine == nil {
		return Outcome{Result: UnknownMachine}
	}
	by, _ := ToHash(m.GetByNameHash())
	if id := s.Names[by]; id == 0 || id != machine.Owner {
		return Outcome{Result: NotOwner}
	}
	machine.Description = m.GetDescription()
	return Outcome{Result: Done, ID: machine.ID}
}

func (s *State) rotateMachine(m *event.FarmMachineRotateRequested) Outcome {
	machine := s.ByAlias(m.GetAlias())
	secret, ok := ToHash(m.GetSecretHash())
	if machine == nil || !ok {
		return Outcome{Result: UnknownAlias}
	}
	if owner := s.Secrets[secret]; owner != 0 && owner != machine.ID {
		return Outcome{Result: SecretTaken}
	}
	s.endSecret(machine)
	machine.SecretHash, machine.SealedSecret, machine.Revoked = secret, m.GetSealedSecret(), false
	s.Secrets[secret] = machine.ID
	return Outcome{Result: Done, ID: machine.ID}
}

func (s *State) revokeMachine(m *event.FarmMachineRevokeRequested) Outcome {
	machine := s.ByAlias(m.GetAlias())
	if machine == nil {
		return Outcome{Result: UnknownAlias}
	}
	s.endSecret(machine)
	machine.Revoked = true
	return Outcome{Result: Done, ID: machine.ID}
}

// endSecret forgets a machine's secret, which may then be another's.
func (s *State) endSecret(machine *Machine) {
	if s.Secrets[machine.SecretHash] == machine.ID {
		delete(s.Secrets, machine.SecretHash)
	}
	machine.SecretHash, machine.SealedSecret = Hash{}, nil
}

func (s *State) addToken(m *event.TokenAddRequested) Outcome {
	hash, ok := ToHash(m.GetTokenHash())
	if !ok {
		return Outcome{}
	}
	if _, taken := s.TokenOf[m.GetName()]; taken {
		return Outcome{Result: NameTaken}
	}
	s.Tokens[hash] = &Token{Name: m.GetName(), Role: m.GetRole()}
	s.TokenOf[m.GetName()] = hash
	return Outcome{Result: Done}
}

func (s *State) revokeToken(m *event.TokenRevokeRequested) Outcome {
	hash, known := s.TokenOf[m.GetName()]
	if !known {
		return Outcome{Result: UnknownToken}
	}
	delete(s.Tokens, hash)
	delete(s.TokenOf, m.GetName())
	return Outcome{Result: Done}
}
