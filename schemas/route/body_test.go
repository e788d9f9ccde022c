package route_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/schemas/route"
)

func TestBodyIsBoundedWhateverItsLengthSays(t *testing.T) {
	s := serve(t, quiet(), post("/up", 10, echo))
	for name, send := range map[string]func([]byte) io.Reader{
		"length known":   func(b []byte) io.Reader { return bytes.NewReader(b) },
		"length unknown": chunked,
	} {
		t.Run(name, func(t *testing.T) {
			s.do("POST", "/up", send([]byte("0123456789"))).want(t, 201, "0123456789")
			s.do("POST", "/up", send([]byte("0123456789a"))).wantFailure(t, 413, "10 bytes")
			s.do("POST", "/up", send(make([]byte, 1<<20))).wantFailure(t, 413, "10 bytes")
			s.do("POST", "/up", send(nil)).want(t, 201, "")
		})
	}
}

func TestLargeBodyArrivesWhole(t *testing.T) {
	s := serve(t, quiet(), post("/up", 16<<20, echo))
	large := bytes.Repeat([]byte("0123456789abcdef"), 200_000) // over what is set aside at once
	for _, body := range []io.Reader{bytes.NewReader(large), chunked(large)} {
		if got := s.do("POST", "/up", body); got.status != 201 || got.body != string(large) {
			t.Errorf("answer is %d with %d bytes, want all %d", got.status, len(got.body), len(large))
		}
	}
}

func TestRouteWithoutBodyLimitSeesAnEmptyBody(t *testing.T) {
	bare := post("/approve", 0, echo)
	bare.Body = nil
	s := serve(t, quiet(), bare)
	s.do("POST", "/approve", strings.NewReader("something")).want(t, 201, "")
}

func TestGzipBodyIsDecodedWithinBothLimits(t *testing.T) {
	up := post("/up", 2000, echo)
	up.GzipLimit = 5000
	s := serve(t, quiet(), up, post("/plain", 2000, echo))
	fits := bytes.Repeat([]byte("a"), 5000)
	noise := make([]byte, 3000)
	for i, x := 0, uint32(1); i < len(noise); i++ {
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	broken := gzipped(t, []byte("checksum"))
	broken[len(broken)-6] ^= 1
	corrupt := append(gzipped(t, nil)[:10], 0xff, 0xff, 0xff)
	cases := []struct {
		name, path, encoding string
		body                 []byte
		status               int
		want                 string // of the body, or in the error
	}{
		{"plain", "/up", "", []byte("as it is"), 201, "as it is"},
		{"identity", "/up", "identity", []byte("as it is"), 201, "as it is"},
		{"gzip", "/up", "gzip", gzipped(t, []byte("decoded")), 201, "decoded"},
		{"gzip of two members", "/up", "GZIP", append(gzipped(t, []byte("one ")), gzipped(t, []byte("two"))...), 201, "one two"},
		{"gzip up to the limit", "/up", "gzip", gzipped(t, fits), 201, string(fits)},
		{"gzip bomb", "/up", "gzip", gzipped(t, make([]byte, 1<<20)), 413, "decoded body is over the limit of 5000 bytes"},
		{"gzip too long as sent", "/up", "gzip", gzipped(t, noise), 413, "body is over the limit of 2000 bytes"},
		{"not gzip", "/up", "gzip", []byte("[{}] and more, not gzip"), 400, "not valid gzip"},
		{"empty", "/up", "gzip", nil, 201, ""},
		{"wrong checksum", "/up", "gzip", broken, 400, "not valid gzip"},
		{"corrupt", "/up", "gzip", corrupt, 400, "not valid gzip"},
		{"cut short", "/up", "gzip", gzipped(t, noise[:500])[:200], 400, "ends early"},
		{"gzip after those", "/up", "gzip", gzipped(t, []byte("still works")), 201, "still works"},
		{"other encoding", "/up", "br", []byte("x"), 415, "send gzip or none"},
		{"gzip where none is taken", "/plain", "gzip", gzipped(t, []byte("x")), 415, "send the body unencoded"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			for _, body := range []io.Reader{bytes.NewReader(tc.body), chunked(tc.body)} {
				var header []string
				if tc.encoding != "" {
					header = []string{"Content-Encoding", tc.encoding}
				}
				got := s.do("POST", tc.path, body, header...)
				if tc.status == 201 {
					got.want(t, 201, tc.want)
				} else {
					got.wantFailure(t, tc.status, tc.want)
				}
			}
		})
	}
}

