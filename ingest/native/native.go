// Package native is the write side of Millrace's own API: samples of a run's metrics.
//
// Samples under an Idempotency-Key count once, at whatever processes and through whatever crashes their requests come, as
// long as the key is remembered; other samples under it are refused and never in the log.
package native

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"slices"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/runs"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// API is the name of the route table that this one is a part of.
const API = "millrace"

// source names this door in events.
const source = "/millrace"

const (
	// MaxPoints bounds one request: its event then fits a record.
	MaxPoints = 10_000
	// maxBody is the largest body in bytes, as sent and after decoding gzip.
	maxBody = 1 << 20
	depth   = 4
	// greatest bounds a value: the squares of deviations must be finite even when millions are summed.
	greatest = 1e150
	// ahead is how far in the future a sample may lie.
	ahead = 24 * time.Hour
)

// earliest is the oldest time of a sample: what lies before is a clock that was never set, or another unit.
var earliest = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// Run is what a run's samples belong to.
type Run struct {
	Machine, Branch uint64
	// Config is the configuration of the result asked for, or of all results of the run; 0 when they differ.
	Config uint64
}

// Dependencies are what the endpoints work with. All are required.
type Dependencies struct {
	Log door.Log
	// Runs decides whose an idempotency key is.
	Runs door.Fold[*runs.State, runs.Outcome]
	// KeepKeys is how long an Idempotency-Key is remembered, in log time.
	KeepKeys time.Duration
	// Run finds a stored run, and that it has the result unless that is 0; nil when it has not. Its answer contains every
	// run that was acknowledged before it was asked.
	Run func(ctx context.Context, run, result uint64) (*Run, error)
	Now func() time.Time
}

// Native answers the write endpoints of /millrace/v1.
type Native struct{ Dependencies }

// New gives the endpoints.
func New(d Dependencies) *Native { return &Native{d} }

// Samples is the body of a request: samples of one metric.
type Samples struct {
	Metric   string       `json:"metric" doc:"letters, digits and _ . : / -, at most 100, a letter or _ first"`
	ResultID uint64       `json:"result_id,omitzero" doc:"the result that was sampled; the run as a whole when absent"`
	Points   [][2]float64 `json:"points" doc:"pairs of Unix seconds (with a fraction) and value"`
}

// Recorded is the answer.
type Recorded struct {
	Points int `json:"points" doc:"how many samples were recorded"`
}

// Routes is the table of the native write endpoints.
func (n *Native) Routes() []route.Route {
	return []route.Route{{
		Method: http.MethodPost, Path: "/millrace/v1/runs/:run_id/samples", Side: route.Ingest, API: API, Access: route.TokenWriter,
		Summary: "Record samples of one of a run's metrics",
		Params: []route.Param{
			{Name: "run_id", Type: route.Integer, Description: "The run's id."},
			door.KeyParam(),
		},
		Body: Samples{}, BodyLimit: maxBody, GzipLimit: maxBody,
		Answers: []route.Answer{
			{Status: 201, Body: Recorded{}, Description: "The samples are in the log."},
			{Status: 400, Body: route.Failure{}, Description: "A member is missing or wrong, or a time or value out of range."},
			{Status: 401, Body: route.Failure{}, Description: "No token, or one that is not known."},
			{Status: 403, Body: route.Failure{}, Description: "The token's role is viewer."},
			{Status: 404, Body: route.Failure{}, Description: "There is no such run, or it has no such result."},
			{Status: 413, Body: route.Failure{}, Description: "The body is over the limit."},
			{Status: 422, Body: route.Failure{}, Description: "The Idempotency-Key came with another body before."},
			{Status: 503, Body: route.Failure{}, Description: "An engine is out of reach."},
		},
		Handler: n.samples,
	}}
}

// samples answers POST /millrace/v1/runs/{run_id}/samples.
func (n *Native) samples(c *gin.Context) {
	body, err := route.ReadBody(c)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	position, points, err := n.record(c, body)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	door.SetPosition(c, position)
	c.JSON(http.StatusCreated, Recorded{Points: points})
}

