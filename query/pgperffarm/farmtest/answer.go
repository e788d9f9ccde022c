package farmtest

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"net/http"

	"github.com/go-json-experiment/json"
)

// Check tells how an answer differs from what the case promises.
func (c Case) Check(status int, header http.Header, body []byte) error {
	if status != c.Status {
		return fmt.Errorf("status %d, want %d: %.200s", status, c.Status, body)
	}
	return errors.Join(c.checkHeader(header), c.checkBody(body))
}

// checkHeader wants what the original sends everywhere, and nothing that it never sends (2.2).
func (c Case) checkHeader(header http.Header) error {
	var errs []error
	for name, want := range map[string]string{
		"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin",
		"Access-Control-Allow-Origin": "", "Content-Encoding": "", "Allow": c.Allow,
	} {
		if c.Status == http.StatusNotFound && want != "" {
			continue // a path that nothing has is nobody's
		}
		if got := header.Get(name); got != want {
			errs = append(errs, fmt.Errorf("header %s is %q, want %q", name, got, want))
		}
	}
	if looksAtSession := c.Section == "5.1.3" || c.Section == "5.1.5"; looksAtSession && c.Status == http.StatusOK && header.Get("Vary") != "Cookie" {
		errs = append(errs, fmt.Errorf("header Vary is %q, want Cookie", header.Get("Vary")))
	}
	if c.Shape || c.Error || c.Body != "" {
		if kind, _, err := mime.ParseMediaType(header.Get("Content-Type")); err != nil || kind != "application/json" {
			errs = append(errs, fmt.Errorf("header Content-Type is %q, want application/json", header.Get("Content-Type")))
		}
	}
	return errors.Join(errs...)
}

func (c Case) checkBody(body []byte) error {
	switch {
	case c.Method == http.MethodHead && len(body) > 0:
		return fmt.Errorf("the answer to HEAD has a body of %d bytes", len(body))
	case c.Body != "" && string(body) != c.Body:
		return fmt.Errorf("body %.200s, want %s", body, c.Body)
	case c.Some && bytes.Equal(body, []byte("[]")):
		return errors.New("the answer has no rows")
	case c.Shape:
		return CheckShape(c.Section, body)
	case c.Error:
		return checkError(body)
	}
	return nil
}

func checkError(body []byte) error {
	var members map[string]string
	if err := json.Unmarshal(body, &members); err != nil {
		return fmt.Errorf("body %.200s is no object of strings: %w", body, err)
	}
	if len(members) != 1 || members["error"] == "" {
		return fmt.Errorf("body %.200s, want an object with the one member error", body)
	}
	return nil
}
