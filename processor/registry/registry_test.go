package registry

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

func hash(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}

func user(name, email string) *event.FarmUser {
	u := &event.FarmUser{NameHash: hash(name), SealedProfile: []byte("sealed " + name)}
	if email != "" {
		u.EmailHash = hash(email)
	}
	return u
}

func signIn(name, email, callback, session string) *event.FarmSignInRequested {
	return &event.FarmSignInRequested{
		User: user(name, email), CallbackHash: hash(callback), CallbackExpires: 1000, SessionHash: hash(session), SessionExpires: 5000,
	}
}

func addMachine(owner, alias, secret string) *event.FarmMachineAddRequested {
	return &event.FarmMachineAddRequested{OwnerNameHash: hash(owner), Alias: alias, SecretHash: hash(secret), SealedSecret: []byte(secret)}
}

func recordOf(t testing.TB, now int64, m proto.Message) eventlog.Record {
	t.Helper()
	e, err := eventlog.NewEvent("/test", m)
	if err != nil {
		t.Fatal(err)
	}
	return eventlog.Record{Event: e, Partition: eventlog.Partition{Topic: eventlog.Registry}, LogTime: now}
}

type step struct {
	name string
	m    proto.Message
	want Outcome
}

func play(t *testing.T, steps []step) *State {
	t.Helper()
	state := NewState()
	for i, s := range steps {
		record := recordOf(t, int64(i), s.m)
		if got := Apply(state, &record); got != s.want {
			t.Errorf("%s: got %+v, want %+v", s.name, got, s.want)
		}
	}
	return state
}

func TestMachinesAreDecidedByTheirOrderInTheLog(t *testing.T) {
	state := play(t, []step{
		{"jane signs in", signIn("jane", "jane@e", "c1", "s1"), Outcome{Result: Done, ID: 1}},
		{"a machine needs a known owner", addMachine("nobody", "otter", "a"), Outcome{Result: UnknownUser}},
		{"an alias is given once", addMachine("jane", "otter", "a"), Outcome{Result: Done, ID: 1}},
		{"and refused to whoever comes second", addMachine("jane", "otter", "b"), Outcome{Result: AliasTaken}},
		{"and so is a secret", addMachine("jane", "newt", "a"), Outcome{Result: SecretTaken}},
		{"only staff approves", &event.FarmMachineApproveRequested{Alias: "otter", ByNameHash: hash("jane")}, Outcome{Result: NotStaff}},
		{"the operator makes staff", &event.FarmUserSetRequested{User: &event.FarmUser{NameHash: hash("jane")}, Staff: proto.Bool(true)}, Outcome{Result: Done, ID: 1}},
		{"staff approves", &event.FarmMachineApproveRequested{Alias: "otter", ByNameHash: hash("jane")}, Outcome{Result: Done, ID: 1}},
		{"approving is idempotent", &event.FarmMachineApproveRequested{Alias: "otter", ByNameHash: hash("jane")}, Outcome{Result: Done, ID: 1}},
		{"an unknown alias is told", &event.FarmMachineApproveRequested{Alias: "newt"}, Outcome{Result: UnknownAlias}},
		{"only the owner edits", &event.FarmMachineEditRequested{MachineId: 1, ByNameHash: hash("joe")}, Outcome{Result: NotOwner}},
		{"the owner edits", &event.FarmMachineEditRequested{MachineId: 1, Description: "new", ByNameHash: hash("jane")}, Outcome{Result: Done, ID: 1}},
		{"an unknown machine is told", &event.FarmMachineEditRequested{MachineId: 9, ByNameHash: hash("jane")}, Outcome{Result: UnknownMachine}},
		{"a secret is replaced", &event.FarmMachineRotateRequested{Alias: "otter", SecretHash: hash("c")}, Outcome{Result: Done, ID: 1}},
	})
	if state.BySecret(Hash(hash("a"))) != nil || state.BySecret(Hash(hash("c"))) == nil {
		t.Error("after a rotation the old secret must find nothing and the new one the machine")
	}
	if m := state.Machine(1); !m.Approved || m.Description != "new" {
		t.Errorf("machine %+v", m)
	}
}

