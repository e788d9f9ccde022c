package pgperffarm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/runs"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

func TestTimestampsAreCutToMilliseconds(t *testing.T) {
	second := time.Date(2021, 7, 3, 18, 22, 5, 0, time.UTC)
	tests := map[time.Duration]string{
		0:                         `"2021-07-03T18:22:05Z"`,
		123 * time.Millisecond:    `"2021-07-03T18:22:05.123Z"`,
		500 * time.Millisecond:    `"2021-07-03T18:22:05.500Z"`,
		123999 * time.Microsecond: `"2021-07-03T18:22:05.123Z"`,
		400 * time.Microsecond:    `"2021-07-03T18:22:05.000Z"`,
		999 * time.Nanosecond:     `"2021-07-03T18:22:05Z"`,
	}
	for more, want := range tests {
		elsewhere := second.Add(more).In(time.FixedZone("", 7200))
		if got := string(appendTimestamp(nil, elsewhere)); got != want {
			t.Errorf("%s: %s, want %s", more, got, want)
		}
	}
}

func TestMonthBeforeIsACalendarMonth(t *testing.T) {
	for from, want := range map[string]string{
		"2021-07-10": "2021-06-10", "2021-03-31": "2021-02-28", "2024-03-30": "2024-02-29", "2021-01-15": "2020-12-15",
		"2021-05-31": "2021-04-30", "2021-03-28": "2021-02-28",
	} {
		day, err := time.Parse(time.DateOnly, from)
		if err != nil {
			t.Fatal(err)
		}
		if got := monthBefore(day).Format(time.DateOnly); got != want {
			t.Errorf("a month before %s is %s, want %s", from, got, want)
		}
	}
}

func TestSettingsChangeBetweenNeighboursOfABranch(t *testing.T) {
	use := func(branch string, set, first uint64) setUse { return setUse{branch: branch, set: set, first: first} }
	tests := []struct {
		name string
		uses []setUse
		want string
	}{
		{"one set", []setUse{use("a", 1, 1)}, ""},
		{"two sets", []setUse{use("a", 2, 5), use("a", 1, 1)}, "a:1>2@5"},
		{"the id must grow", []setUse{use("a", 2, 1), use("a", 1, 5)}, ""},
		{"in a dip, only the rise counts", []setUse{use("a", 2, 1), use("a", 1, 5), use("a", 3, 9)}, "a:1>3@9"},
		{"branches are apart", []setUse{use("a", 1, 1), use("b", 2, 2)}, ""},
		{"by run, then by branch", []setUse{use("b", 1, 1), use("b", 2, 7), use("a", 1, 2), use("a", 2, 7), use("c", 1, 3), use("c", 2, 4)},
			"c:1>2@4 a:1>2@7 b:1>2@7"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, change := range setChanges(test.uses) {
				got = append(got, fmt.Sprintf("%s:%d>%d@%d", change.to.branch, change.from.set, change.to.set, change.to.first))
			}
			if joined := strings.Join(got, " "); joined != test.want {
				t.Errorf("got %q, want %q", joined, test.want)
			}
		})
	}
}

func TestOnlySettingsOfBothSetsAreCompared(t *testing.T) {
	from := map[string]setting{"a": {"file", "1"}, "b": {"file", "1"}, "same": {"file", "1"}, "gone": {"file", "1"}}
	to := map[string]setting{"b": {"file", "2"}, "a": {"line", "1"}, "same": {"file", "1"}, "new": {"file", "1"}}
	out := newArray(10)
	h := holes(1)
	all := span{machineType: h.machineType, name: h.alias}
	if err := all.writeChanges(setChange{}, from, to, out); err != nil {
		t.Fatal(err)
	}
	out.end()
	var rows []struct {
		Name string `json:"setting_name"`
	}
	if err := json.Unmarshal(out.buffer.Bytes(), &rows); err != nil {
		t.Fatal(err)
	}
	if len(rows) != 2 || rows[0].Name != "a" || rows[1].Name != "b" {
		t.Errorf("changes %v, want a (its source) and b (its value)", rows)
	}
}

