// Package subscriptions is the write side of subscriptions: who is told what happens. Only operators may subscribe: what
// they name is called by Millrace itself, and is told of every queue.
package subscriptions

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/ingest/native"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/processor/subscription"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/keyring"
	"github.com/millrace/millrace/schemas/route"
)

// source names this door in events.
const source = "/millrace/subscriptions"

const (
	maxBody = 64 << 10
	depth   = 4
	// maxQueues and maxQueue bound a filter, maxURL an address.
	maxQueues, maxQueue, maxURL = 100, 250, 2000
)

// Dependencies are what the endpoints work with. All are required.
type Dependencies struct {
	Log      door.Log
	Registry door.Fold[*registry.State, registry.Outcome]
	Keyring  *keyring.Keyring
	// Ends gives the offset that the next record of each partition gets.
	Ends func(ctx context.Context) (map[eventlog.Partition]int64, error)
	// Check refuses addresses that deliveries would plainly not reach.
	Check func(*url.URL) error
	// Max bounds the subscriptions.
	Max int
	// KeepKeys is how long an Idempotency-Key is remembered, in log time.
	KeepKeys time.Duration
}

// Subscriptions answers the endpoints.
type Subscriptions struct{ Dependencies }

// New gives the endpoints.
func New(d Dependencies) *Subscriptions { return &Subscriptions{d} }

// Add is the body of a new subscription.
type Add struct {
	Name   string   `json:"name" doc:"unique: letters, digits and _ . -, at most 100"`
	URL    string   `json:"url" doc:"http or https; the events are posted there"`
	Kinds  []string `json:"kinds" doc:"what to be told of: job.submitted, job.handed_out, job.returned, job.reported, job.cancelled, job.ended, run.stored, artifact.stored, dead_letter.added"`
	Queues []string `json:"queues,omitzero" doc:"the queues whose jobs count, each a name or a beginning with * behind it; all when absent"`
}

// Added is the answer to a new subscription.
type Added struct {
	Name   string `json:"name"`
	Secret string `json:"secret,omitzero" doc:"what deliveries are signed with; shown once: a repeated request does not show it again"`
}

// Changed is the answer to other changes.
type Changed struct {
	Name string `json:"name"`
}

// Pause is the body of a pause.
type Pause struct {
	Reason string `json:"reason,omitzero" doc:"is shown in the list, at most 500 bytes"`
}

const path = "/millrace/v1/subscriptions"

// Routes is the table of the endpoints.
func (s *Subscriptions) Routes() []route.Route {
	named := []route.Param{{Name: "name", MaxLength: 100, Description: "The subscription's name."}, door.KeyParam()}
	return []route.Route{
		{
			Method: http.MethodPost, Path: path, Side: route.Ingest, API: native.API, Access: route.TokenOperator,
			Summary: "Subscribe to what happens", Params: []route.Param{door.KeyParam()}, Body: Add{}, BodyLimit: maxBody, Handler: s.add,
			Answers: answers(route.Answer{Status: 201, Body: Added{}, Description: "What happens from now on is delivered."},
				failure(400, "A member is missing, wrong or not known."), failure(409, "Another subscription has this name, or there are too many.")),
		},
		{
			Method: http.MethodDelete, Path: path + "/:name", Side: route.Ingest, API: native.API, Access: route.TokenOperator,
			Summary: "End a subscription", Params: named, Handler: s.remove,
			Answers: answers(route.Answer{Status: 200, Body: Changed{}, Description: "Nothing more is delivered."}, unknown()),
		},
		{
			Method: http.MethodPost, Path: path + "/:name/pause", Side: route.Ingest, API: native.API, Access: route.TokenOperator,
			Summary: "Halt a subscription's deliveries where they are", Params: named, Body: Pause{}, BodyLimit: maxBody, Handler: s.pause,
			Answers: answers(route.Answer{Status: 200, Body: Changed{}, Description: "Deliveries wait."}, failure(400, "A member is wrong or not known."), unknown()),
		},
		{
			Method: http.MethodPost, Path: path + "/:name/resume", Side: route.Ingest, API: native.API, Access: route.TokenOperator,
			Summary: "Let a paused subscription's deliveries go on where they were", Params: named, Handler: s.resume,
			Answers: answers(route.Answer{Status: 200, Body: Changed{}, Description: "Deliveries go on."}, unknown()),
		},
	}
}

