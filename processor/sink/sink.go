// Package sink moves the log into ClickHouse: for each partition it gathers records into batches, projects them and
// writes the rows, so that every event has its effect exactly once.
//
// How that holds through a crash at any point: the boundaries of a batch are put into the consumer group's commit before
// its rows are written, and the commit moves past the batch only after they are. Who takes the partition over forms
// exactly that batch again, writes it with the same deduplication tokens, and looks whether its rows are there (see
// clickhouse.DB.InsertOnce). Rows are identified by the event, never by the offset, so an event that stands twice in the
// log is one.
package sink

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/millrace/millrace/processor/archive"
	"github.com/millrace/millrace/processor/fold"
	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/schemas/document"
	"github.com/millrace/millrace/schemas/eventlog"
)

// Config bounds batches and says when they are written.
type Config struct {
	// MaxRecords, MaxRows and MaxBytes end a batch.
	MaxRecords, MaxRows, MaxBytes int
	// Interval is the least time between two writes of a partition under load. A lone record is written at once.
	Interval time.Duration
	// SnapshotEvery is the time between two stored fold states.
	SnapshotEvery time.Duration
	// SessionTimeout is how long a processor that says nothing keeps its partitions.
	SessionTimeout time.Duration
}

// Validate reports every setting that cannot work.
func (c Config) Validate() error {
	if c.MaxRecords < 1 || c.MaxRows < 1 || c.MaxBytes < 1<<20 {
		return fmt.Errorf("processor batches: max_records and max_rows must be at least 1, max_bytes at least 1048576; they are %d, %d and %d",
			c.MaxRecords, c.MaxRows, c.MaxBytes)
	}
	return nil
}

// Sink is one member of the group of processors of one generation.
type Sink struct {
	config   Config
	client   *eventlog.Client
	archive  *archive.Archive
	store    *fold.Store
	appender *eventlog.Appender
	packer   *document.Packer
	writer   *projection.Writer
	epoch    uint32
	group    string
	rebuild  bool
	version  string
	metrics  *Metrics
	tracer   trace.Tracer
	logger   *slog.Logger
	giveWay  func(context.Context)
	moved    func(group string, partition eventlog.Partition, next int64)
}

// Dependencies are what a sink works with.
type Dependencies struct {
	Client   *eventlog.Client
	Archive  *archive.Archive
	Store    *fold.Store
	Appender *eventlog.Appender
	Packer   *document.Packer
	Writer   *projection.Writer
	// Epoch is the number of the log.
	Epoch uint32
	// CodeVersion is written into dead letters.
	CodeVersion string
	Metrics     *Metrics
	Tracer      trace.Tracer
	Logger      *slog.Logger
	// Moved is told a group's next offset of a partition whenever its projections have moved; nil when nobody asks.
	Moved func(group string, partition eventlog.Partition, next int64)
	// GiveWay returns when records that have come may be projected; nil where nothing else is to go first.
	GiveWay func(ctx context.Context)
}

// Group is the consumer group of one generation of the projections.
func Group(generation uint32) string { return fmt.Sprintf("millrace-g%d", generation) }

// New makes a sink for a generation. A sink that builds a generation beside the live one (rebuild) folds from the
// beginning and stores no fold states: those are the live one's. It archives what it tails all the same, since it may be
// the only one left to do so when the generations change.
func New(config Config, d Dependencies, generation uint32, rebuild bool) *Sink {
	return &Sink{
		config: config, client: d.Client, archive: d.Archive, store: d.Store, appender: d.Appender, packer: d.Packer,
		writer: d.Writer, epoch: d.Epoch, group: Group(generation), rebuild: rebuild, version: d.CodeVersion,
		metrics: d.Metrics, tracer: d.Tracer, logger: d.Logger.With("group", Group(generation)), moved: d.Moved, giveWay: d.GiveWay,
	}
}

// Run works on the partitions that the group gives this member, until ctx ends.
func (s *Sink) Run(ctx context.Context) error {
	group := eventlog.GroupConfig{SessionTimeout: s.config.SessionTimeout}
	return s.client.Consume(ctx, s.group, group, s.logger, s.work)
}

// Metrics are the processor's measurements.
type Metrics struct {
	batchRows, batchRecords prometheus.Histogram
	writeSeconds            *prometheus.HistogramVec
	freshness               *prometheus.HistogramVec
	deadLetters             *prometheus.CounterVec
	retries                 prometheus.Counter
}

// NewMetrics registers the processor's measurements.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		batchRows: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "millrace_batch_rows", Help: "Rows in one batch.", Buckets: prometheus.ExponentialBuckets(1, 4, 10),
		}),
		batchRecords: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "millrace_batch_records", Help: "Records in one batch.", Buckets: prometheus.ExponentialBuckets(1, 4, 8),
		}),
		writeSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "millrace_batch_write_seconds", Help: "Time to write one batch.",
			Buckets: prometheus.ExponentialBuckets(0.002, 2, 14),
		}, []string{"topic"}),
		freshness: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "millrace_visible_seconds", Help: "Time from a record's append to its committed rows, oldest of each batch.",
			Buckets: prometheus.ExponentialBuckets(0.01, 2, 14),
		}, []string{"topic"}),
		deadLetters: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_dead_letters_total", Help: "Records that could not be projected.",
		}, []string{"topic"}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "millrace_batch_retries_total", Help: "Batches that were written again after a fault of an engine.",
		}),
	}
	registry.MustRegister(m.batchRows, m.batchRecords, m.writeSeconds, m.freshness, m.deadLetters, m.retries)
	return m
}
