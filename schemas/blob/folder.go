package blob

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/schemas/internal/durable"
)

// tempFolder holds content whose hash is not known yet, on the same file system as the blobs. No blob's key begins with it.
const tempFolder = "tmp"

// folder writes blobs where gocloud's fileblob reads them. fileblob itself never syncs.
type folder struct {
	root string
	// prepared holds the key prefixes (ab/cd) whose folders this process has made or found, and synced: a folder that is
	// merely there may have been made by a process that was killed before it could sync.
	prepared sync.Map
}

// openFolder creates the folder of a file:// URL. Path rules are fileblob's: only the host "." means a relative path.
func openFolder(u *url.URL) (*folder, error) {
	path := u.Path
	switch u.Host {
	case "", "localhost":
	case ".":
		path = strings.TrimPrefix(path, "/")
	default:
		return nil, fmt.Errorf("%[1]q stands where a host would: write file:///%[1]s%[2]s for an absolute path or file://./%[1]s%[2]s for a relative one", u.Host, u.Path)
	}
	if path == "" {
		return nil, errors.New("it names no folder")
	}
	if query := u.Query(); query.Has("prefix") || query.Has("key") {
		return nil, errors.New("a folder takes no prefix or key: put it into the path")
	}
	root, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	return &folder{root: root}, durable.MkdirAll(filepath.Join(root, tempFolder))
}

func (f *folder) createTemp() (*os.File, error) {
	return os.CreateTemp(filepath.Join(f.root, tempFolder), "put-*")
}

// publish makes a temporary file the blob of that name: content first, then the name, each synced. On an error the
// temporary file may still be there.
func (f *folder) publish(temp *os.File, ref Ref) error {
	if err := temp.Sync(); err != nil {
		return err
	}
	to := filepath.Join(f.root, filepath.FromSlash(ref.key()))
	if err := f.prepare(filepath.Dir(to)); err != nil {
		return err
	}
	// A new modification time tells Collect that this content is in use again.
	return durable.Rename(temp.Name(), to)
}

// prepare makes the folder ROOT/ab/cd and the two names that lead to it durable, once.
func (f *folder) prepare(leaf string) error {
	if _, done := f.prepared.Load(leaf); done {
		return nil
	}
	if err := os.MkdirAll(leaf, 0o700); err != nil {
		return err
	}
	if err := errors.Join(durable.SyncFolder(filepath.Dir(leaf)), durable.SyncFolder(f.root)); err != nil {
		return err
	}
	f.prepared.Store(leaf, struct{}{})
	return nil
}

// removeTemps deletes what crashed processes left behind: temporary files not written to since the given time.
func (f *folder) removeTemps(before time.Time) error {
	temps := filepath.Join(f.root, tempFolder)
	entries, err := os.ReadDir(temps)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.ModTime().Before(before) {
			continue
		}
		if err == nil {
			err = os.Remove(filepath.Join(temps, entry.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
