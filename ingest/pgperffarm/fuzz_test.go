package pgperffarm_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// FuzzLoginStaysOnThisSite follows a login with any target to its end.
func FuzzLoginStaysOnThisSite(f *testing.F) {
	for _, next := range []string{"/run/7", "//evil.example", `/\evil.example`, "https://example.com/run/7", "https://example.com//evil.example", "%", "\x00/"} {
		f.Add(next)
	}
	f.Fuzz(func(t *testing.T, next string) {
		l := newLab(t)
		login := l.get("/user/community_login?next="+url.QueryEscape(next), nil)
		at := location(t, login)
		if login.Code != http.StatusFound || at.Host != "www.postgresql.org" || at.Path != "/account/auth/99/" {
			t.Fatalf("the login goes to %s", at)
		}
		answer := l.get(l.callback("jdoe", at.Query().Get("d")), nil)
		end := answer.Header().Get("Location")
		if answer.Code != http.StatusFound || !strings.HasPrefix(end, "/") || strings.HasPrefix(end, "//") || strings.HasPrefix(end, `/\`) {
			t.Errorf("next %q ends at %d %q", next, answer.Code, end)
		}
	})
}

// FuzzUpload sends any body as a machine and as a stranger: the contract's statuses, never a fault.
func FuzzUpload(f *testing.F) {
	f.Add(smallDocument(0))
	f.Add([]byte(`[{}]`))
	f.Add([]byte(`[{"git": {"remote": 1}}]`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, body []byte) {
		l := newLab(t)
		answer := l.upload(l.machine("otter"), body)
		switch answer.Code {
		case http.StatusCreated, http.StatusBadRequest, http.StatusNotAcceptable:
		default:
			t.Fatalf("answer is %d %s", answer.Code, answer.Body)
		}
		if answer.Code != http.StatusCreated && !strings.HasPrefix(answer.Body.String(), `{"error":"`) {
			t.Errorf("refusal %d says nothing: %q", answer.Code, answer.Body)
		}
		l.clock.Pass(time.Second)
		stranger := l.upload(strings.Repeat("0", 32), body)
		if wanted := map[bool]int{true: http.StatusBadRequest, false: http.StatusNotAcceptable}[answer.Code == http.StatusBadRequest]; stranger.Code != wanted {
			t.Errorf("a stranger gets %d, want %d", stranger.Code, wanted)
		}
	})
}
