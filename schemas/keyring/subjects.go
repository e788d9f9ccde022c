package keyring

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/millrace/millrace/schemas/internal/durable"
)

const (
	// recheckAfter bounds how long an opened key is used without opening its file again, and so how long another
	// process's erasure goes unnoticed. Opening, unlike stat, asks the server again on a network file system.
	recheckAfter = 500 * time.Millisecond
	// cachedSubjects bounds the opened keys in memory (about 150 bytes each).
	cachedSubjects = 4096
	// createAttempts bounds how often SealFor starts again because the key was erased under its hands.
	createAttempts = 16
)

// SealFor encrypts under the subject's own key, which is made when there is none. The key's file is durable before
// SealFor returns.
func (k *Keyring) SealFor(subject string, plaintext []byte) ([]byte, error) {
	key, err := k.subjects.obtain(subject)
	if err != nil {
		return nil, fmt.Errorf("seal under a subject's key: %w", err)
	}
	header := append(k.header(formSubject), key.id[:]...)
	return sealUnder(key.aead, header, subject, plaintext), nil
}

// OpenFor decrypts what SealFor made for the same subject. It fails with ErrErased when the key is gone, also when the
// subject has a new key by now, and with ErrOtherKey or ErrDamaged. Another error means that the key could not be
// read, and says nothing about erasure.
func (k *Keyring) OpenFor(subject string, sealed []byte) ([]byte, error) {
	header, box, err := k.split(formSubject, sealed)
	if err != nil {
		return nil, err
	}
	wanted := [idSize]byte(header[1+idSize:])
	key := k.subjects.recent(subject)
	if key == nil || key.id != wanted {
		if key, err = k.subjects.read(subject); err != nil {
			return nil, fmt.Errorf("open under a subject's key: %w", err)
		}
	}
	if key.id != wanted {
		return nil, ErrErased
	}
	return openUnder(key.aead, header, subject, box)
}

// Erase deletes the subject's key for good. What was sealed under it gives ErrErased: here at once, in other
// processes within half a second. A later SealFor makes a new key, which opens nothing old. Erasing a subject without
// key is no error.
func (k *Keyring) Erase(subject string) error {
	if err := k.subjects.erase(subject); err != nil {
		return fmt.Errorf("erase a subject's key: %w", err)
	}
	return nil
}

// subjectKeys is the folder of subject keys. File names are keyed hashes, because subjects' names are personal data;
// contents are sealed under the installation's key.
type subjectKeys struct {
	folder  string
	marker  string
	wrap    cipher.AEAD
	nameKey [keySize]byte
	now     func() time.Time

	mu       sync.Mutex
	opened   map[string]*subjectKey
	erasures uint64 // counts erase calls: a file read before one must not enter opened after it
}

type subjectKey struct {
	id     [idSize]byte
	aead   cipher.AEAD
	readAt time.Time
	synced bool // this process has made the file's name durable
}

func subjectsFolder(keyFile string) string { return keyFile + ".subjects" }

// markerName is the file that tells the folder of this key from any other: an empty one where a volume should be
// mounted must not look as if everybody had been erased.
func markerName(keyID string) string { return "installation-" + keyID }

// createSubjectsFolder makes the folder, marked for a key that is about to be created, and gives the marker's path.
func createSubjectsFolder(folder string, id [idSize]byte) (marker string, err error) {
	if err := durable.MkdirAll(folder); err != nil {
		return "", fmt.Errorf("create the folder of subject keys: %w", err)
	}
	marker = filepath.Join(folder, markerName(hex.EncodeToString(id[:])))
	if err := durable.Create(marker, nil); err != nil {
		return "", fmt.Errorf("mark the folder of subject keys: %w", err)
	}
	return marker, nil
}

// holdsSubjectKeys tells whether there is anything but markers in the folder.
func holdsSubjectKeys(folder string) (bool, error) {
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("read the folder of subject keys: %w", err)
	}
	isKey := func(e fs.DirEntry) bool { return !strings.HasPrefix(e.Name(), markerName("")) }
	return slices.ContainsFunc(entries, isKey), nil
}

