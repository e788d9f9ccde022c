package ui

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/query/native/fresh"
	"github.com/millrace/millrace/query/native/lab"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

const (
	// queuesShown is how many queues the overview of queues has; the rest are found by the API.
	queuesShown = 40
	// jobsShown is how many jobs a list has.
	jobsShown = 50
)

// toJobs and toAgents are the topics that jobs, and agents, come from.
var (
	toJobs   = []string{eventlog.Jobs}
	toAgents = []string{eventlog.Jobs, eventlog.Results}
)

// queuesData is what the overview of queues shows.
type queuesData struct {
	Queues       []queueCard
	More         bool
	Waiting, Out uint64
}

// queueCard is a queue with its course of a day.
type queueCard struct {
	lab.Queue

	Href string
	// Aged is how long the oldest job has waited; empty when none waits.
	Aged string
	// Lengths draws how many jobs waited, Waits how long those waited that were handed out; nil where there were none.
	Lengths, Waits *spark
	// Wait is the newest median of waits, and Longest the greatest length.
	Wait    string
	Longest float64
}

func (u *UI) queues(*gin.Context) (sight, error) {
	now := u.Now().UTC()
	return sight{
		scope: fresh.Scope{Topics: toJobs}, template: "queues", tab: "queues", expires: minute(now),
		read: func(ctx context.Context, v *lab.View) (string, any, error) {
			data, err := readQueues(ctx, v, now)
			return "Queues", data, err
		},
	}, nil
}

func readQueues(ctx context.Context, v *lab.View, now time.Time) (*queuesData, error) {
	queues, next, err := v.Queues(ctx, lab.QueueFilter{}, lab.Page{Order: lab.QueueOrders()[0], Limit: queuesShown})
	if err != nil {
		return nil, err
	}
	data := &queuesData{More: next != nil, Queues: make([]queueCard, len(queues))}
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i := range queues {
		card := &data.Queues[i]
		card.Queue, card.Href, card.Aged = queues[i], link("/ui/queue", "queue", queues[i].Queue), aged(queues[i].Oldest, now)
		data.Waiting += queues[i].Waiting
		data.Out += queues[i].Out
		group.Go(func() error { return card.addCourse(within, v, now) })
	}
	return data, group.Wait()
}

// addCourse reads how the queue went for a day, by the hour.
func (q *queueCard) addCourse(ctx context.Context, v *lab.View, now time.Time) error {
	query := lab.QueueTrendQuery{
		Queue: q.Queue.Queue, Metric: lab.QueueWaiting, From: later(minute(now).Add(-24*time.Hour), q.Began), To: minute(now), Resolution: lab.Hour,
	}
	lengths, err := v.QueueTrend(ctx, query)
	if err != nil {
		return err
	}
	query.Metric = lab.QueueWait
	waits, err := v.QueueTrend(ctx, query)
	if err != nil {
		return err
	}
	if n := len(lengths.Points); n > 0 {
		drawn := sparkOf(column(lengths.Points, func(p lab.QueuePoint) float64 { return p.Mean }))
		q.Lengths, q.Longest = &drawn, slices.Max(column(lengths.Points, func(p lab.QueuePoint) float64 { return p.Max }))
	}
	if n := len(waits.Points); n > 0 {
		drawn := sparkOf(column(waits.Points, func(p lab.QueuePoint) float64 { return p.Median }))
		q.Waits, q.Wait = &drawn, span(waits.Points[n-1].Median)
	}
	return nil
}

// later gives the later of two times: a queue's course begins with the queue.
func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func column(points []lab.QueuePoint, of func(lab.QueuePoint) float64) []float64 {
	values := make([]float64, 0, len(points)+1)
	for _, p := range points {
		values = append(values, of(p))
	}
	if len(values) == 1 { // a line has two ends
		values = append(values, values[0])
	}
	return values
}

// aged tells how long ago a time was.
func aged(since *time.Time, now time.Time) string {
	if since == nil {
		return ""
	}
	return span(max(0, now.Sub(*since).Seconds()))
}

// span shows a length of time in seconds.
func span(seconds float64) string {
	switch d := time.Duration(seconds * float64(time.Second)); {
	case d < 10*time.Second:
		return number(float64(d.Milliseconds())/1000) + " s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%d days", int(d.Hours())/24)
	}
}

// queueRanges are how far back a queue's page looks.
var queueRanges = []struct {
	Name, Label string
	length      time.Duration
}{
	{"1h", "1 hour", time.Hour}, {"24h", "1 day", 24 * time.Hour}, {"7d", "1 week", 7 * 24 * time.Hour}, {"30d", "30 days", 30 * 24 * time.Hour},
}

