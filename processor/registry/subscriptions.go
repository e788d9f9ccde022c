package registry

import (
	"cmp"
	"slices"

	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas/event"
)

// Subscription is who is told what happens.
type Subscription struct {
	ID   uuid.UUID
	Name string
	// SealedTarget is an event.SubscriptionTarget under the installation's key.
	SealedTarget []byte
	Kinds        []string
	Queues       []string
	// After is the position of the log that deliveries begin behind, in its text form.
	After string
	// AddTime is Unix milliseconds of log time.
	AddTime int64
	Paused  bool
	// PausedTime and PausedFor say since when, in Unix milliseconds of log time, and why.
	PausedTime int64
	PausedFor  string
	// Resumed counts the resumptions.
	Resumed uint64
}

// Subscription gives the one with a name; nil when there is none.
func (s *State) Subscription(name string) *Subscription {
	if found := s.Subscribed[name]; found != nil {
		return found.copy()
	}
	return nil
}

// Subscriptions lists all, by name.
func (s *State) Subscriptions() []*Subscription {
	list := make([]*Subscription, 0, len(s.Subscribed))
	for _, subscription := range s.Subscribed {
		list = append(list, subscription.copy())
	}
	slices.SortFunc(list, func(a, b *Subscription) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// copy gives what callers may keep: nothing in it changes once it is made.
func (s *Subscription) copy() *Subscription {
	kept := *s
	return &kept
}

func (s *State) addSubscription(m *event.SubscriptionAddRequested, now int64) Outcome {
	id, err := uuid.FromBytes(m.GetId())
	if err != nil || m.GetName() == "" {
		return Outcome{}
	}
	if s.Subscribed[m.GetName()] != nil {
		return Outcome{Result: SubscriptionNameTaken}
	}
	s.Subscribed[m.GetName()] = &Subscription{
		ID: id, Name: m.GetName(), SealedTarget: m.GetSealedTarget(), Kinds: m.GetKinds(), Queues: m.GetQueues(), After: m.GetAfter(),
		AddTime: now,
	}
	return Outcome{Result: Done}
}

func (s *State) deleteSubscription(m *event.SubscriptionDeleteRequested) Outcome {
	if s.Subscribed[m.GetName()] == nil {
		return Outcome{Result: UnknownSubscription}
	}
	delete(s.Subscribed, m.GetName())
	return Outcome{Result: Done}
}

// pauseSubscription keeps the first reason. A processor's request does not count for a subscription of the same name that
// came later, nor after somebody has resumed it.
func (s *State) pauseSubscription(m *event.SubscriptionPauseRequested, now int64) Outcome {
	found := s.Subscribed[m.GetName()]
	if found == nil {
		return Outcome{Result: UnknownSubscription}
	}
	if id, err := uuid.FromBytes(m.GetId()); len(m.GetId()) > 0 && (err != nil || id != found.ID || m.GetResumed() != found.Resumed) {
		return Outcome{}
	}
	if !found.Paused {
		found.Paused, found.PausedTime, found.PausedFor = true, now, m.GetReason()
	}
	return Outcome{Result: Done}
}

func (s *State) resumeSubscription(m *event.SubscriptionResumeRequested) Outcome {
	found := s.Subscribed[m.GetName()]
	if found == nil {
		return Outcome{Result: UnknownSubscription}
	}
	found.Paused, found.PausedTime, found.PausedFor = false, 0, ""
	found.Resumed++
	return Outcome{Result: Done}
}
