package cache

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
)

// maxTogether is how many keys one read of a Together has at most.
const maxTogether = 256

// Together reads what is asked for one by one in few reads. One is under way at a time: who asks meanwhile shares the
// next with all who came, and a lone asker waits for nobody. It keeps nothing.
type Together[K comparable, V any] struct {
	cache *Cache
	read  func(context.Context, []K) (map[K]V, error)

	mu      sync.Mutex
	asked   map[K]*asked[V]
	order   []K
	running bool
}

// asked is what somebody waits for.
type asked[V any] struct {
	done  chan struct{}
	value V
	err   error
}

// NewTogether prepares reads that end with the cache. read gives what is there of some keys.
func NewTogether[K comparable, V any](c *Cache, read func(context.Context, []K) (map[K]V, error)) *Together[K, V] {
	return &Together[K, V]{cache: c, read: read, asked: map[K]*asked[V]{}}
}

// Get gives the value of a key as of a moment after the call; the zero value when there is none. Errors are those of the
// read, which goes on when ctx ends, or the context's.
func (t *Together[K, V]) Get(ctx context.Context, key K) (V, error) {
	a := t.ask(key)
	select {
	case <-a.done:
		return a.value, a.err
	case <-ctx.Done():
		var none V
		return none, context.Cause(ctx)
	}
}

func (t *Together[K, V]) ask(key K) *asked[V] {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.asked[key]
	if a == nil {
		a = &asked[V]{done: make(chan struct{})}
		t.asked[key] = a
		t.order = append(t.order, key)
	}
	if !t.running {
		t.running = true
		t.cache.running.Go(t.run)
	}
	return a
}

// run reads while somebody asks.
func (t *Together[K, V]) run() {
	for keys, waiting := t.take(); len(keys) > 0; keys, waiting = t.take() {
		values, err := t.readAll(keys)
		for i, a := range waiting {
			a.value, a.err = values[keys[i]], err
			close(a.done)
		}
	}
}

// take gives the keys of the next read, in the order in which they were asked for.
func (t *Together[K, V]) take() (keys []K, waiting []*asked[V]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := min(len(t.order), maxTogether)
	keys, t.order = t.order[:n:n], t.order[n:]
	for _, key := range keys {
		waiting = append(waiting, t.asked[key])
		delete(t.asked, key)
	}
	t.running = n > 0
	return keys, waiting
}

func (t *Together[K, V]) readAll(keys []K) (values map[K]V, err error) {
	ctx, cancel := context.WithTimeout(t.cache.closing, fillTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			t.cache.logger.Error("reading together panicked", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("reading together panicked: %v", p)
		}
	}()
	return t.read(ctx, keys)
}
