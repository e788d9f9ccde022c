package testflinger

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// agent is an agent's object (7): what it ever said of itself, and what is known besides.
type agent struct {
	name    string
	queues  []string
	members map[string]any
}

// agents reads the agents that were heard of lately, by name; with name, that one.
func (r *reading) agents(name string) ([]*agent, error) {
	var found []*agent
	err := r.query(`SELECT name, field, value FROM {db}.testflinger_agents FINAL
		WHERE (? = '' OR name = ?) AND name IN (SELECT name FROM {db}.testflinger_agents WHERE field = ? AND at >= fromUnixTimestamp64Milli(toInt64(?), 'UTC'))
		ORDER BY name, field`, func(rows driver.Rows) error {
		var of, field, value string
		if err := rows.Scan(&of, &field, &value); err != nil {
			return err
		}
		if len(found) == 0 || found[len(found)-1].name != of {
			if len(found) == r.MaxRows {
				return route.Errorf(http.StatusServiceUnavailable, "there are more than %d agents", r.MaxRows)
			}
			found = append(found, &agent{name: of, members: map[string]any{"name": of}})
		}
		return found[len(found)-1].add(field, value)
	}, name, name, projection.AgentUpdated, r.Now().Add(-testflinger.RememberedFor).UnixMilli())
	return found, err
}

func (a *agent) add(field, value string) error {
	if field != projection.AgentQueues {
		a.members[field] = value
		return nil
	}
	if err := json.Unmarshal([]byte(value), &a.queues); err != nil {
		return fmt.Errorf("read the queues of agent %s: %w", a.name, err)
	}
	a.members[field] = a.queues
	return nil
}

// addStreaks adds how many provisionings in a row went the same way (7).
func (r *reading) addStreaks(agents []*agent) error {
	byName := make(map[string]*agent, len(agents))
	names := make([]string, len(agents))
	for i, a := range agents {
		byName[a.name], names[i] = a, a.name
	}
	return r.query(`SELECT agent, max(passed) > max(failed) AS passes, uniqExactIf(event_id, version > least(passed, failed)) AS streak
		FROM (SELECT agent, event_id, version, maxIf(version, exit_code = 0) OVER (PARTITION BY agent) AS passed,
			maxIf(version, exit_code != 0) OVER (PARTITION BY agent) AS failed
			FROM {db}.testflinger_provisions WHERE agent IN (?))
		GROUP BY agent`, func(rows driver.Rows) error {
		var name string
		var passes bool
		var streak uint64
		if err := rows.Scan(&name, &passes, &streak); err != nil {
			return err
		}
		kind := "fail"
		if passes {
			kind = "pass"
		}
		byName[name].members["provision_streak_type"], byName[name].members["provision_streak_count"] = kind, streak
		return nil
	}, names)
}

// addOwners adds who owns those queues of agents that are restricted and owned (7).
func (t *Testflinger) addOwners(agents []*agent) {
	owners := map[string][]string{}
	t.Registry.View(func(s *registry.State) {
		for _, a := range agents {
			for _, queue := range a.queues {
				if _, known := owners[queue]; !known && s.Testflinger.Restricted[queue] {
					owners[queue] = t.owners(s, queue)
				}
			}
		}
	})
	for _, a := range agents {
		restricted := map[string][]string{}
		for _, queue := range a.queues {
			if len(owners[queue]) > 0 {
				restricted[queue] = owners[queue]
			}
		}
		a.members["restricted_to"] = restricted
	}
}

// agentList reads agents with all that is known of them.
func (t *Testflinger) agentList(c *gin.Context, name string) (agents []*agent, err error) {
	if err := t.Registry.CatchUp(c.Request.Context()); err != nil {
		return nil, outOfReach(err)
	}
	err = t.read(c, func(r *reading) error {
		if agents, err = r.agents(name); err != nil {
			return err
		}
		return r.addStreaks(agents)
	}, eventlog.Results)
	if err == nil {
		t.addOwners(agents)
	}
	return agents, err
}

// allAgents answers GET /v1/agents/data (7).
func (t *Testflinger) allAgents(c *gin.Context) {
	agents, err := t.agentList(c, "")
	if err != nil {
		route.Refuse(c, err)
		return
	}
	list := make([]map[string]any, len(agents))
	for i, a := range agents {
		list[i] = a.members
	}
	answer(c, http.StatusOK, list)
}

// oneAgent answers GET /v1/agents/data/{agent_name} (7).
func (t *Testflinger) oneAgent(c *gin.Context) {
	agents, err := t.agentList(c, c.Param(agentParam))
	switch {
	case err != nil:
		route.Refuse(c, err)
	case len(agents) == 0:
		answer(c, http.StatusNotFound, struct{}{})
	default:
		answer(c, http.StatusOK, agents[0].members)
	}
}

// queueAgents answers GET /v1/queues/{queue_name}/agents: agents as far as the queue's users need them (7).
func (t *Testflinger) queueAgents(c *gin.Context) {
	queue := c.Param(queueParam)
	var agents []*agent
	err := t.read(c, func(r *reading) (err error) {
		agents, err = r.agents("")
		return err
	}, eventlog.Results)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	list := []map[string]any{}
	for _, a := range agents {
		if !slices.Contains(a.queues, queue) {
			continue
		}
		shown := map[string]any{}
		for _, member := range []string{"name", "state", "queues", "location", "provision_type", "job_id", "comment"} {
			if value, said := a.members[member]; said {
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
				return route.Errorf(http.StatusServiceUnavailable, "there are more than %d queues", r.MaxRows)
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
				return route.Errorf(http.StatusServiceUnavailable, "there are more than %d queues: name some by the parameter queue", r.MaxRows)
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
