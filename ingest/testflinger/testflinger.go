// Package testflinger is the write side of the Testflinger API: jobs, what agents say and report, clients and their tokens.
// Two of its reads are writes and are answered here: an agent's request for a job, and a poll for output, of which each
// piece is given out once. Section numbers in comments are those of the API's wire contract.
//
// What decides is appended as a request that a fold answers: jobs in topic jobs, clients in topic registry. What agents say
// of themselves, of queues and of results are facts, merged by the order of the log; so that agents, which speak every few
// seconds, cost no fold memory nor room in a topic that decides. A door that needs an agent's words (which queues are
// served) reads the projections, which contain everything that was acknowledged before the request.
package testflinger

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/ingest/dispatch"
	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/ingest/upload"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/schemas/document"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/keyring"
	"github.com/millrace/millrace/schemas/route"
)

// API is the name of Testflinger's route table.
const API = "testflinger"

// source names this door in events.
const source = "/testflinger"

// Config is what an operator can set.
type Config struct {
	Generation testflinger.Generation
	// Lease is how long a hand-out holds without any call of an agent's that names its job; 0: for ever. Requeues is how often a job goes
	// back to its queue then.
	Lease    time.Duration
	Requeues uint32
	// MaxBody is the largest body in bytes, of a job, a result or a piece of output.
	MaxBody int64
	// MaxExclusions is how many different sets of excluded agents the jobs of a queue may have: every claim looks at each.
	MaxExclusions int
	// KeepKeys is how long an Idempotency-Key is remembered, in log time.
	KeepKeys time.Duration
}

// DefaultConfig is the configuration where the operator says nothing.
func DefaultConfig() Config {
	return Config{Requeues: 3, MaxBody: 16<<20 - 1, MaxExclusions: 64, KeepKeys: door.DefaultKeep}
}

// Validate reports all mistakes at once.
func (c *Config) Validate() error {
	var errs []error
	if c.Lease != 0 && c.Lease < time.Second {
		errs = append(errs, errors.New("testflinger.lease must be 0 or at least 1s"))
	}
	if c.MaxBody < 1<<10 {
		errs = append(errs, errors.New("testflinger.request_bytes must be at least 1024"))
	}
	if c.MaxExclusions < 1 {
		errs = append(errs, errors.New("testflinger.exclusions must be at least 1"))
	}
	return errors.Join(errs...)
}

// Pieces are pieces of a job's output that were not given out yet, in their order.
type Pieces struct {
	// After and Through are as in event.JobOutputTakeRequested.
	After, Through uint64
	Documents      []*event.Document
}

// Dependencies are what the endpoints work with. All are required.
type Dependencies struct {
	Log        door.Log
	Registry   door.Fold[*registry.State, registry.Outcome]
	Jobs       dispatch.Fold
	Dispatcher *dispatch.Dispatcher
	Packer     *document.Packer
	Keyring    *keyring.Keyring
	Tokens     *testflinger.Tokens
	Attempts   *access.Attempts
	// Files takes attachments and artifacts.
	Files upload.Receiver
	// Webhooks are called with events that agents have forwarded.
	Webhooks *Webhooks
	// Agents gives the agents that are known, with the queues that they serve. Its answer, and those of the next two, contain
	// everything that was acknowledged before it was asked.
	Agents func(ctx context.Context) (map[string][]string, error)
	// Find gives the number of the newest job with an id; 0 when there is none.
	Find func(ctx context.Context, jobID string) (uint64, error)
	// Pieces gives the pieces of a job's output that come next, of about limit bytes: those behind a place, or, when it is not
	// known, behind the last that the projections know to be given out.
	Pieces  func(ctx context.Context, jobID string, kind event.JobOutputKind, after uint64, known bool, limit int64) (*Pieces, error)
	Now     func() time.Time
	Metrics prometheus.Registerer
	Logger  *slog.Logger
}

