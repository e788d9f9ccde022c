// Package durable puts files in their place so that they are there after a power cut, whole or not at all.
package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const tempSuffix = ".tmp"

// SyncFolder makes the names in a folder durable: files created, renamed or removed in it before the call stay so.
func SyncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open folder to sync it: %w", err)
	}
	err = errors.Join(folder.Sync(), folder.Close())
	if err != nil {
		return fmt.Errorf("sync folder %s: %w", path, err)
	}
	return nil
}

// MkdirAll makes a folder (mode 0700) and the missing ones above it, each durable. A folder that is there already is no error.
func MkdirAll(path string) error {
	err := os.Mkdir(path, 0o700)
	if errors.Is(err, os.ErrNotExist) && filepath.Dir(path) != path {
		if err := MkdirAll(filepath.Dir(path)); err != nil {
			return err
		}
		err = os.Mkdir(path, 0o700)
	}
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return SyncFolder(filepath.Dir(path))
}

// Rename gives a file its final name, replacing what stood there, and makes the name durable. The caller has synced the file.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return SyncFolder(filepath.Dir(to))
}

// Create writes a new file (mode 0600) under a temporary name and then links it to its own, so that of several
// processes exactly one creates it and nobody sees half of it. A file that is there already gives fs.ErrExist; its
// name has been synced then too, so that the loser may rely on the winner's file. What a crash leaves behind is
// found by Leftovers.
func Create(path string, content []byte) error {
	temp, err := writeTemp(path, content)
	if err != nil {
		return err
	}
	err = os.Link(temp, path)
	if removeErr := os.Remove(temp); removeErr != nil && !errors.Is(removeErr, os.ErrNotExist) {
		err = errors.Join(err, removeErr)
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("create %s: %w", path, err)
	}
	return errors.Join(err, SyncFolder(filepath.Dir(path)))
}

// Leftovers lists the temporary files of Create for one path: those of crashed processes, and those in use just now.
func Leftovers(path string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	var found []string
	for _, entry := range entries {
		if name := entry.Name(); strings.HasPrefix(name, filepath.Base(path)+".") && strings.HasSuffix(name, tempSuffix) {
			found = append(found, filepath.Join(filepath.Dir(path), name))
		}
	}
	return found, nil
}

func writeTemp(path string, content []byte) (string, error) {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*"+tempSuffix)
	if err != nil {
		return "", fmt.Errorf("create %s: %w", path, err)
	}
	_, err = file.Write(content)
	err = errors.Join(err, file.Sync(), file.Close())
	if err != nil {
		return "", errors.Join(fmt.Errorf("write %s: %w", file.Name(), err), os.Remove(file.Name()))
	}
	return file.Name(), nil
}
