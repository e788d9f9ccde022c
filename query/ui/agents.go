package ui

import (
	"context"
	"errors"
	"net/url"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/query/native/fresh"
	"github.com/millrace/millrace/query/native/lab"
	"github.com/millrace/millrace/schemas/route"
)

const (
	// agentsShown bounds the agents on a page.
	agentsShown = 500
	// linesShown bounds the lines of an agent's log, and its provisionings; lineShown the characters of a line.
	linesShown, lineShown = 100, 2000
	// queuesOfAgent bounds the queues that are shown of an agent.
	queuesOfAgent = 50
)

// agentLine is an agent in a list.
type agentLine struct {
	*lab.Agent

	Href   string
	Queues []queueLink
	// MoreQueues is how many it serves besides.
	MoreQueues int
}

// queueLink is a queue of Testflinger's with its page.
type queueLink struct{ Name, Href string }

func lineOf(a *lab.Agent) agentLine {
	line := agentLine{Agent: a, Href: "/ui/agents/" + url.PathEscape(a.Name)}
	shown := a.Queues[:min(len(a.Queues), queuesOfAgent)]
	line.MoreQueues = len(a.Queues) - len(shown)
	for _, name := range shown {
		line.Queues = append(line.Queues, queueLink{name, link("/ui/queue", "queue", testflinger.Queue(name))})
	}
	return line
}

// unlessTooMany leaves a list out that is too long for a page.
func unlessTooMany(err error) error {
	if _, is := errors.AsType[*lab.TooMany](err); is {
		return nil
	}
	return err
}

// agentsData is what the list of agents shows.
type agentsData struct {
	Agents []agentLine
	// TooMany says that there are more than a page holds.
	TooMany bool
}

func (u *UI) agents(*gin.Context) (sight, error) {
	now := u.Now().UTC()
	return sight{
		scope: fresh.Scope{Topics: toAgents}, template: "agents", tab: "agents", expires: minute(now),
		read: func(ctx context.Context, v *lab.View) (string, any, error) {
			agents, err := v.Agents(ctx, lab.AgentFilter{Since: lab.AgentsSince(now)}, agentsShown)
			data := &agentsData{TooMany: err != nil}
			for _, a := range agents {
				data.Agents = append(data.Agents, lineOf(a))
			}
			return "Agents", data, unlessTooMany(err)
		},
	}, nil
}

// agentData is what an agent's page shows.
type agentData struct {
	agentLine

	Log        []lab.AgentLine
	Provisions []lab.Provision
	Jobs       []lab.Job
}

func (u *UI) agent(c *gin.Context) (sight, error) {
	name, err := route.Text(c, "name")
	if err != nil {
		return sight{}, err
	}
	now, public := u.Now().UTC(), !access.HasToken(c)
	return sight{
		scope: fresh.Scope{Topics: toAgents}, template: "agent", tab: "agents", expires: minute(now), seen: seen(public),
		read: func(ctx context.Context, v *lab.View) (string, any, error) {
			agents, err := v.Agents(ctx, lab.AgentFilter{Name: name, Since: lab.AgentsSince(now)}, 1)
			if err != nil {
				return "", nil, err
			}
			if len(agents) == 0 {
				return "", nil, route.Errorf(404, "nothing was heard of an agent %q lately", clip(name, titleShown))
			}
			d := &agentData{agentLine: lineOf(agents[0])}
			if d.Log, err = v.AgentLog(ctx, name, linesShown); err != nil {
				return "", nil, err
			}
			for i := range d.Log {
				d.Log[i].Line = clip(d.Log[i].Line, lineShown)
			}
			if d.Provisions, err = v.Provisions(ctx, name, linesShown); err != nil {
				return "", nil, err
			}
			d.Jobs, _, err = v.Jobs(ctx, lab.JobFilter{Worker: name, Family: "testflinger", Public: public}, lab.Page{Order: lab.JobOrders()[0], Limit: jobsShown})
			return name, d, err
		},
	}, nil
}
