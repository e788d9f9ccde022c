package debci

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"

	"github.com/millrace/millrace/processor/debci"
	"github.com/millrace/millrace/schemas/route"
)

func TestSinceIsWholeSecondsThatAreNotNegative(t *testing.T) {
	for text, want := range map[string]uint64{"": 0, "0": 0, "1508072999": 1508072999, "9223372036854775807": 1<<63 - 1} {
		if got, err := seconds(text); err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"1.5", "1e3", "1;2", "-1", "+1", " 1", "x", "9223372036854775808"} {
		refusal := (*route.Error)(nil)
		if got, err := seconds(text); !errors.As(err, &refusal) || refusal.Status != http.StatusBadRequest {
			t.Errorf("%q is taken as %d, %v", text, got, err)
		}
	}
}

func TestTimesHaveThreeDigitsAndZ(t *testing.T) {
	for at, want := range map[time.Time]string{
		time.Date(2023, 6, 10, 1, 2, 3, 0, time.UTC):                             `"2023-06-10T01:02:03.000Z"`,
		time.Date(2023, 6, 10, 1, 2, 3, 45_999_999, time.FixedZone("", 2*60*60)): `"2023-06-09T23:02:03.045Z"`,
	} {
		if got, err := json.Marshal(instant{at}); err != nil || string(got) != want {
			t.Errorf("%s is %s, %v; want %s", at, got, err, want)
		}
	}
}

func TestThePageShowsWhatMayBeTestedAndEscapesWhatItIsGiven(t *testing.T) {
	gin.SetMode(gin.ReleaseMode)
	list := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(list, []byte("bad"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := New(Config{Rules: debci.Rules{Suites: []string{"sid"}, Architectures: []string{"vax"}}, Rejected: debci.NewRejectFile(list)})
	engine := gin.New()
	open := func(*gin.Context, route.Access) (any, error) { return nil, nil }
	if err := route.Mount(engine, d.Routes(), route.Options{Log: slog.New(slog.DiscardHandler), APIs: map[string]route.API{API: {Authorize: open}}}); err != nil {
		t.Fatal(err)
	}
	get := func(path string) *httptest.ResponseRecorder {
		answer := httptest.NewRecorder()
		engine.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		return answer
	}
	retry := get("/api/v1/retry/%3Cb%3E&x")
	page := get(retry.Header().Get("Location")).Body.String()
	if retry.Code != http.StatusFound || strings.Contains(page, "<b>") || !strings.Contains(page, "retry/&lt;b&gt;&amp;x") ||
		!strings.Contains(page, "<code>sid</code>") || !strings.Contains(page, "<code>vax</code>") {
		t.Errorf("%d to %s, the page is %s", retry.Code, retry.Header().Get("Location"), page)
	}
	if answer := get("/api/v1/reject_list"); answer.Body.String() != `{"bad":{"*":{"*":{"*":""}}}}` || answer.Header().Get("Content-Type") != "application/json" {
		t.Errorf("the reject list is %s %v", answer.Body, answer.Header())
	}
}
