package subscription

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// worker delivers what one partition tells one subscription, while the partition is assigned to this member.
type worker struct {
	*Deliverer

	member    eventlog.Member
	partition eventlog.Partition
	name      string
	id        uuid.UUID
	target    *event.SubscriptionTarget
	logger    *slog.Logger
}

// run delivers while the subscription is not paused, until ctx ends.
func (w *worker) run(ctx context.Context) error {
	for {
		var subscription *registry.Subscription
		err := w.Registry.Await(ctx, func(s *registry.State) bool {
			subscription = w.active(s)
			return subscription != nil
		})
		if err != nil {
			return err
		}
		err = w.deliverWhile(ctx, subscription)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case eventlog.Fenced(err):
			return err
		case err != nil && !errors.Is(err, context.Canceled):
			w.logger.Warn("delivering to a subscription failed, trying again", "partition", w.partition.String(), "error", err)
			pause(ctx, time.Second)
		}
	}
}

// active gives the subscription unless it is paused or gone.
func (w *worker) active(s *registry.State) *registry.Subscription {
	found := s.Subscription(w.name)
	if found == nil || found.ID != w.id || found.Paused {
		return nil
	}
	return found
}

// deliverWhile delivers until the subscription is paused, or resumed, which begins anew.
func (w *worker) deliverWhile(ctx context.Context, subscription *registry.Subscription) error {
	group, ctx := errgroup.WithContext(ctx)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	group.Go(func() error {
		defer stop()
		return w.Registry.Await(ctx, func(s *registry.State) bool {
			now := w.active(s)
			return now == nil || now.Resumed != subscription.Resumed
		})
	})
	group.Go(func() error {
		defer stop()
		return w.deliver(ctx, subscription)
	})
	return group.Wait()
}

// deliver begins behind what was committed.
func (w *worker) deliver(ctx context.Context, subscription *registry.Subscription) error {
	commits, err := w.Client.Committed(ctx, w.member.Group, w.partition)
	if err != nil {
		return err
	}
	next, trouble := commits[w.partition].Offset, readTrouble(commits[w.partition].Note)
	if next < 0 {
		next = w.first(subscription)
	}
	if trouble.Resumed != subscription.Resumed {
		trouble = Trouble{}
	}
	t, out := newTracker(next), make(chan *delivery)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return w.readOn(ctx, subscription, next, trouble, t, out) })
	for range w.config.AtOnce {
		group.Go(func() error { return w.sendAll(ctx, subscription, t, out) })
	}
	group.Go(func() error { return w.commit(ctx, subscription.Resumed, commits[w.partition], t) })
	return group.Wait()
}

// first is where a subscription begins: behind what was in the log when it was made. In a later log, all is behind.
func (w *worker) first(subscription *registry.Subscription) int64 {
	after, err := eventlog.ParsePosition(subscription.After)
	if err != nil || after.Log != w.Client.LogID {
		return 0
	}
	if newest, known := after.Offsets[w.partition]; known {
		return newest + 1
	}
	return 0
}

// readOn reads what the projections have, and hands it out to the senders.
func (w *worker) readOn(ctx context.Context, subscription *registry.Subscription, next int64, trouble Trouble, t *tracker, out chan<- *delivery) error {
	from, wanted := spot{offset: next}, &filter{kinds: subscription.Kinds, queues: subscription.Queues}
	for {
		generation, end, err := w.marks.await(ctx, w.partition, from.offset)
		if err != nil {
			return err
		}
		notices, unread, err := w.page(ctx, w.DB.Generation(generation), wanted, from, end)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			// The engine is out of reach, or the generation was replaced by another.
			w.logger.Warn("what happened cannot be read, trying again", "partition", w.partition.String(), "error", err)
			pause(ctx, time.Second)
			continue
		}
		t.count(unread)
		for _, n := range notices {
			d := &delivery{notice: n, since: trouble.Since, attempts: trouble.Attempts, problem: trouble.Problem}
			trouble = Trouble{} // it was the first one's
			if err := w.hand(ctx, d, t, out); err != nil {
				return err
			}
		}
		if len(notices) < pageRows {
			from = spot{offset: end}
		} else {
			last := notices[len(notices)-1].at
			from = spot{last.offset, last.ordinal + 1}
		}
		t.reach(from.offset)
	}
}

