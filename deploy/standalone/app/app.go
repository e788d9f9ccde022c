// Package app composes the services of Millrace into a process.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/deploy/standalone/config"
	"github.com/millrace/millrace/ingest"
	"github.com/millrace/millrace/processor"
	"github.com/millrace/millrace/processor/debci"
	"github.com/millrace/millrace/processor/expiry"
	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/processor/sink"
	"github.com/millrace/millrace/processor/subscription"
	"github.com/millrace/millrace/query/cache"
	"github.com/millrace/millrace/query/gate"
	"github.com/millrace/millrace/query/native"
	"github.com/millrace/millrace/query/native/touched"
	"github.com/millrace/millrace/query/ui"
	"github.com/millrace/millrace/schemas/route"
	"github.com/millrace/millrace/schemas/telemetry"
)

// Role is what a process is.
type Role string

// The roles.
const (
	Standalone Role = "standalone"
	Ingest     Role = "ingest"
	Processor  Role = "processor"
	Query      Role = "query"
	Proxy      Role = "proxy"
)

// Options are what a process is started with.
type Options struct {
	Role    Role
	Config  config.Config
	Version string
	// Progress shows long work to a person.
	Progress io.Writer
	Logger   *slog.Logger
	// Started is told the address once the process serves; it may be nil.
	Started func(address string)
}

// drainTime bounds the wait for requests in flight when the process ends.
const drainTime = 20 * time.Second

// Run serves until ctx ends, then drains.
func Run(ctx context.Context, o Options) error {
	if o.Role == Proxy {
		return runProxy(ctx, o)
	}
	if err := checkEngines(o); err != nil {
		return err
	}
	listener, err := listen(o.Config.Listen)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.Config.Data, 0o700); err != nil {
		return errors.Join(fmt.Errorf("make the data folder: %w", err), listener.Close())
	}
	p, err := start(ctx, o, listener)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	return p.run(ctx)
}

// checkEngines refuses to run a service of a cluster on engines of its own: the others would not see what it writes.
func checkEngines(o Options) error {
	if o.Role == Standalone {
		return nil
	}
	var errs []error
	if o.Config.Kafka == "" {
		errs = append(errs, errors.New("MILLRACE_KAFKA is not set"))
	}
	if o.Config.ClickHouse == "" {
		errs = append(errs, errors.New("MILLRACE_CLICKHOUSE is not set"))
	}
	if o.Config.Blob == "" {
		errs = append(errs, errors.New("MILLRACE_BLOB is not set (s3://BUCKET?…, or file:///FOLDER on a volume that all services share)"))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("millrace %s needs the cluster's engines (millrace standalone brings its own): %w", o.Role, err)
	}
	return nil
}

// process is a running process and what it is made of.
type process struct {
	*core
	options   Options
	metrics   *prometheus.Registry
	tracing   *telemetry.Tracing
	space     *space
	gate      *gate.Gate
	writes    *route.Admission
	processor *processor.Service
	// deliveries tell subscribers what happens.
	deliveries *subscription.Deliverer
	ingest     *ingest.Service
	apis       map[string]route.API
	cache      *cache.Cache
	rejected   *debci.RejectFile
	touched    *touched.Index[projection.Series]
	output     *touched.Index[string]
	reads      *native.Native
	pages      *ui.UI
	health     *route.Health
	listener   net.Listener
	// routes are those of the public listener, own the operations among them, socketReads what the operator's socket
	// answers besides.
	routes, own, socketReads []route.Route
	logger                   *slog.Logger
}

func start(ctx context.Context, o Options, listener net.Listener) (*process, error) {
	p := &process{
		options: o, listener: listener, logger: o.Logger, metrics: telemetry.NewRegistry(o.Version),
		rejected: debci.NewRejectFile(o.Config.Debci.RejectList),
		writes:   route.NewAdmission(o.Config.Ingest.MaxRequests, o.Config.Ingest.MaxBytes),
	}
	var err error
	if p.space, err = newSpace(o.Config, o.Logger); err != nil {
		return nil, err
	}
	p.tracing, err = telemetry.NewTracing(ctx, telemetry.TraceConfig{
		Endpoint: o.Config.Trace.Endpoint, Service: "millrace-" + string(o.Role), Version: o.Version, Ratio: o.Config.Trace.Ratio,
	}, o.Logger)
	if err != nil {
		return nil, err
	}
	if p.core, err = openCore(ctx, o, p.metrics, keyPolicyOf(o.Role)); err != nil {
		return nil, err
	}
	if err := p.compose(ctx); err != nil {
		p.core.close()
		return nil, err
	}
	return p, nil
}