func failure(status int, description string) route.Answer {
	return route.Answer{Status: status, Body: route.Failure{}, Description: description}
}

func unknown() route.Answer { return failure(404, "No subscription has this name.") }

func answers(own ...route.Answer) []route.Answer {
	all := append(own, failure(401, "No token, or one that is not known."), failure(403, "The token's role is not operator."),
		failure(422, "The Idempotency-Key came with another body before."), failure(503, "The log is out of reach."))
	slices.SortFunc(all, func(a, b route.Answer) int { return a.Status - b.Status })
	return all
}

// command reads a JSON body, which may be absent where the route takes none.
func command[T any](s *Subscriptions, c *gin.Context) (value T, key *event.Idempotency, err error) {
	body, err := route.ReadBody(c)
	if err != nil {
		return value, nil, err
	}
	bearer, _ := route.Principal[access.Bearer](c)
	if key, err = door.Idempotency(c, "token:"+bearer.Name, body, s.KeepKeys); err != nil || len(body) == 0 {
		return value, key, err
	}
	value, err = route.DecodeJSON[T](body, depth, json.RejectUnknownMembers(true))
	return value, key, err
}

// decide has the log decide; what is not done is an error that the client is answered.
func (s *Subscriptions) decide(c *gin.Context, request proto.Message) (registry.Outcome, error) {
	outcome, position, err := door.Decide(c.Request.Context(), s.Log, s.Registry, source, request)
	if err != nil {
		return outcome, err
	}
	door.SetPosition(c, position)
	switch outcome.Result {
	case registry.Done:
		return outcome, nil
	case registry.SubscriptionNameTaken:
		return outcome, route.Errorf(http.StatusConflict, "another subscription has this name: delete it first, or take another name")
	case registry.UnknownSubscription:
		return outcome, route.Errorf(http.StatusNotFound, "no subscription has this name")
	case registry.KeyReused:
		return outcome, door.KeyReused()
	}
	return outcome, fmt.Errorf("subscription: the registry answers %d", outcome.Result)
}

// add answers POST /millrace/v1/subscriptions.
func (s *Subscriptions) add(c *gin.Context) {
	added, err := s.added(c)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	c.JSON(http.StatusCreated, added)
}

func (s *Subscriptions) added(c *gin.Context) (*Added, error) {
	asked, key, err := command[Add](s, c)
	if err == nil {
		err = s.check(&asked)
	}
	if err != nil {
		return nil, err
	}
	added := &Added{Name: asked.Name, Secret: newSecret()}
	sealed, err := subscription.SealTarget(s.Keyring, &event.SubscriptionTarget{Url: asked.URL, Secret: []byte(added.Secret)})
	if err != nil {
		return nil, err
	}
	after, err := s.now(c.Request.Context())
	if err != nil {
		return nil, err
	}
	id := uuid.New()
	outcome, err := s.decide(c, &event.SubscriptionAddRequested{
		Name: asked.Name, Id: id[:], SealedTarget: sealed, Kinds: asked.Kinds, Queues: asked.Queues, After: after.String(), Idempotency: key,
	})
	if outcome.Repeated {
		added.Secret = ""
	}
	return added, err
}

// now is the position of the log's end: what comes later is delivered.
func (s *Subscriptions) now(ctx context.Context) (eventlog.Position, error) {
	ends, err := s.Ends(ctx)
	if err != nil {
		return eventlog.Position{}, fmt.Errorf("%w: %w", door.OutOfReach("the log"), err)
	}
	after := eventlog.Position{Log: s.Log.ID, Offsets: map[eventlog.Partition]int64{}}
	for partition, end := range ends {
		if end > 0 {
			after.Offsets[partition] = end - 1
		}
	}
	return after, nil
}

