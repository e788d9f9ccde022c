package clickhouse

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// defaultRegistry is where packages come from unless npm's configuration names another place.
const defaultRegistry = "https://registry.npmjs.org"

// release is one platform's package of the engine, pinned by content.
type release struct {
	name      string // of the npm package
	version   string
	integrity string // SHA-512 of the tarball, standard base64
	member    string // of the library in the tarball
	size      int64  // of the library, bytes
	sha256    string // of the library, hexadecimal

	// Places in the library, from its start.
	entry        uintptr // the exported function chdb_query_cmdline
	errorHandler uintptr // the pointer Poco::ErrorHandler::_pHandler, see keepErrorHandler
}

// releases by GOOS/GOARCH. A platform without an entry needs a clickhouse binary or a server.
var releases = map[string]release{
	"linux/amd64": {
		name:      "@chdb/lib-linux-x64-gnu",
		version:   "26.7.3-stable.1",
		integrity: "XP97mMqnc5tZpKQywR8N7cLTsHNiTmHr30pC5mzo3jWmukjKn2IBa60c2B/gWUNcuFjOMjWoorQICCqBVj5wpw==",
		member:    "package/libchdb.so",
		size:      566330096,
		sha256:    "36ad4e999882821ef13cf2d0f52c93f48e6ee1b4498b35a201c23ce4b8d15bf5",

		entry:        0xf211700,
		errorHandler: 0x229677a8,
	},
}

func releaseHere() (release, error) {
	platform := runtime.GOOS + "/" + runtime.GOARCH
	pinned, ok := releases[platform]
	if !ok {
		return release{}, fmt.Errorf("there is no ClickHouse to download for %s", platform)
	}
	return pinned, nil
}

// DefaultCacheDir is $XDG_CACHE_HOME/millrace or ~/.cache/millrace.
func DefaultCacheDir() (string, error) {
	if dir := os.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "millrace"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the user's cache folder: %w", err)
	}
	return filepath.Join(home, ".cache", "millrace"), nil
}

// Fetch finds the engine: a `clickhouse` binary on PATH that is new enough, or the library, which it downloads into cacheDir
// when it is not there yet. The library is compared with the checksum in this program before it is used, and again when
// its file has changed. Progress goes to progress, as a bar when that is a terminal. Several processes may fetch into one
// folder at once: one downloads, the others wait for it.
func Fetch(ctx context.Context, cacheDir string, progress io.Writer) (Program, error) {
	if binary, err := exec.LookPath("clickhouse"); err == nil {
		if err = checkVersion(ctx, binary); err == nil {
			return Program{Binary: binary}, nil
		}
		fmt.Fprintf(progress, "millrace: passing over %s: %v\n", binary, err)
	}
	pinned, err := releaseHere()
	if err != nil {
		return Program{}, remedy(err)
	}
	f := fetcher{release: pinned, dir: filepath.Join(cacheDir, "clickhouse", pinned.version+"-"+pinned.sha256[:12]), progress: progress}
	path, err := f.library(ctx)
	if err != nil {
		return Program{}, remedy(fmt.Errorf("fetch ClickHouse (%s %s): %w", pinned.name, pinned.version, err))
	}
	return Program{Library: path}, nil
}

// oldest is the first version of a user's own binary that is taken, year and month.
var oldest = [2]int{25, 3}

var versionPattern = regexp.MustCompile(`(\d+)\.(\d+)\.\d+`)

func checkVersion(ctx context.Context, binary string) error {
	out, err := exec.CommandContext(ctx, binary, "--version").Output()
	if err != nil {
		return fmt.Errorf("ask for its version: %w", err)
	}
	found := versionPattern.FindSubmatch(out)
	if found == nil {
		return fmt.Errorf("its version is not to be found in %q", strings.TrimSpace(string(out)))
	}
	year, _ := strconv.Atoi(string(found[1])) // digits; too many give a number too large, which is new enough
	month, _ := strconv.Atoi(string(found[2]))
	if slices.Compare([]int{year, month}, oldest[:]) < 0 {
		return fmt.Errorf("it is version %s, and %d.%d or later is needed", found[0], oldest[0], oldest[1])
	}
	return nil
}

func remedy(err error) error {
	return fmt.Errorf("%w; alternatives: set MILLRACE_CLICKHOUSE to the address of a ClickHouse server, or place a clickhouse binary on PATH", err)
}

// fetcher brings one release into its own folder.
type fetcher struct {
	release  release
	dir      string
	progress io.Writer
	registry string // empty: as npm is configured
}

func (f fetcher) libraryPath() string { return filepath.Join(f.dir, filepath.Base(f.release.member)) }

// tarballPath is where the download grows. A file put there by hand is taken when it is the right one.
func (f fetcher) tarballPath() string { return filepath.Join(f.dir, "package.tgz") }

func (f fetcher) library(ctx context.Context) (string, error) {
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return "", err
	}
	unlock, err := f.lock(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	err = f.verifyLibrary()
	if err == nil {
		return f.libraryPath(), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(f.progress, "millrace: %v; fetching it again\n", err)
	}
	if err := f.download(ctx); err != nil {
		return "", fmt.Errorf("%w (to fetch it by hand, save the package as %s)", err, f.tarballPath())
	}
	if err := f.extract(); err != nil {
		return "", err
	}
	return f.libraryPath(), os.Remove(f.tarballPath())
}