func queueParams() []route.Param {
	var names []string
	for _, r := range queueRanges {
		names = append(names, r.Name)
	}
	return []route.Param{
		{Name: "queue", Required: true, MaxLength: 1000, Description: "The queue's name."},
		{Name: "last", Enum: names, Default: "24h", Description: "How far back the charts look."},
	}
}

// queueData is what a queue's page shows.
type queueData struct {
	lab.Queue

	Aged   string
	Ranges []option
	Charts []queueChart
	Jobs   []lab.Job
	More   bool
	Agents []agentLine
	// TooManyAgents says that more serve the queue than a page holds.
	TooManyAgents bool
}

// queueChart is a chart of a queue.
type queueChart struct {
	Title, Unit string
	Resolution  lab.Resolution
	Points      []queuePoint
}

type queuePoint struct {
	lab.QueuePoint

	When string
}

func (u *UI) queue(c *gin.Context) (sight, error) {
	name, err := route.Text(c, "queue")
	if err != nil {
		return sight{}, err
	}
	last, err := route.Text(c, "last")
	if err != nil {
		return sight{}, err
	}
	now, public := u.Now().UTC(), !access.HasToken(c)
	return sight{
		scope: fresh.Scope{Topics: toAgents}, template: "queue", tab: "queues", expires: minute(now), seen: seen(public),
		read: func(ctx context.Context, v *lab.View) (string, any, error) {
			data, err := readQueue(ctx, v, name, last, now, public)
			return "Queue " + name, data, err
		},
	}, nil
}

func readQueue(ctx context.Context, v *lab.View, name, last string, now time.Time, public bool) (*queueData, error) {
	queues, _, err := v.Queues(ctx, lab.QueueFilter{Name: name}, lab.Page{Order: lab.QueueOrders()[0], Limit: 1})
	if err != nil {
		return nil, err
	}
	if len(queues) == 0 {
		return nil, route.Errorf(404, "there is no queue %q, or it never had a job", clip(name, titleShown))
	}
	d := &queueData{Queue: queues[0], Aged: aged(queues[0].Oldest, now)}
	from, began := minute(now), queues[0].Began
	for _, r := range queueRanges {
		d.Ranges = append(d.Ranges, option{r.Name, r.Label, r.Name == last})
		if r.Name == last {
			from = later(from.Add(-r.length), began)
		}
	}
	d.Charts = []queueChart{{Title: "Jobs that wait"}, {Title: "Jobs that are worked on"}, {Title: "Wait until the hand-out", Unit: "s"}}
	group, within := errgroup.WithContext(ctx)
	for i, metric := range []lab.QueueMetric{lab.QueueWaiting, lab.QueueOut, lab.QueueWait} {
		group.Go(func() error {
			return d.Charts[i].fill(within, v, lab.QueueTrendQuery{Queue: name, Metric: metric, From: from, To: minute(now)})
		})
	}
	group.Go(func() (err error) {
		found, next, err := v.Jobs(within, lab.JobFilter{Queue: name, Public: public}, lab.Page{Order: lab.JobOrders()[0], Limit: jobsShown})
		d.Jobs, d.More = found, next != nil
		return err
	})
	group.Go(func() error { return d.addAgents(within, v, now) })
	return d, group.Wait()
}

// chartPoints is how many points a queue's chart is kept within.
const chartPoints = 120

func (c *queueChart) fill(ctx context.Context, v *lab.View, q lab.QueueTrendQuery) error {
	q.Resolution, q.Points = lab.Auto, chartPoints
	trend, err := v.QueueTrend(ctx, q)
	if err != nil {
		return err
	}
	c.Resolution = trend.Resolution
	for _, p := range trend.Points {
		c.Points = append(c.Points, queuePoint{p, moment(p.Time)})
	}
	return nil
}

// addAgents lists who serves a queue of Testflinger's.
func (d *queueData) addAgents(ctx context.Context, v *lab.View, now time.Time) error {
	name, is := testflinger.QueueName(d.Queue.Queue)
	if !is {
		return nil
	}
	agents, err := v.Agents(ctx, lab.AgentFilter{Queue: name, Since: lab.AgentsSince(now)}, agentsShown)
	for _, a := range agents {
		d.Agents = append(d.Agents, lineOf(a))
	}
	d.TooManyAgents = err != nil
	return unlessTooMany(err)
}
