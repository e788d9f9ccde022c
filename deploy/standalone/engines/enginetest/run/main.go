// Command run starts the three embedded engines in a folder, prints their addresses as the settings of a Millrace that
// uses them, and serves until its standard input closes. It is for development: `go run ./engines/enginetest/run FOLDER`.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/millrace/millrace/deploy/standalone/engines/clickhouse"
	"github.com/millrace/millrace/deploy/standalone/engines/kafka"
	"github.com/millrace/millrace/deploy/standalone/engines/redis"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "run:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 0 && args[0] == clickhouse.ChildCommand {
		return clickhouse.RunChild(args[1:])
	}
	if len(args) != 1 {
		return errors.New("usage: run FOLDER")
	}
	return serve(context.Background(), args[0])
}

func serve(ctx context.Context, dir string) (err error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	cache, err := clickhouse.DefaultCacheDir()
	if err != nil {
		return err
	}
	program, err := clickhouse.Fetch(ctx, cache, os.Stderr)
	if err != nil {
		return err
	}
	broker, err := kafka.Start(ctx, kafka.Options{Dir: filepath.Join(dir, "kafka"), Logger: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, broker.Close()) }()
	store, err := clickhouse.Start(ctx, clickhouse.Options{Dir: filepath.Join(dir, "clickhouse"), Program: program, Logger: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	cacheServer, err := redis.Start()
	if err != nil {
		return err
	}
	defer cacheServer.Close()
	fmt.Printf("MILLRACE_KAFKA=%s\nMILLRACE_CLICKHOUSE=%s\nMILLRACE_REDIS=%s\n", broker.Addr(), store.DSN(), cacheServer.URL())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
