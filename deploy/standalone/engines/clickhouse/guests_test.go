package clickhouse

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	clickhousego "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// endless is more than fits into the buffers of a connection.
const endless = "SELECT number, toString(number) FROM system.numbers"

// TestClientsThatBehaveBadlyDoNotEndTheEngine: what one client does must not cut off the others. Each does it often,
// because what follows depends on who is faster.
func TestClientsThatBehaveBadlyDoNotEndTheEngine(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Options{Dir: dir, Program: library(t)})
	first := childOf(t, dir)
	steady := connect(t, s)
	exec1(t, steady, "CREATE TABLE numbers (n UInt64) ENGINE = MergeTree ORDER BY n")
	for name, misbehave := range map[string]func(t *testing.T, s *Server){
		"wrong password":                 guessPassword,
		"HTTP on the native port":        func(t *testing.T, s *Server) { talk(t, s.Addr(), "GET / HTTP/1.0\r\n\r\n") },
		"noise on the native port":       func(t *testing.T, s *Server) { talk(t, s.Addr(), "\x05 what is this? \x00\xff") },
		"noise on the HTTP port":         func(t *testing.T, s *Server) { talk(t, s.HTTPAddr(), "what is this?\r\n\r\n") },
		"nothing said":                   func(t *testing.T, s *Server) { talk(t, s.Addr(), "") },
		"reset in the middle of a read":  resetWhileReading,
		"reset in the middle of a write": resetWhileWriting,
		"cancelled read":                 cancelRead,
	} {
		for range 20 {
			misbehave(t, s)
		}
		if err := steady.Ping(t.Context()); err != nil {
			t.Errorf("%s: another client's connection: %v", name, err)
		}
		if child := childOf(t, dir); child != first {
			t.Errorf("%s ended the engine", name)
			first = child
		}
	}
}

func guessPassword(t *testing.T, s *Server) {
	conn, err := clickhousego.Open(&clickhousego.Options{Addr: []string{s.Addr()}, Auth: clickhousego.Auth{Username: User, Password: "guess"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("a wrong password gets in")
	}
	_ = conn.Close()
}

// talk says something, listens for a moment, and resets the connection.
func talk(t *testing.T, addr, words string) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer reset(conn)
	_, _ = conn.Write([]byte(words))
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	_, _ = conn.Read(make([]byte, 1<<10))
}

// reset closes the connection so that the other side finds it broken when it writes.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// connectRaw returns a pool of one connection, and the means to reset that.
func connectRaw(t *testing.T, s *Server) (driver.Conn, func()) {
	opts, err := clickhousego.ParseDSN(s.DSN())
	if err != nil {
		t.Fatal(err)
	}
	var raw net.Conn
	opts.MaxOpenConns = 1
	opts.DialContext = func(ctx context.Context, addr string) (net.Conn, error) {
		raw, err = (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		return raw, err
	}
	conn, err := clickhousego.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	return conn, func() {
		if raw != nil {
			reset(raw)
		}
		_ = conn.Close()
	}
}

func resetWhileReading(t *testing.T, s *Server) {
	conn, leave := connectRaw(t, s)
	defer leave()
	if rows, err := conn.Query(t.Context(), endless); err != nil {
		t.Error(err)
	} else {
		rows.Next()
	}
}

func resetWhileWriting(t *testing.T, s *Server) {
	conn, leave := connectRaw(t, s)
	defer leave()
	batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO numbers")
	if err != nil {
		t.Error(err)
		return
	}
	for n := range 100_000 {
		if err := batch.Append(uint64(n)); err != nil {
			t.Error(err)
		}
	}
	if err := batch.Flush(); err != nil {
		t.Error(err)
	}
}

func cancelRead(t *testing.T, s *Server) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	conn := connect(t, s)
	rows, err := conn.Query(ctx, endless)
	if err == nil {
		for rows.Next() {
		}
		err = rows.Close()
	}
	if err != nil && !strings.Contains(err.Error(), "context") && !strings.Contains(err.Error(), "timeout") {
		t.Logf("cancelled query: %v", err)
	}
}
