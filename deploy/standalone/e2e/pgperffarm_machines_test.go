package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// own finds a machine among those that a caller's profile page shows.
func (c *caller) own(t testing.TB, alias string) map[string]any {
	t.Helper()
	rows := c.get(t, "/machine/user").rows(t)
	i := slices.IndexFunc(rows, func(row map[string]any) bool { return row["alias"] == alias })
	if i < 0 {
		t.Fatalf("/machine/user has no machine %q: %v", alias, rows)
	}
	return rows[i]
}

func TestMachineGoesFromTheRequestToTheFirstRun(t *testing.T) {
	covers(t, "POST /machine/add", "GET /machine/user", "GET /machine/list", "POST /machine/approve", "POST /run/upload")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		jane, boss := lab.browser(t, Unique("jane")), lab.browser(t, staff)
		alias := Unique("otter")
		answer := jane.post(t, "/machine/add", fmt.Sprintf(`{"alias": %q, "description": "lab box"}`, alias))
		answer.is(t, http.StatusCreated, "Machine added successfully!")
		if kind := answer.Header.Get("Content-Type"); !strings.HasPrefix(kind, "text/plain") {
			t.Errorf("Content-Type is %q, want text", kind)
		}
		row := jane.own(t, alias)
		m := machine{lab: lab, Machine: Machine{ID: uint64(row["machine_id"].(float64)), Alias: alias, Secret: row["machine_secret"].(string)}}
		wantMembers(t, row, map[string]any{"approved": false, "machine_type": "", "description": "lab box", "count": 0.0, "latest": []any{}})
		m.upload(t, smallDocument(0).body()).refuses(t, http.StatusNotAcceptable, "approval")
		wantMembers(t, jane.own(t, alias), map[string]any{"machine_type": "", "count": 0.0})
		boss.post(t, "/machine/approve", fmt.Sprintf(`{"alias": %q}`, alias)).is(t, http.StatusCreated, "Machine approved successfully!")
		wantMembers(t, jane.own(t, alias), map[string]any{"approved": true})
		id := m.store(t, smallDocument(0))
		wantMembers(t, jane.own(t, alias), map[string]any{"machine_type": "aarch64", "count": 1.0, "latest": []any{float64(id)}})
		listed := lab.visitor(t).get(t, "/machine/list")
		if strings.Contains(string(listed.Body), m.Secret) || strings.Contains(string(listed.Body), "machine_secret") {
			t.Errorf("/machine/list shows the secret: %s", listed.Body)
		}
	})
}

func wantMembers(t testing.TB, row, want map[string]any) {
	t.Helper()
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if got := fmt.Sprint(row[key]); got != fmt.Sprint(want[key]) {
			t.Errorf("%s is %s, want %v", key, got, want[key])
		}
	}
}

