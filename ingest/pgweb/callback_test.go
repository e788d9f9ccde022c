package pgweb_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/millrace/millrace/ingest/pgweb"
	"github.com/millrace/millrace/ingest/pgweb/pgwebtest"
)

const vectorPlaintext = "t=1700000000&u=jdoe&f=Jane&l=Doe&e=jane%40example.org&se=j2%40example.org"

// vectors are the test vectors of the contract, section 3.4.
var vectors = []struct {
	version   int
	nonceSize int
	query     url.Values
}{
	{2, 16, url.Values{
		"i": {"AAECAwQFBgcICQoLDA0ODw=="},
		"d": {"JkI5KbO0a9YG32hrtUkL1DfuDByUWK2lqE9dHW2d-apo88vAHEW-OlhjDJXRG_WeZu04c5oR35uPmYRkSVoG65Fa5uTb9BPkYez2ISC4_YE="},
	}},
	{3, 16, url.Values{
		"n": {"AAECAwQFBgcICQoLDA0ODw=="},
		"d": {"zpAzN5t02mOWIyqnBNLS5qIxhWq9cMo0BM_ZJL7IeNSfJXB-FhFc6B_XEHmJT4I0ElKfVJmI_FcGe1BLM7AeoZrFoVOwSHQ66w=="},
		"t": {"LnpJOctAX0lrKFlSUmomCA=="},
	}},
	{4, 24, url.Values{
		"n": {"AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"},
		"d": {"6v8-SKDivZ4DdBb-7SeVgi8oTYOb61eKEX8Z2gDpmjx4Y4uOIAlsQeGlyyGuTCMOFJSNKyBSiHw68aEYu9chjNNNj99ttwv3Sw=="},
		"t": {"SVFqtxo74Ulv8QP-CNJJvQ=="},
	}},
}

func forEachVersion(t *testing.T, check func(t *testing.T, config pgweb.Config)) {
	for _, version := range []int{2, 3, 4} {
		t.Run(fmt.Sprintf("version %d", version), func(t *testing.T) { check(t, configFor(version)) })
	}
}

// callback encrypts a plaintext under the configuration.
func callback(t testing.TB, config pgweb.Config, plaintext string) url.Values {
	t.Helper()
	size := 16
	if config.Version == 4 {
		size = 24
	}
	query, err := pgwebtest.Encrypt(config, counting(size), plaintext)
	if err != nil {
		t.Fatal(err)
	}
	return query
}

// refused checks that a callback is refused with the given body.
func refused(t *testing.T, login *pgweb.Login, query url.Values, now time.Time, body string) {
	t.Helper()
	user, err := login.Decrypt(query, now)
	var refusal *pgweb.CallbackError
	if !errors.As(err, &refusal) {
		t.Fatalf("got user %+v and error %v, want a refusal", user, err)
	}
	if refusal.Body != body {
		t.Errorf("refused with body %q, want %q (%v)", refusal.Body, body, err)
	}
	if diff := cmp.Diff(pgweb.User{}, user); diff != "" {
		t.Errorf("a refused callback disclosed a user: %s", diff)
	}
}

