package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
)

func newTestCache(t *testing.T, change func(*Config)) *Cache {
	t.Helper()
	config := Config{Bytes: 1 << 20, Prefix: "test:", Registry: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&config)
	}
	c, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func redisAt(t *testing.T, address string) *redis.Client {
	client := redis.NewClient(&redis.Options{Addr: address, ContextTimeoutEnabled: true, MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// answer fills with a body and counts how often it was asked.
func answer(body string, asked *atomic.Int64) func(context.Context) (Value, error) {
	return func(context.Context) (Value, error) {
		asked.Add(1)
		return Value{Body: []byte(body)}, nil
	}
}

func mustGet(t *testing.T, c *Cache, key string, fill func(context.Context) (Value, error)) string {
	t.Helper()
	value, err := c.Get(t.Context(), key, fill)
	if err != nil {
		t.Fatal(err)
	}
	return string(value.Body)
}

func TestRepeatedGetDoesNotComputeAgain(t *testing.T) {
	c := newTestCache(t, nil)
	var asked atomic.Int64
	for range 3 {
		if got := mustGet(t, c, "k", answer("body", &asked)); got != "body" {
			t.Errorf("got %q", got)
		}
	}
	if asked.Load() != 1 {
		t.Errorf("computed %d times, want once", asked.Load())
	}
	if hits := testutil.ToFloat64(c.requests.WithLabelValues("memory")); hits != 2 {
		t.Errorf("counted %v answers from memory, want 2", hits)
	}
}

func TestEqualMissesAreComputedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCache(t, nil)
		var asked atomic.Int64
		release := make(chan struct{})
		fill := func(context.Context) (Value, error) {
			asked.Add(1)
			<-release
			return Value{Body: []byte("body")}, nil
		}
		var wait sync.WaitGroup
		for range 50 {
			wait.Go(func() {
				if value, err := c.Get(t.Context(), "k", fill); err != nil || string(value.Body) != "body" {
					t.Errorf("got %q, %v", value.Body, err)
				}
			})
		}
		synctest.Wait()
		close(release)
		wait.Wait()
		if asked.Load() != 1 {
			t.Errorf("50 equal requests computed %d times", asked.Load())
		}
	})
}

func TestLeaderWhoLeavesDoesNotFailTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCache(t, nil)
		release := make(chan struct{})
		fill := func(ctx context.Context) (Value, error) {
			select {
			case <-release:
				return Value{Body: []byte("body")}, nil
			case <-ctx.Done():
				return Value{}, ctx.Err()
			}
		}
		leaderContext, leave := context.WithCancel(t.Context())
		leader, follower := make(chan error, 1), make(chan error, 1)
		go func() { _, err := c.Get(leaderContext, "k", fill); leader <- err }()
		synctest.Wait()
		go func() { _, err := c.Get(t.Context(), "k", fill); follower <- err }()
		synctest.Wait()
		leave()
		if err := <-leader; !errors.Is(err, context.Canceled) {
			t.Errorf("the leader got %v", err)
		}
		close(release)
		if err := <-follower; err != nil {
			t.Errorf("the follower got %v", err)
		}
	})
}

func TestComputationEndsWhenAllHaveLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCache(t, nil)
		cancelled := make(chan struct{})
		stuck := func(ctx context.Context) (Value, error) {
			<-ctx.Done()
			close(cancelled)
			return Value{}, ctx.Err()
		}
		ctx, leave := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _, _ = c.Get(ctx, "k", stuck) }()
		synctest.Wait()
		leave()
		<-done
		var asked atomic.Int64
		if got := mustGet(t, c, "k", answer("fresh", &asked)); got != "fresh" {
			t.Errorf("a request after a cancelled computation got %q", got)
		}
		<-cancelled
	})
}

func TestErrorReachesAllAndIsNotKept(t *testing.T) {
	c := newTestCache(t, nil)
	broken := errors.New("broken")
	if _, err := c.Get(t.Context(), "k", func(context.Context) (Value, error) { return Value{}, broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	var asked atomic.Int64
	if got := mustGet(t, c, "k", answer("body", &asked)); got != "body" || asked.Load() != 1 {
		t.Errorf("after an error: %q, computed %d times", got, asked.Load())
	}
}

func TestPanicIsAnErrorOfItsCallers(t *testing.T) {
	c := newTestCache(t, nil)
	_, err := c.Get(t.Context(), "k", func(context.Context) (Value, error) { panic("no row") })
	if err == nil || !strings.Contains(err.Error(), "no row") {
		t.Errorf("got %v", err)
	}
}

func TestExpiredValueIsComputedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCache(t, nil)
		var asked atomic.Int64
		fill := func(context.Context) (Value, error) {
			asked.Add(1)
			return Value{Body: []byte("now"), Expires: time.Now().Add(time.Minute)}, nil
		}
		mustGet(t, c, "k", fill)
		<-time.After(59 * time.Second)
		mustGet(t, c, "k", fill)
		if asked.Load() != 1 {
			t.Errorf("computed %d times before it expired", asked.Load())
		}
		<-time.After(time.Second)
		mustGet(t, c, "k", fill)
		if asked.Load() != 2 {
			t.Errorf("computed %d times, want again after it expired", asked.Load())
		}
	})
}

