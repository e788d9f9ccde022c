package cache

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// rest is how long a Redis that failed is left alone, so that a dead one costs one deadline now and then.
const rest = time.Second

// longKey is the length from which a key travels as its hash.
const longKey = 200

// shared is the tier in Redis. It fails open: without it everything is computed.
type shared struct {
	client       *redis.Client // nil for none
	prefix       string
	deadline     time.Duration
	ttl          time.Duration
	maxValue     int64
	failures     prometheus.Counter
	logger       *slog.Logger
	restingUntil atomic.Int64 // Unix nanoseconds
}

func newShared(c Config, maxValue int64) (*shared, error) {
	if c.Redis != nil && !c.Redis.Options().ContextTimeoutEnabled {
		return nil, errors.New("cache: the Redis client must have ContextTimeoutEnabled")
	}
	s := &shared{
		client: c.Redis, prefix: c.Prefix, deadline: c.Deadline, ttl: c.TTL, maxValue: maxValue, logger: c.Logger,
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "millrace_cache_redis_failures_total", Help: "Uses of Redis that failed or took too long.",
		}),
	}
	if s.deadline <= 0 {
		s.deadline = 50 * time.Millisecond
	}
	if s.ttl <= 0 {
		s.ttl = time.Hour
	}
	return s, nil
}

func (s *shared) usable() bool {
	return s.client != nil && time.Now().UnixNano() >= s.restingUntil.Load()
}

// get gives a value that has not expired.
func (s *shared) get(ctx context.Context, key string) (Value, bool) {
	if !s.usable() {
		return Value{}, false
	}
	bounded, cancel := context.WithTimeout(ctx, s.deadline)
	defer cancel()
	packed, err := s.client.Get(bounded, s.name(key)).Bytes()
	if errors.Is(err, redis.Nil) {
		return Value{}, false
	}
	if err != nil {
		s.failed(ctx, err)
		return Value{}, false
	}
	value, ok := unpack(packed)
	return value, ok && !value.expired(time.Now())
}

func (s *shared) put(ctx context.Context, key string, value Value) {
	if !s.usable() || int64(len(value.Body)) > s.maxValue {
		return
	}
	ttl := s.ttl
	if !value.Expires.IsZero() {
		ttl = min(ttl, time.Until(value.Expires))
	}
	if ttl < time.Millisecond {
		return
	}
	// Callers may all have left by now: the value is worth keeping all the same.
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.deadline)
	defer cancel()
	if err := s.client.Set(bounded, s.name(key), pack(value), ttl).Err(); err != nil {
		s.failed(context.WithoutCancel(ctx), err)
	}
}

// failed notes a fault of Redis, unless it is the caller who has left.
func (s *shared) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	s.failures.Inc()
	now := time.Now()
	if s.restingUntil.Swap(now.Add(rest).UnixNano()) < now.Add(-time.Minute).UnixNano() {
		s.logger.Warn("the cache in Redis fails: answers are computed instead", "error", err)
	}
}

// name is the key in Redis.
func (s *shared) name(key string) string {
	if len(key) < longKey {
		return s.prefix + key
	}
	sum := sha256.Sum256([]byte(key))
	return s.prefix + "#" + hex.EncodeToString(sum[:])
}

// A packed value is: format (1 byte), expiry in Unix milliseconds or 0 (8 bytes, big endian), body.
const (
	format     = 1
	headerSize = 9
)

func pack(value Value) []byte {
	packed := make([]byte, headerSize, headerSize+len(value.Body))
	packed[0] = format
	if !value.Expires.IsZero() {
		binary.BigEndian.PutUint64(packed[1:], uint64(value.Expires.UnixMilli()))
	}
	return append(packed, value.Body...)
}

func unpack(packed []byte) (value Value, ok bool) {
	if len(packed) < headerSize || packed[0] != format {
		return Value{}, false
	}
	if milliseconds := binary.BigEndian.Uint64(packed[1:]); milliseconds != 0 {
		value.Expires = time.UnixMilli(int64(milliseconds))
	}
	value.Body = packed[headerSize:]
	return value, true
}
