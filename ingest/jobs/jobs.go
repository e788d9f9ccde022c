// Package jobs is the write side of jobs on Millrace's own API: submitting, claiming, and what who works on one reports.
// Workers get the jobs of every family here.
package jobs

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/ingest/dispatch"
	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/ingest/upload"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/schemas/document"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/keyring"
	"github.com/millrace/millrace/schemas/route"
)

// source names this door in events.
const source = "/millrace/jobs"

// LeaseHeader carries the token of a hand-out.
const LeaseHeader = "Millrace-Lease"

// Config is what an operator can set.
type Config struct {
	// Lease is how long a hand-out holds without a heartbeat, and Requeues how often a job goes back to its queue then.
	Lease    time.Duration
	Requeues uint32
	// MaxWait bounds how long a claim may wait for a job.
	MaxWait time.Duration
	// MaxPayload is the largest submission in bytes.
	MaxPayload int64
	// KeepKeys is how long an Idempotency-Key is remembered, in log time.
	KeepKeys time.Duration
}

// DefaultConfig is the configuration where the operator says nothing.
func DefaultConfig() Config {
	return Config{Lease: time.Minute, Requeues: 3, MaxWait: time.Minute, MaxPayload: 1 << 20, KeepKeys: door.DefaultKeep}
}

// Validate reports all mistakes at once.
func (c *Config) Validate() error {
	var errs []error
	if c.Lease < time.Second {
		errs = append(errs, errors.New("jobs.lease must be at least 1s: nobody could keep a shorter one"))
	}
	if c.MaxWait < 0 || c.MaxWait > 10*time.Minute {
		errs = append(errs, errors.New("jobs.max_wait must be from 0 to 10m"))
	}
	if c.MaxPayload < 1<<10 {
		errs = append(errs, errors.New("jobs.payload_bytes must be at least 1024"))
	}
	return errors.Join(errs...)
}

// Dependencies are what the endpoints work with. All are required.
type Dependencies struct {
	Log        door.Log
	Jobs       dispatch.Fold
	Dispatcher *dispatch.Dispatcher
	Leases     dispatch.Leases
	Packer     *document.Packer
	Keyring    *keyring.Keyring
	// Files takes artifacts.
	Files upload.Receiver
}

// Jobs answers the endpoints.
type Jobs struct {
	Dependencies
	config Config
}

// New gives the endpoints.
func New(config Config, d Dependencies) *Jobs { return &Jobs{Dependencies: d, config: config} }

const (
	// maxSmall bounds the bodies of everything but submissions.
	maxSmall = 64 << 10
	depth    = 64
	// maxQueues bounds the queues that one claim names.
	maxQueues = 100
	// maxName, maxTags and maxTag bound what a job is found by.
	maxName, maxTags, maxTag = 255, 50, 100
	// maxWait bounds the seconds that a claim asks for; Config.MaxWait bounds those that it waits.
	maxWait = 1e6
)

// Submission is the body of a submission.
type Submission struct {
	Queue    string         `json:"queue" doc:"letters, digits and . _ / -, at most 200; not testflinger/… or debci/…, whose jobs come by their own APIs"`
	Payload  jsontext.Value `json:"payload,omitzero" doc:"what the worker gets, any JSON"`
	Priority int64          `json:"priority,omitzero" doc:"higher goes first"`
	Name     string         `json:"name,omitzero" doc:"to find the job by, at most 255 bytes"`
	Tags     []string       `json:"tags,omitzero" doc:"to find the job by: at most 50, each of 1 to 100 bytes"`
}

// Submitted is the answer to a submission.
type Submitted struct {
	ID string `json:"id" doc:"the job's id"`
}

// Claim is the body of a claim.
type Claim struct {
	Queues []string `json:"queues,omitzero" doc:"the queues to take a job from: the one with the highest priority, then the oldest"`
	ID     string   `json:"id,omitzero" doc:"the one job to take, instead of queues"`
	Wait   float64  `json:"wait,omitzero" doc:"seconds to wait for a job, from 0 to 1000000; jobs.max_wait may end the wait sooner"`
}

// Claimed is the answer to a claim.
type Claimed struct {
	ID      string         `json:"id"`
	Queue   string         `json:"queue"`
	Payload jsontext.Value `json:"payload"`
	Lease   Lease          `json:"lease"`
}

// Lease is what who got a job speaks of it by, and until when.
type Lease struct {
	Token     string    `json:"token" doc:"to be sent as Millrace-Lease"`
	ExpiresAt time.Time `json:"expires_at" doc:"when the job goes to another worker unless a heartbeat comes before"`
}

