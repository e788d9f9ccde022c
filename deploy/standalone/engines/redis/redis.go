// Package redis is the cache of a single machine: a Redis server inside the process, on loopback, behind a password.
//
// The server is miniredis, which was made for tests: it lets no key expire unless it is told that time has passed, evicts
// nothing, and remembers the name of every key it ever had. So its clock is moved here, and when a limit of bytes has been
// written, an empty server takes its place. Clients see keys that are gone, as with any cache.
package redis

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"

	"github.com/millrace/millrace/deploy/standalone/internal/port"
)

const (
	clockTick     = 500 * time.Millisecond // how late a key may expire; each tick looks at every key
	writeLimit    = 128 << 20              // bytes written to one server before an empty one takes its place
	entryOverhead = 256                    // bytes that a write may take beyond its arguments
)

// Server is a Redis server. It keeps nothing: its content is rebuildable and ends with it.
type Server struct {
	addr     string
	password string
	limit    int64
	stop     chan struct{}
	stopped  chan struct{}

	redis   *miniredis.Miniredis // after Start, of the goroutine that runs keep
	written atomic.Int64         // bytes, since redis was started
}

// Start serves on a free port of 127.0.0.1 with a new random password.
func Start() (*Server, error) { return start(writeLimit) }

func start(limit int64) (*Server, error) {
	var secret [16]byte
	_, _ = rand.Read(secret[:]) // never fails
	ports, err := port.Free(1)
	if err != nil {
		return nil, fmt.Errorf("start the embedded Redis: %w", err)
	}
	s := &Server{
		addr: fmt.Sprintf("127.0.0.1:%d", ports[0]), password: hex.EncodeToString(secret[:]), limit: limit,
		stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	if err := s.serve(); err != nil {
		return nil, fmt.Errorf("start the embedded Redis: %w", err)
	}
	go s.keep()
	return s, nil
}

// serve starts an empty server at s.addr.
func (s *Server) serve() error {
	s.redis = miniredis.NewMiniRedis()
	s.redis.RequireAuth(s.password)
	s.written.Store(0)
	if err := s.redis.StartAddr(s.addr); err != nil {
		return err
	}
	commands := s.redis.Server()
	commands.SetPreHook(func(_ *server.Peer, command string, args ...string) (handled bool) {
		if !commands.IsReadOnlyCommand(command) {
			size := int64(entryOverhead)
			for _, arg := range args {
				size += int64(len(arg))
			}
			s.written.Add(size)
		}
		return false
	})
	return nil
}

// keep lets keys expire and bounds the memory until Close.
func (s *Server) keep() {
	defer close(s.stopped)
	defer func() { s.redis.Close() }()
	ticker := time.NewTicker(clockTick)
	defer ticker.Stop()
	last := time.Now()
	for {
		select {
		case <-s.stop:
			return
		case now := <-ticker.C:
			s.redis.FastForward(now.Sub(last))
			last = now
		}
		if s.written.Load() > s.limit {
			s.replace()
		}
	}
}

// replace puts an empty server in the place of the full one. If somebody takes its port in between, clients have no cache,
// and say so, until a later tick gets the port back.
func (s *Server) replace() {
	s.redis.Close()
	if err := s.serve(); err != nil {
		s.written.Store(s.limit + 1)
	}
}

// Addr is the host and port of the server.
func (s *Server) Addr() string { return s.addr }

// Password is the password of the default user.
func (s *Server) Password() string { return s.password }

// URL is the address for go-redis: redis://:password@host:port.
func (s *Server) URL() string { return "redis://:" + s.password + "@" + s.addr }

// Close ends the server and forgets its content.
func (s *Server) Close() {
	close(s.stop)
	<-s.stopped
}
