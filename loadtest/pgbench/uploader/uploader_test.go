package uploader

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// answers is a transport that gives one answer after the other, and the last one for ever.
type answers struct {
	list  []http.Response
	asked int
}

func (a *answers) RoundTrip(request *http.Request) (*http.Response, error) {
	if _, err := io.Copy(io.Discard, request.Body); err != nil {
		return nil, err
	}
	answer := a.list[min(a.asked, len(a.list)-1)]
	a.asked++
	answer.Body = io.NopCloser(strings.NewReader(answer.Status))
	return &answer, nil
}

// reply is an answer whose body is kept in Status until it is given.
func reply(status int, retryAfter, body string) http.Response {
	return http.Response{StatusCode: status, Header: http.Header{"Retry-After": {retryAfter}}, Status: body}
}

func client(transport http.RoundTripper) *Client {
	return &Client{HTTP: &http.Client{Transport: transport}, BaseURL: "http://farm.example", Secret: "s3cret"}
}

func TestDocumentIsPostedAsTheFarmsClientPostsIt(t *testing.T) {
	const document = `[{"meta": {}}]`
	var got *http.Request
	var body []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusCreated)
	}))
	defer server.Close()
	c := &Client{HTTP: server.Client(), BaseURL: server.URL + "/", Secret: "0f1e2d3c"}
	outcome, err := c.Upload(t.Context(), []byte(document))
	if err != nil || outcome != Stored {
		t.Fatalf("Upload = %v, %v; want %v", outcome, err, Stored)
	}
	if got.Method != http.MethodPost || got.URL.Path != "/run/upload/" || string(body) != document {
		t.Errorf("%s %s with %q", got.Method, got.URL.Path, body)
	}
	if h := got.Header; h.Get("Authorization") != "0f1e2d3c" || h.Get("Content-Type") != "application/json; charset=utf-8" {
		t.Errorf("headers %v", h)
	}
}

func TestDuplicateThatNamesTheStoredRunCountsAsPresent(t *testing.T) {
	outcome, err := client(&answers{list: []http.Response{
		reply(406, "", `{"error": "run_start_time: run 12 of this machine has it", "run_id": 12}`),
	}}).Upload(t.Context(), nil)
	if err != nil || outcome != Present {
		t.Errorf("Upload = %v, %v; want %v", outcome, err, Present)
	}
}

func TestRefusalCarriesTheServersReason(t *testing.T) {
	for _, test := range []struct {
		status         int
		body           string
		reason, advice string
	}{
		{406, `{"error": "git.commit: is missing"}`, "git.commit: is missing", "git.commit"},
		{400, "plain words\n", "plain words", "plain words"},
		{406, "", "", "approved"},
		{500, "", "", "no reason"},
		{200, "", "", "status 200"},
	} {
		_, err := client(&answers{list: []http.Response{reply(test.status, "", test.body)}}).Upload(t.Context(), nil)
		refusal, ok := errors.AsType[*Refusal](err)
		if !ok || refusal.Status != test.status || refusal.Reason != test.reason {
			t.Errorf("%d %q: error %v, want a refusal for %q", test.status, test.body, err, test.reason)
			continue
		}
		if !strings.Contains(err.Error(), test.advice) {
			t.Errorf("%d %q: message %q lacks %q", test.status, test.body, err, test.advice)
		}
	}
}

func TestServerThatIsNotReadyIsAskedAgainWhenItSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		transport := &answers{list: []http.Response{
			reply(503, "7", ""), reply(429, "", "slow down"), reply(503, "3600", ""), reply(201, "", ""),
		}}
		begin := time.Now()
		outcome, err := client(transport).Upload(t.Context(), nil)
		if err != nil || outcome != Stored || transport.asked != 4 {
			t.Errorf("Upload = %v, %v after %d requests; want %v after 4", outcome, err, transport.asked, Stored)
		}
		if waited, want := time.Since(begin), 7*time.Second+time.Second+maxWait; waited != want {
			t.Errorf("waited %s, want %s", waited, want)
		}
	})
}

func TestServerThatStaysBusyIsGivenUpWithItsAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		transport := &answers{list: []http.Response{reply(503, "1", `{"error": "ClickHouse is missing"}`)}}
		_, err := client(transport).Upload(t.Context(), nil)
		refusal, ok := errors.AsType[*Refusal](err)
		if !ok || refusal.Reason != "ClickHouse is missing" || transport.asked != maxAttempts {
			t.Errorf("error %v after %d requests, want the refusal after %d", err, transport.asked, maxAttempts)
		}
	})
}

func TestCancelledWaitTellsTheLastAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := client(&answers{list: []http.Response{reply(503, "20", "starting")}}).Upload(ctx, nil)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "starting") {
			t.Errorf("error %v, want the deadline and the last answer", err)
		}
	})
}

func TestUnreachableServerIsNamed(t *testing.T) {
	c := &Client{HTTP: http.DefaultClient, BaseURL: "http://127.0.0.1:1", Secret: "s"}
	if _, err := c.Upload(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("error %v, want one that names the server", err)
	}
}
