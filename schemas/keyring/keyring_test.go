package keyring_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/schemas/keyring"
)

func open(t testing.TB, path string) *keyring.Keyring {
	t.Helper()
	k, err := keyring.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newKeyring(t testing.TB) *keyring.Keyring {
	t.Helper()
	return open(t, filepath.Join(t.TempDir(), "key"))
}

func TestKeyFileIsCreatedOnceAndForItsOwnerOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data", "key")
	first := open(t, path)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode())
	}
	before, _ := os.ReadFile(path)
	second := open(t, path)
	after, _ := os.ReadFile(path)
	if first.ID() != second.ID() || !bytes.Equal(before, after) {
		t.Error("opening again changed the key")
	}
	if got, err := second.Open("p", first.Seal("p", []byte("text"))); err != nil || string(got) != "text" {
		t.Errorf("the key read again opens %q, %v", got, err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*.tmp"))
	if err != nil || len(left) != 0 {
		t.Errorf("temporary files stayed: %v, %v", left, err)
	}
}

func TestProcessesThatStartTogetherGetOneKey(t *testing.T) {
	for range 20 {
		path := filepath.Join(t.TempDir(), "key")
		ids := make([]string, 8)
		var group sync.WaitGroup
		for i := range ids {
			group.Go(func() {
				k, err := keyring.Open(path)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := k.SealFor("jdoe", nil); err != nil {
					t.Error(err)
				}
				ids[i] = k.ID()
			})
		}
		group.Wait()
		for _, id := range ids {
			if id != ids[0] {
				t.Fatalf("several keys: %v", ids)
			}
		}
	}
}

func TestDamagedKeyFileIsRefusedAndKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	open(t, path)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(whole))
	tests := map[string]string{
		"empty":                "",
		"cut":                  string(whole[:len(whole)-9]),
		"cut to half a base64": string(whole[:len(whole)-5]) + "=\n",
		"another format":       strings.Replace(string(whole), "millrace-key-1", "millrace-key-2", 1),
		"another id":           strings.Replace(string(whole), fields[1], "0000000000000000", 1),
		"another key":          strings.Replace(string(whole), fields[2], strings.Repeat("A", 43)+"=", 1),
		"one word more":        string(whole) + "x",
	}
	for name, content := range tests {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := keyring.Open(path)
			if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "backup") {
				t.Errorf("error %v does not name the file and the remedy", err)
			}
			if after, _ := os.ReadFile(path); string(after) != content {
				t.Error("a damaged key file was overwritten")
			}
		})
	}
}

func TestKeyFileOpenToEverybodyIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	open(t, path)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := keyring.Open(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("error %v does not tell to run chmod", err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := keyring.Open(path); err != nil {
		t.Errorf("a key file that its group may read, as in a mounted secret: %v", err)
	}
}

func TestKeyWithoutItsSubjectsFolderIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	open(t, path)
	folder := path + ".subjects"
	for name, mistake := range map[string]func() error{
		"missing": func() error { return os.RemoveAll(folder) },
		"empty, as where a volume is not mounted": func() error {
			return errors.Join(os.RemoveAll(folder), os.Mkdir(folder, 0o700))
		},
		"of another installation": func() error {
			other := filepath.Join(t.TempDir(), "key")
			open(t, other)
			return errors.Join(os.RemoveAll(folder), os.CopyFS(folder, os.DirFS(other+".subjects")))
		},
	} {
		if err := mistake(); err != nil {
			t.Fatal(err)
		}
		if _, err := keyring.Open(path); err == nil || !strings.Contains(err.Error(), folder) {
			t.Errorf("%s: error %v does not name the folder", name, err)
		}
	}
}

func TestLostKeyFileIsNotReplacedWhileSubjectKeysAreSealedUnderIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if _, err := open(t, path).SealFor("jdoe", nil); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := keyring.Open(path); err == nil || !strings.Contains(err.Error(), "restore it from a backup") {
		t.Errorf("error %v does not tell to restore the key", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a new key was made")
	}
}

// A crash between the folder and the key file must not need an operator.
func TestFirstStartIsRepeatedAfterACrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	k := open(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if again := open(t, path); again.ID() == k.ID() {
		t.Error("the lost key came back")
	}
}

func TestSealedValueOpensForItsPurposeOnly(t *testing.T) {
	k := newKeyring(t)
	for _, text := range []string{"", "secret", strings.Repeat("x", 100_000)} {
		sealed := k.Seal("machine", []byte(text))
		if got, err := k.Open("machine", sealed); err != nil || string(got) != text {
			t.Errorf("%d bytes came back as %d, %v", len(text), len(got), err)
		}
		for _, purpose := range []string{"", "machine2", "user"} {
			if _, err := k.Open(purpose, sealed); !errors.Is(err, keyring.ErrDamaged) {
				t.Errorf("opened for %q: %v", purpose, err)
			}
		}
		if text != "" && bytes.Contains(sealed, []byte(text)) {
			t.Error("sealed value holds its plaintext")
		}
	}
	if bytes.Equal(k.Seal("p", []byte("a")), k.Seal("p", []byte("a"))) {
		t.Error("equal plaintexts give equal sealed values")
	}
}

