package pgperffarm_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/ingest/pgperffarm"
	"github.com/millrace/millrace/processor/fold"
	"github.com/millrace/millrace/processor/pgperffarm/farmdoc"
	"github.com/millrace/millrace/processor/runs"
	"github.com/millrace/millrace/schemas/blob"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

func TestUploadIsAnsweredWithAnEmpty201ThatNamesRunAndPosition(t *testing.T) {
	l := newLab(t)
	answer := l.upload(l.machine("otter"), smallDocument(0))
	want(t, answer, http.StatusCreated, "")
	if got := answer.Header().Get("Location"); got != "/run/1" {
		t.Errorf("Location is %q, want /run/1", got)
	}
	if got := answer.Header().Get(eventlog.PositionHeader); got != "test-log;runs/0=0" {
		t.Errorf("Millrace-Position is %q, want test-log;runs/0=0", got)
	}
}

func TestUploadPathIsAnsweredWithAndWithoutSlash(t *testing.T) {
	l := newLab(t)
	secret := l.machine("otter")
	for n, path := range []string{"/run/upload", "/run/upload/"} {
		answer := l.do(call{method: http.MethodPost, path: path, body: string(smallDocument(n)), header: http.Header{"Authorization": {secret}}})
		want(t, answer, http.StatusCreated, "")
	}
}

func TestUploadWithSameStartTimeIsRefusedNamingTheStoredRun(t *testing.T) {
	l := newLab(t)
	secret := l.machine("otter")
	l.upload(secret, smallDocument(1))
	l.upload(secret, smallDocument(0))
	again := edited(t, smallDocument(0), `"run_start_time": "2021-07-02T11:00:00+0000"`, `"run_start_time": "2021-07-02T13:00:00+0200"`)
	answer := l.upload(secret, again)
	want(t, answer, http.StatusNotAcceptable,
		`{"error":"run_start_time: run 2 of this machine, stored before, began at 2021-07-02T11:00:00Z too","run_id":2}`)
	if at := position(t, answer, eventlog.Runs); at != l.lastOffset(eventlog.Runs) {
		t.Errorf("position says runs/0=%d, want %d", at, l.lastOffset(eventlog.Runs))
	}
}

func TestTwoMachinesMayStartAtTheSameTime(t *testing.T) {
	l := newLab(t)
	otter, beaver := l.machine("otter"), l.machine("beaver")
	want(t, l.upload(otter, smallDocument(0)), http.StatusCreated, "")
	want(t, l.upload(beaver, smallDocument(0)), http.StatusCreated, "")
}

func TestUploadOfAnotherMachineTypeIsRefusedNamingBoth(t *testing.T) {
	l := newLab(t)
	secret := l.machine("otter")
	l.upload(secret, smallDocument(0))
	answer := l.upload(secret, edited(t, smallDocument(1), `"uname_m": "aarch64"`, `"uname_m": "x86_64"`))
	wantSaying(t, answer, http.StatusNotAcceptable, "kernel.uname_m", "x86_64", "aarch64")
}

func TestRefusedUploadDoesNotFixTheMachineType(t *testing.T) {
	l := newLab(t)
	secret := l.machine("otter")
	broken := edited(t, edited(t, smallDocument(0), `"uname_m": "aarch64"`, `"uname_m": "riscv64"`), `"pg_ctl": "", `, "")
	wantSaying(t, l.upload(secret, broken), http.StatusNotAcceptable, "pg_ctl")
	want(t, l.upload(secret, smallDocument(0)), http.StatusCreated, "")
}

func TestSecretsThatNameNoApprovedMachineAreRefused(t *testing.T) {
	l := newLab(t)
	secret := l.machine("otter")
	waiting, _ := l.operate("/pgperffarm/machines", `{"alias": "newt", "owner": "jdoe"}`)["secret"].(string)
	cases := map[string]struct{ header, says string }{
		"absent":       {"", "Authorization"},
		"unknown":      {strings.Repeat("0", 32), "no machine has this secret"},
		"Bearer":       {"Bearer " + secret, "no machine has this secret"},
		"Token":        {"Token " + secret, "no machine has this secret"},
		"upper case":   {strings.ToUpper(secret), "no machine has this secret"},
		"too long":     {strings.Repeat("a", 129), "Authorization"},
		"not approved": {waiting, "approval"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			wantSaying(t, l.upload(tc.header, smallDocument(0)), http.StatusNotAcceptable, tc.says)
		})
	}
	if left := len(l.log.Records(eventlog.Runs)); left != 0 {
		t.Errorf("%d uploads reached the log, want 0", left)
	}
}