func TestARevokedSecretFindsNoMachineUntilItIsRotated(t *testing.T) {
	state := play(t, []step{
		{"user", signIn("jane", "", "c1", "s1"), Outcome{Result: Done, ID: 1}},
		{"machine", addMachine("jane", "otter", "a"), Outcome{Result: Done, ID: 1}},
		{"revoke", &event.FarmMachineRevokeRequested{Alias: "otter"}, Outcome{Result: Done, ID: 1}},
	})
	if state.BySecret(Hash(hash("a"))) != nil || !state.Machine(1).Revoked {
		t.Error("a revoked secret still finds its machine")
	}
}

func TestASecretThatBecameAnothersIsNotEndedByItsFormerMachine(t *testing.T) {
	state := play(t, []step{
		{"user", signIn("jane", "", "c1", "s1"), Outcome{Result: Done, ID: 1}},
		{"a machine", addMachine("jane", "otter", "a"), Outcome{Result: Done, ID: 1}},
		{"its secret ends", &event.FarmMachineRevokeRequested{Alias: "otter"}, Outcome{Result: Done, ID: 1}},
		{"another machine gets it", addMachine("jane", "newt", "a"), Outcome{Result: Done, ID: 2}},
		{"the first gets a new one", &event.FarmMachineRotateRequested{Alias: "otter", SecretHash: hash("b")}, Outcome{Result: Done, ID: 1}},
	})
	if m := state.BySecret(Hash(hash("a"))); m == nil || m.ID != 2 {
		t.Errorf("the secret finds %+v, want the second machine", m)
	}
}

func TestACallbackSignsInOnceAndAnAddressBelongsToOneUser(t *testing.T) {
	play(t, []step{
		{"jane signs in", signIn("jane", "jane@e", "c1", "s1"), Outcome{Result: Done, ID: 1}},
		{"the callback again", signIn("jane", "jane@e", "c1", "s2"), Outcome{Result: CallbackUsed}},
		{"another user with her address", signIn("joe", "jane@e", "c2", "s3"), Outcome{Result: EmailTaken}},
		{"she takes another address", signIn("jane", "j@e", "c3", "s4"), Outcome{Result: Done, ID: 1}},
		{"the old one is free", signIn("joe", "jane@e", "c4", "s5"), Outcome{Result: Done, ID: 2}},
	})
}

func TestSessionsEndByLogoutByTimeAndByErasure(t *testing.T) {
	state := play(t, []step{
		{"sign in", signIn("jane", "", "c1", "s1"), Outcome{Result: Done, ID: 1}},
		{"sign in elsewhere", signIn("jane", "", "c2", "s2"), Outcome{Result: Done, ID: 1}},
		{"log out", &event.FarmSessionEnded{SessionHash: hash("s1")}, Outcome{Result: Done, ID: 1}},
		{"log out again", &event.FarmSessionEnded{SessionHash: hash("s1")}, Outcome{}},
	})
	if state.Session(Hash(hash("s1")), time.Unix(1, 0)) != nil {
		t.Error("a session is open after its logout")
	}
	if state.Session(Hash(hash("s2")), time.Unix(1, 0)) == nil || state.Session(Hash(hash("s2")), time.Unix(5000, 0)) != nil {
		t.Error("a session must be open until it expires, and not after")
	}
	erase := recordOf(t, 9, &event.FarmUserErased{NameHash: hash("jane")})
	Apply(state, &erase)
	if u := state.User(1); !u.Erased || u.SealedProfile != nil || state.Session(Hash(hash("s2")), time.Unix(1, 0)) != nil {
		t.Errorf("an erased user keeps data or a session: %+v", u)
	}
}

