package testflinger

import (
	"context"
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/route"
)

// Submitted is the answer to a submission.
type Submitted struct {
	JobID string `json:"job_id"`
}

// submit answers POST /v1/job (3, 6).
func (t *Testflinger) submit(c *gin.Context) {
	id, err := t.submitted(c)
	if err != nil {
		refuse(c, err)
		return
	}
	access.TestflingerJSON(c, http.StatusOK, Submitted{JobID: id})
}

func (t *Testflinger) submitted(c *gin.Context) (string, error) {
	contentType, content, err := body(c)
	if err != nil {
		return "", err
	}
	job, err := testflinger.ReadJob(t.config.Generation, contentType, content)
	if err != nil {
		return "", err
	}
	if err := t.mayBeTaken(c.Request.Context(), job, permission(c)); err != nil {
		return "", err
	}
	key, err := t.idempotency(c, content)
	if err != nil {
		return "", err
	}
	id := job.ID
	if id == "" {
		id = uuid.NewString()
	}
	request, err := t.submission(c, job, id)
	if err != nil {
		return "", err
	}
	request.Idempotency = key
	outcome, err := t.decideJob(c, request)
	switch {
	case err != nil:
		return "", err
	case outcome.Result == jobs.KeyReused:
		return "", door.KeyReused()
	case outcome.Repeated && job.ID == "":
		return uuid.UUID(outcome.Job.Name).String(), nil
	case !outcome.Repeated:
		t.counters.submitted(job)
	}
	return id, nil
}

// mayBeTaken checks a job that is well-formed.
func (t *Testflinger) mayBeTaken(ctx context.Context, job *testflinger.Job, by *testflinger.Permission) error {
	switch {
	case job.Queue == "":
		return bad(http.StatusUnprocessableEntity, testflinger.EmptyQueue)
	case job.ID != "" && !testflinger.IsJobID(job.ID):
		return errBadID()
	}
	if err := t.mayBeSubmittedBy(ctx, job, by); err != nil {
		return err
	}
	if err := t.someAgentMayHave(ctx, job); err != nil {
		return err
	}
	return t.secretsAreThere(ctx, job, by)
}

// mayBeSubmittedBy checks the permissions. A refusal because of the queue is given when the replica has caught up.
func (t *Testflinger) mayBeSubmittedBy(ctx context.Context, job *testflinger.Job, by *testflinger.Permission) error {
	restricted := false
	look := func(s *registry.State) { restricted = s.Testflinger.Restricted[job.Queue] }
	t.Registry.View(look)
	refusal := by.MaySubmit(job, restricted)
	if refusal != nil && restricted {
		if err := t.Registry.CatchUp(ctx); err != nil {
			return door.Refusal(err)
		}
		t.Registry.View(look)
		refusal = by.MaySubmit(job, restricted)
	}
	if refusal != nil {
		return refusal
	}
	return nil
}

// someAgentMayHave makes sure that exclusions leave an agent (3).
func (t *Testflinger) someAgentMayHave(ctx context.Context, job *testflinger.Job) error {
	if len(job.Excluded) == 0 {
		return nil
	}
	agents, err := t.Agents(ctx)
	if err != nil {
		return err
	}
	for name, queues := range agents {
		if slices.Contains(queues, job.Queue) && !slices.Contains(job.Excluded, name) {
			return t.exclusionsFit(ctx, job)
		}
	}
	return bad(http.StatusUnprocessableEntity, "No agent of queue %s is left: all are excluded, or it has none", job.Queue)
}

// exclusionsFit makes sure that the jobs of a queue have few different sets of excluded agents. Those who submit at the same
// moment may each be let in: the bound keeps claims fast, a few more do no harm.
func (t *Testflinger) exclusionsFit(ctx context.Context, job *testflinger.Job) error {
	fits := false
	look := func(s *jobs.State) {
		sets, known := s.Exclusions(testflinger.Queue(job.Queue), job.Excluded)
		fits = known || sets < t.config.MaxExclusions
	}
	if t.Jobs.View(look); fits {
		return nil
	}
	if err := t.Jobs.CatchUp(ctx); err != nil {
		return door.Refusal(err)
	}
	if t.Jobs.View(look); fits {
		return nil
	}
	return bad(http.StatusUnprocessableEntity,
		"The jobs of queue %s have %d different sets of exclude_agents, which is the limit: use one of them, or wait until jobs have ended",
		job.Queue, t.config.MaxExclusions)
}

// submission is the event of a job.
func (t *Testflinger) submission(c *gin.Context, job *testflinger.Job, id string) (*event.JobSubmitted, error) {
	text, err := job.Document(id)
	if err != nil {
		return nil, err
	}
	packed, err := t.pack(c.Request.Context(), text)
	if err != nil {
		return nil, err
	}
	m := &event.JobSubmitted{
		Family: event.JobFamily_JOB_FAMILY_TESTFLINGER, Queue: testflinger.Queue(job.Queue), JobId: id, Priority: job.Priority,
		Document: packed, AwaitsAttachments: job.Held, ExcludedAgents: job.Excluded,
		Labels: &event.JobLabels{Name: job.Name, Parent: job.Parent, Tags: job.Tags},
	}
	if p := permission(c); p != nil {
		owner := access.HashTestflingerClient(t.Keyring, p.ClientID)
		m.Owner = owner[:]
		if m.SealedSubmitter, err = access.SealForTestflinger(t.Keyring, owner, p.ClientID); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// cancel answers POST /v1/job/{job_id}/action (2, 11).
func (t *Testflinger) cancel(c *gin.Context) {
	id := c.Param(jobParam)
	if !testflinger.IsJobID(id) {
		say(c, http.StatusBadRequest, "Invalid job id")
		return
	}
	_, err := read(c, func(contentType string, body []byte) (struct{}, error) {
		return struct{}{}, testflinger.ReadAction(contentType, body)
	})
	if err != nil {
		refuse(c, err)
		return
	}
	switch ended, err := t.cancelled(c, id); {
	case err != nil:
		refuse(c, err)
	case ended:
		say(c, http.StatusBadRequest, "The job is already completed or cancelled")
	default:
		done(c)
	}
}

// cancelled cancels a job; ended says that there is nothing left to cancel.
func (t *Testflinger) cancelled(c *gin.Context, id string) (ended bool, err error) {
	_, lives, err := t.live(c.Request.Context(), id)
	if err != nil {
		return false, err
	}
	if lives {
		outcome, err := t.decideJob(c, &event.JobCancelRequested{Job: byID(id)})
		if err != nil || outcome.Result == jobs.Done {
			return false, err
		}
		return true, nil
	}
	seq, err := t.Find(c.Request.Context(), id)
	if err == nil && seq == 0 {
		err = route.Errorf(http.StatusNotFound, "Job not found")
	}
	return true, err
}
