package pgweb

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/url"

	"github.com/tink-crypto/tink-go/v2/daead/subtle"
	"golang.org/x/crypto/chacha20poly1305"
)

const tagSize = 16

// opened is a decrypted callback and what identifies it.
type opened struct {
	plaintext []byte
	identity  [sha256.Size]byte
}

// opener decrypts the query of a callback.
type opener func(query url.Values) (opened, error)

func newOpener(config Config) (opener, error) {
	switch config.Version {
	case 2:
		block, err := aes.NewCipher(config.Key)
		return func(query url.Values) (opened, error) { return openCBC(block, query) }, err
	case 3:
		siv, err := subtle.NewAESSIV(config.Key)
		return func(query url.Values) (opened, error) { return openSIV(siv, query) }, err
	default:
		aead, err := chacha20poly1305.NewX(config.Key)
		return func(query url.Values) (opened, error) { return openXChaCha(aead, query) }, err
	}
}

// openCBC opens version 2, which is not authenticated: who saw a callback can move its timestamp through the IV, and cut
// or add blocks behind. Only the first block of ciphertext must stay, or the timestamp in it is lost, so that block
// identifies the callback.
func openCBC(block cipher.Block, query url.Values) (opened, error) {
	iv, err := parameter(query, "i", missingIV)
	if err != nil {
		return opened{}, err
	}
	data, err := parameter(query, "d", missingData)
	if err != nil {
		return opened{}, err
	}
	if len(iv) != aes.BlockSize || len(data) == 0 || len(data)%aes.BlockSize != 0 {
		return opened{}, invalid(fmt.Errorf("version 2 wants an IV of 16 bytes and whole blocks of 16, got %d and %d", len(iv), len(data)))
	}
	plaintext := make([]byte, len(data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plaintext, data)
	return opened{plaintext: plaintext, identity: sha256.Sum256(data[:aes.BlockSize])}, nil
}

// openSIV opens version 3. In RFC 5297 the tag stands before the ciphertext.
func openSIV(siv *subtle.AESSIV, query url.Values) (opened, error) {
	p, err := authenticated(query, 16)
	if err != nil {
		return opened{}, err
	}
	plaintext, err := siv.DecryptDeterministically(append(p.tag, p.data...), p.nonce)
	if err != nil {
		return opened{}, invalid(err)
	}
	return opened{plaintext: plaintext, identity: sha256.Sum256(p.tag)}, nil
}

// openXChaCha opens version 4.
func openXChaCha(aead cipher.AEAD, query url.Values) (opened, error) {
	p, err := authenticated(query, chacha20poly1305.NonceSizeX)
	if err != nil {
		return opened{}, err
	}
	plaintext, err := aead.Open(nil, p.nonce, append(p.data, p.tag...), nil)
	if err != nil {
		return opened{}, invalid(err)
	}
	return opened{plaintext: plaintext, identity: sha256.Sum256(p.tag)}, nil
}

type sealedParameters struct{ nonce, data, tag []byte }

// authenticated reads the parameters of versions 3 and 4.
func authenticated(query url.Values, nonceSize int) (p sealedParameters, err error) {
	if p.nonce, err = parameter(query, "n", missingNonce); err != nil {
		return p, err
	}
	if p.data, err = parameter(query, "d", missingData); err != nil {
		return p, err
	}
	if p.tag, err = parameter(query, "t", missingTag); err != nil {
		return p, err
	}
	if len(p.nonce) != nonceSize || len(p.tag) != tagSize {
		return p, invalid(fmt.Errorf("nonce has %d and tag %d bytes, want %d and %d", len(p.nonce), len(p.tag), nonceSize, tagSize))
	}
	return p, nil
}

// parameter decodes one query value, base64 with the URL alphabet and padding.
func parameter(query url.Values, name, missing string) ([]byte, error) {
	value := query.Get(name)
	if value == "" {
		return nil, &CallbackError{Body: missing}
	}
	raw, err := base64.URLEncoding.Strict().DecodeString(value)
	if err != nil {
		return nil, invalid(fmt.Errorf("parameter %s: %w", name, err))
	}
	return raw, nil
}