// addRefusals are bodies of /machine/add that are refused, and whether the answer's body is empty (contract 5.2.3).
var addRefusals = map[string]struct {
	body  string
	empty bool
}{
	"nothing":                    {"", false},
	"no JSON":                    {"alias=otter", false},
	"cut off":                    {`{"alias": "x", "description": "`, false},
	"an array":                   {`[{"alias": "x", "description": ""}]`, false},
	"a string":                   {`"x"`, false},
	"null":                       {`null`, false},
	"two values":                 {`{"alias": "x", "description": ""} {}`, false},
	"no alias":                   {`{"description": ""}`, false},
	"no description":             {`{"alias": "x"}`, false},
	"alias is null":              {`{"alias": null, "description": ""}`, false},
	"alias is a number":          {`{"alias": 7, "description": ""}`, false},
	"description is an object":   {`{"alias": "x", "description": {}}`, false},
	"alias twice":                {`{"alias": "x", "alias": "y", "description": ""}`, false},
	"too deep":                   {`{"alias": "x", "description": "", "more": ` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`, false},
	"a lone surrogate":           {`{"alias": "x\ud800", "description": ""}`, false},
	"not UTF-8":                  {"{\"alias\": \"x\xff\", \"description\": \"\"}", false},
	"empty alias":                {`{"alias": "", "description": ""}`, true},
	"long alias":                 {`{"alias": "` + strings.Repeat("ä", 101) + `", "description": ""}`, true},
	"long description":           {`{"alias": "x", "description": "` + strings.Repeat("ä", 201) + `"}`, true},
	"alias with a NUL":           {`{"alias": "x\u0000", "description": ""}`, true},
	"description with a NUL":     {`{"alias": "x", "description": "\u0000"}`, true},
	"alias with a line feed":     {`{"alias": "x\ny", "description": ""}`, true},
	"a description that is null": {`{"alias": "x", "description": null}`, false},
}

func TestMachineAddRefusesWhatIsNoMachine(t *testing.T) {
	covers(t, "POST /machine/add")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		jane := lab.browser(t, Unique("jane"))
		for _, name := range slices.Sorted(maps.Keys(addRefusals)) {
			tc := addRefusals[name]
			answer := jane.post(t, "/machine/add", tc.body)
			if tc.empty {
				answer.is(t, http.StatusBadRequest, "")
			} else {
				answer.refuses(t, http.StatusBadRequest)
			}
			if t.Failed() {
				t.Fatalf("the case is: %s", name)
			}
		}
		jane.post(t, "/machine/add", `{"alias": "x", "description": "`+strings.Repeat("x", 1<<20)+`"}`).refuses(t, http.StatusRequestEntityTooLarge, "65536")
		jane.get(t, "/machine/user").is(t, http.StatusOK, "[]")
		alias := Unique(strings.Repeat("ä", 60) + "\"<b>")
		body := fmt.Sprintf(`{"alias": %q, "description": "%s", "more": [1]}`, alias, strings.Repeat("ö", 200))
		jane.post(t, "/machine/add", body).Want(t, http.StatusCreated)
		wantMembers(t, jane.own(t, alias), map[string]any{"description": strings.Repeat("ö", 200)})
		jane.post(t, "/machine/add", body).is(t, http.StatusBadRequest, "")
		lab.browser(t, Unique("john")).post(t, "/machine/add", body).is(t, http.StatusBadRequest, "")
	})
}

func TestOnlyStaffApproves(t *testing.T) {
	covers(t, "POST /machine/approve")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		jane, boss := lab.browser(t, Unique("jane")), lab.browser(t, staff)
		alias := Unique("otter")
		jane.post(t, "/machine/add", fmt.Sprintf(`{"alias": %q, "description": ""}`, alias)).Want(t, http.StatusCreated)
		request := fmt.Sprintf(`{"alias": %q}`, alias)
		jane.post(t, "/machine/approve", request).is(t, http.StatusForbidden, "")
		wantMembers(t, jane.own(t, alias), map[string]any{"approved": false})
		for range 2 {
			boss.post(t, "/machine/approve", request).is(t, http.StatusCreated, "Machine approved successfully!")
		}
		boss.post(t, "/machine/approve", `{"alias": "nobody's"}`).refuses(t, http.StatusNotFound)
		for _, body := range []string{"", "alias", "[]", "{}", `{"alias": null}`, `{"alias": 7}`, `{"Alias": "x"}`} {
			boss.post(t, "/machine/approve", body).refuses(t, http.StatusBadRequest)
		}
		deputy := Unique("deputy")
		lab.operate(t, "/pgperffarm/users", map[string]any{"name": deputy, "staff": true})
		lab.browser(t, deputy).post(t, "/machine/approve", request).Want(t, http.StatusCreated)
		lab.operate(t, "/pgperffarm/users", map[string]any{"name": deputy, "staff": false})
		lab.browser(t, deputy).post(t, "/machine/approve", request).is(t, http.StatusForbidden, "")
	})
}

func TestOnlyTheOwnerEditsAndOnlyTheDescription(t *testing.T) {
	covers(t, "POST /machine/edit/:machine_id")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		m := lab.newMachine(t)
		owner := lab.browser(t, m.Owner)
		path := fmt.Sprintf("/machine/edit/%d", m.ID)
		owner.post(t, path, `{"description": "moved", "alias": "stolen", "approved": false}`).is(t, http.StatusCreated, "")
		wantMembers(t, owner.own(t, m.Alias), map[string]any{"description": "moved", "approved": true})
		owner.post(t, path, `{"description": ""}`).is(t, http.StatusCreated, "")
		wantMembers(t, owner.own(t, m.Alias), map[string]any{"description": ""})
		for name, other := range map[string]*caller{
			"a stranger": lab.browser(t, Unique("john")), "staff": lab.browser(t, staff),
			"nobody": lab.visitor(t).with("Cookie", "csrftoken=t").with("X-CSRFToken", "t"),
		} {
			other.post(t, path, `{"description": "mine"}`).refuses(t, http.StatusForbidden)
			if t.Failed() {
				t.Fatalf("the caller is %s", name)
			}
		}
		for _, body := range []string{
			"", "x", "[]", "{}", `{"description": null}`, `{"description": 7}`, `{"description": "` + strings.Repeat("x", 201) + `"}`, `{"description": "\u0000"}`,
		} {
			owner.post(t, path, body).refuses(t, http.StatusBadRequest)
		}
		wantMembers(t, owner.own(t, m.Alias), map[string]any{"description": ""})
	})
}

func TestMachinesAreListedInTheOrderOfTheirAddingWithTheThreeNewestRuns(t *testing.T) {
	covers(t, "GET /machine/list", "GET /machine/user")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		owner := Unique("owner")
		lab.operate(t, "/pgperffarm/users", map[string]any{"name": owner})
		machines := []machine{lab.machineOf(t, owner), lab.machineOf(t, owner), lab.machineOf(t, owner)}
		var runs []uint64
		for n := range 5 {
			runs = append([]uint64{machines[1].store(t, smallDocument(n))}, runs...)
		}
		var order []string
		for _, row := range lab.browser(t, owner).get(t, "/machine/user").rows(t) {
			order = append(order, row["alias"].(string))
		}
		if want := []string{machines[0].Alias, machines[1].Alias, machines[2].Alias}; !slices.Equal(order, want) {
			t.Errorf("/machine/user has %v, want %v", order, want)
		}
		wantMembers(t, lab.browser(t, owner).own(t, machines[1].Alias), map[string]any{"count": 5.0, "latest": runs[:3]})
		last := 0.0
		for _, row := range lab.visitor(t).get(t, "/machine/list").rows(t) {
			if id := row["machine_id"].(float64); id <= last {
				t.Errorf("machine %v comes behind machine %v", id, last)
			} else {
				last = id
			}
		}
	})
}
