package registry

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/schemas/event"
)

const (
	contributor = event.TestflingerRole_TESTFLINGER_ROLE_CONTRIBUTOR
	manager     = event.TestflingerRole_TESTFLINGER_ROLE_MANAGER
	admin       = event.TestflingerRole_TESTFLINGER_ROLE_ADMIN
)

func setClient(id string, role, by event.TestflingerRole, expected event.TestflingerExpected) *event.TestflingerClientSetRequested {
	m := &event.TestflingerClientSetRequested{IdHash: hash(id), Role: role, By: by, Expected: expected}
	if expected != event.TestflingerExpected_TESTFLINGER_EXPECTED_KNOWN {
		m.SecretBcrypt, m.SealedProfile = []byte("bcrypt "+id), []byte("sealed "+id)
	}
	return m
}

func TestTestflingerClientsAreMadeAndChangedUpToTheAskersRank(t *testing.T) {
	const (
		anything = event.TestflingerExpected_TESTFLINGER_EXPECTED_UNSPECIFIED
		fresh    = event.TestflingerExpected_TESTFLINGER_EXPECTED_NEW
		known    = event.TestflingerExpected_TESTFLINGER_EXPECTED_KNOWN
	)
	state := play(t, []step{
		{"the operator makes an admin", setClient("a", admin, 0, anything), Outcome{Result: Done, New: true, Role: admin}},
		{"a manager makes an admin", setClient("b", admin, manager, fresh), Outcome{Result: TestflingerMayNotCreate, Role: admin}},
		{"a manager makes a client without a role", setClient("b", 0, manager, fresh), Outcome{Result: Done, New: true, Role: contributor}},
		{"it is made again", setClient("b", 0, manager, fresh), Outcome{Result: TestflingerClientKnown}},
		{"a manager changes an admin", setClient("a", contributor, manager, known), Outcome{Result: TestflingerMayNotModify, Role: admin}},
		{"a manager makes a client an admin", setClient("b", admin, manager, known), Outcome{Result: TestflingerMayNotAssign, Role: admin}},
		{"a manager makes a client a manager", setClient("b", manager, manager, known), Outcome{Result: Done, Role: manager}},
		{"an unknown client is changed", setClient("c", 0, admin, known), Outcome{Result: UnknownTestflingerClient}},
		{
			"a client is made without a secret", &event.TestflingerClientSetRequested{IdHash: hash("c"), By: admin},
			Outcome{Result: TestflingerSecretMissing},
		},
		{"a client is deleted", &event.TestflingerClientDeleteRequested{IdHash: hash("a")}, Outcome{Result: Done}},
		{"it is deleted again", &event.TestflingerClientDeleteRequested{IdHash: hash("a")}, Outcome{Result: UnknownTestflingerClient}},
	})
	if client, ok := state.Testflinger.Client(Hash(hash("b"))); !ok || client.Role != manager || string(client.SecretBcrypt) != "bcrypt b" {
		t.Errorf("the client is %+v", client)
	}
}

func TestWhatIsNotSaidOfATestflingerClientStaysAsItWas(t *testing.T) {
	limits := func(queue string, n int64) *event.TestflingerLimits {
		return &event.TestflingerLimits{ByQueue: map[string]int64{queue: n}}
	}
	first := setClient("a", manager, 0, 0)
	first.MaxPriority, first.MaxReservation = limits("q", 1), limits("*", 2)
	second := &event.TestflingerClientSetRequested{IdHash: hash("a"), MaxPriority: limits("r", 3)}
	state := play(t, []step{
		{"made", first, Outcome{Result: Done, New: true, Role: manager}},
		{"changed", second, Outcome{Result: Done, Role: manager}},
		{
			"owner", &event.TestflingerQueueRestrictRequested{Queue: "q", IdHash: hash("a")},
			Outcome{Result: Done},
		},
	})
	got, _ := state.Testflinger.Client(Hash(hash("a")))
	want := TestflingerClient{
		SealedProfile: []byte("sealed a"), SecretBcrypt: []byte("bcrypt a"), Role: manager,
		MaxPriority: map[string]int64{"r": 3}, MaxReservation: map[string]int64{"*": 2}, AllowedQueues: []string{"q"},
	}
	if difference := cmp.Diff(want, got); difference != "" {
		t.Errorf("the client is not as it should be:\n%s", difference)
	}
}