func TestMachineAddedAtAnotherReplicaMayUploadAtOnce(t *testing.T) {
	shared := newInstallation(t)
	here, there := shared.door(t), shared.door(t)
	secret := there.machine("otter")
	want(t, here.upload(secret, smallDocument(0)), http.StatusCreated, "")
}

func TestMachineApprovedAtAnotherReplicaMayUploadAtOnce(t *testing.T) {
	shared := newInstallation(t)
	here, there := shared.door(t), shared.door(t)
	there.operate("/pgperffarm/users", `{"name": "jdoe"}`)
	secret, _ := there.operate("/pgperffarm/machines", `{"alias": "otter", "owner": "jdoe"}`)["secret"].(string)
	wantSaying(t, here.upload(secret, smallDocument(0)), http.StatusNotAcceptable, "approval")
	there.operate("/pgperffarm/machines/approve", `{"alias": "otter"}`)
	want(t, here.upload(secret, smallDocument(0)), http.StatusCreated, "")
}

func TestBodiesThatAreNoUploadGet400WithAnError(t *testing.T) {
	l := newLab(t)
	secret := l.machine("otter")
	for _, body := range []string{"", "{", "[]", "{}", `"text"`, "[1]", "null", "[{}, {}]", "[{}]x", "\xff", strings.Repeat("[", 100_000)} {
		for _, credential := range []string{secret, strings.Repeat("0", 32)} {
			answer := l.do(call{method: http.MethodPost, path: "/run/upload", body: body, header: http.Header{"Authorization": {credential}}, from: address()})
			var failure struct {
				Error string `json:"error"`
			}
			if err := json.Unmarshal(answer.Body.Bytes(), &failure); err != nil || failure.Error == "" || answer.Code != http.StatusBadRequest {
				t.Errorf("body %.20q: answer is %d %q, want 400 with an error", body, answer.Code, answer.Body)
			}
		}
	}
}

// address is one that did not send anything before.
func address() string { return fmt.Sprintf("192.0.2.%d:%d", next.Add(1)%250, 4000) }

var next atomic.Uint32

func TestLargeBodyOfAnUnknownSenderIsNotRead(t *testing.T) {
	l := newLab(t)
	large := strings.Repeat("x", 2<<20)
	wantSaying(t, l.upload(strings.Repeat("0", 32), []byte(large)), http.StatusNotAcceptable, "secret")
}

func TestDocumentFaultsNameTheMember(t *testing.T) {
	l := newLab(t)
	secret := l.machine("otter")
	cases := map[string]struct{ old, replacement, member string }{
		"missing":            {`"sysctl_log": "{\"vm.swappiness\": \"10\", \"net.core.somaxconn\": \"128\"}", `, "", "sysctl_log"},
		"settings null":      {`"postgres_settings": "name,setting,source\r\nwork_mem,65536,configuration file\r\nport,5432,default\r\n"`, `"postgres_settings": null`, "postgres_settings"},
		"start null":         {`"run_start_time": "2021-07-02T11:00:00+0000"`, `"run_start_time": null`, "run_start_time"},
		"other kernel":       {`"uname_s": "Linux"`, `"uname_s": "FreeBSD"`, "kernel.uname_s"},
		"unknown benchmark":  {`"benchmark": "pgbench"`, `"benchmark": "sysbench"`, "meta.benchmark"},
		"result without log": {`pgbench-ro-20-120-8-0-`, `pgbench-ro-20-120-8-1-`, "pgbench"},
		"NUL":                {`"branch": "master"`, `"branch": "mas\u0000ter"`, "git.branch"},
		"lone surrogate":     {`"branch": "master"`, `"branch": "\ud800"`, "git.branch"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			answer := l.upload(secret, edited(t, smallDocument(0), tc.old, tc.replacement))
			wantSaying(t, answer, http.StatusNotAcceptable, `{"error":"`+tc.member)
		})
	}
}

