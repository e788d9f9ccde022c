package eventlog

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
)

// ErrUnsettled means that it is not known whether an event reached the log: the engine failed or was too slow. The
// caller answers 503, and the same idempotency key settles later what happened.
var ErrUnsettled = errors.New("the log did not acknowledge in time")

// ErrOverloaded means that the event was not sent: too much is waiting for the log already.
var ErrOverloaded = errors.New("too many events are waiting for the log")

// ErrClosed means that the appender is shutting down and the event was not sent.
var ErrClosed = errors.New("the appender is closed")

// Appender appends events. While one write to a partition is in flight it gathers the next, so that many callers share
// one acknowledgement; a lone caller never waits for company.
type Appender struct {
	client  *Client
	metrics appenderMetrics
	logger  *slog.Logger
	lanes   map[Partition]*lane
	// maxWaiting is the number of bytes that may wait for one partition.
	maxWaiting int
	closed     chan struct{}
	clock      steadyClock
	wait       sync.WaitGroup
}

// AppenderConfig bounds an appender.
type AppenderConfig struct {
	// MaxWaiting is the number of bytes that may wait for one partition.
	MaxWaiting int
}

type appenderMetrics struct {
	latency *prometheus.HistogramVec
	batch   prometheus.Histogram
	retries prometheus.Counter
}

// lane is one partition's queue and the goroutine that owns it.
type lane struct {
	partition Partition
	mu        sync.Mutex
	waiting   []*pending
	bytes     int
	wake      chan struct{}
}

type pending struct {
	ctx    context.Context
	event  Event
	size   int
	done   chan struct{}
	offset int64
}

// NewAppender starts an appender; Close ends it.
func NewAppender(client *Client, config AppenderConfig, registry prometheus.Registerer, logger *slog.Logger) *Appender {
	a := &Appender{
		client:  client,
		metrics: newAppenderMetrics(registry),
		logger:  logger,
		lanes:   map[Partition]*lane{},
		closed:  make(chan struct{}),

		maxWaiting: config.MaxWaiting,
		clock:      steadyClock{start: time.Now()},
	}
	for _, partition := range client.Partitions() {
		l := &lane{partition: partition, wake: make(chan struct{}, 1)}
		a.lanes[partition] = l
		a.wait.Go(func() { a.run(l) })
	}
	return a
}

func newAppenderMetrics(registry prometheus.Registerer) appenderMetrics {
	m := appenderMetrics{
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "millrace_append_seconds", Help: "Time of one acknowledged or failed write to the log.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
		}, []string{"topic", "outcome"}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "millrace_append_batch_events", Help: "Events in one write to the log.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 12),
		}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "millrace_append_retries_total", Help: "Writes to the log that were sent again.",
		}),
	}
	registry.MustRegister(m.latency, m.batch, m.retries)
	return m
}

// PartitionFor picks the partition of a topic for a key: always the same one for the same key.
func (c *Client) PartitionFor(topic string, key []byte) Partition {
	partitions := c.Partitions(topic)
	if len(partitions) == 1 {
		return partitions[0]
	}
	hash := fnv.New32a()
	_, _ = hash.Write(key)
	return partitions[int(hash.Sum32()%uint32(len(partitions)))]
}

// Append puts an event into a partition and returns its offset once all in-sync replicas have it. A failed write is
// repeated with the same event id until ctx ends; then the error is ErrUnsettled, because the event may be in the log.
func (a *Appender) Append(ctx context.Context, partition Partition, event Event) (int64, error) {
	size := event.size()
	if size > MaxRecordBytes {
		return 0, fmt.Errorf("event %s of %d bytes is over the limit of %d for a record: its document belongs in the blob store",
			event.Type, size, MaxRecordBytes)
	}
	l, ok := a.lanes[partition]
	if !ok {
		return 0, fmt.Errorf("there is no partition %s", partition)
	}
	p := &pending{ctx: ctx, event: event, size: size, done: make(chan struct{})}
	if err := a.enqueue(l, p); err != nil {
		return 0, err
	}
	select {
	case <-p.done:
		return p.offset, nil
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: event %s: %w", ErrUnsettled, event.ID, context.Cause(ctx))
	}
}

