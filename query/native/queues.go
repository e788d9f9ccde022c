package native

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/query/cache"
	"github.com/millrace/millrace/query/native/cursor"
	"github.com/millrace/millrace/query/native/fresh"
	"github.com/millrace/millrace/query/native/lab"
	"github.com/millrace/millrace/schemas/route"
)

// QueuesPage is a page of queues.
type QueuesPage struct {
	Items []lab.Queue `json:"items"`
	paging
}

func (n *Native) queues() route.Route {
	return listing[lab.Queue]{
		path: "/jobs/queues", summary: "List queues with the jobs that wait and that are worked on", access: route.LoopbackOrViewer, body: QueuesPage{},
		filters: []route.Param{textParam("queue", "The queue with this name."), textParam("prefix", "Those whose name begins like this.")},
		orders:  lab.QueueOrders(), limit: maxLimit, topics: toJobs,
		understand: func(r *reader) query[lab.Queue] {
			filter := lab.QueueFilter{Name: r.text("queue"), Prefix: r.text("prefix")}
			return query[lab.Queue]{read: func(ctx context.Context, v *lab.View, page lab.Page, _ ...string) ([]lab.Queue, cursor.Key, error) {
				return v.Queues(ctx, filter, page)
			}}
		},
	}.route(n)
}

// QueueTrendPage is the course of a queue.
type QueueTrendPage struct {
	Queue      string           `json:"queue"`
	Metric     lab.QueueMetric  `json:"metric"`
	Resolution lab.Resolution   `json:"resolution" doc:"the one that was taken"`
	From       time.Time        `json:"from" doc:"the queue's first change when the range has no beginning"`
	To         time.Time        `json:"to" doc:"the end of this minute when the range has no end, or a later one"`
	Items      []lab.QueuePoint `json:"items" doc:"buckets without a change have a point too, but for wait"`
	Position   string           `json:"position" doc:"position of the log that the answer contains; empty for an eventual read"`
}

func queueTrendParams() []route.Param {
	list := append([]route.Param{
		required(textParam("queue", "The queue's name.")),
		{Name: "metric", Enum: lab.QueueMetrics(), Default: string(lab.QueueWaiting), Description: "Jobs that wait or that are out, weighed by time; or how long jobs waited that were handed out."},
	}, rangeParams("time")...)
	return append(list, lastParam(),
		route.Param{Name: "resolution", Enum: lab.QueueResolutions(), Default: string(lab.Auto), Description: "What a point sums up; auto is the finest that keeps within the number of points."},
		pointsParam())
}

func (n *Native) queueTrendRoute() route.Route {
	params := append(queueTrendParams(), consistencyParams()...)
	return route.Route{
		Method: http.MethodGet, Path: prefix + "/jobs/trend", Side: route.Query, API: API, Access: route.LoopbackOrViewer,
		Summary: "Show the course of a queue: its length, or how long jobs waited",
		Params:  params, Answers: answers(route.LoopbackOrViewer, QueueTrendPage{}, ""),
		Handler: n.answering(func(c *gin.Context) (question, error) { return n.queueTrend(c, params) }),
	}
}

func (n *Native) queueTrend(c *gin.Context, params []route.Param) (question, error) {
	if err := checkNames(c, params); err != nil {
		return question{}, err
	}
	r := &reader{c: c}
	q := lab.QueueTrendQuery{
		Queue: r.text("queue"), Metric: lab.QueueMetric(r.text("metric")), Resolution: lab.Resolution(r.text("resolution")), Points: int(r.id("points")),
	}
	var expires time.Time
	q.From, q.To, expires = n.trendRange(r)
	if soon := n.Now().UTC().Truncate(time.Minute).Add(time.Minute); q.To.IsZero() || q.To.After(soon) {
		q.To, expires = soon, soon
	}
	if r.err == nil && !q.From.IsZero() && !q.From.Before(q.To) {
		r.keep(route.Errorf(http.StatusBadRequest, "query parameter from is in the future"))
	}
	if r.err != nil {
		return question{}, r.err
	}
	return question{
		scope: fresh.Scope{Topics: toJobs}, key: prefix + "/jobs/trend?" + c.Request.URL.Query().Encode() + strconv.FormatInt(expires.Unix(), 10),
		compute: func(ctx context.Context, v *lab.View, at fresh.At) (cache.Value, error) {
			trend, err := v.QueueTrend(ctx, q)
			if tooMany, ok := errors.AsType[*lab.TooManyPoints](err); ok {
				return cache.Value{}, route.Errorf(http.StatusBadRequest, "query parameter resolution: %v", tooMany)
			}
			if err != nil {
				return cache.Value{}, err
			}
			value, err := encode(QueueTrendPage{
				Queue: q.Queue, Metric: q.Metric, Resolution: trend.Resolution, From: trend.From, To: q.To, Items: trend.Points, Position: at.Position.String(),
			})
			value.Expires = expires
			return value, err
		},
	}, nil
}
