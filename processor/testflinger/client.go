package testflinger

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/millrace/millrace/schemas/event"
)

// MasterClient is a client that can be neither deleted nor, by Latest, changed through the API (2).
const MasterClient = "testflinger-admin"

// anyQueue stands for every queue in limits.
const anyQueue = "*"

// freeReservation is how long anybody may reserve a device, in seconds (6).
const freeReservation = 21600

// Limits on clients.
const (
	MaxClientID     = 255
	maxClientSecret = 1024
	maxSecretPath   = 255
	maxSecretValue  = 64 << 10
)

// Permission is what a client may do, as its token has it (6).
type Permission struct {
	ClientID       string           `json:"client_id"`
	Role           Role             `json:"role"`
	MaxPriority    map[string]int64 `json:"max_priority"`
	AllowedQueues  []string         `json:"allowed_queues"`
	MaxReservation map[string]int64 `json:"max_reservation_time"`
	Email          string           `json:"email,omitempty"`
}

// Role is a client's.
type Role string

// The roles. The older generation has user where the newer has agent: both rank below contributors.
const (
	Admin       Role = "admin"
	Manager     Role = "manager"
	Contributor Role = "contributor"
	Agents      Role = "agent"
	User        Role = "user"
)

var eventRoles = map[Role]event.TestflingerRole{
	Admin: event.TestflingerRole_TESTFLINGER_ROLE_ADMIN, Manager: event.TestflingerRole_TESTFLINGER_ROLE_MANAGER,
	Contributor: event.TestflingerRole_TESTFLINGER_ROLE_CONTRIBUTOR, Agents: event.TestflingerRole_TESTFLINGER_ROLE_AGENT,
	User: event.TestflingerRole_TESTFLINGER_ROLE_USER,
}

// Event gives the role as events have it; unspecified when there is no such role.
func (r Role) Event() event.TestflingerRole { return eventRoles[r] }

// RoleOf reads a role out of an event; a record without one is a contributor's (6).
func RoleOf(role event.TestflingerRole) Role {
	for name, e := range eventRoles {
		if e == role {
			return name
		}
	}
	return Contributor
}

// Roles lists the roles that clients of a generation may be given, highest first.
func Roles(g Generation) []Role {
	if g == Latest {
		return []Role{Admin, Manager, Contributor, Agents}
	}
	return []Role{Admin, Manager, Contributor, User}
}

// Refusal is what a request is refused with.
type Refusal struct {
	Status  int
	Message string
}

func (r *Refusal) Error() string { return r.Message }

func refuse(status int, format string, args ...any) *Refusal {
	return &Refusal{Status: status, Message: fmt.Sprintf(format, args...)}
}

// MaySubmit checks a job against what its submitter may do, nil for who has no token; restricted says that the job's queue
// is. It gives nil when there is nothing against it. The checks and their order are the contract's (6).
func (p *Permission) MaySubmit(j *Job, restricted bool) *Refusal {
	if r := p.mayHavePriority(j); r != nil {
		return r
	}
	if restricted {
		switch {
		case p == nil:
			return refuse(http.StatusUnauthorized, "Authentication required to push to restricted queue: %s", j.Queue)
		case !slices.Contains(p.AllowedQueues, j.Queue):
			return refuse(http.StatusForbidden, "Not enough permissions to push to the restricted queue: %s", j.Queue)
		}
	}
	return p.mayReserve(j)
}

func (p *Permission) mayHavePriority(j *Job) *Refusal {
	switch {
	case j.Priority == 0:
		return nil
	case p == nil:
		return refuse(http.StatusUnauthorized, "Authentication required for setting priority: %d", j.Priority)
	case j.Priority > max(p.MaxPriority[j.Queue], p.MaxPriority[anyQueue], 0):
		return refuse(http.StatusForbidden, "Not enough permissions to push to %s with priority %d", j.Queue, j.Priority)
	}
	return nil
}

func (p *Permission) mayReserve(j *Job) *Refusal {
	switch {
	case j.Reservation <= freeReservation:
		return nil
	case p == nil:
		return refuse(http.StatusUnauthorized, "Authentication required for setting timeout: %d", j.Reservation)
	case j.Reservation > max(p.MaxReservation[j.Queue], p.MaxReservation[anyQueue]):
		return refuse(http.StatusForbidden, "Not enough permissions to push to %s with reservation timeout %d", j.Queue, j.Reservation)
	}
	return nil
}

// Client is what a request says of a client (6); what is nil stays as it was.
type Client struct {
	ID             string
	Secret         string
	Role           *Role
	MaxPriority    *map[string]int64
	MaxReservation *map[string]int64
	Email          *string
}

// limits are a client's limits by queue.
func limits() check { return mapOf(text(maxName), integer) }

