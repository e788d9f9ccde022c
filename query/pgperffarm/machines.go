package pgperffarm

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/processor/runs"
	"github.com/millrace/millrace/query/gate"
	"github.com/millrace/millrace/schemas/route"
)

// machineRow is a registered machine (5.2.1).
type machineRow struct {
	MachineID   uint64    `json:"machine_id"`
	Alias       string    `json:"alias"`
	MachineType string    `json:"machine_type" doc:"empty before the first run"`
	AddTime     timestamp `json:"add_time"`
	Description *string   `json:"description"`
	Approved    bool      `json:"approved"`
	Username    string    `json:"owner_id__username"`
	Latest      []uint64  `json:"latest" doc:"up to three runs, the newest first"`
}

// ownMachineRow is a machine as its owner sees it (5.2.2).
type ownMachineRow struct {
	MachineID   uint64    `json:"machine_id"`
	Alias       string    `json:"alias"`
	MachineType string    `json:"machine_type" doc:"empty before the first run"`
	AddTime     timestamp `json:"add_time"`
	Description *string   `json:"description"`
	Secret      string    `json:"machine_secret" doc:"empty when it was revoked"`
	Approved    bool      `json:"approved"`
	Username    string    `json:"owner_id__username"`
	OwnerEmail  *string   `json:"owner_id__email"`
	Latest      []uint64  `json:"latest" doc:"up to three runs, the newest first"`
	Count       uint64    `json:"count" doc:"runs of any kind"`
	Email       *string   `json:"email" doc:"the same as owner_id__email; the profile page reads it here"`
}

// machineListBody is a finished body of /machine/list, and what it was made of.
type machineListBody struct {
	changes, newest uint64
	until           time.Time // of the profiles in it
	body            []byte
}

// listedMachine is what the folds know of a machine.
type listedMachine struct {
	registry.Machine
	owner profile
	runs  runs.Machine
}

// listMachines answers GET /machine/list from the folds alone.
func (f *Farm) listMachines(c *gin.Context) {
	body, err := f.machineListOf(c)
	if err == nil {
		err = respond(c, body, nil)
	}
	if err != nil {
		route.Refuse(c, err)
	}
}

func (f *Farm) machineListOf(c *gin.Context) ([]byte, error) {
	need, err := gate.Need(c.Request.Header)
	if err != nil {
		return nil, err
	}
	if err := f.arrive(c.Request.Context(), need); err != nil {
		return nil, err
	}
	made := &machineListBody{until: f.Now().Add(reopenAfter)}
	f.Runs.View(func(s *runs.State) { made.newest = s.Latest })
	f.Registry.View(func(s *registry.State) { made.changes = s.Changes })
	kept := f.machineList.Load()
	if kept != nil && kept.changes == made.changes && kept.newest == made.newest && f.Now().Before(kept.until) {
		return kept.body, nil
	}
	made.body, err = f.writeMachineList()
	if err == nil {
		f.machineList.Store(made)
	}
	return made.body, err
}

// writeMachineList renders all machines. What it shows may be newer than the versions noted before it began: then the
// body is replaced as soon as it is asked for again.
func (f *Farm) writeMachineList() ([]byte, error) {
	out := newArray(f.MaxRows)
	for _, m := range f.listed(func(*registry.Machine) bool { return true }) {
		owner, err := f.people.open(m.owner)
		if err != nil {
			return nil, err
		}
		err = out.add(&machineRow{
			MachineID: m.ID, Alias: m.Alias, MachineType: m.runs.Type, AddTime: timestamp{unixMilli(m.AddTime)},
			Description: &m.Description, Approved: m.Approved, Username: owner.username, Latest: m.latest(),
		})
		if err != nil {
			return nil, err
		}
	}
	out.end()
	return out.buffer.Bytes(), nil
}

// listed gives machines in the order in which they were added.
func (f *Farm) listed(wanted func(*registry.Machine) bool) []listedMachine {
	var list []listedMachine
	f.Registry.View(func(s *registry.State) {
		for _, m := range s.Machines {
			if wanted(m) {
				list = append(list, listedMachine{Machine: *m, owner: f.people.seen(s.User(m.Owner))})
			}
		}
	})
	f.Runs.View(func(s *runs.State) {
		for i := range list {
			if known := s.Machines[list[i].ID]; known != nil {
				list[i].runs = *known
			}
		}
	})
	return list
}

// latest are the newest runs, newest first.
func (m *listedMachine) latest() []uint64 {
	ids := make([]uint64, 0, len(m.runs.Latest))
	for _, id := range m.runs.Latest {
		if id != 0 {
			ids = append(ids, id)
		}
	}
	return ids
}

// ownMachines answers GET /machine/user: the machines of whoever is signed in, with their secrets.
func (f *Farm) ownMachines(c *gin.Context) {
	body, err := f.ownMachinesOf(c)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	c.Header("Cache-Control", "no-store")
	_ = respond(c, body, nil)
}

func (f *Farm) ownMachinesOf(c *gin.Context) ([]byte, error) {
	need, err := gate.Need(c.Request.Header)
	if err != nil {
		return nil, err
	}
	if err := f.arrive(c.Request.Context(), need); err != nil {
		return nil, err
	}
	// The session was let in before the folds had arrived; it may have ended meanwhile, at another replica.
	principal, err := f.Access.Authorize(c, route.Session)
	if err != nil {
		return nil, err
	}
	visitor, ok := principal.(access.Visitor)
	if !ok {
		return nil, route.Errorf(http.StatusForbidden, "sign in at /user/community_login")
	}
	out := newArray(f.MaxRows)
	for _, m := range f.listed(func(m *registry.Machine) bool { return m.Owner == visitor.User }) {
		row, err := f.ownMachine(&m)
		if err != nil {
			return nil, err
		}
		if err := out.add(row); err != nil {
			return nil, err
		}
	}
	out.end()
	return out.buffer.Bytes(), nil
}

func (f *Farm) ownMachine(m *listedMachine) (*ownMachineRow, error) {
	owner, err := f.people.open(m.owner)
	if err != nil {
		return nil, err
	}
	row := &ownMachineRow{
		MachineID: m.ID, Alias: m.Alias, MachineType: m.runs.Type, AddTime: timestamp{unixMilli(m.AddTime)},
		Description: &m.Description, Approved: m.Approved, Username: owner.username, Latest: m.latest(), Count: m.runs.Runs,
	}
	if owner.email != "" {
		row.OwnerEmail, row.Email = &owner.email, &owner.email
	}
	if !m.Revoked {
		row.Secret, err = access.OpenMachineSecret(f.Keyring, m.SealedSecret)
	}
	return row, err
}