func TestChangedOrCutSealedValueIsDamaged(t *testing.T) {
	k := newKeyring(t)
	subjectValue, err := k.SealFor("jdoe", []byte("Jane"))
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]struct {
		sealed []byte
		open   func([]byte) ([]byte, error)
	}{
		"installation": {k.Seal("p", []byte("Jane")), func(b []byte) ([]byte, error) { return k.Open("p", b) }},
		"subject":      {subjectValue, func(b []byte) ([]byte, error) { return k.OpenFor("jdoe", b) }},
	}
	for name, kind := range kinds {
		for n := range kind.sealed {
			if _, err := kind.open(kind.sealed[:n]); !errors.Is(err, keyring.ErrDamaged) {
				t.Errorf("%s: %d bytes of %d: %v", name, n, len(kind.sealed), err)
			}
			changed := bytes.Clone(kind.sealed)
			changed[n] ^= 1
			if got, err := kind.open(changed); err == nil {
				t.Errorf("%s: opened %q with byte %d changed", name, got, n)
			}
		}
		if _, err := kind.open(append(bytes.Clone(kind.sealed), 0)); !errors.Is(err, keyring.ErrDamaged) {
			t.Errorf("%s: one byte more: %v", name, err)
		}
	}
	if _, err := k.Open("jdoe", subjectValue); !errors.Is(err, keyring.ErrDamaged) {
		t.Errorf("a subject's value opened under the installation's key: %v", err)
	}
}

func TestValueOfAnotherInstallationIsNamedAsSuch(t *testing.T) {
	k, other := newKeyring(t), newKeyring(t)
	if _, err := other.Open("p", k.Seal("p", nil)); !errors.Is(err, keyring.ErrOtherKey) {
		t.Errorf("got %v", err)
	}
	sealed, err := k.SealFor("jdoe", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.OpenFor("jdoe", sealed); !errors.Is(err, keyring.ErrOtherKey) || errors.Is(err, keyring.ErrErased) {
		t.Errorf("got %v: another installation's value must not count as erased", err)
	}
}

func TestLookupAndDeriveSeparatePurposesAndInstallations(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	k, same, other := open(t, path), open(t, path), newKeyring(t)
	if k.Lookup("a", "s") != same.Lookup("a", "s") || k.Derive("a") != same.Derive("a") {
		t.Error("the same key gives different values")
	}
	seen := map[[32]byte]string{}
	for name, value := range map[string][32]byte{
		"lookup a s": k.Lookup("a", "s"), "lookup a t": k.Lookup("a", "t"), "lookup b s": k.Lookup("b", "s"),
		"lookup as": k.Lookup("as", ""), "derive a": k.Derive("a"), "derive b": k.Derive("b"), "derive": k.Derive(""),
		"other lookup": other.Lookup("a", "s"), "other derive": other.Derive("a"),
	} {
		if twin, found := seen[value]; found {
			t.Errorf("%s and %s are equal", name, twin)
		}
		seen[value] = name
	}
}

func TestKeyringDoesNotDiscloseItselfWhenPrinted(t *testing.T) {
	k := newKeyring(t)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(verb, k); got != "keyring "+k.ID() {
			t.Errorf("%s prints %q", verb, got)
		}
	}
}

func FuzzOpen(f *testing.F) {
	k := newKeyring(f)
	sealedFor, err := k.SealFor("jdoe", []byte("Jane"))
	if err != nil {
		f.Fatal(err)
	}
	sealed := k.Seal("jdoe", []byte("Jane"))
	f.Add(sealed)
	f.Add(sealedFor)
	f.Add(sealedFor[:20])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, value []byte) {
		got, err := k.Open("jdoe", value)
		if (err == nil) != bytes.Equal(value, sealed) {
			t.Errorf("Open of %x: %q, %v", value, got, err)
		}
		got, err = k.OpenFor("jdoe", value)
		if (err == nil) != bytes.Equal(value, sealedFor) {
			t.Errorf("OpenFor of %x: %q, %v", value, got, err)
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	k := newKeyring(b)
	b.ReportAllocs()
	for b.Loop() {
		k.Lookup("machine", "0123456789abcdef0123456789abcdef")
	}
}

func BenchmarkOpenForCached(b *testing.B) {
	k := newKeyring(b)
	sealed, err := k.SealFor("jdoe", []byte("jane@example.org"))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.OpenFor("jdoe", sealed); err != nil {
			b.Fatal(err)
		}
	}
}
