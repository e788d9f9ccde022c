package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/deploy/standalone/config"
	chengine "github.com/millrace/millrace/deploy/standalone/engines/clickhouse"
	"github.com/millrace/millrace/deploy/standalone/engines/kafka"
	redisengine "github.com/millrace/millrace/deploy/standalone/engines/redis"
	"github.com/millrace/millrace/schemas/blob"
	"github.com/millrace/millrace/schemas/clickhouse"
	"github.com/millrace/millrace/schemas/eventlog"
)

// engines are the connections to the log, ClickHouse, Redis and the blob store. What the settings give no address for
// runs embedded, in the data folder.
type engines struct {
	broker     *kafka.Broker
	clickhouse *chengine.Server
	redisd     *redisengine.Server

	log   *eventlog.Client
	db    *clickhouse.DB
	redis *redis.Client
	blobs *blob.Store
}

// openEngines starts what is embedded and connects to everything. Engines elsewhere are waited for: a service that
// starts before its engines is normal in a cluster.
func openEngines(ctx context.Context, c config.Config, progress io.Writer, logger *slog.Logger) (*engines, error) {
	e := &engines{}
	if err := e.open(ctx, c, progress, logger); err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e, nil
}

func (e *engines) open(ctx context.Context, c config.Config, progress io.Writer, logger *slog.Logger) error {
	if err := e.openBlobs(ctx, c); err != nil {
		return err
	}
	if err := e.openClickHouse(ctx, c, progress, logger); err != nil {
		return err
	}
	if err := e.openLog(ctx, c, logger); err != nil {
		return err
	}
	return nil
}

func (e *engines) openBlobs(ctx context.Context, c config.Config) error {
	address := c.Blob
	if address == "" {
		folder, err := filepath.Abs(blobFolder(c))
		if err != nil {
			return fmt.Errorf("find the blob folder: %w", err)
		}
		address = "file://" + filepath.ToSlash(folder)
	}
	var err error
	e.blobs, err = blob.Open(ctx, address)
	return err
}

// blobFolder is the blob store where the settings name none.
func blobFolder(c config.Config) string { return filepath.Join(c.Data, "blobs") }

// checkBlobs refuses to begin an empty blob store where an installation's is wanted.
func checkBlobs(c config.Config) error {
	if c.Blob != "" {
		return nil
	}
	if _, err := os.Stat(blobFolder(c)); err != nil {
		return fmt.Errorf("find the installation's blob store: set MILLRACE_BLOB, or MILLRACE_DATA to its data folder: %w", err)
	}
	return nil
}

func (e *engines) openClickHouse(ctx context.Context, c config.Config, progress io.Writer, logger *slog.Logger) error {
	address := c.ClickHouse
	if address == "" {
		program, err := fetchClickHouse(ctx, c, progress)
		if err != nil {
			return err
		}
		folder := filepath.Join(c.Data, "clickhouse")
		if e.clickhouse, err = chengine.Start(ctx, chengine.Options{Dir: folder, Program: program, Nice: c.Engines.ClickHouseNice, Logger: logger}); err != nil {
			return err
		}
		address = e.clickhouse.DSN()
	}
	var err error
	e.db, err = clickhouse.Open(clickhouse.Config{
		URL: address, TLS: c.Engines.ClickHouseTLS, CAFile: c.Engines.CAFile, Connections: c.Engines.ClickHouseConnections,
	})
	if err != nil {
		return err
	}
	return await(ctx, "ClickHouse", logger, func() error { return e.db.Migrate(ctx) })
}

func fetchClickHouse(ctx context.Context, c config.Config, progress io.Writer) (chengine.Program, error) {
	cache := c.Engines.CacheDir
	if cache == "" {
		var err error
		if cache, err = chengine.DefaultCacheDir(); err != nil {
			return chengine.Program{}, err
		}
	}
	return chengine.Fetch(ctx, cache, progress)
}

func (e *engines) openLog(ctx context.Context, c config.Config, logger *slog.Logger) error {
	settings := eventlog.Config{
		Brokers: splitList(c.Kafka), Replication: c.Engines.KafkaReplication, VolumePartitions: c.Engines.VolumePartitions,
		Retention: c.Engines.Retention, Username: c.Engines.KafkaUser, Password: c.Engines.KafkaPassword,
		Mechanism: c.Engines.KafkaMechanism, TLS: c.Engines.KafkaTLS, CAFile: c.Engines.CAFile,
	}
	if len(settings.Brokers) == 0 {
		// Nobody else on this machine gets in: the password lives as long as the process.
		password := rand.Text()
		var err error
		e.broker, err = kafka.Start(ctx, kafka.Options{Dir: logFolder(c), Password: password, Logger: logger})
		if err != nil {
			return err
		}
		settings.Brokers = []string{e.broker.Addr()}
		settings.Username, settings.Password, settings.Mechanism = kafka.User, password, ""
		settings.TLS = false
	}
	return await(ctx, "Kafka", logger, func() error {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		var err error
		e.log, err = eventlog.Dial(ctx, settings)
		return err
	})
}

// openRedis connects to Redis; a standalone without an address starts one, and another service goes without.
func (e *engines) openRedis(c config.Config, role Role) error {
	address := c.Redis
	if address == "" {
		if role != Standalone {
			return nil
		}
		var err error
		if e.redisd, err = redisengine.Start(); err != nil {
			return err
		}
		address = e.redisd.URL()
	}
	options, err := redis.ParseURL(address)
	if err != nil {
		// The parser's error quotes the address, and with it the password.
		return errors.New("redis address: want redis://:PASSWORD@HOST:PORT/0 (rediss:// with TLS) in MILLRACE_REDIS")
	}
	if options.TLSConfig != nil {
		if options.TLSConfig, err = eventlog.TLSConfig(true, c.Engines.CAFile); err != nil {
			return err
		}
	}
	options.ContextTimeoutEnabled = true
	e.redis = redis.NewClient(options)
	return nil
}

// await repeats a first contact until it succeeds or ctx ends.
func await(ctx context.Context, name string, logger *slog.Logger, try func() error) error {
	for delay := 100 * time.Millisecond; ; delay = min(2*delay, 5*time.Second) {
		err := try()
		if err == nil || ctx.Err() != nil {
			return err
		}
		logger.Warn("waiting for "+name, "error", err)
		timer := time.NewTimer(delay)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("wait for %s: %w", name, err)
		case <-timer.C:
		}
	}
}

func splitList(text string) []string {
	var list []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return list
}

// close ends the connections, then what is embedded. Whoever used them has ended.
func (e *engines) close() error {
	var errs []error
	if e.redis != nil {
		errs = append(errs, e.redis.Close())
	}
	if e.redisd != nil {
		e.redisd.Close()
	}
	if e.log != nil {
		e.log.Close()
	}
	if e.broker != nil {
		errs = append(errs, e.broker.Close())
	}
	if e.db != nil {
		errs = append(errs, e.db.Close())
	}
	if e.clickhouse != nil {
		errs = append(errs, e.clickhouse.Close())
	}
	if e.blobs != nil {
		errs = append(errs, e.blobs.Close())
	}
	return errors.Join(errs...)
}

// logFolder is where the embedded log is.
func logFolder(c config.Config) string { return filepath.Join(c.Data, "log") }