func TestMemoryStaysWithinItsBytesAndDropsTheLeastRecentlyUsed(t *testing.T) {
	c := newTestCache(t, func(config *Config) { config.Bytes = 64 << 10 })
	var asked atomic.Int64
	body := strings.Repeat("x", 1<<10)
	for i := range 500 {
		mustGet(t, c, fmt.Sprint(i), answer(body, &asked))
		mustGet(t, c, "0", answer(body, &asked))
	}
	if c.memory.bytes > 64<<10 {
		t.Errorf("%d bytes are kept, over the bound of %d", c.memory.bytes, 64<<10)
	}
	if asked.Load() != 500 {
		t.Errorf("computed %d times, want 500: the value in constant use was dropped", asked.Load())
	}
	asked.Store(0)
	mustGet(t, c, "1", answer(body, &asked))
	if asked.Load() != 1 {
		t.Error("the oldest value is still there")
	}
}

func TestValueLargerThanASixteenthIsNotKept(t *testing.T) {
	c := newTestCache(t, func(config *Config) { config.Bytes = 64 << 10 })
	var asked atomic.Int64
	for range 2 {
		if got := mustGet(t, c, "k", answer(strings.Repeat("x", 5<<10), &asked)); len(got) != 5<<10 {
			t.Errorf("got %d bytes", len(got))
		}
	}
	if asked.Load() != 2 || c.memory.bytes != 0 {
		t.Errorf("computed %d times, %d bytes kept", asked.Load(), c.memory.bytes)
	}
}

func TestReplicasShareValuesThroughRedis(t *testing.T) {
	server := miniredis.RunT(t)
	var asked atomic.Int64
	one := newTestCache(t, func(config *Config) { config.Redis = redisAt(t, server.Addr()) })
	mustGet(t, one, "k", answer("body", &asked))
	one.Close() // the value is in Redis when computations have ended
	two := newTestCache(t, func(config *Config) { config.Redis = redisAt(t, server.Addr()) })
	if got := mustGet(t, two, "k", answer("other", &asked)); got != "body" || asked.Load() != 1 {
		t.Errorf("the second replica got %q, computed %d times", got, asked.Load())
	}
	if ttl := server.TTL("test:k"); ttl != time.Hour {
		t.Errorf("kept in Redis for %s", ttl)
	}
}

func TestExpiryTravelsThroughRedis(t *testing.T) {
	server := miniredis.RunT(t)
	expires := time.Now().Add(10 * time.Minute).Truncate(time.Millisecond)
	one := newTestCache(t, func(config *Config) { config.Redis = redisAt(t, server.Addr()) })
	mustGet(t, one, "k", func(context.Context) (Value, error) { return Value{Body: []byte("b"), Expires: expires}, nil })
	one.Close()
	two := newTestCache(t, func(config *Config) { config.Redis = redisAt(t, server.Addr()) })
	value, err := two.Get(t.Context(), "k", func(context.Context) (Value, error) { return Value{}, errors.New("not in Redis") })
	if err != nil || !value.Expires.Equal(expires) {
		t.Errorf("expires %s (%v), want %s", value.Expires, err, expires)
	}
	if ttl := server.TTL("test:k"); ttl > 10*time.Minute || ttl < 9*time.Minute {
		t.Errorf("kept in Redis for %s", ttl)
	}
}

func TestLongKeysAreHashedInRedis(t *testing.T) {
	server := miniredis.RunT(t)
	c := newTestCache(t, func(config *Config) { config.Redis = redisAt(t, server.Addr()) })
	var asked atomic.Int64
	mustGet(t, c, strings.Repeat("k", 5000), answer("body", &asked))
	c.Close()
	if keys := server.Keys(); len(keys) != 1 || len(keys[0]) > longKey {
		t.Errorf("keys in Redis: %d, of %d bytes", len(keys), len(keys[0]))
	}
}

