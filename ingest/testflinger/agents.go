package testflinger

import (
	"context"
	"net/http"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// Keys of facts that speak of many queues: they stand in one order.
const (
	queuesKey = "testflinger queues"
	imagesKey = "testflinger images"
)

// Status is the newer generation's answer to a write that has nothing else to say.
type Status struct {
	Status string `json:"status"`
}

// agent answers POST /v1/agents/data/{agent_name} (7).
func (t *Testflinger) agent(c *gin.Context) {
	name := c.Param(agentParam)
	said, err := read(c, testflinger.ReadAgent)
	if err == nil {
		err = checkName("agent", name)
	}
	if err == nil {
		_, err = t.record(c, eventlog.Results, name, agentPosted(name, said))
	}
	if err != nil {
		refuse(c, err)
		return
	}
	if said.JobID != nil {
		t.atWork(c.Request.Context(), *said.JobID, name)
	}
	if !t.latest() {
		done(c)
		return
	}
	c.SetSameSite(http.SameSiteStrictMode)
	c.SetCookie(agentCookie, name, 0, "/", "", false, true)
	access.TestflingerJSON(c, http.StatusOK, Status{Status: "OK"})
}

// atWork notes that an agent works on a job. Agents of the older generation do not say who they are when they ask for one, but
// name it at once (10): the first that does has it. It never fails, as Pulse.Heard: the job is named again.
func (t *Testflinger) atWork(ctx context.Context, id, agent string) {
	t.pulse.Heard(ctx, id, agent)
	var job jobs.Job
	look := func(s *jobs.State) { job, _ = s.Find(byID(id)) }
	if t.Jobs.View(look); !testflinger.IsJobID(id) || job.Asker != "" {
		return
	}
	err := t.Jobs.CatchUp(ctx) // it may have been handed out by another replica
	if t.Jobs.View(look); err == nil && job.Out && job.Asker == "" {
		_, _, err = door.Decide(ctx, t.Log, t.Jobs, source, &event.JobWorkerNamed{Seq: job.Seq, Attempt: job.Attempt, Worker: agent})
	}
	if err != nil {
		t.Logger.WarnContext(ctx, "who works on a job could not be noted", "job", id, "agent", agent, "error", err)
	}
}

func agentPosted(name string, a *testflinger.Agent) *event.TestflingerAgentPosted {
	m := &event.TestflingerAgentPosted{
		Name: name, State: a.State, Comment: a.Comment, Location: a.Location, ProvisionType: a.ProvisionType, JobId: a.JobID,
		Identifier: a.Identifier, Log: a.Log,
	}
	if a.HasQueues {
		m.Queues = &event.TestflingerQueues{Names: a.Queues}
	}
	return m
}

// checkName bounds a name in a path.
func checkName(what, name string) error {
	if name == "" || len(name) > testflinger.MaxClientID || !utf8.ValidString(name) {
		return bad(http.StatusBadRequest, "the %s's name must be UTF-8 of 1 to %d bytes", what, testflinger.MaxClientID)
	}
	return nil
}

// provision answers POST /v1/agents/provision_logs/{agent_name}: the log is kept, but who keeps it has to be known (2).
func (t *Testflinger) provision(c *gin.Context) {
	name := c.Param(agentParam)
	log, err := read(c, testflinger.ReadProvision)
	if err == nil {
		err = checkName("agent", name)
	}
	if err == nil {
		_, err = t.record(c, eventlog.Results, name, &event.TestflingerProvisionLogged{
			Agent: name, JobId: log.JobID, ExitCode: log.ExitCode, Detail: log.Detail,
		})
	}
	known := false
	if err == nil {
		t.atWork(c.Request.Context(), log.JobID, name)
		known, err = t.agentNamed(c, name)
	}
	switch {
	case err != nil:
		refuse(c, err)
	case !known:
		say(c, http.StatusNotFound, "Agent not found")
	default:
		done(c)
	}
}

// queues answers POST /v1/agents/queues (2).
func (t *Testflinger) queues(c *gin.Context) {
	if err := t.queuesPosted(c); err != nil {
		refuse(c, err)
		return
	}
	done(c)
}

func (t *Testflinger) queuesPosted(c *gin.Context) error {
	if !t.latest() && !testflinger.IsJSON(c.GetHeader("Content-Type")) {
		return notJSON()
	}
	descriptions, err := read(c, of(t, testflinger.ReadQueues))
	if err != nil || len(descriptions) == 0 {
		return err
	}
	_, err = t.record(c, eventlog.Results, queuesKey, &event.TestflingerQueuesAdvertised{Descriptions: descriptions})
	return err
}

// images answers POST /v1/agents/images (2).
func (t *Testflinger) images(c *gin.Context) {
	if err := t.imagesPosted(c); err != nil {
		refuse(c, err)
		return
	}
	done(c)
}

func (t *Testflinger) imagesPosted(c *gin.Context) error {
	if !testflinger.IsJSON(c.GetHeader("Content-Type")) {
		return notJSON()
	}
	images, err := read(c, of(t, testflinger.ReadImages))
	if err != nil || len(images) == 0 {
		return err
	}
	m := &event.TestflingerImagesPosted{Queues: make(map[string]*event.TestflingerImages, len(images))}
	for queue, lines := range images {
		m.Queues[queue] = &event.TestflingerImages{Lines: lines}
	}
	_, err = t.record(c, eventlog.Results, imagesKey, m)
	return err
}

func notJSON() error {
	return bad(http.StatusUnsupportedMediaType, "Did not attempt to load JSON data because the request Content-Type was not 'application/json'.")
}
