// Package cache keeps finished answers in two tiers: in the process, bounded by bytes, and in Redis, shared by replicas.
// Equal misses are one computation. A key must name everything that its value depends on, the watermark of the data
// included: nothing is ever invalidated.
package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// Config says what a cache keeps where. Bytes, Registry and Logger are required.
type Config struct {
	// Bytes bounds the tier in the process. A value larger than a sixteenth of it is kept in no tier.
	Bytes int64
	// Redis is the shared tier; nil for none. Its client must have ContextTimeoutEnabled, or no deadline would hold.
	Redis *redis.Client
	// Prefix begins every key in Redis. It names the installation.
	Prefix string
	// Deadline bounds one use of Redis; 0 means 50 ms.
	Deadline time.Duration
	// TTL bounds the life of a value in Redis; 0 means an hour.
	TTL      time.Duration
	Registry prometheus.Registerer
	Logger   *slog.Logger
}

// Value is a finished answer.
type Value struct {
	// Body is shared by all who get it and must not be changed.
	Body []byte
	// Expires is when the answer stops being right by the passing of time; zero for never.
	Expires time.Time
}

func (v Value) expired(now time.Time) bool { return !v.Expires.IsZero() && !now.Before(v.Expires) }

// fillTimeout bounds one computation, whoever waits for it.
const fillTimeout = time.Minute

// Cache is safe for concurrent use. Close ends it.
type Cache struct {
	shared   *shared
	logger   *slog.Logger
	requests *prometheus.CounterVec
	running  sync.WaitGroup
	// closing ends with the cache.
	closing context.Context
	close   context.CancelFunc

	mu      sync.Mutex
	memory  *memory
	flights map[string]*flight
	rounds  map[string]*rounds
}

// flight is one computation that any number of callers wait for.
type flight struct {
	ctx     context.Context
	cancel  context.CancelFunc
	waiters int
	done    chan struct{}
	value   Value
	err     error
}

// New makes an empty cache.
func New(c Config) (*Cache, error) {
	if c.Bytes <= 0 {
		return nil, errors.New("cache: its size in bytes must be positive")
	}
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_cache_requests_total",
		Help: "Answers asked of the cache, by what gave them: memory, redis, shared (another request's computation) or computed.",
	}, []string{"from"})
	memory := newMemory(c.Bytes)
	shared, err := newShared(c, memory.maxValue)
	if err != nil {
		return nil, err
	}
	cache := &Cache{
		shared: shared, logger: c.Logger, requests: requests, memory: memory,
		flights: map[string]*flight{}, rounds: map[string]*rounds{},
	}
	cache.closing, cache.close = context.WithCancel(context.Background())
	size := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "millrace_cache_bytes", Help: "Size of the cached answers in this process.",
	}, func() float64 {
		cache.mu.Lock()
		defer cache.mu.Unlock()
		return float64(cache.memory.bytes)
	})
	c.Registry.MustRegister(requests, size, shared.failures)
	return cache, nil
}

// Close waits for computations under way. Nobody may call Get any more.
func (c *Cache) Close() {
	c.close()
	c.mu.Lock()
	for _, f := range c.flights {
		f.cancel()
	}
	for _, r := range c.rounds {
		r.cancel()
	}
	c.mu.Unlock()
	c.running.Wait()
}

// Get gives the value under a key, computing it with fill when no tier has it. Equal keys are computed once at a time:
// fill runs apart from the callers, under a context that has ctx's values and ends when all of them have left. An error
// goes to all callers of the time and is not kept.
func (c *Cache) Get(ctx context.Context, key string, fill func(context.Context) (Value, error)) (Value, error) {
	if value, ok := c.kept(key); ok {
		return value, nil
	}
	c.mu.Lock()
	f, underWay := c.flights[key]
	if !underWay {
		f = c.start(ctx, key, fill)
	}
	f.enter()
	c.mu.Unlock()
	if underWay {
		c.requests.WithLabelValues("shared").Inc()
	}
	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
		c.leave(key, f)
		return Value{}, context.Cause(ctx)
	}
}

// kept gives what the memory holds under a key.
func (c *Cache) kept(key string) (Value, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	value, ok := c.memory.get(key, time.Now())
	if ok {
		c.requests.WithLabelValues("memory").Inc()
	}
	return value, ok
}

// newFlight makes a flight that nobody waits for yet. Its context has ctx's values and an end of its own.
func newFlight(ctx context.Context) *flight {
	f := &flight{done: make(chan struct{})}
	f.ctx, f.cancel = context.WithTimeout(context.WithoutCancel(ctx), fillTimeout)
	return f
}

// enter counts a caller in.
func (f *flight) enter() *flight {
	f.waiters++
	return f
}

// start begins a computation.
func (c *Cache) start(ctx context.Context, key string, fill func(context.Context) (Value, error)) *flight {
	f := newFlight(ctx)
	c.flights[key] = f
	c.running.Go(func() {
		defer f.cancel()
		if computed := c.land(key, f, fill); computed {
			c.shared.put(f.ctx, key, f.value)
		}
	})
	return f
}

// land gives a flight its value: from Redis, else by computing it.
func (c *Cache) land(key string, f *flight, fill func(context.Context) (Value, error)) (computed bool) {
	value, found := c.shared.get(f.ctx, key)
	if !found {
		value, f.err = c.compute(f.ctx, fill)
	}
	f.value = value
	c.mu.Lock()
	if f.err == nil {
		c.memory.put(key, value)
	}
	if c.flights[key] == f {
		delete(c.flights, key)
	}
	c.mu.Unlock()
	close(f.done)
	from := "computed"
	if found {
		from = "redis"
	}
	c.requests.WithLabelValues(from).Inc()
	return !found && f.err == nil
}

// compute calls fill; its panic is an error of its callers and not the end of the process.
func (c *Cache) compute(ctx context.Context, fill func(context.Context) (Value, error)) (value Value, err error) {
	defer func() {
		if p := recover(); p != nil {
			c.logger.Error("computing an answer panicked", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("computing an answer panicked: %v", p)
		}
	}()
	return fill(ctx)
}

// leave counts a caller out. Nobody joins a flight that all have left: it is cancelled.
func (c *Cache) leave(key string, f *flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.waiters--; f.waiters > 0 {
		return
	}
	select {
	case <-f.done: // it has landed, and may still be on its way to Redis
		return
	default:
	}
	f.cancel()
	if c.flights[key] == f {
		delete(c.flights, key)
	}
}
