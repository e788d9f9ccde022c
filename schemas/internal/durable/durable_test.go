package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/schemas/internal/durable"
)

func TestOneOfManyCreatesTheFileAndAllSeeItWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	var created atomic.Int32
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			err := durable.Create(path, []byte("content"))
			if err == nil {
				created.Add(1)
			} else if !errors.Is(err, fs.ErrExist) {
				t.Error(err)
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != "content" {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
	group.Wait()
	if created.Load() != 1 {
		t.Errorf("%d callers created the file", created.Load())
	}
	if left, err := durable.Leftovers(path); err != nil || len(left) != 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func TestCreateInAMissingFolderFails(t *testing.T) {
	if err := durable.Create(filepath.Join(t.TempDir(), "missing", "file"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestLeftoversAreThoseOfThePathOnly(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"a", "a.1.tmp", "a.txt", "ab.1.tmp", "a.2.tmp"} {
		if err := os.WriteFile(filepath.Join(folder, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	left, err := durable.Leftovers(filepath.Join(folder, "a"))
	if err != nil || len(left) != 2 || filepath.Base(left[0]) != "a.1.tmp" || filepath.Base(left[1]) != "a.2.tmp" {
		t.Errorf("got %v, %v", left, err)
	}
}

func TestMkdirAllMakesWhatIsMissing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "c")
	for range 2 {
		if err := durable.MkdirAll(path); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != fs.ModeDir|0o700 {
		t.Errorf("got %v, %v", info, err)
	}
	file := filepath.Join(path, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := durable.MkdirAll(filepath.Join(file, "d")); err == nil {
		t.Error("made a folder in a file")
	}
}

func TestRenameReplaces(t *testing.T) {
	folder := t.TempDir()
	from, to := filepath.Join(folder, "from"), filepath.Join(folder, "to")
	if err := errors.Join(os.WriteFile(from, []byte("new"), 0o600), os.WriteFile(to, []byte("old"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := durable.Rename(from, to); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(to); err != nil || string(got) != "new" {
		t.Errorf("read %q, %v", got, err)
	}
	if err := durable.SyncFolder(filepath.Join(folder, "missing")); err == nil {
		t.Error("synced a missing folder")
	}
}