func TestGzipBodyIsStoredAsItWasBeforePacking(t *testing.T) {
	l := newLab(t)
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = w.Write(smallDocument(0))
	_ = w.Close()
	answer := l.do(call{method: http.MethodPost, path: "/run/upload", body: packed.String(),
		header: http.Header{"Authorization": {l.machine("otter")}, "Content-Encoding": {"gzip"}}})
	want(t, answer, http.StatusCreated, "")
	requests := events[*event.FarmUploadRequested](l.installation, t, eventlog.Runs)
	stored, err := l.packer.Unpack(context.Background(), requests[0].GetDocument())
	if err != nil || !bytes.Equal(stored, smallDocument(0)) {
		t.Errorf("stored document differs (%v)", err)
	}
}

func TestTruncatedGzipIs400(t *testing.T) {
	l := newLab(t)
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = w.Write(smallDocument(0))
	_ = w.Close()
	answer := l.do(call{method: http.MethodPost, path: "/run/upload", body: packed.String()[:packed.Len()/2],
		header: http.Header{"Authorization": {l.machine("otter")}, "Content-Encoding": {"gzip"}}})
	wantSaying(t, answer, http.StatusBadRequest, "ends early")
}

func TestGzipBombIs413(t *testing.T) {
	l := newLab(t, func(c *pgperffarm.Config, _ *pgperffarm.Dependencies) { c.MaxBody = 64 << 10 })
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = w.Write(make([]byte, 10<<20))
	_ = w.Close()
	answer := l.do(call{method: http.MethodPost, path: "/run/upload", body: packed.String(),
		header: http.Header{"Authorization": {l.machine("otter")}, "Content-Encoding": {"gzip"}}})
	wantSaying(t, answer, http.StatusRequestEntityTooLarge, "65536")
}

// incompressible is a document whose log member cannot be packed.
func incompressible(t *testing.T, size int) []byte {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, size)
	for i := range noise {
		noise[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[random.IntN(64)]
	}
	return edited(t, smallDocument(0), `"pg_ctl": ""`, `"pg_ctl": "`+string(noise)+`"`)
}

func TestAnUploadIsStoredThoughItsSenderLeft(t *testing.T) {
	l := newLab(t)
	secret := l.machine("otter")
	gone, leave := context.WithCancel(t.Context())
	leave()
	request := httptest.NewRequestWithContext(gone, http.MethodPost, "/run/upload/", bytes.NewReader(smallDocument(0)))
	request.Header.Set("Authorization", secret)
	request.Header.Set("Content-Type", "application/json")
	l.engine.ServeHTTP(httptest.NewRecorder(), request)
	if n := len(events[*event.FarmUploadRequested](l.installation, t, eventlog.Runs)); n != 1 {
		t.Errorf("%d uploads are in the log, want 1", n)
	}
}

func TestDocumentTravelsInTheEventOrByTheBlobStore(t *testing.T) {
	cases := map[string]struct {
		body   []byte
		packed event.Encoding
		inline bool
	}{
		"small":                  {smallDocument(0), event.Encoding_ENCODING_IDENTITY, true},
		"large, packs well":      {farmdoc.Synthetic(farmdoc.Large(farmdoc.Options{MachineType: "aarch64"})), event.Encoding_ENCODING_S2, true},
		"large, does not pack":   {incompressible(t, 200<<10), event.Encoding_ENCODING_S2, false},
		"just over 4 KB":         {edited(t, smallDocument(0), `"pg_ctl": ""`, `"pg_ctl": "`+strings.Repeat("log ", 1024)+`"`), event.Encoding_ENCODING_S2, true},
		"many megabytes of logs": {edited(t, smallDocument(0), `"pg_ctl": ""`, `"pg_ctl": "`+strings.Repeat("a line of the log ", 300_000)+`"`), event.Encoding_ENCODING_S2, true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			want(t, l.upload(l.machine("otter"), tc.body), http.StatusCreated, "")
			document := events[*event.FarmUploadRequested](l.installation, t, eventlog.Runs)[0].GetDocument()
			if inline := document.GetBlob() == nil; inline != tc.inline || document.GetEncoding() != tc.packed {
				t.Errorf("inline %v, encoding %s; want %v, %s", inline, document.GetEncoding(), tc.inline, tc.packed)
			}
			if document.GetSize() != uint64(len(tc.body)) {
				t.Errorf("size is %d, want %d", document.GetSize(), len(tc.body))
			}
			if ref := document.GetBlob(); ref != nil {
				named, err := blob.NewRef(ref.GetSha256(), int64(ref.GetSize()))
				if has, _ := l.blobs.Has(context.Background(), named); err != nil || !has {
					t.Errorf("the blob store lacks the document (%v)", err)
				}
			}
			stored, err := l.packer.Unpack(context.Background(), document)
			if err != nil || !bytes.Equal(stored, tc.body) {
				t.Errorf("stored document differs (%v)", err)
			}
		})
	}
}

