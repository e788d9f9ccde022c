package debci_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/ingest/debci"
	"github.com/millrace/millrace/ingest/door/doortest"
	"github.com/millrace/millrace/processor/access"
	tests "github.com/millrace/millrace/processor/debci"
	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/processor/registry"
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

// lab is a door on a log in memory, with the users jane and joe, whose keys are their names.
type lab struct {
	t      *testing.T
	log    *doortest.Log
	jobs   *doortest.Fold[*jobs.State, jobs.Outcome]
	ring   *keyring.Keyring
	packer *document.Packer
	engine *gin.Engine
	// stored is what the projections say of a test, own which of some runs they say are the asker's.
	stored map[uint64]*debci.Test
	own    func(owner registry.Hash, runs []uint64) []uint64
}

const rejected = "# It burns.\nbad\nworse testing\n"

func newLab(t *testing.T) *lab {
	t.Helper()
	ring, err := keyring.Open(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := blob.Open(t.Context(), "mem://")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = blobs.Close() })
	packer, err := document.NewPacker(blobs, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(t.TempDir(), "reject_list")
	if err := os.WriteFile(list, []byte(rejected), 0o600); err != nil {
		t.Fatal(err)
	}
	log := doortest.NewLog(time.Now)
	l := &lab{t: t, log: log, jobs: doortest.NewFold(log, jobs.Fold()), ring: ring, packer: packer, stored: map[uint64]*debci.Test{}}
	config := debci.DefaultConfig()
	config.MaxTests, config.MaxBody = 100, 64<<10
	config.Rules = tests.Rules{
		Suites: []string{"unstable", "testing"}, Architectures: []string{"amd64", "arm64"},
		AptSources: map[string]tests.AllowedSource{"open": {Entry: "deb http://o x"}, "closed": {Entry: "deb http://c x", AllowedUsers: []string{"joe"}}},
	}
	d, err := debci.New(config, debci.Dependencies{
		Log: log.Door(), Jobs: l.jobs, Packer: packer, Rejected: tests.NewRejectFile(list),
		SealName: func(user registry.Hash, name string) ([]byte, error) { return access.SealDebciName(ring, user, name) },
		Test:     func(_ context.Context, run uint64) (*debci.Test, error) { return l.stored[run], nil },
		Private: func(_ context.Context, owner registry.Hash, runs []uint64) ([]uint64, error) {
			return l.own(owner, runs), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	l.engine = gin.New()
	err = route.Mount(l.engine, d.Routes(), route.Options{
		Log: slog.New(slog.DiscardHandler), APIs: map[string]route.API{debci.API: access.NewDebci(newUsers(t, ring), ring).API()},
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// newUsers is a registry with users whose keys are their names.
func newUsers(t *testing.T, ring *keyring.Keyring) access.Registry {
	t.Helper()
	log := doortest.NewLog(time.Now)
	users := doortest.NewFold(log, registry.Fold())
	for _, name := range []string{"jane", "joe"} {
		user, key := access.HashDebciUser(ring, name), access.HashDebciKey(ring, name)
		sealed, err := access.SealDebciName(ring, user, name)
		if err != nil {
			t.Fatal(err)
		}
		added, err := eventlog.NewEvent("/test", &event.DebciKeyAddRequested{NameHash: user[:], SealedName: sealed, KeyHash: key[:]})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := users.Decide(t.Context(), added); err != nil {
			t.Fatal(err)
		}
	}
	return users
}

func (l *lab) send(path, contentType, body string, header ...string) *httptest.ResponseRecorder {
	l.t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/api/v1"+path, strings.NewReader(body))
	r.Header.Set(access.DebciKeyHeader, "jane")
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer := httptest.NewRecorder()
	l.engine.ServeHTTP(answer, r)
	return answer
}

const encoded = "application/x-www-form-urlencoded"

// post sends fields, names and values in turn.
func (l *lab) post(path string, fields ...string) *httptest.ResponseRecorder {
	l.t.Helper()
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	return l.send(path, encoded, form.Encode())
}

// wants compares an answer.
func (l *lab) wants(what string, answer *httptest.ResponseRecorder, status int, body string) {
	l.t.Helper()
	if answer.Code != status || answer.Body.String() != body || answer.Header().Get("Auth-User") != "jane" ||
		answer.Header().Get("Content-Type") != "text/html;charset=utf-8" {
		l.t.Errorf("%s: %d %q %v; want %d %q for jane", what, answer.Code, answer.Body, answer.Header(), status, body)
	}
}

// requests are the test requests that stand in the log, with where they wait: a rejected one waits nowhere.
func (l *lab) requests() (found []waiting) {
	l.t.Helper()
	for _, record := range l.log.Records(eventlog.Jobs) {
		message, err := record.Decode()
		if err != nil {
			l.t.Fatal(err)
		}
		batch, ok := message.(*event.JobBatchSubmitted)
		if !ok {
			continue
		}
		body, err := l.packer.Unpack(l.t.Context(), batch.GetDocument())
		if err != nil {
			l.t.Fatal(err)
		}
		var items event.JobItems
		if err := proto.Unmarshal(body, &items); err != nil || len(items.GetItems()) != int(batch.GetCount()) {
			l.t.Fatalf("%d items, the event says %d: %v", len(items.GetItems()), batch.GetCount(), err)
		}
		owner := access.HashDebciUser(l.ring, "jane")
		if !bytes.Equal(batch.GetOwner(), owner[:]) || batch.GetFamily() != event.JobFamily_JOB_FAMILY_DEBCI {
			l.t.Errorf("the tests belong to %x of %s", batch.GetOwner(), batch.GetFamily())
		}
		for _, item := range items.GetItems() {
			request, err := tests.ReadRequest(item.GetDocument())
			if err != nil {
				l.t.Fatal(err)
			}
			if item.GetLabels().GetName() != request.Package || item.GetLabels().GetPrivate() != request.Private {
				l.t.Errorf("labels %v of %+v", item.GetLabels(), request)
			}
			found = append(found, l.waiting(uint64(len(found)+1), request))
		}
	}
	return found
}

// waiting is a request with its place.
type waiting struct {
	tests.Request
	Queue    string
	Priority int64
}

func (l *lab) waiting(run uint64, request tests.Request) waiting {
	w := waiting{Request: request}
	l.jobs.View(func(s *jobs.State) {
		if job, lives := s.Find(&event.JobRef{Name: &event.JobRef_Seq{Seq: run}}); lives {
			w.Queue, w.Priority = job.Queue, job.Priority
		}
	})
	return w
}

func bash(mark func(*waiting)) waiting {
	w := waiting{Request: tests.Request{Suite: "unstable", Arch: "amd64", Package: "bash"}, Queue: "debci/unstable/amd64", Priority: 5}
	mark(&w)
	return w
}

func TestTestsAreTakenFromAFieldAndFromAFile(t *testing.T) {
	l := newLab(t)
	var file bytes.Buffer
	parts := multipart.NewWriter(&file)
	part, err := parts.CreateFormFile("tests", "tests.json")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(part, `[{"package": "bash", "trigger": "from a file"}]`)
	if err := errors.Join(parts.WriteField("priority", "10"), parts.Close()); err != nil {
		t.Fatal(err)
	}
	l.wants("a file", l.send("/test/unstable/amd64", parts.FormDataContentType(), file.String()), 201, "")
	l.wants("a field", l.post("/test/unstable/amd64", "tests", `[{"package": "bash", "trigger": "from a field"}]`), 201, "")
	l.wants("the query", l.send("/test/unstable/amd64?priority=1&tests="+url.QueryEscape(`[{"package": "bash"}]`), "", ""), 201, "")
	l.wants("one package", l.send("/test/unstable/amd64/bash", encoded, ""), 201, "")
	l.wants("one package, more", l.post("/test/unstable/amd64/bash", "priority", "2", "is_private", "true", "extra_apt_sources", `["open"]`, "trigger", "x"), 201, "")
	l.wants("none", l.post("/test/unstable/amd64", "tests", "[]"), 201, "")
	trigger := func(text string, priority int64) waiting {
		return bash(func(w *waiting) { w.Trigger, w.Priority = &text, priority })
	}
	want := []waiting{
		trigger("from a file", 10), trigger("from a field", 5), bash(func(w *waiting) { w.Priority = 1 }), bash(func(*waiting) {}),
		bash(func(w *waiting) {
			w.Priority, w.Private, w.AptSources = 2, true, []tests.AptSource{{Name: "open", Entry: "deb http://o x"}}
		}),
	}
	if diff := cmp.Diff(want, l.requests()); diff != "" {
		t.Error(diff)
	}
}

func TestOneRequestOfManyTestsIsOneEvent(t *testing.T) {
	l := newLab(t)
	long := strings.Repeat("x", 400) // so that the items travel by the blob store when they are many
	var items []string
	for i := range 100 {
		items = append(items, fmt.Sprintf(`{"package": "p%d", "trigger": "%s%d"}`, i, long, i))
	}
	answer := l.post("/test/testing/arm64", "tests", "["+strings.Join(items, ",")+"]")
	l.wants("100 tests", answer, 201, "")
	if answer.Header().Get("Millrace-Runs") != "1-100" || answer.Header().Get(eventlog.PositionHeader) == "" {
		t.Errorf("the answer's header is %v", answer.Header())
	}
	if found := l.requests(); len(found) != 100 || found[99].Package != "p99" || len(l.log.Records(eventlog.Jobs)) != 1 {
		t.Errorf("%d tests in %d events", len(found), len(l.log.Records(eventlog.Jobs)))
	}
}

func TestRejectedTestsOfAnArrayEndAtOnceAndTheOthersWait(t *testing.T) {
	l := newLab(t)
	l.wants("array", l.post("/test/testing/amd64", "tests", `[{"package": "bad"}, {"package": "bash"}, {"package": "worse"}]`), 201, "")
	l.wants("elsewhere", l.post("/test/unstable/amd64", "tests", `[{"package": "worse"}]`), 201, "")
	var places []string
	for _, w := range l.requests() {
		places = append(places, w.Package+" "+w.Queue)
	}
	want := []string{"bad ", "bash debci/testing/amd64", "worse ", "worse debci/unstable/amd64"}
	if diff := cmp.Diff(want, places); diff != "" {
		t.Error(diff)
	}
}

func TestBatchSpreadsOverItsQueues(t *testing.T) {
	l := newLab(t)
	l.wants("batch", l.post("/test/batch", "priority", "7", "tests",
		`[{"suite": "unstable", "arch": ["arm64", "amd64"], "tests": [{"package": "bash"}]}, {"suite": "testing", "arch": ["amd64"], "tests": [{"package": "bad"}, {"package": "dash"}]}]`), 201, "")
	var places []string
	for _, w := range l.requests() {
		places = append(places, fmt.Sprint(w.Package, " ", w.Queue, " ", w.Priority))
	}
	want := []string{"bad  0", "dash debci/testing/amd64 7", "bash debci/unstable/amd64 7", "bash debci/unstable/arm64 7"}
	if diff := cmp.Diff(want, places); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsWrongIsToldInOrderAndNothingIsStored(t *testing.T) {
	l := newLab(t)
	const good = `[{"package": "bash"}]`
	for _, tc := range []struct {
		path   string
		fields []string
		body   string
	}{
		{"/test/sid/vax", []string{"priority", "99"}, "Invalid architecture: vax\n"},
		{"/test/sid/amd64", []string{"priority", "99"}, "Invalid suite: sid\n"},
		{"/test/unstable/amd64", []string{"priority", "99"}, "Invalid priority: 99\n"},
		{"/test/unstable/amd64", []string{"priority", "0", "tests", good}, "Invalid priority: 0\n"},
		{"/test/unstable/amd64", []string{"priority", "high", "tests", good}, "Invalid priority: high\n"},
		{"/test/unstable/amd64", []string{"priority", "", "tests", good}, "Invalid priority: \n"},
		{"/test/unstable/amd64", nil, "Error: No tests\n"},
		{"/test/unstable/amd64", []string{"tests", `{}`}, "Invalid request: tests must be an array\n"},
		{"/test/unstable/amd64", []string{"tests", `[{"package": "bash"}, {"package": "X"}, {"package": "bash", "is_private": 1}]`},
			"Invalid request: Invalid package name: X\nInvalid value for bool parameter is_private for package: bash\n"},
		{"/test/unstable/amd64", []string{"tests", `[{"package": "bash", "extra-apt-sources": ["closed", "open", "none"]}]`},
			"Invalid request: Invalid value for extra_apt_sources: closed, none\n"},
		{"/test/unstable/amd64/X", []string{"priority", "99"}, "Invalid priority: 99\n"},
		{"/test/unstable/amd64/X", nil, "Invalid package name: X\n"},
		{"/test/unstable/amd64/bad", nil, "Package: bad is in the reject list\n"},
		{"/test/unstable/amd64/bash", []string{"is_private", "yes"}, "Invalid value for bool parameter is_private for package: bash\n"},
		{"/test/unstable/amd64/bash", []string{"extra_apt_sources", `["closed"]`}, "Invalid extra apt sources: closed\n"},
		{"/test/batch", nil, "Error: No tests\n"},
		{"/test/batch", []string{"tests", "{}"}, "Error: tests must be an array\n"},
		{"/test/batch", []string{"tests", `[{"suite": "sid", "arch": ["amd64"], "tests": []}]`}, "Error: Invalid suite: sid at request 0\n"},
		{"/retry/1", nil, "Job ID not known: 1\n"},
		{"/retry/1abc", nil, "Job ID not known: 1abc\n"},
		{"/retry/0", nil, "Job ID not known: 0\n"},
	} {
		l.wants(tc.path+" "+strings.Join(tc.fields, "="), l.post(tc.path, tc.fields...), 400, tc.body)
	}
	for path, fields := range map[string][]string{
		"/test/unstable/amd64": {"tests", "[{]"}, "/test/batch": {"tests", ""}, "/test/unstable/amd64/bash": {"extra_apt_sources", "open"},
	} {
		if answer := l.post(path, fields...); answer.Code != 400 || !strings.HasPrefix(answer.Body.String(), "Invalid JSON: ") {
			t.Errorf("%s: %d %q", path, answer.Code, answer.Body)
		}
	}
	if n := len(l.log.Records(eventlog.Jobs)); n != 0 {
		t.Errorf("%d events of refused requests are in the log", n)
	}
}

func TestBodiesThatAreNoFormHaveNoTests(t *testing.T) {
	l := newLab(t)
	l.wants("JSON", l.send("/test/unstable/amd64", "application/json", `[{"package": "bash"}]`), 400, "Error: No tests\n")
	l.wants("no name", l.send("/test/unstable/amd64", encoded, `[{"package": "bash"}]`), 400, "Error: No tests\n")
	for contentType, body := range map[string]string{
		encoded: "tests=%zz", "multipart/form-data": "x", "multipart/form-data; boundary=x": "tests=[]", "text/; x": "x",
	} {
		if answer := l.send("/test/unstable/amd64", contentType, body); answer.Code != 400 || !strings.HasPrefix(answer.Body.String(), "Error: ") {
			t.Errorf("%s: %d %q", contentType, answer.Code, answer.Body)
		}
	}
	if answer := l.post("/test/unstable/amd64", "tests", strings.Repeat(" ", 64<<10)); answer.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("a body over the limit: %d %q", answer.Code, answer.Body)
	}
}

func TestARepeatedSubmissionWithItsKeyCountsOnceAndWithoutTwice(t *testing.T) {
	l := newLab(t)
	body := "tests=" + url.QueryEscape(`[{"package": "bash"}]`)
	for range 2 {
		answer := l.send("/test/unstable/amd64", encoded, body, "Idempotency-Key", "k")
		l.wants("with a key", answer, 201, "")
		if answer.Header().Get("Millrace-Runs") != "1-1" {
			t.Errorf("the runs are %s", answer.Header().Get("Millrace-Runs"))
		}
	}
	if answer := l.send("/test/unstable/amd64", encoded, body+"&priority=2", "Idempotency-Key", "k"); answer.Code != 422 {
		t.Errorf("another body under the key: %d %s", answer.Code, answer.Body)
	}
	for range 2 {
		l.wants("without a key", l.send("/test/unstable/amd64", encoded, body), 201, "")
	}
	var last uint64
	l.jobs.View(func(s *jobs.State) { last = s.Last() })
	if last != 3 {
		t.Errorf("%d tests were made, want 3", last)
	}
}

// store puts a test into what the projections say.
func (l *lab) store(run uint64, owner string, private bool, request tests.Request) {
	l.t.Helper()
	document, err := json.Marshal(request)
	if err != nil {
		l.t.Fatal(err)
	}
	hash := access.HashDebciUser(l.ring, owner)
	l.stored[run] = &debci.Test{Owner: hash[:], SealedOwner: []byte("sealed " + owner), Private: private, Document: document}
}

func TestARetryIsTheSameTestForTheSameOwner(t *testing.T) {
	l := newLab(t)
	trigger := "x/1"
	request := tests.Request{Suite: "testing", Arch: "arm64", Package: "bash", Trigger: &trigger, Pins: [][]string{{"src:a", "unstable"}}}
	hidden := request
	hidden.Private = true
	l.store(7, "joe", false, hidden) // it was published
	l.store(8, "joe", true, hidden)
	l.store(9, "jane", true, hidden)
	l.store(10, "jane", false, tests.Request{Suite: "testing", Arch: "arm64", Package: "worse"})
	l.wants("a public one", l.send("/retry/7", "", ""), 200, "")
	l.wants("one's own", l.send("/retry/9", "", ""), 200, "")
	l.wants("another's private one", l.send("/retry/8", "", ""), 403, "Job 8 is private: only its owner may retry it\n")
	l.wants("a rejected one", l.send("/retry/10", "", ""), 403, "Package worse is in the REJECT list and cannot be retried\n")
	records := l.log.Records(eventlog.Jobs)
	if len(records) != 2 {
		t.Fatalf("%d events, want two", len(records))
	}
	for i, want := range []struct {
		owner string
		of    uint64
		tests.Request
	}{{"joe", 7, request}, {"jane", 9, hidden}} {
		message, err := records[i].Decode()
		if err != nil {
			t.Fatal(err)
		}
		m, _ := message.(*event.JobSubmitted)
		body, err := l.packer.Unpack(t.Context(), m.GetDocument())
		if err != nil {
			t.Fatal(err)
		}
		got, err := tests.ReadRequest(body)
		owner := access.HashDebciUser(l.ring, want.owner)
		if err != nil || cmp.Diff(want.Request, got) != "" || !bytes.Equal(m.GetOwner(), owner[:]) || m.GetRetryOf() != want.of ||
			m.GetQueue() != "debci/testing/arm64" || m.GetPriority() != 5 || m.GetLabels().GetPrivate() != want.Private {
			t.Errorf("the retry of %d is %+v: %+v, %v", want.of, m, got, err)
		}
	}
}

func TestOnlyOnesOwnTestsArePublished(t *testing.T) {
	l := newLab(t)
	var asked []uint64
	l.own = func(owner registry.Hash, runs []uint64) []uint64 {
		if owner != access.HashDebciUser(l.ring, "jane") {
			t.Errorf("asked for %x", owner)
		}
		asked = runs
		return []uint64{3}
	}
	l.wants("some", l.post("/test/publish", "run_ids", "5, 3,x, 1abc,-2,,3"), 200, "")
	if diff := cmp.Diff([]uint64{3, 5}, asked); diff != "" {
		t.Error(diff)
	}
	l.wants("none", l.post("/test/publish"), 200, "")
	l.wants("no numbers", l.post("/test/publish", "run_ids", "x"), 200, "")
	records := l.log.Records(eventlog.Jobs)
	if len(records) != 1 {
		t.Fatalf("%d events, want one", len(records))
	}
	message, _ := records[0].Decode()
	if m, ok := message.(*event.JobsPublished); !ok || len(m.GetSeqs()) != 1 || m.GetSeqs()[0] != 3 {
		t.Errorf("the event is %v", message)
	}
}

func TestOtherMethodsAndPathsAreUnknown(t *testing.T) {
	l := newLab(t)
	for _, path := range []string{"/test/unstable/amd64/", "/test/unstable/amd64/bash/x", "/test/batch/", "/nothing"} {
		answer := l.send(path, "", "")
		if answer.Code != http.StatusNotFound || !json.Valid(answer.Body.Bytes()) {
			t.Errorf("POST %s: %d %s, want a JSON 404", path, answer.Code, answer.Body)
		}
	}
	r := httptest.NewRequest(http.MethodDelete, "/api/v1/test/unstable/amd64", nil)
	answer := httptest.NewRecorder()
	l.engine.ServeHTTP(answer, r)
	if answer.Code != http.StatusNotFound {
		t.Errorf("DELETE: %d, want 404", answer.Code)
	}
}
