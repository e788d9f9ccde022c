package jobs

import (
	"net/http"
	"slices"
	"time"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/ingest/native"
	"github.com/millrace/millrace/schemas/route"
)

// Routes is the table of the native endpoints that write to jobs.
func (j *Jobs) Routes() []route.Route {
	return []route.Route{j.submitRoute(), j.claimRoute(), j.heartbeatRoute(), j.resultRoute(), j.cancelRoute(), j.artifactRoute()}
}

// answers adds to an endpoint's own answers those that all have.
func answers(own ...route.Answer) []route.Answer {
	all := append(own,
		route.Answer{Status: 401, Body: route.Failure{}, Description: "No token, or one that is not known."},
		route.Answer{Status: 403, Body: route.Failure{}, Description: "The token's role is viewer."},
		route.Answer{Status: 503, Body: route.Failure{}, Description: "An engine is out of reach, or too many requests are in flight."})
	slices.SortFunc(all, func(a, b route.Answer) int { return a.Status - b.Status })
	return all
}

func failure(status int, description string) route.Answer {
	return route.Answer{Status: status, Body: route.Failure{}, Description: description}
}

func noSuchJob() route.Answer { return failure(404, "No job has this id.") }

func staleLease() route.Answer {
	return failure(409, "The lease is over: the job is another worker's, or has ended.")
}

func otherBody() route.Answer {
	return failure(422, "The Idempotency-Key came with another body before.")
}

func (j *Jobs) submitRoute() route.Route {
	return route.Route{
		Method: http.MethodPost, Path: "/millrace/v1/jobs", Side: route.Ingest, API: native.API, Access: route.TokenWriter,
		Summary: "Put a job into a queue", Params: []route.Param{door.KeyParam()},
		Body: Submission{}, BodyLimit: j.config.MaxPayload, GzipLimit: j.config.MaxPayload,
		Answers: answers(
			route.Answer{Status: 201, Body: Submitted{}, Description: "The job waits in its queue."},
			failure(400, "A member is missing or wrong."),
			failure(413, "The body is over the limit."), otherBody(),
		),
		Handler: j.submit,
	}
}

func (j *Jobs) claimRoute() route.Route {
	return route.Route{
		Method: http.MethodPost, Path: "/millrace/v1/jobs/claim", Side: route.Ingest, API: native.API, Access: route.TokenWriter,
		Summary: "Take a job, or wait for one", Params: []route.Param{door.KeyParam()},
		Body: Claim{}, BodyLimit: maxSmall, Timeout: j.config.MaxWait + 30*time.Second, Waits: true,
		Answers: answers(
			route.Answer{Status: 200, Body: Claimed{}, Description: "The job is the caller's until the lease is over."},
			route.Answer{Status: 204, Description: "There is no job."},
			failure(400, "A member is missing or wrong."),
			noSuchJob(), otherBody(),
		),
		Handler: j.claim,
	}
}

func leaseParams() []route.Param {
	return []route.Param{
		{Name: "id", Description: "The job's id."},
		{Name: LeaseHeader, In: route.InHeader, Description: "The token of the lease."},
	}
}

func (j *Jobs) heartbeatRoute() route.Route {
	return route.Route{
		Method: http.MethodPost, Path: "/millrace/v1/jobs/:id/heartbeat", Side: route.Ingest, API: native.API, Access: route.TokenWriter,
		Summary: "Say that a job is worked on: its lease begins anew", Params: leaseParams(),
		Answers: answers(
			route.Answer{Status: 200, Body: Renewed{}, Description: "The lease has begun anew."},
			failure(400, "The header is missing."),
			noSuchJob(), staleLease(),
		),
		Handler: j.heartbeat,
	}
}

func (j *Jobs) resultRoute() route.Route {
	return route.Route{
		Method: http.MethodPost, Path: "/millrace/v1/jobs/:id/result", Side: route.Ingest, API: native.API, Access: route.TokenWriter,
		Summary: "Report how a job ended", Params: leaseParams(), Body: Result{}, BodyLimit: maxSmall,
		Answers: answers(
			route.Answer{Status: 200, Body: struct{}{}, Description: "The job has ended; the same result may be sent again."},
			failure(400, "A member is missing or wrong, or the header."),
			noSuchJob(), staleLease(),
			failure(422, "Another result was reported before."),
		),
		Handler: j.result,
	}
}

func (j *Jobs) cancelRoute() route.Route {
	return route.Route{
		Method: http.MethodPost, Path: "/millrace/v1/jobs/:id/cancel", Side: route.Ingest, API: native.API, Access: route.TokenWriter,
		Summary: "Cancel a job: one that waits ends, the worker of one that is out is told to stop",
		Params:  []route.Param{{Name: "id", Description: "The job's id."}, door.KeyParam()},
		Answers: answers(
			route.Answer{Status: 200, Body: Cancelled{}, Description: "The job is cancelled; it may be cancelled again."},
			noSuchJob(), failure(409, "The job has ended."),
		),
		Handler: j.cancel,
	}
}