// has says whether the process does the work of a role.
func (p *process) has(role Role) bool { return p.options.Role == Standalone || p.options.Role == role }

func (p *process) compose(ctx context.Context) error {
	p.gate = gate.New(gate.Config{
		Log: p.log, LogID: p.log.LogID, Generation: p.generation.Number, Group: sink.Group,
		Bound: p.options.Config.Query.Wait, Registry: p.metrics, Logger: p.logger,
	})
	if p.has(Processor) {
		if err := p.composeProcessor(ctx); err != nil {
			return err
		}
	}
	checks := map[string]route.Check{"kafka": p.log.Ping, "clickhouse": p.db.Ping, "space": p.space.Check}
	if p.options.Role != Ingest { // writes need no projections
		checks["projections"] = p.projected
	}
	if p.processor != nil {
		checks["log"] = p.processor.CheckLog
	}
	p.health = route.NewHealth(p.logger, checks)
	return p.composeRoutes()
}

// projected is the readiness check "projections": they are there.
func (p *process) projected(ctx context.Context) error {
	if p.processor != nil {
		return p.processor.Check(ctx)
	}
	if p.generation.Number() == 0 {
		return route.Busy(5*time.Second, "no generation of the projections is there: a processor makes it")
	}
	return nil
}

func (p *process) composeProcessor(ctx context.Context) error {
	var err error
	p.processor, err = processor.New(sinkConfig(p.options.Config.Processor), processor.Dependencies{
		Client: p.log, DB: p.db, Generation: p.generation, Appender: p.appender, Packer: p.packer, Epoch: p.epoch,
		CodeVersion: p.options.Version, Registry: p.metrics, Tracer: p.tracing.Tracer("millrace/processor"), Logger: p.logger,
		Moved: p.gate.Moved, GiveWay: newCourtesy(p.writes, p.gate, p.space, p.options.Config.Processor.GiveWay).giveWay,
	})
	if err != nil {
		return err
	}
	if p.deliveries, err = p.newDeliveries(); err != nil {
		return err
	}
	return p.processor.Prepare(ctx)
}

// run serves until ctx ends. What works behind the requests ends after the last of them has been answered.
func (p *process) run(ctx context.Context) error {
	defer p.close()
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	work, background := errgroup.WithContext(background)
	for _, run := range p.background() {
		work.Go(func() error { return run(background) })
	}
	serving, cut := context.WithCancel(ctx)
	defer cut()
	context.AfterFunc(background, cut) // nothing is served on when the work behind it has failed
	if p.ingest != nil {
		context.AfterFunc(serving, p.ingest.Drain)
	}
	if p.reads != nil {
		context.AfterFunc(serving, p.reads.Drain)
	}
	context.AfterFunc(ctx, func() { p.logger.Info("told to end: answering what has arrived", "at_most", drainTime) })
	err := p.serve(serving)
	stop()
	if workErr := work.Wait(); !errors.Is(workErr, context.Canceled) {
		err = errors.Join(err, workErr)
	}
	p.logger.Info("ended")
	return err
}

func (p *process) background() []func(context.Context) error {
	work := []func(context.Context) error{p.registry.Run, p.runs.Run, p.jobs.Run, p.generation.Run, p.space.Run}
	if p.processor != nil {
		blobs := &collector{core: p.core, gate: p.gate, logger: p.logger}
		work = append(work, p.processor.Run, blobs.Run, p.deliveries.Run)
		if keep := p.options.Config.Files.Keep; keep > 0 {
			files := &expiry.Keeper{
				Keep: keep, Archive: p.archive, Client: p.log, Appender: p.appender, Now: time.Now, Logger: p.logger,
			}
			work = append(work, files.Run)
		}
	}
	if p.touched != nil {
		work = append(work, p.touched.Run, p.output.Run)
	}
	if p.ingest != nil {
		work = append(work, p.ingest.Run)
	}
	if p.broker != nil {
		t := &trimmer{
			broker: p.broker, log: p.log, archive: p.archive, epoch: p.epoch, generation: p.generation, every: p.options.Config.Engines.TrimInterval, logger: p.logger,
		}
		work = append(work, t.Run)
	}
	return work
}

func (p *process) close() {
	p.cache.Close()
	p.gate.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := p.tracing.Shutdown(ctx); err != nil {
		p.logger.Warn("sending the last spans failed", "error", err)
	}
	p.core.close()
}
