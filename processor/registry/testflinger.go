package registry

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"github.com/millrace/millrace/schemas/event"
)

// Testflinger is what the registry knows of Testflinger's clients. Agents are no part of it: what they say of themselves
// decides nothing, so it is in the projections alone.
type Testflinger struct {
	// Clients are by the keyed hashes of their ids.
	Clients map[Hash]*TestflingerClient
	// Restricted are the queues that only their owners may submit to: the clients whose AllowedQueues name them.
	Restricted map[string]bool
	Refresh    map[Hash]TestflingerRefresh
	// Swept is the number of refresh tokens left by the last sweep of expired ones.
	Swept int
}

// TestflingerClient is who may sign in to the Testflinger API.
type TestflingerClient struct {
	// SealedProfile holds an event.TestflingerProfile under the client's own key.
	SealedProfile []byte
	// SecretBcrypt is bcrypt of the secret's keyed hash.
	SecretBcrypt                []byte
	Role                        event.TestflingerRole
	MaxPriority, MaxReservation map[string]int64
	// AllowedQueues is nil for who was never given any.
	AllowedQueues []string
	Secrets       map[string]TestflingerSecret
	// Refresh are the hashes of the client's refresh tokens, in the order in which they were issued.
	Refresh []Hash
}

// TestflingerSecret is a secret that a client keeps for its jobs.
type TestflingerSecret struct {
	// Sealed is the value under the client's own key.
	Sealed []byte
	// Expires is Unix milliseconds; 0: never.
	Expires int64
	// Once says that it is given to one job only: TakenBy is that one's number, 0 while there is none.
	Once    bool
	TakenBy uint64
}

// TestflingerRefresh is a refresh token.
type TestflingerRefresh struct {
	Client Hash
	// Expires is Unix milliseconds.
	Expires int64
	Revoked bool
}

func newTestflinger() Testflinger {
	return Testflinger{Clients: map[Hash]*TestflingerClient{}, Restricted: map[string]bool{}, Refresh: map[Hash]TestflingerRefresh{}}
}

// maxSecrets bounds the secrets of one client, and maxSecretBytes their paths and sealed values together. They are part of
// the fold's rule.
const (
	maxSecrets     = 1000
	maxSecretBytes = 1 << 20
)

// maxRefresh bounds the refresh tokens of one client: the oldest gives way. It is part of the fold's rule.
const maxRefresh = 1000

// keepExpired is how long a refresh token that has expired is remembered, in milliseconds.
const keepExpired = 24 * 60 * 60 * 1000

// Client gives a copy of a client; false when there is none.
func (t *Testflinger) Client(id Hash) (TestflingerClient, bool) {
	known := t.Clients[id]
	if known == nil {
		return TestflingerClient{}, false
	}
	c := *known
	c.SealedProfile, c.SecretBcrypt = bytes.Clone(c.SealedProfile), bytes.Clone(c.SecretBcrypt)
	c.MaxPriority, c.MaxReservation = maps.Clone(c.MaxPriority), maps.Clone(c.MaxReservation)
	c.AllowedQueues, c.Secrets, c.Refresh = slices.Clone(c.AllowedQueues), nil, nil
	return c, true
}

// Secret gives a client's secret that a job may have, by the job's number, 0 for one that has none yet; false when there is none.
func (t *Testflinger) Secret(id Hash, path string, job uint64, now int64) (TestflingerSecret, bool) {
	client := t.Clients[id]
	if client == nil {
		return TestflingerSecret{}, false
	}
	secret, known := client.Secrets[path]
	if !known || secret.expired(now) || secret.TakenBy != 0 && secret.TakenBy != job {
		return TestflingerSecret{}, false
	}
	secret.Sealed = bytes.Clone(secret.Sealed)
	return secret, true
}

func (s *TestflingerSecret) expired(now int64) bool { return s.Expires != 0 && s.Expires <= now }

// Owners lists who may submit to a queue, in the order of their hashes.
func (t *Testflinger) Owners(queue string) []Hash {
	var owners []Hash
	for id, client := range t.Clients {
		if slices.Contains(client.AllowedQueues, queue) {
			owners = append(owners, id)
		}
	}
	slices.SortFunc(owners, func(a, b Hash) int { return bytes.Compare(a[:], b[:]) })
	return owners
}

// apply folds what concerns Testflinger's clients.
func (t *Testflinger) apply(message any, now int64) Outcome {
	switch m := message.(type) {
	case *event.TestflingerClientSetRequested:
		return t.setClient(m)
	case *event.TestflingerClientDeleteRequested:
		return t.deleteClient(m)
	case *event.TestflingerQueueRestrictRequested:
		return t.restrict(m)
	case *event.TestflingerQueueOpenRequested:
		return t.open(m)
	case *event.TestflingerRefreshTokenIssued:
		return t.issueRefresh(m, now)
	case *event.TestflingerRefreshTokenRevokeRequested:
		return t.revokeRefresh(m)
	case *event.TestflingerSecretSetRequested:
		return t.setSecret(m, now)
	case *event.TestflingerSecretDeleteRequested:
		return t.deleteSecret(m.GetIdHash(), m.GetPath())
	case *event.TestflingerSecretTaken:
		return t.takeSecret(m, now)
	}
	return Outcome{}
}