func TestExpiredSessionsAreSweptByLogTime(t *testing.T) {
	state := NewState()
	for i := range 1000 {
		m := signIn("jane", "", fmt.Sprint("c", i), fmt.Sprint("s", i))
		m.SessionExpires, m.CallbackExpires = int64(i), int64(i)
		record := recordOf(t, int64(i)*1000+500, m)
		Apply(state, &record)
	}
	if n := len(state.Sessions) + len(state.Callbacks); n > 200 {
		t.Errorf("%d sessions and callbacks are kept, of which 2 are open", n)
	}
}

func TestTheFirstKeyOfALogStays(t *testing.T) {
	state := play(t, []step{
		{"first", &event.LogStarted{KeyId: "k1"}, Outcome{Result: Done}},
		{"second", &event.LogStarted{KeyId: "k2"}, Outcome{}},
	})
	if state.KeyID != "k1" {
		t.Errorf("the log's key is %q", state.KeyID)
	}
}

func TestTokensAreNamedOnceAndEndWhenRevoked(t *testing.T) {
	state := play(t, []step{
		{"add", &event.TokenAddRequested{Name: "ci", TokenHash: hash("t1"), Role: event.Role_ROLE_WRITER}, Outcome{Result: Done}},
		{"the name again", &event.TokenAddRequested{Name: "ci", TokenHash: hash("t2")}, Outcome{Result: NameTaken}},
		{"revoke", &event.TokenRevokeRequested{Name: "ci"}, Outcome{Result: Done}},
		{"revoke again", &event.TokenRevokeRequested{Name: "ci"}, Outcome{Result: UnknownToken}},
		{"the name is free", &event.TokenAddRequested{Name: "ci", TokenHash: hash("t3")}, Outcome{Result: Done}},
	})
	if state.Token(Hash(hash("t1"))) != nil || state.Token(Hash(hash("t3"))) == nil {
		t.Error("a revoked token is known, or a new one is not")
	}
}

func TestEachKeyOfADebciUserWorksUntilItIsRevoked(t *testing.T) {
	add := func(user, key string) proto.Message {
		return &event.DebciKeyAddRequested{NameHash: hash(user), SealedName: []byte("sealed " + user), KeyHash: hash(key)}
	}
	revoke := func(user, key string) proto.Message {
		return &event.DebciKeyRevokeRequested{NameHash: hash(user), KeyHash: hash(key)}
	}
	done := Outcome{Result: Done}
	state := play(t, []step{
		{"first key", add("jane", "a"), done},
		{"second key", add("jane", "b"), done},
		{"third key", add("jane", "c"), done},
		{"a key that she has", add("jane", "b"), done},
		{"a key of another's", add("joe", "a"), Outcome{Result: DebciKeyTaken}},
		{"somebody unknown", revoke("joe", "a"), Outcome{Result: UnknownDebciUser}},
		{"joe's key", add("joe", "d"), done},
		{"another's key", revoke("joe", "a"), Outcome{Result: UnknownDebciKey}},
		{"revoke one", revoke("jane", "a"), done},
		{"revoke it again", revoke("jane", "a"), Outcome{Result: UnknownDebciKey}},
	})
	works := func(key string) bool {
		user, name, ok := state.DebciKey(Hash(hash(key)))
		return ok && user == Hash(hash("jane")) && string(name) == "sealed jane"
	}
	if works("a") || !works("b") || !works("c") {
		t.Error("of three keys the revoked one must not work and the others must")
	}
	for _, m := range []proto.Message{
		&event.DebciKeyRevokeRequested{NameHash: hash("jane")}, &event.DebciUserErased{NameHash: hash("joe")},
	} {
		record := recordOf(t, 99, m)
		if got := Apply(state, &record); got != done {
			t.Errorf("%T: %+v", m, got)
		}
	}
	if len(state.DebciKeys) != 0 || len(state.DebciUsers) != 1 {
		t.Errorf("after all keys of one were revoked and the other was erased, %d keys work and %d users are known", len(state.DebciKeys), len(state.DebciUsers))
	}
}

