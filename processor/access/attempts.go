package access

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/millrace/millrace/processor/registry"
)

const (
	// attemptBurst failures of one address are answered at once, then one each attemptEvery.
	attemptBurst = 20
	attemptEvery = time.Second
	// maxAddresses bounds each half of the tables below.
	maxAddresses = 20_000
)

// Attempts slows down guessing: once an address has spent its failures, its credentials are not even looked at until
// some time has passed. A credential that worked from the same address before is not held up by its neighbours' guesses.
type Attempts struct {
	mu     sync.RWMutex
	failed recent[netip.Prefix, *rate.Limiter]
	passed recent[pass, struct{}]
}

// pass is a credential that was good, and where it came from.
type pass struct {
	from netip.Prefix
	hash registry.Hash
}

// NewAttempts starts with a clean slate for everybody.
func NewAttempts() *Attempts { return &Attempts{} }

// Wait tells how long an address has to wait before a credential of it is looked at; 0 means not at all.
func (a *Attempts) Wait(address string, hash registry.Hash, now time.Time) time.Duration {
	from := source(address)
	a.mu.RLock()
	defer a.mu.RUnlock()
	limiter, known := a.failed.get(from)
	if !known || limiter.TokensAt(now) >= 1 {
		return 0
	}
	if _, good := a.passed.get(pass{from, hash}); good {
		return 0
	}
	missing := 1 - limiter.TokensAt(now)
	return time.Duration(missing * float64(attemptEvery))
}

// Failed counts a credential that nobody has.
func (a *Attempts) Failed(address string, now time.Time) {
	from := source(address)
	a.mu.Lock()
	defer a.mu.Unlock()
	limiter, known := a.failed.get(from)
	if !known {
		limiter = rate.NewLimiter(rate.Every(attemptEvery), attemptBurst)
	}
	a.failed.put(from, limiter)
	limiter.AllowN(now, 1)
}

// Passed remembers a credential that was good.
func (a *Attempts) Passed(address string, hash registry.Hash) {
	key := pass{source(address), hash}
	a.mu.RLock()
	_, fresh := a.passed.newer[key]
	a.mu.RUnlock()
	if fresh {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.passed.put(key, struct{}{})
}

// source is what counts as one address: of IPv6 the network of 64 bits that one subscriber has.
func source(address string) netip.Prefix {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Prefix{}
	}
	ip = ip.Unmap()
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	prefix, err := ip.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}

// recent is a bounded table: when its newer half is full, the older half is dropped.
type recent[K comparable, V any] struct{ newer, older map[K]V }

func (r *recent[K, V]) get(key K) (V, bool) {
	value, ok := r.newer[key]
	if !ok {
		value, ok = r.older[key]
	}
	return value, ok
}

func (r *recent[K, V]) put(key K, value V) {
	if len(r.newer) >= maxAddresses {
		r.older, r.newer = r.newer, nil
	}
	if r.newer == nil {
		r.newer = map[K]V{}
	}
	r.newer[key] = value
}
