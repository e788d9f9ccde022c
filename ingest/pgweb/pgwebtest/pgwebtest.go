// Package pgwebtest plays pgweb's part of the community login, for tests: it encrypts callbacks and answers like pgweb.
package pgwebtest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/tink-crypto/tink-go/v2/daead/subtle"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/millrace/millrace/ingest/pgweb"
)

// Encrypt makes the query of a callback. The nonce (the IV in version 2) has 16 bytes, in version 4 it has 24.
func Encrypt(config pgweb.Config, nonce []byte, plaintext string) (url.Values, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if len(nonce) != nonceSize(config.Version) {
		return nil, fmt.Errorf("nonce has %d bytes: version %d wants %d", len(nonce), config.Version, nonceSize(config.Version))
	}
	switch config.Version {
	case 2:
		return encryptCBC(config.Key, nonce, plaintext)
	case 3:
		return encryptSIV(config.Key, nonce, plaintext)
	default:
		return encryptXChaCha(config.Key, nonce, plaintext)
	}
}

func nonceSize(version int) int {
	if version == 4 {
		return chacha20poly1305.NonceSizeX
	}
	return aes.BlockSize
}

// encryptCBC pads with one to sixteen spaces.
func encryptCBC(key, iv []byte, plaintext string) (url.Values, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	data := []byte(plaintext + strings.Repeat(" ", aes.BlockSize-len(plaintext)%aes.BlockSize))
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(data, data)
	return url.Values{"i": {encode(iv)}, "d": {encode(data)}}, nil
}

func encryptSIV(key, nonce []byte, plaintext string) (url.Values, error) {
	siv, err := subtle.NewAESSIV(key)
	if err != nil {
		return nil, err
	}
	sealed, err := siv.EncryptDeterministically([]byte(plaintext), nonce)
	if err != nil {
		return nil, err
	}
	tag, data := sealed[:aes.BlockSize], sealed[aes.BlockSize:]
	return url.Values{"n": {encode(nonce)}, "d": {encode(data)}, "t": {encode(tag)}}, nil
}

func encryptXChaCha(key, nonce []byte, plaintext string) (url.Values, error) {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, err
	}
	sealed := aead.Seal(nil, nonce, []byte(plaintext), nil)
	data, tag := sealed[:len(plaintext)], sealed[len(plaintext):]
	return url.Values{"n": {encode(nonce)}, "d": {encode(data)}, "t": {encode(tag)}}, nil
}

func encode(raw []byte) string { return base64.URLEncoding.EncodeToString(raw) }

// Plaintext is what pgweb encrypts for a user: the timestamp first, then the fields of the contract's section 3.4.
func Plaintext(user pgweb.User) string {
	fields := url.Values{
		"u": {user.Username}, "f": {user.First}, "l": {user.Last}, "e": {user.Email},
		"se": {strings.Join(user.SecondaryEmails, ",")},
	}
	if user.Data != "" {
		fields.Set("d", user.Data)
	}
	return fmt.Sprintf("t=%d&%s", user.At.Unix(), fields.Encode())
}

// Callback makes the query with which pgweb sends a user's browser to the site's callback.
func Callback(config pgweb.Config, user pgweb.User) (url.Values, error) {
	nonce := make([]byte, nonceSize(config.Version))
	rand.Read(nonce)
	return Encrypt(config, nonce, Plaintext(user))
}

// Handler answers in pgweb's place: every visitor of the login address is the user, logged in now, and goes to the
// site's callback at once; an address that ends in /logout/ leads to the callback's logout.
func Handler(config pgweb.Config, user pgweb.User, callback string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/logout/") {
			http.Redirect(w, r, callback+"?s=logout", http.StatusFound)
			return
		}
		visitor := user
		visitor.At, visitor.Data = time.Now(), passThrough(r.URL.Query().Get("d"))
		query, err := Callback(config, visitor)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		http.Redirect(w, r, callback+"?"+query.Encode(), http.StatusFound)
	})
}

// passThrough drops, as pgweb does, a blob with a character outside of its alphabet.
func passThrough(blob string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~=$"
	if strings.Trim(blob, alphabet) != "" {
		return ""
	}
	return blob
}