// counted is a page of rows that say their number.
type counted struct {
	N    int    `json:"n"`
	Name hole   `json:"name"`
	Pad  string `json:"pad"`
}

func (l *lab) page(rows, padding int, fail error) (p page, made *int) {
	made = new(int)
	return page{
		key: "test", newest: func(*runs.State) uint64 { return 1 }, none: "[]",
		write: func(_ context.Context, _ *reader, out *array) (time.Duration, error) {
			*made++
			for i := range rows {
				row := counted{N: i, Name: hole{holeUsername, 1}, Pad: strings.Repeat("x", padding)}
				if err := out.add(&row); err != nil {
					return 0, err
				}
			}
			return 0, fail
		},
	}, made
}

// show answers with a page through a mounted route.
func (l *lab) show(p page) *httptest.ResponseRecorder {
	l.Helper()
	routes := []route.Route{list("/test", "0", "A page", []counted{}, l.farm.pages(func(*gin.Context) (page, error) { return p, nil }))}
	engine := gin.New()
	doors := route.API{Authorize: l.farm.Access.Authorize}
	if err := route.Mount(engine, routes, route.Options{APIs: map[string]route.API{API: doors}, Log: discard}); err != nil {
		l.Fatal(err)
	}
	answer := httptest.NewRecorder()
	engine.ServeHTTP(answer, httptest.NewRequestWithContext(l.Context(), http.MethodGet, "/test", nil))
	return answer
}

func TestLargeListIsStreamedWhole(t *testing.T) {
	l := newLab(t)
	l.user("jdoe", "jane@example.org", false)
	l.machine(labStart, "jdoe", "otter", "", true)
	const rows = 6000
	p, made := l.page(rows, 1000, nil)
	for range 2 {
		answer := l.show(p)
		var got []struct {
			N    int
			Name string
		}
		if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil || len(got) != rows {
			t.Fatalf("%d rows (%v), want %d", len(got), err, rows)
		}
		for i, row := range got {
			if row.N != i || row.Name != "jdoe" {
				t.Fatalf("row %d is %v", i, row)
			}
		}
		if !answer.Flushed && answer.Header().Get("Content-Length") != "" {
			t.Error("a streamed body has a Content-Length")
		}
	}
	if *made != 3 {
		t.Errorf("made %d times, want 3: once to see that it is large, then once for each request", *made)
	}
}

func TestListOverTheLimitOfRowsIsRefusedNamingTheLimit(t *testing.T) {
	l := newLab(t)
	l.farm.MaxRows = 100
	p, _ := l.page(101, 0, nil)
	answer := l.show(p)
	if answer.Code != http.StatusServiceUnavailable || !strings.Contains(answer.Body.String(), "100 rows") {
		t.Errorf("got %d %s", answer.Code, answer.Body)
	}
	l.farm.MaxRows = 20_000
	p, _ = l.page(20_001, 1000, nil)
	p.key = "large"
	if answer := l.show(p); answer.Code != http.StatusServiceUnavailable {
		t.Errorf("a list that is too large for memory and too long: %d, %d bytes", answer.Code, answer.Body.Len())
	}
}

func TestStreamThatFailsBreaksTheConnection(t *testing.T) {
	l := newLab(t)
	l.user("jdoe", "jane@example.org", false)
	l.machine(labStart, "jdoe", "otter", "", true)
	p, _ := l.page(6000, 1000, nil)
	l.show(p) // now it is known to be large
	broken, _ := l.page(6000, 1000, errors.New("the engine died"))
	var log bytes.Buffer
	l.farm.Logger = slog.New(slog.NewTextHandler(&log, nil))
	defer func() {
		if recovered := recover(); recovered != http.ErrAbortHandler {
			t.Errorf("recovered %v, want http.ErrAbortHandler", recovered)
		}
		if !strings.Contains(log.String(), "the engine died") {
			t.Errorf("the log does not say why: %s", &log)
		}
	}()
	answer := l.show(broken)
	t.Errorf("a broken answer looks whole: %d, %d bytes", answer.Code, answer.Body.Len())
}

