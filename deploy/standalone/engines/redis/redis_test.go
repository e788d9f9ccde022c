package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

func serve(t *testing.T, limit int64) (*Server, *goredis.Client) {
	t.Helper()
	s, err := start(limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, connect(t, s.URL())
}

func connect(t *testing.T, url string) *goredis.Client {
	t.Helper()
	opts, err := goredis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	c := goredis.NewClient(opts)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, holds func() (bool, error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		ok, err := holds()
		if ok {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not so after 30 s (%v)", what, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestKeysExpireByThemselves(t *testing.T) {
	_, c := serve(t, writeLimit)
	began := time.Now()
	for key, ttl := range map[string]time.Duration{"short": time.Second, "long": time.Hour, "for ever": 0} {
		if err := c.Set(t.Context(), key, "value", ttl).Err(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "expiry", func() (bool, error) {
		err := c.Get(t.Context(), "short").Err()
		return errors.Is(err, goredis.Nil), err
	})
	if took := time.Since(began); took < time.Second-50*time.Millisecond || took > 5*time.Second {
		t.Errorf("a key of one second expired after %s", took)
	}
	if n, err := c.Exists(t.Context(), "long", "for ever").Result(); n != 2 || err != nil {
		t.Errorf("%d of the other keys are left (%v), want 2", n, err)
	}
	if left := c.TTL(t.Context(), "long").Val(); left > time.Hour-time.Second/2 || left < time.Hour-time.Minute {
		t.Errorf("a key of one hour has %s left", left)
	}
}

func TestWhatIsWrittenIsBounded(t *testing.T) {
	const limit = 1 << 20
	s, c := serve(t, limit)
	for i := range 100 {
		if err := c.Set(t.Context(), fmt.Sprint("key ", i), strings.Repeat("x", 20_000), 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "an empty server", func() (bool, error) {
		n, err := c.DBSize(t.Context()).Result() // through the old connections
		return err == nil && n == 0, err
	})
	if err := c.Set(t.Context(), "next", "value", 0).Err(); err != nil {
		t.Errorf("the server that took its place: %v", err)
	}
	if written := s.written.Load(); written > limit {
		t.Errorf("it counts %d bytes as written", written)
	}
}

func TestReadsDoNotEmptyTheCache(t *testing.T) {
	s, c := serve(t, writeLimit)
	if err := c.Set(t.Context(), "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	before := s.written.Load()
	for range 100 {
		if err := c.Get(t.Context(), "key").Err(); err != nil {
			t.Fatal(err)
		}
	}
	if after := s.written.Load(); after != before {
		t.Errorf("reading counts %d bytes as written", after-before)
	}
}

func TestWrongPasswordIsRefused(t *testing.T) {
	s, _ := serve(t, writeLimit)
	for name, url := range map[string]string{"wrong": "redis://:guess@" + s.Addr(), "none": "redis://" + s.Addr()} {
		if err := connect(t, url).Get(t.Context(), "key").Err(); err == nil || errors.Is(err, goredis.Nil) {
			t.Errorf("with password %s: %v, want a refusal", name, err)
		}
	}
	other, _ := serve(t, writeLimit)
	if other.Password() == s.Password() || len(s.Password()) != 32 {
		t.Errorf("passwords %q and %q, want two of 32 digits", s.Password(), other.Password())
	}
}
