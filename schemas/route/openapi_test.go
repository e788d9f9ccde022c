package route_test

import (
	"bytes"
	"flag"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/millrace/millrace/schemas/route"
)

var update = flag.Bool("update", false, "write the golden files from what the code gives")

// stamp writes itself, and says what it looks like.
type stamp time.Time

func (stamp) MarshalJSON() ([]byte, error)          { return []byte(`"2021-07-03T18:22:05Z"`), nil }
func (stamp) JSONForm() (kind route.Kind, f string) { return route.String, "date-time" }

// level writes itself as text.
type level int

func (level) MarshalText() ([]byte, error) { return []byte("high"), nil }

type run struct {
	ID       int64             `json:"run_id" doc:"ordinal of its upload"`
	Added    stamp             `json:"add_time"`
	Started  time.Time         `json:"started"`
	Ended    *time.Time        `json:"ended"`
	TPS      *float64          `json:"tps"`
	Machine  *machine          `json:"machine" doc:"null when erased"`
	Sysctl   jsontext.Value    `json:"sysctl" doc:"as the uploader sent it"`
	Level    level             `json:"level"`
	Sum      []byte            `json:"sum"`
	QueryID  uint64            `json:"query_id,string"`
	Labels   map[string]string `json:"labels,omitempty"`
	Parent   *run              `json:"parent,omitzero"`
	Official bool              `json:"official"`
	Anything any               `json:"anything"`
	Small    int16             `json:"small"`
	Inner    struct {
		X uint32 `json:"x"`
	} `json:"inner"`
	Skipped string `json:"-"`
	Count   *int64 `json:"count,string"`
}

type page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"`
}

// lab is a table that uses everything a table can say.
func lab() []route.Route {
	history := get("/run/:run_id", text("run"), id("run_id"))
	history.Contract, history.Slash = "5.4.2", true
	history.Answers = []route.Answer{{Status: 200, Body: []run{}}, {Status: 404, Body: route.Failure{}, Description: "No such run."},
		{Status: 404, Body: "", ContentType: "text/plain", Description: "Nor any with another spelling."}}
	runs := get("/millrace/v1/runs", text("runs"),
		route.Param{Name: "limit", Type: route.Integer, Min: 1, Max: 1000, Default: "100", Description: "rows of a page"},
		route.Param{Name: "from", Type: route.Time, Description: "start of the range"},
		route.Param{Name: "sort", Enum: []string{"time", "-time"}, Default: "time", Description: "order"},
		route.Param{Name: "tag", Repeated: true, MaxLength: 64, Description: "only runs with all of these"},
		route.Param{Name: "shift", Type: route.Integer, Min: -5, Max: 5, Description: "steps"},
		route.Param{Name: "Millrace-Position", In: route.InHeader, Description: "wait for this position"})
	runs.Access = route.LoopbackOrViewer
	runs.Answers = []route.Answer{{Status: 200, Body: page[run]{}}}
	upload := post("/run/upload", 100<<20, echo)
	upload.Access, upload.Body, upload.GzipLimit, upload.Contract = route.MachineSecret, jsontext.Value{}, 200<<20, "5.4.1"
	approve := post("/machine/approve", 1<<16, echo, route.Param{Name: "X-CSRFToken", In: route.InHeader, Required: true, Description: "value of the cookie csrftoken"})
	approve.Access, approve.Body = route.Staff, person{}
	edit := post("/machine/edit/:machine_id", 1<<16, echo, id("machine_id"))
	edit.Access, edit.Body = route.Owner, person{}
	mine := get("/machine/user", text("mine"))
	mine.Access = route.Session
	write := post("/api/v1/write", 32<<20, echo)
	write.Access, write.Body, write.ContentTypes = route.TokenWriter, []byte{}, []string{"application/x-protobuf"}
	write.Answers = []route.Answer{{Status: 204}, {Status: 400, Body: "", ContentType: "text/plain"}}
	files := get("/files/*name", text("file"), route.Param{Name: "name", Description: "its path"})
	files.Method, files.Access = http.MethodDelete, route.TokenOperator
	health := get("/healthz", text("ok"))
	health.Side = route.Each
	return []route.Route{history, runs, upload, approve, edit, mine, write, files, health}
}

