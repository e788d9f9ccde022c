package pgweb_test

import (
	"errors"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/ingest/pgweb"
)

var passedOn = regexp.MustCompile(`^[A-Za-z0-9_.~=$-]+$`)

func TestTargetComesBackWithinItsLifetime(t *testing.T) {
	login := newLogin(t, configFor(3))
	for _, next := range []string{"/", "/machine/user?a=b", "/run/5#logs", "/ui/Zoë", "/a?next=http://example.org/", "/a//b"} {
		blob, err := login.SealTarget(next, madeAt)
		if err != nil {
			t.Errorf("%q: %v", next, err)
			continue
		}
		if !passedOn.MatchString(blob) {
			t.Errorf("%q: pgweb would drop the blob %q", next, blob)
		}
		got, err := login.OpenTarget(blob, madeAt.Add(10*time.Minute))
		if err != nil || got != next {
			t.Errorf("%q came back as %q, %v", next, got, err)
		}
		if got, err := login.OpenTarget(blob, madeAt.Add(10*time.Minute+time.Second)); !errors.Is(err, pgweb.ErrTargetExpired) || got != "" {
			t.Errorf("%q after its lifetime: %q, %v", next, got, err)
		}
	}
}

func TestTargetOutsideOfTheSiteIsRefused(t *testing.T) {
	login := newLogin(t, configFor(3))
	for _, next := range []string{
		"", "machine/user", "http://example.org/", "https:/example.org", "javascript:alert(1)",
		"//example.org/", "///example.org/", `/\example.org/`, `\/example.org`, `/a\b`,
		"/\t/example.org", "/\n/example.org", "/a\x00", "/a\x7f", "/a\u0085b", " /a", "/a\xff", "/%zz", "?a=b", "#a",
		"/" + strings.Repeat("a", 1024),
	} {
		if blob, err := login.SealTarget(next, madeAt); err == nil {
			t.Errorf("sealed %q as %s", next, blob)
		}
	}
}

func TestForeignBlobIsNoTarget(t *testing.T) {
	login := newLogin(t, configFor(3))
	blob, err := login.SealTarget("/machine/user", madeAt)
	if err != nil {
		t.Fatal(err)
	}
	other, err := pgweb.New(configFor(3), [32]byte{2})
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := other.SealTarget("/machine/user", madeAt)
	if err != nil {
		t.Fatal(err)
	}
	last := byte('A')
	if blob[0] == last {
		last = 'B'
	}
	for _, bad := range []string{"", "x", "$", blob[:len(blob)-4], blob + "AAAA", string(last) + blob[1:], foreign, blob + "="} {
		if got, err := login.OpenTarget(bad, madeAt); !errors.Is(err, pgweb.ErrTargetInvalid) || got != "" {
			t.Errorf("blob %q: %q, %v", bad, got, err)
		}
	}
}

func FuzzOpenTarget(f *testing.F) {
	login := newLogin(f, configFor(3))
	blob, err := login.SealTarget("/machine/user?a=b", madeAt)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(blob, "/machine/user")
	f.Add("", "//example.org")
	f.Add("iv$data", `/\example.org`)
	f.Fuzz(func(t *testing.T, blob, next string) {
		if got, err := login.OpenTarget(blob, madeAt); err != nil && got != "" {
			t.Errorf("blob %q: %q with error %v", blob, got, err)
		}
		sealed, err := login.SealTarget(next, madeAt)
		if err != nil {
			return
		}
		if got, err := login.OpenTarget(sealed, madeAt); err != nil || got != next {
			t.Errorf("target %q came back as %q, %v", next, got, err)
		}
		site, _ := url.Parse("https://millrace.example/")
		if to, err := site.Parse(next); err != nil || to.Host != site.Host || to.Scheme != site.Scheme {
			t.Errorf("target %q leads to %v, %v", next, to, err)
		}
	})
}