func TestHolesAreFilledAndNothingElse(t *testing.T) {
	l := newLab(t)
	l.user(`j"doe`, "jane@example.org", false)
	l.machine(labStart, `j"doe`, "otter", "", true)
	fill := func(body string) (string, error) {
		filled, err := (&filler{farm: l.farm}).fill(t.Context(), nil, []byte(body))
		return string(filled), err
	}
	tests := map[string]string{
		`[]`:               `[]`,
		`{"a":"\u0000u1"}`: `{"a":"j\"doe"}`,
		`["\u0000a1","\u0000d1","\u0000e1","\u0000t1","\u0000c1"]`: `["otter","",null,"","2021-06-30T09:00:00Z"]`,
		`["\u0000m0","\u0000o0"]`:                                  `[1,1]`,
		`["\\u0000u1","x\u0000u1"]`:                                `["\\u0000u1","x\u0000u1"]`,
	}
	for body, want := range tests {
		if got, err := fill(body); err != nil || got != want {
			t.Errorf("%s filled: %s (%v), want %s", body, got, err, want)
		}
	}
	for _, body := range []string{`"\u0000`, `"\u0000"`, `"\u0000u"`, `"\u0000ux"`, `"\u0000z1"`, `"\u0000u2"`} {
		if got, err := fill(body); err == nil {
			t.Errorf("%s filled: %s, want an error", body, got)
		}
	}
}

func TestMalformedNumbersInPathsAreNotFound(t *testing.T) {
	l := newLab(t)
	for _, pattern := range []string{
		"/run/%s", "/benchmark/history/%s", "/benchmark/postgres/%s", "/benchmark/pgbench_trends/%s/1", "/benchmark/pgbench_trends/1/%s",
		"/benchmark/pgbench_results_commit/abc/%s/1", "/benchmark/pgbench_results_commit/abc/1/%s",
		"/benchmark/pgbench_results_complete/%s", "/tpch/details/%s", "/tpch/trend/%s/1", "/tpch/runs_commit/%s/1/abc",
	} {
		for _, number := range []string{"x", "-1", "-0", "+1", "1x", "0x1", "1.0", "1e3", "9223372036854775808", "%20", "%00", "١"} {
			path := fmt.Sprintf(pattern, number)
			answer := l.get(path)
			if answer.Code != http.StatusNotFound || !strings.HasPrefix(answer.Body.String(), `{"error":"`) {
				t.Errorf("GET %s: %d %s, want 404 with an error", path, answer.Code, answer.Body)
			}
		}
	}
}

func TestEmptyFarmAnswersWithoutProjections(t *testing.T) {
	l := newLab(t) // it has no ClickHouse
	for path, want := range map[string]string{
		"/benchmark/overview": "[{}]", "/benchmark/machines": "[]", "/benchmark/history/1": "[]", "/benchmark/postgres/1": "[]",
		"/benchmark/pgbench_trends/1/1": "[]", "/benchmark/pgbench_results_commit/abc/1/1": "[]", "/machine/list": "[]",
		"/tpch/machines": "[]", "/tpch/trend/1/10": "[]", "/tpch/trends/1/10": "[]", "/tpch/runs_commit/1/10/abc": "[]",
	} {
		for _, form := range []string{path, path + "/", path + "?unknown=1"} {
			if body := l.body(form); body != want {
				t.Errorf("GET %s: %s, want %s", form, body, want)
			}
		}
	}
}

