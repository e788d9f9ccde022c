// Package keyring holds the installation's key and everything that is sealed under it.
//
// The key is one file. Beside it, in the folder <key file>.subjects, stands one small file for each subject (a person
// or a machine) whose data is sealed under a key of its own: deleting that file erases the data wherever its sealed
// form lies, in the log, in a table or in a backup of either. Both belong into every backup of the installation.
//
// Several processes may share the file and the folder over a volume.
package keyring

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"sync"

	"golang.org/x/crypto/chacha20poly1305"
)

// Errors of opening sealed values, found with errors.Is.
var (
	// ErrErased: the subject's key was deleted, nobody can open the value any more.
	ErrErased = errors.New("erased: the subject's key was deleted")
	// ErrOtherKey: the value was sealed by an installation with another key.
	ErrOtherKey = errors.New("sealed under another installation's key: start with the key file (MILLRACE_KEY_FILE) that sealed it")
	// ErrDamaged: the value was changed or cut, or was sealed for another purpose or subject.
	ErrDamaged = errors.New("sealed value is damaged, or was sealed for another purpose or subject")
)

const (
	keySize = 32
	idSize  = 8
)

// Keyring is the installation's key, ready for use. It is safe for concurrent use.
type Keyring struct {
	master   [keySize]byte
	id       [idSize]byte
	seal     cipher.AEAD
	subjects *subjectKeys
	// lookups are pools of hashes with the keys that Lookup derived, by purpose: there are few purposes, every request is
	// looked up, and a key is half of a hash's work.
	lookups sync.Map
}

// Open reads the key file, or creates it (mode 0600) with its folder of subject keys where there is neither. It
// refuses a key without its folder and a folder without its key, because going on would take data for erased.
func Open(path string) (*Keyring, error) {
	master, err := readKeyFile(path)
	if errors.Is(err, errNoKeyFile) {
		master, err = createKeyFile(path)
	}
	if err != nil {
		return nil, err
	}
	k, err := newKeyring(master, subjectsFolder(path))
	if err != nil {
		return nil, err
	}
	return k, k.subjects.present()
}

func newKeyring(master [keySize]byte, folder string) (*Keyring, error) {
	k := &Keyring{master: master, id: keyID(master)}
	sealKey, wrapKey := k.derive("seal", ""), k.derive("subject-wrap", "")
	seal, err := chacha20poly1305.NewX(sealKey[:])
	if err != nil {
		return nil, fmt.Errorf("derive the sealing key: %w", err)
	}
	wrap, err := chacha20poly1305.NewX(wrapKey[:])
	if err != nil {
		return nil, fmt.Errorf("derive the key of subject keys: %w", err)
	}
	k.seal = seal
	k.subjects = newSubjectKeys(folder, k.ID(), wrap, k.derive("subject-name", ""))
	return k, nil
}

// ID names the key without disclosing it: 16 hexadecimal digits.
func (k *Keyring) ID() string { return hex.EncodeToString(k.id[:]) }

// String names the key, so that a keyring in a log line discloses nothing.
func (k *Keyring) String() string { return "keyring " + k.ID() }

// GoString is String, for %#v.
func (k *Keyring) GoString() string { return k.String() }

// Lookup hashes a secret for finding it in an index: equal secrets give equal hashes under one purpose, and who has
// the index but not the key cannot try secrets against it.
func (k *Keyring) Lookup(purpose, secret string) [32]byte {
	known, ok := k.lookups.Load(purpose)
	if !ok {
		key := k.derive("lookup", purpose)
		known, _ = k.lookups.LoadOrStore(purpose, &sync.Pool{New: func() any { return hmac.New(sha256.New, key[:]) }})
	}
	keyed := known.(*sync.Pool)
	h := keyed.Get().(hash.Hash)
	h.Write([]byte(secret))
	var sum [32]byte
	h.Sum(sum[:0])
	h.Reset() // the secret does not stay
	keyed.Put(h)
	return sum
}

// Derive gives a key of its own for a purpose that does its own cryptography: cookies, tokens against request forgery.
func (k *Keyring) Derive(purpose string) [32]byte { return k.derive("derive", purpose) }

// Seal encrypts under the installation's key. Only Open with the same purpose gives the plaintext back.
func (k *Keyring) Seal(purpose string, plaintext []byte) []byte {
	return sealUnder(k.seal, k.header(formInstallation), purpose, plaintext)
}

// Open decrypts what Seal made, or fails with ErrOtherKey or ErrDamaged.
func (k *Keyring) Open(purpose string, sealed []byte) ([]byte, error) {
	header, box, err := k.split(formInstallation, sealed)
	if err != nil {
		return nil, err
	}
	return openUnder(k.seal, header, purpose, box)
}

// derive separates all uses of the key: one HMAC per domain and purpose.
func (k *Keyring) derive(domain, purpose string) [keySize]byte {
	return derive(k.master, domain, purpose)
}

func derive(master [keySize]byte, domain, purpose string) [keySize]byte {
	return mac(master[:], "millrace/1/"+domain+"\x00"+purpose)
}

func keyID(master [keySize]byte) [idSize]byte {
	sum := derive(master, "id", "")
	return [idSize]byte(sum[:idSize])
}

func mac(key []byte, message string) [32]byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(message))
	return [32]byte(h.Sum(nil))
}

// A sealed value is: form (1 byte), installation key id (8), for formSubject the subject key's id (8), nonce (24),
// ciphertext with tag. Everything before the nonce is authenticated too.
const (
	formInstallation byte = 1
	formSubject      byte = 2
)

func (k *Keyring) header(form byte) []byte { return append([]byte{form}, k.id[:]...) }

// split checks form and installation of a sealed value and separates its header from the rest.
func (k *Keyring) split(form byte, sealed []byte) (header, box []byte, err error) {
	size := 1 + idSize
	if form == formSubject {
		size += idSize
	}
	if len(sealed) < size || sealed[0] != form {
		return nil, nil, ErrDamaged
	}
	if [idSize]byte(sealed[1:1+idSize]) != k.id {
		return nil, nil, ErrOtherKey
	}
	return sealed[:size], sealed[size:], nil
}

func sealUnder(aead cipher.AEAD, header []byte, purpose string, plaintext []byte) []byte {
	sealed := make([]byte, len(header)+aead.NonceSize(), len(header)+aead.NonceSize()+len(plaintext)+aead.Overhead())
	nonce := sealed[copy(sealed, header):]
	rand.Read(nonce)
	return aead.Seal(sealed, nonce, plaintext, associatedData(header, purpose))
}

func openUnder(aead cipher.AEAD, header []byte, purpose string, box []byte) ([]byte, error) {
	if len(box) < aead.NonceSize() {
		return nil, ErrDamaged
	}
	nonce, ciphertext := box[:aead.NonceSize()], box[aead.NonceSize():]
	plaintext, err := aead.Open(nil, nonce, ciphertext, associatedData(header, purpose))
	if err != nil {
		return nil, ErrDamaged
	}
	return plaintext, nil
}

// associatedData is unambiguous because a header's length follows from its first byte.
func associatedData(header []byte, purpose string) []byte {
	return append(header[:len(header):len(header)], purpose...)
}
