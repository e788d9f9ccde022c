// Package enginetest gives tests the embedded engines: a log and a Redis of their own, which start in milliseconds, and a
// ClickHouse that the tests of one binary share, each with its own database.
//
// A test binary that uses ClickHouse hands its TestMain to Main.
package enginetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clickhousego "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/millrace/millrace/deploy/standalone/engines/clickhouse"
	"github.com/millrace/millrace/deploy/standalone/engines/kafka"
	"github.com/millrace/millrace/deploy/standalone/engines/redis"
)

// shared is the binary's ClickHouse, once a test has asked for it.
var shared struct {
	once      sync.Once
	err       error
	dir       string
	server    *clickhouse.Server
	databases atomic.Int64
}

// Main runs the tests and ends ClickHouse behind them. In the process that is ClickHouse it does that work instead. It
// does not return.
func Main(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == clickhouse.ChildCommand {
		fmt.Fprintln(os.Stderr, clickhouse.RunChild(os.Args[2:]))
		os.Exit(1)
	}
	code := m.Run()
	if shared.server != nil {
		if err := errors.Join(shared.server.Close(), os.RemoveAll(shared.dir)); err != nil {
			fmt.Fprintln(os.Stderr, "end ClickHouse:", err)
		}
	}
	os.Exit(code)
}

// Kafka starts a log of the test's own and returns its address.
func Kafka(t testing.TB) string {
	t.Helper()
	broker, err := kafka.Start(t.Context(), kafka.Options{Dir: t.TempDir(), Logger: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := broker.Close(); err != nil {
			t.Error(err)
		}
	})
	return broker.Addr()
}

// Redis starts a Redis of the test's own and returns its URL.
func Redis(t testing.TB) string {
	t.Helper()
	server, err := redis.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server.URL()
}

// ClickHouse returns the URL of a database of the test's own, which does not exist yet. When the test ends, it and all
// whose names begin with its name and "_" are dropped.
func ClickHouse(t testing.TB) string {
	t.Helper()
	shared.once.Do(func() { shared.err = startShared() })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	name := fmt.Sprintf("test%d", shared.databases.Add(1))
	t.Cleanup(func() {
		if err := drop(name); err != nil {
			t.Errorf("drop the databases of the test: %v", err)
		}
	})
	return shared.server.DSN() + name
}

func startShared() error {
	ctx := context.Background() // the server outlives the test that asks first
	cache, err := clickhouse.DefaultCacheDir()
	if err != nil {
		return err
	}
	program, err := clickhouse.Fetch(ctx, cache, os.Stderr)
	if err != nil {
		return err
	}
	if shared.dir, err = os.MkdirTemp("", "millrace-clickhouse-"); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	shared.server, err = clickhouse.Start(ctx, clickhouse.Options{Dir: shared.dir, Program: program, Logger: log})
	return err
}

func drop(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second) // the test's own has ended
	defer cancel()
	opts, err := clickhousego.ParseDSN(shared.server.DSN())
	if err != nil {
		return err
	}
	conn, err := clickhousego.Open(opts)
	if err != nil {
		return err
	}
	defer conn.Close()
	var names []string
	err = conn.QueryRow(ctx, "SELECT groupArray(name) FROM system.databases WHERE name = ? OR startsWith(name, ?)", name, name+"_").Scan(&names)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := conn.Exec(ctx, "DROP DATABASE `"+n+"` SYNC"); err != nil {
			return err
		}
	}
	return nil
}

// logger writes warnings to the test's output.
func logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}
