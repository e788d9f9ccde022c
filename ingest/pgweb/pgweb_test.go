package pgweb_test

import (
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/ingest/pgweb"
)

const loginURL = "https://www.postgresql.org/account/auth/7/"

// madeAt is the timestamp of the contract's test vectors.
var madeAt = time.Unix(1700000000, 0)

// counting gives the bytes 0, 1, 2, …
func counting(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

func configFor(version int) pgweb.Config {
	size := map[int]int{2: 32, 3: 64, 4: 32}[version]
	return pgweb.Config{LoginURL: loginURL, Key: counting(size), Version: version}
}

func newLogin(t testing.TB, config pgweb.Config) *pgweb.Login {
	t.Helper()
	login, err := pgweb.New(config, [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	return login
}

func TestConfigMistakesSayWhatToSet(t *testing.T) {
	tests := []struct {
		name   string
		change func(*pgweb.Config)
		want   []string
	}{
		{"version missing", func(c *pgweb.Config) { c.Version = 0 }, []string{"auth_version is 0: set 2, 3 or 4"}},
		{"version unknown", func(c *pgweb.Config) { c.Version = 5 }, []string{"auth_version is 5"}},
		{"key missing", func(c *pgweb.Config) { c.Key = nil }, []string{"auth_key has 0 bytes: version 3 wants 64"}},
		{"key of version 4 in version 3", func(c *pgweb.Config) { c.Key = counting(32) }, []string{"has 32 bytes: version 3 wants 64"}},
		{"key of version 3 in version 2", func(c *pgweb.Config) { c.Version = 2 }, []string{"has 64 bytes: version 2 wants 16, 24 or 32"}},
		{"key of version 3 in version 4", func(c *pgweb.Config) { c.Version = 4 }, []string{"has 64 bytes: version 4 wants 32"}},
		{"address missing", func(c *pgweb.Config) { c.LoginURL = "" }, []string{"login_url", "set it to"}},
		{"address of a script", func(c *pgweb.Config) { c.LoginURL = "javascript:alert(1)" }, []string{"no http or https address"}},
		{"address without host", func(c *pgweb.Config) { c.LoginURL = "https:///account" }, []string{"no http or https address"}},
		{"address with query", func(c *pgweb.Config) { c.LoginURL += "?a=b" }, []string{"query or fragment"}},
		{"address unreadable", func(c *pgweb.Config) { c.LoginURL = "https://a b/" }, []string{"login_url"}},
		{"two mistakes", func(c *pgweb.Config) { c.LoginURL, c.Key = "", nil }, []string{"login_url", "auth_key"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			config := configFor(3)
			test.change(&config)
			_, err := pgweb.New(config, [32]byte{})
			if err == nil {
				t.Fatalf("accepted %+v", config)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
}

func TestEveryKeyLengthOfVersion2IsAccepted(t *testing.T) {
	for _, size := range []int{16, 24, 32} {
		config := pgweb.Config{LoginURL: loginURL, Key: counting(size), Version: 2}
		if err := config.Validate(); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func TestLoginAndLogoutAddresses(t *testing.T) {
	for _, address := range []string{loginURL, strings.TrimSuffix(loginURL, "/")} {
		config := configFor(3)
		config.LoginURL = address
		login := newLogin(t, config)
		if got := login.LoginURL(""); got != address {
			t.Errorf("LoginURL without target = %q, want %q", got, address)
		}
		if got, want := login.LoginURL("ab-_"), address+"?d=ab-_"; got != want {
			t.Errorf("LoginURL with target = %q, want %q", got, want)
		}
		if got, want := login.LogoutURL(), loginURL+"logout/"; got != want {
			t.Errorf("LogoutURL = %q, want %q", got, want)
		}
	}
}