func TestQueueThatOneOwnerLeavesIsOpenAndTheOthersKeepIt(t *testing.T) {
	restrict := func(id string) *event.TestflingerQueueRestrictRequested {
		return &event.TestflingerQueueRestrictRequested{Queue: "q", IdHash: hash(id)}
	}
	open := &event.TestflingerQueueOpenRequested{Queue: "q", IdHash: hash("a")}
	state := play(t, []step{
		{"a", setClient("a", 0, 0, 0), Outcome{Result: Done, New: true, Role: contributor}},
		{"b", setClient("b", 0, 0, 0), Outcome{Result: Done, New: true, Role: contributor}},
		{"not restricted", open, Outcome{Result: TestflingerQueueOpen}},
		{"unknown", restrict("c"), Outcome{Result: UnknownTestflingerClient}},
		{"a owns it", restrict("a"), Outcome{Result: Done}},
		{"again", restrict("a"), Outcome{Result: Done}},
		{"b owns it", restrict("b"), Outcome{Result: Done}},
		{"a leaves", open, Outcome{Result: Done}},
	})
	if owners := state.Testflinger.Owners("q"); state.Testflinger.Restricted["q"] || len(owners) != 1 || owners[0] != Hash(hash("b")) {
		t.Errorf("restricted: %t, owners: %d", state.Testflinger.Restricted["q"], len(owners))
	}
}

func TestRefreshTokensEndWithTheirClientOrWhenTheyAreRevoked(t *testing.T) {
	issue := func(token, id string) *event.TestflingerRefreshTokenIssued {
		return &event.TestflingerRefreshTokenIssued{TokenHash: hash(token), IdHash: hash(id), Expires: 1000}
	}
	revoke := func(token string) *event.TestflingerRefreshTokenRevokeRequested {
		return &event.TestflingerRefreshTokenRevokeRequested{TokenHash: hash(token)}
	}
	state := play(t, []step{
		{"nobody's", issue("0", "a"), Outcome{Result: UnknownTestflingerClient}},
		{"a", setClient("a", 0, 0, 0), Outcome{Result: Done, New: true, Role: contributor}},
		{"first", issue("1", "a"), Outcome{Result: Done}},
		{"second", issue("2", "a"), Outcome{Result: Done}},
		{"revoked", revoke("1"), Outcome{Result: Done}},
		{"revoked again", revoke("1"), Outcome{Result: RefreshTokenRevoked}},
		{"unknown", revoke("0"), Outcome{Result: UnknownRefreshToken}},
		{"a is deleted", &event.TestflingerClientDeleteRequested{IdHash: hash("a")}, Outcome{Result: Done}},
		{"gone with a", revoke("2"), Outcome{Result: UnknownRefreshToken}},
	})
	if n := len(state.Testflinger.Refresh); n != 0 {
		t.Errorf("%d tokens are left", n)
	}
}

func TestOldestRefreshTokenOfAClientGivesWay(t *testing.T) {
	issue := func(token int, id string) *event.TestflingerRefreshTokenIssued {
		return &event.TestflingerRefreshTokenIssued{TokenHash: hash(fmt.Sprint(token)), IdHash: hash(id), Expires: 1000}
	}
	revoke := func(token int) *event.TestflingerRefreshTokenRevokeRequested {
		return &event.TestflingerRefreshTokenRevokeRequested{TokenHash: hash(fmt.Sprint(token))}
	}
	steps := []step{
		{"a", setClient("a", 0, 0, 0), Outcome{Result: Done, New: true, Role: contributor}},
		{"b", setClient("b", 0, 0, 0), Outcome{Result: Done, New: true, Role: contributor}},
		{"b's", issue(-1, "b"), Outcome{Result: Done}},
	}
	for i := range maxRefresh {
		steps = append(steps, step{"a's", issue(i, "a"), Outcome{Result: Done}})
	}
	steps = append(
		steps,
		step{"the same again", issue(maxRefresh-1, "a"), Outcome{Result: Done}},
		step{"one more", issue(maxRefresh, "a"), Outcome{Result: Done}},
		step{"a's oldest", revoke(0), Outcome{Result: UnknownRefreshToken}},
		step{"a's second", revoke(1), Outcome{Result: Done}},
		step{"a's newest", revoke(maxRefresh), Outcome{Result: Done}},
		step{"b's", revoke(-1), Outcome{Result: Done}},
	)
	play(t, steps)
}

