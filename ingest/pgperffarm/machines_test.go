package pgperffarm_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/schemas/eventlog"
)

// quoted is a text as JSON.
func quoted(text string) string {
	encoded, _ := json.Marshal(text)
	return string(encoded)
}

func TestMachineIsAddedUnapprovedForItsOwner(t *testing.T) {
	l := newLab(t)
	jane := l.signIn("jdoe")
	answer := l.post("/machine/add", `{"alias": "otter", "description": "lab box"}`, jane)
	want(t, answer, http.StatusCreated, "Machine added successfully!")
	if position(t, answer, eventlog.Registry) != l.lastOffset(eventlog.Registry) {
		t.Errorf("position is %q", answer.Header().Get(eventlog.PositionHeader))
	}
	l.registry.View(func(s *registry.State) {
		m := s.ByAlias("otter")
		if m == nil || m.Approved || m.Description != "lab box" || m.Owner != 1 {
			t.Errorf("machine is %+v, want an unapproved one of user 1", m)
		}
	})
}

func TestMachineAddRefusals(t *testing.T) {
	l := newLab(t)
	jane := l.signIn("jdoe")
	want(t, l.post("/machine/add", `{"alias": "taken", "description": ""}`, jane), http.StatusCreated, "Machine added successfully!")
	empty := map[string]string{
		"alias taken":          `{"alias": "taken", "description": ""}`,
		"alias empty":          `{"alias": "", "description": ""}`,
		"alias too long":       `{"alias": ` + quoted(strings.Repeat("ö", 101)) + `, "description": ""}`,
		"description too long": `{"alias": "a", "description": ` + quoted(strings.Repeat("ö", 201)) + `}`,
		"alias with NUL":       `{"alias": "a\u0000", "description": ""}`,
	}
	for name, body := range empty {
		t.Run(name, func(t *testing.T) {
			answer := l.post("/machine/add", body, jane)
			want(t, answer, http.StatusBadRequest, "")
			if answer.Header().Get("Millrace-Reason") == "" {
				t.Error("nothing says why")
			}
		})
	}
	explained := map[string]struct{ body, says string }{
		"no alias":            {`{"description": ""}`, "alias"},
		"no description":      {`{"alias": "a"}`, "description"},
		"alias is a number":   {`{"alias": 7, "description": ""}`, "alias"},
		"description is null": {`{"alias": "a", "description": null}`, "description"},
		"an array":            {`[]`, "object"},
		"not JSON":            {`{`, "JSON"},
		"nothing":             {``, "JSON"},
		"deep":                {strings.Repeat("[", 50_000), "deeper"},
		"lone surrogate":      {`{"alias": "\ud800", "description": ""}`, "body"},
	}
	for name, tc := range explained {
		t.Run(name, func(t *testing.T) {
			answer := l.post("/machine/add", tc.body, jane)
			wantSaying(t, answer, http.StatusBadRequest, `{"error":"`, tc.says)
		})
	}
	want(t, l.post("/machine/add", `{"alias": `+quoted(strings.Repeat("ö", 100))+`, "description": `+quoted(strings.Repeat("ö", 200))+`}`, jane),
		http.StatusCreated, "Machine added successfully!")
}

func TestMachineFormOverTheLimitIs413(t *testing.T) {
	l := newLab(t)
	jane := l.signIn("jdoe")
	wantSaying(t, l.post("/machine/add", `{"alias": "`+strings.Repeat("a", 70_000)+`"}`, jane), http.StatusRequestEntityTooLarge, "65536")
}

func TestRepeatedMachineAddMakesOneMachine(t *testing.T) {
	l := newLab(t)
	jane := l.signIn("jdoe")
	jane.Set("Idempotency-Key", "k1")
	body := `{"alias": "otter", "description": ""}`
	for range 2 {
		want(t, l.post("/machine/add", body, jane), http.StatusCreated, "Machine added successfully!")
	}
	want(t, l.post("/machine/add/", body, jane), http.StatusCreated, "Machine added successfully!")
	wantSaying(t, l.post("/machine/add", `{"alias": "beaver", "description": ""}`, jane), http.StatusUnprocessableEntity, "Idempotency-Key")
	l.registry.View(func(s *registry.State) {
		if len(s.Machines) != 1 {
			t.Errorf("there are %d machines, want 1", len(s.Machines))
		}
	})
}