func TestDeadRedisCostsTimeAndNothingElse(t *testing.T) {
	server := miniredis.RunT(t)
	c := newTestCache(t, func(config *Config) { config.Redis = redisAt(t, server.Addr()) })
	server.Close()
	var asked atomic.Int64
	for i := range 20 {
		mustGet(t, c, fmt.Sprint(i), answer("body", &asked))
	}
	if asked.Load() != 20 {
		t.Errorf("computed %d of 20", asked.Load())
	}
	if failures := testutil.ToFloat64(c.shared.failures); failures < 1 || failures > 5 {
		t.Errorf("a dead Redis was asked %v times in a moment, want it left alone after the first failures", failures)
	}
}

func TestClientWithoutContextTimeoutsIsRefused(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer client.Close()
	_, err := New(Config{Bytes: 1, Redis: client, Registry: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler)})
	if err == nil {
		t.Error("a client whose deadlines do not hold was accepted")
	}
}

// FuzzUnpack: whatever stands in Redis is a value or none, and what was packed comes back.
func FuzzUnpack(f *testing.F) {
	f.Add([]byte{}, int64(0))
	f.Add([]byte(`[{"a":1}]`), int64(1700000000000))
	f.Fuzz(func(t *testing.T, body []byte, milliseconds int64) {
		unpack(body)
		value := Value{Body: body}
		if milliseconds > 0 {
			value.Expires = time.UnixMilli(milliseconds)
		}
		got, ok := unpack(pack(value))
		if !ok || !bytes.Equal(got.Body, body) || !got.Expires.Equal(value.Expires) {
			t.Errorf("packed %v, unpacked %v (%v)", value, got, ok)
		}
	})
}

// moving is a page whose watermark moves with every look at it.
type moving struct {
	asked, computed, atOnce, most atomic.Int64
	release                       chan struct{}
}

func (m *moving) question() (string, func(context.Context) (Value, error)) {
	watermark := m.asked.Add(1)
	return fmt.Sprint(watermark), func(ctx context.Context) (Value, error) {
		m.computed.Add(1)
		m.most.Store(max(m.most.Load(), m.atOnce.Add(1)))
		defer m.atOnce.Add(-1)
		select {
		case <-m.release:
			return Value{Body: fmt.Append(nil, watermark)}, nil
		case <-ctx.Done():
			return Value{}, ctx.Err()
		}
	}
}

func TestPageWhoseWatermarkMovesIsComputedOnceAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCache(t, nil)
		m := &moving{release: make(chan struct{})}
		var wait sync.WaitGroup
		for range 100 {
			wait.Go(func() {
				before := m.asked.Load()
				value, err := c.Latest(t.Context(), "page", m.question)
				if err != nil {
					t.Error(err)
					return
				}
				var watermark int64
				if _, err := fmt.Sscan(string(value.Body), &watermark); err != nil || watermark <= before {
					t.Errorf("a caller at watermark %d got the page as of %d (%v)", before, watermark, err)
				}
			})
		}
		synctest.Wait()
		close(m.release)
		wait.Wait()
		if m.computed.Load() > 2 || m.most.Load() != 1 {
			t.Errorf("100 callers: computed %d times, %d at once, want the first and then one for all others", m.computed.Load(), m.most.Load())
		}
	})
}

func TestPageThatStandsStillIsComputedOnce(t *testing.T) {
	c := newTestCache(t, nil)
	var asked atomic.Int64
	question := func() (string, func(context.Context) (Value, error)) { return "key", answer("body", &asked) }
	for range 3 {
		if value, err := c.Latest(t.Context(), "page", question); err != nil || string(value.Body) != "body" {
			t.Errorf("got %q, %v", value.Body, err)
		}
	}
	if asked.Load() != 1 || len(c.rounds) != 0 {
		t.Errorf("computed %d times, %d pages under way", asked.Load(), len(c.rounds))
	}
}

func TestRoundThatAllHaveLeftDoesNotHoldUpTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCache(t, nil)
		m := &moving{release: make(chan struct{})}
		ctx, leave := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		go func() { _, err := c.Latest(ctx, "page", m.question); gone <- err }()
		synctest.Wait()
		stays := make(chan error, 1)
		go func() { _, err := c.Latest(t.Context(), "page", m.question); stays <- err }()
		synctest.Wait()
		leave()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("who left got %v", err)
		}
		synctest.Wait()
		close(m.release)
		if err := <-stays; err != nil {
			t.Errorf("who stayed got %v", err)
		}
	})
}
