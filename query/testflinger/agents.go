package testflinger

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/query/native/lab"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// agents reads the agents that were heard of lately; with name that one, with queue those that serve it.
func (r *reading) agents(name, queue string) ([]*lab.Agent, error) {
	filter := lab.AgentFilter{Name: name, Queue: queue, Since: lab.AgentsSince(r.Now())}
	agents, err := r.Reader.At(r.generation).Agents(r.ctx, filter, r.MaxRows)
	if tooMany, is := errors.AsType[*lab.TooMany](err); is {
		return nil, route.Busy(retryTooLarge, "%v", tooMany)
	}
	return agents, err
}

// object is an agent's object (7): what it ever said of itself, and what is known besides.
func object(a *lab.Agent) map[string]any {
	members := map[string]any{"name": a.Name}
	for field, value := range a.Said {
		members[field] = value
	}
	members[projection.AgentUpdated] = testflinger.FormatTime(a.Heard)
	if a.Queues != nil {
		members["queues"] = a.Queues
	}
	if a.Streak > 0 {
		members["provision_streak_type"] = map[bool]string{true: "pass", false: "fail"}[a.Passes]
		members["provision_streak_count"] = a.Streak
	}
	return members
}

// restrictions give, for each agent, who owns those of its queues that are restricted and owned (7).
func (t *Testflinger) restrictions(agents []*lab.Agent) []map[string][]string {
	owners := map[string][]string{}
	t.Registry.View(func(s *registry.State) {
		for _, a := range agents {
			for _, queue := range a.Queues {
				if _, known := owners[queue]; !known && s.Testflinger.Restricted[queue] {
					owners[queue] = t.owners(s, queue)
				}
			}
		}
	})
	list := make([]map[string][]string, len(agents))
	for i, a := range agents {
		list[i] = map[string][]string{}
		for _, queue := range a.Queues {
			if len(owners[queue]) > 0 {
				list[i][queue] = owners[queue]
			}
		}
	}
	return list
}

// objects reads agents with all that is known of them.
func (t *Testflinger) objects(c *gin.Context, name string) ([]map[string]any, error) {
	if err := t.Registry.CatchUp(c.Request.Context()); err != nil {
		return nil, outOfReach(err)
	}
	var agents []*lab.Agent
	err := t.read(c, func(r *reading) (err error) {
		agents, err = r.agents(name, "")
		return err
	}, eventlog.Results)
	if err != nil {
		return nil, err
	}
	list := make([]map[string]any, len(agents))
	for i, restricted := range t.restrictions(agents) {
		list[i] = object(agents[i])
		list[i]["restricted_to"] = restricted
	}
	return list, nil
}

// allAgents answers GET /v1/agents/data (7).
func (t *Testflinger) allAgents(c *gin.Context) {
	agents, err := t.objects(c, "")
	if err != nil {
		route.Refuse(c, err)
		return
	}
	answer(c, http.StatusOK, agents)
}

// oneAgent answers GET /v1/agents/data/{agent_name} (7).
func (t *Testflinger) oneAgent(c *gin.Context) {
	agents, err := t.objects(c, c.Param(agentParam))
	switch {
	case err != nil:
		route.Refuse(c, err)
	case len(agents) == 0:
		answer(c, http.StatusNotFound, struct{}{})
	default:
		answer(c, http.StatusOK, agents[0])
	}
}

// queueAgents answers GET /v1/queues/{queue_name}/agents: agents as far as the queue's users need them (7).
func (t *Testflinger) queueAgents(c *gin.Context) {
	queue := c.Param(queueParam)
	var agents []*lab.Agent
	err := t.read(c, func(r *reading) (err error) {
		agents, err = r.agents("", queue) // the others may say more than one answer may take
		return err
	}, eventlog.Results)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	list := []map[string]any{}
	for _, a := range agents {
		if !slices.Contains(a.Queues, queue) {
			continue
		}
		shown, all := map[string]any{}, object(a)
		for _, member := range []string{"name", "state", "queues", "location", "provision_type", "job_id", "comment"} {
			if value, said := all[member]; said {
				shown[member] = value
			}
		}
		list = append(list, shown)
	}
	switch {
	case len(list) > 0:
		answer(c, http.StatusOK, list)
	case t.Generation == testflinger.Latest:
		route.Refuse(c, route.Errorf(http.StatusNotFound, "Queue '%s' does not exist or has no agents listening to it", queue))
	default:
		answer(c, http.StatusNotFound, list)
	}
}

