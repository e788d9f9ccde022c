package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/ingest/pgweb"
	"github.com/millrace/millrace/ingest/pgweb/pgwebtest"
	"github.com/millrace/millrace/processor/access"
)

// caller is somebody who sends requests to a lab's one origin.
type caller struct {
	lab    *Lab
	header http.Header
	client *http.Client
}

// visitor carries no credential.
func (l *Lab) visitor(testing.TB) *caller {
	return &caller{lab: l, header: http.Header{}, client: client}
}

// elsewhere is a visitor at an address of this machine that no other test uses: failed attempts are counted by address.
// Where the lab sees one address for all of this machine, the test is skipped.
func (l *Lab) elsewhere(t testing.TB) *caller {
	t.Helper()
	if _, local := l.installation.(*processes); !local {
		t.Skipf("%s sees all callers under one address", l.Kind)
	}
	n := counter.Add(1)
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(n/250), byte(1+n%250))}}
	transport := &http.Transport{DialContext: dialer.DialContext}
	t.Cleanup(transport.CloseIdleConnections)
	c := l.visitor(t)
	c.client = &http.Client{Transport: transport, Timeout: client.Timeout, CheckRedirect: client.CheckRedirect}
	if _, err := c.try(t, http.MethodGet, "/healthz", nil); errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Skip("this system sends from 127.0.0.1 only")
	}
	return c
}

// with is the same caller with one more header; an empty value takes a header away.
func (c *caller) with(name, value string) *caller {
	changed := *c
	changed.header = c.header.Clone()
	if changed.header.Set(name, value); value == "" {
		changed.header.Del(name)
	}
	return &changed
}

// as is the caller who carries a machine's secret.
func (c *caller) as(m machine) *caller { return c.with("Authorization", m.Secret) }

func (c *caller) get(t testing.TB, path string) Answer {
	t.Helper()
	return c.do(t, http.MethodGet, path, nil)
}

// post sends a body as the farm's front end does, which names no JSON content type.
func (c *caller) post(t testing.TB, path, body string) Answer {
	t.Helper()
	return c.with("Content-Type", "text/plain;charset=UTF-8").do(t, http.MethodPost, path, []byte(body))
}