func TestTruncatedBodyIsRefused(t *testing.T) {
	s := serve(t, quiet(), post("/up", 100, echo))
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nonly this"); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(response.Body)
	answer{response.StatusCode, response.Header, string(body)}.wantFailure(t, 400, "ends early")
}

func TestStalledBodyIsCutOffAndGivesItsPlaceBack(t *testing.T) {
	opts := quiet()
	opts.Ingest, opts.Patience = route.NewAdmission(1, 1<<20), 50*time.Millisecond
	s := serve(t, opts, post("/up", 100<<20, echo))
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n[{"); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(response.Body)
	answer{response.StatusCode, response.Header, string(body)}.wantFailure(t, 408, "did not arrive in time")
	waitUntil(t, "the place is free", func() bool { n, _ := opts.Ingest.InFlight(); return n == 0 })
	s.do("POST", "/up", strings.NewReader("whole")).want(t, 201, "whole")
}

func TestPatienceWithABodyDoesNotBoundTheHandler(t *testing.T) {
	opts := quiet()
	opts.Patience = 20 * time.Millisecond
	s := serve(t, opts, post("/up", 100, func(c *gin.Context) {
		if _, err := route.ReadBody(c); err != nil {
			route.Refuse(c, err)
			return
		}
		select {
		case <-c.Request.Context().Done():
			route.Fail(c, http.StatusInternalServerError, "the context has ended")
		case <-time.After(10 * opts.Patience):
			c.String(http.StatusCreated, "done")
		}
	}))
	s.do("POST", "/up", strings.NewReader("body")).want(t, 201, "done")
}

func FuzzGzipBody(f *testing.F) {
	const limit = 1000
	up := post("/up", 10_000, echo)
	up.GzipLimit = limit
	e := engine(f, quiet(), up)
	f.Add(gzipped(f, []byte("hello")))
	f.Add(gzipped(f, make([]byte, 100_000)))
	f.Add([]byte("\x1f\x8b\x08\x00"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, sent []byte) {
		want := -1
		if len(sent) == 0 {
			want = 0
		} else if r, err := gzip.NewReader(bytes.NewReader(sent)); err == nil {
			if decoded, err := io.ReadAll(io.LimitReader(r, limit+1)); err == nil && len(decoded) <= limit {
				want = len(decoded)
			}
		}
		w := httptest.NewRecorder()
		request := httptest.NewRequest("POST", "/up", bytes.NewReader(sent))
		request.Header.Set("Content-Encoding", "gzip")
		e.ServeHTTP(w, request)
		switch {
		case w.Code == 201 && w.Body.Len() != want:
			t.Errorf("%d bytes were decoded, want %d", w.Body.Len(), want)
		case w.Code != 201 && w.Code != 400 && w.Code != 413:
			t.Errorf("status is %d, want 201, 400 or 413", w.Code)
		case w.Code != 201 && want >= 0 && len(sent) <= 10_000:
			t.Errorf("a good body of %d bytes was refused with %d %s", want, w.Code, w.Body)
		}
	})
}

func TestUploadedFilesAreRemovedWhenTheRequestEnds(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	seen := make(chan string, 1)
	up := post("/file", 1<<20, func(c *gin.Context) {
		if err := c.Request.ParseMultipartForm(1); err != nil {
			route.Refuse(c, err)
			return
		}
		file, err := c.Request.MultipartForm.File["file"][0].Open()
		if err != nil {
			route.Refuse(c, err)
			return
		}
		defer file.Close()
		if named, ok := file.(interface{ Name() string }); ok {
			seen <- named.Name()
		}
		c.Status(http.StatusCreated)
	})
	s := serve(t, quiet(), up)
	form := "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n" + strings.Repeat("x", 100_000) + "\r\n--b--\r\n"
	s.do("POST", "/file", strings.NewReader(form), "Content-Type", "multipart/form-data; boundary=b").want(t, 201, "")
	s.Close()
	assertGone(t, <-seen)
}
