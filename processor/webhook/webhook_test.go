package webhook

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
)

func allowed(t testing.TB, list ...string) Allowed {
	t.Helper()
	a, err := ParseAllowed(list)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestOnlyPublicAddressesAreReached(t *testing.T) {
	for text, want := range map[string]bool{
		"8.8.8.8": true, "1.1.1.1": true, "2606:4700::1111": true, "::ffff:8.8.8.8": true,
		"0.0.0.0": false, "10.1.2.3": false, "100.64.0.1": false, "100.100.100.200": false, "127.0.0.1": false, "127.8.8.8": false,
		"169.254.169.254": false, "172.16.0.1": false, "172.31.255.255": false, "192.0.0.192": false, "192.0.2.1": false,
		"192.168.1.1": false, "198.18.0.1": false, "198.51.100.7": false, "203.0.113.9": false, "224.0.0.1": false, "239.1.1.1": false,
		"240.0.0.1": false, "255.255.255.255": false, "168.63.129.16": false,
		"::": false, "::1": false, "::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "::ffff:169.254.169.254": false,
		"::127.0.0.1": false, "64:ff9b::7f00:1": false, "64:ff9b:1::a00:1": false, "2002:7f00:1::": false, "2001:0:1::1": false,
		"2001:db8::1": false, "fc00::1": false, "fd00:ec2::254": false, "fe80::1": false, "fe80::1%lo": false, "fec0::1": false,
		"ff02::1": false, "100::1": false, "3fff::1": false, "4000::1": false,
	} {
		if got := allowed(t).address(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s is allowed: %v, want %v", text, got, want)
		}
	}
}

func TestOperatorAllowsNetworksAddressesAndHosts(t *testing.T) {
	a := allowed(t, "10.1.0.0/16", " 127.0.0.1 ", "fd00::/8", "CI.example.org")
	for text, want := range map[string]bool{
		"10.1.200.3": true, "::ffff:10.1.0.1": true, "10.2.0.1": false, "127.0.0.1": true, "127.0.0.2": false, "fd12::1": true, "::1": false,
	} {
		if got := a.address(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s is allowed: %v, want %v", text, got, want)
		}
	}
	for name, want := range map[string]bool{"ci.example.org": true, "ci.example.org.": true, "example.org": false, "x.ci.example.org": false} {
		if got := a.host(name); got != want {
			t.Errorf("%s is allowed: %v, want %v", name, got, want)
		}
	}
	for _, bad := range []string{"", "http://ci", "ci:80", "10.0.0.0/33", "a b"} {
		if _, err := ParseAllowed([]string{bad}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// receiver answers with a handler and counts the calls.
func receiver(t testing.TB, handler http.HandlerFunc) (*httptest.Server, <-chan string) {
	t.Helper()
	calls := make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		calls <- r.Method + " " + r.URL.Path + " " + string(body)
		handler(w, r)
	}))
	t.Cleanup(server.Close)
	return server, calls
}

func call(t testing.TB, c Config, target string) (*Answer, error) {
	t.Helper()
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	client := New(c)
	t.Cleanup(client.Close)
	return client.Call(t.Context(), http.MethodPut, target, http.Header{"X-Test": {"1"}}, []byte("hello"))
}

func TestAnswerIsPassedBackWhateverItsStatus(t *testing.T) {
	server, calls := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Test") != "1" {
			t.Error("the header is missing")
		}
		w.Header().Set("Content-Type", "text/x-odd")
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "short and stout")
	})
	answer, err := call(t, Config{Allowed: allowed(t, "127.0.0.1"), AnswerBytes: 15}, server.URL+"/pot")
	if err != nil || answer.Status != http.StatusTeapot || string(answer.Body) != "short and stout" || answer.ContentType != "text/x-odd" {
		t.Errorf("the answer is %+v, %v", answer, err)
	}
	if got := <-calls; got != "PUT /pot hello" {
		t.Errorf("the receiver got %q", got)
	}
	if _, err := call(t, Config{Allowed: allowed(t, "127.0.0.1"), AnswerBytes: 14}, server.URL); !errors.Is(err, ErrTooLong) {
		t.Errorf("a longer answer gives %v", err)
	}
	if answer, err := call(t, Config{Allowed: allowed(t, "127.0.0.1")}, server.URL); err != nil || answer.Status != http.StatusTeapot || answer.Body != nil {
		t.Errorf("the status alone is %+v, %v", answer, err)
	}
}

func TestAnswerThatEndsNoCallIsAFault(t *testing.T) {
	for _, status := range []string{"101 Switching Protocols", "099 Odd", "000 Odd", "600 Odd", "999 Odd"} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			defer func() { _ = conn.Close() }()
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = io.WriteString(conn, "HTTP/1.1 "+status+"\r\nContent-Length: 0\r\n\r\n")
		}()
		answer, err := call(t, Config{Allowed: allowed(t, "127.0.0.1"), AnswerBytes: 10}, "http://"+listener.Addr().String())
		if err == nil || !strings.Contains(err.Error(), "ends no call") {
			t.Errorf("an answer %s gives %+v, %v", status, answer, err)
		}
		_ = listener.Close()
		<-done
	}
}

