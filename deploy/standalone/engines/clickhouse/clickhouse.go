// Package clickhouse runs ClickHouse as a child process of a single machine's Millrace: the user's own `clickhouse` binary
// where there is one, else the engine as a shared library, loaded by a second process of the same executable.
//
// The child dies with its parent, is started again when it dies alone, at the same addresses and with the same password,
// and is reachable from this machine only.
package clickhouse

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/millrace/millrace/deploy/standalone/engines/internal/folder"
	"github.com/millrace/millrace/deploy/standalone/internal/port"
)

// User is the name of the only user that clients can be.
const User = "millrace"

// startTimeout bounds the wait for the engine's first answer. A start takes a second; attaching a large folder takes longer.
const startTimeout = 2 * time.Minute

// Program is the engine to run, as Fetch finds it. One of the two is set.
type Program struct {
	Binary  string // path of a `clickhouse` binary
	Library string // path of libchdb.so
}

// Options say what to run and where its data is.
type Options struct {
	// Dir is the folder of the data. It belongs to one server at a time.
	Dir string
	// Program is the engine.
	Program Program
	// Nice is how far the engine stands back for other programs, 0 to 19.
	Nice int
	// Logger receives starts, deaths and the engine's errors.
	Logger *slog.Logger
	// OnDeath is called, when it is set, each time the child has died without being told to, before it is started again.
	OnDeath func(reason error)
}

// Server is a running ClickHouse.
type Server struct {
	opts     Options
	lock     *folder.Lock
	addr     string
	httpAddr string
	password string

	stop func() // ends the supervisor and the child, and returns when they have
}

// Start runs the engine and returns when it answers.
func Start(ctx context.Context, opts Options) (*Server, error) {
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("start ClickHouse: %w", err)
	}
	opts.Dir = dir
	lock, err := folder.Acquire(dir)
	if err != nil {
		return nil, fmt.Errorf("start ClickHouse: %w", err)
	}
	s := &Server{opts: opts, lock: lock}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start ClickHouse in %s: %w", dir, err), lock.Close())
	}
	return s, nil
}

// portAttempts is how often other ports are tried when somebody takes one between our look and the engine's start.
const portAttempts = 3

func (s *Server) start(ctx context.Context) error {
	if err := endLeftover(s.opts.Dir, s.opts.Logger); err != nil {
		return err
	}
	s.password = newPassword()
	for attempt := 1; ; attempt++ {
		ports, err := port.Free(2)
		if err != nil {
			return err
		}
		err = s.startAt(ctx, ports[0], ports[1])
		if err == nil || attempt == portAttempts || !strings.Contains(err.Error(), "Address already in use") {
			return err
		}
	}
}

func (s *Server) startAt(ctx context.Context, native, http int) error {
	s.addr = fmt.Sprintf("127.0.0.1:%d", native)
	s.httpAddr = fmt.Sprintf("127.0.0.1:%d", http)
	if err := s.writeConfig(native, http); err != nil {
		return err
	}
	return s.superviseOnceFree(ctx)
}

// superviseOnceFree starts the engine as soon as nobody holds the folder: the child of a run that was killed may not be
// recorded, when that run ended in the moment between start and record, and needs a moment to follow it.
func (s *Server) superviseOnceFree(ctx context.Context) error {
	for deadline := time.Now().Add(leaveTimeout); ; {
		err := s.supervise(ctx)
		if err == nil || !strings.Contains(err.Error(), "Cannot lock file") || time.Now().After(deadline) {
			return err
		}
		s.opts.Logger.Warn("another process holds the folder of ClickHouse, waiting for its end", "folder", s.opts.Dir)
		timer := time.NewTimer(200 * time.Millisecond)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// Addr is the host and port of the native protocol.
func (s *Server) Addr() string { return s.addr }

// HTTPAddr is the host and port of the HTTP interface.
func (s *Server) HTTPAddr() string { return s.httpAddr }

// Password is the password of User. It is a new one at each Start and stays through restarts of the child.
func (s *Server) Password() string { return s.password }

// DSN is the address for clickhouse-go: clickhouse://user:password@host:port/.
func (s *Server) DSN() string { return "clickhouse://" + User + ":" + s.password + "@" + s.addr + "/" }

// Close ends the child at once. Whoever writes must have finished: inserts under way are cut off.
func (s *Server) Close() error {
	s.stop()
	return s.lock.Close()
}

// newPassword returns 32 random hexadecimal digits.
func newPassword() string {
	var secret [16]byte
	_, _ = rand.Read(secret[:]) // never fails
	return hex.EncodeToString(secret[:])
}
