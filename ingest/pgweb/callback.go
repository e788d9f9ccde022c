package pgweb

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// maxAge is how long after pgweb made it a callback is accepted.
	maxAge = 10 * time.Second
	// maxAhead is how far in the future a callback's time may lie. The official test helper stamps 300 seconds ahead;
	// the rest is for clocks that differ.
	maxAhead = 360 * time.Second
	// maxSeconds is the end of the year 9999, far below where time.Time overflows.
	maxSeconds = 253402300799
)

// User is the content of an accepted callback.
type User struct {
	Username        string // the stable identity
	First, Last     string
	Email           string
	SecondaryEmails []string
	Data            string    // the blob that was given to LoginURL, or empty
	At              time.Time // when pgweb made the callback
	// Callback identifies the callback, also if it is replayed in another form.
	Callback [sha256.Size]byte
}

// Expires is when the callback stops being accepted, and so how long Callback is to be remembered.
func (u User) Expires() time.Time { return u.At.Add(maxAge + time.Second) }

// CallbackError tells why a callback is refused. The answer is 400.
type CallbackError struct {
	Body  string // for the browser, as upstream words it
	Cause error  // for the log, or nil; discloses no key and no user
}

func (e *CallbackError) Error() string {
	if e.Cause == nil {
		return fmt.Sprintf("login callback refused (%s)", e.Body)
	}
	return fmt.Sprintf("login callback refused (%s): %v", e.Body, e.Cause)
}

func (e *CallbackError) Unwrap() error { return e.Cause }

const (
	missingIV    = "Missing IV in url!"
	missingNonce = "Missing nonce in url!"
	missingTag   = "Missing tag in url!"
	missingData  = "Missing data in url!"
	invalidData  = "Invalid encrypted data received."
	incomplete   = "Incomplete user data received."
	tooOld       = "Authentication token too old."
	tooNew       = "Authentication token is from the future."
)

func invalid(cause error) error { return &CallbackError{Body: invalidData, Cause: cause} }

// Decrypt reads the query of a callback. All its errors are a *CallbackError. A logout (s=logout) is no callback: it
// is to be handled before.
func (l *Login) Decrypt(query url.Values, now time.Time) (User, error) {
	callback, err := l.open(query)
	if err != nil {
		return User{}, err
	}
	fields, err := parseFields(string(callback.plaintext))
	if err != nil {
		return User{}, invalid(err)
	}
	user, err := newUser(fields)
	if err == nil {
		err = checkTime(user.At, now)
	}
	if err != nil {
		return User{}, err
	}
	user.Callback = callback.identity
	return user, nil
}

// parseFields reads a query string strictly: a part without = or an encoding that is wrong refuses the whole. Blank
// values are dropped.
func parseFields(text string) (map[string]string, error) {
	text = strings.TrimRight(text, " ")
	if !utf8.ValidString(text) {
		return nil, errors.New("the decrypted data is not UTF-8 (is pgperffarm.auth_key the one registered at pgweb?)")
	}
	fields := make(map[string]string)
	for part := range strings.SplitSeq(text, "&") {
		name, value, ok := strings.Cut(part, "=")
		if !ok {
			return nil, errors.New("the decrypted data is no query string: a part has no equals sign")
		}
		if err := addField(fields, name, value); err != nil {
			return nil, err
		}
	}
	return fields, nil
}

func addField(fields map[string]string, name, value string) error {
	name, nameErr := url.QueryUnescape(name)
	value, valueErr := url.QueryUnescape(value)
	if err := errors.Join(nameErr, valueErr); err != nil {
		return errors.New("the decrypted data is no query string: a percent escape is wrong")
	}
	if !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) {
		return errors.New("the decrypted data holds text that is not UTF-8, or control characters")
	}
	if _, twice := fields[name]; twice {
		return errors.New("the decrypted data names a field twice")
	}
	if value != "" {
		fields[name] = value
	}
	return nil
}

func newUser(fields map[string]string) (User, error) {
	for _, name := range []string{"t", "u", "f", "l", "e"} {
		if fields[name] == "" {
			return User{}, &CallbackError{Body: incomplete, Cause: fmt.Errorf("field %s is missing", name)}
		}
	}
	seconds, err := strconv.ParseInt(fields["t"], 10, 64)
	if err != nil || seconds < 0 || seconds > maxSeconds {
		return User{}, invalid(errors.New("field t is no number of seconds since 1970"))
	}
	return User{
		Username:        fields["u"],
		First:           fields["f"],
		Last:            fields["l"],
		Email:           fields["e"],
		SecondaryEmails: splitList(fields["se"]),
		Data:            fields["d"],
		At:              time.Unix(seconds, 0).UTC(),
	}, nil
}

func splitList(text string) []string {
	parts := strings.Split(text, ",")
	return slices.DeleteFunc(parts, func(s string) bool { return s == "" })
}

func checkTime(at, now time.Time) error {
	switch {
	case at.Before(now.Add(-maxAge)):
		return &CallbackError{Body: tooOld, Cause: fmt.Errorf("made %s before now", now.Sub(at).Round(time.Second))}
	case at.After(now.Add(maxAhead)):
		return &CallbackError{Body: tooNew, Cause: fmt.Errorf("made %s after now: compare this machine's clock with pgweb's", at.Sub(now).Round(time.Second))}
	}
	return nil
}
