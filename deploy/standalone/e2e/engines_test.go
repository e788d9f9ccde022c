package e2e

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/millrace/millrace/deploy/standalone/engines/apachekafka"
	chengine "github.com/millrace/millrace/deploy/standalone/engines/clickhouse"
	"github.com/millrace/millrace/deploy/standalone/engines/kafka"
	"github.com/millrace/millrace/deploy/standalone/engines/redis"
)

// engines are what services run on.
type engines struct {
	kafka, clickhouse, redis string // addresses, as in MILLRACE_KAFKA and so on

	cluster *apachekafka.Cluster // behind kafka, where it is one
	ends    []func() error
}

// onEnd says what ends a part; parts end in the reverse order.
func (e *engines) onEnd(end func() error) { e.ends = append(e.ends, end) }

func (e *engines) close() error {
	var errs []error
	for _, end := range slices.Backward(e.ends) {
		errs = append(errs, end())
	}
	e.ends = nil
	return errors.Join(errs...)
}

// embed starts the embedded engines in this process, those that are not there yet.
func (e *engines) embed(ctx context.Context, dir string) error {
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	if e.kafka == "" {
		broker, err := kafka.Start(ctx, kafka.Options{Dir: filepath.Join(dir, "log"), Logger: logger})
		if err != nil {
			return err
		}
		e.onEnd(broker.Close)
		e.kafka = broker.Addr()
	}
	if e.clickhouse == "" {
		if err := e.embedClickHouse(ctx, dir, logger); err != nil {
			return err
		}
	}
	if e.redis == "" {
		server, err := redis.Start()
		if err != nil {
			return err
		}
		e.onEnd(func() error { server.Close(); return nil })
		e.redis = server.URL()
	}
	return nil
}

func (e *engines) embedClickHouse(ctx context.Context, dir string, logger *slog.Logger) error {
	cache, err := chengine.DefaultCacheDir()
	if err != nil {
		return err
	}
	program, err := chengine.Fetch(ctx, cache, os.Stderr)
	if err != nil {
		return err
	}
	server, err := chengine.Start(ctx, chengine.Options{Dir: filepath.Join(dir, "clickhouse"), Program: program, Logger: logger})
	if err != nil {
		return err
	}
	e.onEnd(server.Close)
	e.clickhouse = server.DSN()
	return nil
}