func TestARepeatedKeyGetsTheFirstAnswerAndNoSecondEffect(t *testing.T) {
	key := &event.Idempotency{Key: []byte("k"), Body: []byte("b"), KeepSeconds: 60}
	first, other := addMachine("jane", "otter", "a"), addMachine("jane", "newt", "b")
	first.Idempotency = key
	other.Idempotency = &event.Idempotency{Key: []byte("k"), Body: []byte("c"), KeepSeconds: 60}
	state := play(t, []step{
		{"user", signIn("jane", "", "c1", "s1"), Outcome{Result: Done, ID: 1}},
		{"first", first, Outcome{Result: Done, ID: 1}},
		{"repeat", proto.Clone(first), Outcome{Result: Done, ID: 1, Repeated: true}},
		{"other body", other, Outcome{Result: KeyReused}},
	})
	if len(state.Machines) != 1 {
		t.Errorf("%d machines were made by one request", len(state.Machines))
	}
}

func TestARepeatedRotationAndRevocationTakeNoEffectAgain(t *testing.T) {
	key := func(name string) *event.Idempotency {
		return &event.Idempotency{Key: []byte(name), Body: []byte("b"), KeepSeconds: 60}
	}
	rotate := func(secret string) proto.Message {
		return &event.FarmMachineRotateRequested{Alias: "otter", SecretHash: hash(secret), Idempotency: key("rotate")}
	}
	revoke := &event.FarmMachineRevokeRequested{Alias: "otter", Idempotency: key("revoke")}
	set := &event.FarmUserSetRequested{User: user("jane", "j@e"), Staff: proto.Bool(true), Idempotency: key("set")}
	state := play(t, []step{
		{"user", set, Outcome{Result: Done, ID: 1}},
		{"machine", addMachine("jane", "otter", "a"), Outcome{Result: Done, ID: 1}},
		{"rotate", rotate("b"), Outcome{Result: Done, ID: 1}},
		{"rotate again", rotate("c"), Outcome{Result: Done, ID: 1, Repeated: true}},
		{"revoke", revoke, Outcome{Result: Done, ID: 1}},
		{"a new secret", &event.FarmMachineRotateRequested{Alias: "otter", SecretHash: hash("d")}, Outcome{Result: Done, ID: 1}},
		{"revoke again", proto.Clone(revoke), Outcome{Result: Done, ID: 1, Repeated: true}},
		{"no staff", &event.FarmUserSetRequested{User: user("jane", ""), Staff: proto.Bool(false)}, Outcome{Result: Done, ID: 1}},
		{"set again", proto.Clone(set), Outcome{Result: Done, ID: 1, Repeated: true}},
	})
	if state.BySecret(Hash(hash("c"))) != nil || state.BySecret(Hash(hash("d"))) == nil || state.User(1).Staff {
		t.Error("a repeat took effect")
	}
}

func TestARequestWhoseKeyMayBeAForgottenOneHasNoEffect(t *testing.T) {
	add := func(alias, key string, checked uint64) proto.Message {
		m := addMachine("jane", alias, alias)
		m.Idempotency = &event.Idempotency{Key: []byte(key), Body: []byte("b"), KeepSeconds: 60, Checked: checked}
		return m
	}
	state := NewState()
	state.Repeats.Limit = 1
	for i, step := range []step{
		{"user", signIn("jane", "", "c1", "s1"), Outcome{Result: Done, ID: 1}},
		{"first", add("otter", "k1", 0), Outcome{Result: Done, ID: 1}},
		{"second", add("newt", "k2", 0), Outcome{Result: Done, ID: 2}},
		{"not looked for", add("toad", "k3", 0), Outcome{Result: KeyUnchecked}},
		{"looked for", add("toad", "k3", 1), Outcome{Result: Done, ID: 3}},
	} {
		record := recordOf(t, int64(i), step.m)
		if got := Apply(state, &record); got != step.want {
			t.Errorf("%s: %+v, want %+v", step.name, got, step.want)
		}
	}
}

