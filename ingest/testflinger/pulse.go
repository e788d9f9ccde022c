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

// Pulse takes every call that names a job for news of it, so that its lease begins anew: agents of this API know nothing
// of leases. Such news is appended when a quarter of the lease has passed since the last. Jobs that were handed out at another
// door are kept by that one's heartbeats alone.
type Pulse struct {
	PulseDependencies
	lease time.Duration
}

// PulseDependencies are what a Pulse works with. All are required.
type PulseDependencies struct {
	Log    door.Log
	Jobs   dispatch.Fold
	Now    func() time.Time
	Logger *slog.Logger
}

// NewPulse hears of jobs whose hand-outs have a lease; 0 is none.
func NewPulse(lease time.Duration, d PulseDependencies) *Pulse {
	return &Pulse{PulseDependencies: d, lease: lease}
}

// Heard notes that a call named a job. It never fails: the next call does as well.
func (p *Pulse) Heard(ctx context.Context, id string) {
	if p.lease == 0 || !testflinger.IsJobID(id) {
		return
	}
	var job jobs.Job
	p.Jobs.View(func(s *jobs.State) { job, _ = s.Find(byID(id)) })
	if last := job.Expires - job.Lease; !job.ByAnyCall || job.Expires == 0 || p.Now().UnixMilli() < last+job.Lease/4 {
		return
	}
	request := &event.JobHeartbeat{Seq: job.Seq, Attempt: job.Attempt}
	if _, _, err := door.Decide(ctx, p.Log, p.Jobs, source, request); err != nil {
		p.Logger.WarnContext(ctx, "that a job was heard of could not be noted", "job", job.Seq, "error", err)
	}
}

// Around gives routes that are heard: those of a table whose paths name a job.
func (p *Pulse) Around(routes []route.Route) []route.Route {
	if p.lease == 0 {
		return routes
	}
	heard := slices.Clone(routes)
	for i := range heard {
		if !slices.ContainsFunc(heard[i].Params, func(param route.Param) bool { return param.Name == jobParam }) {
			continue
		}
		answer := heard[i].Handler
		heard[i].Handler = func(c *gin.Context) {
			p.Heard(c.Request.Context(), c.Param(jobParam))
			answer(c)
		}
	}
	return heard
}
