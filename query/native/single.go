package native

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/query/cache"
	"github.com/millrace/millrace/query/native/fresh"
	"github.com/millrace/millrace/query/native/lab"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// RunPage is a run with all that belongs to it.
type RunPage struct {
	lab.RunDetail

	Position string `json:"position" doc:"position of the log that the answer contains; empty for an eventual read"`
}

func (n *Native) runRoute() route.Route {
	params := append([]route.Param{{Name: "run_id", Type: route.Integer, Min: 1, Max: 1 << 53, Description: "The run's id."}}, consistencyParams()...)
	return route.Route{
		Method: http.MethodGet, Path: prefix + "/runs/:run_id", Side: route.Query, API: API, Access: route.LoopbackOrViewer,
		Summary: "Show a run with its results, settings and hardware",
		Params:  params, Answers: answers(route.LoopbackOrViewer, RunPage{}, "There is no such run."),
		Handler: n.answering(func(c *gin.Context) (question, error) {
			if err := checkNames(c, nil); err != nil {
				return question{}, err
			}
			id, err := route.Int(c, "run_id")
			return question{
				scope: fresh.Scope{Topics: toRuns, Run: uint64(id)}, key: "/runs/" + strconv.FormatInt(id, 10),
				compute: func(ctx context.Context, v *lab.View, at fresh.At) (cache.Value, error) {
					detail, err := v.RunDetail(ctx, uint64(id))
					if err != nil {
						return cache.Value{}, err
					}
					if detail == nil {
						return cache.Value{}, route.Errorf(http.StatusNotFound, "there is no run %d", id)
					}
					return encode(RunPage{RunDetail: *detail, Position: at.Position.String()})
				},
			}, err
		}),
	}
}

// DeadLetterPage is a dead letter with its record.
type DeadLetterPage struct {
	lab.Record

	Position string `json:"position" doc:"position of the log that the answer contains; empty for an eventual read"`
}

func (n *Native) deadLetterRoute() route.Route {
	params := append([]route.Param{{Name: "id", MaxLength: 36, Description: "The dead letter's id, a UUID."}}, consistencyParams()...)
	return route.Route{
		Method: http.MethodGet, Path: prefix + "/dead-letters/:id", Side: route.Query, API: API, Access: route.TokenOperator,
		Summary: "Show a dead letter with the record as it was",
		Params:  params, Answers: answers(route.TokenOperator, DeadLetterPage{}, "There is no such dead letter."),
		Handler: n.answering(func(c *gin.Context) (question, error) {
			if err := checkNames(c, nil); err != nil {
				return question{}, err
			}
			id, err := uuid.Parse(c.Param("id"))
			if err != nil {
				return question{}, route.Errorf(http.StatusNotFound, "there is no dead letter %q: an id is a UUID", shorten(c.Param("id")))
			}
			return question{
				scope: fresh.Scope{Topics: []string{eventlog.DeadLetters}}, key: "/dead-letters/" + id.String(),
				compute: func(ctx context.Context, v *lab.View, at fresh.At) (cache.Value, error) {
					record, err := v.DeadLetter(ctx, id)
					if err != nil {
						return cache.Value{}, err
					}
					if record == nil {
						return cache.Value{}, route.Errorf(http.StatusNotFound, "there is no dead letter %s", id)
					}
					return encode(DeadLetterPage{Record: *record, Position: at.Position.String()})
				},
			}, nil
		}),
	}
}

// TrendPage is a trend.
type TrendPage struct {
	Series     lab.Series     `json:"series"`
	Resolution lab.Resolution `json:"resolution" doc:"the one that was taken: raw, run, hour, day or week"`
	Samples    uint64         `json:"samples" doc:"number of samples in the hours that the range touches"`
	From       *time.Time     `json:"from" doc:"null when the range has no beginning"`
	To         *time.Time     `json:"to" doc:"null when it has no end"`
	Items      []lab.Point    `json:"items"`
	Position   string         `json:"position" doc:"position of the log that the answer contains; empty for an eventual read"`
}

