// Package ingest is the service that takes writes into the log. It composes the write endpoints of every API; who serves
// them mounts their tables.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/ingest/debci"
	"github.com/millrace/millrace/ingest/dispatch"
	"github.com/millrace/millrace/ingest/door"
	ingestjobs "github.com/millrace/millrace/ingest/jobs"
	"github.com/millrace/millrace/ingest/native"
	"github.com/millrace/millrace/ingest/operator"
	"github.com/millrace/millrace/ingest/pgperffarm"
	"github.com/millrace/millrace/ingest/subscriptions"
	ingesttestflinger "github.com/millrace/millrace/ingest/testflinger"
	"github.com/millrace/millrace/ingest/upload"
	"github.com/millrace/millrace/processor/access"
	tests "github.com/millrace/millrace/processor/debci"
	"github.com/millrace/millrace/processor/fold"
	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/processor/runs"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/processor/webhook"
	"github.com/millrace/millrace/schemas/blob"
	"github.com/millrace/millrace/schemas/document"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/keyring"
	"github.com/millrace/millrace/schemas/route"
)

// Config is what an operator can set.
type Config struct {
	Farm  pgperffarm.Config
	Debci debci.Config
	// Testflinger is of the generation of TestflingerTokens.
	Testflinger ingesttestflinger.Config
	Jobs        ingestjobs.Config
	Files       upload.Config
	Webhooks    WebhooksConfig
	// SubmissionBytes bounds the submitted documents of jobs that are kept at hand.
	SubmissionBytes int
	// Tokens says who needs a token for Millrace's own API.
	Tokens access.TokensConfig
	// KeepKeys is how long an Idempotency-Key is remembered, in log time.
	KeepKeys time.Duration
}

// WebhooksConfig says what others may have Millrace call.
type WebhooksConfig struct {
	// Allowed is what may be reached besides public addresses.
	Allowed webhook.Allowed
	// Origins are those that Testflinger's agents may have events forwarded to.
	Origins []string
	// Secret is what those get as a bearer token; empty: nothing.
	Secret string
	// MaxSubscriptions bounds the subscriptions.
	MaxSubscriptions int
}

// DefaultConfig is the configuration where the operator says nothing.
func DefaultConfig() Config {
	return Config{
		Farm: pgperffarm.DefaultConfig(), Debci: debci.DefaultConfig(), Testflinger: ingesttestflinger.DefaultConfig(), Jobs: ingestjobs.DefaultConfig(), SubmissionBytes: 64 << 20,
		Files: upload.DefaultConfig(), Webhooks: WebhooksConfig{MaxSubscriptions: 100},
		KeepKeys: door.DefaultKeep,
	}
}

// Validate reports all mistakes at once.
func (c *Config) Validate() error {
	errs := []error{c.Farm.Validate(), c.Debci.Validate(), c.Testflinger.Validate(), c.Jobs.Validate(), c.Files.Validate()}
	if c.KeepKeys < time.Second {
		errs = append(errs, fmt.Errorf("idempotency keys are kept for %s: want at least 1s", c.KeepKeys))
	}
	return errors.Join(errs...)
}

