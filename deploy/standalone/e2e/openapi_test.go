package e2e

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/millrace/millrace/schemas/route"
)

// describedPath is a gin pattern as OpenAPI writes it.
func describedPath(pattern string) string {
	return regexp.MustCompile(`[:*]([^/]+)`).ReplaceAllString(pattern, "{$1}")
}

// description reads the document that a lab gives of itself.
func (l *Lab) description(t *testing.T) *openapi3.T {
	t.Helper()
	answer := l.visitor(t).get(t, "/openapi.json").Want(t, http.StatusOK)
	if kind := answer.Header.Get("Content-Type"); !strings.HasPrefix(kind, "application/json") {
		t.Errorf("Content-Type is %q, want application/json", kind)
	}
	loader := openapi3.NewLoader()
	document, err := loader.LoadFromData(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(document.OpenAPI, "3.1.") {
		t.Errorf("the document is of version %s, want 3.1", document.OpenAPI)
	}
	if err := document.Validate(loader.Context, openapi3.IsOpenAPI31OrLater()); err != nil {
		t.Errorf("the document is not valid: %v", err)
	}
	return document
}

func TestDescriptionIsValidAndHasEveryEndpointAndNoOther(t *testing.T) {
	covers(t, "GET /openapi.json")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		document := lab.description(t)
		routes, err := tables()
		if err != nil {
			t.Fatal(err)
		}
		described := map[string]bool{}
		for path, item := range document.Paths.Map() {
			for method := range item.Operations() {
				described[method+" "+path] = true
			}
		}
		for i := range routes {
			r := &routes[i]
			key := r.Method + " " + describedPath(r.Path)
			if !described[key] {
				t.Errorf("the description has no %s", key)
				continue
			}
			delete(described, key)
			operation := document.Paths.Value(describedPath(r.Path)).GetOperation(r.Method)
			if operation.Summary == "" || !slices.Contains(operation.Tags, r.API) || (operation.RequestBody != nil) != (r.Body != nil) {
				t.Errorf("%s is described as %+v", key, operation)
			}
		}
		for key := range described {
			t.Errorf("the description has %s, and no table does", key)
		}
	})
}

// describes tells whether a value is one that a described answer has.
func describes(t *testing.T, document *openapi3.T, r *route.Route, answer Answer) error {
	t.Helper()
	operation := document.Paths.Value(describedPath(r.Path)).GetOperation(r.Method)
	described := operation.Responses.Status(answer.Status)
	if described == nil {
		t.Errorf("%s: status %d is not described", r.Key(), answer.Status)
		return nil
	}
	kind, _, _ := strings.Cut(answer.Header.Get("Content-Type"), ";")
	media := described.Value.Content.Get(kind)
	if media == nil || media.Schema == nil {
		t.Errorf("%s: an answer %d of type %q is not described", r.Key(), answer.Status, kind)
		return nil
	}
	var value any
	if err := json.Unmarshal(answer.Body, &value); err != nil {
		return err
	}
	return document.ValidateSchemaJSON(media.Schema.Value, value, openapi3.EnableJSONSchema2020())
}

// farmRoute gives the farm's endpoint at a path.
func farmRoute(t *testing.T, path string) route.Route {
	t.Helper()
	routes := farmRoutes(t)
	i := slices.IndexFunc(routes, func(r route.Route) bool { return r.Path == path })
	if i < 0 {
		t.Fatalf("the tables have no %s", path)
	}
	return routes[i]
}

func TestAnswersAreWhatTheDescriptionSays(t *testing.T) {
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		document := lab.description(t)
		r := newRun(t, lab)
		full := fullDocument().set("run_start_time", "2021-07-02T13:00:00Z")
		r.run = r.machine.store(t, full)
		owner := lab.browser(t, r.machine.Owner)
		machines := farmRoute(t, "/machine/list")
		other := lab.visitor(t).get(t, "/machine/list")
		if other.Body = []byte(`[{"machine_id": "7"}]`); describes(t, document, &machines, other) == nil {
			t.Error("the description of the machines takes something else too")
		}
		for _, endpoint := range farmRoutes(t) {
			if endpoint.Method != http.MethodGet || strings.HasPrefix(endpoint.Path, "/user/") {
				continue
			}
			path := r.filled(endpoint.Path)
			if strings.HasPrefix(path, "/tpch/details/") {
				path = "/tpch/details/" + strconv.FormatUint(r.tpch, 10)
			}
			for _, answer := range []Answer{owner.get(t, path), lab.visitor(t).get(t, strings.ReplaceAll(path, strconv.FormatUint(r.run, 10), url.PathEscape("x")))} {
				if answer.Status != http.StatusOK && answer.Status != http.StatusNotFound {
					continue // redirects have no body to describe
				}
				if err := describes(t, document, &endpoint, answer); err != nil {
					t.Errorf("%s: %v", answer.Asked, err)
				}
			}
		}
		upload := farmRoute(t, "/run/upload")
		for _, body := range [][]byte{[]byte("{"), smallDocument(0).body(), smallDocument(9).set("git.branch", "").body()} {
			if err := describes(t, document, &upload, r.machine.upload(t, body)); err != nil {
				t.Errorf("a refused upload: %v", err)
			}
		}
	})
}
