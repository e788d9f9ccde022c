// Package processor is the service that moves the log into the projections.
package processor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/processor/archive"
	"github.com/millrace/millrace/processor/fold"
	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/processor/replay"
	"github.com/millrace/millrace/processor/sink"
	"github.com/millrace/millrace/schemas/clickhouse"
	"github.com/millrace/millrace/schemas/document"
	"github.com/millrace/millrace/schemas/eventlog"
)

// Dependencies are what the service works with. All are required but Moved.
type Dependencies struct {
	Client     *eventlog.Client
	DB         *clickhouse.DB
	Generation *clickhouse.Generation
	Appender   *eventlog.Appender
	Packer     *document.Packer
	Epoch      uint32
	// CodeVersion is written into dead letters.
	CodeVersion string
	Registry    prometheus.Registerer
	Tracer      trace.Tracer
	Logger      *slog.Logger
	// Moved is told a group's next offset of a partition whenever its projections have moved.
	Moved func(group string, partition eventlog.Partition, next int64)
}

// Service is one processor.
type Service struct {
	config     sink.Config
	client     *eventlog.Client
	db         *clickhouse.DB
	generation *clickhouse.Generation
	sink       sink.Dependencies
	lag        *prometheus.GaugeVec
	lagSeconds *prometheus.GaugeVec
	logger     *slog.Logger
}

// New prepares a processor. Run starts it.
func New(config sink.Config, d Dependencies) (*Service, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	metrics := sink.NewMetrics(d.Registry)
	lag := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "millrace_lag_records", Help: "Records in the log that are not projected yet.",
	}, []string{"partition"})
	lagSeconds := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "millrace_lag_seconds", Help: "Age of the oldest record that is not projected yet; 0 when all are.",
	}, []string{"partition"})
	d.Registry.MustRegister(lag, lagSeconds)
	return &Service{
		config: config, client: d.Client, db: d.DB, generation: d.Generation, lag: lag, lagSeconds: lagSeconds, logger: d.Logger,
		sink: sink.Dependencies{
			Client: d.Client, Archive: archive.New(d.DB), Store: fold.NewStore(d.DB), Appender: d.Appender, Packer: d.Packer,
			Epoch: d.Epoch, CodeVersion: d.CodeVersion, Metrics: metrics, Tracer: d.Tracer, Logger: d.Logger, Moved: d.Moved,
		},
	}, nil
}

// Prepare makes sure that there is a current generation whose tables exist: the first one on a new installation, a
// rebuilt one where the projections were lost.
func (s *Service) Prepare(ctx context.Context) error {
	if err := s.prepare(ctx); err != nil {
		return err
	}
	return s.generation.Refresh(ctx)
}

func (s *Service) prepare(ctx context.Context) error {
	current, err := s.db.Current(ctx)
	if err != nil {
		return err
	}
	exists, err := s.db.Exists(ctx, s.db.Generation(max(1, current)))
	if err != nil {
		return err
	}
	if current > 0 && exists {
		return s.db.MigrateGeneration(ctx, current)
	}
	empty, err := s.sink.Archive.Empty(ctx)
	if err != nil {
		return err
	}
	if empty && current == 0 {
		return errors.Join(s.db.MigrateGeneration(ctx, 1), s.db.MakeCurrent(ctx, 1))
	}
	s.logger.Warn("the projections are gone: building them again from the log")
	_, err = s.rebuilder(nil).Rebuild(ctx, nil)
	return err
}

// Run works until ctx ends, on whichever generation is current. Prepare was called before.
func (s *Service) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.measureLag(ctx) })
	group.Go(func() error {
		for {
			if err := s.runGeneration(ctx, s.generation.Number()); err != nil {
				return err
			}
		}
	})
	return group.Wait()
}

// runGeneration works on one generation until another one is current.
func (s *Service) runGeneration(ctx context.Context, generation uint32) error {
	current, stop := context.WithCancel(ctx)
	defer stop()
	go s.awaitOther(current, generation, stop)
	dependencies := s.sink
	dependencies.Writer = projection.NewWriter(s.db, generation)
	group, current := errgroup.WithContext(current)
	group.Go(func() error { return dependencies.Writer.Run(current, s.logger) })
	group.Go(func() error { return sink.New(s.config, dependencies, generation, false).Run(current) })
	err := group.Wait()
	if ctx.Err() == nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (s *Service) awaitOther(ctx context.Context, generation uint32, found func()) {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if s.generation.Number() != generation {
				found()
				return
			}
		}
	}
}

// Rebuild builds a new generation beside the live one and makes it current. This service, and any other, takes it over.
func (s *Service) Rebuild(ctx context.Context, progress func(records int64)) (replay.Report, error) {
	return s.rebuilder(progress).Rebuild(ctx, s.awaitFollowers)
}

func (s *Service) rebuilder(progress func(int64)) *replay.Rebuilder {
	return &replay.Rebuilder{DB: s.db, Config: s.config, Sink: s.sink, Logger: s.logger, Progress: progress}
}

// awaitFollowers gives the running processors time to join the new generation's group before its builder leaves it.
func (s *Service) awaitFollowers(ctx context.Context) error {
	timer := time.NewTimer(2 * time.Second)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// measureLag keeps the lag gauges.
func (s *Service) measureLag(ctx context.Context) error {
	ticker := time.NewTicker(2 * time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			if err := s.gauge(ctx); err != nil && ctx.Err() == nil {
				s.logger.Debug("the lag is not known", "error", err)
			}
		}
	}
}

// gauge sets the lag of each partition, in records and in seconds.
func (s *Service) gauge(ctx context.Context) error {
	partitions := s.client.Partitions()
	ends, err := s.client.Ends(ctx, partitions...)
	if err != nil {
		return err
	}
	marks, err := s.client.Committed(ctx, sink.Group(s.generation.Number()), partitions...)
	if err != nil {
		return fmt.Errorf("measure the lag: %w", err)
	}
	for partition, end := range ends {
		next := max(0, marks[partition].Offset)
		s.lag.WithLabelValues(partition.String()).Set(float64(max(0, end-next)))
		s.lagSeconds.WithLabelValues(partition.String()).Set(s.age(ctx, partition, next, end))
	}
	return nil
}

// age is how old the record at an offset is, in seconds; 0 when the log ends there.
func (s *Service) age(ctx context.Context, partition eventlog.Partition, offset, end int64) float64 {
	if offset >= end {
		return 0
	}
	records, err := s.client.Fetch(ctx, partition, offset, 1)
	if err != nil || len(records) == 0 {
		return 0
	}
	return max(0, time.Since(time.UnixMilli(records[0].LogTime)).Seconds())
}
