package projection

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/millrace/millrace/schemas/clickhouse"
)

// openEngine connects to the ClickHouse that MILLRACE_TEST_CLICKHOUSE names, in a database that only this test uses, and
// makes generation 1 there.
func openEngine(tb testing.TB) *clickhouse.DB {
	tb.Helper()
	address := os.Getenv("MILLRACE_TEST_CLICKHOUSE")
	if address == "" {
		tb.Skip("MILLRACE_TEST_CLICKHOUSE names no ClickHouse, so this test against the real engine is skipped")
	}
	name := fmt.Sprintf("projection_test_%x", rand.Uint64())
	db, err := clickhouse.Open(clickhouse.Config{URL: strings.TrimRight(address, "/") + "/" + name})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	})
	addGeneration(tb, db, 1)
	return db
}

// addGeneration makes the tables of a generation, which go with the test.
func addGeneration(tb testing.TB, db *clickhouse.DB, generation uint32) {
	tb.Helper()
	if err := db.MigrateGeneration(context.Background(), generation); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := db.Exec(context.Background(), "DROP DATABASE `"+db.Generation(generation)+"`"); err != nil {
			tb.Error(err)
		}
	})
}