func TestEveryReadEndpointTakesGetAndHeadOnly(t *testing.T) {
	l := newLab(t)
	for _, r := range l.farm.Routes() {
		path := strings.NewReplacer(":machine_id", "1", ":run_id", "1", ":benchmark_config_id", "1", ":scale_factor", "1",
			":pgbench_result_id", "1", ":git_commit", "a", ":commit", "a").Replace(r.Path)
		for _, form := range []string{path, path + "/"} {
			for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete} {
				answer := l.ask(method, form)
				if answer.Code != http.StatusMethodNotAllowed || answer.Header().Get("Allow") != "GET, HEAD" {
					t.Errorf("%s %s: %d, Allow %q, want 405 and GET, HEAD", method, form, answer.Code, answer.Header().Get("Allow"))
				}
			}
			get, head := l.get(form), l.ask(http.MethodHead, form)
			if get.Code != head.Code || get.Code >= 500 {
				t.Errorf("%s: GET %d, HEAD %d", form, get.Code, head.Code)
			}
		}
		if answer := l.get(path + "xyz"); strings.HasSuffix(r.Path, "machines") && answer.Code != http.StatusNotFound {
			t.Errorf("GET %sxyz: %d, want 404: the whole path must match", path, answer.Code)
		}
	}
}

func TestHeadTellsTheLengthAndSendsNothing(t *testing.T) {
	l := newLab(t)
	l.user("jdoe", "jane@example.org", false)
	l.machine(labStart, "jdoe", "otter", "", true)
	get, head := l.get("/machine/list"), l.ask(http.MethodHead, "/machine/list")
	if head.Body.Len() != 0 || head.Header().Get("Content-Length") != fmt.Sprint(get.Body.Len()) {
		t.Errorf("HEAD: %d bytes, Content-Length %q; GET: %d bytes", head.Body.Len(), head.Header().Get("Content-Length"), get.Body.Len())
	}
}

func TestReadingWhereOnlyUploadsArePostedIsNotAllowed(t *testing.T) {
	l := newLab(t)
	for _, path := range []string{"/run/upload", "/run/upload/"} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			answer := l.ask(method, path)
			if answer.Code != http.StatusMethodNotAllowed || answer.Header().Get("Allow") != http.MethodPost {
				t.Errorf("%s %s: %d, Allow %q, want 405 and POST", method, path, answer.Code, answer.Header().Get("Allow"))
			}
		}
	}
}

func TestAnswersCarryTheHeadersOfTheOriginal(t *testing.T) {
	l := newLab(t)
	for _, path := range []string{"/machine/list", "/benchmark/history/1"} {
		header := l.get(path).Header()
		for name, want := range map[string]string{
			"Content-Type": "application/json", "X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff",
			"Referrer-Policy": "same-origin", "Access-Control-Allow-Origin": "", "Cache-Control": "", "Content-Encoding": "",
		} {
			if got := header.Get(name); got != want {
				t.Errorf("GET %s: %s is %q, want %q", path, name, got, want)
			}
		}
	}
}

func TestMachineListShowsWhatWasJustDecided(t *testing.T) {
	l := newLab(t)
	l.user("jdoe", "jane@example.org", false)
	l.machine(labStart, "jdoe", "otter", "lab box", false)
	want := `[{"machine_id":1,"alias":"otter","machine_type":"","add_time":"2021-06-30T09:00:00Z","description":"lab box",` +
		`"approved":false,"owner_id__username":"jdoe","latest":[]}]`
	for range 2 {
		if body := l.body("/machine/list"); body != want {
			t.Errorf("got %s, want %s", body, want)
		}
	}
	l.tell(l.now, &event.FarmMachineApproveRequested{Alias: "otter"})
	for day := 2; day < 6; day++ {
		l.fold(1, at(day, 1, 0, 0), document(at(day, 0, 0, 0)))
	}
	want = strings.NewReplacer(`"machine_type":""`, `"machine_type":"aarch64"`, "false", "true", "[]", "[4,3,2]").Replace(want)
	if body := l.body("/machine/list"); body != want {
		t.Errorf("got %s, want %s", body, want)
	}
}

