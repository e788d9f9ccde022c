package pgperffarm_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/ingest/pgperffarm"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/pgperffarm/farmdoc"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// The tests of this file are named after the weaknesses of upstream (contract section 8) that concern writes.

// secretOf opens what the registry keeps of a machine's secret.
func secretOf(t *testing.T, l *lab, alias string) string {
	t.Helper()
	var sealed []byte
	l.registry.View(func(s *registry.State) { sealed = s.ByAlias(alias).SealedSecret })
	secret, err := access.OpenMachineSecret(l.ring, sealed)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func TestW1SecretIsRandomWhateverTheRequestSays(t *testing.T) {
	seen := map[string]bool{}
	for range 3 {
		l := newLab(t)
		l.post("/machine/add", `{"alias": "otter", "description": "lab box"}`, l.signIn("jdoe"))
		secret := secretOf(t, l, "otter")
		if len(secret) != 32 || strings.Trim(secret, "0123456789abcdef") != "" {
			t.Errorf("secret is %q, want 32 lower-case hexadecimal digits", secret)
		}
		if seen[secret] {
			t.Errorf("secret %q was given twice", secret)
		}
		seen[secret] = true
	}
}

func TestW2SecretStandsNowhereInClear(t *testing.T) {
	l := newLab(t)
	jane := l.signIn("jdoe")
	l.post("/machine/add", `{"alias": "otter", "description": ""}`, jane)
	secret := secretOf(t, l, "otter")
	rotated, _ := l.operate("/pgperffarm/machines/rotate", `{"alias": "otter"}`)["secret"].(string)
	session, _, _ := strings.Cut(strings.TrimPrefix(jane.Get("Cookie"), "sessionid="), ";")
	for _, topic := range []string{eventlog.Registry, eventlog.Runs, eventlog.Results} {
		for _, record := range l.log.Records(topic) {
			for what, text := range map[string]string{
				"secret": secret, "rotated secret": rotated, "session": session, "user name": "jdoe", "e-mail address": "jdoe@example.org", "first name": "Jane",
			} {
				if bytes.Contains(record.Data, []byte(text)) {
					t.Errorf("event %s holds the %s in clear", record.Type, what)
				}
			}
		}
	}
}

func TestW2RotatedSecretIsRefusedAndTheNewOneTaken(t *testing.T) {
	l := newLab(t)
	old := l.machine("otter")
	fresh, _ := l.operate("/pgperffarm/machines/rotate", `{"alias": "otter"}`)["secret"].(string)
	wantSaying(t, l.upload(old, smallDocument(0)), http.StatusNotAcceptable, "secret")
	want(t, l.upload(fresh, smallDocument(0)), http.StatusCreated, "")
}

func TestW2RevokedSecretIsRefusedUntilItIsRotated(t *testing.T) {
	l := newLab(t)
	secret := l.machine("otter")
	l.operate("/pgperffarm/machines/revoke", `{"alias": "otter"}`)
	wantSaying(t, l.upload(secret, smallDocument(0)), http.StatusNotAcceptable, "secret")
	fresh, _ := l.operate("/pgperffarm/machines/rotate", `{"alias": "otter"}`)["secret"].(string)
	want(t, l.upload(fresh, smallDocument(0)), http.StatusCreated, "")
}

func TestW2FailedSecretsAreRateLimitedPerAddress(t *testing.T) {
	l := newLab(t)
	known, secret := l.machine("otter"), l.machine("beaver")
	send := func(from, secret string, n int) *httptest.ResponseRecorder {
		return l.do(call{method: http.MethodPost, path: "/run/upload", body: string(smallDocument(n)), from: from, header: http.Header{"Authorization": {secret}}})
	}
	want(t, send("198.51.100.7:1", known, 0), http.StatusCreated, "")
	refused := 0
	for i := range 40 {
		answer := send("198.51.100.7:2", fmt.Sprintf("%032x", i), 0)
		if answer.Code == http.StatusTooManyRequests {
			refused++
			if answer.Header().Get("Retry-After") != "1" {
				t.Errorf("Retry-After is %q, want 1", answer.Header().Get("Retry-After"))
			}
			continue
		}
		wantSaying(t, answer, http.StatusNotAcceptable)
	}
	if refused != 20 {
		t.Errorf("%d of 40 wrong secrets were refused unseen, want 20", refused)
	}
	wantSaying(t, send("198.51.100.7:3", secret, 1), http.StatusTooManyRequests)
	want(t, send("198.51.100.7:4", known, 1), http.StatusCreated, "")
	want(t, send("198.51.100.8:5", secret, 1), http.StatusCreated, "")
	l.clock.Pass(2e9)
	want(t, send("198.51.100.7:6", secret, 2), http.StatusCreated, "")
}

func TestW3LoginTargetOnAnotherSiteIsDropped(t *testing.T) {
	l := newLab(t)
	for _, next := range []string{
		"https://evil.example/", "//evil.example/", `/\evil.example`, `\\evil.example`, "javascript:alert(1)", "evil.example",
		"/\t/evil.example", "http://example.com@evil.example/", "http:evil.example",
	} {
		answer := l.get("/user/community_login?next="+url.QueryEscape(next), nil)
		if answer.Code != http.StatusFound || answer.Header().Get("Location") != l.login.LoginURL {
			t.Errorf("next %q: %d to %q, want the login without a target", next, answer.Code, answer.Header().Get("Location"))
		}
	}
}

func TestW3ForgedTargetIsIgnored(t *testing.T) {
	l := newLab(t)
	for i, blob := range []string{"AAAA", "dD0xNzAwMDAwMDAwJnI9aHR0cHM6Ly9ldmlsLmV4YW1wbGU", "a$b"} {
		answer := l.get(l.callback(fmt.Sprintf("user%d", i), blob), nil)
		if answer.Code != http.StatusFound || answer.Header().Get("Location") != "/profile" {
			t.Errorf("blob %q: %d to %q, want 302 to /profile", blob, answer.Code, answer.Header().Get("Location"))
		}
	}
}

func TestW4CallbackCannotBeReplayedAtAnyReplica(t *testing.T) {
	shared := newInstallation(t)
	here, there := shared.door(t), shared.door(t)
	callback := here.callback("jdoe", "")
	wantSaying(t, here.get(callback, nil), http.StatusFound)
	for _, l := range []*lab{here, there} {
		answer := l.get(callback, nil)
		wantSaying(t, answer, http.StatusBadRequest, "used before")
		if len(answer.Result().Cookies()) != 0 {
			t.Error("a replay got cookies")
		}
	}
}

func TestW4CallbackOfVersion2CannotBeReplayedInAnotherForm(t *testing.T) {
	key := make([]byte, 32)
	for i := range key {
		key[i] = byte(i)
	}
	l := newLab(t, func(c *pgperffarm.Config, _ *pgperffarm.Dependencies) { c.Login.Key, c.Login.Version = key, 2 })
	const data = "JkI5KbO0a9YG32hrtUkL1DfuDByUWK2lqE9dHW2d-apo88vAHEW-OlhjDJXRG_WeZu04c5oR35uPmYRkSVoG65Fa5uTb9BPkYez2ISC4_YE="
	wantSaying(t, l.get("/user/auth_receive/?i=AAECAwQFBgcICQoLDA0ODw==&d="+data, nil), http.StatusFound)
	// The IV is not authenticated: flipping a bit of the timestamp's last digit makes another, valid-looking callback.
	answer := l.get("/user/auth_receive/?i=AAECAwQFBgcICQoKDA0ODw==&d="+data, nil)
	wantSaying(t, answer, http.StatusBadRequest, "used before")
}

func TestW5RedirectsDoNotRepeatTheHostThatTheClientNames(t *testing.T) {
	l := newLab(t)
	request := httptest.NewRequest(http.MethodPost, "/machine/add", nil)
	request.Host = "evil.example"
	request.Header = http.Header{"Cookie": {"csrftoken=t"}, "X-Csrftoken": {"t"}}
	recorder := httptest.NewRecorder()
	l.engine.ServeHTTP(recorder, request)
	if got := recorder.Header().Get("Location"); recorder.Code != http.StatusFound || got != "/user/community_login?next=/machine/add" {
		t.Errorf("answer is %d to %q", recorder.Code, got)
	}
}

func TestW6StateDoesNotChangeByGET(t *testing.T) {
	l := newLab(t)
	boss := l.signIn("boss")
	l.post("/machine/add", `{"alias": "otter", "description": "before"}`, boss)
	before := l.lastOffset(eventlog.Registry)
	for _, path := range []string{"/machine/add", "/machine/approve/", "/machine/edit/1", "/run/upload"} {
		answer := l.do(call{method: http.MethodGet, path: path, body: `{"alias": "otter", "description": "after"}`, header: boss})
		wantSaying(t, answer, http.StatusMethodNotAllowed, `{"error":"`)
		if got := answer.Header().Get("Allow"); got != http.MethodPost {
			t.Errorf("GET %s: Allow is %q, want POST", path, got)
		}
	}
	if after := l.lastOffset(eventlog.Registry); after != before {
		t.Errorf("%d events were written", after-before)
	}
}

func TestW6WritesWithoutForgeryTokenAre403BeforeTheLoginIsLookedAt(t *testing.T) {
	l := newLab(t)
	jane := l.signIn("jdoe")
	cookie := jane.Get("Cookie")
	cases := map[string]http.Header{
		"anonymous without token": {},
		"no header":               {"Cookie": {cookie}},
		"wrong header":            {"Cookie": {cookie}, "X-Csrftoken": {"wrong"}},
		"no cookie":               {"X-Csrftoken": jane["X-Csrftoken"]},
		"both empty":              {"Cookie": {"csrftoken="}, "X-Csrftoken": {""}},
	}
	for name, header := range cases {
		for _, path := range []string{"/machine/add", "/machine/approve", "/machine/edit/1"} {
			answer := l.post(path, `{"alias": "otter", "description": ""}`, header)
			wantSaying(t, answer, http.StatusForbidden, "<!DOCTYPE html>", "X-CSRFToken")
			if got := answer.Header().Get("Content-Type"); got != "text/html; charset=utf-8" {
				t.Errorf("%s: Content-Type is %q, want HTML", name, got)
			}
		}
	}
	pair := http.Header{"Cookie": {"csrftoken=t"}, "X-Csrftoken": {"t"}}
	answer := l.post("/machine/approve/?a=b", `{}`, pair)
	if got := answer.Header().Get("Location"); answer.Code != http.StatusFound || got != "/user/community_login?next=/machine/approve/%3Fa%3Db" {
		t.Errorf("anonymous with a token: %d to %q", answer.Code, got)
	}
}

func TestW8BranchNamesThatAreNotPlainAreRefused(t *testing.T) {
	l := newLab(t)
	secret := l.machine("otter")
	for _, name := range []string{"<script>alert(1)</script>", "a b", "x\\\"onload=", ""} {
		answer := l.upload(secret, edited(t, smallDocument(0), `"branch": "master"`, `"branch": "`+name+`"`))
		wantSaying(t, answer, http.StatusNotAcceptable, "git.branch")
	}
}

func TestW9SessionIsKnownToTheNextRequestAndAfterARestart(t *testing.T) {
	shared := newInstallation(t)
	before := shared.door(t)
	jane := before.signIn("jdoe")
	want(t, before.post("/machine/add", `{"alias": "otter", "description": ""}`, jane), http.StatusCreated, "Machine added successfully!")
	after := shared.door(t)
	want(t, after.post("/machine/add", `{"alias": "beaver", "description": ""}`, jane), http.StatusCreated, "Machine added successfully!")
	shared.clock.Pass(14*24*3600*1e9 + 1e9)
	wantSaying(t, after.post("/machine/add", `{"alias": "newt", "description": ""}`, jane), http.StatusFound)
}

func TestW10NumbersThatCannotBeMeasuredRefuseTheUpload(t *testing.T) {
	l := newLab(t)
	secret := l.machine("otter")
	body := farmdoc.Synthetic(farmdoc.Small(farmdoc.Options{MachineType: "aarch64", TPS: 801}))
	for _, tps := range []string{`"-1"`, `-1.5`, `"NaN"`, `"Infinity"`, `"1e999"`, `"fast"`, `null`, `{}`} {
		answer := l.upload(secret, edited(t, body, `"tps": "801"`, `"tps": `+tps))
		wantSaying(t, answer, http.StatusNotAcceptable, "tps")
	}
	wantSaying(t, l.upload(secret, edited(t, body, `"init": 4.25`, `"init": -4.25`)), http.StatusNotAcceptable, "init")
}

func TestW11BodyOverTheLimitIs413NamingTheLimit(t *testing.T) {
	l := newLab(t, func(c *pgperffarm.Config, _ *pgperffarm.Dependencies) { c.MaxBody = 2 << 10 })
	secret := l.machine("otter")
	large := edited(t, smallDocument(0), `"pg_ctl": ""`, `"pg_ctl": "`+strings.Repeat("a", 2<<10)+`"`)
	wantSaying(t, l.upload(secret, large), http.StatusRequestEntityTooLarge, "2048")
}

func TestW12CountersOver32BitsAreStored(t *testing.T) {
	l := newLab(t)
	body := edited(t, smallDocument(0), `"pg_stat_statements": []`,
		`"pg_stat_statements": [{"query": "SELECT 1", "queryid": 9223372036854775807, "rows": 4294967296, "wal_bytes": 9007199254740993}]`)
	want(t, l.upload(l.machine("otter"), body), http.StatusCreated, "")
}

func TestW13MachineWithoutFrequencyOrSystemStatisticsMayUpload(t *testing.T) {
	l := newLab(t)
	frequency := smallDocument(0)
	start := bytes.Index(frequency, []byte(`"hz_actual"`))
	end := start + bytes.IndexByte(frequency[start:], ']') + len(`], `)
	without := append(append([]byte(nil), frequency[:start]...), frequency[end:]...)
	mac := edited(t, without, `"uname_s": "Linux"`, `"uname_s": "Darwin"`)
	mac = edited(t, mac, `"collectd": {}`, `"collectd": {"mac": {"contextswitch": {"contextswitch-2021-07-02": [{"epoch": "1625223600.5", "value": "4294967296"}]}}}`)
	want(t, l.upload(l.machine("otter"), mac), http.StatusCreated, "")
}

func TestW14RefusalSaysWhyAndALongReasonIsCutInTheRunLog(t *testing.T) {
	l := newLab(t)
	branch := strings.Repeat("ä", 600)
	answer := l.upload(l.machine("otter"), edited(t, smallDocument(0), `"branch": "master"`, `"branch": "`+branch+`"`))
	wantSaying(t, answer, http.StatusNotAcceptable, "git.branch", "100")
	for _, entry := range events[*event.FarmUploadRefused](l.installation, t, eventlog.Results) {
		if length := len([]rune(entry.GetReason())); length == 0 || length > 500 {
			t.Errorf("the run log's reason has %d characters, want 1 to 500", length)
		}
	}
}

func TestW8RemotesThatAreNoAddressesOrHoldASecretAreRefused(t *testing.T) {
	l := newLab(t)
	secret := l.machine("otter")
	for _, remote := range []string{"javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "https://jane:s3cret@example.org/pg.git"} {
		body := edited(t, smallDocument(0), `"remote": "https://github.com/postgres/postgres.git"`, `"remote": "`+remote+`"`)
		answer := l.upload(secret, body)
		wantSaying(t, answer, http.StatusNotAcceptable, "git.remote")
		if strings.Contains(answer.Body.String(), "s3cret") {
			t.Errorf("the refusal repeats a password: %s", answer.Body)
		}
	}
	for _, entry := range events[*event.FarmUploadRefused](l.installation, t, eventlog.Results) {
		if strings.Contains(entry.GetReason(), "s3cret") {
			t.Errorf("the run log repeats a password: %s", entry.GetReason())
		}
	}
	if stored := len(l.log.Records(eventlog.Runs)); stored != 0 {
		t.Errorf("%d of the refused uploads are in the log", stored)
	}
}

func TestW15ConcurrentUploadsOfDifferentMachinesAllSucceed(t *testing.T) {
	shared := newInstallation(t)
	doors := []*lab{shared.door(t), shared.door(t)}
	secrets := make([]string, 8)
	for i := range secrets {
		secrets[i] = doors[0].machine(fmt.Sprintf("machine%d", i))
	}
	body := edited(t, smallDocument(0), `"remote": "https://github.com/postgres/postgres.git"`, `"remote": "https://example.org/new.git"`)
	var wait sync.WaitGroup
	for i, secret := range secrets {
		wait.Go(func() { want(t, doors[i%2].upload(secret, body), http.StatusCreated, "") })
	}
	wait.Wait()
}

func TestW16ClientCountListedTwiceIsStored(t *testing.T) {
	l := newLab(t)
	want(t, l.upload(l.machine("otter"), edited(t, smallDocument(0), `"clients": [8]`, `"clients": [8, 8]`)), http.StatusCreated, "")
}

func TestW19OwnerWhoNeverSignedInMayUpload(t *testing.T) {
	l := newLab(t)
	l.operate("/pgperffarm/users", `{"name": "ghost"}`)
	secret, _ := l.operate("/pgperffarm/machines", `{"alias": "otter", "owner": "ghost", "approved": true}`)["secret"].(string)
	want(t, l.upload(secret, smallDocument(0)), http.StatusCreated, "")
}

func TestW20StatementLatenciesThatTheClientDidNotFindAreStoredAsNone(t *testing.T) {
	l := newLab(t)
	body := smallDocument(0)
	start := bytes.Index(body, []byte(`"statement_latencies": "`))
	end := start + bytes.Index(body[start:], []byte(`", "init"`)) + 1
	body = append(append(append([]byte(nil), body[:start]...), `"statement_latencies": -1`...), body[end:]...)
	want(t, l.upload(l.machine("otter"), body), http.StatusCreated, "")
}
