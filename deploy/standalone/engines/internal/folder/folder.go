// Package folder guards a data folder against a second process, because neither embedded engine survives two writers.
package folder

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Lock is held on a folder until it is closed or its process ends, however that ends.
type Lock struct{ file *os.File }

// Acquire creates dir (mode 0700) when it is missing and locks it. It fails at once when another process holds the lock.
func Acquire(dir string) (*Lock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create data folder: %w", err)
	}
	path := filepath.Join(dir, "lock")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = errors.New("another process uses this folder; end it, or choose another data folder")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
	}
	return &Lock{file: file}, nil
}

// Close releases the lock. The lock file stays: removing it would let two processes hold locks on different files.
func (l *Lock) Close() error {
	return l.file.Close()
}
