// Package subscription tells subscribers what happens: it posts signed events to the addresses that operators gave.
//
// Each subscription is a consumer group of the log: of several processors one works on each partition, and the committed
// offset is the one before which everything was delivered. What is told comes from the projections (table notices), as far
// as their own group has committed. So nothing is skipped by a crash; up to readAhead deliveries are repeated, under the
// same id. Deliveries overtake each other.
//
// A delivery that fails is repeated with growing pauses. When one has failed for too long the subscription is paused by an
// event of the registry, and stands where it is until somebody resumes it.
package subscription

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/processor/webhook"
	"github.com/millrace/millrace/schemas/clickhouse"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/keyring"
)

// Config is what an operator can set.
type Config struct {
	// AtOnce bounds the deliveries in flight of one subscription and partition.
	AtOnce int
	// FirstPause is the time between a failed delivery and its repeat; it doubles up to MaxPause.
	FirstPause, MaxPause time.Duration
	// Window is how long a delivery may fail before its subscription is paused.
	Window time.Duration
	// SessionTimeout is how long a processor that says nothing keeps its partitions.
	SessionTimeout time.Duration
}

// Validate reports all mistakes at once.
func (c *Config) Validate() error {
	var errs []error
	if c.AtOnce < 1 {
		errs = append(errs, errors.New("webhooks.at_once must be at least 1"))
	}
	if c.FirstPause <= 0 || c.MaxPause < c.FirstPause {
		errs = append(errs, fmt.Errorf("webhooks.max_pause must be at least %s", c.FirstPause))
	}
	if c.Window < c.MaxPause {
		errs = append(errs, errors.New("webhooks.window must be at least webhooks.max_pause"))
	}
	return errors.Join(errs...)
}

// Registry is the replica of the registry's fold.
type Registry interface {
	View(look func(*registry.State))
	Await(ctx context.Context, look func(*registry.State) bool) error
}

// Dependencies are what deliveries are made with. All are required.
type Dependencies struct {
	Client   *eventlog.Client
	Appender *eventlog.Appender
	DB       *clickhouse.DB
	// Generation is the number of the projections' current generation.
	Generation func() uint32
	Epoch      uint32
	Registry   Registry
	Keyring    *keyring.Keyring
	Webhook    *webhook.Client
	Now        func() time.Time
	Metrics    prometheus.Registerer
	Logger     *slog.Logger
}

// Deliverer makes the deliveries of all subscriptions, beside those of other processors.
type Deliverer struct {
	Dependencies

	config    Config
	marks     *marks
	delivered *prometheus.CounterVec
	failed    *prometheus.CounterVec
	waiting   *prometheus.GaugeVec
}

// New gives a deliverer.
func New(config Config, d Dependencies) (*Deliverer, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	deliverer := &Deliverer{
		Dependencies: d, config: config, marks: newMarks(),
		delivered: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_webhook_delivered_total", Help: "Events that subscribers have taken.",
		}, []string{"subscription"}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_webhook_failed_total", Help: "Attempts to deliver an event that failed.",
		}, []string{"subscription"}),
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "millrace_webhook_waiting", Help: "Events that are not delivered yet, as far as this process is to deliver them.",
		}, []string{"subscription", "partition"}),
	}
	d.Metrics.MustRegister(deliverer.delivered, deliverer.failed, deliverer.waiting)
	return deliverer, nil
}

// Group is the consumer group of a subscription.
func Group(id uuid.UUID) string { return "millrace-subscription-" + id.String() }

// topics are those that anything is told of.
func topics() []string {
	var list []string
	for _, topic := range projection.NoticeTopics() {
		if !slices.Contains(list, topic) {
			list = append(list, topic)
		}
	}
	slices.Sort(list)
	return list
}

func anySubscription(s *registry.State) bool { return len(s.Subscribed) > 0 }

// Run delivers until ctx ends.
func (d *Deliverer) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.follow(ctx) })
	group.Go(func() error { return d.supervise(ctx, group) })
	return group.Wait()
}

// supervise begins and ends the work on subscriptions as they come and go.
func (d *Deliverer) supervise(ctx context.Context, group *errgroup.Group) error {
	running := map[uuid.UUID]context.CancelFunc{}
	defer func() {
		for _, stop := range running {
			stop()
		}
	}()
	for {
		wanted := map[uuid.UUID]*registry.Subscription{}
		d.Registry.View(func(s *registry.State) {
			for _, subscription := range s.Subscriptions() {
				wanted[subscription.ID] = subscription
			}
		})
		for id, stop := range running {
			if wanted[id] == nil {
				stop()
				delete(running, id)
			}
		}
		for id, subscription := range wanted {
			if running[id] == nil {
				working, stop := context.WithCancel(ctx)
				running[id] = stop
				group.Go(func() error { return d.serve(working, subscription) })
			}
		}
		err := d.Registry.Await(ctx, func(s *registry.State) bool { return differs(s, running) })
		if err != nil {
			return err
		}
	}
}

// differs tells whether other subscriptions are there than those that are worked on.
func differs(s *registry.State, running map[uuid.UUID]context.CancelFunc) bool {
	if len(s.Subscribed) != len(running) {
		return true
	}
	for _, subscription := range s.Subscribed {
		if running[subscription.ID] == nil {
			return true
		}
	}
	return false
}

// serve works on one subscription until ctx ends, beside other processors.
func (d *Deliverer) serve(ctx context.Context, subscription *registry.Subscription) error {
	logger := d.Logger.With("subscription", subscription.Name)
	defer d.waiting.DeletePartialMatch(prometheus.Labels{"subscription": subscription.Name})
	config := eventlog.GroupConfig{SessionTimeout: d.config.SessionTimeout}
	for _, kind := range subscription.Kinds {
		if topic := projection.NoticeTopics()[kind]; topic != "" && !slices.Contains(config.Topics, topic) {
			config.Topics = append(config.Topics, topic)
		}
	}
	target, err := OpenTarget(d.Keyring, subscription.SealedTarget)
	if err != nil {
		logger.Error("a subscription is not served", "error", err)
		return nil
	}
	for ctx.Err() == nil {
		err := d.Client.Consume(ctx, Group(subscription.ID), config, logger,
			func(ctx context.Context, member eventlog.Member, partition eventlog.Partition) error {
				w := worker{Deliverer: d, member: member, partition: partition, name: subscription.Name, id: subscription.ID, target: target, logger: logger}
				return w.run(ctx)
			})
		if ctx.Err() == nil {
			logger.Warn("serving a subscription failed, trying again", "error", err)
			pause(ctx, time.Second)
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// Progress reads how far a subscription's deliveries are, by partition, and what keeps them; nothing before they began.
func Progress(ctx context.Context, client *eventlog.Client, id uuid.UUID) (next map[eventlog.Partition]int64, trouble Trouble, err error) {
	commits, err := client.Committed(ctx, Group(id), client.Partitions(topics()...)...)
	if err != nil {
		return nil, Trouble{}, err
	}
	next = map[eventlog.Partition]int64{}
	for partition, commit := range commits {
		if commit.Offset < 0 {
			continue
		}
		next[partition] = commit.Offset
		if t := readTrouble(commit.Note); !t.Since.IsZero() && (trouble.Since.IsZero() || t.Since.Before(trouble.Since)) {
			trouble = t
		}
	}
	return next, trouble, nil
}
