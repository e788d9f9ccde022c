package blob_test

import (
	"bufio"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// s3 is the part of an S3-compatible service that a blob store needs: objects of one bucket, whole or by range, and
// their listing, page by page.
type s3 struct {
	mu      sync.Mutex
	objects map[string]s3Object
}

type s3Object struct {
	content  string
	modified time.Time
}

// startS3 starts a service and gives the address of its bucket.
func startS3(t *testing.T) string {
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	server := httptest.NewServer(&s3{objects: make(map[string]s3Object)})
	t.Cleanup(server.Close)
	return "s3://blobs?region=local&use_path_style=true&endpoint=" + url.QueryEscape(server.URL)
}

func (s *s3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/blobs"), "/")
	object, found := s.objects[key]
	switch {
	case key == "" && r.Method == http.MethodGet:
		s.list(w, r.URL.Query())
	case r.Method == http.MethodPut:
		s.put(w, r, key)
	case r.Method == http.MethodDelete:
		delete(s.objects, key)
		w.WriteHeader(http.StatusNoContent)
	case !found:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, "<Error><Code>NoSuchKey</Code></Error>")
	default:
		http.ServeContent(w, r, "", object.modified, strings.NewReader(object.content))
	}
}

func (s *s3) put(w http.ResponseWriter, r *http.Request, key string) {
	content, err := body(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.objects[key] = s3Object{content: content, modified: time.Now()}
	w.Header().Set("ETag", `"tag"`)
}

// body decodes the chunks in which the client sends content with a checksum behind it.
func body(r *http.Request) (string, error) {
	if !strings.Contains(r.Header.Get("Content-Encoding"), "aws-chunked") {
		content, err := io.ReadAll(r.Body)
		return string(content), err
	}
	var content strings.Builder
	for in := bufio.NewReader(r.Body); ; {
		line, err := in.ReadString('\n')
		if err != nil {
			return "", err
		}
		digits, _, _ := strings.Cut(strings.TrimSpace(line), ";")
		size, err := strconv.ParseInt(digits, 16, 64)
		if err != nil || size == 0 {
			return content.String(), err
		}
		if _, err := io.CopyN(&content, in, size); err != nil {
			return "", err
		}
		if _, err := in.ReadString('\n'); err != nil {
			return "", err
		}
	}
}

type s3Listing struct {
	XMLName               xml.Name `xml:"ListBucketResult"`
	IsTruncated           bool
	NextContinuationToken string
	Contents              []s3Entry
}

type s3Entry struct {
	Key          string
	LastModified string
	Size         int
}

func (s *s3) list(w http.ResponseWriter, query url.Values) {
	const pageSize = 2
	var keys []string
	for key := range s.objects {
		if strings.HasPrefix(key, query.Get("prefix")) && key > query.Get("continuation-token") {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	listing := s3Listing{IsTruncated: len(keys) > pageSize}
	for _, key := range keys[:min(pageSize, len(keys))] {
		object := s.objects[key]
		listing.Contents = append(listing.Contents, s3Entry{key, object.modified.UTC().Format(time.RFC3339Nano), len(object.content)})
		listing.NextContinuationToken = key
	}
	if err := xml.NewEncoder(w).Encode(listing); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}