// ReadNewClient reads a client that is to be made (POST, Seed). Whether an id and a secret are given is for the caller to
// check: that is refused in another way.
func ReadNewClient(contentType string, body []byte) (*Client, error) {
	o := clientObject(Seed)
	o.members = append(o.members,
		member{name: "client_id", check: text(MaxClientID), nullable: true}, member{name: "client_secret", check: text(maxClientSecret), nullable: true})
	given, err := o.read(contentType, body)
	if err != nil {
		return nil, err
	}
	return clientOf(given), nil
}

// ReadClient reads what is to be changed of a client (PUT), by Latest also one that is to be made.
func ReadClient(g Generation, contentType string, body []byte) (*Client, error) {
	o := clientObject(g)
	if g == Seed {
		for i := range o.members { // limits are given, if only as null: they stay as they were then
			o.members[i].required = o.members[i].nullable
		}
		// these are given and have no effect
		o.members = append(o.members, member{name: "client_id", check: anyText}, member{name: "client_secret", check: anyText})
	} else {
		o.members = append(o.members, member{name: "client_secret", check: filled(minClientSecret, maxClientSecret)},
			member{name: "email", check: text(maxName)})
	}
	given, err := o.read(contentType, body)
	if err != nil {
		return nil, err
	}
	if g == Seed {
		delete(given, "client_id")
		delete(given, "client_secret")
	}
	return clientOf(given), nil
}

// minClientSecret is the shortest secret that Latest takes, in characters.
const minClientSecret = 15

func clientObject(g Generation) *object {
	var roles []string
	for _, role := range Roles(g) {
		roles = append(roles, string(role))
	}
	return &object{strict: true, members: []member{
		{name: "role", check: oneOf(roles...)},
		{name: "max_priority", check: limits(), nullable: g == Seed}, {name: "max_reservation_time", check: limits(), nullable: g == Seed},
	}}
}

func clientOf(given map[string]any) *Client {
	c := &Client{ID: asText(given["client_id"]), Secret: asText(given["client_secret"])}
	if role, there := given["role"].(string); there {
		r := Role(role)
		c.Role = &r
	}
	if email, there := given["email"].(string); there {
		c.Email = &email
	}
	c.MaxPriority, c.MaxReservation = limitsOf(given["max_priority"]), limitsOf(given["max_reservation_time"])
	return c
}

func limitsOf(value any) *map[string]int64 {
	given, there := value.(map[string]any)
	if !there {
		return nil
	}
	limits := make(map[string]int64, len(given))
	for queue, limit := range given {
		limits[queue] = number(limit)
	}
	return &limits
}

// ReadOwner reads the client that a request about a restricted queue names; "" when it names none (11).
func ReadOwner(contentType string, body []byte) (string, error) {
	o := &object{strict: true, members: []member{{name: "client_id", check: text(MaxClientID)}}}
	given, err := o.read(contentType, body)
	if err != nil {
		return "", err
	}
	return asText(given["client_id"]), nil
}

// ReadRefreshToken reads the token of a request to refresh or revoke (Latest).
func ReadRefreshToken(contentType string, body []byte) (string, error) {
	o := &object{strict: true, members: []member{{name: "refresh_token", check: filled(1, maxName), required: true}}}
	given, err := o.read(contentType, body)
	if err != nil {
		return "", err
	}
	return asText(given["refresh_token"]), nil
}

// Secret is a secret that a client stores for its jobs (Latest).
type Secret struct {
	Value string
	// Seconds is how long it is kept; 0 when the request does not say.
	Seconds int64
	// Forever says that it does not expire, Once that it is given to one job only.
	Forever, Once bool
}

// ReadSecret reads a secret.
func ReadSecret(contentType string, body []byte) (*Secret, error) {
	after := func(value any) (any, any) {
		stored, fault := integer(value)
		if n := number(stored); fault == nil && (n < 1 || n > maxSecretAge) {
			return value, []string{fmt.Sprintf("Must be greater than or equal to 1 and less than or equal to %d.", int64(maxSecretAge))}
		}
		return stored, fault
	}
	o := &object{strict: true, members: []member{
		{name: "value", check: filled(1, maxSecretValue), required: true}, {name: "expire_after", check: after, nullable: true},
		{name: "ephemeral", check: boolean},
	}}
	given, err := o.read(contentType, body)
	if err != nil {
		return nil, err
	}
	s := &Secret{Value: asText(given["value"]), Seconds: number(given["expire_after"])}
	s.Once, _ = given["ephemeral"].(bool)
	if age, said := given["expire_after"]; said && age == nil {
		s.Forever = true
	}
	if s.Once && s.Seconds > 0 {
		return nil, &InvalidError{Faults: Faults{wholeObject: []string{"A secret is either ephemeral or expires: not both."}}}
	}
	return s, nil
}

// maxSecretAge is a hundred years, in seconds.
const maxSecretAge = 100 * 366 * 86400

// IsSecretPath says whether a text may be a secret's path.
func IsSecretPath(path string) bool {
	return len(path) <= maxSecretPath && secretPath.MatchString(path) && !strings.Contains(path, "//")
}
