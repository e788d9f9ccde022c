package testflinger_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	door "github.com/millrace/millrace/ingest/testflinger"
	"github.com/millrace/millrace/processor/testflinger"
)

// hooked is a lab whose agents are on this machine, and a webhook that answers with what it was told and by whom.
func hooked(t *testing.T, g testflinger.Generation, secret string) (l *lab, address string) {
	t.Helper()
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("the webhook's body: %v", err)
		}
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintf(w, "%s %s %q %s", r.Method, r.Header.Get("Content-Type"), r.Header.Get("Authorization"), body)
	}))
	t.Cleanup(hook.Close)
	l = newLab(t, g)
	l.webhooks = door.WebhooksConfig{Origins: []string{hook.URL}, Secret: secret, Local: func(*http.Request) bool { return true }}
	l.replicas = []*replica{l.newReplica(), l.newReplica()}
	return l, hook.URL + "/jobs"
}

func TestNewerGenerationTellsItsWebhookTheSecret(t *testing.T) {
	for _, tc := range []struct {
		g            testflinger.Generation
		secret, told string
	}{
		{testflinger.Latest, "hidden", "Bearer hidden"},
		{testflinger.Latest, "", ""},
		{testflinger.Seed, "hidden", ""}, // it calls whom an agent names
	} {
		l, address := hooked(t, tc.g, tc.secret)
		agent := l.client("bot", testflinger.Agents, nil)
		id := l.submit(`{"job_queue":"q"}`)
		l.ask(0, http.MethodPost, "/v1/job/"+id+"/events", fmt.Sprintf(`{"job_status_webhook":%q,"agent_id":"otter"}`, address), agent...).
			is(http.StatusAccepted, fmt.Sprintf(`PUT application/json %q {"agent_id":"otter"}`, tc.told))
	}
}
