package testflinger

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/ingest/dispatch"
	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/keyring"
)

const (
	// maxQueues bounds the queues that an agent asks for at a time.
	maxQueues = 1000
	// agentCookie is where an agent of the newer generation has its name.
	agentCookie = "agent_name"
)

// claim answers GET /v1/job (5): the job is the asker's. HEAD asks whether there is one, and takes none.
func (t *Testflinger) claim(c *gin.Context) {
	request, err := t.claimOf(c)
	if err != nil {
		refuse(c, err)
		return
	}
	switch {
	case len(request.GetQueues()) == 0 && !t.latest():
		access.TestflingerJSON(c, http.StatusBadRequest, struct{}{})
		return
	case len(request.GetQueues()) == 0:
		refuse(c, bad(http.StatusBadRequest, "No queue specified in request"))
		return
	case c.Request.Method == http.MethodHead:
		t.lookForJob(c, request)
		return
	}
	got, err := t.Dispatcher.Claim(c.Request.Context(), source, request, 0)
	switch {
	case errors.Is(err, dispatch.ErrKeyReused):
		refuse(c, door.KeyReused())
	case err != nil:
		refuse(c, err)
	case got == nil:
		nothing(c)
	default:
		t.handOut(c, got)
	}
}

func nothing(c *gin.Context) {
	c.Status(http.StatusNoContent)
	c.Writer.WriteHeaderNow()
}

func (t *Testflinger) lookForJob(c *gin.Context, request *event.JobClaimRequested) {
	if err := t.Jobs.CatchUp(c.Request.Context()); err != nil {
		refuse(c, door.Refusal(err))
		return
	}
	there := false
	t.Jobs.View(func(s *jobs.State) { there = s.Candidate(request) })
	if !there {
		nothing(c)
		return
	}
	c.Status(http.StatusOK)
	c.Writer.WriteHeaderNow()
}

// claimOf makes the event of a claim.
func (t *Testflinger) claimOf(c *gin.Context) (*event.JobClaimRequested, error) {
	names := c.QueryArray("queue")
	request := &event.JobClaimRequested{Asker: agentOf(c), Lease: t.lease()}
	if t.latest() && request.GetAsker() == "" {
		return nil, bad(http.StatusUnauthorized, "Agent not identified")
	}
	if len(names) > maxQueues {
		return nil, bad(http.StatusBadRequest, "%d queues are too many: ask for at most %d", len(names), maxQueues)
	}
	for _, name := range names {
		request.Queues = append(request.Queues, testflinger.Queue(strings.ToValidUTF8(name, "\ufffd"))) // an event holds nothing else
	}
	var err error
	request.Idempotency, err = t.idempotency(c, []byte(c.Request.URL.RawQuery))
	return request, err
}

// agentOf is the agent that calls, where it says its name: one that agents can have.
func agentOf(c *gin.Context) string {
	name, err := c.Cookie(agentCookie)
	if err != nil || checkName("agent", name) != nil {
		return ""
	}
	return name
}

// lease is what holds for hand-outs here.
func (t *Testflinger) lease() *event.JobLease {
	if t.config.Lease == 0 {
		return nil
	}
	return &event.JobLease{
		Duration: t.config.Lease.Milliseconds(), Requeues: t.config.Requeues, EndState: testflinger.StateComplete, ByAnyCall: true,
	}
}

// handOut answers with a job that the asker has got. When that cannot be done the job goes back.
func (t *Testflinger) handOut(c *gin.Context, got *dispatch.HandOut) {
	answer, err := t.assignment(c.Request.Context(), got)
	if err == nil {
		err = c.Request.Context().Err()
	}
	if err != nil {
		t.Dispatcher.Release(c.Request.Context(), got.Job)
		refuse(c, err)
		return
	}
	door.SetPosition(c, got.Position)
	c.Data(http.StatusOK, "application/json", answer)
}

// assignment is a job as its agent gets it.
func (t *Testflinger) assignment(ctx context.Context, got *dispatch.HandOut) ([]byte, error) {
	text, err := t.Dispatcher.Documents.Unpack(ctx, got.Submission)
	if err != nil {
		return nil, err
	}
	extra := map[string]any{"started_at": testflinger.FormatTime(time.UnixMilli(got.Job.Since))}
	if got.Job.Attachments == jobs.HasAttachments {
		extra["attachments_status"] = testflinger.StateComplete
	}
	if !t.latest() || len(got.Submission.Owner) == 0 {
		return testflinger.Assignment(text, extra)
	}
	client, _ := registry.ToHash(got.Submission.Owner)
	id, err := access.OpenForTestflinger(t.Keyring, client, got.Submission.Submitter)
	if err == nil {
		extra["client_id"] = id
	} else if !errors.Is(err, keyring.ErrErased) {
		return nil, err
	}
	if text, err = t.revealSecrets(ctx, client, got.Job.Seq, text); err != nil {
		return nil, err
	}
	return testflinger.Assignment(text, extra)
}

// revealSecrets puts the values of a job's secrets where their paths are; "" where there is no such secret any more.
func (t *Testflinger) revealSecrets(ctx context.Context, client registry.Hash, job uint64, text []byte) ([]byte, error) {
	return testflinger.RevealSecrets(text, func(path string) (string, error) {
		secret, err := t.secretFor(ctx, client, job, path)
		if err != nil || secret == nil {
			return "", err
		}
		value, err := access.OpenForTestflinger(t.Keyring, client, secret.Sealed)
		if errors.Is(err, keyring.ErrErased) {
			return "", nil
		}
		return value, err
	})
}

// secretFor gives a secret to a job, nil when it may have none. One that is for one job is this one's from now on.
func (t *Testflinger) secretFor(ctx context.Context, client registry.Hash, job uint64, path string) (*registry.TestflingerSecret, error) {
	var secret registry.TestflingerSecret
	known := false
	look := func(s *registry.State) { secret, known = s.Testflinger.Secret(client, path, job, t.Now().UnixMilli()) }
	if t.Registry.View(look); !known {
		if err := t.Registry.CatchUp(ctx); err != nil {
			return nil, door.Refusal(err)
		}
		t.Registry.View(look)
	}
	if known && secret.Once && !t.isOut(job) { // an old claim that is repeated
		return nil, nil
	}
	if known && secret.Once && secret.TakenBy == 0 {
		taken := &event.TestflingerSecretTaken{IdHash: client[:], Path: path, Job: job}
		outcome, _, err := door.Decide(ctx, t.Log, t.Registry, source, taken)
		if err != nil || outcome.Result != registry.Done {
			return nil, err
		}
		t.Registry.View(look) // the log may have a newer one than was seen here
	}
	if !known {
		return nil, nil
	}
	return &secret, nil
}

// isOut says that somebody works on a job, as far as this replica has read the log.
func (t *Testflinger) isOut(seq uint64) bool {
	var job jobs.Job
	t.Jobs.View(func(s *jobs.State) { job, _ = s.Find(bySeq(seq)) })
	return job.Out
}