func (a *Appender) enqueue(l *lane, p *pending) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-a.closed:
		return ErrClosed
	default:
	}
	if l.bytes+p.size > a.maxWaiting {
		return ErrOverloaded
	}
	l.bytes += p.size
	l.waiting = append(l.waiting, p)
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return nil
}

// Close refuses new events, writes what is waiting and ends.
func (a *Appender) Close() {
	for _, l := range a.lanes {
		l.mu.Lock()
	}
	close(a.closed)
	for _, l := range a.lanes {
		l.mu.Unlock()
	}
	a.wait.Wait()
}

func (a *Appender) run(l *lane) {
	for {
		batch := l.take()
		if len(batch) == 0 {
			select {
			case <-l.wake:
				continue
			case <-a.closed:
				if l.empty() {
					return
				}
				continue
			}
		}
		a.write(l, batch)
	}
}

func (l *lane) empty() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting) == 0
}

// take removes what fits into one write from the queue.
func (l *lane) take() []*pending {
	l.mu.Lock()
	defer l.mu.Unlock()
	size, n := 0, 0
	for n < len(l.waiting) && (n == 0 || size+l.waiting[n].size <= maxBatchBytes) {
		size += l.waiting[n].size
		n++
	}
	batch := l.waiting[:n:n]
	l.waiting = l.waiting[n:]
	l.bytes -= size
	return batch
}

// write sends a batch until it is acknowledged or nobody waits for it any more.
func (a *Appender) write(l *lane, batch []*pending) {
	delay := 5 * time.Millisecond
	for {
		batch = abandon(batch)
		if len(batch) == 0 {
			return
		}
		started := time.Now()
		base, err := a.produce(l.partition, batch)
		a.observe(l.partition, len(batch), started, err)
		if err == nil {
			for i, p := range batch {
				p.offset = base + int64(i)
				close(p.done)
			}
			return
		}
		a.metrics.retries.Inc()
		a.logger.Warn("append to the log failed, retrying", "partition", l.partition.String(), "events", len(batch),
			"first_event", batch[0].event.ID, "error", err)
		time.Sleep(delay/2 + rand.N(delay))
		delay = min(2*delay, 250*time.Millisecond)
	}
}

// abandon drops the events whose callers have gone.
func abandon(batch []*pending) []*pending {
	kept := batch[:0:len(batch)]
	for _, p := range batch {
		if p.ctx.Err() == nil {
			kept = append(kept, p)
		}
	}
	return kept
}

func (a *Appender) observe(partition Partition, events int, started time.Time, err error) {
	outcome := "acknowledged"
	if err != nil {
		outcome = "failed"
	}
	a.metrics.latency.WithLabelValues(partition.Topic, outcome).Observe(time.Since(started).Seconds())
	a.metrics.batch.Observe(float64(events))
}

// steadyClock tells the wall clock's time unless that jumps: log time is the running maximum of what records say, so that
// one jump forward would never be made good. A broker of Apache Kafka refuses such records; the embedded one does not.
type steadyClock struct{ start time.Time }

func (c steadyClock) now() time.Time {
	now := time.Now()
	steady := c.start.Add(now.Sub(c.start)) // by the monotonic clock
	if jump := now.Round(0).Sub(steady.Round(0)); jump > maxClockSkew || jump < -maxClockSkew {
		return steady
	}
	return now
}

// produceTimeout bounds one write, so that a broker that hangs is tried again within a request's time.
const produceTimeout = 10 * time.Second

func (a *Appender) produce(partition Partition, batch []*pending) (int64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), produceTimeout)
	defer cancel()
	now := a.clock.now()
	records := make([]kafka.Record, len(batch))
	for i, p := range batch {
		records[i] = kafka.Record{Time: now, Value: kafka.NewBytes(p.event.Data), Headers: p.event.headers()}
		if p.event.Key != nil {
			records[i].Key = kafka.NewBytes(p.event.Key)
		}
	}
	response, err := a.client.kafka.Produce(ctx, &kafka.ProduceRequest{
		Topic:        partition.Topic,
		Partition:    partition.ID,
		RequiredAcks: kafka.RequireAll,
		Records:      kafka.NewRecordReader(records...),
	})
	if err != nil {
		return 0, err
	}
	return response.BaseOffset, response.Error
}