func TestRepeatWithTheSameKeyGetsTheFirstAnswer(t *testing.T) {
	l := newLab(t)
	secret := l.machine("otter")
	keyed := func(key string, body []byte) *httptest.ResponseRecorder {
		return l.do(call{method: http.MethodPost, path: "/run/upload", body: string(body),
			header: http.Header{"Authorization": {secret}, "Idempotency-Key": {key}}})
	}
	first := keyed("k1", smallDocument(0))
	want(t, first, http.StatusCreated, "")
	again := keyed("k1", smallDocument(0))
	want(t, again, http.StatusCreated, "")
	if first.Header().Get("Location") != again.Header().Get("Location") {
		t.Errorf("repeat names %s, first was %s", again.Header().Get("Location"), first.Header().Get("Location"))
	}
	wantSaying(t, keyed("k1", smallDocument(1)), http.StatusUnprocessableEntity, "Idempotency-Key")
	wantSaying(t, keyed("k2", smallDocument(0)), http.StatusNotAcceptable, "run 1")
	want(t, keyed("k2", smallDocument(0)), http.StatusNotAcceptable,
		`{"error":"run_start_time: run 1 of this machine, stored before, began at 2021-07-02T11:00:00Z too","run_id":1}`)
	l.runs.View(func(s *runs.State) {
		if s.Runs != 1 {
			t.Errorf("%d runs are stored, want 1", s.Runs)
		}
	})
}

func TestKeyOfOneMachineIsNotThatOfAnother(t *testing.T) {
	l := newLab(t)
	for _, alias := range []string{"otter", "beaver"} {
		answer := l.do(call{method: http.MethodPost, path: "/run/upload", body: string(smallDocument(0)),
			header: http.Header{"Authorization": {l.machine(alias)}, "Idempotency-Key": {"k1"}}})
		want(t, answer, http.StatusCreated, "")
	}
	l.runs.View(func(s *runs.State) {
		if s.Runs != 2 {
			t.Errorf("%d runs are stored, want 2", s.Runs)
		}
	})
}

func TestKeyIsForgottenAfterSevenDaysOfLogTime(t *testing.T) {
	l := newLab(t)
	secret := l.machine("otter")
	header := http.Header{"Authorization": {secret}, "Idempotency-Key": {"k1"}}
	l.do(call{method: http.MethodPost, path: "/run/upload", body: string(smallDocument(0)), header: header})
	l.clock.Pass(7*24*time.Hour - time.Second)
	wantSaying(t, l.do(call{method: http.MethodPost, path: "/run/upload", body: string(smallDocument(1)), header: header}),
		http.StatusUnprocessableEntity)
	l.clock.Pass(2 * time.Second)
	want(t, l.do(call{method: http.MethodPost, path: "/run/upload", body: string(smallDocument(1)), header: header}),
		http.StatusCreated, "")
}

func TestMalformedKeysAre400(t *testing.T) {
	l := newLab(t)
	secret := l.machine("otter")
	for name, keys := range map[string][]string{
		"empty": {""}, "long": {strings.Repeat("k", 256)}, "control character": {"a\tb"}, "not ASCII": {"clé"}, "twice": {"a", "b"},
	} {
		t.Run(name, func(t *testing.T) {
			answer := l.do(call{method: http.MethodPost, path: "/run/upload", body: string(smallDocument(0)),
				header: http.Header{"Authorization": {secret}, "Idempotency-Key": keys}})
			wantSaying(t, answer, http.StatusBadRequest, "Idempotency-Key")
		})
	}
	want(t, l.do(call{method: http.MethodPost, path: "/run/upload", body: string(smallDocument(0)),
		header: http.Header{"Authorization": {secret}, "Idempotency-Key": {strings.Repeat("k", 255)}}}), http.StatusCreated, "")
}