func (c *caller) do(t testing.TB, method, path string, body []byte) Answer {
	t.Helper()
	answer, err := c.try(t, method, path, body)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// try is do for goroutines, which may not end the test.
func (c *caller) try(t testing.TB, method, path string, body []byte) (Answer, error) {
	asked := method + " " + c.lab.URL() + path
	request, err := http.NewRequestWithContext(t.Context(), method, c.lab.URL()+path, bytes.NewReader(body))
	if err != nil {
		return Answer{}, fmt.Errorf("%s: %w", asked, err)
	}
	request.Header = c.header.Clone()
	if host := request.Header.Get("Host"); host != "" {
		request.Host = host
	}
	noteCall(t, method, request.URL.Path)
	response, err := c.client.Do(request)
	if err != nil {
		return Answer{}, fmt.Errorf("%s: %w", asked, err)
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return Answer{}, fmt.Errorf("%s: read the answer: %w", asked, err)
	}
	return Answer{Asked: asked, Status: response.StatusCode, Header: response.Header, Body: content}, nil
}

// is wants exactly this status and body.
func (a Answer) is(t testing.TB, status int, body string) {
	t.Helper()
	if a.Status != status || string(a.Body) != body {
		t.Errorf("%s: %d %.600s, want %d %s", a.Asked, a.Status, a.Body, status, body)
	}
}

// says wants a status and a body that holds some texts.
func (a Answer) says(t testing.TB, status int, texts ...string) {
	t.Helper()
	if a.Status != status {
		t.Errorf("%s: status %d, want %d: %.600s", a.Asked, a.Status, status, a.Body)
		return
	}
	for _, text := range texts {
		if !strings.Contains(string(a.Body), text) {
			t.Errorf("%s: body %.600s, want it to say %q", a.Asked, a.Body, text)
		}
	}
}

// refuses wants a status and a JSON object with the one member error, which holds some texts.
func (a Answer) refuses(t testing.TB, status int, texts ...string) {
	t.Helper()
	a.says(t, status, texts...)
	var failure map[string]string
	if err := json.Unmarshal(a.Body, &failure); err != nil || len(failure) != 1 || failure["error"] == "" {
		t.Errorf("%s: body %.600s, want an object with the one string member error", a.Asked, a.Body)
	}
	if kind := a.Header.Get("Content-Type"); !strings.HasPrefix(kind, "application/json") {
		t.Errorf("%s: Content-Type of a refusal is %q, want application/json", a.Asked, kind)
	}
}

// rows decodes an answer that must be 200 with an array of objects.
func (a Answer) rows(t testing.TB) []map[string]any {
	t.Helper()
	var rows []map[string]any
	a.Want(t, http.StatusOK).JSON(t, &rows)
	if rows == nil {
		t.Fatalf("%s: body %.600s is no array", a.Asked, a.Body)
	}
	return rows
}

// cookies are those that the answer sets, by name.
func (a Answer) cookies() map[string]*http.Cookie {
	cookies := map[string]*http.Cookie{}
	for _, cookie := range (&http.Response{Header: a.Header}).Cookies() {
		cookies[cookie.Name] = cookie
	}
	return cookies
}

// location is where the answer redirects to.
func (a Answer) location(t testing.TB) *url.URL {
	t.Helper()
	location, err := url.Parse(a.Want(t, http.StatusFound).Header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	return location
}

// person is a community user as pgweb describes them now.
func person(name string) pgweb.User {
	return pgweb.User{Username: name, First: "Jane", Last: "Doe", Email: name + "@example.org", At: time.Now()}
}

// callback is the path to which pgweb sends a user's browser.
func callback(t testing.TB, registration pgweb.Config, user pgweb.User) string {
	t.Helper()
	query, err := pgwebtest.Callback(registration, user)
	if err != nil {
		t.Fatal(err)
	}
	return "/user/auth_receive/?" + query.Encode()
}

// browser is the caller whom a login makes of a visitor.
func (l *Lab) browser(t testing.TB, name string) *caller {
	t.Helper()
	c := l.visitor(t)
	return c.keep(t, c.get(t, callback(t, login, person(name))))
}

// keep is the caller who takes the cookies of a login, and echoes its token against forgery.
func (c *caller) keep(t testing.TB, login Answer) *caller {
	t.Helper()
	cookies := login.Want(t, http.StatusFound).cookies()
	session, forgery := cookies[access.SessionCookie], cookies[access.ForgeryCookie]
	if session == nil || forgery == nil {
		t.Fatalf("%s: the login sets no cookies: %v", login.Asked, login.Header)
		return nil // staticcheck does not know that a testing.TB never comes back from Fatalf
	}
	return c.with("Cookie", session.Name+"="+session.Value+"; "+forgery.Name+"="+forgery.Value).with("X-CSRFToken", forgery.Value)
}

// machine is a registered machine of a lab.
type machine struct {
	Machine
	lab *Lab
}

// newMachine registers an approved machine of an owner of its own.
func (l *Lab) newMachine(t testing.TB) machine {
	t.Helper()
	owner := Unique("owner")
	l.operate(t, "/pgperffarm/users", map[string]any{"name": owner, "email": owner + "@example.org"})
	return l.machineOf(t, owner)
}

// machineOf registers an approved machine of an owner who is known.
func (l *Lab) machineOf(t testing.TB, owner string) machine {
	t.Helper()
	m := machine{lab: l}
	body := map[string]any{"alias": Unique("otter"), "owner": owner, "description": "lab box", "approved": true}
	l.operate(t, "/pgperffarm/machines", body).JSON(t, &m.Machine)
	m.Owner = owner
	return m
}

// upload sends a body as the farm's client does.
func (m machine) upload(t testing.TB, body []byte) Answer {
	t.Helper()
	return m.uploader(t).do(t, http.MethodPost, uploadPath, body)
}

// uploader is the farm's client on the machine.
func (m machine) uploader(t testing.TB) *caller {
	return m.lab.visitor(t).as(m).with("Content-Type", "application/json; charset=utf-8")
}

// store sends a document that must be stored, and gives the run's id.
func (m machine) store(t testing.TB, d farmDocument) uint64 {
	t.Helper()
	a := m.upload(t, d.body()).Want(t, http.StatusCreated)
	a.is(t, http.StatusCreated, "")
	id, err := strconv.ParseUint(strings.TrimPrefix(a.Header.Get("Location"), "/run/"), 10, 64)
	if err != nil {
		t.Fatalf("Location of a stored run is %q, want /run/ID", a.Header.Get("Location"))
	}
	return id
}

// operators are the operator's tokens of the labs.
var operators sync.Map

// operator is the caller who may do everything.
func (l *Lab) operator(t testing.TB) *caller {
	t.Helper()
	token, known := operators.Load(l)
	if !known {
		token, _ = operators.LoadOrStore(l, l.Token(t, "operator"))
	}
	return l.visitor(t).with("Authorization", "Bearer "+token.(string))
}

// operate sends an operator's command and wants it done.
func (l *Lab) operate(t testing.TB, path string, body any) Answer {
	t.Helper()
	encoded, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	a := l.operator(t).do(t, http.MethodPost, "/millrace/v1/admin"+path, encoded)
	if a.Status >= http.StatusBadRequest {
		t.Fatalf("%s: %d %s", a.Asked, a.Status, a.Body)
	}
	return a
}

// startWith gives a test a standalone to itself, with settings of the test's own: environment variables, in which * is the
// port that it serves on.
func startWith(t *testing.T, settings ...string) *Lab {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a process: not with -short")
	}
	dir, err := os.MkdirTemp("", "millrace-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	p := &processes{dir: dir, engines: &engines{}}
	all, err := p.add("standalone", "standalone")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(all.address)
	if err != nil {
		t.Fatal(err)
	}
	for _, setting := range settings {
		all.env = append(all.env, strings.ReplaceAll(setting, "*", port))
	}
	p.front, p.ingest = all, []*process{all}
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	started, err := p.started(ctx)
	if err != nil {
		t.Fatal(err)
	}
	lab := &Lab{Kind: "standalone", installation: started, dir: dir}
	t.Cleanup(func() {
		lab.tellOnFailure(t)
		if err := lab.close(); err != nil {
			t.Errorf("end the lab: %v", err)
		}
	})
	return lab
}