// queues answers GET /v1/agents/queues: descriptions by name. A queue that is known by its images alone has none (2).
func (t *Testflinger) queues(c *gin.Context) {
	descriptions := map[string]string{}
	err := t.read(c, func(r *reading) error {
		clear(descriptions)
		return r.query(`SELECT queue, field, value, at FROM {db}.testflinger_queues FINAL`, func(rows driver.Rows) error {
			var queue, field, value string
			var at time.Time
			if err := rows.Scan(&queue, &field, &value, &at); err != nil {
				return err
			}
			forgotten := field == projection.QueueDescription && at.Before(t.Now().Add(-testflinger.RememberedFor))
			switch {
			case forgotten:
			case field == projection.QueueDescription:
				descriptions[queue] = value
			case descriptions[queue] == "":
				descriptions[queue] = ""
			}
			if len(descriptions) > r.MaxRows {
				return route.Busy(retryTooLarge, "there are more than %d queues", r.MaxRows)
			}
			return nil
		})
	}, eventlog.Results)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	answer(c, http.StatusOK, descriptions)
}

// images answers GET /v1/agents/images/{queue_name}: provisioning lines by image.
func (t *Testflinger) images(c *gin.Context) {
	images := jsontext.Value("{}")
	err := t.read(c, func(r *reading) error {
		return r.query(`SELECT value FROM {db}.testflinger_queues FINAL WHERE queue = ? AND field = ?`, func(rows driver.Rows) error {
			var value string
			err := rows.Scan(&value)
			images = jsontext.Value(value)
			return err
		}, c.Param(queueParam), projection.QueueImages)
	}, eventlog.Results)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	c.Data(http.StatusOK, "application/json", images)
}

// waits are percentiles of the seconds that jobs of a queue waited (8).
type waits struct {
	P5  float64 `json:"5"`
	P10 float64 `json:"10"`
	P50 float64 `json:"50"`
	P90 float64 `json:"90"`
	P95 float64 `json:"95"`
}

// percentiles are linear between the samples next to the rank (count-1)*p/100, as the contract computes them (8).
const percentiles = `SELECT queue, arrayMap(p -> sorted[intDiv((n - 1) * p, 100) + 1] +
		(sorted[least(n, intDiv((n - 1) * p, 100) + 2)] - sorted[intDiv((n - 1) * p, 100) + 1]) * (((n - 1) * p) % 100 / 100),
		[5, 10, 50, 90, 95])
	FROM (SELECT queue, arraySort(groupArray(toFloat64(intDiv(assumeNotNull(waited_ms), 1000)))) AS sorted, toInt64(length(sorted)) AS n
		FROM {db}.queue_changes FINAL WHERE {named} AND waited_ms IS NOT NULL GROUP BY queue LIMIT ?)`

// waitTimes answers GET /v1/queues/wait_times: by queue, of all or of those that are named.
func (t *Testflinger) waitTimes(c *gin.Context) {
	named, condition := []string{}, "startsWith(queue, ?)"
	parameter := any(testflinger.Queue(""))
	for _, name := range c.QueryArray("queue") {
		named = append(named, testflinger.Queue(name))
	}
	if len(named) > 0 {
		condition, parameter = "queue IN (?)", named
	}
	times := map[string]waits{}
	err := t.read(c, func(r *reading) error {
		clear(times)
		return r.query(strings.ReplaceAll(percentiles, "{named}", condition), func(rows driver.Rows) error {
			var queue string
			var p []float64
			if err := rows.Scan(&queue, &p); err != nil {
				return err
			}
			if len(times) == r.MaxRows {
				return route.Busy(retryTooLarge, "there are more than %d queues: name some by the parameter queue", r.MaxRows)
			}
			name, _ := testflinger.QueueName(queue)
			times[name] = waits{p[0], p[1], p[2], p[3], p[4]}
			return nil
		}, parameter, r.MaxRows+1)
	}, eventlog.Jobs)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	answer(c, http.StatusOK, times)
}
