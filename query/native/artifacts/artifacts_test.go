package artifacts_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/query/native/artifacts"
	"github.com/millrace/millrace/schemas/clickhouse"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// tables gives a database whose first generation is empty.
func tables(t *testing.T) *clickhouse.DB {
	t.Helper()
	address := os.Getenv("MILLRACE_TEST_CLICKHOUSE")
	if address == "" {
		t.Skip("MILLRACE_TEST_CLICKHOUSE names no ClickHouse, so this test against the real engine is skipped")
	}
	db, err := clickhouse.Open(clickhouse.Config{URL: strings.TrimRight(address, "/") + fmt.Sprintf("/query_test_%x", rand.Uint64())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Exec(context.Background(), "DROP DATABASE IF EXISTS `"+db.Generation(1)+"` SYNC"); err != nil {
			t.Error(err)
		}
		_ = db.Close()
	})
	if err := db.MigrateGeneration(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	return db
}

func TestNewestFileOfEachNameIsShownUntilItExpires(t *testing.T) {
	db, batch := tables(t), projection.NewBatch()
	offset := int64(0)
	attempt := uint32(1)
	put := func(job, name, content string) uuid.UUID {
		t.Helper()
		offset++
		sum := sha256.Sum256([]byte(content))
		rec := &eventlog.Record{
			Event: eventlog.Event{ID: uuid.New()}, Partition: eventlog.Partition{Topic: eventlog.Results}, Offset: offset, LogTime: time.Now().UnixMilli(),
		}
		m := &event.JobArtifactStored{
			Job: job, Name: name, ContentType: "text/plain", Attempt: attempt,
			Document: &event.Document{Place: &event.Document_Blob{Blob: &event.BlobRef{Sha256: sum[:], Size: uint64(len(content))}}},
		}
		if err := batch.AddArtifact(m, 1, rec); err != nil {
			t.Fatal(err)
		}
		return rec.ID
	}
	put("job-1", "log", "first")
	newest := put("job-1", "log", "second")
	put("job-1", "core", "core")
	put("job-12", "log", "another job's")
	write := func(token string) {
		t.Helper()
		if err := projection.NewWriter(db, 1).Write(t.Context(), batch, token, false); err != nil {
			t.Fatal(err)
		}
		batch.Reset()
	}
	want := func(name string, contents ...string) {
		t.Helper()
		list, refs, err := artifacts.Newest(t.Context(), db, 1, "job-1", name)
		if err != nil || len(list) != len(contents) || len(refs) != len(contents) {
			t.Fatalf("the files are %+v, %v; want %q", list, err, contents)
		}
		for i, content := range contents {
			sum := sha256.Sum256([]byte(content))
			if list[i].SHA256 != hex.EncodeToString(sum[:]) || refs[i].SHA256 != sum || list[i].Size != uint64(len(content)) {
				t.Errorf("file %d is %+v, want %q", i, list[i], content)
			}
		}
	}
	write("1")
	want("", "core", "second")
	want("log", "second")
	want("nothing")
	expired := &eventlog.Record{Partition: eventlog.Partition{Topic: eventlog.Results}, Offset: 9, LogTime: time.Now().UnixMilli()}
	if err := batch.AddFileExpiry(&event.JobFileExpired{EventId: newest.String()}, expired); err != nil {
		t.Fatal(err)
	}
	write("2")
	want("log", "first") // which came earlier and is not said to have expired
	want("", "core", "first")
	attempt = 2
	put("job-1", "log", "of the second attempt")
	attempt = 1
	put("job-1", "log", "of the first, late")
	write("3")
	want("log", "of the second attempt")
}
