package route_test

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/schemas/route"
)

// show answers with what a parameter's accessor gives.
func show[T any](read func(*gin.Context, string) (T, error), name string) gin.HandlerFunc {
	return func(c *gin.Context) {
		value, err := read(c, name)
		if err != nil {
			route.Refuse(c, err)
			return
		}
		c.String(http.StatusOK, "%v", value)
	}
}

func TestParametersAreTakenAsDeclared(t *testing.T) {
	s := serve(t, quiet(),
		get("/run/:run_id", show(route.Int, "run_id"), id("run_id")),
		get("/page", show(route.Int, "limit"), route.Param{Name: "limit", Type: route.Integer, Min: 1, Max: 100, Default: "20", Description: "rows"}),
		get("/shift", show(route.Int, "by"), route.Param{Name: "by", Type: route.Integer, Min: -5, Max: 5, Description: "steps"}),
		get("/sort", show(route.Text, "by"), route.Param{Name: "by", Enum: []string{"time", "name"}, Required: true, Description: "order"}),
		get("/name/:name", show(route.Text, "name"), route.Param{Name: "name", MaxLength: 5, Description: "name"}),
		get("/tags", show(route.Texts, "tag"), route.Param{Name: "tag", Repeated: true, MaxLength: 3, Description: "tags"}),
		get("/since", show(route.Instant, "since"), route.Param{Name: "since", Type: route.Time, Description: "start"}),
		get("/all", show(route.Bool, "all"), route.Param{Name: "all", Type: route.Boolean, Description: "all of them"}),
		get("/head", show(route.Text, "Millrace-Consistency"), route.Param{Name: "Millrace-Consistency", In: route.InHeader, Enum: []string{"eventual"}, Description: "how fresh"}),
	)
	cases := []struct {
		path   string
		status int
		want   string // the value, or in the error
	}{
		{"/run/7", 200, "7"},
		{"/run/0", 200, "0"},
		{"/run/007", 200, "7"},
		{"/run/9223372036854775807", 200, "9223372036854775807"},
		{"/run/9223372036854775808", 404, "run_id must be an integer from 0 to"},
		{"/run/-1", 404, "run_id"},
		{"/run/+1", 404, "run_id"},
		{"/run/1.0", 404, "run_id"},
		{"/run/0x1", 404, "run_id"},
		{"/run/%D9%A1", 404, "run_id"}, // an Arabic digit one
		{"/run/seven", 404, "run_id"},
		{"/page", 200, "20"},
		{"/page?limit=100", 200, "100"},
		{"/page?limit=101", 400, "query parameter limit must be an integer from 1 to 100"},
		{"/page?limit=0", 400, "limit"},
		{"/page?limit=x", 400, "limit"},
		{"/page?unknown=1", 200, "20"},
		{"/shift?by=-5", 200, "-5"},
		{"/shift?by=-6", 400, "from -5 to 5"},
		{"/shift", 200, "0"},
		{"/sort?by=time", 200, "time"},
		{"/sort?by=size", 400, "one of time, name"},
		{"/sort", 400, "query parameter by must be given"},
		{"/name/short", 200, "short"},
		{"/name/longer", 404, "at most 5 bytes"},
		{"/name/%C3%A9", 200, "é"},
		{"/name/%ff", 404, "name must be UTF-8"},
		{"/tags", 200, "[]"},
		{"/tags?tag=a&tag=b", 200, "[a b]"},
		{"/tags?tag=a&tag=long", 400, "tag must be at most 3 bytes"},
		{"/tags?tag=a&tag=%ff", 400, "query parameter tag must be UTF-8"},
		{"/since?since=2021-07-03T18:22:05.5%2B02:00", 200, "2021-07-03 16:22:05.5 +0000 UTC"},
		{"/since?since=1625336525.25", 200, "2021-07-03 18:22:05.25 +0000 UTC"},
		{"/since", 200, "0001-01-01 00:00:00 +0000 UTC"},
		{"/since?since=yesterday", 400, "a time like"},
		{"/since?since=NaN", 400, "a time like"},
		{"/since?since=1e300", 400, "a time like"},
		{"/all", 200, "false"},
		{"/all?all=true", 200, "true"},
		{"/all?all=yes", 400, "true or false"},
		{"/head", 200, ""},
	}
	for _, tc := range cases {
		t.Run(strings.TrimPrefix(tc.path, "/"), func(t *testing.T) {
			got := s.do("GET", tc.path, nil)
			if tc.status == 200 {
				got.want(t, 200, tc.want)
			} else {
				got.wantFailure(t, tc.status, tc.want)
			}
		})
	}
	s.do("GET", "/head", nil, "Millrace-Consistency", "eventual").want(t, 200, "eventual")
	s.do("GET", "/head", nil, "Millrace-Consistency", "strong").wantFailure(t, 400, "header parameter Millrace-Consistency must be one of eventual")
}

func TestReadingAnUndeclaredParameterIsAMistakeThatShows(t *testing.T) {
	s := serve(t, quiet(), get("/x", show(route.Int, "limit")))
	s.do("GET", "/x?limit=1", nil).wantFailure(t, 500)
}

func FuzzIntInPath(f *testing.F) {
	e := engine(f, quiet(), get("/run/:id", show(route.Int, "id"), id("id")))
	for _, seed := range []string{"0", "7", "-1", "+1", "1_0", "0x10", "9223372036854775808", "", " 1", "١"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, segment string) {
		if segment == "" || strings.Contains(segment, "/") {
			return
		}
		w := httptest.NewRecorder()
		request := httptest.NewRequest("GET", "/run/x", nil)
		request.URL.Path = "/run/" + segment
		e.ServeHTTP(w, request)
		want := 404
		if strings.Trim(segment, "0123456789") == "" {
			if n, err := strconv.ParseUint(segment, 10, 64); err == nil && n <= math.MaxInt64 {
				want = 200
				if w.Body.String() != fmt.Sprint(n) {
					t.Errorf("value is %s, want %d", w.Body, n)
				}
			}
		}
		if w.Code != want {
			t.Errorf("%q gets %d, want %d", segment, w.Code, want)
		}
	})
}
