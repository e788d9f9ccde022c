// Package pgweb logs people in through pgweb, the postgresql.org site: the community login protocol in its versions 2
// (AES-CBC), 3 (AES-SIV) and 4 (XChaCha20-Poly1305). See the contract of the PostgreSQL Performance Farm, section 3.4.
//
// The browser is sent to LoginURL with the sealed target, pgweb sends it back to the site's callback with the encrypted
// user, Decrypt reads that. The package keeps no state: who calls it remembers User.Callback until User.Expires and
// refuses a callback that it has seen.
package pgweb

import (
	"crypto/cipher"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
)

// Config is one site's registration at pgweb.
type Config struct {
	LoginURL string // https://www.postgresql.org/account/auth/SITE/
	Key      []byte // shared with pgweb; its length depends on Version
	Version  int    // of the protocol: 2, 3 or 4
}

// Validate reports all mistakes at once, in terms of the configuration file.
func (c Config) Validate() error {
	return errors.Join(c.validateURL(), c.validateKey())
}

func (c Config) validateURL() error {
	const want = "set it to the site's address at pgweb, https://www.postgresql.org/account/auth/SITE/"
	u, err := url.Parse(c.LoginURL)
	switch {
	case err != nil:
		return fmt.Errorf("pgperffarm.login_url: %w: %s", err, want)
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		return fmt.Errorf("pgperffarm.login_url %q is no http or https address: %s", c.LoginURL, want)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return fmt.Errorf("pgperffarm.login_url %q has a query or fragment: %s", c.LoginURL, want)
	}
	return nil
}

func (c Config) validateKey() error {
	n := len(c.Key)
	switch {
	case c.Version < 2 || c.Version > 4:
		return fmt.Errorf("pgperffarm.auth_version is %d: set 2, 3 or 4, as registered at pgweb", c.Version)
	case c.Version == 2 && n != 16 && n != 24 && n != 32:
		return fmt.Errorf("pgperffarm.auth_key has %d bytes: version 2 wants 16, 24 or 32, in standard base64", n)
	case c.Version == 3 && n != 64:
		return fmt.Errorf("pgperffarm.auth_key has %d bytes: version 3 wants 64, in standard base64", n)
	case c.Version == 4 && n != 32:
		return fmt.Errorf("pgperffarm.auth_key has %d bytes: version 4 wants 32, in standard base64", n)
	}
	return nil
}

// Login speaks the protocol for one site. It is safe for concurrent use.
type Login struct {
	url    string
	open   opener
	target cipher.AEAD
}

// New checks the configuration. The target key seals the pages that people want to see after their login; all
// processes of an installation share it.
func New(config Config, targetKey [32]byte) (*Login, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	open, err := newOpener(config)
	if err != nil {
		return nil, fmt.Errorf("prepare community login: %w", err)
	}
	target, err := chacha20poly1305.NewX(targetKey[:])
	if err != nil {
		return nil, fmt.Errorf("prepare community login: %w", err)
	}
	return &Login{url: config.LoginURL, open: open, target: target}, nil
}

// LoginURL is where to send the browser for a login. The blob is what SealTarget made, or empty when there is no target.
func (l *Login) LoginURL(blob string) string {
	if blob == "" {
		return l.url
	}
	return l.url + "?d=" + url.QueryEscape(blob)
}

// LogoutURL is where to send the browser after the local session has ended. From there pgweb sends it to the callback
// with s=logout.
func (l *Login) LogoutURL() string { return strings.TrimSuffix(l.url, "/") + "/logout/" }
