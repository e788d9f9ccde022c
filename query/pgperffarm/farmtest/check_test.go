package farmtest

import (
	"net/http"
	"strings"
	"testing"
)

func TestShapeFindsEveryDifference(t *testing.T) {
	good := `[{"run_id":1,"pgbench_result_id":2,"add_time":"2021-07-02T11:00:00.250Z"}]`
	if err := CheckShape("5.1.6", []byte(good)); err != nil {
		t.Error(err)
	}
	for name, change := range map[string][2]string{
		"missing member": {`"run_id":1,`, ``},
		"other order":    {`"run_id":1,"pgbench_result_id":2`, `"pgbench_result_id":2,"run_id":1`},
		"extra member":   {`"run_id":1`, `"run_id":1,"more":1`},
		"wrong type":     {`"run_id":1`, `"run_id":"1"`},
		"fraction":       {`"run_id":1`, `"run_id":1.5`},
		"null":           {`"run_id":1`, `"run_id":null`},
		"six digits":     {`.250Z`, `.250000Z`},
		"offset":         {`.250Z`, `.250+00:00`},
		"object":         {`[{`, `{`},
		"more behind":    {`}]`, `}][]`},
		"cut":            {`}]`, `}`},
		"not a number":   {`"run_id":1`, `"run_id":NaN`},
	} {
		if err := CheckShape("5.1.6", []byte(strings.Replace(good, change[0], change[1], 1))); err == nil {
			t.Errorf("%s: no difference found", name)
		}
	}
}

func TestEveryShapeCanBeRead(t *testing.T) {
	for section := range shapes {
		if err := CheckShape(section, []byte("[]")); err != nil {
			t.Error(err)
		}
	}
}

func TestCaseComparesStatusHeadersAndBody(t *testing.T) {
	header := http.Header{
		"X-Frame-Options": {"DENY"}, "X-Content-Type-Options": {"nosniff"}, "Referrer-Policy": {"same-origin"},
		"Content-Type": {"application/json"},
	}
	c := Case{Section: "5.5.4", Method: http.MethodGet, Status: 200, Body: "[]"}
	if err := c.Check(200, header, []byte("[]")); err != nil {
		t.Error(err)
	}
	if c.Check(404, header, []byte("[]")) == nil || c.Check(200, header, []byte("[{}]")) == nil || c.Check(200, http.Header{}, []byte("[]")) == nil {
		t.Error("a difference was not found")
	}
	c = Case{Section: "5.4.2", Method: http.MethodGet, Status: 404, Error: true}
	if err := c.Check(404, header, []byte(`{"error":"there is no run 9"}`)); err != nil {
		t.Error(err)
	}
	if c.Check(404, header, []byte(`{"error":"","more":""}`)) == nil || c.Check(404, header, []byte(`<html>`)) == nil {
		t.Error("another error body was accepted")
	}
}
