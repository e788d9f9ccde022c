package testflinger

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/ingest/dispatch"
	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/route"
)

// Pulse takes calls that an agent makes, and that name a job, for news of it, so that its lease begins anew: agents of this API
// know nothing of leases. Calls that only people's commands make are none: who watches a job whose agent has died would keep
// it for ever. Both ask for a job's result; see fromAgent. Such news is appended when a quarter of the lease has passed since
// the last. Jobs that were handed out at another door are kept by that one's heartbeats alone.
type Pulse struct {
	PulseDependencies
	generation testflinger.Generation
	lease      time.Duration
}

// PulseDependencies are what a Pulse works with. All are required.
type PulseDependencies struct {
	Log    door.Log
	Jobs   dispatch.Fold
	Now    func() time.Time
	Logger *slog.Logger
}

// NewPulse hears of jobs whose hand-outs have a lease; 0 is none.
func NewPulse(g testflinger.Generation, lease time.Duration, d PulseDependencies) *Pulse {
	return &Pulse{PulseDependencies: d, generation: g, lease: lease}
}

// Heard notes that an agent named a job; agent is its name, "" where it does not say. It never fails: the next call does as
// well.
func (p *Pulse) Heard(ctx context.Context, id, agent string) {
	if p.lease == 0 || !testflinger.IsJobID(id) {
		return
	}
	var job jobs.Job
	p.Jobs.View(func(s *jobs.State) { job, _ = s.Find(byID(id)) })
	if agent != "" && job.Asker != "" && agent != job.Asker {
		return
	}
	if last := job.Expires - job.Lease; !job.ByAnyCall || job.Expires == 0 || p.Now().UnixMilli() < last+job.Lease/4 {
		return
	}
	request := &event.JobHeartbeat{Seq: job.Seq, Attempt: job.Attempt}
	if _, _, err := door.Decide(ctx, p.Log, p.Jobs, source, request); err != nil {
		p.Logger.WarnContext(ctx, "that a job was heard of could not be noted", "job", job.Seq, "error", err)
	}
}

// resultPath is where a job's result is: agents post to it, and agents and people ask for it.
const resultPath = "/v1/result/:" + jobParam

// agentCalls are the calls with a job in their path that agents make, by their routes' keys (10).
func agentCalls() []string {
	return []string{
		"GET " + resultPath, "POST " + resultPath, "POST " + resultPath + "/artifact", "POST " + resultPath + "/output",
		"POST " + resultPath + "/serial_output", "POST " + resultPath + "/log/:" + logParam,
		"POST /v1/job/:" + jobParam + "/events", "GET /v1/job/:" + jobParam + "/attachments",
	}
}

// Around gives routes that are heard: those of a table that agents call.
func (p *Pulse) Around(routes []route.Route) []route.Route {
	if p.lease == 0 {
		return routes
	}
	heard, calls := slices.Clone(routes), agentCalls()
	for i := range heard {
		if !slices.Contains(calls, heard[i].Key()) {
			continue
		}
		answer := heard[i].Handler
		heard[i].Handler = func(c *gin.Context) {
			if p.fromAgent(c) {
				p.Heard(c.Request.Context(), c.Param(jobParam), agentOf(c))
			}
			answer(c)
		}
	}
	return heard
}

// fromAgent says whether a call comes from an agent, as far as can be told. In the newer generation agents have a role of their
// own. In the older one they have no token: who has one is a person, who has none may be either, and an agent in a silent
// phase says nothing else for hours (10), so that the job must not be taken from it.
func (p *Pulse) fromAgent(c *gin.Context) bool {
	by := permission(c)
	if p.generation == testflinger.Latest {
		return by != nil && by.Role == testflinger.Agents
	}
	return by == nil
}
