package clickhouse

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// openTest gives a database of its own on the ClickHouse that MILLRACE_TEST_CLICKHOUSE names.
func openTest(t *testing.T) *DB {
	t.Helper()
	address := os.Getenv("MILLRACE_TEST_CLICKHOUSE")
	if address == "" {
		t.Skip("MILLRACE_TEST_CLICKHOUSE names no ClickHouse, so this test against the real engine is skipped")
	}
	db, err := Open(Config{URL: fmt.Sprintf("%s/generation_test_%x", strings.TrimRight(address, "/"), rand.Uint64())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		_ = db.DropOlder(ctx, 100, 0)
		_ = db.Exec(ctx, "DROP DATABASE IF EXISTS `"+db.Name+"`")
		_ = db.Close()
	})
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db
}

func TestRebuildsThatBeginTogetherTakeNumbersOfTheirOwn(t *testing.T) {
	first := openTest(t)
	second, err := Open(Config{URL: os.Getenv("MILLRACE_TEST_CLICKHOUSE") + first.Name})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = second.Close() }()
	const each = 5
	numbers := make([]uint32, 2*each)
	var group sync.WaitGroup
	for i := range numbers {
		group.Go(func() {
			var err error
			if numbers[i], err = []*DB{first, second}[i%2].Allocate(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	slices.Sort(numbers)
	for i, number := range numbers {
		if number != uint32(i+1) {
			t.Fatalf("the numbers are %v, want 1 to %d, each once", numbers, len(numbers))
		}
	}
}

func TestAGenerationWhoseTablesAreGoneIsNotServed(t *testing.T) {
	db := openTest(t)
	number, err := db.Allocate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	follower, err := Follow(t.Context(), db, slog.New(slog.DiscardHandler))
	if err != nil || follower.Number() != 0 {
		t.Fatalf("while it is being built, generation %d is served (%v)", follower.Number(), err)
	}
	if err := db.MakeCurrent(t.Context(), number); err != nil {
		t.Fatal(err)
	}
	if err := follower.Refresh(t.Context()); err != nil || follower.Number() != number {
		t.Fatalf("generation %d is served, want %d (%v)", follower.Number(), number, err)
	}
	if err := db.Exec(t.Context(), "DROP DATABASE `"+db.Generation(number)+"` SYNC"); err != nil {
		t.Fatal(err)
	}
	if err := follower.Refresh(t.Context()); err != nil || follower.Number() != 0 {
		t.Fatalf("generation %d is served, its database is gone (%v)", follower.Number(), err)
	}
}
