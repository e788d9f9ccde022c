package operator_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/millrace/millrace/ingest/door/doortest"
	"github.com/millrace/millrace/ingest/operator"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/keyring"
	"github.com/millrace/millrace/schemas/route"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.ReleaseMode)
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) { os.Exit(code) }))
}

// desk is an operator's door with a socket.
type desk struct {
	t        *testing.T
	log      *doortest.Log
	registry *doortest.Fold[*registry.State, registry.Outcome]
	ring     *keyring.Keyring
	engine   *gin.Engine
	letters  map[string]*event.DeadLetter
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	ring, err := keyring.Open(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	log := doortest.NewLog(time.Now)
	d := &desk{t: t, log: log, registry: doortest.NewFold(log, registry.Fold()), ring: ring, engine: gin.New(), letters: map[string]*event.DeadLetter{}}
	o := operator.New(operator.Dependencies{
		Log: log.Door(), Registry: d.registry, Keyring: ring, KeepKeys: time.Hour,
		DeadLetter: func(_ context.Context, id string) (*event.DeadLetter, error) { return d.letters[id], nil },
	})
	err = route.Mount(d.engine, o.Routes(), route.Options{
		APIs: map[string]route.API{operator.API: {Authorize: access.Socket}}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *desk) post(path, body, key string) *httptest.ResponseRecorder {
	d.t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/millrace/v1"+path, strings.NewReader(body))
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	answer := httptest.NewRecorder()
	d.engine.ServeHTTP(answer, r)
	return answer
}

// command sends a command and wants a status.
func (d *desk) command(path, body string, status int) map[string]any {
	d.t.Helper()
	answer := d.post("/admin"+path, body, "")
	var decoded map[string]any
	if err := json.Unmarshal(answer.Body.Bytes(), &decoded); err != nil || answer.Code != status {
		d.t.Fatalf("POST %s %s: %d %s, want %d", path, body, answer.Code, answer.Body, status)
	}
	return decoded
}

func (d *desk) profile(name string) *event.FarmProfile {
	d.t.Helper()
	hash := access.HashUser(d.ring, name)
	var sealed []byte
	d.registry.View(func(s *registry.State) { sealed = s.ByName(hash).SealedProfile })
	profile, err := access.OpenProfile(d.ring, hash, sealed)
	if err != nil {
		d.t.Fatal(err)
	}
	return profile
}

func TestUserSetMakesAUserAndChangesOnlyWhatItNames(t *testing.T) {
	d := newDesk(t)
	d.command("/pgperffarm/users", `{"name": "jdoe", "staff": true, "email": "Jane@Example.org"}`, 200)
	d.command("/pgperffarm/users", `{"name": "jdoe"}`, 200)
	if got := d.profile("jdoe"); got.GetUsername() != "jdoe" || got.GetEmail() != "Jane@Example.org" {
		t.Errorf("profile is %v", got)
	}
	staff := func() (is bool) {
		d.registry.View(func(s *registry.State) { is = s.User(1).Staff })
		return is
	}
	if !staff() {
		t.Error("a command that does not name staff changed it")
	}
	d.command("/pgperffarm/users", `{"name": "jdoe", "staff": false, "email": "j2@example.org"}`, 200)
	if got := d.profile("jdoe"); staff() || got.GetEmail() != "j2@example.org" {
		t.Errorf("staff is %v, profile %v", staff(), got)
	}
	refused := d.command("/pgperffarm/users", `{"name": "john", "email": "J2@EXAMPLE.ORG"}`, 409)
	if !strings.Contains(refused["error"].(string), "e-mail") {
		t.Errorf("refusal is %v", refused)
	}
}

func TestMachineAddShowsTheSecretOnce(t *testing.T) {
	d := newDesk(t)
	d.command("/pgperffarm/users", `{"name": "jdoe"}`, 200)
	body := `{"alias": "otter", "owner": "jdoe", "approved": true, "description": "lab box"}`
	var first, again operator.Machine
	for i, into := range []*operator.Machine{&first, &again} {
		answer := d.post("/admin/pgperffarm/machines", body, "k1")
		if err := json.Unmarshal(answer.Body.Bytes(), into); err != nil || answer.Code != http.StatusCreated {
			t.Fatalf("answer %d is %d %s", i, answer.Code, answer.Body)
		}
	}
	if len(first.Secret) != 32 || again != (operator.Machine{MachineID: first.MachineID, Alias: "otter"}) {
		t.Errorf("first answer is %+v, repeat is %+v; want a secret only in the first", first, again)
	}
	d.registry.View(func(s *registry.State) {
		m := s.BySecret(access.HashMachineSecret(d.ring, first.Secret))
		if m == nil || m.ID != first.MachineID || !m.Approved || m.Description != "lab box" {
			t.Errorf("machine is %+v", m)
		}
	})
}

func TestMachineTakesASecretOfTheOperators(t *testing.T) {
	d := newDesk(t)
	d.command("/pgperffarm/users", `{"name": "jdoe"}`, 200)
	got := d.command("/pgperffarm/machines", `{"alias": "otter", "owner": "jdoe", "secret": "hunter2"}`, 201)
	if got["secret"] != "hunter2" {
		t.Errorf("answer is %v", got)
	}
	d.command("/pgperffarm/machines", `{"alias": "newt", "owner": "jdoe", "secret": "hunter2"}`, 409)
	d.command("/pgperffarm/machines/rotate", `{"alias": "otter", "secret": "hunter2"}`, 200)
}

func TestARepeatedCommandIsAnsweredAsAtFirstAndHasNoSecondEffect(t *testing.T) {
	d := newDesk(t)
	d.command("/pgperffarm/users", `{"name": "jdoe"}`, 200)
	secret, _ := d.command("/pgperffarm/machines", `{"alias": "otter", "owner": "jdoe"}`, 201)["secret"].(string)
	d.command("/tokens", `{"name": "ci", "role": "writer"}`, 201)
	for _, tc := range []struct{ path, body, undo, undoBody string }{
		{"/pgperffarm/machines/rotate", `{"alias": "otter"}`, "/pgperffarm/machines/rotate", `{"alias": "otter", "secret": "` + secret + `"}`},
		{"/pgperffarm/machines/revoke", `{"alias": "otter"}`, "/pgperffarm/machines/rotate", `{"alias": "otter", "secret": "` + secret + `"}`},
		{"/pgperffarm/users", `{"name": "jdoe", "staff": true}`, "/pgperffarm/users", `{"name": "jdoe", "staff": false}`},
		{"/users/erase", `{"name": "jdoe"}`, "/pgperffarm/users", `{"name": "jdoe", "email": "j@example.org"}`},
		{"/tokens/revoke", `{"name": "ci"}`, "/tokens", `{"name": "ci", "role": "writer"}`},
	} {
		first := d.post("/admin"+tc.path, tc.body, "k")
		shown := map[string]any{}
		if err := json.Unmarshal(first.Body.Bytes(), &shown); err != nil || first.Code != http.StatusOK {
			t.Fatalf("%s: %d %s", tc.path, first.Code, first.Body)
		}
		delete(shown, "secret")
		d.post("/admin"+tc.undo, tc.undoBody, "")
		var before, after uint64
		d.registry.View(func(s *registry.State) { before = s.Changes })
		again := map[string]any{}
		repeat := d.post("/admin"+tc.path, tc.body, "k")
		if err := json.Unmarshal(repeat.Body.Bytes(), &again); err != nil || repeat.Code != first.Code || !cmp.Equal(again, shown) {
			t.Errorf("%s: answered %v, and the repeat %d %v", tc.path, shown, repeat.Code, again)
		}
		if other := d.post("/admin"+tc.path, tc.body+" ", "k"); other.Code != http.StatusUnprocessableEntity {
			t.Errorf("%s: another body under the key: %d %s, want 422", tc.path, other.Code, other.Body)
		}
		if d.registry.View(func(s *registry.State) { after = s.Changes }); before != after {
			t.Errorf("%s: the repeat took effect", tc.path)
		}
	}
	d.registry.View(func(s *registry.State) {
		if s.BySecret(access.HashMachineSecret(d.ring, secret)) == nil {
			t.Error("a repeat ended the machine's newer secret")
		}
	})
	if got := d.profile("jdoe"); got.GetEmail() != "j@example.org" {
		t.Errorf("a repeated erasure erased a user who came back: profile %v", got)
	}
}

func TestRotatedAndRevokedSecretsFindNoMachine(t *testing.T) {
	d := newDesk(t)
	d.command("/pgperffarm/users", `{"name": "jdoe"}`, 200)
	first, _ := d.command("/pgperffarm/machines", `{"alias": "otter", "owner": "jdoe"}`, 201)["secret"].(string)
	second, _ := d.command("/pgperffarm/machines/rotate", `{"alias": "otter"}`, 200)["secret"].(string)
	finds := func(secret string) (found bool) {
		d.registry.View(func(s *registry.State) { found = s.BySecret(access.HashMachineSecret(d.ring, secret)) != nil })
		return found
	}
	if finds(first) || !finds(second) {
		t.Error("after rotation not exactly the new secret finds the machine")
	}
	d.command("/pgperffarm/machines/revoke", `{"alias": "otter"}`, 200)
	if finds(second) {
		t.Error("a revoked secret finds the machine")
	}
}

func TestApproveByTheOperatorNeedsNoStaff(t *testing.T) {
	d := newDesk(t)
	d.command("/pgperffarm/users", `{"name": "jdoe"}`, 200)
	d.command("/pgperffarm/machines", `{"alias": "otter", "owner": "jdoe"}`, 201)
	d.command("/pgperffarm/machines/approve", `{"alias": "otter"}`, 200)
	d.registry.View(func(s *registry.State) {
		if !s.ByAlias("otter").Approved {
			t.Error("the machine is not approved")
		}
	})
}

func TestTokenIsShownOnceAndEndsWhenRevoked(t *testing.T) {
	d := newDesk(t)
	answers := make([]operator.Token, 2)
	for i := range answers {
		answer := d.post("/admin/tokens", `{"name": "ci", "role": "writer"}`, "k1")
		if err := json.Unmarshal(answer.Body.Bytes(), &answers[i]); err != nil || answer.Code != http.StatusCreated {
			t.Fatalf("answer is %d %s", answer.Code, answer.Body)
		}
	}
	if len(answers[0].Token) < 43 || answers[1].Token != "" {
		t.Errorf("answers are %+v, want a token only in the first", answers)
	}
	role := func() (role event.Role) {
		d.registry.View(func(s *registry.State) {
			if token := s.Token(access.HashToken(d.ring, answers[0].Token)); token != nil {
				role = token.Role
			}
		})
		return role
	}
	if role() != event.Role_ROLE_WRITER {
		t.Errorf("role is %s, want writer", role())
	}
	d.command("/tokens", `{"name": "ci", "role": "viewer"}`, 409)
	d.command("/tokens/revoke", `{"name": "ci"}`, 200)
	if role() != event.Role_ROLE_UNSPECIFIED {
		t.Error("a revoked token is still known")
	}
	d.command("/tokens", `{"name": "ci", "role": "viewer"}`, 201)
}

func TestEraseDeletesTheUsersKeyAndMayBeRepeated(t *testing.T) {
	d := newDesk(t)
	d.command("/pgperffarm/users", `{"name": "jdoe", "email": "jane@example.org"}`, 200)
	hash := access.HashUser(d.ring, "jdoe")
	var sealed []byte
	d.registry.View(func(s *registry.State) { sealed = s.ByName(hash).SealedProfile })
	for range 2 {
		d.command("/users/erase", `{"name": "jdoe"}`, 200)
	}
	if _, err := access.OpenProfile(d.ring, hash, sealed); !errors.Is(err, keyring.ErrErased) {
		t.Errorf("the profile gives %v, want ErrErased", err)
	}
	d.command("/pgperffarm/users", `{"name": "john", "email": "jane@example.org"}`, 200)
}

func TestEraseKeepsTheKeyWhenTheLogDoesNotTakeIt(t *testing.T) {
	d := newDesk(t)
	d.command("/pgperffarm/users", `{"name": "jdoe", "email": "jane@example.org"}`, 200)
	d.log.Fail(func(eventlog.Event) error { return eventlog.ErrUnsettled })
	d.command("/users/erase", `{"name": "jdoe"}`, 503)
	if got := d.profile("jdoe").GetEmail(); got != "jane@example.org" {
		t.Errorf("e-mail is %q", got)
	}
}

func TestCommandsAboutWhatIsNotThereAre404(t *testing.T) {
	d := newDesk(t)
	for path, body := range map[string]string{
		"/pgperffarm/machines":         `{"alias": "otter", "owner": "nobody"}`,
		"/pgperffarm/machines/rotate":  `{"alias": "nobody"}`,
		"/pgperffarm/machines/revoke":  `{"alias": "nobody"}`,
		"/pgperffarm/machines/approve": `{"alias": "nobody"}`,
		"/tokens/revoke":               `{"name": "nobody"}`,
		"/users/erase":                 `{"name": "nobody"}`,
	} {
		d.command(path, body, 404)
	}
}

func TestCommandsThatAreWrongAre400NamingTheMember(t *testing.T) {
	d := newDesk(t)
	d.command("/pgperffarm/users", `{"name": "jdoe"}`, 200)
	d.command("/pgperffarm/machines", `{"alias": "otter", "owner": "jdoe"}`, 201)
	cases := []struct{ path, body, says string }{
		{"/pgperffarm/users", `{"name": ""}`, "name"},
		{"/pgperffarm/users", `{"name": "a\u0007"}`, "name"},
		{"/pgperffarm/users", `{"name": "a", "email": "nowhere"}`, "email"},
		{"/pgperffarm/users", `{"name": "a", "stuff": true}`, "stuff"},
		{"/pgperffarm/users", `{"name": "a", "staff": "yes"}`, "staff"},
		{"/pgperffarm/machines", `{"alias": "", "owner": "jdoe"}`, "alias"},
		{"/pgperffarm/machines", `{"alias": "a"}`, "owner"},
		{"/pgperffarm/machines", `{"alias": "a", "owner": "jdoe", "secret": "with space"}`, "secret"},
		{"/pgperffarm/machines", `{"alias": "a", "owner": "jdoe", "secret": "` + strings.Repeat("a", 129) + `"}`, "secret"},
		{"/pgperffarm/machines", `{"alias": "a", "owner": "jdoe", "description": "` + strings.Repeat("a", 201) + `"}`, "description"},
		{"/tokens", `{"name": "ci", "role": "root"}`, "role"},
		{"/tokens", `{"name": "ci"}`, "role"},
		{"/tokens", `{`, "JSON"},
	}
	for _, tc := range cases {
		if got := d.command(tc.path, tc.body, 400)["error"].(string); !strings.Contains(got, tc.says) {
			t.Errorf("POST %s %s: %q, want it to say %q", tc.path, tc.body, got, tc.says)
		}
	}
	if got := d.command("/pgperffarm/machines", `{"alias": "otter", "owner": "jdoe"}`, 409)["error"].(string); !strings.Contains(got, "alias") {
		t.Errorf("refusal is %q", got)
	}
}

// letter is a dead letter of an upload.
func letter(t *testing.T, d *desk) (id string, original eventlog.Event) {
	t.Helper()
	original, err := eventlog.NewEvent("/pgperffarm", &event.FarmUploadRequested{MachineId: 7})
	if err != nil {
		t.Fatal(err)
	}
	id = uuid.NewString()
	d.letters[id] = &event.DeadLetter{
		Place:   &event.Place{Epoch: 1, Topic: eventlog.Runs, Offset: 3},
		EventId: original.ID.String(), EventType: original.Type, Value: original.Data,
		Headers: []*event.RecordHeader{
			{Key: "ce_specversion", Value: []byte("1.0")}, {Key: "ce_id", Value: []byte(original.ID.String())},
			{Key: "ce_type", Value: []byte(original.Type)}, {Key: "ce_source", Value: []byte(original.Source)},
		},
	}
	return id, original
}

func TestRequeueAppendsTheRecordOnceMoreAndSaysSo(t *testing.T) {
	d := newDesk(t)
	id, original := letter(t, d)
	var answers []operator.Requeued
	for range 2 {
		answer := d.post("/dead-letters/"+id+"/requeue", "", "")
		var decoded operator.Requeued
		if err := json.Unmarshal(answer.Body.Bytes(), &decoded); err != nil || answer.Code != http.StatusAccepted {
			t.Fatalf("answer is %d %s", answer.Code, answer.Body)
		}
		answers = append(answers, decoded)
	}
	if answers[0] != answers[1] {
		t.Errorf("a repeated requeue is another event: %+v", answers)
	}
	again := d.log.Records(eventlog.Runs)[0].Event
	if again.ID == original.ID || again.ID.String() != answers[0].RequeuedAs || again.RequeueOf != original.ID {
		t.Errorf("requeued as %s, which repeats %s; want a new id that repeats %s", again.ID, again.RequeueOf, original.ID)
	}
	if diff := cmp.Diff(original.Data, again.Data); diff != "" || again.Type != original.Type || again.Source != original.Source {
		t.Errorf("the record differs: %s", diff)
	}
	noted, err := d.log.Records(eventlog.DeadLetters)[0].Decode()
	if m, ok := noted.(*event.DeadLetterRequeued); err != nil || !ok || m.GetDeadLetterId() != id || m.GetRequeuedAs() != again.ID.String() {
		t.Errorf("noted is %v", noted)
	}
}

func TestRequeueOfWhatIsNoDeadLetterIs404(t *testing.T) {
	d := newDesk(t)
	for _, id := range []string{"7", uuid.NewString()} {
		if answer := d.post("/dead-letters/"+id+"/requeue", "", ""); answer.Code != http.StatusNotFound {
			t.Errorf("answer is %d %s, want 404", answer.Code, answer.Body)
		}
	}
}

func TestRequeueOfARecordWithoutEnvelopeIs422(t *testing.T) {
	d := newDesk(t)
	id, _ := letter(t, d)
	d.letters[id].Headers = nil
	answer := d.post("/dead-letters/"+id+"/requeue", "", "")
	if answer.Code != http.StatusUnprocessableEntity || !strings.Contains(answer.Body.String(), "envelope") {
		t.Errorf("answer is %d %s, want 422", answer.Code, answer.Body)
	}
	if n := len(d.log.Records(eventlog.Runs)); n != 0 {
		t.Errorf("%d records were appended", n)
	}
}
