package pgbench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// scratch is the folder in which everything of a run lives. Its path is the same for every run of a user: the server's
// settings contain it, and a path of its own for each run would make each run's settings different.
type scratch struct {
	path string
	lock *os.File // the folder itself, locked while the run has it
}

const (
	dataFolder   = "data"   // the server's
	socketFolder = "socket" // its Unix socket
	workFolder   = "work"   // where pgbench writes its logs
)

// openScratch makes the folder, or takes over what a killed run left of it, and hands its parts to the account.
func openScratch(owner *account) (*scratch, error) {
	path := filepath.Join(scratchParent(), "millrace-pgbench-"+strconv.Itoa(os.Geteuid()))
	s := &scratch{path: path}
	if err := s.checkSocketLength(); err != nil {
		return nil, err
	}
	if err := s.acquire(); err != nil {
		return nil, fmt.Errorf("scratch folder %s: %w", path, err)
	}
	if err := s.fill(owner); err != nil {
		return nil, errors.Join(fmt.Errorf("scratch folder %s: %w", path, err), s.remove())
	}
	return s, nil
}

// scratchParent prefers /var/tmp to /tmp, which is often kept in memory, where a commit costs nothing.
func scratchParent() string {
	if os.Getenv("TMPDIR") != "" {
		return os.TempDir()
	}
	if info, err := os.Stat("/var/tmp"); err == nil && info.IsDir() {
		return "/var/tmp"
	}
	return os.TempDir()
}

// checkSocketLength: the address of a Unix socket is at most 107 bytes long.
func (s *scratch) checkSocketLength() error {
	socket := filepath.Join(s.folder(socketFolder), ".s.PGSQL."+port)
	if len(socket) > 107 {
		return fmt.Errorf("the server's socket %s would have a name of %d bytes, 107 are possible: set TMPDIR to a shorter path",
			socket, len(socket))
	}
	return nil
}

// acquire opens and locks the folder. Somebody may remove it between the two, then it begins again.
func (s *scratch) acquire() error {
	for {
		if err := os.Mkdir(s.path, 0o711); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		file, err := os.OpenFile(s.path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_DIRECTORY, 0)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		current, err := lockOwn(file)
		if err == nil && current {
			s.lock = file
			return nil
		}
		if closeErr := file.Close(); err != nil || closeErr != nil {
			return errors.Join(err, closeErr)
		}
	}
}

// lockOwn locks the opened folder if it is this user's, and reports whether its path still leads to it.
func lockOwn(folder *os.File) (current bool, err error) {
	opened, err := folder.Stat()
	if err != nil {
		return false, err
	}
	if owner, ok := opened.Sys().(*syscall.Stat_t); !ok || int(owner.Uid) != os.Geteuid() {
		return false, errors.New("it belongs to another user; remove it, or set TMPDIR to another folder")
	}
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return false, errors.New("another run uses it; wait until it has ended")
	}
	named, err := os.Lstat(folder.Name())
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(opened, named), err
}

// fill empties the folder and makes its parts.
func (s *scratch) fill(owner *account) error {
	entries, err := os.ReadDir(s.path)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := os.RemoveAll(s.folder(entry.Name())); err != nil {
			return err
		}
	}
	for _, name := range []string{dataFolder, socketFolder, workFolder} {
		if err := os.Mkdir(s.folder(name), 0o700); err != nil {
			return err
		}
		if owner == nil {
			continue
		}
		if err := os.Chown(s.folder(name), int(owner.uid), int(owner.gid)); err != nil {
			return err
		}
	}
	return nil
}

func (s *scratch) folder(name string) string { return filepath.Join(s.path, name) }

// remove deletes the folder, then lets others make it. Only the first call does anything.
func (s *scratch) remove() error {
	if s.lock == nil {
		return nil
	}
	err := errors.Join(os.RemoveAll(s.path), s.lock.Close())
	s.lock = nil
	if err != nil {
		return fmt.Errorf("remove the scratch folder: %w", err)
	}
	return nil
}
