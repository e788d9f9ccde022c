package keyring

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeClock is a time that stands still until it is moved.
type fakeClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *fakeClock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// processes opens n keyrings on one folder, as n processes do, that share a clock.
func processes(t *testing.T, n int) ([]*Keyring, *fakeClock) {
	t.Helper()
	path, clock := filepath.Join(t.TempDir(), "key"), &fakeClock{now: time.Unix(1_700_000_000, 0)}
	keyrings := make([]*Keyring, n)
	for i := range keyrings {
		k, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		k.subjects.now = clock.read
		keyrings[i] = k
	}
	return keyrings, clock
}

func seal(t *testing.T, k *Keyring, subject, text string) []byte {
	t.Helper()
	sealed, err := k.SealFor(subject, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func wantText(t *testing.T, k *Keyring, subject string, sealed []byte, want string) {
	t.Helper()
	if got, err := k.OpenFor(subject, sealed); err != nil || string(got) != want {
		t.Errorf("opened %q, %v; want %q", got, err, want)
	}
}

func wantErased(t *testing.T, k *Keyring, subject string, sealed []byte) {
	t.Helper()
	if got, err := k.OpenFor(subject, sealed); !errors.Is(err, ErrErased) {
		t.Errorf("opened %q, %v; want ErrErased", got, err)
	}
}

func TestSubjectsValueOpensInEveryProcessForThatSubjectOnly(t *testing.T) {
	k, _ := processes(t, 2)
	jane := seal(t, k[0], "user/jdoe", "Jane")
	john := seal(t, k[1], "user/jroe", "John")
	wantText(t, k[0], "user/jdoe", jane, "Jane")
	wantText(t, k[1], "user/jdoe", jane, "Jane")
	wantText(t, k[0], "user/jroe", john, "John")
	if got, err := k[0].OpenFor("user/jroe", jane); err == nil {
		t.Errorf("one subject's value opened for another: %q", got)
	}
}

func TestErasedSubjectStaysErasedWhenItReturns(t *testing.T) {
	k, _ := processes(t, 1)
	old, other := seal(t, k[0], "jdoe", "Jane"), seal(t, k[0], "jroe", "John")
	wantText(t, k[0], "jdoe", old, "Jane")
	if err := k[0].Erase("jdoe"); err != nil {
		t.Fatal(err)
	}
	wantErased(t, k[0], "jdoe", old)
	wantText(t, k[0], "jroe", other, "John")
	again := seal(t, k[0], "jdoe", "Jane again")
	wantErased(t, k[0], "jdoe", old)
	wantText(t, k[0], "jdoe", again, "Jane again")
}

func TestErasingTwiceOrWithoutKeyIsNoError(t *testing.T) {
	k, _ := processes(t, 1)
	for range 2 {
		if err := k[0].Erase("nobody"); err != nil {
			t.Error(err)
		}
	}
}

func TestErasureReachesOtherProcessesWithinASecond(t *testing.T) {
	k, clock := processes(t, 2)
	old := seal(t, k[0], "jdoe", "Jane")
	wantText(t, k[1], "jdoe", old, "Jane")
	if err := k[0].Erase("jdoe"); err != nil {
		t.Fatal(err)
	}
	wantErased(t, k[0], "jdoe", old)
	clock.move(recheckAfter)
	wantErased(t, k[1], "jdoe", old)
	if recheckAfter >= time.Second {
		t.Errorf("recheckAfter is %v, a second or more", recheckAfter)
	}
}

func TestNothingIsSealedUnderAKeyThatAnotherProcessErased(t *testing.T) {
	k, _ := processes(t, 2)
	old := seal(t, k[0], "jdoe", "Jane")
	wantText(t, k[1], "jdoe", old, "Jane") // the other process holds the key in memory
	if err := k[0].Erase("jdoe"); err != nil {
		t.Fatal(err)
	}
	renewed := seal(t, k[1], "jdoe", "Jane again")
	wantText(t, k[0], "jdoe", renewed, "Jane again")
	wantErased(t, k[1], "jdoe", old)
}

func TestNewKeyOfAnotherProcessIsFoundAtOnce(t *testing.T) {
	k, _ := processes(t, 2)
	wantText(t, k[1], "jdoe", seal(t, k[0], "jdoe", "Jane"), "Jane")
	if err := k[0].Erase("jdoe"); err != nil {
		t.Fatal(err)
	}
	wantText(t, k[1], "jdoe", seal(t, k[0], "jdoe", "Jane again"), "Jane again")
}

func TestProcessesThatSealFirstUseOneKey(t *testing.T) {
	k, _ := processes(t, 4)
	for round := range 25 {
		subject, values := fmt.Sprint("user/", round), make([][]byte, len(k))
		var group sync.WaitGroup
		for i := range k {
			group.Go(func() {
				sealed, err := k[i].SealFor(subject, []byte("text"))
				if err != nil {
					t.Error(err)
				}
				values[i] = sealed
			})
		}
		group.Wait()
		for i := range values {
			wantText(t, k[(i+1)%len(k)], subject, values[i], "text")
		}
	}
	if left, _ := filepath.Glob(filepath.Join(k[0].subjects.folder, "*.tmp")); len(left) != 0 {
		t.Errorf("temporary files stayed: %v", left)
	}
}

func TestSealAndEraseAgainstEachOther(t *testing.T) {
	k, _ := processes(t, 3)
	var group sync.WaitGroup
	for i := range k {
		group.Go(func() {
			for range 50 {
				sealed, err := k[i].SealFor("jdoe", []byte("text"))
				if err != nil {
					t.Error(err)
					return
				}
				got, err := k[i].OpenFor("jdoe", sealed)
				if err != nil && !errors.Is(err, ErrErased) || err == nil && string(got) != "text" {
					t.Errorf("opened %q, %v", got, err)
				}
				if i > 0 {
					continue
				}
				if err := k[i].Erase("jdoe"); err != nil {
					t.Error(err)
				}
				if _, err := k[i].OpenFor("jdoe", sealed); !errors.Is(err, ErrErased) {
					t.Errorf("after the own erasure: %v", err)
				}
			}
		})
	}
	group.Wait()
}

// A crash between link and remove leaves a second name of the key file.
func TestEraseRemovesWhatACrashLeftOfTheKey(t *testing.T) {
	k, _ := processes(t, 1)
	seal(t, k[0], "jdoe", "Jane")
	path := k[0].subjects.path("jdoe")
	if err := os.Link(path, path+".123.tmp"); err != nil {
		t.Fatal(err)
	}
	if err := k[0].Erase("jdoe"); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(k[0].subjects.folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), "installation-") {
			t.Errorf("%s stayed", entry.Name())
		}
	}
}