func newSubjectKeys(folder, id string, wrap cipher.AEAD, nameKey [keySize]byte) *subjectKeys {
	return &subjectKeys{
		folder:  folder,
		marker:  filepath.Join(folder, markerName(id)),
		wrap:    wrap,
		nameKey: nameKey,
		now:     time.Now,
		opened:  make(map[string]*subjectKey),
	}
}

// present fails when the folder is not the one that belongs to the key.
func (s *subjectKeys) present() error {
	_, err := os.Stat(s.marker)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is not the folder of this installation's subject keys (%s is missing): "+
			"mount or restore the folder that belongs to the key file", s.folder, filepath.Base(s.marker))
	}
	return err
}

func (s *subjectKeys) path(subject string) string {
	name := mac(s.nameKey[:], subject)
	return filepath.Join(s.folder, hex.EncodeToString(name[:]))
}

// recent gives the key from memory, or nil when its file is to be read (again).
func (s *subjectKeys) recent(subject string) *subjectKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := s.opened[subject]
	if key == nil || s.now().Sub(key.readAt) >= recheckAfter {
		return nil
	}
	return key
}

// read gives the key from its file and remembers it; ErrErased when there is none.
func (s *subjectKeys) read(subject string) (*subjectKey, error) {
	s.mu.Lock()
	erasures, readAt := s.erasures, s.now()
	s.mu.Unlock()

	path := s.path(subject)
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		s.forget(subject)
		if err := s.present(); err != nil {
			return nil, err
		}
		return nil, ErrErased
	}
	if err != nil {
		return nil, err
	}
	key, err := s.unwrap(path, content)
	if err != nil {
		return nil, err
	}
	key.readAt = readAt
	s.remember(subject, key, erasures)
	return key, nil
}

// obtain gives the key for sealing, from its file each time, so that nothing new is sealed under an erased key. It
// makes the key when there is none.
func (s *subjectKeys) obtain(subject string) (*subjectKey, error) {
	for range createAttempts {
		key, err := s.read(subject)
		if err == nil {
			return key, s.sync(key)
		}
		if !errors.Is(err, ErrErased) {
			return nil, err
		}
		if err := s.create(subject); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("the key was erased each time it had been made: try again")
}

// create makes a key file unless another process is faster, or erases it at once.
func (s *subjectKeys) create(subject string) error {
	var raw [keySize]byte
	rand.Read(raw[:])
	path := s.path(subject)
	err := durable.Create(path, sealUnder(s.wrap, nil, filepath.Base(path), raw[:]))
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// sync makes durable the name of a file that another process may have made a moment ago.
func (s *subjectKeys) sync(key *subjectKey) error {
	s.mu.Lock()
	synced := key.synced
	s.mu.Unlock()
	if synced {
		return nil
	}
	if err := durable.SyncFolder(s.folder); err != nil {
		return err
	}
	s.mu.Lock()
	key.synced = true
	s.mu.Unlock()
	return nil
}

func (s *subjectKeys) erase(subject string) error {
	if err := s.present(); err != nil {
		return err
	}
	defer s.forget(subject)
	path := s.path(subject)
	left, err := durable.Leftovers(path)
	if err != nil {
		return err
	}
	for _, name := range append(left, path) {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return durable.SyncFolder(s.folder)
}

func (s *subjectKeys) forget(subject string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erasures++
	delete(s.opened, subject)
}

func (s *subjectKeys) remember(subject string, key *subjectKey, erasures uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.erasures != erasures {
		return
	}
	before := s.opened[subject]
	key.synced = before != nil && before.synced && before.id == key.id
	if before == nil && len(s.opened) >= cachedSubjects {
		for other := range s.opened {
			delete(s.opened, other)
			break
		}
	}
	s.opened[subject] = key
}

func (s *subjectKeys) unwrap(path string, content []byte) (*subjectKey, error) {
	raw, err := openUnder(s.wrap, nil, filepath.Base(path), content)
	if err != nil || len(raw) != keySize {
		return nil, fmt.Errorf("subject key file %s is damaged (%d bytes): restore it from a backup", path, len(content))
	}
	aead, err := chacha20poly1305.NewX(raw)
	if err != nil {
		return nil, err
	}
	return &subjectKey{id: keyID([keySize]byte(raw)), aead: aead}, nil
}
