package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/go-json-experiment/json"

	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/query/gate"
	"github.com/millrace/millrace/schemas/clickhouse"
)

// Agent is an agent of Testflinger's: what it ever said of itself, and how its provisionings went.
type Agent struct {
	Name string
	// Said are the fields that it ever gave, but for its queues.
	Said map[string]string
	// Queues are those that it serves; nil when it never said.
	Queues []string
	// Heard is when it said something last.
	Heard time.Time
	// Streak counts the newest provisionings that went the same way; Passes says which.
	Streak uint64
	Passes bool
}

// TooMany is returned for a list that an API gives whole, and that is too long.
type TooMany struct {
	What  string
	Limit int
}

func (e *TooMany) Error() string { return fmt.Sprintf("there are more than %d %s", e.Limit, e.What) }

// agentField is what an agent said last of one thing.
type agentField struct {
	Name  string    `ch:"name"`
	Field string    `ch:"field"`
	Value string    `ch:"value"`
	At    time.Time `ch:"at"`
}

// agentStreak is how an agent's newest provisionings went.
type agentStreak struct {
	Name   string `ch:"agent"`
	Passes bool   `ch:"passes"`
	Streak uint64 `ch:"streak"`
}

// agentFilter is the condition on the names of agents; both queries have it, for a list of names may be longer than a query.
const agentFilter = `(? = '' OR {name} = ?) AND (? = '' OR {name} IN (SELECT name FROM {db}.testflinger_agents FINAL
	WHERE field = ? AND has(JSONExtract(value, 'Array(String)'), ?))) AND {name} IN (SELECT name FROM {db}.testflinger_agents
	WHERE field = ? AND at >= fromUnixTimestamp64Milli(toInt64(?), 'UTC'))`

const agentFields = `SELECT name, field, value, at
FROM {db}.testflinger_agents FINAL
WHERE {agents}
ORDER BY name, field`

// agentStreaks counts the provisionings since the last one that went the other way.
const agentStreaks = `SELECT agent, max(passed) > max(failed) AS passes, uniqExactIf(event_id, version > least(passed, failed)) AS streak
FROM (SELECT agent, event_id, version, maxIf(version, exit_code = 0) OVER (PARTITION BY agent) AS passed,
	maxIf(version, exit_code != 0) OVER (PARTITION BY agent) AS failed
FROM {db}.testflinger_provisions
WHERE {agents})
GROUP BY agent`

// AgentFilter says which agents are asked for: those that were heard of since a time, of them with Name that one, with Queue
// those that serve it.
type AgentFilter struct {
	Name, Queue string
	Since       time.Time
}

// in gives a query about the agents, whose names it has in a column, and its values.
func (f *AgentFilter) in(v *View, text, name string) (query string, values []any) {
	text = strings.ReplaceAll(text, "{agents}", strings.ReplaceAll(agentFilter, "{name}", name))
	return in(v.database, text), []any{
		f.Name, f.Name, f.Queue, projection.AgentQueues, f.Queue, projection.AgentUpdated, f.Since.UnixMilli(),
	}
}

// Agents reads agents, in the order of their names; of more than a limit none, but a *TooMany.
func (v *View) Agents(ctx context.Context, filter AgentFilter, limit int) ([]*Agent, error) {
	query, values := filter.in(v, agentFields, "name")
	fields, err := scan[agentField](ctx, v, "agents", query, values...)
	if exception, is := errors.AsType[*ch.Exception](err); is && exception.Code == clickhouse.CodeTooLarge {
		return nil, &TooMany{"bytes of what agents say", gate.ResultBytes}
	}
	if err != nil {
		return nil, err
	}
	var found []*Agent
	byName := map[string]*Agent{}
	for _, f := range fields {
		a := byName[f.Name]
		if a == nil {
			if len(found) == limit {
				return nil, &TooMany{"agents", limit}
			}
			a = &Agent{Name: f.Name, Said: map[string]string{}}
			byName[f.Name], found = a, append(found, a)
		}
		if err := a.add(f); err != nil {
			return nil, err
		}
	}
	return found, v.addStreaks(ctx, filter, byName)
}

func (a *Agent) add(f agentField) error {
	if f.At.After(a.Heard) {
		a.Heard = f.At
	}
	if f.Field != projection.AgentQueues {
		a.Said[f.Field] = f.Value
		return nil
	}
	if err := json.Unmarshal([]byte(f.Value), &a.Queues); err != nil {
		return fmt.Errorf("read the queues of agent %s: %w", a.Name, err)
	}
	return nil
}

func (v *View) addStreaks(ctx context.Context, filter AgentFilter, agents map[string]*Agent) error {
	if len(agents) == 0 {
		return nil
	}
	query, values := filter.in(v, agentStreaks, "agent")
	streaks, err := scan[agentStreak](ctx, v, "provisionings of agents", query, values...)
	for _, s := range streaks {
		if a := agents[s.Name]; a != nil { // another has come meanwhile
			a.Streak, a.Passes = s.Streak, s.Passes
		}
	}
	return err
}

// AgentLine is a line of an agent's log.
type AgentLine struct {
	At   time.Time `ch:"at"`
	Line string    `ch:"line"`
}

// AgentLog reads the newest lines of an agent's log, the oldest of them first.
func (v *View) AgentLog(ctx context.Context, name string, limit int) ([]AgentLine, error) {
	return scan[AgentLine](ctx, v, "an agent's log", in(v.database, `SELECT at, line
FROM (SELECT at, line, version, ordinal FROM {db}.testflinger_agent_log WHERE agent = ?
ORDER BY version DESC, ordinal DESC
LIMIT 1 BY event_id, ordinal LIMIT ?)
ORDER BY version, ordinal`), name, limit)
}

// Provision is how a provisioning went.
type Provision struct {
	At       time.Time `ch:"at"`
	JobID    string    `ch:"job_id"`
	ExitCode int64     `ch:"exit_code"`
	Detail   string    `ch:"detail"`
}

// Provisions reads the newest provisionings of an agent, the newest first.
func (v *View) Provisions(ctx context.Context, name string, limit int) ([]Provision, error) {
	return scan[Provision](ctx, v, "provisionings of an agent", in(v.database, `SELECT at, job_id, exit_code, detail
FROM {db}.testflinger_provisions
WHERE agent = ?
ORDER BY version DESC
LIMIT 1 BY event_id
LIMIT ?`), name, limit)
}

// AgentsSince is since when agents must have been heard of to be shown.
func AgentsSince(now time.Time) time.Time { return now.Add(-testflinger.RememberedFor) }
