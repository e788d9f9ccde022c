package blob_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	gocloud "gocloud.dev/blob"

	"github.com/millrace/millrace/schemas/blob"
)

func open(t testing.TB, address string) *blob.Store {
	t.Helper()
	s, err := blob.Open(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// forEachStore runs one check against every kind of store.
func forEachStore(t *testing.T, check func(t *testing.T, s *blob.Store)) {
	t.Run("file", func(t *testing.T) { check(t, open(t, "file://"+t.TempDir())) })
	t.Run("mem", func(t *testing.T) { check(t, open(t, "mem://")) })
	t.Run("s3", func(t *testing.T) { check(t, open(t, startS3(t))) })
}

func put(t testing.TB, s *blob.Store, content string) blob.Ref {
	t.Helper()
	ref, err := s.PutBytes(t.Context(), []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func wantContent(t *testing.T, s *blob.Store, ref blob.Ref, want string) {
	t.Helper()
	got, err := s.ReadAll(t.Context(), ref, int64(len(want)))
	if err != nil || string(got) != want {
		t.Errorf("read %d bytes, %v; want %d bytes", len(got), err, len(want))
	}
}

func pathOf(root string, ref blob.Ref) string {
	name := ref.String()
	return filepath.Join(root, name[:2], name[2:4], name)
}

// files lists all files below a folder.
func files(t *testing.T, root string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestContentComesBackUnderItsHash(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *blob.Store) {
		for _, content := range []string{"", "hello", strings.Repeat("0123456789", 30_000)} {
			ref, err := s.Put(t.Context(), iotest.HalfReader(strings.NewReader(content)), int64(len(content)))
			if err != nil {
				t.Fatal(err)
			}
			if ref != blob.RefOf([]byte(content)) {
				t.Errorf("%d bytes are named %v of %d bytes", len(content), ref, ref.Size)
			}
			wantContent(t, s, ref, content)
			if has, err := s.Has(t.Context(), ref); err != nil || !has {
				t.Errorf("Has of %d stored bytes: %v, %v", len(content), has, err)
			}
		}
	})
}

func TestUnknownBlobIsNotFound(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *blob.Store) {
		ref := blob.RefOf([]byte("never stored"))
		if _, err := s.Get(t.Context(), ref); !errors.Is(err, blob.ErrNotFound) || !strings.Contains(err.Error(), ref.String()) {
			t.Errorf("Get: %v", err)
		}
		if _, err := s.ReadAll(t.Context(), ref, 100); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("ReadAll: %v", err)
		}
		for _, offset := range []int64{0, 3, ref.Size} {
			if _, err := s.GetPart(t.Context(), ref, offset, ref.Size-offset); !errors.Is(err, blob.ErrNotFound) {
				t.Errorf("GetPart from %d: %v", offset, err)
			}
		}
		if has, err := s.Has(t.Context(), ref); has || err != nil {
			t.Errorf("Has: %v, %v", has, err)
		}
	})
}

func TestTooLargeContentIsRefusedAndLeavesNothing(t *testing.T) {
	root := t.TempDir()
	forEachStore(t, func(t *testing.T, s *blob.Store) {
		content := strings.Repeat("x", 100)
		for _, limit := range []int64{0, 1, 99} {
			_, err := s.Put(t.Context(), strings.NewReader(content), limit)
			var tooLarge blob.TooLargeError
			if !errors.As(err, &tooLarge) || tooLarge.Limit != limit {
				t.Errorf("limit %d: %v", limit, err)
			}
			if has, err := s.Has(t.Context(), blob.RefOf([]byte(content[:limit+1]))); has || err != nil {
				t.Errorf("limit %d left its beginning: %v, %v", limit, has, err)
			}
		}
	})
	if _, err := open(t, "file://"+root).Put(t.Context(), strings.NewReader("xx"), 1); err == nil {
		t.Error("accepted")
	}
	if left := files(t, root); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

func TestLargestLimitIsNoLimit(t *testing.T) {
	ref, err := open(t, "mem://").Put(t.Context(), strings.NewReader("text"), 1<<63-1)
	if err != nil || ref.Size != 4 {
		t.Errorf("stored %d bytes, %v", ref.Size, err)
	}
}

func TestReadAllIsLimited(t *testing.T) {
	s := open(t, "mem://")
	ref := put(t, s, "hello")
	_, err := s.ReadAll(t.Context(), ref, 4)
	var tooLarge blob.TooLargeError
	if !errors.As(err, &tooLarge) || tooLarge.Limit != 4 {
		t.Errorf("got %v", err)
	}
}

func TestFailedReadOrEndedContextLeavesNothing(t *testing.T) {
	root, broken := t.TempDir(), errors.New("connection lost")
	s := open(t, "file://"+root)
	if _, err := s.Put(t.Context(), io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken)), 100); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Put(ctx, strings.NewReader("text"), 100); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if left := files(t, root); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

