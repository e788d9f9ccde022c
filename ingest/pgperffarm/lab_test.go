package pgperffarm_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/millrace/millrace/ingest/door/doortest"
	"github.com/millrace/millrace/ingest/operator"
	"github.com/millrace/millrace/ingest/pgperffarm"
	"github.com/millrace/millrace/ingest/pgweb"
	"github.com/millrace/millrace/ingest/pgweb/pgwebtest"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/pgperffarm/farmdoc"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/processor/runs"
	"github.com/millrace/millrace/schemas/blob"
	"github.com/millrace/millrace/schemas/document"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/keyring"
	"github.com/millrace/millrace/schemas/route"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.ReleaseMode)
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) { os.Exit(code) }))
}

// installation is what several doors of one Millrace share.
type installation struct {
	clock  *doortest.Clock
	log    *doortest.Log
	ring   *keyring.Keyring
	packer *document.Packer
	blobs  *blob.Store
}

func newInstallation(t *testing.T) *installation {
	t.Helper()
	ring, err := keyring.Open(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := blob.Open(context.Background(), "mem://")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = blobs.Close() })
	packer, err := document.NewPacker(blobs, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	clock := doortest.NewClock(time.Date(2023, 11, 14, 22, 13, 20, 0, time.UTC))
	return &installation{clock: clock, log: doortest.NewLog(clock.Now), ring: ring, packer: packer, blobs: blobs}
}

// lab is one door with its own replicas.
type lab struct {
	*installation
	t        *testing.T
	registry *doortest.Fold[*registry.State, registry.Outcome]
	runs     *doortest.Fold[*runs.State, runs.Outcome]
	engine   *gin.Engine
	login    pgweb.Config
}

// change alters what a door is made of.
type change func(*pgperffarm.Config, *pgperffarm.Dependencies)

func newLab(t *testing.T, changes ...change) *lab {
	t.Helper()
	return newInstallation(t).door(t, changes...)
}