func (n *Native) record(c *gin.Context, body []byte) (eventlog.Position, int, error) {
	var none eventlog.Position
	id, err := route.Int(c, "run_id")
	if err != nil {
		return none, 0, err
	}
	asked, err := route.DecodeJSON[Samples](body, depth, json.RejectUnknownMembers(true))
	if err == nil {
		err = asked.check(n.Now())
	}
	if err != nil {
		return none, 0, err
	}
	run, err := n.Run(c.Request.Context(), uint64(id), asked.ResultID)
	switch {
	case err != nil:
		return none, 0, err
	case run == nil && asked.ResultID != 0:
		return none, 0, route.Errorf(http.StatusNotFound, "there is no run %d with a result %d", id, asked.ResultID)
	case run == nil:
		return none, 0, route.Errorf(http.StatusNotFound, "there is no run %d", id)
	}
	fact, err := door.NewEvent(c.Request.Context(), source, asked.fact(uint64(id), run))
	if err != nil {
		return none, 0, err
	}
	if fact.ID, err = n.takeKey(c, body, fact.ID); err != nil {
		return none, 0, err
	}
	position, err := n.Log.Record(c.Request.Context(), eventlog.Metrics, seriesKey(run.Machine, asked.Metric), fact)
	return position, len(asked.Points), err
}

// takeKey gives the event id of a request's samples: its own, or under an idempotency key the first request's.
//
// Samples are a fact, about which nobody decides; whose the key is, the runs' fold decides before they are appended. So
// there is one body under a key, at whatever process requests arrive. Who repeats cannot know whether the first request
// got as far as appending its samples: they are appended again, as the same event, and count once.
func (n *Native) takeKey(c *gin.Context, body []byte, own uuid.UUID) (uuid.UUID, error) {
	bearer, _ := route.Principal[access.Bearer](c)
	key, err := door.Idempotency(c, "token:"+bearer.Name, body, n.KeepKeys)
	if key == nil || err != nil {
		return own, err
	}
	outcome, _, err := door.Decide(c.Request.Context(), n.Log, n.Runs, source, &event.FactKeyRequested{FactId: own[:], Idempotency: key})
	switch {
	case err != nil:
		return own, err
	case outcome.Result == runs.KeyReused:
		return own, door.KeyReused()
	case outcome.Result != runs.KeyTaken:
		return own, fmt.Errorf("take an idempotency key: the runs' fold answers %d", outcome.Result)
	}
	return outcome.Fact, nil
}

// seriesKey keeps all samples of a machine's metric in one partition.
func seriesKey(machine uint64, metric string) []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(metric)), machine), metric...)
}

var metricName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.:/-]{0,99}$`)

// check says what is wrong with the request, and where.
func (s *Samples) check(now time.Time) error {
	bad := func(format string, args ...any) error { return route.Errorf(http.StatusBadRequest, format, args...) }
	switch {
	case !metricName.MatchString(s.Metric):
		return bad("member /metric must be letters, digits and _ . : / -, at most 100, a letter or _ first")
	case len(s.Points) == 0:
		return bad("member /points is empty: send at least one pair of time and value")
	case len(s.Points) > MaxPoints:
		return bad("member /points has %d pairs: the limit is %d for one request", len(s.Points), MaxPoints)
	}
	latest := now.Add(ahead)
	for i, point := range s.Points {
		if reason := checkPoint(point, latest); reason != "" {
			return bad("member /points/%d/%s", i, reason)
		}
	}
	return nil
}

func checkPoint(point [2]float64, latest time.Time) string {
	switch seconds, value := point[0], point[1]; {
	case seconds < float64(earliest.Unix()):
		return fmt.Sprintf("0 is %g: a time is Unix seconds, from %s on", seconds, earliest.Format(time.DateOnly))
	case seconds > float64(latest.Unix()):
		return fmt.Sprintf("0 is %g: a time is Unix seconds (not milliseconds), until a day from now at the most", seconds)
	case math.Abs(value) > greatest:
		return fmt.Sprintf("1 is %g: a value is a number from -1e150 to 1e150", value)
	}
	return ""
}

// fact is the event's payload, with the samples in the order of their times.
func (s *Samples) fact(run uint64, of *Run) *event.RunSamplesRecorded {
	slices.SortStableFunc(s.Points, func(a, b [2]float64) int {
		switch {
		case a[0] < b[0]:
			return -1
		case a[0] > b[0]:
			return 1
		}
		return 0
	})
	times, values := make([]int64, len(s.Points)), make([]float64, len(s.Points))
	for i, point := range s.Points {
		times[i], values[i] = int64(math.Round(point[0]*1000)), point[1]
	}
	return &event.RunSamplesRecorded{
		RunId: run, ResultId: s.ResultID, MachineId: of.Machine, ConfigId: of.Config, BranchId: of.Branch,
		Metric: s.Metric, Times: times, Values: values,
	}
}