func TestDamagedSubjectKeyIsNotTakenForErased(t *testing.T) {
	for name, damage := range map[string]func(string) error{
		"truncated": func(path string) error { return os.Truncate(path, 40) },
		"empty":     func(path string) error { return os.Truncate(path, 0) },
		"changed":   func(path string) error { return os.WriteFile(path, make([]byte, 72), 0o600) },
		"a folder":  func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
	} {
		t.Run(name, func(t *testing.T) {
			k, clock := processes(t, 1)
			sealed := seal(t, k[0], "jdoe", "Jane")
			path := k[0].subjects.path("jdoe")
			if err := damage(path); err != nil {
				t.Fatal(err)
			}
			clock.move(recheckAfter)
			if _, err := k[0].OpenFor("jdoe", sealed); err == nil || errors.Is(err, ErrErased) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want an error that names the file", err)
			}
			if _, err := k[0].SealFor("jdoe", nil); err == nil {
				t.Error("sealed under a damaged key")
			}
		})
	}
}

// Another subject's file, copied over this one's, must not give that subject's key.
func TestSubjectKeyFileBelongsToItsName(t *testing.T) {
	k, clock := processes(t, 1)
	jane := seal(t, k[0], "jdoe", "Jane")
	seal(t, k[0], "jroe", "John")
	if err := os.Rename(k[0].subjects.path("jroe"), k[0].subjects.path("jdoe")); err != nil {
		t.Fatal(err)
	}
	clock.move(recheckAfter)
	if _, err := k[0].OpenFor("jdoe", jane); err == nil || errors.Is(err, ErrErased) {
		t.Errorf("got %v", err)
	}
}

func TestVanishedFolderIsNotTakenForErased(t *testing.T) {
	k, clock := processes(t, 1)
	sealed := seal(t, k[0], "jdoe", "Jane")
	folder := k[0].subjects.folder
	if err := errors.Join(os.Rename(folder, folder+".away"), os.Mkdir(folder, 0o700)); err != nil {
		t.Fatal(err)
	}
	clock.move(recheckAfter)
	if _, err := k[0].OpenFor("jdoe", sealed); err == nil || errors.Is(err, ErrErased) {
		t.Errorf("OpenFor: %v", err)
	}
	if _, err := k[0].SealFor("jdoe", nil); err == nil {
		t.Error("SealFor made a key in a folder that is not the installation's")
	}
	if err := k[0].Erase("jdoe"); err == nil {
		t.Error("Erase reports success, but the key lies in the folder that is away")
	}
}

func TestFolderDisclosesNoNames(t *testing.T) {
	k, _ := processes(t, 1)
	seal(t, k[0], "user/jdoe", "Jane")
	entries, err := os.ReadDir(k[0].subjects.folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		content, err := os.ReadFile(filepath.Join(k[0].subjects.folder, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(entry.Name()+string(content), "jdoe") {
			t.Errorf("%s discloses its subject", entry.Name())
		}
		if info, _ := entry.Info(); info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", entry.Name(), info.Mode())
		}
	}
}

func TestOpenedKeysAreBounded(t *testing.T) {
	k, _ := processes(t, 1)
	s := k[0].subjects
	for i := range cachedSubjects + 10 {
		s.remember(fmt.Sprint(i), &subjectKey{}, 0)
	}
	if len(s.opened) != cachedSubjects {
		t.Errorf("%d keys in memory, want %d", len(s.opened), cachedSubjects)
	}
}