func TestUnsettledUploadIs503AndTheKeySettlesIt(t *testing.T) {
	l := newLab(t)
	header := http.Header{"Authorization": {l.machine("otter")}, "Idempotency-Key": {"k1"}}
	send := func() *httptest.ResponseRecorder {
		return l.do(call{method: http.MethodPost, path: "/run/upload", body: string(smallDocument(0)), header: header})
	}
	l.log.Fail(func(eventlog.Event) error { return fmt.Errorf("%w: test", eventlog.ErrUnsettled) })
	answer := send()
	wantSaying(t, answer, http.StatusServiceUnavailable, "Idempotency-Key")
	if answer.Header().Get("Retry-After") == "" {
		t.Error("Retry-After is missing")
	}
	l.log.Fail(nil)
	want(t, send(), http.StatusCreated, "")
}

func TestUploadIsHeldUntilTheLogTakesItAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		secret := l.machine("otter")
		var refused atomic.Int32
		l.log.Fail(func(eventlog.Event) error {
			if refused.Add(1) <= 2 {
				return eventlog.ErrOverloaded
			}
			return nil
		})
		want(t, l.upload(secret, smallDocument(0)), http.StatusCreated, "")
		if refused.Load() < 3 {
			t.Errorf("the log was asked %d times, want at least 3", refused.Load())
		}
	})
}

func TestUploadIsRefusedWhenTheLogStaysFullForAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, func(c *pgperffarm.Config, _ *pgperffarm.Dependencies) { c.Hold = pgperffarm.DefaultConfig().Hold })
		secret := l.machine("otter")
		l.log.Fail(func(eventlog.Event) error { return eventlog.ErrOverloaded })
		started := time.Now()
		answer := l.upload(secret, smallDocument(0))
		wantSaying(t, answer, http.StatusServiceUnavailable, "not taken")
		if held := time.Since(started).Round(time.Second); held != time.Minute {
			t.Errorf("the upload was held for %s, want a minute", held)
		}
		if answer.Header().Get("Retry-After") == "" {
			t.Error("Retry-After is missing")
		}
	})
}

func TestUnknownSecretIsNotRefusedWhileTheLogIsOutOfReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		var down atomic.Bool
		down.Store(true)
		l.log.Fail(func(eventlog.Event) error {
			if down.Load() {
				return errors.New("no broker")
			}
			return nil
		})
		wantSaying(t, l.upload(strings.Repeat("0", 32), smallDocument(0)), http.StatusServiceUnavailable, "out of reach")
		down.Store(false)
		wantSaying(t, l.upload(strings.Repeat("0", 32), smallDocument(0)), http.StatusNotAcceptable, "secret")
	})
}

// forgetful makes the runs' fold forget every natural key that it knows.
func forgetful(l *lab) {
	l.runs.View(func(s *runs.State) {
		for key := range s.Natural {
			s.Forget(key)
		}
	})
}

func TestNaturalKeyThatTheFoldForgotIsLookedUpInTheProjections(t *testing.T) {
	var asked []string
	l := newLab(t, func(_ *pgperffarm.Config, d *pgperffarm.Dependencies) {
		d.StoredRun = func(_ context.Context, machine uint64, start int64, through uint64) (uint64, error) {
			asked = append(asked, fmt.Sprint(machine, start, through))
			if start == time.Date(2021, 7, 2, 11, 0, 0, 0, time.UTC).UnixMicro() {
				return 1, nil
			}
			return 0, nil
		}
	})
	secret := l.machine("otter")
	want(t, l.upload(secret, smallDocument(0)), http.StatusCreated, "")
	if len(asked) != 0 {
		t.Errorf("the projections were asked %v although the fold remembers everything", asked)
	}
	forgetful(l)
	wantSaying(t, l.upload(secret, smallDocument(0)), http.StatusNotAcceptable, `"run_id":1`)
	want(t, l.upload(secret, smallDocument(1)), http.StatusCreated, "")
	wantSaying(t, l.upload(secret, smallDocument(1)), http.StatusNotAcceptable, `"run_id":3`)
	start := time.Date(2021, 7, 2, 11, 0, 0, 0, time.UTC).UnixMicro()
	if diff := cmp.Diff([]string{fmt.Sprint(1, start, 1)}, asked); diff != "" { // the other starts later than all that were forgotten
		t.Errorf("look-ups differ (-want +got):\n%s", diff)
	}
}