func TestOpenAPIIsThatOfTheGoldenFileAndAlwaysTheSame(t *testing.T) {
	got, err := route.OpenAPI("Lab", "1.2.3", lab())
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/openapi.json", append(got, '\n'))
	for range 20 {
		again, err := route.OpenAPI("Lab", "1.2.3", lab())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, again) {
			t.Fatal("equal tables gave different documents")
		}
	}
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("differs from %s (run with -update to accept):\n%s", path, got)
	}
}

func TestOpenAPIIsValid31(t *testing.T) {
	text, err := route.OpenAPI("Lab", "1.2.3", lab())
	if err != nil {
		t.Fatal(err)
	}
	loader := openapi3.NewLoader()
	doc, err := loader.LoadFromData(text)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1.") {
		t.Errorf("document is of version %s, want 3.1", doc.OpenAPI)
	}
	if err := doc.Validate(loader.Context, openapi3.IsOpenAPI31OrLater()); err != nil {
		t.Errorf("document is not valid: %v", err)
	}
	var ids []string
	for path, item := range doc.Paths.Map() {
		for method, operation := range item.Operations() {
			ids = append(ids, operation.OperationID)
			if len(operation.Responses.Map()) == 0 || operation.Summary == "" {
				t.Errorf("%s %s has no answers or no summary", method, path)
			}
		}
	}
	slices.Sort(ids)
	if unique := slices.Compact(slices.Clone(ids)); len(ids) != len(lab()) || len(unique) != len(ids) {
		t.Errorf("operation ids are %v, want one of its own for each of %d routes", ids, len(lab()))
	}
}

func TestOpenAPISaysWhoMayCallWithWhat(t *testing.T) {
	text, err := route.OpenAPI("Lab", "1.2.3", lab())
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]openapi3.SecurityRequirements{
		"/machine/approve":           {{"session": {"staff"}}},
		"/machine/edit/{machine_id}": {{"session": {"owner"}}},
		"/run/upload":                {{"machineSecret": {}}},
		"/api/v1/write":              {{"token": {"writer"}}, {"token": {"operator"}}},
	}
	for path, want := range cases {
		got := doc.Paths.Value(path).Post.Security
		if got == nil || !equalSecurity(*got, want) {
			t.Errorf("security of %s is %v, want %v", path, got, want)
		}
	}
	if got := doc.Paths.Value("/machine/user").Get.Security; got == nil || !equalSecurity(*got, openapi3.SecurityRequirements{{"session": {}}}) {
		t.Errorf("security of /machine/user is %v, want any session", got)
	}
	open := openapi3.SecurityRequirements{{}, {"token": {"viewer"}}, {"token": {"writer"}}, {"token": {"operator"}}}
	if got := doc.Paths.Value("/millrace/v1/runs").Get.Security; got == nil || !equalSecurity(*got, open) {
		t.Errorf("security of /millrace/v1/runs is %v, want none or any token", got)
	}
	if got := doc.Paths.Value("/run/{run_id}").Get.Security; got != nil {
		t.Errorf("security of /run/{run_id} is %v, want none", got)
	}
}

func equalSecurity(a, b openapi3.SecurityRequirements) bool {
	return slices.EqualFunc(a, b, func(x, y openapi3.SecurityRequirement) bool {
		if len(x) != len(y) {
			return false
		}
		for scheme, roles := range x {
			if !slices.Equal(roles, y[scheme]) {
				return false
			}
		}
		return true
	})
}

func TestOpenAPIOfAFaultyTableIsRefused(t *testing.T) {
	r := get("/x", nil)
	r.Access = 0
	if _, err := route.OpenAPI("Lab", "1", []route.Route{r}); err == nil || !strings.Contains(err.Error(), "GET /x: access is not set") {
		t.Errorf("error is %v, want it to name the route", err)
	}
}

func TestCoverageShowsEveryRouteWithItsTests(t *testing.T) {
	golden(t, "testdata/coverage.md", []byte(route.Coverage(lab(), map[string][]string{
		"GET /run/:run_id": {"TestRunUnknown", "TestRun"},
		"POST /run/upload": {"TestUpload"},
	})))
}