// rank is the order of roles: users and agents are below contributors. Nobody is above the operator.
func rank(role event.TestflingerRole) int {
	switch role {
	case event.TestflingerRole_TESTFLINGER_ROLE_CONTRIBUTOR:
		return 1
	case event.TestflingerRole_TESTFLINGER_ROLE_MANAGER:
		return 2
	case event.TestflingerRole_TESTFLINGER_ROLE_ADMIN:
		return 3
	}
	return 0
}

func outranks(role, by event.TestflingerRole) bool {
	return by != event.TestflingerRole_TESTFLINGER_ROLE_UNSPECIFIED && rank(role) > rank(by)
}

func (t *Testflinger) setClient(m *event.TestflingerClientSetRequested) Outcome {
	id, ok := ToHash(m.GetIdHash())
	if !ok {
		return Outcome{}
	}
	client, role := t.Clients[id], m.GetRole()
	switch {
	case client == nil:
		return t.addClient(id, m)
	case m.GetExpected() == event.TestflingerExpected_TESTFLINGER_EXPECTED_NEW:
		return Outcome{Result: TestflingerClientKnown}
	case outranks(client.Role, m.GetBy()):
		return Outcome{Result: TestflingerMayNotModify, Role: client.Role}
	case outranks(role, m.GetBy()):
		return Outcome{Result: TestflingerMayNotAssign, Role: role}
	}
	client.set(m)
	return Outcome{Result: Done, Role: client.Role}
}

func (t *Testflinger) addClient(id Hash, m *event.TestflingerClientSetRequested) Outcome {
	client := &TestflingerClient{Role: event.TestflingerRole_TESTFLINGER_ROLE_CONTRIBUTOR}
	client.set(m)
	switch {
	case m.GetExpected() == event.TestflingerExpected_TESTFLINGER_EXPECTED_KNOWN:
		return Outcome{Result: UnknownTestflingerClient}
	case len(m.GetSecretBcrypt()) == 0:
		return Outcome{Result: TestflingerSecretMissing}
	case outranks(client.Role, m.GetBy()):
		return Outcome{Result: TestflingerMayNotCreate, Role: client.Role}
	}
	t.Clients[id] = client
	return Outcome{Result: Done, New: true, Role: client.Role}
}

// set changes what a request gives.
func (c *TestflingerClient) set(m *event.TestflingerClientSetRequested) {
	if len(m.GetSealedProfile()) > 0 {
		c.SealedProfile = m.GetSealedProfile()
	}
	if len(m.GetSecretBcrypt()) > 0 {
		c.SecretBcrypt = m.GetSecretBcrypt()
	}
	if m.GetRole() != event.TestflingerRole_TESTFLINGER_ROLE_UNSPECIFIED {
		c.Role = m.GetRole()
	}
	if m.GetMaxPriority() != nil {
		c.MaxPriority = m.GetMaxPriority().GetByQueue()
	}
	if m.GetMaxReservation() != nil {
		c.MaxReservation = m.GetMaxReservation().GetByQueue()
	}
	if m.GetAllowedQueues() != nil {
		c.AllowedQueues = m.GetAllowedQueues().GetNames()
	}
}

func (t *Testflinger) deleteClient(m *event.TestflingerClientDeleteRequested) Outcome {
	id, _ := ToHash(m.GetIdHash())
	client := t.Clients[id]
	if client == nil {
		return Outcome{Result: UnknownTestflingerClient}
	}
	for _, hash := range client.Refresh {
		delete(t.Refresh, hash)
	}
	delete(t.Clients, id)
	return Outcome{Result: Done}
}

func (t *Testflinger) restrict(m *event.TestflingerQueueRestrictRequested) Outcome {
	if m.GetQueue() == "" {
		return Outcome{}
	}
	if len(m.GetIdHash()) > 0 {
		id, _ := ToHash(m.GetIdHash())
		client := t.Clients[id]
		if client == nil {
			return Outcome{Result: UnknownTestflingerClient}
		}
		if !slices.Contains(client.AllowedQueues, m.GetQueue()) {
			client.AllowedQueues = append(client.AllowedQueues, m.GetQueue())
		}
	}
	t.Restricted[m.GetQueue()] = true
	return Outcome{Result: Done}
}

func (t *Testflinger) open(m *event.TestflingerQueueOpenRequested) Outcome {
	if !t.Restricted[m.GetQueue()] {
		return Outcome{Result: TestflingerQueueOpen}
	}
	delete(t.Restricted, m.GetQueue())
	id, _ := ToHash(m.GetIdHash())
	if client := t.Clients[id]; client != nil {
		client.AllowedQueues = slices.DeleteFunc(client.AllowedQueues, func(queue string) bool { return queue == m.GetQueue() })
	}
	return Outcome{Result: Done}
}