// Result is the body of a result.
type Result struct {
	Status          string `json:"status" doc:"pass, fail, neutral or tmpfail"`
	Message         string `json:"message,omitzero" doc:"at most 4096 bytes"`
	Version         string `json:"version,omitzero" doc:"of what was tested, at most 255 bytes"`
	DurationSeconds *int64 `json:"duration_seconds,omitempty"`
	ExitCode        *int64 `json:"exit_code,omitempty" doc:"of the command that was run"`
}

// Renewed is the answer to a heartbeat.
type Renewed struct {
	Lease Lease `json:"lease"`
	// Cancelled tells the worker to stop.
	Cancelled bool `json:"cancelled" doc:"somebody cancelled the job: stop, and report"`
}

var queueName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}$`)

// IsQueue says whether jobs of this API can be in a queue of this name, as far as its letters go.
func IsQueue(name string) bool { return queueName.MatchString(name) }

func bad(format string, args ...any) error {
	return route.Errorf(http.StatusBadRequest, format, args...)
}

func (s *Submission) check() error {
	switch {
	case !IsQueue(s.Queue):
		return bad("member /queue must be letters, digits and . _ / -, at most 200, and begin with none of . / -")
	case strings.HasPrefix(s.Queue, "testflinger/"), strings.HasPrefix(s.Queue, "debci/"):
		return bad("member /queue: jobs of %s come by its own API", s.Queue[:strings.IndexByte(s.Queue, '/')])
	case len(s.Name) > maxName:
		return bad("member /name has %d bytes: the limit is %d", len(s.Name), maxName)
	case len(s.Tags) > maxTags:
		return bad("member /tags has %d tags: the limit is %d", len(s.Tags), maxTags)
	}
	for i, tag := range s.Tags {
		if tag == "" || len(tag) > maxTag {
			return bad("member /tags/%d has %d bytes: want 1 to %d", i, len(tag), maxTag)
		}
	}
	return nil
}

// submit answers POST /millrace/v1/jobs.
func (j *Jobs) submit(c *gin.Context) {
	outcome, err := j.submitted(c)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	c.JSON(http.StatusCreated, Submitted{ID: jobs.ID(event.JobFamily_JOB_FAMILY_NATIVE, outcome.Job.Seq, "")})
}

func (j *Jobs) submitted(c *gin.Context) (jobs.Outcome, error) {
	body, err := route.ReadBody(c)
	if err != nil {
		return jobs.Outcome{}, err
	}
	asked, err := route.DecodeJSON[Submission](body, depth, json.RejectUnknownMembers(true))
	if err == nil {
		err = asked.check()
	}
	if err != nil {
		return jobs.Outcome{}, err
	}
	key, err := door.Idempotency(c, credential(c), body, j.config.KeepKeys)
	if err != nil {
		return jobs.Outcome{}, err
	}
	if asked.Payload == nil {
		asked.Payload = jsontext.Value("null")
	}
	packed, err := j.Packer.Pack(c.Request.Context(), asked.Payload)
	if err != nil {
		return jobs.Outcome{}, door.OutOfReach("the document store")
	}
	outcome, err := j.decide(c, &event.JobSubmitted{
		Family: event.JobFamily_JOB_FAMILY_NATIVE, Queue: asked.Queue, Priority: asked.Priority, Document: packed, Idempotency: key,
		Labels: &event.JobLabels{Name: asked.Name, Tags: asked.Tags}, Owner: j.owner(c),
	})
	if err == nil && outcome.Result == jobs.KeyReused {
		err = door.KeyReused()
	}
	return outcome, err
}

// decide asks the log, and tells the client where its write stands.
func (j *Jobs) decide(c *gin.Context, request proto.Message) (jobs.Outcome, error) {
	outcome, position, err := door.Decide(c.Request.Context(), j.Log, j.Jobs, source, request)
	if err == nil {
		door.SetPosition(c, position)
	}
	return outcome, err
}

// owner is whose jobs those are that a token submits; the operator at the socket has none.
func (j *Jobs) owner(c *gin.Context) []byte {
	bearer, _ := route.Principal[access.Bearer](c)
	if bearer.Name == "" {
		return nil
	}
	owner := access.HashTokenOwner(j.Keyring, bearer.Name)
	return owner[:]
}

func credential(c *gin.Context) string {
	bearer, _ := route.Principal[access.Bearer](c)
	return "token:" + bearer.Name
}

// claim answers POST /millrace/v1/jobs/claim.
func (j *Jobs) claim(c *gin.Context) {
	got, err := j.claimed(c)
	switch {
	case err != nil:
		route.Refuse(c, err)
		return
	case got == nil:
		c.Status(http.StatusNoContent)
		c.Writer.WriteHeaderNow()
		return
	}
	payload, err := j.Dispatcher.Documents.Unpack(c.Request.Context(), got.Submission)
	if err != nil {
		j.Dispatcher.Release(c.Request.Context(), got.Job)
		route.Refuse(c, err)
		return
	}
	door.SetPosition(c, got.Position)
	c.JSON(http.StatusOK, Claimed{
		ID: jobs.ID(got.Job.Family, got.Job.Seq, got.Submission.JobID), Queue: got.Job.Queue, Payload: payload, Lease: j.lease(got.Job),
	})
}

func (j *Jobs) lease(job jobs.Job) Lease {
	return Lease{Token: j.Leases.Token(job), ExpiresAt: time.UnixMilli(job.Expires).UTC()}
}

func (j *Jobs) claimed(c *gin.Context) (*dispatch.HandOut, error) {
	body, err := route.ReadBody(c)
	if err != nil {
		return nil, err
	}
	asked, err := route.DecodeJSON[Claim](body, depth, json.RejectUnknownMembers(true))
	if err != nil {
		return nil, err
	}
	request, err := j.request(asked)
	if err != nil {
		return nil, err
	}
	bearer, _ := route.Principal[access.Bearer](c)
	request.Asker = bearer.Name
	if request.Idempotency, err = door.Idempotency(c, credential(c), body, j.config.KeepKeys); err != nil {
		return nil, err
	}
	wait := min(j.config.MaxWait, time.Duration(asked.Wait*float64(time.Second)))
	got, err := j.Dispatcher.Claim(c.Request.Context(), source, request, wait)
	if errors.Is(err, dispatch.ErrKeyReused) {
		return nil, door.KeyReused()
	}
	return got, err
}

// request makes the event of a claim.
func (j *Jobs) request(asked Claim) (*event.JobClaimRequested, error) {
	switch {
	case (len(asked.Queues) == 0) == (asked.ID == ""):
		return nil, bad("want either member /queues with the queues to take a job from, or member /id with the one job")
	case len(asked.Queues) > maxQueues:
		return nil, bad("member /queues names %d queues: the limit is %d", len(asked.Queues), maxQueues)
	case !(asked.Wait >= 0 && asked.Wait <= maxWait):
		return nil, bad("member /wait is %g: want seconds, from 0 to %d", asked.Wait, int(maxWait))
	}
	request := &event.JobClaimRequested{
		Queues: asked.Queues, OneOfId: true,
		Lease: &event.JobLease{Duration: j.config.Lease.Milliseconds(), Requeues: j.config.Requeues, EndState: endState},
	}
	if asked.ID != "" {
		named, err := parseID(asked.ID)
		if err != nil {
			return nil, err
		}
		lives := false
		j.Jobs.View(func(s *jobs.State) {
			job, found := s.Find(named.Ref)
			lives = !found || named.Names(job)
		})
		if !lives {
			return nil, route.Errorf(http.StatusNotFound, "there is no job %q", asked.ID)
		}
		request.Job = named.Ref
	}
	return request, nil
}

// endState is the state of a job that ended by a result, or because all its workers were lost.
const endState = "complete"

// handOut reads the hand-out that a request speaks of.
func (j *Jobs) handOut(c *gin.Context) (seq uint64, attempt uint32, err error) {
	named, err := parseID(c.Param("id"))
	if err != nil {
		return 0, 0, err
	}
	token := c.GetHeader(LeaseHeader)
	if token == "" {
		return 0, 0, bad("header %s is missing: send the token of the lease", LeaseHeader)
	}
	if err := j.find(c.Request.Context(), named); err != nil {
		return 0, 0, err
	}
	seq, attempt, ok := j.Leases.Read(token)
	j.Jobs.View(func(s *jobs.State) {
		job, lives := s.Find(&event.JobRef{Name: &event.JobRef_Seq{Seq: seq}})
		ok = ok && (!lives || named.Names(job))
	})
	if !ok {
		return 0, 0, stale()
	}
	return seq, attempt, nil
}

// parseID reads the id of a job.
func parseID(id string) (jobs.Reference, error) {
	named, ok := jobs.ParseID(id)
	if !ok {
		return named, route.Errorf(http.StatusNotFound, "there is no job %q: ids are job-N, debci-N and testflinger-UUID", id)
	}
	return named, nil
}

// find refuses the id of a job that never was. One of Testflinger's that has ended cannot be told from such: the lease
// decides about it.
func (j *Jobs) find(ctx context.Context, named jobs.Reference) error {
	was := false
	look := func(s *jobs.State) {
		job, lives := s.Find(named.Ref)
		was = lives && named.Names(job) || !lives && named.Ref.GetSeq() <= s.Last()
	}
	if j.Jobs.View(look); was {
		return nil
	}
	if err := j.Jobs.CatchUp(ctx); err != nil {
		return door.Refusal(err)
	}
	if j.Jobs.View(look); !was {
		return route.Errorf(http.StatusNotFound, "there is no job with this id")
	}
	return nil
}

func stale() error {
	return route.Errorf(http.StatusConflict, "the lease is over, or was never given for this job: the job is not yours any more")
}

// heartbeat answers POST /millrace/v1/jobs/{id}/heartbeat.
func (j *Jobs) heartbeat(c *gin.Context) {
	seq, attempt, err := j.handOut(c)
	var outcome jobs.Outcome
	if err == nil {
		outcome, err = j.decide(c, &event.JobHeartbeat{Seq: seq, Attempt: attempt})
	}
	if err == nil && outcome.Result != jobs.Done {
		err = stale()
	}
	if err != nil {
		route.Refuse(c, err)
		return
	}
	c.JSON(http.StatusOK, Renewed{Lease: j.lease(outcome.Job), Cancelled: outcome.Job.Cancelled})
}

// Cancelled is the answer to a cancellation.
type Cancelled struct {
	State string `json:"state" doc:"cancelled: a job that waited has ended; one that a worker has ends when the worker stops"`
}

// cancel answers POST /millrace/v1/jobs/{id}/cancel.
func (j *Jobs) cancel(c *gin.Context) {
	if err := j.cancelled(c); err != nil {
		route.Refuse(c, err)
		return
	}
	c.JSON(http.StatusOK, Cancelled{State: jobs.StateCancelled})
}

func (j *Jobs) cancelled(c *gin.Context) error {
	named, err := parseID(c.Param("id"))
	if err == nil {
		err = j.find(c.Request.Context(), named)
	}
	if err != nil {
		return err
	}
	key, err := door.Idempotency(c, credential(c), nil, j.config.KeepKeys)
	if err != nil {
		return err
	}
	outcome, err := j.decide(c, &event.JobCancelRequested{Job: named.Ref, Idempotency: key})
	if err == nil && outcome.Result != jobs.Done && outcome.Result != jobs.Cancelled {
		err = route.Errorf(http.StatusConflict, "the job has ended: there is nothing to cancel")
	}
	return err
}

// result answers POST /millrace/v1/jobs/{id}/result.
func (j *Jobs) result(c *gin.Context) {
	if err := j.report(c); err != nil {
		route.Refuse(c, err)
		return
	}
	c.JSON(http.StatusOK, struct{}{})
}

func (j *Jobs) report(c *gin.Context) error {
	seq, attempt, err := j.handOut(c)
	if err != nil {
		return err
	}
	body, err := route.ReadBody(c)
	if err != nil {
		return err
	}
	result, err := route.DecodeJSON[Result](body, depth, json.RejectUnknownMembers(true))
	if err == nil {
		err = result.check()
	}
	if err != nil {
		return err
	}
	kept, err := json.Marshal(result)
	if err != nil {
		return err
	}
	bearer, _ := route.Principal[access.Bearer](c)
	outcome, err := j.decide(c, &event.JobStateReported{
		Job: &event.JobRef{Name: &event.JobRef_Seq{Seq: seq}}, Attempt: attempt, State: endState, Final: true, Result: kept,
		Reporter: bearer.Name, Idempotency: j.resultKey(seq, attempt, kept),
	})
	switch {
	case err != nil:
		return err
	case outcome.Result == jobs.KeyReused:
		return route.Errorf(http.StatusUnprocessableEntity, "this lease has already reported another result, which stands")
	case outcome.Result != jobs.Done:
		return stale()
	}
	return nil
}

// resultKey lets a result whose answer was lost be sent again: there is one for each hand-out.
func (j *Jobs) resultKey(seq uint64, attempt uint32, result []byte) *event.Idempotency {
	name := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64([]byte("job result "), seq), attempt)
	key, body := sha256.Sum256(name), sha256.Sum256(result)
	return &event.Idempotency{Key: key[:], Body: body[:], KeepSeconds: int64(j.config.KeepKeys / time.Second)}
}

func (r *Result) check() error {
	switch {
	case r.Status != "pass" && r.Status != "fail" && r.Status != "neutral" && r.Status != "tmpfail":
		return bad("member /status is %.40q: want pass, fail, neutral or tmpfail", r.Status)
	case len(r.Message) > 4096:
		return bad("member /message has %d bytes: the limit is 4096", len(r.Message))
	case len(r.Version) > 255:
		return bad("member /version has %d bytes: the limit is 255", len(r.Version))
	case r.DurationSeconds != nil && *r.DurationSeconds < 0:
		return bad("member /duration_seconds is negative")
	}
	return nil
}
