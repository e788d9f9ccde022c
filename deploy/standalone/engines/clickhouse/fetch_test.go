package clickhouse

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// registry serves one package as an npm registry does.
type registry struct {
	*httptest.Server
	release   release
	library   []byte
	tarball   []byte
	downloads atomic.Int32
	mu        sync.Mutex
	ranges    []string // of the downloads, in order
	noRanges  bool     // the server always sends everything
	cutAt     int      // the first download breaks off there, if not 0
}

func newRegistry(t *testing.T) *registry {
	t.Helper()
	r := &registry{library: randomBytes(200_000)}
	r.tarball = pack(t, map[string][]byte{"package/package.json": []byte("{}"), "package/libchdb.so": r.library})
	digest, sum := sha256.Sum256(r.library), sha512.Sum512(r.tarball)
	r.release = release{
		name: "@scope/lib", version: "1.2.3", member: "package/libchdb.so", size: int64(len(r.library)),
		integrity: base64.StdEncoding.EncodeToString(sum[:]), sha256: hex.EncodeToString(digest[:]),
	}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Int())
	}
	return b
}

func pack(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	archive := tar.NewWriter(zip)
	for name, content := range files {
		if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

func (r *registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	switch req.URL.EscapedPath() {
	case "/@scope%2Flib/1.2.3":
		fmt.Fprintf(w, `{"name": "@scope/lib", "dist": {"tarball": %q}}`, r.URL+"/files/lib.tgz")
	case "/files/lib.tgz":
		r.mu.Lock()
		r.ranges = append(r.ranges, req.Header.Get("Range"))
		r.mu.Unlock()
		if r.downloads.Add(1) == 1 && r.cutAt > 0 {
			w.Header().Set("Content-Length", fmt.Sprint(len(r.tarball)))
			_, _ = w.Write(r.tarball[:r.cutAt])
			return // the server cuts the connection: the body is short
		}
		if r.noRanges {
			_, _ = w.Write(r.tarball)
			return
		}
		http.ServeContent(w, req, "lib.tgz", time.Time{}, bytes.NewReader(r.tarball))
	default:
		http.NotFound(w, req)
	}
}

func (r *registry) fetcher(dir string) fetcher {
	return fetcher{release: r.release, dir: dir, progress: io.Discard, registry: r.URL}
}

func (r *registry) checkInstalled(t *testing.T, dir string) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(dir, "libchdb.so"))
	if err != nil || !bytes.Equal(got, r.library) {
		t.Errorf("the installed library has %d bytes (%v), want the package's %d", len(got), err, len(r.library))
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if !slices.Contains([]string{"libchdb.so", "lock", "verified"}, entry.Name()) {
			t.Errorf("%s stays behind in the cache folder", entry.Name())
		}
	}
}