func TestMachineListNamesNobodyWhoWasErased(t *testing.T) {
	l := newLab(t)
	l.user("jdoe", "jane@example.org", false)
	l.machine(labStart, "jdoe", "otter", "", true)
	l.body("/machine/list")
	name := access.HashUser(l.ring, "jdoe")
	if err := l.ring.Erase(access.Subject(name)); err != nil {
		t.Fatal(err)
	}
	l.now = l.now.Add(reopenAfter) // the log does not tell of it: only the key is gone
	if body := l.body("/machine/list"); !strings.Contains(body, `"owner_id__username":"erased"`) {
		t.Errorf("got %s", body)
	}
}

func TestOwnMachinesWantASession(t *testing.T) {
	l := newLab(t)
	for path, next := range map[string]string{
		"/machine/user": "/machine/user", "/machine/user/": "/machine/user/", "/machine/user?a=b": "/machine/user%3Fa%3Db",
	} {
		for _, session := range [][]string{nil, {"forged"}} {
			answer := l.get(path, session...)
			want := "/user/community_login?next=" + next
			if answer.Code != http.StatusFound || answer.Header().Get("Location") != want {
				t.Errorf("GET %s: %d to %q, want 302 to %q", path, answer.Code, answer.Header().Get("Location"), want)
			}
		}
	}
}

func TestOwnersReadTheirMachinesWithSecretsAndNobodyElses(t *testing.T) {
	l := newLab(t)
	l.user("jdoe", "jane@example.org", false)
	l.user("boss", "boss@example.org", true)
	l.user("guest", "guest@example.org", false)
	l.machine(labStart, "boss", "heron", "", true)
	l.machine(labStart, "jdoe", "otter", "lab box", true)
	l.fold(2, at(2, 1, 0, 0), document(at(2, 0, 0, 0)))
	answer := l.get("/machine/user", "jdoe")
	want := `[{"machine_id":2,"alias":"otter","machine_type":"aarch64","add_time":"2021-06-30T09:00:00Z","description":"lab box",` +
		`"machine_secret":"secret of otter","approved":true,"owner_id__username":"jdoe","owner_id__email":"jane@example.org",` +
		`"latest":[1],"count":1,"email":"jane@example.org"}]`
	if answer.Body.String() != want {
		t.Errorf("got %s, want %s", answer.Body, want)
	}
	if answer.Header().Get("Vary") != "Cookie" || answer.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v, want Vary: Cookie, and no-store for the secrets", answer.Header())
	}
	if body := l.body("/machine/user", "guest"); body != "[]" {
		t.Errorf("who has no machine gets %s", body)
	}
	if body := l.body("/machine/list", "boss"); strings.Contains(body, "secret") {
		t.Errorf("the public list holds secrets: %s", body)
	}
	l.tell(l.now, &event.FarmMachineRevokeRequested{Alias: "otter"})
	if body := l.body("/machine/user", "jdoe"); !strings.Contains(body, `"machine_secret":"",`) {
		t.Errorf("a revoked secret is still shown: %s", body)
	}
}

func TestPositionThatIsNoneIsRefused(t *testing.T) {
	l := newLab(t)
	for _, path := range []string{"/machine/list", "/benchmark/overview"} {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		request.Header.Set(eventlog.PositionHeader, "yesterday")
		answer := httptest.NewRecorder()
		l.server.ServeHTTP(answer, request)
		if answer.Code != http.StatusBadRequest {
			t.Errorf("GET %s: %d, want 400", path, answer.Code)
		}
	}
}

func TestEveryRouteIsDescribed(t *testing.T) {
	l := newLab(t)
	routes := l.farm.Routes()
	if err := route.Validate(routes); err != nil {
		t.Error(err)
	}
	if _, err := route.OpenAPI("test", "0", routes); err != nil {
		t.Error(err)
	}
	var sections []string
	for _, r := range routes {
		sections = append(sections, r.Contract)
	}
	slices.Sort(sections)
	want := "5.1.1 5.1.2 5.1.3 5.1.4 5.1.5 5.1.6 5.1.7 5.2.1 5.2.2 5.4.2 5.5.1 5.5.2 5.5.3 5.5.3 5.5.4"
	if got := strings.Join(sections, " "); got != want {
		t.Errorf("sections %s, want %s", got, want)
	}
}
