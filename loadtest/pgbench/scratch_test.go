package pgbench

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// scratchHome makes a place for the scratch folder that the server's account can enter, and returns its path there.
func scratchHome(t *testing.T) string {
	t.Helper()
	home, err := os.MkdirTemp("", "pgbench-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(home); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(home, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", home)
	return filepath.Join(home, "millrace-pgbench-"+strconv.Itoa(os.Geteuid()))
}

func TestScratchFolderIsUsedByOneRunAtATime(t *testing.T) {
	scratchHome(t)
	first, err := openScratch(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openScratch(nil); err == nil || !strings.Contains(err.Error(), "another run uses it") {
		t.Errorf("a second run got the folder too: error %v", err)
	}
	if err := first.remove(); err != nil {
		t.Fatal(err)
	}
	second, err := openScratch(nil)
	if err != nil {
		t.Fatalf("after the first run: %v", err)
	}
	if err := first.remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(second.folder(dataFolder)); err != nil {
		t.Errorf("the first run removed the second's folder: %v", err)
	}
	if err := second.remove(); err != nil {
		t.Fatal(err)
	}
}

func TestWhatAKilledRunLeftIsCleared(t *testing.T) {
	path := scratchHome(t)
	left := filepath.Join(path, dataFolder, "base", "1")
	if err := os.MkdirAll(left, 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := openScratch(nil)
	if err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(s.folder(dataFolder)); err != nil || len(entries) != 0 {
		t.Errorf("data folder holds %v, %v; want it empty", entries, err)
	}
	if err := s.remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("after remove, Lstat gives %v; want that nothing is there", err)
	}
}

func TestLinkInPlaceOfTheScratchFolderIsNotFollowed(t *testing.T) {
	path := scratchHome(t)
	target := t.TempDir()
	precious := filepath.Join(target, "precious")
	if err := os.WriteFile(precious, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
	if _, err := openScratch(nil); err == nil {
		t.Error("the link was accepted")
	}
	if _, err := os.Stat(precious); err != nil {
		t.Errorf("the file behind the link: %v", err)
	}
}

func TestScratchFolderOfAnotherUserIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a folder of another user")
	}
	path := scratchHome(t)
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if _, err := openScratch(nil); err == nil || !strings.Contains(err.Error(), "belongs to another user") {
		t.Errorf("error %v, want that it belongs to another user", err)
	}
}

func TestTooLongSocketPathIsRefusedBeforeAnythingIsMade(t *testing.T) {
	home := filepath.Join(t.TempDir(), strings.Repeat("x", 100))
	if err := os.Mkdir(home, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", home)
	if _, err := openScratch(nil); err == nil || !strings.Contains(err.Error(), "TMPDIR") {
		t.Errorf("error %v, want one that says to change TMPDIR", err)
	}
	if entries, err := os.ReadDir(home); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
