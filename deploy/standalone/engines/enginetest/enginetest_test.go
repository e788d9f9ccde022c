package enginetest_test

import (
	"testing"

	clickhousego "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	goredis "github.com/redis/go-redis/v9"
	kafkago "github.com/segmentio/kafka-go"

	"github.com/millrace/millrace/deploy/standalone/engines/enginetest"
)

func TestMain(m *testing.M) { enginetest.Main(m) }

func open(t *testing.T, url string) (driver.Conn, string) {
	t.Helper()
	opts, err := clickhousego.ParseDSN(url)
	if err != nil {
		t.Fatal(err)
	}
	name := opts.Auth.Database
	opts.Auth.Database = "default"
	conn, err := clickhousego.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn, name
}

func TestEachTestHasDatabasesOfItsOwnWhichAreDroppedBehindIt(t *testing.T) {
	conn, mine := open(t, enginetest.ClickHouse(t))
	names := make(map[string]bool)
	for range 2 {
		t.Run("inner", func(t *testing.T) {
			_, name := open(t, enginetest.ClickHouse(t))
			for _, suffix := range []string{"", "_g1", "x"} {
				if err := conn.Exec(t.Context(), "CREATE DATABASE "+name+suffix); err != nil {
					t.Fatal(err)
				}
			}
			names[name] = true
		})
	}
	if names[mine] || len(names) != 2 {
		t.Errorf("three tests got the names %q and %v, want three", mine, names)
	}
	var left []string
	if err := conn.QueryRow(t.Context(), "SELECT groupArray(name) FROM system.databases WHERE startsWith(name, 'test')").Scan(&left); err != nil {
		t.Fatal(err)
	}
	if len(left) != 2 { // those that only begin alike
		t.Errorf("databases left behind: %q", left)
	}
}

func TestLogAndRedisAnswer(t *testing.T) {
	transport := &kafkago.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	client := &kafkago.Client{Addr: kafkago.TCP(enginetest.Kafka(t)), Transport: transport}
	if meta, err := client.Metadata(t.Context(), &kafkago.MetadataRequest{}); err != nil || len(meta.Topics) != 0 {
		t.Errorf("a new log has the topics %v (%v), want none", meta, err)
	}
	opts, err := goredis.ParseURL(enginetest.Redis(t))
	if err != nil {
		t.Fatal(err)
	}
	cache := goredis.NewClient(opts)
	defer cache.Close()
	if err := cache.Ping(t.Context()).Err(); err != nil {
		t.Errorf("Redis: %v", err)
	}
}