func TestRangesContinueADownload(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *blob.Store) {
		const content = "0123456789"
		ref := put(t, s, content)
		for _, test := range []struct {
			offset, length int64
			want           string
		}{{0, 10, content}, {0, 3, "012"}, {4, 6, "456789"}, {4, 2, "45"}, {9, 1, "9"}, {10, 0, ""}, {3, 0, ""}} {
			r, err := s.GetPart(t.Context(), ref, test.offset, test.length)
			if err != nil {
				t.Errorf("from %d, %d bytes: %v", test.offset, test.length, err)
				continue
			}
			got, err := io.ReadAll(r)
			if err = errors.Join(err, r.Close()); err != nil || string(got) != test.want {
				t.Errorf("from %d, %d bytes: %q, %v; want %q", test.offset, test.length, got, err, test.want)
			}
		}
		for _, bad := range [][2]int64{{-1, 1}, {11, 0}, {0, 11}, {9, 2}, {0, -1}, {1, 1<<63 - 1}} {
			if _, err := s.GetPart(t.Context(), ref, bad[0], bad[1]); err == nil {
				t.Errorf("%d bytes from %d were accepted", bad[1], bad[0])
			}
		}
	})
}

func TestLastBytesOfADamagedFileAreNeverGivenOut(t *testing.T) {
	const content = "0123456789"
	for _, part := range [][2]int64{{0, 10}, {0, 3}, {4, 6}, {4, 1}} {
		t.Run(fmt.Sprint(part), func(t *testing.T) {
			root := t.TempDir()
			s := open(t, "file://"+root)
			ref := put(t, s, content)
			if err := os.WriteFile(pathOf(root, ref), []byte("01234x6789"), 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := s.GetPart(t.Context(), ref, part[0], part[1])
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			got, err := io.ReadAll(iotest.OneByteReader(r))
			if !errors.Is(err, blob.ErrCorrupt) || int64(len(got)) >= part[1] {
				t.Errorf("%d bytes came, %v; want fewer than %d and an error", len(got), err, part[1])
			}
		})
	}
}

func TestDamagedFileIsCorruptUntilItIsPutAgain(t *testing.T) {
	const content = "the content that was stored"
	for name, damage := range map[string]func(string) error{
		"truncated": func(path string) error { return os.Truncate(path, 5) },
		"empty":     func(path string) error { return os.Truncate(path, 0) },
		"longer":    func(path string) error { return os.WriteFile(path, []byte(content+"!"), 0o600) },
		"changed":   func(path string) error { return os.WriteFile(path, []byte(strings.ToUpper(content)), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			s := open(t, "file://"+root)
			ref := put(t, s, content)
			if err := damage(pathOf(root, ref)); err != nil {
				t.Fatal(err)
			}
			if got, err := s.ReadAll(t.Context(), ref, 100); !errors.Is(err, blob.ErrCorrupt) || got != nil {
				t.Errorf("ReadAll: %q, %v", got, err)
			}
			if err := readThrough(t.Context(), s, ref); !errors.Is(err, blob.ErrCorrupt) {
				t.Errorf("Get: %v", err)
			}
			if _, err := s.Has(t.Context(), ref); name != "changed" && !errors.Is(err, blob.ErrCorrupt) {
				t.Errorf("Has: %v", err)
			}
			put(t, s, content)
			wantContent(t, s, ref, content)
		})
	}
}

func readThrough(ctx context.Context, s *blob.Store, ref blob.Ref) error {
	r, err := s.Get(ctx, ref)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return errors.Join(err, r.Close())
}

func TestConcurrentPutsOfTheSameContent(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *blob.Store) {
		content := bytes.Repeat([]byte("same"), 10_000)
		var group sync.WaitGroup
		for range 16 {
			group.Go(func() {
				ref, err := s.Put(t.Context(), bytes.NewReader(content), 1<<20)
				if err != nil {
					t.Error(err)
					return
				}
				wantContent(t, s, ref, string(content))
			})
		}
		group.Wait()
	})
}

func TestFolderIsWhatGocloudReads(t *testing.T) {
	root := t.TempDir()
	ref := put(t, open(t, "file://"+root), "hello")
	bucket, err := gocloud.OpenBucket(t.Context(), "file://"+root)
	if err != nil {
		t.Fatal(err)
	}
	defer bucket.Close()
	name := ref.String()
	got, err := bucket.ReadAll(t.Context(), name[:2]+"/"+name[2:4]+"/"+name)
	if err != nil || string(got) != "hello" {
		t.Errorf("gocloud reads %q, %v", got, err)
	}
	if found := files(t, root); len(found) != 1 {
		t.Errorf("the folder holds %v", found)
	}
}