func trendParams() []route.Param {
	return append(append(seriesParams(), rangeParams("time")...),
		lastParam(),
		route.Param{Name: "resolution", Enum: lab.Resolutions(), Default: string(lab.Auto), Description: "What a point sums up; auto is the finest that keeps within the number of points."},
		pointsParam(),
	)
}

func lastParam() route.Param {
	return route.Param{Name: "last", MaxLength: 6, Description: "Instead of from and to: the time before now, in hours, days or weeks, such as 12h, 90d or 52w."}
}

func pointsParam() route.Param {
	return route.Param{Name: "points", Type: route.Integer, Min: 1, Max: lab.MaxPoints, Default: strconv.Itoa(lab.DefaultPoints), Description: "Number of points that auto keeps within."}
}

func (n *Native) trendRoute() route.Route {
	params := append(trendParams(), consistencyParams()...)
	return route.Route{
		Method: http.MethodGet, Path: prefix + "/trend", Side: route.Query, API: API, Access: route.LoopbackOrViewer,
		Summary: "Show the course of a metric: mean, quantiles and spread over time",
		Params:  params, Answers: answers(route.LoopbackOrViewer, TrendPage{}, ""),
		Handler: n.answering(func(c *gin.Context) (question, error) { return n.trend(c, params) }),
	}
}

func (n *Native) trend(c *gin.Context, params []route.Param) (question, error) {
	if err := checkNames(c, params); err != nil {
		return question{}, err
	}
	r := &reader{c: c}
	q := lab.TrendQuery{Series: r.series(), Resolution: lab.Resolution(r.text("resolution")), Points: int(r.id("points"))}
	var expires time.Time
	q.From, q.To, expires = n.trendRange(r)
	if r.err != nil {
		return question{}, r.err
	}
	return question{
		scope: fresh.Scope{Topics: toSamples, Machine: q.Series.MachineID, Series: &projection.Series{
			Machine: q.Series.MachineID, Config: q.Series.ConfigID, Branch: q.Series.BranchID, Metric: q.Series.Metric,
		}},
		key: "/trend?" + c.Request.URL.Query().Encode() + expires.Format(time.RFC3339),
		compute: func(ctx context.Context, v *lab.View, at fresh.At) (cache.Value, error) {
			page, err := readTrend(ctx, v, q)
			if err != nil {
				return cache.Value{}, err
			}
			page.Position = at.Position.String()
			value, err := encode(page)
			value.Expires = expires
			return value, err
		},
	}, nil
}

// trendRange gives the range asked for. One that ends now moves with each minute: what is shown of it expires then.
func (n *Native) trendRange(r *reader) (from, to, expires time.Time) {
	from, to = r.timeRange()
	text := r.text("last")
	if r.err != nil || text == "" {
		return from, to, expires
	}
	length, ok := age(text)
	switch {
	case !ok:
		r.keep(route.Errorf(http.StatusBadRequest, "query parameter last must be a number of hours, days or weeks up to 100 years, such as 12h, 90d or 52w"))
	case !from.IsZero() || !to.IsZero():
		r.keep(route.Errorf(http.StatusBadRequest, "query parameter last takes the place of from and to: give one or the other"))
	}
	expires = n.Now().UTC().Truncate(time.Minute).Add(time.Minute)
	return expires.Add(-length), expires, expires
}

func readTrend(ctx context.Context, v *lab.View, q lab.TrendQuery) (*TrendPage, error) {
	trend, err := v.Trend(ctx, q)
	if tooMany, ok := errors.AsType[*lab.TooManyPoints](err); ok {
		return nil, route.Errorf(http.StatusBadRequest, "query parameter resolution: %v", tooMany)
	}
	if err != nil {
		return nil, err
	}
	page := &TrendPage{Series: q.Series, Resolution: trend.Resolution, Samples: trend.Samples, Items: trend.Points}
	if !q.From.IsZero() {
		page.From = &q.From
	}
	if !q.To.IsZero() {
		page.To = &q.To
	}
	return page, nil
}

func encode(value any) (cache.Value, error) {
	var body bytes.Buffer
	err := json.MarshalWrite(&body, value)
	return cache.Value{Body: body.Bytes()}, err
}
