package registry

import (
	"testing"

	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas/event"
)

func TestSubscriptionIsPausedByWhoKnowsItAsItIs(t *testing.T) {
	first, second := uuid.New(), uuid.New()
	add := func(id uuid.UUID) *event.SubscriptionAddRequested {
		return &event.SubscriptionAddRequested{Name: "ci", Id: id[:], SealedTarget: []byte("sealed"), Kinds: []string{"job.ended"}, After: "log;jobs/0=3"}
	}
	giveUp := func(id uuid.UUID, resumed uint64, reason string) *event.SubscriptionPauseRequested {
		return &event.SubscriptionPauseRequested{Name: "ci", Id: id[:], Resumed: resumed, Reason: reason}
	}
	done, ignored := Outcome{Result: Done}, Outcome{}
	state := play(t, []step{
		{"nothing to pause", giveUp(first, 0, "early"), Outcome{Result: UnknownSubscription}},
		{"no id", &event.SubscriptionAddRequested{Name: "ci", Id: []byte("short")}, ignored},
		{"added", add(first), done},
		{"the name is taken", add(second), Outcome{Result: SubscriptionNameTaken}},
		{"given up", giveUp(first, 0, "it answers 500"), done},
		{"given up by another processor", giveUp(first, 0, "it answers 502"), done},
		{"resumed", &event.SubscriptionResumeRequested{Name: "ci"}, done},
		{"given up by one that is late", giveUp(first, 0, "late"), ignored},
		{"deleted", &event.SubscriptionDeleteRequested{Name: "ci"}, done},
		{"deleted again", &event.SubscriptionDeleteRequested{Name: "ci"}, Outcome{Result: UnknownSubscription}},
		{"added again", add(second), done},
		{"given up by one that means the first", giveUp(first, 0, "late"), ignored},
		{"paused by the operator", &event.SubscriptionPauseRequested{Name: "ci", Reason: "maintenance"}, done},
	})
	got := state.Subscription("ci")
	if got == nil || got.ID != second || !got.Paused || got.PausedFor != "maintenance" || got.PausedTime == 0 || got.Resumed != 0 {
		t.Errorf("the subscription is %+v", got)
	}
	encoded, err := encode(state)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := decode(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if list := decoded.Subscriptions(); len(list) != 1 || list[0].ID != second || list[0].After != "log;jobs/0=3" {
		t.Errorf("the stored state has %+v", list)
	}
}
