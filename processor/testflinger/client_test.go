package testflinger

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
)

func TestWhoMaySubmitWhat(t *testing.T) {
	jane := &Permission{
		ClientID: "jane", Role: Admin, MaxPriority: map[string]int64{"q": 5, "*": 2}, AllowedQueues: []string{"own"},
		MaxReservation: map[string]int64{"q": 30000, "*": 25000},
	}
	plain := &Permission{ClientID: "joe", Role: Contributor}
	job := func(queue string, priority, reservation int64) *Job {
		return &Job{Queue: queue, Priority: priority, Reservation: reservation}
	}
	for _, tc := range []struct {
		by         *Permission
		job        *Job
		restricted bool
		want       string
	}{
		{nil, job("q", 0, 21600), false, "ok"},
		{nil, job("q", 1, 0), false, "401 Authentication required for setting priority: 1"},
		{nil, job("q", -1, 0), false, "401 Authentication required for setting priority: -1"},
		{nil, job("own", 0, 0), true, "401 Authentication required to push to restricted queue: own"},
		{nil, job("q", 0, 21601), false, "401 Authentication required for setting timeout: 21601"},
		{jane, job("q", 5, 0), false, "ok"},
		{jane, job("q", 6, 0), false, "403 Not enough permissions to push to q with priority 6"},
		{jane, job("r", 2, 0), false, "ok"},
		{jane, job("r", 3, 0), false, "403 Not enough permissions to push to r with priority 3"},
		{plain, job("r", 1, 0), false, "403 Not enough permissions to push to r with priority 1"},
		{plain, job("r", -7, 0), false, "ok"},
		{jane, job("own", 0, 0), true, "ok"},
		{jane, job("q", 0, 0), true, "403 Not enough permissions to push to the restricted queue: q"},
		{jane, job("q", 0, 30000), false, "ok"},
		{jane, job("r", 0, 25001), false, "403 Not enough permissions to push to r with reservation timeout 25001"},
		{plain, job("r", 0, 21601), false, "403 Not enough permissions to push to r with reservation timeout 21601"},
		{jane, job("x", 9, 99999), true, "403 Not enough permissions to push to x with priority 9"},
	} {
		got := "ok"
		if r := tc.by.MaySubmit(tc.job, tc.restricted); r != nil {
			got = fmt.Sprint(r.Status, " ", r.Message)
		}
		if got != tc.want {
			t.Errorf("%+v: %s, want %s", tc.job, got, tc.want)
		}
	}
}

// clock is a time that tests move.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func TestTokensSayWhatTheirClientMayUntilTheyExpire(t *testing.T) {
	for g, life := range map[Generation]time.Duration{Seed: 30 * time.Second, Latest: 10*time.Minute + 5*time.Second} {
		c := &clock{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
		tokens := NewTokens(g, []byte("key"), c.now)
		given := Permission{
			ClientID: "jane", Role: Manager, MaxPriority: map[string]int64{"*": 1}, AllowedQueues: []string{"q"},
			MaxReservation: map[string]int64{}, Email: "",
		}
		token, err := tokens.Sign(given)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tokens.Check("Bearer " + token)
		if err != nil || cmp.Diff(&given, got) != "" {
			t.Errorf("%s: %v, %s", g, err, cmp.Diff(&given, got))
		}
		c.at = c.at.Add(life - time.Second)
		if _, err := tokens.Check("Bearer " + token); err != nil {
			t.Errorf("%s: before its end: %v", g, err)
		}
		c.at = c.at.Add(2 * time.Second)
		if _, err := tokens.Check("Bearer " + token); shown(err) != "401 Token has expired" {
			t.Errorf("%s: after its end: %v", g, shown(err))
		}
	}
}

func shown(err error) string {
	refusal := (*Refusal)(nil)
	if errors.As(err, &refusal) {
		return fmt.Sprint(refusal.Status, " ", refusal.Message)
	}
	return fmt.Sprint(err)
}