func TestFetchInstallsTheVerifiedLibraryAndShowsProgress(t *testing.T) {
	r, dir := newRegistry(t), t.TempDir()
	f := r.fetcher(dir)
	var progress bytes.Buffer
	f.progress = &progress
	path, err := f.library(t.Context())
	if err != nil || path != filepath.Join(dir, "libchdb.so") {
		t.Fatalf("library() = %q, %v", path, err)
	}
	r.checkInstalled(t, dir)
	if !strings.Contains(progress.String(), "downloading ClickHouse: 0 of 0 MB") {
		t.Errorf("progress says %q, want how many megabytes of how many", progress.String())
	}
	if _, err := f.library(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := r.downloads.Load(); n != 1 {
		t.Errorf("%d downloads for two calls, want 1", n)
	}
}

func TestFetchRefusesAnotherPackage(t *testing.T) {
	r, dir := newRegistry(t), t.TempDir()
	r.tarball = pack(t, map[string][]byte{"package/libchdb.so": []byte("something else")})
	for range 2 { // what was refused does not help the next attempt
		_, err := r.fetcher(dir).library(t.Context())
		if err == nil || !strings.Contains(err.Error(), "not the pinned package") {
			t.Errorf("fetching a package with another checksum: %v, want a refusal", err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "libchdb.so")); err == nil {
		t.Error("its library was installed")
	}
	if n := r.downloads.Load(); n != 2 {
		t.Errorf("%d downloads, want 2", n)
	}
}

func TestCorruptLibraryIsRefusedAndFetchedAgain(t *testing.T) {
	r, dir := newRegistry(t), t.TempDir()
	path, err := r.fetcher(dir).library(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.fetcher(dir).library(t.Context()); err != nil { // it has passed once more, and that is noted
		t.Fatal(err)
	}
	damaged := bytes.Clone(r.library)
	damaged[1000] ^= 1
	if err := os.WriteFile(path, damaged, 0o755); err != nil {
		t.Fatal(err)
	}
	var progress bytes.Buffer
	f := r.fetcher(dir)
	f.progress = &progress
	if _, err := f.library(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.checkInstalled(t, dir)
	if !strings.Contains(progress.String(), "fetching it again") || r.downloads.Load() != 2 {
		t.Errorf("%d downloads, progress %q; want 2 and the reason", r.downloads.Load(), progress.String())
	}
}

func TestDownloadThatBrokeOffIsContinued(t *testing.T) {
	for name, tc := range map[string]struct {
		noRanges bool
		want     []string
	}{
		"where it ended":                        {false, []string{"", "bytes=50000-"}},
		"from the start without part transfers": {true, []string{"", "bytes=50000-"}},
	} {
		t.Run(name, func(t *testing.T) {
			r, dir := newRegistry(t), t.TempDir()
			r.cutAt, r.noRanges = 50_000, tc.noRanges
			_, err := r.fetcher(dir).library(t.Context())
			if err == nil || !strings.Contains(err.Error(), "continues") {
				t.Fatalf("a download that breaks off: %v, want an error that says a new attempt continues", err)
			}
			if _, err := r.fetcher(dir).library(t.Context()); err != nil {
				t.Fatal(err)
			}
			r.checkInstalled(t, dir)
			if strings.Join(r.ranges, " ") != strings.Join(tc.want, " ") {
				t.Errorf("ranges asked for: %q, want %q", r.ranges, tc.want)
			}
		})
	}
}

func TestPartThatIsNotOfThePackageIsReplaced(t *testing.T) {
	for name, size := range map[string]int{"shorter": 1000, "longer": 300_000} {
		t.Run(name, func(t *testing.T) {
			r, dir := newRegistry(t), t.TempDir()
			if err := os.WriteFile(r.fetcher(dir).tarballPath(), randomBytes(size), 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := r.fetcher(dir).library(t.Context()); err != nil {
				t.Fatal(err)
			}
			r.checkInstalled(t, dir)
		})
	}
}

func TestTarballPlacedByHandIsTaken(t *testing.T) {
	r, dir := newRegistry(t), t.TempDir()
	if err := os.WriteFile(r.fetcher(dir).tarballPath(), r.tarball, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := r.fetcher(dir).library(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.checkInstalled(t, dir)
	if n := r.downloads.Load(); n != 0 {
		t.Errorf("%d downloads, want none", n)
	}
}

func TestConcurrentFetchesDownloadOnce(t *testing.T) {
	r, dir := newRegistry(t), t.TempDir()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, err := r.fetcher(dir).library(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	r.checkInstalled(t, dir)
	if n := r.downloads.Load(); n != 1 {
		t.Errorf("%d downloads, want 1", n)
	}
}

func TestFetchEndsWithItsContext(t *testing.T) {
	r, dir := newRegistry(t), t.TempDir()
	unlock, err := r.fetcher(dir).lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := r.fetcher(dir).library(ctx); err == nil || !strings.Contains(err.Error(), "wait for the process that fetches it") {
		t.Errorf("fetching while another process does: %v, want the end of the context", err)
	}
}

func TestFailedFetchSaysWhatToDo(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	t.Setenv("npm_config_registry", closed.URL)
	_, err := Fetch(t.Context(), t.TempDir(), io.Discard)
	if err == nil {
		t.Fatal("a fetch from a closed port succeeds")
	}
	for _, want := range []string{closed.URL, "MILLRACE_CLICKHOUSE", "on PATH", "package.tgz"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not mention %s: %v", want, err)
		}
	}
}

func TestBinaryOnPathIsTakenWhenItIsNewEnough(t *testing.T) {
	for version, want := range map[string]bool{
		"ClickHouse local version 26.3.1.10 (official build).": true,
		"ClickHouse client version 25.3.2.39.":                 true,
		"ClickHouse client version 24.12.1.1.":                 false,
		"usage: clickhouse":                                    false,
	} {
		dir := t.TempDir()
		binary := filepath.Join(dir, "clickhouse")
		if err := os.WriteFile(binary, []byte("#!/bin/sh\necho '"+version+"'\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", dir)
		t.Setenv("npm_config_registry", "http://127.0.0.1:1")
		program, err := Fetch(t.Context(), t.TempDir(), io.Discard)
		if taken := err == nil && program.Binary == binary; taken != want {
			t.Errorf("binary that says %q is taken: %t (%v), want %t", version, taken, err, want)
		}
	}
}

func TestCacheDirIsTheUsers(t *testing.T) {
	t.Setenv("HOME", "/home/u")
	for set, want := range map[string]string{"": "/home/u/.cache/millrace", "relative": "/home/u/.cache/millrace", "/c": "/c/millrace"} {
		t.Setenv("XDG_CACHE_HOME", set)
		if got, err := DefaultCacheDir(); err != nil || got != want {
			t.Errorf("with XDG_CACHE_HOME=%q: %q, %v; want %q", set, got, err, want)
		}
	}
}
