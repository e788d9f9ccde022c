package pgwebtest_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/millrace/millrace/ingest/pgweb"
	"github.com/millrace/millrace/ingest/pgweb/pgwebtest"
)

var jane = pgweb.User{Username: "jdoe", First: "Jane", Last: "Doe", Email: "jane@example.org"}

// visit requests an address of the fake and gives the address it redirects to.
func visit(t *testing.T, handler http.Handler, address string) *url.URL {
	t.Helper()
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, address, nil))
	if answer.Code != http.StatusFound {
		t.Fatalf("%s answered %d %s", address, answer.Code, answer.Body)
	}
	to, err := answer.Result().Location()
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func TestWholeLoginComesBackWithUserAndTarget(t *testing.T) {
	for version, size := range map[int]int{2: 24, 3: 64, 4: 32} {
		config := pgweb.Config{LoginURL: "http://pgweb.example/account/auth/7/", Key: make([]byte, size), Version: version}
		login, err := pgweb.New(config, [32]byte{})
		if err != nil {
			t.Fatal(err)
		}
		fake := pgwebtest.Handler(config, jane, "http://farm.example/user/auth_receive/")
		blob, err := login.SealTarget("/machine/user", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		back := visit(t, fake, login.LoginURL(blob))
		user, err := login.Decrypt(back.Query(), time.Now())
		if err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		target, err := login.OpenTarget(user.Data, time.Now())
		if err != nil || target != "/machine/user" || user.Username != jane.Username || back.Path != "/user/auth_receive/" {
			t.Errorf("version %d: came back to %s as %q with target %q, %v", version, back.Path, user.Username, target, err)
		}
	}
}

func TestBlobWithForeignCharactersIsDropped(t *testing.T) {
	config := pgweb.Config{LoginURL: "http://pgweb.example/", Key: make([]byte, 64), Version: 3}
	login, err := pgweb.New(config, [32]byte{})
	if err != nil {
		t.Fatal(err)
	}
	back := visit(t, pgwebtest.Handler(config, jane, "http://farm.example/"), login.LoginURL("a/b"))
	user, err := login.Decrypt(back.Query(), time.Now())
	if err != nil || user.Data != "" {
		t.Errorf("data %q, %v", user.Data, err)
	}
}

func TestLogoutLeadsToTheCallback(t *testing.T) {
	config := pgweb.Config{LoginURL: "http://pgweb.example/7/", Key: make([]byte, 64), Version: 3}
	login, err := pgweb.New(config, [32]byte{})
	if err != nil {
		t.Fatal(err)
	}
	back := visit(t, pgwebtest.Handler(config, jane, "http://farm.example/"), login.LogoutURL())
	if back.String() != "http://farm.example/?s=logout" {
		t.Errorf("logout leads to %s", back)
	}
}

func TestWrongNonceIsRefused(t *testing.T) {
	config := pgweb.Config{LoginURL: "http://pgweb.example/", Key: make([]byte, 32), Version: 4}
	if _, err := pgwebtest.Encrypt(config, make([]byte, 16), "t=1"); err == nil {
		t.Error("a nonce of version 3 was accepted in version 4")
	}
	if _, err := pgwebtest.Encrypt(pgweb.Config{}, nil, ""); err == nil {
		t.Error("an empty configuration was accepted")
	}
}