func TestVectorsOfTheContractAreDecrypted(t *testing.T) {
	want := pgweb.User{
		Username: "jdoe", First: "Jane", Last: "Doe", Email: "jane@example.org",
		SecondaryEmails: []string{"j2@example.org"}, At: madeAt.UTC(),
	}
	for _, vector := range vectors {
		t.Run(fmt.Sprintf("version %d", vector.version), func(t *testing.T) {
			got, err := newLogin(t, configFor(vector.version)).Decrypt(vector.query, madeAt.Add(3*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(pgweb.User{}, "Callback")); diff != "" {
				t.Errorf("unexpected user (-want +got):\n%s", diff)
			}
		})
	}
}

func TestVectorsOfTheContractAreEncrypted(t *testing.T) {
	for _, vector := range vectors {
		t.Run(fmt.Sprintf("version %d", vector.version), func(t *testing.T) {
			got, err := pgwebtest.Encrypt(configFor(vector.version), counting(vector.nonceSize), vectorPlaintext)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(vector.query, got); diff != "" {
				t.Errorf("unexpected query (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMissingParametersAreNamed(t *testing.T) {
	bodies := map[string]string{
		"i": "Missing IV in url!", "n": "Missing nonce in url!", "t": "Missing tag in url!", "d": "Missing data in url!",
	}
	for _, vector := range vectors {
		for name := range vector.query {
			t.Run(fmt.Sprintf("version %d without %s", vector.version, name), func(t *testing.T) {
				query := clone(vector.query)
				query.Del(name)
				refused(t, newLogin(t, configFor(vector.version)), query, madeAt, bodies[name])
			})
		}
	}
}

func clone(query url.Values) url.Values {
	copied := url.Values{}
	for name, values := range query {
		copied.Set(name, values[0])
	}
	return copied
}

func TestDamagedParametersAreRefused(t *testing.T) {
	damages := map[string]func(string) string{
		"truncated base64":        func(s string) string { return s[:len(s)-5] },
		"without padding":         func(s string) string { return strings.TrimRight(s, "=") + "A" },
		"outside of the alphabet": func(s string) string { return "+/" + s[2:] },
		"other first byte":        func(s string) string { return flip(s, 0) },
		"shorter":                 func(s string) string { return s[:len(s)-8] },
	}
	for _, vector := range vectors {
		for name := range vector.query {
			for damage, change := range damages {
				if vector.version == 2 && name == "i" && damage == "other first byte" {
					continue // moves the timestamp: see TestVersion2CallbackKeepsItsIdentityWhenTheIVIsChanged
				}
				t.Run(fmt.Sprintf("version %d %s %s", vector.version, name, damage), func(t *testing.T) {
					query := clone(vector.query)
					query.Set(name, change(query.Get(name)))
					refused(t, newLogin(t, configFor(vector.version)), query, madeAt, "Invalid encrypted data received.")
				})
			}
		}
	}
}

// flip changes one byte of a base64 value.
func flip(value string, at int) string {
	raw, err := base64.URLEncoding.DecodeString(value)
	if err != nil {
		panic(err)
	}
	raw[at] ^= 0x80
	return base64.URLEncoding.EncodeToString(raw)
}

func TestEveryChangedByteOfAnAuthenticatedCallbackIsRefused(t *testing.T) {
	for _, vector := range vectors[1:] {
		login := newLogin(t, configFor(vector.version))
		for name := range vector.query {
			for at := range base64.URLEncoding.DecodedLen(len(strings.TrimRight(vector.query.Get(name), "="))) {
				query := clone(vector.query)
				query.Set(name, flip(query.Get(name), at))
				refused(t, login, query, madeAt, "Invalid encrypted data received.")
			}
		}
	}
}

func TestCallbackUnderAnotherKeyIsRefused(t *testing.T) {
	for _, vector := range vectors {
		config := configFor(vector.version)
		config.Key[0] ^= 1
		refused(t, newLogin(t, config), vector.query, madeAt, "Invalid encrypted data received.")
	}
}

func TestCallbackOfAnotherVersionIsRefused(t *testing.T) {
	refused(t, newLogin(t, configFor(3)), vectors[0].query, madeAt, "Missing nonce in url!")
	refused(t, newLogin(t, configFor(3)), vectors[2].query, madeAt, "Invalid encrypted data received.")
	refused(t, newLogin(t, configFor(4)), vectors[1].query, madeAt, "Invalid encrypted data received.")
	refused(t, newLogin(t, configFor(2)), vectors[1].query, madeAt, "Missing IV in url!")
}

func TestCallbackAgeIsBounded(t *testing.T) {
	tests := []struct {
		age  time.Duration
		body string // empty when accepted
	}{
		{0, ""},
		{10 * time.Second, ""},
		{10*time.Second + time.Millisecond, "Authentication token too old."},
		{time.Hour, "Authentication token too old."},
		{-300 * time.Second, ""},
		{-301 * time.Second, ""},
		{-360*time.Second - time.Millisecond, "Authentication token is from the future."},
	}
	forEachVersion(t, func(t *testing.T, config pgweb.Config) {
		login, query := newLogin(t, config), callback(t, config, vectorPlaintext)
		for _, test := range tests {
			if test.body != "" {
				refused(t, login, query, madeAt.Add(test.age), test.body)
				continue
			}
			user, err := login.Decrypt(query, madeAt.Add(test.age))
			if err != nil {
				t.Errorf("age %s: %v", test.age, err)
			}
			if now := madeAt.Add(test.age); !user.Expires().After(now) {
				t.Errorf("age %s: accepted at %s, but to be forgotten at %s", test.age, now, user.Expires())
			}
		}
	})
}

func TestIncompleteOrMalformedDataIsRefused(t *testing.T) {
	const (
		incomplete = "Incomplete user data received."
		invalid    = "Invalid encrypted data received."
	)
	tests := []struct{ name, plaintext, body string }{
		{"no timestamp", "u=a&f=b&l=c&e=d", incomplete},
		{"no username", "t=1700000000&f=b&l=c&e=d", incomplete},
		{"blank username", "t=1700000000&u=&f=b&l=c&e=d", incomplete},
		{"no first name", "t=1700000000&u=a&l=c&e=d", incomplete},
		{"no last name", "t=1700000000&u=a&f=b&e=d", incomplete},
		{"no e-mail", "t=1700000000&u=a&f=b&l=c", incomplete},
		{"a part without equals sign", "t=1700000000&u=a&f=b&l=c&e=d&x", invalid},
		{"an empty part", "t=1700000000&&u=a&f=b&l=c&e=d", invalid},
		{"a wrong escape", "t=1700000000&u=%zz&f=b&l=c&e=d", invalid},
		{"an escape that is not UTF-8", "t=1700000000&u=%ff&f=b&l=c&e=d", invalid},
		{"raw bytes that are not UTF-8", "t=1700000000&u=\xff&f=b&l=c&e=d", invalid},
		{"a control character", "t=1700000000&u=a%0ab&f=b&l=c&e=d", invalid},
		{"a field twice", "t=1700000000&u=a&u=root&f=b&l=c&e=d", invalid},
		{"a timestamp that is no number", "t=now&u=a&f=b&l=c&e=d", invalid},
		{"a timestamp with fraction", "t=1700000000.5&u=a&f=b&l=c&e=d", invalid},
		{"a timestamp beyond 64 bits", "t=9223372036854775808&u=a&f=b&l=c&e=d", invalid},
		{"the last timestamp of 64 bits", "t=9223372036854775807&u=a&f=b&l=c&e=d", invalid},
		{"the first timestamp of 64 bits", "t=-9223372036854775808&u=a&f=b&l=c&e=d", invalid},
		{"the last second of 9999", "t=253402300799&u=a&f=b&l=c&e=d", "Authentication token is from the future."},
		{"the first second of 1970", "t=0&u=a&f=b&l=c&e=d", "Authentication token too old."},
		{"nothing but spaces", "  ", invalid},
	}
	forEachVersion(t, func(t *testing.T, config pgweb.Config) {
		login := newLogin(t, config)
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				refused(t, login, callback(t, config, test.plaintext), madeAt, test.body)
			})
		}
	})
}

func TestOptionalFieldsAndSpecialCharacters(t *testing.T) {
	forEachVersion(t, func(t *testing.T, config pgweb.Config) {
		want := pgweb.User{
			Username: "a&b=c", First: "Zoë", Last: "O'Neil Sr", Email: "zoe+farm@example.org",
			SecondaryEmails: []string{"z1@example.org", "z2@example.org"}, Data: "blob~._-$=", At: madeAt.UTC(),
		}
		query, err := pgwebtest.Callback(config, want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := newLogin(t, config).Decrypt(query, madeAt)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(pgweb.User{}, "Callback")); diff != "" {
			t.Errorf("unexpected user (-want +got):\n%s", diff)
		}
	})
}

func TestEmptySecondaryEmailsGiveNone(t *testing.T) {
	config := configFor(3)
	for _, se := range []string{"", "&se=", "&se=,"} {
		user, err := newLogin(t, config).Decrypt(callback(t, config, "t=1700000000&u=a&f=b&l=c&e=d"+se), madeAt)
		if err != nil || len(user.SecondaryEmails) != 0 {
			t.Errorf("%q: secondary e-mails %q, error %v", se, user.SecondaryEmails, err)
		}
	}
}

func TestReplayedCallbackHasTheSameIdentity(t *testing.T) {
	forEachVersion(t, func(t *testing.T, config pgweb.Config) {
		login, seen := newLogin(t, config), map[[32]byte]bool{}
		user := pgweb.User{Username: "a", First: "b", Last: "c", Email: "d", At: madeAt}
		for range 2 {
			query, err := pgwebtest.Callback(config, user)
			if err != nil {
				t.Fatal(err)
			}
			first, err1 := login.Decrypt(query, madeAt)
			again, err2 := login.Decrypt(query, madeAt.Add(time.Second))
			if err1 != nil || err2 != nil {
				t.Fatal(err1, err2)
			}
			if first.Callback != again.Callback {
				t.Error("one callback has two identities")
			}
			seen[first.Callback] = true
		}
		if len(seen) != 2 {
			t.Error("two logins of one user in one second have the same identity")
		}
	})
}

// In version 2 nothing is authenticated: a captured callback can be made younger.
func TestVersion2CallbackKeepsItsIdentityWhenTheIVIsChanged(t *testing.T) {
	login := newLogin(t, configFor(2))
	original, err := login.Decrypt(vectors[0].query, madeAt)
	if err != nil {
		t.Fatal(err)
	}
	query := clone(vectors[0].query)
	iv, err := base64.URLEncoding.DecodeString(query.Get("i"))
	if err != nil {
		t.Fatal(err)
	}
	iv[9] ^= '0' ^ '1' // t=1700000… becomes t=1700000100
	query.Set("i", base64.URLEncoding.EncodeToString(iv))
	moved, err := login.Decrypt(query, madeAt.Add(100*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if moved.At.Equal(original.At) {
		t.Fatal("the test did not move the timestamp")
	}
	if moved.Callback != original.Callback {
		t.Error("a moved timestamp gives a captured callback a new identity")
	}
}

func FuzzDecrypt(f *testing.F) {
	for _, vector := range vectors {
		f.Add(vector.version, vector.query.Encode(), "")
	}
	f.Add(2, "", vectorPlaintext)
	f.Add(3, "", "t=1700000000&u=a%00&f=&l&e=%")
	f.Add(4, "i=AA==&d=AA==&n=AA==&t=AA==", "")
	f.Fuzz(func(t *testing.T, version int, rawQuery, plaintext string) {
		config := configFor(2 + (version&0xff)%3)
		login := newLogin(t, config)
		if query, err := url.ParseQuery(rawQuery); err == nil {
			checkDecrypted(t, login, query)
		}
		checkDecrypted(t, login, callback(t, config, plaintext))
	})
}

func checkDecrypted(t *testing.T, login *pgweb.Login, query url.Values) {
	user, err := login.Decrypt(query, madeAt)
	var refusal *pgweb.CallbackError
	switch {
	case err != nil && !errors.As(err, &refusal):
		t.Errorf("error %v is no refusal", err)
	case err != nil && refusal.Body == "":
		t.Errorf("refusal %v has no body", err)
	case err == nil && (user.Username == "" || user.First == "" || user.Last == "" || user.Email == ""):
		t.Errorf("accepted an incomplete user %+v", user)
	}
}