// Dependencies are what the service works with. All are required but StoredRun. The caller keeps the replicas running.
type Dependencies struct {
	Client   *eventlog.Client
	Appender *eventlog.Appender
	Registry *fold.Replica[*registry.State, registry.Outcome]
	Runs     *fold.Replica[*runs.State, runs.Outcome]
	Jobs     *fold.Replica[*jobs.State, jobs.Outcome]
	Keyring  *keyring.Keyring
	Packer   *document.Packer
	Blobs    *blob.Store
	// StoredRun is pgperffarm.Dependencies.StoredRun.
	StoredRun func(ctx context.Context, machine uint64, start int64, through uint64) (uint64, error)
	// StoredKey finds idempotency keys that the folds have forgotten.
	StoredKey door.StoredKeys
	// Run is native.Dependencies.Run.
	Run func(ctx context.Context, run, result uint64) (*native.Run, error)
	// Rejected, DebciTest and DebciPrivate are debci.Dependencies' Rejected, Test and Private.
	Rejected     *tests.RejectFile
	DebciTest    func(ctx context.Context, run uint64) (*debci.Test, error)
	DebciPrivate func(ctx context.Context, owner registry.Hash, runs []uint64) ([]uint64, error)
	// TestflingerTokens makes and checks the tokens of Testflinger's clients.
	TestflingerTokens *testflinger.Tokens
	// Agents, FindJob and Pieces are the Testflinger API's dependencies Agents, Find and Pieces.
	Agents  func(ctx context.Context) (map[string][]string, error)
	FindJob func(ctx context.Context, jobID string) (uint64, error)
	Pieces  func(ctx context.Context, jobID string, kind event.JobOutputKind, after uint64, known bool, limit int64) (*ingesttestflinger.Pieces, error)
	// FindSubmissions reads what was submitted for jobs in the projections.
	FindSubmissions dispatch.Find
	// DeadLetter is operator.Dependencies.DeadLetter.
	DeadLetter func(ctx context.Context, id string) (*event.DeadLetter, error)
	Now        func() time.Time
	Metrics    prometheus.Registerer
	Logger     *slog.Logger
}

// Service is the write side.
type Service struct {
	farm     *pgperffarm.Farm
	debci    *debci.Debci
	flinger  *ingesttestflinger.Testflinger
	jobs     *ingestjobs.Jobs
	dispatch *dispatch.Dispatcher
	operator *operator.Operator
	native   *native.Native
	told     *subscriptions.Subscriptions
	apis     map[string]route.API
}

// New wires the service. NameKey prepares the log before Routes are served.
func New(config Config, d Dependencies) (*Service, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	log, replica := door.Connect(d.Client, d.Appender), door.Bind(eventlog.Registry, d.Registry, d.Appender, d.StoredKey)
	uploads := door.Bind(eventlog.Runs, d.Runs, d.Appender, d.StoredKey)
	farm, err := pgperffarm.New(config.Farm, pgperffarm.Dependencies{
		Log: log, Registry: replica, Runs: uploads, Keyring: d.Keyring, Packer: d.Packer,
		StoredRun: d.StoredRun, Now: d.Now, Metrics: d.Metrics, Logger: d.Logger,
	})
	if err != nil {
		return nil, err
	}
	s := &Service{farm: farm}
	queues := door.Bind(eventlog.Jobs, d.Jobs, d.Appender, d.StoredKey)
	s.composeJobs(config, d, log, queues)
	s.debci, err = debci.New(config.Debci, debci.Dependencies{
		Log: log, Jobs: queues, Packer: d.Packer, Rejected: d.Rejected,
		SealName: func(user registry.Hash, name string) ([]byte, error) {
			return access.SealDebciName(d.Keyring, user, name)
		},
		Test: d.DebciTest, Private: d.DebciPrivate,
	})
	if err != nil {
		return nil, err
	}
	webhooks, err := ingesttestflinger.NewWebhooks(config.Testflinger.Generation, ingesttestflinger.WebhooksConfig{
		Allowed: config.Webhooks.Allowed, Origins: config.Webhooks.Origins, Secret: config.Webhooks.Secret, Local: config.Tokens.Local,
	})
	if err != nil {
		return nil, err
	}
	s.flinger, err = ingesttestflinger.New(config.Testflinger, ingesttestflinger.Dependencies{
		Files: upload.Receiver{Config: config.Files, Blobs: d.Blobs}, Webhooks: webhooks,
		Log: log, Registry: replica, Jobs: queues, Dispatcher: s.dispatch, Packer: d.Packer, Keyring: d.Keyring, Tokens: d.TestflingerTokens,
		Attempts: access.NewAttempts(), Agents: d.Agents, Find: d.FindJob, Pieces: d.Pieces, Now: d.Now, Metrics: d.Metrics, Logger: d.Logger,
	})
	if err != nil {
		return nil, err
	}
	s.operator = operator.New(operator.Dependencies{
		Log: log, Registry: replica, Keyring: d.Keyring, DeadLetter: d.DeadLetter, KeepKeys: config.KeepKeys,
	})
	s.told = subscriptions.New(subscriptions.Dependencies{
		Log: log, Registry: replica, Keyring: d.Keyring, Check: webhook.New(webhook.Config{Allowed: config.Webhooks.Allowed}).Check,
		Ends: func(ctx context.Context) (map[eventlog.Partition]int64, error) {
			return d.Client.Ends(ctx, d.Client.Partitions()...)
		},
		Max: config.Webhooks.MaxSubscriptions, KeepKeys: config.KeepKeys,
	})
	s.native = native.New(native.Dependencies{Log: log, Runs: uploads, KeepKeys: config.KeepKeys, Run: d.Run, Now: d.Now})
	s.apis = Authorizers(config, d.Registry, d.Keyring, d.TestflingerTokens, d.Now, farm.RefusedUpload)
	return s, nil
}

