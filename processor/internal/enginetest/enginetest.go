// Package enginetest gives tests engines of their own: a log in memory, by the broker that the embedded one is, and a
// database in the ClickHouse that MILLRACE_TEST_CLICKHOUSE names.
package enginetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/millrace/millrace/schemas/clickhouse"
	"github.com/millrace/millrace/schemas/eventlog"
)

// Log starts a log of the test's own. A member of a consumer group may be taken for dead at once.
func Log(tb testing.TB) *kfake.Cluster {
	tb.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.DefaultNumPartitions(1),
		kfake.BrokerConfigs(map[string]string{"group.min.session.timeout.ms": "1"}))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(cluster.Close)
	return cluster
}

// Dial connects to a log.
func Dial(tb testing.TB, cluster *kfake.Cluster) *eventlog.Client {
	tb.Helper()
	client, err := eventlog.Dial(tb.Context(), eventlog.Config{Brokers: cluster.ListenAddrs()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(client.Close)
	return client
}

// Appender gives an appender to a log.
func Appender(tb testing.TB, client *eventlog.Client) *eventlog.Appender {
	tb.Helper()
	config := eventlog.AppenderConfig{MaxWaiting: 64 << 20}
	appender := eventlog.NewAppender(client, config, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	tb.Cleanup(appender.Close)
	return appender
}

// Database gives the URL of a database of the test's own. It is dropped behind the test, with those of its generations.
func Database(tb testing.TB) string {
	tb.Helper()
	address := os.Getenv("MILLRACE_TEST_CLICKHOUSE")
	if address == "" {
		tb.Skip("MILLRACE_TEST_CLICKHOUSE names no ClickHouse, so this test against the real engine is skipped")
	}
	url := strings.TrimRight(address, "/") + fmt.Sprintf("/processor_test_%x", rand.Uint64())
	db := Open(tb, url)
	tb.Cleanup(func() { dropAll(tb, db) })
	if err := db.Migrate(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return url
}

// Open connects to a database.
func Open(tb testing.TB, url string) *clickhouse.DB {
	tb.Helper()
	db, err := clickhouse.Open(clickhouse.Config{URL: url})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() })
	return db
}

func dropAll(tb testing.TB, db *clickhouse.DB) {
	ctx := context.Background()
	var names []string
	err := db.QueryRow(ctx, "SELECT groupArray(name) FROM system.databases WHERE startsWith(name, ?)", db.Name).Scan(&names)
	for _, name := range names {
		err = errors.Join(err, db.Exec(ctx, "DROP DATABASE `"+name+"` SYNC"))
	}
	if err != nil {
		tb.Errorf("drop the databases of the test: %v", err)
	}
}
