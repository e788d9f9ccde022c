package cli

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"

	"github.com/millrace/millrace/deploy/standalone/app"
)

func TestADownloadedBackupShowsItsBytesToAPersonOnly(t *testing.T) {
	const size = 3_400_000
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, size))
	}))
	defer server.Close()
	o := &operator{server: server.URL, token: "token"}
	var saved, shown bytes.Buffer
	if err := o.download(t.Context(), app.BackupPath, &saved, &shown); err != nil {
		t.Fatal(err)
	}
	if saved.Len() != size || !regexp.MustCompile(`^(\rreceived \d\.\d MB)+\n$`).Match(shown.Bytes()) ||
		!bytes.HasSuffix(shown.Bytes(), []byte("\rreceived 3.4 MB\n")) {
		t.Errorf("%d bytes are saved, shown is %q", saved.Len(), shown.String())
	}
	if terminal(&shown) != nil {
		t.Error("a stream that is no terminal counts as one")
	}
}
