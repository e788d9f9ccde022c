package app

import (
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/deploy/standalone/config"
	"github.com/millrace/millrace/ingest"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// Tables are the routes of every API without anything behind them, as they are by an installation's settings, those that
// every process serves for itself among them: for the proxy, which hands the others on, and for documentation. Their
// handlers must not be called.
func Tables(c config.Config) ([]route.Route, error) {
	generation, err := testflinger.ParseGeneration(c.Testflinger.API)
	if err != nil {
		return nil, err
	}
	settings := ingest.DefaultConfig()
	settings.Testflinger.Generation, settings.Files = generation, filesConfig(c)
	writes, err := ingest.New(settings, ingest.Dependencies{
		Client: &eventlog.Client{}, Metrics: prometheus.NewRegistry(), Now: time.Now, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	reads, err := queryTables(c, generation)
	if err != nil {
		return nil, err
	}
	logger := slog.New(slog.DiscardHandler)
	bare := &process{metrics: prometheus.NewRegistry(), logger: logger}
	own := append(route.NewHealth(logger, nil).Routes(), bare.metricsRoute())
	own = append(own, (&operations{process: bare}).routes()...)
	return slices.Concat(writes.Routes(), reads, own), nil
}
