// Package processor is the service that moves the log into the projections.
package processor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
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
	"github.com/millrace/millrace/schemas/route"
)

// Dependencies are what the service works with. All are required but Moved and GiveWay.
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
	// GiveWay returns when records that have come may be projected; nil where nothing else is to go first.
	GiveWay func(ctx context.Context)
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
	lost       *prometheus.GaugeVec
	logger     *slog.Logger
	rebuilding rebuilding
	losses     losses
}

// rebuilding is how far the rebuild of lost projections is.
type rebuilding struct {
	read, archived atomic.Int64
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
	lost := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "millrace_log_lost_records", Help: "Records that the log deleted before they were archived: lost for good.",
	}, []string{"partition"})
	d.Registry.MustRegister(lag, lagSeconds, lost)
	return &Service{
		config: config, client: d.Client, db: d.DB, generation: d.Generation, lag: lag, lagSeconds: lagSeconds,
		lost: lost, logger: d.Logger,
		sink: sink.Dependencies{
			Client: d.Client, Archive: archive.New(d.DB), Store: fold.NewStore(d.DB), Appender: d.Appender, Packer: d.Packer,
			Epoch: d.Epoch, CodeVersion: d.CodeVersion, Metrics: metrics, Tracer: d.Tracer, Logger: d.Logger, Moved: d.Moved,
			GiveWay: d.GiveWay,
		},
	}, nil
}

// Prepare brings the current generation's tables up to date; a new installation gets its first ones. Projections that
// were lost are left to Run, which may take long to build them again.
func (s *Service) Prepare(ctx context.Context) error {
	if err := errors.Join(s.prepare(ctx), s.lookForLosses(ctx)); err != nil {
		return err
	}
	return s.generation.Refresh(ctx)
}

func (s *Service) prepare(ctx context.Context) error {
	serving, err := s.db.Serving(ctx)
	if err != nil {
		return err
	}
	if serving > 0 {
		return s.db.MigrateGeneration(ctx, serving)
	}
	current, err := s.db.Current(ctx)
	if err != nil {
		return err
	}
	archived, err := s.sink.Archive.Count(ctx)
	if err != nil {
		return err
	}
	s.rebuilding.archived.Store(archived)
	if current > 0 || archived > 0 {
		return nil
	}
	return errors.Join(s.db.MigrateGeneration(ctx, 1), s.db.MakeCurrent(ctx, 1))
}

// Check fails while the projections are gone, and says how far they are built again.
func (s *Service) Check(context.Context) error {
	if s.generation.Number() > 0 {
		return nil
	}
	return route.Busy(5*time.Second, "projections are being rebuilt: %d of %d events", s.rebuilding.read.Load(), s.rebuilding.archived.Load())
}

// Run works until ctx ends, on whichever generation is current. Prepare was called before.
func (s *Service) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.measureLag(ctx) })
	group.Go(func() error {
		for {
			if err := s.restore(ctx); err != nil {
				return err
			}
			err := s.runGeneration(ctx, s.generation.Number())
			if errors.Is(err, sink.ErrLost) {
				err = s.standStill(ctx, err)
			}
			if err != nil {
				return err
			}
		}
	})
	return group.Wait()
}

// restore builds the projections again when they are gone. Several processors may do so at the same time; one becomes
// current and the others give up.
func (s *Service) restore(ctx context.Context) error {
	for s.generation.Number() == 0 {
		if err := s.Prepare(ctx); err != nil || s.generation.Number() > 0 {
			return err
		}
		s.logger.Warn("the projections are gone: building them again from the log", "events", s.rebuilding.archived.Load())
		_, err := s.rebuilder(s.rebuilding.read.Store).Rebuild(ctx, nil)
		if err != nil && !errors.Is(err, replay.ErrOvertaken) {
			return err
		}
		if err := s.generation.Refresh(ctx); err != nil {
			return err
		}
	}
	return nil
}

// runGeneration works on one generation until another one is current.
func (s *Service) runGeneration(ctx context.Context, generation uint32) error {
	current, stop := context.WithCancel(ctx)
	defer stop()
	go s.awaitOther(current, generation, stop)
	dependencies := s.sink
	dependencies.Writer = projection.NewWriter(s.db, generation)
	group, current := errgroup.WithContext(current)
	group.Go(func() error { return dependencies.Writer.Run(current, s.logger, dependencies.GiveWay) })
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
	for tick := 1; ; tick++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		err := s.gauge(ctx)
		if tick%lookForLossesEvery == 0 {
			err = errors.Join(err, s.lookForLosses(ctx))
		}
		if err != nil && ctx.Err() == nil {
			s.logger.Debug("the lag is not known", "error", err)
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