// composeJobs wires what hands jobs out.
func (s *Service) composeJobs(config Config, d Dependencies, log door.Log, queues dispatch.Fold) {
	documents := dispatch.NewDocuments(config.SubmissionBytes, d.FindSubmissions, d.Packer)
	if d.Jobs != nil { // a table without anything behind it has none
		d.Jobs.Watch(documents.Watch)
	}
	s.dispatch = dispatch.New(dispatch.Dependencies{Log: log, Jobs: queues, Documents: documents, Now: d.Now, Logger: d.Logger})
	s.jobs = ingestjobs.New(config.Jobs, ingestjobs.Dependencies{
		Log: log, Jobs: queues, Dispatcher: s.dispatch, Leases: dispatch.NewLeases(d.Keyring), Packer: d.Packer, Keyring: d.Keyring,
		Files: upload.Receiver{Config: config.Files, Blobs: d.Blobs},
	})
}

// Run does the write side's own work, until ctx ends: it ends leases of which nothing was heard. The replicas are running.
func (s *Service) Run(ctx context.Context) error { return s.dispatch.Run(ctx) }

// Drain ends what waits for something to come: the process is about to end.
func (s *Service) Drain() { s.dispatch.Drain() }

// Authorizers says how the callers of every API are authorized, by its name: also for a process that serves no writes.
// refused is access.FarmConfig.Refused; nil where no uploads are taken.
func Authorizers(config Config, replica access.Registry, ring *keyring.Keyring, tokens *testflinger.Tokens, now func() time.Time,
	refused func(*gin.Context, uint64, *route.Error) error,
) map[string]route.API {
	attempts := access.NewAttempts()
	farm := access.NewFarm(access.FarmConfig{Hold: config.Farm.Hold, Refused: refused}, replica, ring, attempts, now)
	own := access.NewTokens(config.Tokens, replica, ring, attempts, now)
	return map[string]route.API{
		pgperffarm.API: farm.API(), debci.API: access.NewDebci(replica, ring).API(), native.API: own.API(),
		ingesttestflinger.API: access.NewTestflinger(tokens).API(),
	}
}

// Routes is the table of every write endpoint.
func (s *Service) Routes() []route.Route {
	routes := append(s.farm.Routes(), s.debci.Routes()...)
	routes = append(routes, s.flinger.Routes()...)
	routes = append(routes, s.operator.Routes()...)
	routes = append(routes, s.jobs.Routes()...)
	routes = append(routes, s.told.Routes()...)
	return append(routes, s.native.Routes()...)
}

// OperatorRoutes is the part of the table that the operator's Unix socket serves, with access.Socket as the authorizer of
// API "millrace".
func (s *Service) OperatorRoutes() []route.Route {
	routes := append(s.operator.Routes(), s.told.Routes()...)
	return append(routes, s.jobs.Routes()...)
}

// APIs are the Authorizers of these routes. Both sides of an API may be mounted with them.
func (s *Service) APIs() map[string]route.API { return s.apis }
