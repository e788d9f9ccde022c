package pgweb

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// targetLifetime is how long a person may take to log in and still come to the page that asked for the login.
	targetLifetime = 10 * time.Minute
	// maxTarget bounds a target (bytes), so that the address with its blob stays short enough for every browser and proxy.
	maxTarget = 1024

	targetPurpose = "pgweb login target 1"
)

// Errors of OpenTarget, found with errors.Is. The login itself is good; only where to go is not known.
var (
	ErrTargetExpired = errors.New("login target has expired")
	ErrTargetInvalid = errors.New("login target was not sealed here")
)

// SealTarget makes the blob that pgweb gives back with the user: where to go after the login. It refuses targets
// outside of this site. pgweb passes on only A-Z a-z 0-9 _ . - ~ = $; the blob is base64 with the URL alphabet.
func (l *Login) SealTarget(next string, now time.Time) (string, error) {
	if err := checkTarget(next); err != nil {
		return "", err
	}
	content := binary.BigEndian.AppendUint64(nil, uint64(now.Add(targetLifetime).Unix()))
	content = append(content, next...)
	nonce := make([]byte, l.target.NonceSize())
	rand.Read(nonce)
	sealed := l.target.Seal(nonce, nonce, content, []byte(targetPurpose))
	return base64.RawURLEncoding.EncodeToString(sealed), nil
}

// OpenTarget gives the target of a blob from SealTarget, or ErrTargetInvalid or ErrTargetExpired.
func (l *Login) OpenTarget(blob string, now time.Time) (string, error) {
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(blob)
	if err != nil || len(sealed) < l.target.NonceSize() {
		return "", ErrTargetInvalid
	}
	nonce, box := sealed[:l.target.NonceSize()], sealed[l.target.NonceSize():]
	content, err := l.target.Open(nil, nonce, box, []byte(targetPurpose))
	if err != nil || len(content) < 8 {
		return "", ErrTargetInvalid
	}
	expires := time.Unix(int64(binary.BigEndian.Uint64(content)), 0)
	if now.After(expires) {
		return "", ErrTargetExpired
	}
	next := string(content[8:])
	if err := checkTarget(next); err != nil {
		return "", err
	}
	return next, nil
}

// checkTarget accepts paths of this site and nothing that a browser could take for another site: browsers read a
// backslash as a slash and drop control characters (weakness W3 of the contract).
func checkTarget(next string) error {
	const want = "give a path of this site that begins with one slash"
	u, err := url.Parse(next)
	switch {
	case len(next) > maxTarget:
		return fmt.Errorf("login target has %d bytes, more than %d", len(next), maxTarget)
	case !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//"):
		return fmt.Errorf("login target %q is no path of this site: %s", next, want)
	case strings.Contains(next, `\`) || strings.ContainsFunc(next, unicode.IsControl) || !utf8.ValidString(next):
		return fmt.Errorf("login target %q has a backslash or control characters: %s", next, want)
	case err != nil || u.Scheme != "" || u.Host != "" || u.User != nil:
		return fmt.Errorf("login target %q is no address: %s", next, want)
	}
	return nil
}