var validName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$`)

func bad(format string, args ...any) error {
	return route.Errorf(http.StatusBadRequest, format, args...)
}

func (s *Subscriptions) check(asked *Add) error {
	if !validName.MatchString(asked.Name) {
		return bad("member /name must be letters, digits and _ . -, at most 100, and begin with none of . -")
	}
	target, err := url.Parse(asked.URL)
	switch {
	case err != nil || len(asked.URL) > maxURL:
		return bad("member /url is no address, or longer than %d bytes", maxURL)
	case target.User != nil:
		return bad("member /url holds a user name: deliveries are signed, and carry no password")
	}
	if err := s.Check(target); err != nil {
		return bad("member /url: %v", err)
	}
	if err := checkKinds(asked.Kinds); err != nil {
		return err
	}
	return s.checkQueues(asked)
}

func checkKinds(kinds []string) error {
	if len(kinds) == 0 {
		return bad("member /kinds is empty: name some of %s", strings.Join(projection.NoticeKinds(), ", "))
	}
	for i, kind := range kinds {
		switch {
		case projection.NoticeTopics()[kind] == "":
			return bad("member /kinds/%d is %.40q: want some of %s", i, kind, strings.Join(projection.NoticeKinds(), ", "))
		case slices.Contains(kinds[:i], kind):
			return bad("member /kinds/%d repeats %s", i, kind)
		}
	}
	return nil
}

// checkQueues looks at the filter, and whether there is room for one more. The number is not decided by the log: a few more
// do no harm.
func (s *Subscriptions) checkQueues(asked *Add) error {
	if len(asked.Queues) > maxQueues {
		return bad("member /queues has %d names: the limit is %d", len(asked.Queues), maxQueues)
	}
	for i, queue := range asked.Queues {
		if name := strings.TrimSuffix(queue, "*"); queue == "" || len(queue) > maxQueue || strings.Contains(name, "*") {
			return bad("member /queues/%d must be a queue's name, or a beginning with * behind it", i)
		}
	}
	count := 0
	s.Registry.View(func(state *registry.State) {
		if state.Subscription(asked.Name) == nil {
			count = len(state.Subscribed)
		}
	})
	if count >= s.Max {
		return route.Errorf(http.StatusConflict, "there are %d subscriptions, the limit (webhooks.max_subscriptions)", count)
	}
	return nil
}

// newSecret makes a secret: a prefix by which scanners know a leaked one, and 256 random bits.
func newSecret() string {
	var random [32]byte
	rand.Read(random[:]) // never fails, see crypto/rand
	return "millrace_whsec_" + base64.RawURLEncoding.EncodeToString(random[:])
}

// remove answers DELETE /millrace/v1/subscriptions/{name}.
func (s *Subscriptions) remove(c *gin.Context) {
	_, key, err := command[struct{}](s, c)
	if err == nil {
		_, err = s.decide(c, &event.SubscriptionDeleteRequested{Name: c.Param("name"), Idempotency: key})
	}
	changed(c, err)
}

// pause answers POST /millrace/v1/subscriptions/{name}/pause.
func (s *Subscriptions) pause(c *gin.Context) {
	asked, key, err := command[Pause](s, c)
	if err == nil && len(asked.Reason) > 500 {
		err = bad("member /reason has %d bytes: the limit is 500", len(asked.Reason))
	}
	if asked.Reason == "" {
		asked.Reason = "paused by an operator"
	}
	if err == nil {
		_, err = s.decide(c, &event.SubscriptionPauseRequested{Name: c.Param("name"), Reason: asked.Reason, Idempotency: key})
	}
	changed(c, err)
}

// resume answers POST /millrace/v1/subscriptions/{name}/resume.
func (s *Subscriptions) resume(c *gin.Context) {
	_, key, err := command[struct{}](s, c)
	if err == nil {
		_, err = s.decide(c, &event.SubscriptionResumeRequested{Name: c.Param("name"), Idempotency: key})
	}
	changed(c, err)
}

func changed(c *gin.Context, err error) {
	if err != nil {
		route.Refuse(c, err)
		return
	}
	c.JSON(http.StatusOK, Changed{Name: c.Param("name")})
}
