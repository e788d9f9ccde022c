package native_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/processor/pgperffarm/farmdoc"
	"github.com/millrace/millrace/query/native"
	"github.com/millrace/millrace/query/native/lab"
	"github.com/millrace/millrace/query/native/labtest"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// server serves the endpoints of a lab to everybody.
func server(t *testing.T, l *labtest.Lab) http.Handler {
	t.Helper()
	return serverAt(t, l, time.Now)
}

func serverAt(t *testing.T, l *labtest.Lab, clock func() time.Time) http.Handler {
	t.Helper()
	config := native.Config{Now: clock}
	if l != nil {
		config.Answers, config.Reader = l.Answers, l.Reader
	}
	n := native.New(config)
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	open := route.API{Authorize: func(*gin.Context, route.Access) (any, error) { return nil, nil }}
	err := route.Mount(engine, n.Routes(), route.Options{APIs: map[string]route.API{native.API: open}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

func ask(t *testing.T, h http.Handler, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/millrace/v1"+path, nil)
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	answer := httptest.NewRecorder()
	h.ServeHTTP(answer, request)
	return answer
}

// page is any list's answer.
type page struct {
	Items    []map[string]any `json:"items"`
	Next     *string          `json:"next"`
	Position string           `json:"position"`
}

func list(t *testing.T, h http.Handler, path string, header ...string) page {
	t.Helper()
	answer := ask(t, h, path, header...)
	if answer.Code != http.StatusOK {
		t.Fatalf("GET %s: %d %s", path, answer.Code, answer.Body)
	}
	var p page
	if err := json.Unmarshal(answer.Body.Bytes(), &p); err != nil {
		t.Fatalf("GET %s: %v in %s", path, err, answer.Body)
	}
	return p
}

func document(day int) []byte {
	return farmdoc.Synthetic(farmdoc.Options{Seed: uint64(day), LogSeconds: 5, Start: time.Date(2026, 2, 1+day, 6, 0, 0, 0, time.UTC)})
}

func series(metric string) lab.Series {
	return lab.Series{MachineID: 1, ConfigID: 1, BranchID: 1, Metric: metric}
}

func filled(t *testing.T) *labtest.Lab {
	l := labtest.New(t)
	l.Together(func() {
		l.AddMachine("kestrel", true)
		l.AddMachine("merlin", true)
		for day := range 7 {
			l.Now = l.Now.Add(time.Minute)
			l.Upload(1+uint64(day%2), document(day))
		}
	})
	return l
}

func TestParametersThatAreWrongAreRefusedByName(t *testing.T) {
	h := server(t, nil)
	const of = "machine=1&config=1&branch=1&metric=tps"
	for path, want := range map[string]string{
		"/runs?machin=1":                            `there is no query parameter "machin"; there are: machine, benchmark, branch,`,
		"/runs?machine=1&machine=2":                 "query parameter machine is given 2 times",
		"/runs?machine=x":                           "query parameter machine must be an integer from 1",
		"/runs?machine=0":                           "query parameter machine must be an integer from 1",
		"/runs?machine=-1":                          "query parameter machine must be",
		"/runs?limit=0":                             "query parameter limit must be an integer from 1 to 1000",
		"/runs?limit=1001":                          "query parameter limit must be an integer from 1 to 1000",
		"/runs?sort=commit":                         "query parameter sort must be one of run_id, -run_id, start_time, -start_time, add_time, -add_time",
		"/runs?official=yes":                        "query parameter official must be true or false",
		"/runs?from=yesterday":                      "query parameter from must be a time like 2006-01-02T15:04:05Z, or Unix seconds",
		"/runs?from=1770000000&to=1770000000":       "query parameter to must be later than from",
		"/runs?time=end_time":                       "query parameter time must be one of start_time, add_time",
		"/runs?fields=run_id,oid":                   `query parameter fields: there is no member "oid"; there are: run_id, event_id,`,
		"/runs?cursor=AQ":                           "query parameter cursor: it is no cursor",
		"/runs?commit=" + strings.Repeat("x", 1001): "query parameter commit must be at most 1000 bytes long",
		"/results?sort=tps":                         "query parameter sort may be tps only together with machine and config",
		"/results?sort=-latency&machine=1":          "Otherwise it must be one of result_id, -result_id, add_time, -add_time",
		"/metrics?machine=1&config=1&branch=1":      "query parameter metric must be",
		"/metrics?config=1&branch=1&metric=tps":     "query parameter machine must be",
		"/metrics?" + of + "&limit=10001":           "query parameter limit must be an integer from 1 to 10000",
		"/trend?" + of + "&resolution=minute":       "query parameter resolution must be one of auto, raw, run, hour, day, week",
		"/trend?" + of + "&points=10001":            "query parameter points must be an integer from 1 to 10000",
		"/trend?" + of + "&last=ninety":             "query parameter last must be a number of hours, days or weeks",
		"/trend?" + of + "&last=99999w":             "query parameter last must be a number of hours, days or weeks",
		"/trend?" + of + "&last=90d&from=1":         "query parameter last takes the place of from and to",
		"/dead-letters?state=lost":                  "query parameter state must be one of open, requeued",
		"/runs/7?fields=run_id":                     `there is no query parameter "fields"`,
	} {
		answer := ask(t, h, path)
		if answer.Code != http.StatusBadRequest || !strings.Contains(answer.Body.String(), strings.ReplaceAll(want, `"`, `\"`)) {
			t.Errorf("GET %s: %d %s, want 400 with %q", path, answer.Code, answer.Body, want)
		}
	}
	for _, path := range []string{"/runs/x", "/runs/0", "/dead-letters/7"} {
		if answer := ask(t, h, path); answer.Code != http.StatusNotFound {
			t.Errorf("GET %s: %d %s, want 404", path, answer.Code, answer.Body)
		}
	}
	if answer := ask(t, h, "/runs", "Millrace-Position", "nonsense"); answer.Code != 400 || !strings.Contains(answer.Body.String(), "header Millrace-Position") {
		t.Errorf("a position that is none: %d %s", answer.Code, answer.Body)
	}
}

func TestListsAreFollowedByTheirCursors(t *testing.T) {
	l := filled(t)
	h := server(t, l)
	for _, path := range []string{
		"/runs?", "/runs?sort=-start_time", "/runs?machine=1", "/results?sort=-add_time", "/results?machine=1&config=1&sort=-tps", "/machines?",
		"/configs?", "/branches?machine=2", "/metrics/names?machine=1", "/metrics?machine=1&config=1&branch=1&metric=log.tps", "/runs?from=1&fields=commit",
	} {
		var whole []string
		for _, item := range list(t, h, path+"&limit=1000").Items {
			whole = append(whole, fmt.Sprint(item))
		}
		var paged []string
		cursor := ""
		for range 100 {
			p := list(t, h, path+"&limit=2"+cursor)
			for _, item := range p.Items {
				paged = append(paged, fmt.Sprint(item))
			}
			if p.Next == nil {
				break
			}
			cursor = "&cursor=" + url.QueryEscape(*p.Next)
		}
		if len(whole) == 0 || !slices.Equal(whole, paged) {
			t.Errorf("GET %s: pages give %d items, a page of all %d", path, len(paged), len(whole))
		}
	}
}

func TestCursorContinuesItsOwnQueryOnly(t *testing.T) {
	h := server(t, filled(t))
	next := url.QueryEscape(*list(t, h, "/runs?machine=1&limit=1").Next)
	for _, other := range []string{"/runs?machine=2&limit=1&cursor=", "/runs?limit=1&cursor=", "/runs?machine=1&sort=-run_id&cursor=", "/results?machine=1&cursor="} {
		if answer := ask(t, h, other+next); answer.Code != 400 || !strings.Contains(answer.Body.String(), "continues another query") {
			t.Errorf("GET %s…: %d %s, want 400", other, answer.Code, answer.Body)
		}
	}
	if got := list(t, h, "/runs?limit=9&fields=run_id&machine=1&cursor="+next); len(got.Items) != 3 {
		t.Errorf("with another limit and fields the cursor gives %d runs, want the other 3", len(got.Items))
	}
}

func TestCursorContinuesAfterARebuild(t *testing.T) {
	l := filled(t)
	h := server(t, l)
	whole := list(t, h, "/runs?sort=-start_time")
	first := list(t, h, "/runs?sort=-start_time&limit=3")
	l.Rebuild()
	rest := list(t, h, "/runs?sort=-start_time&cursor="+url.QueryEscape(*first.Next))
	if got, want := fmt.Sprint(append(first.Items, rest.Items...)), fmt.Sprint(whole.Items); got != want {
		t.Errorf("pages before and after a rebuild give\n%s\nwant\n%s", got, want)
	}
}

func TestItemsHaveTheFieldsThatAreAskedFor(t *testing.T) {
	h := server(t, filled(t))
	for path, want := range map[string]string{
		"/runs?limit=1&fields=commit,run_id":                      `"items":[{"run_id":1,"commit":"`,
		"/machines?limit=1&fields=alias":                          `"items":[{"alias":"kestrel"}],"next":"`,
		"/results?limit=1&fields=init,iteration":                  `"items":[{"iteration":`,
		"/metrics/names?limit=1&fields=samples,metric&prefix=tps": `"items":[{"metric":"tps","samples":4}],"next":"`,
	} {
		if answer := ask(t, h, path); answer.Code != 200 || !strings.HasPrefix(answer.Body.String(), "{"+want) {
			t.Errorf("GET %s: %d %s, want it to begin with %s", path, answer.Code, answer.Body, want)
		}
	}
}

func TestRepeatedReadAsksClickHouseNothingUntilItsWatermarkMoves(t *testing.T) {
	l := filled(t)
	h := server(t, l)
	const trend = "/trend?machine=1&config=1&branch=1&metric=tps&resolution=run"
	asks := func(path string) int64 {
		t.Helper()
		before := l.Queries.Load()
		if answer := ask(t, h, path); answer.Code != 200 {
			t.Fatalf("GET %s: %d %s", path, answer.Code, answer.Body)
		}
		return l.Queries.Load() - before
	}
	for _, path := range []string{trend, "/runs?machine=1", "/runs/1", "/machines", "/metrics/names?machine=1"} {
		if asks(path) == 0 {
			t.Errorf("GET %s: the first answer came from nowhere", path)
		}
		if n := asks(path); n != 0 {
			t.Errorf("GET %s: repeated, it asks ClickHouse %d times", path, n)
		}
	}
	l.Upload(2, document(20))
	if n := asks(trend); n != 0 {
		t.Errorf("after another machine's run the trend asks ClickHouse %d times", n)
	}
	if n := asks("/runs/1"); n != 0 {
		t.Errorf("after another run, a run asks ClickHouse %d times", n)
	}
	points := len(list(t, h, trend).Items)
	l.Upload(1, document(21))
	if got := len(list(t, h, trend).Items); got != points+1 {
		t.Errorf("after a run of its machine the trend has %d points, want %d", got, points+1)
	}
}

func TestReadWaitsForWhatTheLogHeldWhenItCame(t *testing.T) {
	l := filled(t)
	h := server(t, l)
	before := list(t, h, "/runs?machine=1")
	_, project := l.Fold(1, document(20))
	if answer := ask(t, h, "/runs?machine=1"); answer.Code != http.StatusServiceUnavailable || answer.Header().Get("Retry-After") == "" {
		t.Errorf("while the run is not projected: %d %s, want 503 with Retry-After", answer.Code, answer.Body)
	}
	eventual := list(t, h, "/runs?machine=1", "Millrace-Consistency", "eventual")
	if len(eventual.Items) != len(before.Items) || eventual.Position != "" {
		t.Errorf("an eventual read gives %d runs at %q, want the %d that are projected at no position", len(eventual.Items), eventual.Position, len(before.Items))
	}
	if old := list(t, h, "/runs?machine=1", "Millrace-Position", before.Position); len(old.Items) != len(before.Items) {
		t.Errorf("a read of the former position gives %d runs, want %d", len(old.Items), len(before.Items))
	}
	project()
	after := list(t, h, "/runs?machine=1")
	if len(after.Items) != len(before.Items)+1 {
		t.Errorf("after the run was projected there are %d runs, want %d", len(after.Items), len(before.Items)+1)
	}
	position, err := eventlog.ParsePosition(after.Position)
	if err != nil || position.Offsets[eventlog.Partition{Topic: eventlog.Runs}] != 7 {
		t.Errorf("the answer is at %q, want the eighth record of topic runs: %v", after.Position, err)
	}
}

func TestAnswerUpToNowExpires(t *testing.T) {
	l := labtest.New(t)
	measured := time.Date(2026, 2, 6, 6, 0, 0, 0, time.UTC)
	l.AddSamples(series("probe"), 1, []int64{measured.UnixMilli()}, []float64{1})
	clock := measured.Add(30 * time.Minute)
	h := serverAt(t, l, func() time.Time { return clock })
	const path = "/trend?machine=1&config=1&branch=1&metric=probe&last=1h"
	if got := list(t, h, path).Items; len(got) != 1 {
		t.Errorf("half an hour later the last hour has %d samples, want 1", len(got))
	}
	clock = measured.Add(90 * time.Minute)
	if got := list(t, h, path).Items; len(got) != 0 {
		t.Errorf("one and a half hours later the last hour has %d samples, want none", len(got))
	}
}

func TestTrendOfTooManyPointsIsRefused(t *testing.T) {
	l := filled(t)
	l.AddSamples(series("probe"), 1, make([]int64, 10_001), make([]float64, 10_001))
	answer := ask(t, server(t, l), "/trend?machine=1&config=1&branch=1&metric=probe&resolution=raw")
	if answer.Code != 400 || !strings.Contains(answer.Body.String(), "query parameter resolution: resolution raw has 10001 samples in this range and the limit is 10000") {
		t.Errorf("%d %s, want 400 with the numbers", answer.Code, answer.Body)
	}
}

func TestTrendSaysWhatItShows(t *testing.T) {
	l := filled(t)
	answer := ask(t, server(t, l), "/trend?machine=1&config=1&branch=1&metric=log.tps&from=2026-02-01T00:00:00Z")
	var trend native.TrendPage
	if err := json.Unmarshal(answer.Body.Bytes(), &trend); err != nil || answer.Code != 200 {
		t.Fatalf("%d %s: %v", answer.Code, answer.Body, err)
	}
	if trend.Resolution != "raw" || trend.Samples != 20 || len(trend.Items) != 20 || trend.Series != series("log.tps") || trend.From == nil || trend.To != nil {
		t.Errorf("trend is %+v", trend)
	}
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	h := server(t, filled(t))
	for path, want := range map[string]string{
		"/runs/99": "there is no run 99",
		"/dead-letters/0198c0de-0000-7000-8000-000000000000": "there is no dead letter 0198c0de-0000-7000-8000-000000000000",
	} {
		if answer := ask(t, h, path); answer.Code != 404 || !strings.Contains(answer.Body.String(), want) {
			t.Errorf("GET %s: %d %s, want 404 with %q", path, answer.Code, answer.Body, want)
		}
	}
}

func TestClickHouseThatIsAwayIsSaid(t *testing.T) {
	l := filled(t)
	h := server(t, l)
	if err := l.DB.Close(); err != nil {
		t.Fatal(err)
	}
	answer := ask(t, h, "/runs")
	if answer.Code != 503 || !strings.Contains(answer.Body.String(), "ClickHouse does not answer") || answer.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s, want 503 with Retry-After", answer.Code, answer.Body)
	}
}

func TestOperatorsSeeDeadLettersAndRefusals(t *testing.T) {
	l := filled(t)
	id := l.AddDeadLetter("millrace.event.v1.Unknown", "the type is not known", []byte{1, 2, 3})
	l.Refuse(1, 406, "stored already")
	h := server(t, l)
	if p := list(t, h, "/dead-letters?state=open"); len(p.Items) != 1 || p.Items[0]["reason"] != "the type is not known" {
		t.Errorf("dead letters: %v", p.Items)
	}
	answer := ask(t, h, "/dead-letters/"+id)
	if want := `"value":"AQID","event":null,"event_error":"unknown event type \"millrace.event.v1.Unknown\""`; !strings.Contains(answer.Body.String(), want) {
		t.Errorf("dead letter: %d %s, want %s in it", answer.Code, answer.Body, want)
	}
	if p := list(t, h, "/refused-uploads?machine=1"); len(p.Items) != 1 || p.Items[0]["status"] != 406.0 {
		t.Errorf("refused uploads: %v", p.Items)
	}
}

func TestTablesDescribeThemselves(t *testing.T) {
	routes := native.New(native.Config{}).Routes()
	if _, err := route.OpenAPI("test", "1", routes); err != nil {
		t.Error(err)
	}
	for i := range routes {
		secret := strings.Contains(routes[i].Path, "dead-letters") || strings.Contains(routes[i].Path, "refused")
		if secret && routes[i].Access != route.TokenOperator {
			t.Errorf("%s lets in %s, want operators only", routes[i].Key(), routes[i].Access)
		}
	}
}