func (t *Testflinger) issueRefresh(m *event.TestflingerRefreshTokenIssued, now int64) Outcome {
	hash, ok := ToHash(m.GetTokenHash())
	id, known := ToHash(m.GetIdHash())
	client := t.Clients[id]
	if !ok || !known || client == nil {
		return Outcome{Result: UnknownTestflingerClient}
	}
	t.sweep(now)
	if _, again := t.Refresh[hash]; again { // the event stands in the log a second time
		return Outcome{Result: Done}
	}
	if len(client.Refresh) == maxRefresh {
		delete(t.Refresh, client.Refresh[0])
		client.Refresh = slices.Delete(client.Refresh, 0, 1)
	}
	t.Refresh[hash] = TestflingerRefresh{Client: id, Expires: m.GetExpires()}
	client.Refresh = append(client.Refresh, hash)
	return Outcome{Result: Done}
}

// sweep forgets refresh tokens that have expired a day ago, once as many new ones have come as the last sweep left.
func (t *Testflinger) sweep(now int64) {
	if len(t.Refresh) <= 2*t.Swept+64 {
		return
	}
	for hash, token := range t.Refresh {
		if token.Expires+keepExpired <= now {
			delete(t.Refresh, hash)
		}
	}
	for _, client := range t.Clients {
		client.Refresh = slices.DeleteFunc(client.Refresh, func(hash Hash) bool {
			_, kept := t.Refresh[hash]
			return !kept
		})
	}
	t.Swept = len(t.Refresh)
}

func (t *Testflinger) revokeRefresh(m *event.TestflingerRefreshTokenRevokeRequested) Outcome {
	hash, _ := ToHash(m.GetTokenHash())
	token, known := t.Refresh[hash]
	switch {
	case !known:
		return Outcome{Result: UnknownRefreshToken}
	case token.Revoked:
		return Outcome{Result: RefreshTokenRevoked}
	}
	token.Revoked = true
	t.Refresh[hash] = token
	return Outcome{Result: Done}
}

func (t *Testflinger) setSecret(m *event.TestflingerSecretSetRequested, now int64) Outcome {
	id, _ := ToHash(m.GetIdHash())
	client := t.Clients[id]
	if client == nil {
		return Outcome{Result: UnknownTestflingerClient}
	}
	if client.Secrets == nil {
		client.Secrets = map[string]TestflingerSecret{}
	}
	maps.DeleteFunc(client.Secrets, func(_ string, s TestflingerSecret) bool { return s.expired(now) })
	secret := TestflingerSecret{Sealed: m.GetSealedValue(), Expires: m.GetExpires(), Once: m.GetOnce()}
	if !client.makeRoom(m.GetPath(), secret) {
		return Outcome{Result: TooManySecrets}
	}
	client.Secrets[m.GetPath()] = secret
	return Outcome{Result: Done}
}

// makeRoom says whether a client may have a secret. What jobs have taken gives way, the oldest job's first: most of these
// have ended.
func (c *TestflingerClient) makeRoom(path string, secret TestflingerSecret) bool {
	room := secretRoom{}
	room.add(path, secret)
	var taken []string
	for other, s := range c.Secrets {
		switch {
		case other == path:
		case s.TakenBy != 0:
			taken = append(taken, other)
		default:
			room.add(other, s)
		}
	}
	if !room.fits() {
		return false
	}
	slices.SortFunc(taken, func(a, b string) int {
		return cmp.Or(cmp.Compare(c.Secrets[b].TakenBy, c.Secrets[a].TakenBy), cmp.Compare(a, b))
	})
	for _, other := range taken {
		if room.add(other, c.Secrets[other]); !room.fits() {
			delete(c.Secrets, other)
		}
	}
	return true
}

// secretRoom is what secrets take.
type secretRoom struct{ number, bytes int }

func (r *secretRoom) add(path string, s TestflingerSecret) {
	r.number++
	r.bytes += len(path) + len(s.Sealed)
}

func (r *secretRoom) fits() bool { return r.number <= maxSecrets && r.bytes <= maxSecretBytes }

// takeSecret gives a secret to the first job that asks, and to no other.
func (t *Testflinger) takeSecret(m *event.TestflingerSecretTaken, now int64) Outcome {
	id, _ := ToHash(m.GetIdHash())
	secret, free := t.Secret(id, m.GetPath(), m.GetJob(), now)
	if !free || m.GetJob() == 0 {
		return Outcome{Result: UnknownTestflingerSecret}
	}
	secret.TakenBy = m.GetJob()
	t.Clients[id].Secrets[m.GetPath()] = secret
	return Outcome{Result: Done}
}

func (t *Testflinger) deleteSecret(idHash []byte, path string) Outcome {
	id, _ := ToHash(idHash)
	client := t.Clients[id]
	if client == nil {
		return Outcome{Result: UnknownTestflingerClient}
	}
	if _, known := client.Secrets[path]; !known {
		return Outcome{Result: UnknownTestflingerSecret}
	}
	delete(client.Secrets, path)
	return Outcome{Result: Done}
}