func TestFileAddresses(t *testing.T) {
	t.Chdir(t.TempDir())
	ref := put(t, open(t, "file://./deep/blobs"), "hello")
	if _, err := os.Stat(pathOf("deep/blobs", ref)); err != nil {
		t.Error(err)
	}
	for address, want := range map[string]string{
		"file://data/blobs":         "file:///data/blobs",
		"file://":                   "names no folder",
		"file:///tmp/x?prefix=a":    "put it into the path",
		"ftp://example.org/":        "known are file://",
		"/var/lib/blobs":            "known are file://",
		"%":                         "open blob store",
		"file://./deep?unknown=yes": "unknown",
	} {
		if _, err := blob.Open(t.Context(), address); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v does not say %q", address, err, want)
		}
	}
}

func TestReferenceOfAnEventIsChecked(t *testing.T) {
	want := blob.RefOf([]byte("hello"))
	if got, err := blob.NewRef(want.SHA256[:], 5); err != nil || got != want {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []struct {
		sum  []byte
		size int64
	}{{nil, 5}, {make([]byte, 31), 5}, {make([]byte, 33), 5}, {make([]byte, 32), -1}} {
		if _, err := blob.NewRef(bad.sum, bad.size); err == nil {
			t.Errorf("%d hash bytes and size %d were accepted", len(bad.sum), bad.size)
		}
	}
	if got := want.String(); got != "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" {
		t.Errorf("hello is named %s", got)
	}
}

// referencing knows the given blobs and no others.
func referencing(refs ...blob.Ref) blob.Referenced {
	return func(_ context.Context, sum [32]byte) (bool, error) {
		for _, ref := range refs {
			if ref.SHA256 == sum {
				return true, nil
			}
		}
		return false, nil
	}
}

func TestCollectRemovesOldUnreferencedBlobsOnly(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *blob.Store) {
		var kept, lost []blob.Ref
		for i := range 50 {
			kept = append(kept, put(t, s, fmt.Sprint("kept ", i)))
			lost = append(lost, put(t, s, fmt.Sprint("lost ", i)))
		}
		if got, err := s.Collect(t.Context(), time.Now().Add(-time.Hour), referencing()); err != nil || got != (blob.Collected{}) {
			t.Errorf("collected %+v, %v from blobs of this moment", got, err)
		}
		got, err := s.Collect(t.Context(), time.Now().Add(time.Hour), referencing(kept...))
		if want := (blob.Collected{Blobs: 50, Bytes: 50*6 + 40}); err != nil || got != want {
			t.Errorf("collected %+v, %v; want %+v", got, err, want)
		}
		for i := range kept {
			if has, err := s.Has(t.Context(), kept[i]); err != nil || !has {
				t.Errorf("a referenced blob is gone: %v", err)
			}
			if has, err := s.Has(t.Context(), lost[i]); err != nil || has {
				t.Errorf("an unreferenced blob stayed: %v", err)
			}
		}
	})
}

func TestCollectKeepsWhatCannotBeJudged(t *testing.T) {
	s, broken := open(t, "mem://"), errors.New("database away")
	ref := put(t, s, "text")
	_, err := s.Collect(t.Context(), time.Now().Add(time.Hour), func(context.Context, [32]byte) (bool, error) { return false, broken })
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), ref.String()) {
		t.Errorf("got %v", err)
	}
	wantContent(t, s, ref, "text")
}

func TestContentPutAgainIsYoungAgain(t *testing.T) {
	root := t.TempDir()
	s := open(t, "file://"+root)
	ref := put(t, s, "text")
	old := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(pathOf(root, ref), old, old); err != nil {
		t.Fatal(err)
	}
	// The upload that stored it failed; the client repeats it while the collection runs.
	got, err := s.Collect(t.Context(), time.Now().Add(-24*time.Hour), func(context.Context, [32]byte) (bool, error) {
		put(t, s, "text")
		return false, nil
	})
	if err != nil || got.Blobs != 0 {
		t.Errorf("collected %+v, %v", got, err)
	}
	wantContent(t, s, ref, "text")
}

func TestLeftoversOfACrashAreNoBlobsAndAreCollected(t *testing.T) {
	root := t.TempDir()
	s := open(t, "file://"+root)
	ref := put(t, s, "stored")
	// What a process leaves that is killed between writing and renaming, and one that is writing now.
	crashed, writing := filepath.Join(root, "tmp", "put-1"), filepath.Join(root, "tmp", "put-2")
	stranger := filepath.Join(root, "00", "notes.txt")
	if err := os.MkdirAll(filepath.Dir(stranger), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{crashed, writing, stranger} {
		if err := os.WriteFile(path, []byte("half a blo"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-48 * time.Hour)
	for _, path := range []string{crashed, stranger} {
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	if has, err := s.Has(t.Context(), blob.RefOf([]byte("half a blob"))); has || err != nil {
		t.Errorf("a blob that was never finished is there: %v", err)
	}
	again := open(t, "file://"+root)
	if _, err := again.Collect(t.Context(), time.Now().Add(-24*time.Hour), referencing(ref)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{crashed: false, writing: true, stranger: true, pathOf(root, ref): true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", path, err == nil, want)
		}
	}
}