func TestTokensThatAreNotGoodAreRefusedInTheWordsOfTheGeneration(t *testing.T) {
	c := &clock{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	sign := func(method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
		token, err := jwt.NewWithClaims(method, claims).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	claims := func(change func(jwt.MapClaims)) jwt.MapClaims {
		m := jwt.MapClaims{
			"exp": c.at.Add(time.Minute).Unix(), "iat": c.at.Unix(), "sub": "access_token",
			"permissions": map[string]any{"client_id": "jane", "max_priority": map[string]int{}},
		}
		change(m)
		return m
	}
	without := func(name string) string {
		return sign(jwt.SigningMethodHS256, []byte("key"), claims(func(m jwt.MapClaims) { delete(m, name) }))
	}
	same := func(jwt.MapClaims) {}
	for _, tc := range []struct{ name, header, seed, latest string }{
		{"none", "", "<nil>", "<nil>"},
		{"good, without a role", "Bearer " + sign(jwt.SigningMethodHS256, []byte("key"), claims(same)), "<nil>", "<nil>"},
		{"raw", sign(jwt.SigningMethodHS256, []byte("key"), claims(same)), "<nil>", "401 Unauthorized"},
		{"empty", "Bearer ", "403 Invalid Token", "401 Unauthorized"},
		{"another scheme", "Basic abc", "403 Invalid Token", "401 Unauthorized"},
		{"no token", "Bearer abc", "403 Invalid Token", "403 Unable to decode token"},
		{"another key", "Bearer " + sign(jwt.SigningMethodHS256, []byte("other"), claims(same)), "403 Invalid Token", "403 Invalid Token signature"},
		{"no signature", "Bearer " + sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims(same)), "403 Invalid Token", "403 Invalid Token signature"},
		{"another method", "Bearer " + sign(jwt.SigningMethodHS512, []byte("key"), claims(same)), "403 Invalid Token", "403 Invalid Token signature"},
		{"no end", "Bearer " + without("exp"), "403 Invalid Token", "403 Token missing required claim: exp"},
		{"no beginning", "Bearer " + without("iat"), "403 Invalid Token", "403 Token missing required claim: iat"},
		{"no subject", "Bearer " + without("sub"), "403 Invalid Token", "403 Token missing required claim: sub"},
		{"no permissions", "Bearer " + without("permissions"), "403 Invalid Token", "403 Token missing required claim: permissions"},
		{"no client", "Bearer " + sign(jwt.SigningMethodHS256, []byte("key"), claims(func(m jwt.MapClaims) { m["permissions"] = map[string]any{} })),
			"403 Invalid Token", "403 Token missing required claim: client_id"},
		{"another subject", "Bearer " + sign(jwt.SigningMethodHS256, []byte("key"), claims(func(m jwt.MapClaims) { m["sub"] = "refresh" })),
			"403 Invalid Token", "403 Invalid Token"},
		{"of the future", "Bearer " + sign(jwt.SigningMethodHS256, []byte("key"), claims(func(m jwt.MapClaims) { m["iat"] = c.at.Add(time.Minute).Unix() })),
			"<nil>", "401 Token not yet valid"},
		{"expired under another key", "Bearer " + sign(jwt.SigningMethodHS256, []byte("other"), claims(func(m jwt.MapClaims) { m["exp"] = 1 })),
			"403 Invalid Token", "403 Invalid Token signature"},
		{"expired", "Bearer " + sign(jwt.SigningMethodHS256, []byte("key"), claims(func(m jwt.MapClaims) { m["exp"] = 1 })), "401 Token has expired", "401 Token has expired"},
	} {
		for g, want := range map[Generation]string{Seed: tc.seed, Latest: tc.latest} {
			p, err := NewTokens(g, []byte("key"), c.now).Check(tc.header)
			if got := shown(err); got != want {
				t.Errorf("%s, %s: %s, want %s", tc.name, g, got, want)
			}
			if err == nil && tc.header != "" && (p == nil || p.Role != Contributor) {
				t.Errorf("%s, %s: permissions are %+v", tc.name, g, p)
			}
		}
	}
}

func TestClientsAreReadWithWhatWasSaid(t *testing.T) {
	c, err := ReadClient(Seed, typeJSON, []byte(`{"client_id":"x","client_secret":"y","max_priority":{"q":"3"},"max_reservation_time":null,"role":"manager"}`))
	if err != nil {
		t.Fatal(err)
	}
	if c.ID != "" || c.Secret != "" || (*c.MaxPriority)["q"] != 3 || c.MaxReservation != nil || *c.Role != Manager {
		t.Errorf("%+v", c)
	}
	c, err = ReadNewClient(typeJSON, []byte(`{"client_id":"x","client_secret":"y"}`))
	if err != nil || c.ID != "x" || c.Secret != "y" || c.MaxPriority != nil || c.Role != nil {
		t.Errorf("%+v, %v", c, err)
	}
	for _, role := range []Role{Admin, Manager, Contributor, Agents, User} {
		if RoleOf(role.Event()) != role {
			t.Errorf("role %s becomes %s", role, RoleOf(role.Event()))
		}
	}
	if RoleOf(0) != Contributor {
		t.Errorf("no role is %s", RoleOf(0))
	}
}

func TestAgentsAndFragmentsAreReadWithWhatWasSaid(t *testing.T) {
	f, err := ReadFragment(typeJSON, []byte(`{"fragment_number":7,"timestamp":"2026-01-02T03:04:05","phase":"test","log_data":"x\ny"}`))
	if err != nil || f.Number != 7 || !f.Time.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) || f.Phase != "test" || f.Text != "x\ny" {
		t.Errorf("%+v, %v", f, err)
	}
	images, err := ReadImages(Latest, typeJSON, []byte(`{"q":{"core":"url: x"},"r":{}}`))
	if err != nil || cmp.Diff(map[string]map[string]string{"q": {"core": "url: x"}, "r": {}}, images) != "" {
		t.Errorf("%v, %v", images, err)
	}
	if queue, ok := QueueName(Queue("a/b")); !ok || queue != "a/b" {
		t.Errorf("%s, %t", queue, ok)
	}
	if _, ok := QueueName("debci/unstable/amd64"); ok || strings.Contains(FormatTime(time.Unix(0, 5e6)), "+") {
		t.Error("a queue of another API is one of these")
	}
}