func TestStaffApprovesByAlias(t *testing.T) {
	l := newLab(t)
	jane, boss := l.signIn("jdoe"), l.signIn("boss")
	l.post("/machine/add", `{"alias": "otter", "description": ""}`, jane)
	for range 2 {
		want(t, l.post("/machine/approve", `{"alias": "otter"}`, boss), http.StatusCreated, "Machine approved successfully!")
	}
	wantSaying(t, l.post("/machine/approve", `{"alias": "newt"}`, boss), http.StatusNotFound, `{"error":"`)
	wantSaying(t, l.post("/machine/approve", `{}`, boss), http.StatusBadRequest, `{"error":"`, "alias")
	wantSaying(t, l.post("/machine/approve", `x`, boss), http.StatusBadRequest, `{"error":"`)
	want(t, l.post("/machine/approve", `{"alias": "otter"}`, jane), http.StatusForbidden, "")
	l.registry.View(func(s *registry.State) {
		if !s.ByAlias("otter").Approved {
			t.Error("the machine is not approved")
		}
	})
}

func TestStaffMadeByTheOperatorAtAnotherReplicaMayApproveAtOnce(t *testing.T) {
	shared := newInstallation(t)
	here, there := shared.door(t), shared.door(t)
	jane := here.signIn("jdoe")
	here.post("/machine/add", `{"alias": "otter", "description": ""}`, jane)
	want(t, here.post("/machine/approve", `{"alias": "otter"}`, jane), http.StatusForbidden, "")
	there.operate("/pgperffarm/users", `{"name": "jdoe", "staff": true}`)
	want(t, here.post("/machine/approve", `{"alias": "otter"}`, jane), http.StatusCreated, "Machine approved successfully!")
}

func TestOnlyTheOwnerEdits(t *testing.T) {
	l := newLab(t)
	jane, other, boss := l.signIn("jdoe"), l.signIn("other"), l.signIn("boss")
	l.post("/machine/add", `{"alias": "otter", "description": "before"}`, jane)
	body := `{"description": "after"}`
	wantSaying(t, l.post("/machine/edit/1", body, other), http.StatusForbidden)
	wantSaying(t, l.post("/machine/edit/1", body, boss), http.StatusForbidden)
	anonymous := http.Header{"Cookie": {"csrftoken=t"}, "X-Csrftoken": {"t"}}
	wantSaying(t, l.post("/machine/edit/1", body, anonymous), http.StatusForbidden, "sign in")
	for _, path := range []string{"/machine/edit/1", "/machine/edit/1/"} {
		want(t, l.post(path, body, jane), http.StatusCreated, "")
	}
	l.registry.View(func(s *registry.State) {
		if got := s.Machine(1).Description; got != "after" {
			t.Errorf("description is %q, want after", got)
		}
	})
}

func TestEditOfWhatIsNoMachineIs404(t *testing.T) {
	l := newLab(t)
	jane := l.signIn("jdoe")
	for _, id := range []string{"0", "7", "-1", "abc", "1e3", "+1", "9223372036854775808", "%31x"} {
		answer := l.post("/machine/edit/"+id, `{"description": ""}`, jane)
		wantSaying(t, answer, http.StatusNotFound, `{"error":"`)
	}
}

func TestEditRefusesWhatIsNoDescription(t *testing.T) {
	l := newLab(t)
	jane := l.signIn("jdoe")
	l.post("/machine/add", `{"alias": "otter", "description": "before"}`, jane)
	for _, body := range []string{`{}`, `{"description": 1}`, `{"description": null}`, `{"description": ` + quoted(strings.Repeat("a", 201)) + `}`} {
		wantSaying(t, l.post("/machine/edit/1", body, jane), http.StatusBadRequest, `{"error":"`, "description")
	}
	wantSaying(t, l.post("/machine/edit/1", `x`, jane), http.StatusBadRequest, `{"error":"`, "JSON")
	l.registry.View(func(s *registry.State) {
		if got := s.Machine(1).Description; got != "before" {
			t.Errorf("description is %q, want before", got)
		}
	})
}

func TestKeyOfOneMachineDoesNotAnswerForAnother(t *testing.T) {
	l := newLab(t)
	jane := l.signIn("jdoe")
	l.post("/machine/add", `{"alias": "otter", "description": ""}`, jane)
	l.post("/machine/add", `{"alias": "beaver", "description": ""}`, jane)
	jane.Set("Idempotency-Key", "k1")
	want(t, l.post("/machine/edit/1", `{"description": "new"}`, jane), http.StatusCreated, "")
	want(t, l.post("/machine/edit/2", `{"description": "new"}`, jane), http.StatusCreated, "")
	l.registry.View(func(s *registry.State) {
		if got := s.Machine(2).Description; got != "new" {
			t.Errorf("description of machine 2 is %q, want new", got)
		}
	})
}
