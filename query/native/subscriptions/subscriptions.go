// Package subscriptions is the read side of subscriptions: who is told what happens, and whether they take it.
package subscriptions

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"

	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/processor/subscription"
	"github.com/millrace/millrace/query/native"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/keyring"
	"github.com/millrace/millrace/schemas/route"
)

// Registry is the replica of the registry's fold.
type Registry interface {
	View(look func(*registry.State))
	CatchUp(ctx context.Context) error
}

// Config is what the endpoints work with. All of it is required once a request is answered.
type Config struct {
	Registry Registry
	Keyring  *keyring.Keyring
	Client   *eventlog.Client
}

// Subscriptions answers the endpoints.
type Subscriptions struct{ Config }

// New gives the endpoints.
func New(c Config) *Subscriptions { return &Subscriptions{c} }

// Subscription is who is told what happens.
type Subscription struct {
	Name    string    `json:"name"`
	URL     string    `json:"url"`
	Kinds   []string  `json:"kinds"`
	Queues  []string  `json:"queues" doc:"empty for all"`
	AddedAt time.Time `json:"added_at"`
	State   string    `json:"state" doc:"active, failing or paused"`
	// Paused and Failing say since when and why.
	Paused  *Trouble `json:"paused" doc:"null unless it is paused"`
	Failing *Failing `json:"failing" doc:"null unless the last delivery failed"`
	// Delivered is the position before which everything was delivered.
	Delivered string `json:"delivered" doc:"position of the log up to which everything was delivered"`
}

// Trouble is since when and why.
type Trouble struct {
	Since  time.Time `json:"since"`
	Reason string    `json:"reason"`
}

// Failing is what deliveries run into.
type Failing struct {
	Trouble

	Attempts int `json:"attempts" doc:"of the delivery that has failed for the longest time"`
}

// List is all subscriptions.
type List struct {
	Items []Subscription `json:"items" doc:"by name"`
}

// Routes is the table of the endpoints.
func (s *Subscriptions) Routes() []route.Route {
	return []route.Route{{
		Method: http.MethodGet, Path: "/millrace/v1/subscriptions", Side: route.Query, API: native.API, Access: route.TokenOperator,
		Summary: "List the subscriptions, and whether their deliveries succeed", Handler: s.list,
		Answers: []route.Answer{
			{Status: 200, Body: List{}, Description: "All that there are."},
			{Status: 401, Body: route.Failure{}, Description: "No token, or one that is not known."},
			{Status: 403, Body: route.Failure{}, Description: "The token's role is not operator."},
			{Status: 503, Body: route.Failure{}, Description: "The log is out of reach."},
		},
	}}
}

func (s *Subscriptions) list(c *gin.Context) {
	list, err := s.read(c.Request.Context())
	if err != nil {
		route.Refuse(c, err)
		return
	}
	body, err := json.Marshal(list)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	c.Data(http.StatusOK, "application/json", body)
}

func (s *Subscriptions) read(ctx context.Context) (*List, error) {
	if err := s.Registry.CatchUp(ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", route.Busy(time.Second, "the log does not answer; try again"), err)
	}
	var known []*registry.Subscription
	s.Registry.View(func(state *registry.State) { known = state.Subscriptions() })
	list := &List{Items: []Subscription{}}
	for _, subscribed := range known {
		shown, err := s.show(ctx, subscribed)
		if err != nil {
			return nil, err
		}
		list.Items = append(list.Items, *shown)
	}
	return list, nil
}

func (s *Subscriptions) show(ctx context.Context, subscribed *registry.Subscription) (*Subscription, error) {
	target, err := subscription.OpenTarget(s.Keyring, subscribed.SealedTarget)
	if err != nil {
		return nil, err
	}
	next, trouble, err := subscription.Progress(ctx, s.Client, subscribed.ID)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", route.Busy(time.Second, "the log does not answer; try again"), err)
	}
	shown := &Subscription{
		Name: subscribed.Name, URL: target.GetUrl(), Kinds: subscribed.Kinds, Queues: subscribed.Queues, AddedAt: time.UnixMilli(subscribed.AddTime).UTC(),
		State: "active", Delivered: delivered(s.Client.LogID, next).String(),
	}
	if shown.Queues == nil {
		shown.Queues = []string{}
	}
	if !trouble.Since.IsZero() {
		shown.State = "failing"
		shown.Failing = &Failing{Trouble: Trouble{Since: trouble.Since, Reason: trouble.Problem}, Attempts: trouble.Attempts}
	}
	if subscribed.Paused {
		shown.State = "paused"
		shown.Paused = &Trouble{Since: time.UnixMilli(subscribed.PausedTime).UTC(), Reason: subscribed.PausedFor}
	}
	return shown, nil
}

func delivered(log string, next map[eventlog.Partition]int64) eventlog.Position {
	position := eventlog.Position{Log: log, Offsets: map[eventlog.Partition]int64{}}
	for partition, offset := range next {
		if offset > 0 {
			position.Offsets[partition] = offset - 1
		}
	}
	return position
}