// Testflinger answers the write endpoints.
type Testflinger struct {
	Dependencies
	config   Config
	pulse    *Pulse
	counters *counters
	// bcrypts bounds the secrets that are looked at at a time: each takes a processor for some time.
	bcrypts chan struct{}
	// nobody is a secret that nobody has, for looking at where there is no client: the answer takes as long.
	nobody []byte
}

// New checks the configuration.
func New(config Config, d Dependencies) (*Testflinger, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	t := &Testflinger{
		Dependencies: d, config: config, bcrypts: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		pulse: NewPulse(config.Generation, config.Lease, PulseDependencies{Log: d.Log, Jobs: d.Jobs, Now: d.Now, Logger: d.Logger}),
	}
	var err error
	if t.counters, err = newCounters(d.Metrics); err != nil {
		return nil, err
	}
	if d.Keyring == nil { // a table without anything behind it has none
		return t, nil
	}
	t.nobody, err = access.EncryptTestflingerSecret(d.Keyring, "")
	return t, err
}

// latest says that the newer generation is served.
func (t *Testflinger) latest() bool { return t.config.Generation == testflinger.Latest }

// permission is what the caller may do; nil for who has no token.
func permission(c *gin.Context) *testflinger.Permission {
	caller, _ := route.Principal[access.TestflingerCaller](c)
	return caller.Permission
}

// idempotency reads the request's key, if it has one. It counts for one client.
func (t *Testflinger) idempotency(c *gin.Context, body []byte) (*event.Idempotency, error) {
	credential := "testflinger"
	if p := permission(c); p != nil {
		credential += ":" + p.ClientID
	}
	return door.Idempotency(c, credential, body, t.config.KeepKeys)
}

// record appends a fact, and tells the client where it stands.
func (t *Testflinger) record(c *gin.Context, topic, key string, fact proto.Message) (eventlog.Position, error) {
	wrapped, err := door.NewEvent(c.Request.Context(), source, fact)
	if err != nil {
		return eventlog.Position{}, err
	}
	position, err := t.Log.Record(c.Request.Context(), topic, []byte(key), wrapped)
	if err == nil {
		door.SetPosition(c, position)
	}
	return position, err
}

// decideJob asks the jobs' fold.
func (t *Testflinger) decideJob(c *gin.Context, request proto.Message) (jobs.Outcome, error) {
	outcome, position, err := door.Decide(c.Request.Context(), t.Log, t.Jobs, source, request)
	if err == nil {
		door.SetPosition(c, position)
	}
	return outcome, err
}

// decideClient asks the registry's fold.
func (t *Testflinger) decideClient(c *gin.Context, request proto.Message) (registry.Outcome, error) {
	outcome, position, err := door.Decide(c.Request.Context(), t.Log, t.Registry, source, request)
	if err == nil && outcome.Result == registry.KeyReused {
		err = door.KeyReused()
	}
	if err == nil {
		door.SetPosition(c, position)
	}
	return outcome, err
}

// pack gives the document for an event.
func (t *Testflinger) pack(ctx context.Context, body []byte) (*event.Document, error) {
	packed, err := t.Packer.Pack(ctx, body)
	if err != nil {
		return nil, errors.Join(door.OutOfReach("the document store"), err)
	}
	return packed, nil
}

// byID names a job by its own id.
func byID(id string) *event.JobRef { return &event.JobRef{Name: &event.JobRef_JobId{JobId: id}} }

// bySeq names a job by its number.
func bySeq(seq uint64) *event.JobRef { return &event.JobRef{Name: &event.JobRef_Seq{Seq: seq}} }

// live finds a job that has not ended.
func (t *Testflinger) live(ctx context.Context, id string) (job jobs.Job, lives bool, err error) {
	look := func(s *jobs.State) { job, lives = s.Find(byID(id)) }
	if t.Jobs.View(look); lives {
		return job, true, nil
	}
	if err := t.Jobs.CatchUp(ctx); err != nil {
		return job, false, door.Refusal(err)
	}
	t.Jobs.View(look)
	return job, lives, nil
}