func TestPrivateAddressIsRefusedUnderEveryName(t *testing.T) {
	server, calls := receiver(t, func(http.ResponseWriter, *http.Request) {})
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "localhost", "LOCALHOST.", "0.0.0.0", "[::ffff:127.0.0.1]", "[::1]", "127.1", "0x7f000001", "2130706433"} {
		answer, err := call(t, Config{AnswerBytes: 100}, "http://"+host+":"+port+"/")
		if err == nil {
			t.Errorf("%s was reached: %+v", host, answer)
		}
	}
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "169.254.169.254"} {
		if _, err := call(t, Config{AnswerBytes: 100}, "http://"+host+":"+port+"/"); !errors.Is(err, ErrRefused) {
			t.Errorf("%s is answered by %v, want a refusal", host, err)
		}
	}
	for _, bad := range []string{"ftp://127.0.0.1/", "file:///etc/passwd", "http://", "//127.0.0.1/", "gopher://127.0.0.1:" + port, "http://127.0.0.1:" + port + "/%zz"} {
		if _, err := call(t, Config{Allowed: allowed(t, "127.0.0.1"), AnswerBytes: 100}, bad); !errors.Is(err, ErrRefused) {
			t.Errorf("%s is answered by %v, want a refusal", bad, err)
		}
	}
	if _, err := call(t, Config{Allowed: allowed(t, "localhost"), AnswerBytes: 100}, "http://localhost:"+port+"/"); err != nil {
		t.Errorf("a host that the operator allows: %v", err)
	}
	if got := len(calls); got != 1 {
		t.Errorf("the receiver was called %d times, want once", got)
	}
}

func TestProxyOfTheEnvironmentIsNotUsed(t *testing.T) {
	server, calls := receiver(t, func(http.ResponseWriter, *http.Request) {})
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY"} {
		t.Setenv(name, server.URL)
	}
	if _, err := call(t, Config{AnswerBytes: 100}, "http://169.254.169.254/latest/meta-data"); !errors.Is(err, ErrRefused) {
		t.Errorf("it is answered by %v, want a refusal", err)
	}
	if len(calls) != 0 {
		t.Error("the proxy was asked")
	}
}

func TestRedirectIsFollowedOnlyWhereThatIsWantedAndNeverToPrivateAddresses(t *testing.T) {
	status, location := http.StatusTemporaryRedirect, "/next"
	server, calls := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			w.Header().Set("Location", location)
			w.WriteHeader(status)
		}
	})
	here := allowed(t, "127.0.0.1")
	if answer, err := call(t, Config{Allowed: here, AnswerBytes: 100}, server.URL); err != nil || answer.Status != 307 {
		t.Errorf("without redirects the answer is %+v, %v", answer, err)
	}
	if answer, err := call(t, Config{Allowed: here, AnswerBytes: 100, Redirects: 1}, server.URL); err != nil || answer.Status != 200 {
		t.Errorf("with one the answer is %+v, %v", answer, err)
	}
	for _, want := range []string{"PUT / hello", "PUT / hello", "PUT /next hello"} {
		if got := <-calls; got != want {
			t.Errorf("the receiver got %q, want %q", got, want)
		}
	}
	status = http.StatusFound
	if answer, err := call(t, Config{Allowed: here, AnswerBytes: 100, Redirects: 1}, server.URL); err != nil || answer.Status != http.StatusFound {
		t.Errorf("a redirect that changes the method gives %+v, %v", answer, err)
	}
	for _, to := range []string{"http://[::1]:1/", "http://10.0.0.1/", "ftp://example.org/", "file:///etc/passwd"} {
		status, location = http.StatusPermanentRedirect, to
		if _, err := call(t, Config{Allowed: here, AnswerBytes: 100, Redirects: 1}, server.URL); !errors.Is(err, ErrRefused) {
			t.Errorf("a redirect to %s gives %v, want a refusal", to, err)
		}
	}
}

func TestReceiverThatHangsTimesOut(t *testing.T) {
	over := make(chan struct{})
	server, _ := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
		}
		<-over
	})
	t.Cleanup(func() { close(over) }) // before the server waits for its handlers
	for _, path := range []string{"/head", "/body"} {
		_, err := call(t, Config{Allowed: allowed(t, "127.0.0.1"), Timeout: 100 * time.Millisecond, AnswerBytes: 100}, server.URL+path)
		if !errors.Is(err, ErrTimeout) {
			t.Errorf("%s: %v, want a timeout", path, err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	client := New(Config{Allowed: allowed(t, "127.0.0.1"), Timeout: time.Minute})
	if _, err := client.Call(ctx, http.MethodPost, server.URL, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a call whose context has ended gives %v", err)
	}
}

func TestErrorsDoNotRepeatTheAddress(t *testing.T) {
	for _, target := range []string{"http://169.254.169.254/hook?key=hunter2", "http://127.0.0.1:1/hunter2", "http://nowhere.invalid/hunter2", "http://a b/hunter2"} {
		if _, err := call(t, Config{Allowed: allowed(t, "127.0.0.1"), AnswerBytes: 100}, target); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", target, err)
		}
	}
}

func TestCheckRefusesWhatIsPlainlyNotAllowed(t *testing.T) {
	client := New(Config{Allowed: allowed(t, "10.0.0.0/8")})
	for text, want := range map[string]bool{
		"https://example.org/x": true, "http://10.0.0.1/": true, "http://192.168.0.1/": false, "http://[::1]/": false, "ftp://example.org/": false,
	} {
		target, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := client.Check(target); (err == nil) != want {
			t.Errorf("%s: %v", text, err)
		}
	}
}
