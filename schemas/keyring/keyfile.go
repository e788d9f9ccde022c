package keyring

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/millrace/millrace/schemas/internal/durable"
)

// The key file is one line: this word, the key's id (which shows damage) and the key in base64.
const keyFileFormat = "millrace-key-1"

var errNoKeyFile = errors.New("no key file")

// readKeyFile gives the key, or errNoKeyFile where there is no file.
func readKeyFile(path string) ([keySize]byte, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return [keySize]byte{}, errNoKeyFile
	}
	if err != nil {
		return [keySize]byte{}, fmt.Errorf("read the installation's key: %w", err)
	}
	if err := checkMode(path); err != nil {
		return [keySize]byte{}, err
	}
	key, err := parseKey(content)
	if err != nil {
		return [keySize]byte{}, fmt.Errorf("key file %s is %w: restore it from a backup", path, err)
	}
	return key, nil
}

func checkMode(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("read the installation's key: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		return fmt.Errorf("key file %s is open to every user of this machine (mode %04o): run chmod 600 on it", path, mode)
	}
	return nil
}

func formatKey(key [keySize]byte) []byte {
	id := keyID(key)
	return fmt.Appendf(nil, "%s %x %s\n", keyFileFormat, id, base64.StdEncoding.EncodeToString(key[:]))
}

func parseKey(content []byte) ([keySize]byte, error) {
	fields := bytes.Fields(content)
	if len(fields) != 3 || string(fields[0]) != keyFileFormat {
		return [keySize]byte{}, fmt.Errorf("not one line %q with id and key", keyFileFormat)
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(string(fields[2]))
	if err != nil || len(raw) != keySize {
		return [keySize]byte{}, errors.New("damaged")
	}
	key := [keySize]byte(raw)
	if id := keyID(key); hex.EncodeToString(id[:]) != string(fields[1]) {
		return [keySize]byte{}, errors.New("damaged: its id is not that of its key")
	}
	return key, nil
}

// createKeyFile makes a new key, or gives the one that another process made meanwhile. The folder of subject keys
// comes first: from then on a key file without its folder means that the folder was lost.
func createKeyFile(path string) ([keySize]byte, error) {
	var key [keySize]byte
	folder := subjectsFolder(path)
	switch held, err := holdsSubjectKeys(folder); {
	case err != nil:
		return key, err
	case held:
		return keyOfSubjects(path, folder)
	}
	rand.Read(key[:])
	marker, err := createSubjectsFolder(folder, keyID(key))
	if err != nil {
		return key, err
	}
	err = durable.Create(path, formatKey(key))
	if errors.Is(err, fs.ErrExist) {
		if err := os.Remove(marker); err != nil {
			return key, fmt.Errorf("remove the mark of an unused key: %w", err)
		}
		return readKeyFile(path)
	}
	if err != nil {
		return key, fmt.Errorf("create the installation's key: %w", err)
	}
	return key, nil
}

// keyOfSubjects reads the key again after subject keys were seen: either another process has just made it, or it is lost.
func keyOfSubjects(path, folder string) ([keySize]byte, error) {
	key, err := readKeyFile(path)
	if errors.Is(err, errNoKeyFile) {
		return key, fmt.Errorf("key file %s is missing, but %s holds subject keys sealed under it: restore it from a backup", path, folder)
	}
	return key, err
}
