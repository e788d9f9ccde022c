package testflinger

import (
	"encoding/json"
	"testing"
)

// FuzzEvents wants all events to be refused as the sender's mistake, or to be sent on without the webhook's address, to an
// address that names a host.
func FuzzEvents(f *testing.F) {
	f.Add([]byte(`{"job_status_webhook":"https://ci.example.org/x?y","agent_id":"a","events":[{"event_name":"job_start","timestamp":"t"}]}`))
	f.Add([]byte(`{"job_status_webhook":"http://[::1","events":[{"event_name":1}]}`))
	f.Add([]byte(`{"job_status_webhook":"http://a\u0000b/","events":{}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		events, err := ReadEvents(typeJSON, body)
		if err != nil {
			if !wellRefused(err) {
				t.Fatal(err)
			}
			return
		}
		var sent map[string]json.RawMessage
		if err := json.Unmarshal(events.Message, &sent); err != nil || sent[webhookMember] != nil {
			t.Fatalf("%s is sent on as %s, %v", body, events.Message, err)
		}
		if events.Webhook.Hostname() == "" || events.Webhook.Scheme != "http" && events.Webhook.Scheme != "https" {
			t.Fatalf("the webhook of %s is %s", body, events.Webhook)
		}
	})
}
