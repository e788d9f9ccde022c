package testflinger

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/processor/webhook"
	"github.com/millrace/millrace/schemas/route"
)

const (
	// forwardTime bounds the call of a webhook (9).
	forwardTime = 3 * time.Second
	// forwardAnswer bounds what a webhook says.
	forwardAnswer = 1 << 20
	// forwardRedirects is how often the older generation follows a webhook that has moved.
	forwardRedirects = 5
)

// Webhooks are the addresses to which agents have events forwarded. They are public ones, those that the operator allows,
// and the configured origins; for callers on this machine also what is on it.
type Webhooks struct {
	origins []string
	header  http.Header
	remote  *webhook.Client
	here    *webhook.Client
	local   func(*http.Request) bool
}

// WebhooksConfig says which webhooks may be called.
type WebhooksConfig struct {
	// Allowed is what may be reached besides public addresses.
	Allowed webhook.Allowed
	// Origins are those that the newer generation calls.
	Origins []string
	// Secret is sent to them as a bearer token; empty: none is. The older generation calls any address, and tells it nothing.
	Secret string
	// Local tells whether a request comes from this machine.
	Local func(*http.Request) bool
}

// NewWebhooks gives the webhooks of a generation: the newer one calls the configured origins only.
func NewWebhooks(g testflinger.Generation, c WebhooksConfig) (*Webhooks, error) {
	w := &Webhooks{local: c.Local, header: http.Header{"Content-Type": {"application/json"}}}
	if g == testflinger.Latest && c.Secret != "" {
		w.header.Set("Authorization", "Bearer "+c.Secret)
	}
	allowed := c.Allowed
	for _, text := range c.Origins {
		target, err := url.Parse(text)
		if err != nil || webhook.Check(target) != nil {
			return nil, fmt.Errorf("testflinger.webhook_origins: %q is no origin such as https://ci.example.org", text)
		}
		w.origins = append(w.origins, origin(target))
		allowed = allowed.With(target.Hostname())
	}
	config := webhook.Config{Allowed: allowed, Timeout: forwardTime, AnswerBytes: forwardAnswer}
	if g == testflinger.Seed {
		config.Redirects = forwardRedirects
	}
	w.remote = webhook.New(config)
	config.Allowed = allowed.WithLoopback()
	w.here = webhook.New(config)
	return w, nil
}

func (w *Webhooks) client(r *http.Request) *webhook.Client {
	if w.local(r) {
		return w.here
	}
	return w.remote
}

// origin is the part of an address that must be as configured.
func origin(target *url.URL) string {
	port := target.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[target.Scheme]
	}
	return target.Scheme + "://" + net.JoinHostPort(strings.ToLower(target.Hostname()), port)
}

func (t *Testflinger) forwardRoute() route.Route {
	return t.route(endpoint{
		method: http.MethodPost, path: "/v1/job/:" + jobParam + "/events", summary: "Forward events of a job to its webhook, once",
		access: t.by(route.Anyone, agents), params: named(jobParam), limit: maxSmall, handler: t.forward,
		also: []route.Answer{
			failed(400, "The body is no JSON, or the id no UUID."), failed(403, "The webhook's address is not allowed."),
			failed(404, "There is no such job."), failed(422, "The body does not fit; detail says where."),
			{Status: 500, Body: "", ContentType: "text/html", Description: "The webhook is out of reach, or none is configured."},
			{Status: 504, Body: "", ContentType: "text/html", Description: "The webhook does not answer in time."},
		},
	})
}

// forward answers POST /v1/job/{job_id}/events: it passes on what the webhook says (9).
func (t *Testflinger) forward(c *gin.Context) {
	answer, err := t.forwarded(c)
	if err != nil {
		t.refuseForward(c, err)
		return
	}
	if t.latest() && (answer.Status == http.StatusUnauthorized || answer.Status == http.StatusForbidden) {
		route.Refuse(c, bad(http.StatusInternalServerError, "Webhook authentication failed"))
		return
	}
	say(c, answer.Status, string(answer.Body))
}

func (t *Testflinger) forwarded(c *gin.Context) (*webhook.Answer, error) {
	if t.latest() {
		if err := t.known(c); err != nil {
			return nil, err
		}
	}
	events, err := read(c, testflinger.ReadEvents)
	if err != nil {
		return nil, err
	}
	if t.latest() && len(t.Webhooks.origins) == 0 {
		return nil, bad(http.StatusInternalServerError, "No webhook is configured: set testflinger.webhook_origins")
	}
	if t.latest() && !slices.Contains(t.Webhooks.origins, origin(events.Webhook)) {
		return nil, webhook.ErrRefused
	}
	answer, err := t.Webhooks.client(c.Request).Call(c.Request.Context(), http.MethodPut, events.Webhook.String(), t.Webhooks.header, events.Message)
	switch {
	case err == nil || errors.Is(err, webhook.ErrRefused) || errors.Is(err, webhook.ErrTimeout):
		return answer, err
	case c.Request.Context().Err() != nil:
		return nil, c.Request.Context().Err()
	}
	t.Logger.InfoContext(c.Request.Context(), "a webhook cannot be reached", "job", c.Param(jobParam), "error", err)
	return nil, errUnreachable
}

var errUnreachable = errors.New("webhook unreachable")

// known refuses ids that are no job's.
func (t *Testflinger) known(c *gin.Context) error {
	id, err := jobID(c)
	if err != nil {
		return err
	}
	if _, lives, err := t.live(c.Request.Context(), id); err != nil || lives {
		return err
	}
	seq, err := t.Find(c.Request.Context(), id)
	if err == nil && seq == 0 {
		err = bad(http.StatusNotFound, "Job not found")
	}
	return err
}

// refuseForward words what a webhook did not do: as bare texts in the older generation.
func (t *Testflinger) refuseForward(c *gin.Context, err error) {
	switch {
	case errors.Is(err, webhook.ErrRefused):
		refuse(c, bad(http.StatusForbidden, "Invalid job_status_webhook URL specified"))
	case errors.Is(err, webhook.ErrTimeout) && t.latest():
		refuse(c, bad(http.StatusGatewayTimeout, "Webhook Timeout"))
	case errors.Is(err, webhook.ErrTimeout):
		say(c, http.StatusGatewayTimeout, "Webhook Timeout")
	case errors.Is(err, errUnreachable) && t.latest():
		refuse(c, bad(http.StatusBadGateway, "Webhook unreachable"))
	case errors.Is(err, errUnreachable):
		say(c, http.StatusInternalServerError, "Webhook unreachable")
	default:
		refuse(c, door.Refusal(err))
	}
}