func TestUploadIsHeldWhileOlderRunsCannotBeLookedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failures := 2
		l := newLab(t, func(_ *pgperffarm.Config, d *pgperffarm.Dependencies) {
			d.StoredRun = func(context.Context, uint64, int64, uint64) (uint64, error) {
				if failures > 0 {
					failures--
					return 0, errors.New("no ClickHouse")
				}
				return 0, nil
			}
		})
		secret := l.machine("otter")
		l.upload(secret, smallDocument(3))
		forgetful(l)
		want(t, l.upload(secret, smallDocument(1)), http.StatusCreated, "")
		failures = 1000
		wantSaying(t, l.upload(secret, smallDocument(2)), http.StatusServiceUnavailable, "older runs")
	})
}

func TestUploadIsHeldWhileItsKeyCannotBeLookedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		secret := l.machine("otter")
		keyed := func(key string, n int) *httptest.ResponseRecorder {
			return l.do(call{method: http.MethodPost, path: "/run/upload", body: string(smallDocument(n)),
				header: http.Header{"Authorization": {secret}, "Idempotency-Key": {key}}})
		}
		want(t, keyed("k1", 0), http.StatusCreated, "")
		l.runs.View(func(s *runs.State) {
			s.Repeats = fold.Repeats[runs.Outcome]{Taken: 1, Forgotten: 1, ForgottenUntil: math.MaxInt64}
		})
		failures := 2
		l.runs.Stored(func(context.Context, string, []byte, uint64) (*door.StoredKey, error) {
			if failures--; failures >= 0 {
				return nil, door.OutOfReach("ClickHouse")
			}
			sum := sha256.Sum256(smallDocument(0))
			return &door.StoredKey{Body: sum[:], Outcome: []byte(`{"Result": 1, "Run": 1}`), Offset: 0}, nil
		})
		answer := keyed("k1", 0)
		want(t, answer, http.StatusCreated, "")
		if got := answer.Header().Get("Location"); got != "/run/1" || failures >= 0 {
			t.Errorf("the repeat names %q, after %d failures; want the first run after 2", got, 2-failures)
		}
		wantSaying(t, keyed("k1", 1), http.StatusUnprocessableEntity, "Idempotency-Key")
		failures = 1000
		answer = keyed("k2", 2)
		wantSaying(t, answer, http.StatusServiceUnavailable, "ClickHouse")
		if answer.Header().Get("Retry-After") == "" {
			t.Error("Retry-After is missing")
		}
		if n := len(l.log.Records(eventlog.Runs)); n != 1 {
			t.Errorf("%d uploads were appended, want the first", n)
		}
	})
}

func TestRefusalsStandInTheRunLog(t *testing.T) {
	l := newLab(t)
	secret := l.machine("otter")
	l.upload(secret, smallDocument(0))
	duplicate := l.upload(secret, smallDocument(0))
	broken := edited(t, smallDocument(1), `"pg_ctl": "", `, "")
	invalid := l.upload(secret, broken)
	l.upload(strings.Repeat("0", 32), smallDocument(1))
	l.upload(secret, []byte("{"))

	type entry struct {
		Machine uint64
		Status  uint32
		Size    uint64
		Sum     [32]byte
	}
	var got []entry
	for _, m := range events[*event.FarmUploadRefused](l.installation, t, eventlog.Results) {
		if m.GetReason() == "" {
			t.Error("an entry has no reason")
		}
		got = append(got, entry{m.GetMachineId(), m.GetStatus(), m.GetSize(), [32]byte(m.GetSha256())})
	}
	known, faulty := smallDocument(0), smallDocument(1)
	wanted := []entry{
		{1, 406, uint64(len(known)), sha256.Sum256(known)},
		{1, 406, uint64(len(broken)), sha256.Sum256(broken)},
		{0, 406, uint64(len(faulty)), sha256.Sum256(faulty)},
	}
	if diff := cmp.Diff(wanted, got); diff != "" {
		t.Errorf("run log differs (-want +got):\n%s", diff)
	}
	if position(t, duplicate, eventlog.Runs) != 1 || position(t, duplicate, eventlog.Results) != 0 {
		t.Errorf("position of the duplicate is %q", duplicate.Header().Get(eventlog.PositionHeader))
	}
	if position(t, invalid, eventlog.Results) != 1 {
		t.Errorf("position of the invalid document is %q", invalid.Header().Get(eventlog.PositionHeader))
	}
}

