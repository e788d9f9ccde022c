package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/ingest/pgweb"
	"github.com/millrace/millrace/ingest/pgweb/pgwebtest"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/pgperffarm/farmdoc"
)

// client follows no redirects: they are answers that tests look at.
var client = &http.Client{
	Timeout:       2 * time.Minute, // an upload may be held for one
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// Answer is a response that has been read.
type Answer struct {
	Asked  string // method and URL
	Status int
	Header http.Header
	Body   []byte
}

// Want ends the test unless the status is the one wanted.
func (a Answer) Want(t testing.TB, status int) Answer {
	t.Helper()
	if a.Status != status {
		t.Fatalf("%s: status %d, want %d: %.500s", a.Asked, a.Status, status, a.Body)
	}
	return a
}

// JSON reads the body.
func (a Answer) JSON(t testing.TB, into any) {
	t.Helper()
	if err := json.Unmarshal(a.Body, into); err != nil {
		t.Fatalf("%s: body %.500q: %v", a.Asked, a.Body, err)
	}
}

// Get asks the one origin for a path. The header is given as names and values in turn.
func (l *Lab) Get(t testing.TB, path string, header ...string) Answer {
	t.Helper()
	return send(t, http.MethodGet, l.URL()+path, nil, header...)
}

// Post sends a body to a path of the one origin. The header is given as names and values in turn.
func (l *Lab) Post(t testing.TB, path string, body []byte, header ...string) Answer {
	t.Helper()
	return send(t, http.MethodPost, l.URL()+path, body, header...)
}

// send makes a request; whatever is answered is an Answer.
func send(t testing.TB, method, url string, body []byte, header ...string) Answer {
	t.Helper()
	answer, err := try(t.Context(), method, url, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// try is send for goroutines, which may not end the test.
func try(ctx context.Context, method, url string, body []byte, header ...string) (Answer, error) {
	asked := method + " " + url
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return Answer{}, fmt.Errorf("%s: %w", asked, err)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Add(header[i], header[i+1])
	}
	response, err := client.Do(request)
	if err != nil {
		return Answer{}, fmt.Errorf("%s: %w", asked, err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return Answer{}, fmt.Errorf("%s: read the answer: %w", asked, err)
	}
	return Answer{Asked: asked, Status: response.StatusCode, Header: response.Header, Body: content}, nil
}

// run tells the names of this run of the tests from those of others in the same installation.
var (
	run     = strconv.FormatInt(time.Now().UnixMilli(), 36)
	counter atomic.Int64
)

// Unique gives a name that nothing else has.
func Unique(prefix string) string {
	return prefix + "-" + run + "-" + strconv.FormatInt(counter.Add(1), 10)
}

// Machine is a registered, approved machine of the Performance Farm.
type Machine struct {
	ID     uint64 `json:"machine_id"`
	Alias  string `json:"alias"`
	Secret string `json:"secret"`
	Owner  string `json:"-"`
}

// Machine registers a machine of an owner of its own.
func (l *Lab) Machine(t testing.TB) Machine {
	t.Helper()
	machine := Machine{Owner: Unique("owner")}
	l.Admin(t, nil, "admin", "pgperffarm", "user", "set", machine.Owner, "--email", machine.Owner+"@example.org")
	l.Admin(t, &machine, "admin", "pgperffarm", "machine", "add", Unique("machine"), "--owner", machine.Owner, "--approved")
	if machine.ID == 0 || machine.Secret == "" {
		t.Fatalf("machine add printed no id or no secret: %+v", machine)
	}
	return machine
}

// Token gives out a token for /millrace/v1.
func (l *Lab) Token(t testing.TB, role string) string {
	t.Helper()
	var token struct{ Token string }
	l.Admin(t, &token, "admin", "token", "add", Unique("token"), "--role", role)
	return token.Token
}

// uploadPath is where the farm's uploader posts to.
const uploadPath = "/run/upload/"

// Upload sends a document with a machine's secret.
func (l *Lab) Upload(t testing.TB, machine Machine, document []byte, header ...string) Answer {
	t.Helper()
	return l.Post(t, uploadPath, document, append(header, "Authorization", machine.Secret)...)
}

// epoch is when the first document's run started.
var epoch = time.Date(2024, 3, 1, 12, 0, 0, 0, time.UTC)

// document makes a small upload, of 2 KB, whose numbers and start follow from n.
func document(n int) []byte { return farmdoc.Synthetic(farmdoc.Small(options(n))) }

// largeDocument makes an upload of 100 KB, which travels by the blob store.
func largeDocument(n int) []byte { return farmdoc.Synthetic(farmdoc.Large(options(n))) }

func options(n int) farmdoc.Options {
	return farmdoc.Options{Seed: uint64(n), Start: epoch.Add(time.Duration(n) * time.Hour)}
}

// The labs' registration at pgweb, and the user who is staff.
var (
	login = pgweb.Config{LoginURL: "https://www.postgresql.org/account/auth/99/", Key: make([]byte, 64), Version: 3}
	staff = "e2e-staff"
)

// loginSettings are the settings of the registration, as environment variables.
func loginSettings() []string {
	return []string{
		"MILLRACE_PGPERFFARM_LOGIN_URL=" + login.LoginURL,
		"MILLRACE_PGPERFFARM_AUTH_KEY=" + base64.StdEncoding.EncodeToString(login.Key),
		"MILLRACE_PGPERFFARM_AUTH_VERSION=" + strconv.Itoa(login.Version),
		"MILLRACE_PGPERFFARM_STAFF=" + staff,
	}
}

// Session is a browser with a community user logged in.
type Session struct {
	lab    *Lab
	header []string
}

// SignIn logs a community user in, as a callback from pgweb does. The user named staff is staff.
func (l *Lab) SignIn(t testing.TB, name string) *Session {
	t.Helper()
	query, err := pgwebtest.Callback(login, pgweb.User{
		Username: name, First: "Jane", Last: "Doe", Email: name + "@example.org", At: time.Now(),
	})
	if err != nil {
		t.Fatal(err)
	}
	answer := l.Get(t, "/user/auth_receive/?"+query.Encode()).Want(t, http.StatusFound)
	s := &Session{lab: l}
	var cookies []string
	for _, cookie := range (&http.Response{Header: answer.Header}).Cookies() {
		cookies = append(cookies, cookie.Name+"="+cookie.Value)
		if cookie.Name == access.ForgeryCookie {
			s.header = append(s.header, "X-CSRFToken", cookie.Value)
		}
	}
	s.header = append(s.header, "Cookie", strings.Join(cookies, "; "))
	return s
}

// Get asks for a path as the user.
func (s *Session) Get(t testing.TB, path string) Answer {
	t.Helper()
	return s.lab.Get(t, path, s.header...)
}

// Post sends JSON as the user, as the farm's front end does.
func (s *Session) Post(t testing.TB, path string, body any) Answer {
	t.Helper()
	encoded, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return s.lab.Post(t, path, encoded, append(s.header, "Content-Type", "text/plain;charset=UTF-8")...)
}