func (i *installation) door(t *testing.T, changes ...change) *lab {
	t.Helper()
	l := &lab{installation: i, t: t, registry: doortest.NewFold(i.log, registry.Fold()), runs: doortest.NewFold(i.log, runs.Fold())}
	if err := l.registry.CatchUp(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := l.runs.CatchUp(context.Background()); err != nil {
		t.Fatal(err)
	}
	key := make([]byte, 64)
	l.login = pgweb.Config{LoginURL: "https://www.postgresql.org/account/auth/99/", Key: key, Version: 3}
	config := pgperffarm.DefaultConfig()
	config.Login, config.AfterLogin, config.Staff = l.login, "/profile", []string{"boss"}
	config.Hold = time.Second
	dependencies := pgperffarm.Dependencies{
		Log: i.log.Door(), Registry: l.registry, Runs: l.runs, Keyring: i.ring, Packer: i.packer, Now: i.clock.Now,
		Metrics: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
	}
	for _, change := range changes {
		change(&config, &dependencies)
	}
	farm, err := pgperffarm.New(config, dependencies)
	if err != nil {
		t.Fatal(err)
	}
	l.mount(farm, config)
	return l
}

func (l *lab) mount(farm *pgperffarm.Farm, config pgperffarm.Config) {
	l.t.Helper()
	commands := operator.New(operator.Dependencies{
		Log: l.log.Door(), Registry: l.registry, Keyring: l.ring, KeepKeys: time.Hour,
		DeadLetter: func(context.Context, string) (*event.DeadLetter, error) { return nil, nil },
	})
	authorizer := access.NewFarm(access.FarmConfig{Hold: config.Hold, Refused: farm.RefusedUpload}, l.registry, l.ring,
		access.NewAttempts(), l.clock.Now)
	l.engine = gin.New()
	err := route.Mount(l.engine, append(farm.Routes(), commands.Routes()...), route.Options{
		APIs: map[string]route.API{pgperffarm.API: authorizer.API(), operator.API: {Authorize: access.Socket}},
		Log:  slog.New(slog.DiscardHandler),
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

// call is a request that a test makes.
type call struct {
	method, path string
	body         string
	header       http.Header
	from         string // address of the sender
}

func (l *lab) do(asked call) *httptest.ResponseRecorder {
	l.t.Helper()
	var body io.Reader
	if asked.body != "" {
		body = strings.NewReader(asked.body)
	}
	request := httptest.NewRequest(asked.method, asked.path, body)
	for name, values := range asked.header {
		request.Header[name] = values
	}
	if asked.from != "" {
		request.RemoteAddr = asked.from
	}
	recorder := httptest.NewRecorder()
	l.engine.ServeHTTP(recorder, request)
	return recorder
}

// get asks for a page as a browser with the cookies of header.
func (l *lab) get(path string, header http.Header) *httptest.ResponseRecorder {
	l.t.Helper()
	return l.do(call{method: http.MethodGet, path: path, header: header})
}

// upload sends a document with a machine's secret.
func (l *lab) upload(secret string, body []byte) *httptest.ResponseRecorder {
	l.t.Helper()
	return l.do(call{method: http.MethodPost, path: "/run/upload/", body: string(body), header: http.Header{"Authorization": {secret}}})
}

// operate sends an operator's command and wants it done.
func (l *lab) operate(path, body string) map[string]any {
	l.t.Helper()
	answer := l.do(call{method: http.MethodPost, path: "/millrace/v1/admin" + path, body: body})
	if answer.Code >= 300 {
		l.t.Fatalf("POST %s: %d %s", path, answer.Code, answer.Body)
	}
	var decoded map[string]any
	if err := json.Unmarshal(answer.Body.Bytes(), &decoded); err != nil {
		l.t.Fatal(err)
	}
	return decoded
}

// machine registers an approved machine and gives its secret.
func (l *lab) machine(alias string) string {
	l.t.Helper()
	l.operate("/pgperffarm/users", `{"name": "jdoe"}`)
	secret, _ := l.operate("/pgperffarm/machines", `{"alias": "`+alias+`", "owner": "jdoe", "approved": true}`)["secret"].(string)
	return secret
}

// callback is what pgweb sends for a user who logs in now.
func (l *lab) callback(name string, target string) string {
	l.t.Helper()
	query, err := pgwebtest.Callback(l.login, pgweb.User{
		Username: name, First: "Jane", Last: "Doe", Email: name + "@example.org", Data: target, At: l.clock.Now(),
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return "/user/auth_receive/?" + query.Encode()
}

// signIn logs a user in and gives the headers of a signed-in script: cookies and CSRF token.
func (l *lab) signIn(name string) http.Header {
	l.t.Helper()
	answer := l.get(l.callback(name, ""), nil)
	if answer.Code != http.StatusFound {
		l.t.Fatalf("sign in as %s: %d %s", name, answer.Code, answer.Body)
	}
	return cookiesOf(answer)
}

func cookiesOf(answer *httptest.ResponseRecorder) http.Header {
	header := http.Header{}
	for _, cookie := range answer.Result().Cookies() {
		header.Add("Cookie", cookie.Name+"="+cookie.Value)
		if cookie.Name == access.ForgeryCookie {
			header.Set("X-Csrftoken", cookie.Value)
		}
	}
	header["Cookie"] = []string{strings.Join(header["Cookie"], "; ")}
	return header
}

// post sends JSON as the front end does.
func (l *lab) post(path, body string, header http.Header) *httptest.ResponseRecorder {
	l.t.Helper()
	header = header.Clone()
	if header == nil {
		header = http.Header{}
	}
	header.Set("Content-Type", "text/plain;charset=UTF-8")
	return l.do(call{method: http.MethodPost, path: path, body: body, header: header})
}

// want checks status and body of an answer.
func want(t *testing.T, answer *httptest.ResponseRecorder, status int, body string) {
	t.Helper()
	if answer.Code != status || answer.Body.String() != body {
		t.Errorf("answer is %d %q, want %d %q", answer.Code, answer.Body, status, body)
	}
}

// wantSaying checks the status of an answer and that its body says something.
func wantSaying(t *testing.T, answer *httptest.ResponseRecorder, status int, says ...string) {
	t.Helper()
	if answer.Code != status {
		t.Errorf("status is %d, want %d: %s", answer.Code, status, answer.Body)
	}
	for _, text := range says {
		if !strings.Contains(answer.Body.String(), text) {
			t.Errorf("body is %q, want it to say %q", answer.Body, text)
		}
	}
}

// document is a small upload that starts n minutes after the first one.
func smallDocument(n int) []byte {
	start := time.Date(2021, 7, 2, 11, 0, 0, 0, time.UTC).Add(time.Duration(n) * time.Minute)
	return farmdoc.Synthetic(farmdoc.Small(farmdoc.Options{Seed: uint64(n), MachineType: "aarch64", Start: start}))
}

// edited is a document with one replacement, which must take place.
func edited(t *testing.T, body []byte, old, replacement string) []byte {
	t.Helper()
	if !bytes.Contains(body, []byte(old)) {
		t.Fatalf("the document has no %q", old)
	}
	return bytes.Replace(body, []byte(old), []byte(replacement), 1)
}

// events decodes what stands in a topic.
func events[T any](l *installation, t *testing.T, topic string) []T {
	t.Helper()
	var found []T
	for _, record := range l.log.Records(topic) {
		message, err := record.Decode()
		if err != nil {
			t.Fatal(err)
		}
		if m, ok := message.(T); ok {
			found = append(found, m)
		}
	}
	return found
}

// lastOffset is the offset of the newest record of a topic.
func (l *lab) lastOffset(topic string) int64 { return int64(len(l.log.Records(topic))) - 1 }

// position is what Millrace-Position of an answer says about a topic; -1 when it says nothing.
func position(t *testing.T, answer *httptest.ResponseRecorder, topic string) int64 {
	t.Helper()
	parsed, err := eventlog.ParsePosition(answer.Header().Get(eventlog.PositionHeader))
	if err != nil {
		t.Fatal(err)
	}
	offset, named := parsed.Offsets[eventlog.Partition{Topic: topic}]
	if !named {
		return -1
	}
	return offset
}

func location(t *testing.T, answer *httptest.ResponseRecorder) *url.URL {
	t.Helper()
	u, err := url.Parse(answer.Header().Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	return u
}
