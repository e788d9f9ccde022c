// Package clickhouse connects to ClickHouse and keeps its tables: the archive and state of the installation in one
// database, the projections in one database for each generation.
package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/millrace/millrace/schemas/eventlog"
)

// Config says where ClickHouse is.
type Config struct {
	// URL is clickhouse://USER:PASSWORD@HOST:PORT/DATABASE; the database is millrace when none is named. It is one server:
	// the tables are not replicated, so several would each hold a part.
	URL string
	// TLS turns on TLS; CAFile adds a certificate authority to the system's.
	TLS    bool
	CAFile string
	// Connections bounds the pool.
	Connections int
}

// DB is a pool of connections and the name of the installation's database.
type DB struct {
	driver.Conn
	// Name is the database of the archive, the fold states and the generations.
	Name    string
	options *ch.Options
}

var databaseName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,60}$`)

// Open prepares a pool. It does not connect: Ping does.
func Open(config Config) (*DB, error) {
	target, err := url.Parse(config.URL)
	if err != nil || target.Host == "" {
		return nil, errors.New("clickhouse address: want clickhouse://USER:PASSWORD@HOST:PORT/DATABASE in MILLRACE_CLICKHOUSE")
	}
	if strings.Contains(target.Host, ",") {
		return nil, fmt.Errorf("clickhouse address: MILLRACE_CLICKHOUSE names several servers (%s), and the tables are not replicated: name one", target.Host)
	}
	name := strings.Trim(target.Path, "/")
	if name == "" {
		name = "millrace"
	}
	if !databaseName.MatchString(name) {
		return nil, fmt.Errorf("clickhouse database %q: use letters, digits and _, at most 61", name)
	}
	options, err := config.options(target)
	if err != nil {
		return nil, err
	}
	conn, err := ch.Open(options)
	if err != nil {
		return nil, fmt.Errorf("open ClickHouse at %s: %w", target.Host, err)
	}
	return &DB{Conn: conn, Name: name, options: options}, nil
}

func (c Config) options(target *url.URL) (*ch.Options, error) {
	password, _ := target.User.Password()
	tls, err := eventlog.TLSConfig(c.TLS, c.CAFile)
	if err != nil {
		return nil, err
	}
	connections := c.Connections
	if connections <= 0 {
		connections = 16
	}
	return &ch.Options{
		Addr:             []string{target.Host},
		Auth:             ch.Auth{Database: "default", Username: target.User.Username(), Password: password},
		TLS:              tls,
		MaxOpenConns:     connections,
		MaxIdleConns:     connections,
		ConnMaxLifetime:  time.Hour,
		DialTimeout:      5 * time.Second,
		ReadTimeout:      5 * time.Minute,
		Compression:      &ch.Compression{Method: compression(target.Hostname())},
		Settings:         ch.Settings{"async_insert": 0, "date_time_overflow_behavior": "throw"},
		BlockBufferSize:  10,
		ConnOpenStrategy: ch.ConnOpenInOrder,
	}, nil
}

// compression is LZ4, except within a machine: a quarter of the time to write a batch would go into it.
func compression(host string) ch.CompressionMethod {
	if address, err := netip.ParseAddr(host); host == "localhost" || err == nil && address.IsLoopback() {
		return ch.CompressionNone
	}
	return ch.CompressionLZ4
}

// Generation is the database of one generation of the projections.
func (db *DB) Generation(number uint32) string { return fmt.Sprintf("%s_g%d", db.Name, number) }

// Insert prepares a batch for a table with a deduplication token: the same token twice is one insert, unless ClickHouse was
// killed between (see InsertOnce). The caller must close the batch on every path.
func (db *DB) Insert(ctx context.Context, table, columns, token string) (driver.Batch, error) {
	// Not to be cancelled: the driver's watch over the context races with the end of a send (clickhouse-go 2.50), and an
	// insert that was cut off would be written again under the same token all the same.
	ctx = ch.Context(context.WithoutCancel(ctx), ch.WithSettings(ch.Settings{
		"async_insert": 0, "insert_deduplicate": 1, "insert_deduplication_token": token,
	}))
	batch, err := db.PrepareBatch(ctx, "INSERT INTO "+table+" ("+columns+")", driver.WithReleaseConnection())
	if err != nil {
		return nil, fmt.Errorf("prepare an insert into %s: %w", table, err)
	}
	return batch, nil
}
