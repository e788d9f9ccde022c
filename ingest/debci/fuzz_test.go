package debci

import (
	"errors"
	"net/http"
	"testing"

	"github.com/millrace/millrace/schemas/route"
)

// FuzzForm wants every form to be read or to be refused as the sender's mistake.
func FuzzForm(f *testing.F) {
	f.Add("priority=3", "application/x-www-form-urlencoded", []byte("tests=%5B%5D&priority=2"))
	f.Add("", "multipart/form-data; boundary=b",
		[]byte("--b\r\nContent-Disposition: form-data; name=\"tests\"; filename=\"t\"\r\n\r\n[]\r\n--b--\r\n"))
	f.Add("tests=%zz", "", []byte("&&=&a"))
	f.Add("", "multipart/form-data; boundary=\"", []byte("--b"))
	f.Fuzz(func(t *testing.T, query, contentType string, body []byte) {
		fields, err := parseForm(query, contentType, body)
		refusal := (*route.Error)(nil)
		if err != nil && (!errors.As(err, &refusal) || refusal.Status != http.StatusBadRequest || fields != nil) {
			t.Fatalf("%v with %v", err, fields)
		}
		if len(fields) > maxFields {
			t.Fatalf("%d fields", len(fields))
		}
	})
}
