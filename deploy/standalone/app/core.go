package app

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/deploy/standalone/config"
	"github.com/millrace/millrace/processor/archive"
	"github.com/millrace/millrace/processor/fold"
	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/processor/runs"
	"github.com/millrace/millrace/processor/sink"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/schemas/clickhouse"
	"github.com/millrace/millrace/schemas/document"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/keyring"
)

// core is what every service stands on: the engines, the log with its appender, the folds, the installation's key and the
// current generation.
type core struct {
	*engines
	keys *keyring.Keyring
	// tokens are those of Testflinger's clients.
	tokens     *testflinger.Tokens
	archive    *archive.Archive
	store      *fold.Store
	epoch      uint32
	packer     *document.Packer
	appender   *eventlog.Appender
	registry   *fold.Replica[*registry.State, registry.Outcome]
	runs       *fold.Replica[*runs.State, runs.Outcome]
	jobs       *fold.Replica[*jobs.State, jobs.Outcome]
	generation *clickhouse.Generation
	logger     *slog.Logger
}

// openCore opens the core of a process. keys says how it comes to the installation's key.
func openCore(ctx context.Context, o Options, metrics prometheus.Registerer, keys keyPolicy) (*core, error) {
	engines, err := openEngines(ctx, o.Config, o.Progress, o.Logger)
	if err != nil {
		return nil, err
	}
	k := &core{engines: engines, archive: archive.New(engines.db), store: fold.NewStore(engines.db), logger: o.Logger}
	err = k.openRedis(o.Config, o.Role)
	if err == nil {
		err = k.open(ctx, o.Config, metrics, o.Logger)
	}
	if err == nil {
		err = k.openKey(ctx, keyFile(o.Config), keys)
	}
	if err != nil {
		k.close()
		return nil, err
	}
	return k, nil
}

func (k *core) open(ctx context.Context, c config.Config, metrics prometheus.Registerer, logger *slog.Logger) error {
	var err error
	if k.epoch, err = k.archive.Epoch(ctx, k.log.LogID); err != nil {
		return err
	}
	if k.packer, err = document.NewPacker(k.blobs, max(c.Ingest.UploadBytes, 1<<30)); err != nil {
		return err
	}
	if k.generation, err = clickhouse.Follow(ctx, k.db, logger); err != nil {
		return err
	}
	k.registry, err = fold.NewReplica(ctx, registry.Fold(), k.log, k.archive, k.store, k.epoch, logger)
	if err != nil {
		return fmt.Errorf("start the registry's replica: %w", err)
	}
	k.runs, err = fold.NewReplica(ctx, runs.Fold(), k.log, k.archive, k.store, k.epoch, logger)
	if err != nil {
		return fmt.Errorf("start the runs' replica: %w", err)
	}
	k.jobs, err = fold.NewReplica(ctx, jobs.Fold(), k.log, k.archive, k.store, k.epoch, logger)
	if err != nil {
		return fmt.Errorf("start the jobs' replica: %w", err)
	}
	k.appender = eventlog.NewAppender(k.log, eventlog.AppenderConfig{MaxWaiting: c.Ingest.MaxWaiting}, metrics, logger)
	return nil
}

func (k *core) close() {
	if k.appender != nil {
		k.appender.Close()
	}
	if err := k.engines.close(); err != nil {
		k.logger.Warn("closing the engines", "error", err)
	}
}

// sinkConfig gives the processor's settings.
func sinkConfig(c config.Processor) sink.Config {
	return sink.Config{
		MaxRecords: c.BatchRecords, MaxRows: c.BatchRows, MaxBytes: c.BatchBytes,
		Interval: c.Interval, SnapshotEvery: c.SnapshotEvery, SessionTimeout: c.SessionTimeout,
	}
}
