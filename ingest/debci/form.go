package debci

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"

	"github.com/millrace/millrace/schemas/route"
)

// form is what a request says by its query string and its body (contract 1): a field of the body goes before one of the
// query, and of several with one name the last one counts. A file is a field like any other.
type form map[string]string

// maxFields bounds the fields of one request.
const maxFields = 1000

func (f form) set(name, value string) error {
	f[name] = value
	if len(f) > maxFields {
		return badForm("it has more than %d fields", maxFields)
	}
	return nil
}

func badForm(format string, args ...any) error {
	return route.Errorf(http.StatusBadRequest, "Error: the form cannot be read: "+format, args...)
}

// parseForm reads the fields of a request. A body of another type than a form's has none.
func parseForm(query, contentType string, body []byte) (form, error) {
	f := form{}
	if err := f.addEncoded(query); err != nil {
		return nil, err
	}
	kind, parameters, err := mime.ParseMediaType(contentType)
	switch {
	case contentType == "" || kind == "application/x-www-form-urlencoded":
		err = f.addEncoded(string(body))
	case err != nil:
		err = badForm("Content-Type %q: %v", contentType, err)
	case kind == "multipart/form-data":
		err = f.addParts(body, parameters["boundary"])
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (f form) addEncoded(text string) error {
	for pair := range strings.SplitSeq(text, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err == nil {
			value, err = url.QueryUnescape(value)
		}
		if err != nil {
			return badForm("%v", err)
		}
		if err := f.set(name, value); err != nil {
			return err
		}
	}
	return nil
}

func (f form) addParts(body []byte, boundary string) error {
	if boundary == "" {
		return badForm("Content-Type names no boundary")
	}
	parts := multipart.NewReader(bytes.NewReader(body), boundary)
	for {
		part, err := parts.NextPart()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return badForm("%v", err)
		}
		if err := f.addPart(part); err != nil {
			return err
		}
	}
}

func (f form) addPart(part *multipart.Part) error {
	defer func() { _ = part.Close() }()
	content, err := io.ReadAll(part)
	if err != nil {
		return badForm("field %s: %v", fmt.Sprintf("%.50q", part.FormName()), err)
	}
	return f.set(part.FormName(), string(content))
}
