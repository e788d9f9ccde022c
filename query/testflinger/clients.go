package testflinger

import (
	"cmp"
	"errors"
	"maps"
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/keyring"
	"github.com/millrace/millrace/schemas/route"
)

// client is what a client may do (6); never its secret.
type client struct {
	ID             string           `json:"client_id"`
	Role           testflinger.Role `json:"role"`
	MaxPriority    map[string]int64 `json:"max_priority"`
	MaxReservation map[string]int64 `json:"max_reservation_time"`
	AllowedQueues  []string         `json:"allowed_queues,omitzero" doc:"the restricted queues that it owns; absent where it was never given any"`
	Email          string           `json:"email,omitzero"`
}

// erased stands where a client's name was.
const erased = "erased"

// profile opens who a client is.
func (t *Testflinger) profile(id registry.Hash, sealed []byte) (*event.TestflingerProfile, error) {
	profile, err := access.OpenTestflingerProfile(t.Keyring, id, sealed)
	if errors.Is(err, keyring.ErrErased) {
		return &event.TestflingerProfile{ClientId: erased}, nil
	}
	return profile, err
}

// show gives a client's object.
func (t *Testflinger) show(id registry.Hash, known *registry.TestflingerClient) (client, error) {
	profile, err := t.profile(id, known.SealedProfile)
	if err != nil {
		return client{}, err
	}
	shown := client{
		ID: profile.GetClientId(), Role: testflinger.RoleOf(known.Role), MaxPriority: orNone(known.MaxPriority),
		MaxReservation: orNone(known.MaxReservation), AllowedQueues: known.AllowedQueues,
	}
	if t.Generation == testflinger.Latest {
		shown.Email = profile.GetEmail()
	}
	return shown, nil
}

func orNone(limits map[string]int64) map[string]int64 {
	if limits == nil {
		return map[string]int64{}
	}
	return limits
}

// clients answers GET /v1/client-permissions.
func (t *Testflinger) clients(c *gin.Context) {
	if err := t.Registry.CatchUp(c.Request.Context()); err != nil {
		route.Refuse(c, outOfReach(err))
		return
	}
	known := map[registry.Hash]registry.TestflingerClient{}
	t.Registry.View(func(s *registry.State) {
		for id := range s.Testflinger.Clients {
			known[id], _ = s.Testflinger.Client(id)
		}
	})
	list := make([]client, 0, len(known))
	for id, of := range known {
		shown, err := t.show(id, &of)
		if err != nil {
			route.Refuse(c, err)
			return
		}
		list = append(list, shown)
	}
	slices.SortFunc(list, func(a, b client) int { return cmp.Compare(a.ID, b.ID) })
	answer(c, http.StatusOK, list)
}

// client answers GET /v1/client-permissions/{client_id}.
func (t *Testflinger) client(c *gin.Context) {
	if err := t.Registry.CatchUp(c.Request.Context()); err != nil {
		route.Refuse(c, outOfReach(err))
		return
	}
	id := access.HashTestflingerClient(t.Keyring, c.Param(clientParam))
	var known registry.TestflingerClient
	there := false
	t.Registry.View(func(s *registry.State) { known, there = s.Testflinger.Client(id) })
	if !there {
		route.Refuse(c, route.Errorf(http.StatusNotFound, "Specified client_id does not exist"))
		return
	}
	shown, err := t.show(id, &known)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	answer(c, http.StatusOK, shown)
}

// restriction is a queue that only its owners may submit to.
type restriction struct {
	Queue  string   `json:"queue"`
	Owners []string `json:"owners" doc:"ids of clients"`
}

// owners lists the clients that own a queue, by id.
func (t *Testflinger) owners(s *registry.State, queue string) []string {
	owners := []string{}
	for _, id := range s.Testflinger.Owners(queue) {
		known, _ := s.Testflinger.Client(id)
		profile, err := t.profile(id, known.SealedProfile)
		if err == nil && profile.GetClientId() != erased {
			owners = append(owners, profile.GetClientId())
		}
	}
	slices.Sort(owners)
	return owners
}

// restricted answers GET /v1/restricted-queues.
func (t *Testflinger) restricted(c *gin.Context) {
	if err := t.Registry.CatchUp(c.Request.Context()); err != nil {
		route.Refuse(c, outOfReach(err))
		return
	}
	list := []restriction{}
	t.Registry.View(func(s *registry.State) {
		for _, queue := range slices.Sorted(maps.Keys(s.Testflinger.Restricted)) {
			list = append(list, restriction{queue, t.owners(s, queue)})
		}
	})
	answer(c, http.StatusOK, list)
}

// restrictedQueue answers GET /v1/restricted-queues/{queue_name}.
func (t *Testflinger) restrictedQueue(c *gin.Context) {
	if err := t.Registry.CatchUp(c.Request.Context()); err != nil {
		route.Refuse(c, outOfReach(err))
		return
	}
	found := restriction{Queue: c.Param(queueParam)}
	there := false
	t.Registry.View(func(s *registry.State) {
		if there = s.Testflinger.Restricted[found.Queue]; there {
			found.Owners = t.owners(s, found.Queue)
		}
	})
	if !there {
		route.Refuse(c, route.Errorf(http.StatusNotFound, "Error: Restricted queue not found."))
		return
	}
	answer(c, http.StatusOK, found)
}
