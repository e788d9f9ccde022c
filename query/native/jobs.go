package native

import (
	"context"
	"encoding/hex"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/query/cache"
	"github.com/millrace/millrace/query/native/cursor"
	"github.com/millrace/millrace/query/native/fresh"
	"github.com/millrace/millrace/query/native/lab"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// Jobs is the replica of the jobs' fold.
type Jobs interface {
	CatchUp(ctx context.Context) error
	Await(ctx context.Context, look func(*jobs.State) bool) error
}

// JobsPage is a page of jobs.
type JobsPage struct {
	Items []lab.Job `json:"items"`
	paging
}

// JobHistoryPage is a page of a job's changes.
type JobHistoryPage struct {
	Items []lab.JobChange `json:"items"`
	paging
}

// JobPage is a job.
type JobPage struct {
	lab.Job

	Payload  jsontext.Value `json:"payload,omitzero" doc:"what was submitted; only for callers with a token"`
	Position string         `json:"position" doc:"position of the log that the answer contains; empty for an eventual read"`
}

// JobResultPage is how a job ended.
type JobResultPage struct {
	ID       string         `json:"id"`
	State    string         `json:"state" doc:"complete, cancelled, rejected, …"`
	Attempt  uint32         `json:"attempt" doc:"number of hand-outs"`
	Worker   string         `json:"worker" doc:"who reported"`
	EndedAt  time.Time      `json:"ended_at"`
	Result   jsontext.Value `json:"result" doc:"what was reported; null for a job that ended without a report"`
	Position string         `json:"position" doc:"position of the log that the answer contains; empty for an eventual read"`
}

var toJobs = []string{eventlog.Jobs}

const noSuchJob = "There is no such job."

func families() []string { return []string{"native", "debci", "testflinger"} }

// maxTagFilters bounds the tags that a list asks for.
const maxTagFilters = 20

func (n *Native) jobs() route.Route {
	return listing[lab.Job]{
		path: "/jobs", summary: "List jobs", access: route.LoopbackOrViewer, body: JobsPage{},
		filters: append([]route.Param{
			textParam("queue", "Those of a queue."),
			{Name: "family", Enum: families(), Description: "Those that were submitted to an API."},
			textParam("state", "Those in a state: waiting, running, cancelled, complete, … ."),
			flagParam("ended", "Those that have ended, or those that live."),
			textParam("worker", "Those that somebody got, or reported on: an agent or a token, by name."),
			flagParam("mine", "Those that the caller's token submitted."),
			textParam("name", "Those with a name."), textParam("parent", "Those of a parent, as the client named it."),
			{Name: "tag", MaxLength: maxName, Repeated: true, Description: "Those with a tag; given several times, with all of them."},
			{Name: "time", Enum: []string{"submitted_at", "changed_at"}, Default: "submitted_at", Description: "The time that from and to bound."},
		}, rangeParams("time")...),
		orders: lab.JobOrders(), limit: maxLimit, topics: toJobs,
		understand: func(r *reader) query[lab.Job] {
			filter := lab.JobFilter{
				Queue: r.text("queue"), Family: r.text("family"), State: r.text("state"), Ended: r.flag("ended"), Worker: r.text("worker"),
				Name: r.text("name"), Parent: r.text("parent"), Tags: r.texts("tag", maxTagFilters), ByChange: r.text("time") == "changed_at",
				Owner: n.owner(r), Public: !access.HasToken(r.c),
			}
			filter.From, filter.To = r.timeRange()
			return query[lab.Job]{
				seen: filter.Owner + strconv.FormatBool(filter.Public),
				read: func(ctx context.Context, v *lab.View, page lab.Page, fields ...string) ([]lab.Job, cursor.Key, error) {
					return v.Jobs(ctx, filter, page, fields...)
				},
			}
		},
	}.route(n)
}

// owner gives the hash of whose jobs the parameter mine asks for, in hexadecimal digits; empty when it does not.
func (n *Native) owner(r *reader) string {
	if mine := r.flag("mine"); mine == nil || !*mine {
		return ""
	}
	bearer, _ := route.Principal[access.Bearer](r.c)
	if bearer.Name == "" {
		r.keep(route.Errorf(http.StatusBadRequest, "query parameter mine wants a token: its jobs are those that it submitted"))
		return ""
	}
	owner := access.HashTokenOwner(n.Keyring, bearer.Name)
	return hex.EncodeToString(owner[:])
}

func jobParam() route.Param {
	return route.Param{Name: "id", In: route.InPath, MaxLength: maxName, Description: "The job's id: job-N, debci-N or testflinger-UUID."}
}

// job reads a job that the caller may see. Others are as good as none.
func readJob(ctx context.Context, v *lab.View, id string, public bool) (*lab.Job, error) {
	job, err := v.JobNamed(ctx, id, public)
	if err == nil && job == nil {
		err = route.Errorf(http.StatusNotFound, "there is no job %q: ids are job-N, debci-N and testflinger-UUID", shorten(id))
	}
	return job, err
}

func (n *Native) jobRoute() route.Route {
	return route.Route{
		Method: http.MethodGet, Path: prefix + "/jobs/:id", Side: route.Query, API: API, Access: route.LoopbackOrViewer,
		Summary: "Show a job; to callers with a token with what was submitted",
		Params:  append([]route.Param{jobParam()}, consistencyParams()...), Answers: answers(route.LoopbackOrViewer, JobPage{}, noSuchJob),
		Handler: n.answering(func(c *gin.Context) (question, error) {
			if err := checkNames(c, nil); err != nil {
				return question{}, err
			}
			id, err := route.Text(c, "id")
			public := !access.HasToken(c)
			return question{
				scope: fresh.Scope{Topics: toJobs}, key: c.Request.URL.Path + strconv.FormatBool(public),
				compute: func(ctx context.Context, v *lab.View, at fresh.At) (cache.Value, error) {
					job, err := readJob(ctx, v, id, public)
					if err != nil {
						return cache.Value{}, err
					}
					page := JobPage{Job: *job, Position: at.Position.String()}
					if !public {
						if page.Payload, err = n.payload(ctx, v, job.Number); err != nil {
							return cache.Value{}, err
						}
					}
					return encode(page)
				},
			}, err
		}),
	}
}

// payload reads what was submitted.
func (n *Native) payload(ctx context.Context, v *lab.View, job uint64) (jsontext.Value, error) {
	document, err := v.JobDocument(ctx, job)
	if err != nil || document == nil {
		return nil, err
	}
	return n.Packer.Unpack(ctx, document)
}

func (n *Native) jobHistory() route.Route {
	return listing[lab.JobChange]{
		path: "/jobs/:id/history", summary: "List what happened to a job", access: route.LoopbackOrViewer, body: JobHistoryPage{},
		missing: noSuchJob, filters: []route.Param{jobParam()}, orders: lab.JobChangeOrders(), limit: maxLimit, topics: toJobs,
		understand: func(r *reader) query[lab.JobChange] {
			id, public := r.text("id"), !access.HasToken(r.c)
			return query[lab.JobChange]{
				seen: strconv.FormatBool(public),
				read: func(ctx context.Context, v *lab.View, page lab.Page, _ ...string) ([]lab.JobChange, cursor.Key, error) {
					job, err := readJob(ctx, v, id, public)
					if err != nil {
						return nil, nil, err
					}
					return v.JobHistory(ctx, job.Number, page)
				},
			}
		},
	}.route(n)
}

func (n *Native) jobResultRoute() route.Route {
	params := append([]route.Param{
		jobParam(),
		waitParam("the result"),
	}, consistencyParams()...)
	list := answers(route.LoopbackOrViewer, JobResultPage{}, noSuchJob)
	list = append(list[:1:1], append([]route.Answer{{Status: 204, Description: "The job has not ended yet."}}, list[1:]...)...)
	return route.Route{
		Method: http.MethodGet, Path: prefix + "/jobs/:id/result", Side: route.Query, API: API, Access: route.LoopbackOrViewer,
		Summary: "Show how a job ended, or wait until it does", Params: params, Answers: list, Timeout: n.MaxWait + 30*time.Second, Waits: true,
		Handler: func(c *gin.Context) {
			if err := n.jobResult(c, params); err != nil {
				route.Refuse(c, err)
			}
		},
	}
}

func waitParam(what string) route.Param {
	return route.Param{Name: "wait", Type: route.Integer, Max: 1_000_000, Description: "Seconds to wait for " + what + "; jobs.max_wait may end the wait sooner."}
}

// patience gives a context that ends when a request has waited long enough, or the process is about to end.
func (n *Native) patience(ctx context.Context, wait time.Duration) (context.Context, func()) {
	ctx, cancel := context.WithTimeout(ctx, min(wait, n.MaxWait))
	stop := context.AfterFunc(n.draining, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// noResult is the answer as it is kept while a job has no result.
const noResult = "null"

func (n *Native) jobResult(c *gin.Context, params []route.Param) error {
	if err := checkNames(c, params); err != nil {
		return err
	}
	r := &reader{c: c}
	id, seconds, public := r.text("id"), r.id("wait"), !access.HasToken(c)
	if r.err != nil {
		return r.err
	}
	body, err := n.resultNow(c.Request.Context(), c.Request.Header, id, public)
	if err == nil && string(body) == noResult && seconds > 0 {
		if n.waitForEnd(c.Request.Context(), id, time.Duration(seconds)*time.Second) {
			// What has been waited for must be in the answer, whatever the request asked for.
			body, err = n.resultNow(c.Request.Context(), http.Header{}, id, public)
		}
	}
	if err != nil {
		return err
	}
	if string(body) == noResult {
		c.Status(http.StatusNoContent)
		c.Writer.WriteHeaderNow()
		return nil
	}
	respond(c, body)
	return nil
}

// resultNow gives the answer as of now.
func (n *Native) resultNow(ctx context.Context, header http.Header, id string, public bool) ([]byte, error) {
	key := prefix + "/jobs/" + id + "/result" + strconv.FormatBool(public)
	return n.Answers.Get(ctx, header, fresh.Scope{Topics: toJobs}, key, func(ctx context.Context, at fresh.At) (cache.Value, error) {
		v := n.Reader.At(at.Generation)
		job, err := readJob(ctx, v, id, public)
		if err != nil {
			return cache.Value{}, err
		}
		if !job.Ended {
			return cache.Value{Body: []byte(noResult)}, nil
		}
		page := JobResultPage{
			ID: job.ID, State: job.State, Attempt: job.Attempt, Worker: job.Worker, EndedAt: job.EndedAt, Position: at.Position.String(),
		}
		if page.Result, err = v.JobResult(ctx, job.Number); err != nil {
			return cache.Value{}, err
		}
		return encode(page)
	})
}

// waitForEnd waits until a job lives no longer; false when it still does.
func (n *Native) waitForEnd(ctx context.Context, id string, wait time.Duration) bool {
	ctx, stop := n.patience(ctx, wait)
	defer stop()
	named, _ := jobs.ParseID(id)
	if n.Jobs.CatchUp(ctx) != nil {
		return false
	}
	return n.Jobs.Await(ctx, func(s *jobs.State) bool {
		_, lives := s.Find(named.Ref)
		return !lives
	}) == nil
}