// page reads some rows, and counts all that there are.
func (w *worker) page(ctx context.Context, database string, wanted *filter, from spot, end int64) (notices []*notice, unread uint64, err error) {
	notices, err = w.read(ctx, database, w.partition, wanted, from, end)
	if err != nil || len(notices) < pageRows {
		return notices, uint64(len(notices)), err
	}
	unread, err = w.count(ctx, database, w.partition, wanted, from, end)
	return notices, unread, err
}

func (w *worker) hand(ctx context.Context, d *delivery, t *tracker, out chan<- *delivery) error {
	if err := t.add(ctx, d); err != nil {
		return err
	}
	select {
	case out <- d:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sendAll sends one delivery after the other.
func (w *worker) sendAll(ctx context.Context, subscription *registry.Subscription, t *tracker, out <-chan *delivery) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case d := <-out:
			if err := w.send(ctx, subscription, t, d); err != nil {
				return err
			}
		}
	}
}

// send repeats a delivery until it is taken, or the subscription is paused.
func (w *worker) send(ctx context.Context, subscription *registry.Subscription, t *tracker, d *delivery) error {
	body, err := w.body(w.partition, d.notice)
	if err != nil {
		return fmt.Errorf("encode event %s: %w", d.id(), err)
	}
	for wait := w.config.FirstPause; ; wait = min(2*wait, w.config.MaxPause) {
		err := w.attempt(ctx, d, body)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			w.delivered.WithLabelValues(w.name).Inc()
			t.delivered(d)
			return nil
		}
		w.failed.WithLabelValues(w.name).Inc()
		since := t.failed(d, err.Error(), w.Now())
		w.logger.Debug("a delivery failed", "event", d.id(), "failing_since", since, "error", err)
		if w.Now().Sub(since) >= w.config.Window {
			if err := w.giveUp(ctx, subscription, since, err); err != nil {
				return err
			}
		}
		pause(ctx, wait/2+rand.N(wait))
	}
}

// attempt sends a delivery once.
func (w *worker) attempt(ctx context.Context, d *delivery, body []byte) error {
	signature := Sign(w.target.GetSecret(), body, w.Now())
	answer, err := w.Webhook.Call(ctx, http.MethodPost, w.target.GetUrl(), header(w.name, d.id(), signature), body)
	if err != nil {
		return err
	}
	if answer.Status < 200 || answer.Status > 299 {
		return fmt.Errorf("it answers %d", answer.Status)
	}
	return nil
}

// giveUp asks for the subscription to be paused. The answer comes by the registry.
func (w *worker) giveUp(ctx context.Context, subscription *registry.Subscription, since time.Time, problem error) error {
	reason := fmt.Sprintf("deliveries have failed since %s: %v", since.UTC().Format(time.RFC3339), problem)
	paused, err := eventlog.NewEvent("/processor", &event.SubscriptionPauseRequested{
		Name: w.name, Id: w.id[:], Resumed: subscription.Resumed, Reason: reason,
	})
	if err != nil {
		return err
	}
	w.logger.Warn("a subscription is paused", "reason", reason)
	if _, err := w.Appender.Append(ctx, eventlog.Partition{Topic: eventlog.Registry}, paused); err != nil && ctx.Err() == nil {
		w.logger.Warn("a subscription could not be paused, trying again", "error", err)
	}
	return nil
}

// commitEvery is the time between two commits.
const commitEvery = 250 * time.Millisecond

// commit keeps the group's mark, and once more when ctx ends: what was delivered need not be repeated.
func (w *worker) commit(ctx context.Context, resumed uint64, last eventlog.Commit, t *tracker) error {
	ticker := time.NewTicker(commitEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
		w.waiting.WithLabelValues(w.name, w.partition.String()).Set(float64(t.waiting()))
		next, trouble := t.mark()
		trouble.Resumed = resumed
		mark := eventlog.Commit{Offset: next, Note: trouble.note()}
		if mark == last {
			continue
		}
		committing, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		err := w.Client.Commit(committing, w.member, w.partition, mark)
		stop()
		if eventlog.Fenced(err) {
			return err
		}
		if err != nil {
			w.logger.Warn("what was delivered could not be noted, trying again", "partition", w.partition.String(), "error", err)
			continue
		}
		last = mark
	}
	return ctx.Err()
}
