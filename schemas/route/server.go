package route

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Limits of every connection. A handler's own time is bounded by its route.
const (
	readHeaderTimeout = 10 * time.Second
	// readTimeout bounds the arrival of a whole request: 100 MB at 1.5 Mbit/s. It
	// also ends the context of a handler that is still at work then.
	readTimeout = 10 * time.Minute
	// writeTimeout bounds the departure of a whole answer, from the request's header on.
	writeTimeout   = 15 * time.Minute
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 64 << 10
)

// Server serves a handler until its context ends, and then without cutting
// anybody off: first /readyz fails, for Linger requests are still taken, then the
// listener closes and what is in flight has Drain to end.
type Server struct {
	Handler http.Handler
	// Health is told when draining begins.
	Health *Health
	Log    *slog.Logger
	// Linger is the time that routers need to notice; 0 on one machine.
	Linger time.Duration
	// Drain bounds the wait for requests in flight.
	Drain time.Duration
}

// Serve blocks until the listener is closed and all requests have ended. It
// returns an error when serving failed, or when requests were cut off because
// they outlasted Drain.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	requests, cutOff := context.WithCancel(context.WithoutCancel(ctx))
	defer cutOff()
	server := &http.Server{
		Handler:           s.Handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn),
		BaseContext:       func(net.Listener) context.Context { return requests },
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	err := s.drain(server, cutOff)
	if serveErr := <-failed; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("serve %s: %w", listener.Addr(), serveErr))
	}
	return err
}

// drain ends a server whose context has ended; requests that outlast the bound
// are told so by their contexts, and lose their connections.
func (s *Server) drain(server *http.Server, cutOff context.CancelFunc) error {
	s.Health.Drain()
	if s.Linger > 0 {
		time.Sleep(s.Linger)
	}
	bound, cancel := context.WithTimeout(context.Background(), s.Drain)
	defer cancel()
	err := server.Shutdown(bound)
	if err == nil {
		return nil
	}
	cutOff()
	return errors.Join(fmt.Errorf("requests in flight did not end within %s: %w", s.Drain, err), server.Close())
}