func TestRunLogOutOfReachDoesNotChangeTheAnswer(t *testing.T) {
	l := newLab(t)
	secret := l.machine("otter")
	l.log.Fail(func(e eventlog.Event) error {
		if strings.HasSuffix(e.Type, "FarmUploadRefused") {
			return fmt.Errorf("%w: test", eventlog.ErrUnsettled)
		}
		return nil
	})
	wantSaying(t, l.upload(secret, edited(t, smallDocument(0), `"pg_ctl": "", `, "")), http.StatusNotAcceptable, "pg_ctl")
}

func TestRunLogIsBounded(t *testing.T) {
	l := newLab(t)
	secret := l.machine("otter")
	broken := edited(t, smallDocument(0), `"pg_ctl": "", `, "")
	for range 700 {
		wantSaying(t, l.upload(secret, broken), http.StatusNotAcceptable)
	}
	if entries := len(l.log.Records(eventlog.Results)); entries < 500 || entries > 650 {
		t.Errorf("the run log has %d entries of 700 refusals at once, want a little over 500", entries)
	}
}

func TestUploadWithTooManyDifferentValuesIsRefusedNamingTheLimit(t *testing.T) {
	l := newLab(t)
	var rows strings.Builder
	for i := range 17_000 {
		fmt.Fprintf(&rows, `{"query": "SELECT %d"},`, i)
	}
	body := edited(t, smallDocument(0), `"pg_stat_statements": []`, `"pg_stat_statements": [`+strings.TrimSuffix(rows.String(), ",")+`]`)
	wantSaying(t, l.upload(l.machine("otter"), body), http.StatusNotAcceptable, "16384")
}

func TestUploadWithTheMostValuesFitsARecord(t *testing.T) {
	l := newLab(t)
	var rows strings.Builder
	for i := range 16_000 {
		fmt.Fprintf(&rows, `{"query": "SELECT %d"},`, i)
	}
	body := edited(t, incompressible(t, 40<<10), `"pg_stat_statements": []`, `"pg_stat_statements": [`+strings.TrimSuffix(rows.String(), ",")+`]`)
	want(t, l.upload(l.machine("otter"), body), http.StatusCreated, "")
	if size := len(l.log.Records(eventlog.Runs)[0].Data); size > eventlog.MaxRecordBytes-1024 {
		t.Errorf("the event has %d bytes, a record at most %d", size, eventlog.MaxRecordBytes)
	}
}

func TestConcurrentUploadsOfTheSameRunToTwoDoorsHaveOneWinner(t *testing.T) {
	shared := newInstallation(t)
	doors := []*lab{shared.door(t), shared.door(t)}
	secret := doors[0].machine("otter")
	for n := range 20 {
		answers := make([]*httptest.ResponseRecorder, len(doors))
		var wait sync.WaitGroup
		for i, l := range doors {
			wait.Go(func() { answers[i] = l.upload(secret, smallDocument(n)) })
		}
		wait.Wait()
		created, refused := answers[0], answers[1]
		if created.Code != http.StatusCreated {
			created, refused = refused, created
		}
		want(t, created, http.StatusCreated, "")
		var body pgperffarm.Refused
		if err := json.Unmarshal(refused.Body.Bytes(), &body); err != nil || refused.Code != http.StatusNotAcceptable {
			t.Fatalf("the loser is told %d %s", refused.Code, refused.Body)
		}
		if stored := fmt.Sprintf("/run/%d", body.RunID); created.Header().Get("Location") != stored {
			t.Errorf("the winner is told %s, the loser %s", created.Header().Get("Location"), stored)
		}
	}
}
