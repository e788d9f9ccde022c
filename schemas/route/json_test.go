package route_test

import (
	stdjson "encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/schemas/route"
)

type machine struct {
	Alias string            `json:"alias"`
	Cores int               `json:"cores,omitempty"`
	Owner *person           `json:"owner,omitzero"`
	Tags  []string          `json:"tags,omitempty"`
	Disks []disk            `json:"disks,omitempty"`
	Named map[string]disk   `json:"named,omitempty"`
	Since time.Time         `json:"since,omitzero"`
	Limit uint8             `json:"limit,omitempty"`
	Notes map[string]string `json:"notes,omitempty"`
	place
}

type place struct {
	Room *string `json:"room"`
}

type person struct {
	Name string `json:"name"`
}

type disk struct {
	Size float64 `json:"size"`
}

func TestJSONBodyIsDecodedStrictly(t *testing.T) {
	room := "cellar"
	cases := []struct {
		name, body string
		want       machine
		err        string // instead of a value
	}{
		{name: "least", body: `{"alias":"otter","room":null}`, want: machine{Alias: "otter"}},
		{name: "most", body: ` {"alias":"otter","cores":8,"owner":{"name":"ann"},"tags":["a"],"disks":[{"size":1.5}],"named":{"x":{"size":2}},
			"since":"2021-07-03T18:22:05Z","limit":255,"notes":null,"room":"cellar","more":{"is":"ignored"}} `,
			want: machine{Alias: "otter", Cores: 8, Owner: &person{"ann"}, Tags: []string{"a"}, Disks: []disk{{1.5}}, Named: map[string]disk{"x": {2}},
				Since: time.Date(2021, 7, 3, 18, 22, 5, 0, time.UTC), Limit: 255, place: place{&room}}},
		{name: "missing member", body: `{"room":null}`, err: "member /alias is missing: it must be a string"},
		{name: "missing nullable member", body: `{"alias":"x"}`, err: "member /room is missing"},
		{name: "missing member inside", body: `{"alias":"x","room":null,"disks":[{"size":1},{}]}`, err: "member /disks/1/size is missing"},
		{name: "missing member in a map", body: `{"alias":"x","room":null,"named":{"a/b":{}}}`, err: "member /named/a~1b/size is missing"},
		{name: "null for a string", body: `{"alias":null,"room":null}`, err: "member /alias must be a string, not null"},
		{name: "null inside", body: `{"alias":"x","room":null,"owner":{"name":null}}`, err: "member /owner/name must be a string, not null"},
		{name: "number for a string", body: `{"alias":7}`, err: "member /alias must be a string, not a number"},
		{name: "string for a number", body: `{"alias":"x","cores":"8"}`, err: "member /cores must be an integer, not a string"},
		{name: "fraction for an integer", body: `{"alias":"x","cores":1.5}`, err: "member /cores must be"},
		{name: "integer out of range", body: `{"alias":"x","limit":256}`, err: "member /limit must be within the range of uint8"},
		{name: "element of the wrong type", body: `{"alias":"x","tags":["a",true]}`, err: "member /tags/1 must be a string, not a boolean"},
		{name: "object for an array", body: `{"alias":"x","tags":{}}`, err: "member /tags must be an array, not an object"},
		{name: "not a time", body: `{"alias":"x","since":"soon"}`, err: "member /since must be a time like"},
		{name: "array at the top", body: `[]`, err: "body must be an object, not an array"},
		{name: "null at the top", body: `null`, err: "body must be an object, not null"},
		{name: "empty", body: ``, err: "ends early"},
		{name: "cut short", body: `{"alias":"x"`, err: "ends early"},
		{name: "two values", body: `{"alias":"x"}{}`, err: "body is not valid JSON at byte 13"},
		{name: "not JSON", body: `alias=x`, err: "body is not valid JSON at byte 0"},
		{name: "NaN", body: `{"alias":"x","cores":NaN}`, err: "body is not valid JSON at byte 21 within /cores"},
		{name: "member twice", body: `{"alias":"x","alias":"y"}`, err: "body has the member /alias twice"},
		{name: "not UTF-8", body: "{\"alias\":\"\xff\"}", err: "body is not valid JSON"},
		{name: "lone surrogate", body: `{"alias":"\ud800"}`, err: "body is not valid JSON"},
		{name: "too deep", body: `{"a":{"b":{"c":{"d":{"e":1}}}}}`, err: "nested deeper than 4 levels at byte 20"},
		{name: "brackets in strings", body: `{"alias":"[[[[[[\"[[[","room":null}`, want: machine{Alias: `[[[[[["[[[`}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			got, err := route.DecodeJSON[machine]([]byte(tc.body), 4)
			if tc.err == "" {
				if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(machine{})); diff != "" || err != nil {
					t.Errorf("error %v, value differs (-want +got):\n%s", err, diff)
				}
				return
			}
			var refusal *route.Error
			if !errors.As(err, &refusal) || refusal.Status != 400 || !strings.Contains(refusal.Message, tc.err) {
				t.Errorf("error is %v, want 400 saying %q", err, tc.err)
			}
		})
	}
}