func TestSecretForOneJobIsGivenOnceAndExpiredOnesNotAtAll(t *testing.T) {
	set := func(path string, expires int64, once bool) *event.TestflingerSecretSetRequested {
		return &event.TestflingerSecretSetRequested{IdHash: hash("a"), Path: path, SealedValue: []byte(path), Expires: expires, Once: once}
	}
	take := func(path string, job uint64) *event.TestflingerSecretTaken {
		return &event.TestflingerSecretTaken{IdHash: hash("a"), Path: path, Job: job}
	}
	state := play(t, []step{
		{"nobody's", set("x", 0, false), Outcome{Result: UnknownTestflingerClient}},
		{"a", setClient("a", 0, 0, 0), Outcome{Result: Done, New: true, Role: contributor}},
		{"for ever", set("x", 0, false), Outcome{Result: Done}},
		{"for a time", set("y", 5000, false), Outcome{Result: Done}},
		{"once", set("z", 0, true), Outcome{Result: Done}},
		{"once, for a time", set("w", 5000, true), Outcome{Result: Done}},
		{"taken by no job", take("z", 0), Outcome{Result: UnknownTestflingerSecret}},
		{"taken", take("z", 7), Outcome{Result: Done}},
		{"taken by the same job", take("z", 7), Outcome{Result: Done}},
		{"taken by another", take("z", 8), Outcome{Result: UnknownTestflingerSecret}},
		{"the other one is taken", take("w", 8), Outcome{Result: Done}},
		{"deleted", &event.TestflingerSecretDeleteRequested{IdHash: hash("a"), Path: "v"}, Outcome{Result: UnknownTestflingerSecret}},
	})
	for _, tc := range []struct {
		path string
		job  uint64
		now  int64
		want bool
	}{
		{"x", 0, 1e15, true}, {"x", 7, 1e15, true}, {"y", 0, 4999, true}, {"y", 0, 5000, false}, {"z", 0, 0, false}, {"z", 7, 0, true}, {"z", 8, 0, false},
		{"w", 8, 4999, true}, {"w", 8, 5000, false},
	} {
		if _, ok := state.Testflinger.Secret(Hash(hash("a")), tc.path, tc.job, tc.now); ok != tc.want {
			t.Errorf("secret %s for job %d at %d: %t, want %t", tc.path, tc.job, tc.now, ok, tc.want)
		}
	}
}

func TestSecretsOfAClientAreBoundedAndThoseThatJobsHaveTakenGiveWay(t *testing.T) {
	set := func(path string, size int, once bool) *event.TestflingerSecretSetRequested {
		return &event.TestflingerSecretSetRequested{IdHash: hash("a"), Path: path, SealedValue: make([]byte, size), Once: once}
	}
	take := func(path string, job uint64) *event.TestflingerSecretTaken {
		return &event.TestflingerSecretTaken{IdHash: hash("a"), Path: path, Job: job}
	}
	const third = maxSecretBytes / 3
	steps := []step{
		{"a", setClient("a", 0, 0, 0), Outcome{Result: Done, New: true, Role: contributor}},
		{"first", set("x", third, true), Outcome{Result: Done}},
		{"second", set("y", third, true), Outcome{Result: Done}},
		{"more than may be", set("z", 2*third, false), Outcome{Result: TooManySecrets}},
		{"the second is taken", take("y", 1), Outcome{Result: Done}},
		{"the first is taken", take("x", 2), Outcome{Result: Done}},
		{"more than may be at all", set("z", maxSecretBytes, false), Outcome{Result: TooManySecrets}},
		{"in place of the second", set("z", 3*third/2, false), Outcome{Result: Done}},
		{"the second is gone", take("y", 1), Outcome{Result: UnknownTestflingerSecret}},
		{"the first is there", take("x", 2), Outcome{Result: Done}},
		{"smaller than before", set("z", third, false), Outcome{Result: Done}},
	}
	for i := range maxSecrets - 1 {
		steps = append(steps, step{"of many", set(fmt.Sprint(i), 1, false), Outcome{Result: Done}})
	}
	steps = append(steps, step{"the first gave way", take("x", 2), Outcome{Result: UnknownTestflingerSecret}})
	steps = append(steps, step{"one too many", set("x", 1, false), Outcome{Result: TooManySecrets}})
	play(t, steps)
}