// TestReplicasAgree folds random histories in one replica from the beginning and in another from a stored state.
func TestReplicasAgree(t *testing.T) {
	for seed := range uint64(50) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 2))
			whole, cut := NewState(), random.IntN(300)
			whole.Repeats.Limit = 5 // some keys are forgotten early
			var resumed *State
			for i := range 300 {
				if i == cut {
					resumed = throughStore(t, whole)
				}
				record := recordOf(t, int64(i*700), randomMessage(random))
				copied := record
				want := Apply(whole, &record)
				if resumed == nil {
					continue
				}
				if got := Apply(resumed, &copied); got != want {
					t.Fatalf("record %d: one replica says %+v, the other %+v", i, want, got)
				}
			}
			if diff := cmp.Diff(whole, resumed, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("the replicas' states differ:\n%s", diff)
			}
		})
	}
}

func throughStore(t testing.TB, s *State) *State {
	t.Helper()
	bytes, err := encode(s)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := decode(bytes)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

func randomMessage(random *rand.Rand) proto.Message {
	pick := func(prefix string, n int) string { return fmt.Sprint(prefix, random.IntN(n)) }
	name, alias := pick("user", 4), pick("alias", 6)
	key := &event.Idempotency{
		Key: []byte(pick("k", 8)), Body: []byte(pick("b", 2)), KeepSeconds: 20, Checked: uint64(random.IntN(60)),
	}
	switch random.IntN(15) {
	case 0, 1:
		m := signIn(name, pick("mail", 5), pick("c", 1000), pick("s", 1000))
		m.SessionExpires, m.CallbackExpires = int64(random.IntN(300)), int64(random.IntN(300))
		return m
	case 2:
		return &event.FarmSessionEnded{SessionHash: hash(pick("s", 1000))}
	case 3:
		return &event.FarmUserSetRequested{User: user(name, pick("mail", 5)), Staff: proto.Bool(random.IntN(2) == 0), Idempotency: key}
	case 4:
		return &event.FarmUserErased{NameHash: hash(name)}
	case 5, 6:
		m := addMachine(name, alias, pick("secret", 1000))
		m.Idempotency = key
		return m
	case 7:
		return &event.FarmMachineApproveRequested{Alias: alias, ByNameHash: hash(name)}
	case 8:
		return &event.FarmMachineEditRequested{MachineId: uint64(random.IntN(8)), Description: pick("d", 9), ByNameHash: hash(name)}
	case 9:
		return &event.FarmMachineRotateRequested{Alias: alias, SecretHash: hash(pick("secret", 1000)), Idempotency: key}
	case 10:
		return &event.FarmMachineRevokeRequested{Alias: alias, Idempotency: key}
	}
	switch random.IntN(4) {
	case 0, 1:
		return &event.DebciKeyAddRequested{NameHash: hash(name), SealedName: []byte(name), KeyHash: hash(pick("dk", 20)), Idempotency: key}
	case 2:
		return &event.DebciKeyRevokeRequested{NameHash: hash(name), KeyHash: hash(pick("dk", 20))}
	}
	return &event.TokenAddRequested{Name: pick("token", 5), TokenHash: hash(pick("t", 50)), Role: event.Role_ROLE_VIEWER}
}

func FuzzApply(f *testing.F) {
	for _, m := range []proto.Message{signIn("jane", "j@e", "c", "s"), addMachine("jane", "otter", "a"), &event.FarmUserErased{NameHash: hash("jane")}} {
		record := recordOf(f, 0, m)
		f.Add(record.Type, record.Data)
	}
	f.Fuzz(func(t *testing.T, kind string, data []byte) {
		state := NewState()
		for range 2 {
			record := eventlog.Record{Event: eventlog.Event{ID: uuid.Max, Type: kind, Data: data}}
			Apply(state, &record)
		}
		if diff := cmp.Diff(state, throughStore(t, state), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("the state does not survive being stored:\n%s", diff)
		}
	})
}