// lock keeps other processes out of the folder until the returned function is called.
func (f fetcher) lock(ctx context.Context) (unlock func(), err error) {
	file, err := os.OpenFile(filepath.Join(f.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := f.awaitLock(ctx, file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() { _ = file.Close() }, nil // closing is what unlocks
}

// awaitLock tries until it has the lock: waiting in the kernel could not be ended.
func (f fetcher) awaitLock(ctx context.Context, file *os.File) error {
	const retry = 100 * time.Millisecond
	for waited := false; ; waited = true {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		if !waited {
			fmt.Fprintln(f.progress, "millrace: waiting for another process that fetches ClickHouse")
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the process that fetches it: %w", ctx.Err())
		case <-time.After(retry):
		}
	}
}

// verifyLibrary compares the library with its checksum, which takes up to a second, when it is not the file that passed
// before.
func (f fetcher) verifyLibrary() error {
	file, err := os.Open(f.libraryPath())
	if err != nil {
		return err
	}
	defer file.Close()
	passed, err := f.stamp(file)
	if err != nil {
		return err
	}
	note := filepath.Join(f.dir, "verified")
	if before, err := os.ReadFile(note); err == nil && string(before) == passed {
		return nil
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return err
	}
	if err := f.checkLibrary(sum); err != nil {
		return err
	}
	return writePrivate(note, passed)
}

// stamp changes with every write to the file, and with the release.
func (f fetcher) stamp(file *os.File) (string, error) {
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", fmt.Errorf("stat %s: no inode", file.Name())
	}
	return fmt.Sprintln(f.release.sha256, stat.Ino, info.Size(), info.ModTime().UnixNano()), nil
}

func (f fetcher) checkLibrary(sum hash.Hash) error {
	if got := hex.EncodeToString(sum.Sum(nil)); got != f.release.sha256 {
		return fmt.Errorf("%s has SHA-256 %s instead of %s", f.libraryPath(), got, f.release.sha256)
	}
	return nil
}

// download completes the tarball and checks it. What an earlier attempt left is continued.
func (f fetcher) download(ctx context.Context) error {
	file, err := os.OpenFile(f.tarballPath(), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	sum := sha512.New()
	have, err := io.Copy(sum, file)
	if err != nil {
		return err
	}
	if have > 0 && f.isTarball(sum) {
		return nil
	}
	source, err := f.source(ctx)
	if err != nil {
		return err
	}
	for ; ; have = 0 {
		if err := f.receive(ctx, source, file, sum, have); err != nil {
			return err
		}
		if f.isTarball(sum) {
			return file.Sync()
		}
		if have == 0 {
			return errors.Join(fmt.Errorf("what comes from %s is not the pinned package: its SHA-512 is %s", source, encoded(sum)),
				os.Remove(f.tarballPath()))
		} // else what was there already may be to blame
	}
}

func encoded(sum hash.Hash) string { return base64.StdEncoding.EncodeToString(sum.Sum(nil)) }

func (f fetcher) isTarball(sum hash.Hash) bool { return encoded(sum) == f.release.integrity }

// receive appends the rest of source to file, or begins anew when the server does not send a part.
func (f fetcher) receive(ctx context.Context, source string, file *os.File, sum hash.Hash, have int64) error {
	resp, err := get(ctx, source, have)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusPartialContent {
		have = 0
		sum.Reset()
		if err := file.Truncate(0); err != nil {
			return err
		}
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	bar := newProgress(f.progress, have, have+resp.ContentLength)
	_, err = io.Copy(io.MultiWriter(file, sum, bar), resp.Body)
	bar.finish()
	if err != nil {
		return fmt.Errorf("download %s (a new attempt continues where this one ended): %w", source, err)
	}
	return nil
}

// get asks for source from the byte from on.
func get(ctx context.Context, source string, from int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, source, nil)
	if err != nil {
		return nil, err
	}
	if from > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		resp.Body.Close()
		return get(ctx, source, 0)
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		resp.Body.Close()
		return nil, fmt.Errorf("get %s: %s", source, resp.Status)
	}
	return resp, nil
}

// source asks the registry where the package's tarball is.
func (f fetcher) source(ctx context.Context) (string, error) {
	registry := f.registry
	if registry == "" {
		registry = configuredRegistry(ctx, f.release.name)
	}
	resp, err := get(ctx, strings.TrimSuffix(registry, "/")+"/"+url.PathEscape(f.release.name)+"/"+f.release.version, 0)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var manifest struct {
		Dist struct {
			Tarball string `json:"tarball"`
		} `json:"dist"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&manifest); err != nil {
		return "", fmt.Errorf("read what %s says about %s: %w", registry, f.release.name, err)
	}
	if manifest.Dist.Tarball == "" {
		return "", fmt.Errorf("%s names no tarball for %s %s", registry, f.release.name, f.release.version)
	}
	return manifest.Dist.Tarball, nil
}

// configuredRegistry is the registry that npm would take for the package, by its environment or by its own word.
func configuredRegistry(ctx context.Context, name string) string {
	for _, variable := range []string{"npm_config_registry", "NPM_CONFIG_REGISTRY"} {
		if set := os.Getenv(variable); isWebAddress(set) {
			return set
		}
	}
	scope, _, _ := strings.Cut(name, "/")
	for _, key := range []string{scope + ":registry", "registry"} {
		out, err := exec.CommandContext(ctx, "npm", "config", "get", key).Output()
		if set := strings.TrimSpace(string(out)); err == nil && isWebAddress(set) {
			return set
		}
	}
	return defaultRegistry
}

func isWebAddress(text string) bool {
	return strings.HasPrefix(text, "https://") || strings.HasPrefix(text, "http://")
}
