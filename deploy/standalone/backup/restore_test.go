package backup

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/millrace/millrace/processor/archive"
	"github.com/millrace/millrace/schemas/clickhouse"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// damaged is a backup with a record, after which something follows that no backup has.
func damaged(t *testing.T) io.Reader {
	t.Helper()
	var record, file bytes.Buffer
	place := &event.Place{Epoch: 1, Topic: eventlog.Runs}
	if _, err := protodelim.MarshalTo(&record, &event.ArchivedRecord{Place: place, Value: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	packed := gzip.NewWriter(&file)
	members := tar.NewWriter(packed)
	for _, m := range []struct{ name, content string }{
		{"manifest.json", fmt.Sprintf(`{"format": %d}`, format)}, {"log/runs-0-000001", record.String()}, {"odd", "x"},
	} {
		err := members.WriteHeader(&tar.Header{Name: m.name, Mode: 0o600, Size: int64(len(m.content))})
		if _, failed := io.WriteString(members, m.content); err != nil || failed != nil {
			t.Fatal(err, failed)
		}
	}
	if err := errors.Join(members.Close(), packed.Close()); err != nil {
		t.Fatal(err)
	}
	return &file
}

func wantNotEmpty(t *testing.T, err error, says string) {
	t.Helper()
	if !errors.Is(err, ErrNotEmpty) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "remove what that left") {
		t.Errorf("the restore ends with %v, want that it is not empty: %q and what to do", err, says)
	}
}

func TestARestoreAfterOneThatFailedSaysWhatToRemove(t *testing.T) {
	address := os.Getenv("MILLRACE_TEST_CLICKHOUSE")
	if address == "" {
		t.Skip("MILLRACE_TEST_CLICKHOUSE names no ClickHouse, so this test against the real engine is skipped")
	}
	db, err := clickhouse.Open(clickhouse.Config{URL: fmt.Sprintf("%s/backup_test_%x", strings.TrimRight(address, "/"), rand.Uint64())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = db.Exec(context.Background(), "DROP DATABASE IF EXISTS `"+db.Name+"`")
		_ = db.Close()
	})
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	target := Target{Archive: archive.New(db), KeyFile: filepath.Join(t.TempDir(), "key")}
	if summary, err := Read(t.Context(), damaged(t), target); err == nil || errors.Is(err, ErrNotEmpty) || summary.Records != 1 {
		t.Fatalf("a damaged backup gives %+v, %v", summary, err)
	}
	_, err = Read(t.Context(), damaged(t), target)
	wantNotEmpty(t, err, "the database holds events")
}

func TestARestoreOverAKeyNamesIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Read(t.Context(), damaged(t), Target{KeyFile: path})
	wantNotEmpty(t, err, path)
}
