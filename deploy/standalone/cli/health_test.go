package cli_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/millrace/millrace/deploy/standalone/cli"
)

func TestHealthTellsByItsErrorWhetherTheProcessIsReady(t *testing.T) {
	cases := []struct {
		name   string
		status int
		body   string
		fails  string // in the error; empty: none
	}{
		{"ready", http.StatusOK, `{"status":"ready"}`, ""},
		{"an engine is missing", http.StatusServiceUnavailable, `{"status":"not ready","missing":["kafka"]}`, "kafka"},
		{"no Millrace", http.StatusNotFound, "", "status 404"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			var asked string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked = r.URL.Path
				w.WriteHeader(tc.status)
				_, _ = w.Write([]byte(tc.body))
			}))
			defer server.Close()
			t.Setenv("MILLRACE_LISTEN", "0.0.0.0:"+server.URL[strings.LastIndex(server.URL, ":")+1:])
			for _, args := range [][]string{{"health"}, {"health", server.URL + "/"}} {
				var out bytes.Buffer
				err := cli.New("test", &out, &out).ExecuteContext(t.Context(), args)
				switch {
				case asked != "/readyz":
					t.Errorf("%v asked for %s, want /readyz", args, asked)
				case tc.fails == "" && err != nil:
					t.Errorf("%v: %v", args, err)
				case tc.fails != "" && (err == nil || !strings.Contains(err.Error(), tc.fails)):
					t.Errorf("%v: error is %v, want one that has %q", args, err, tc.fails)
				}
			}
		})
	}
}

func TestHealthFailsWhenNobodyAnswers(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	address := server.URL
	server.Close()
	var out bytes.Buffer
	if err := cli.New("test", &out, &out).ExecuteContext(t.Context(), []string{"health", address}); err == nil {
		t.Errorf("health of %s, where nobody listens, succeeded", address)
	}
}