func TestUnknownMembersAreRefusedWhereAsked(t *testing.T) {
	_, err := route.DecodeJSON[person]([]byte(`{"name":"ann","age":7}`), 4, json.RejectUnknownMembers(true))
	if err == nil || !strings.Contains(err.Error(), "unknown member /age") {
		t.Errorf("error is %v, want it to name /age", err)
	}
	long := `{"name":"ann","` + strings.Repeat("é", 5000) + `":7}`
	_, err = route.DecodeJSON[person]([]byte(long), 4, json.RejectUnknownMembers(true))
	if err == nil || len(err.Error()) > 300 {
		t.Errorf("an error of %d bytes repeats what the client made up", len(err.Error()))
	}
}

func TestJSONReadsTheBodyWhateverItsContentType(t *testing.T) {
	s := serve(t, quiet(), post("/person", 30, func(c *gin.Context) {
		p, err := route.JSON[person](c, 4)
		if err != nil {
			route.Refuse(c, err)
			return
		}
		c.String(http.StatusCreated, p.Name)
	}))
	s.do("POST", "/person", strings.NewReader(`{"name":"ann"}`), "Content-Type", "text/plain;charset=UTF-8").want(t, 201, "ann")
	s.do("POST", "/person", strings.NewReader(`{"name":7}`)).wantFailure(t, 400, "member /name")
	s.do("POST", "/person", strings.NewReader(`{"name":"`+strings.Repeat("x", 50)+`"}`)).wantFailure(t, 413, "30 bytes")
	s.do("POST", "/person", nil).wantFailure(t, 400, "ends early")
}

func FuzzDecodeJSON(f *testing.F) {
	for _, seed := range []string{`{"alias":"x","room":null}`, `{"alias":"x","disks":[{"size":1}],"room":""}`, `[[[[[[`, `{"alias":null}`, `"\ud800"`, `{"a":1,"a":2}`, `{"alias":"\"["}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := route.DecodeJSON[machine](body, 8)
		if err != nil {
			var refusal *route.Error
			if !errors.As(err, &refusal) || refusal.Status != 400 || refusal.Message == "" {
				t.Fatalf("error is %v, want a 400 with a message", err)
			}
			return
		}
		if !stdjson.Valid(body) {
			t.Fatal("took what is not JSON")
		}
		if depth := nesting(t, body); depth > 8 {
			t.Fatalf("took %d levels", depth)
		}
		again, err := json.Marshal(got)
		if err != nil {
			t.Fatalf("encode what was decoded: %v", err)
		}
		if _, err := route.DecodeJSON[machine](again, 8); err != nil {
			t.Fatalf("decode %s again: %v", again, err)
		}
	})
}

// nesting counts the levels of a valid text with another decoder.
func nesting(t *testing.T, body []byte) int {
	t.Helper()
	d := stdjson.NewDecoder(strings.NewReader(string(body)))
	depth, deepest := 0, 0
	for {
		token, err := d.Token()
		if err != nil {
			return deepest
		}
		switch token {
		case stdjson.Delim('{'), stdjson.Delim('['):
			depth++
		case stdjson.Delim('}'), stdjson.Delim(']'):
			depth--
		}
		deepest = max(deepest, depth)
	}
}
