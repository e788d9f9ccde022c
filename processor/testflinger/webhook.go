package testflinger

import (
	"net/url"
)

// webhookMember names whom a job's events go to.
const webhookMember = "job_status_webhook"

// Events are what an agent tells a job's webhook (9).
type Events struct {
	Webhook *url.URL
	// Message is what the webhook is sent: all but its address.
	Message []byte
}

// ReadEvents reads events for a webhook. Members that are not known are sent on, as the API's first description says.
func ReadEvents(contentType string, body []byte) (*Events, error) {
	happened := &object{strict: true, members: []member{
		{name: "event_name", check: anyText, required: true}, {name: "timestamp", check: anyText, required: true},
		{name: "detail", check: anyText, nullable: true},
	}}
	o := &object{members: []member{
		{name: webhookMember, check: address, required: true}, {name: "agent_id", check: anyText}, {name: "job_queue", check: anyText},
		{name: "events", check: listOf(happened.check, 0, maxEvents)},
	}}
	given, err := o.read(contentType, body)
	if err != nil {
		return nil, err
	}
	target, err := url.Parse(asText(given[webhookMember]))
	if err != nil {
		return nil, err
	}
	delete(given, webhookMember)
	message, err := encode(given)
	return &Events{Webhook: target, Message: message}, err
}

// maxEvents bounds the events of one message: an agent sends all of a job each time.
const maxEvents = 1000

// address takes addresses of the web.
func address(value any) (stored, fault any) {
	text, ok := value.(string)
	target, err := url.Parse(text)
	if !ok || err != nil || target.Scheme != "http" && target.Scheme != "https" || target.Hostname() == "" {
		return value, []string{"Not a valid URL."}
	}
	return text, nil
}
