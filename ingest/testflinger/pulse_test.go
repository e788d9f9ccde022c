package testflinger_test

import (
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	door "github.com/millrace/millrace/ingest/testflinger"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// reads is a process that answers reads, as far as its pulse goes.
func (l *lab) reads(at int, paths ...string) *gin.Engine {
	l.t.Helper()
	var routes []route.Route
	for _, path := range paths {
		routes = append(routes, route.Route{
			Method: http.MethodGet, Path: path, Side: route.Query, API: door.API, Access: route.Anyone, Summary: "Read",
			Params: []route.Param{{Name: "job_id", Description: "The job's id."}}, Answers: []route.Answer{{Status: 200}},
			Handler: func(c *gin.Context) { c.String(http.StatusOK, "read") },
		})
	}
	tokens := testflinger.NewTokens(l.config.Generation, []byte("key"), l.clock.Now)
	engine := gin.New()
	err := route.Mount(engine, l.replicas[at].pulse.Around(routes), route.Options{
		Log: slog.New(slog.DiscardHandler), APIs: map[string]route.API{door.API: access.NewTestflinger(tokens).API()},
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return engine
}

func TestCallsOfPeopleKeepNoLease(t *testing.T) {
	const result, attachments = "/v1/result/:job_id", "/v1/job/:job_id/attachments"
	of := []string{result, attachments, "/v1/job/:job_id", "/v1/job/:job_id/position", "/v1/result/:job_id/artifact"}
	for _, tc := range []struct {
		g testflinger.Generation
		// caller is a client's role, and the agent's name that it sends.
		caller, agent string
		// keep are the reads that keep the lease.
		keep []string
	}{
		{testflinger.Seed, "", "", []string{result, attachments}},
		{testflinger.Seed, string(testflinger.Contributor), "", nil},
		{testflinger.Latest, "", "", nil},
		{testflinger.Latest, string(testflinger.Admin), "otter", nil},
		{testflinger.Latest, string(testflinger.Agents), "", []string{result, attachments}},
		{testflinger.Latest, string(testflinger.Agents), "otter", []string{result, attachments}},
		{testflinger.Latest, string(testflinger.Agents), "mole", nil},
	} {
		l := newLab(t, tc.g, func(c *door.Config) { c.Lease = time.Minute })
		id := l.submit(`{"job_queue":"q"}`)
		l.ask(0, http.MethodGet, "/v1/job?queue=q", "", append(l.signedIn(testflinger.Permission{ClientID: "otter", Role: testflinger.Agents}), "Cookie", "agent_name=otter")...).members()
		l.replicas[0].engine = l.reads(0, of...)
		for _, path := range of {
			l.clock.Pass(20 * time.Second)
			var header []string
			if tc.caller != "" {
				header = l.signedIn(testflinger.Permission{ClientID: "caller", Role: testflinger.Role(tc.caller)})
			}
			if tc.agent != "" {
				header = append(header, "Cookie", "agent_name="+tc.agent)
			}
			before, _ := messages[*event.JobHeartbeat](l, eventlog.Jobs)
			l.ask(0, http.MethodGet, strings.ReplaceAll(path, ":job_id", id), "", header...).is(http.StatusOK, "read")
			after, _ := messages[*event.JobHeartbeat](l, eventlog.Jobs)
			if kept := len(after) > len(before); kept != slices.Contains(tc.keep, path) {
				t.Errorf("%s: GET %s by role %q, agent %q, keeps the lease: %t", tc.g, path, tc.caller, tc.agent, kept)
			}
		}
	}
}

func TestPeoplesWritesKeepNoLease(t *testing.T) {
	l := newLab(t, testflinger.Seed, func(c *door.Config) { c.Lease = time.Minute })
	id := l.submit(`{"job_queue":"q"}`)
	l.ask(0, http.MethodGet, "/v1/job?queue=q", "").members()
	l.clock.Pass(20 * time.Second)
	l.ask(0, http.MethodGet, "/v1/result/"+id+"/output", "").is(http.StatusNoContent, "")
	l.ask(0, http.MethodGet, "/v1/result/"+id+"/serial_output", "").is(http.StatusNoContent, "")
	l.ask(0, http.MethodPost, "/v1/job/"+id+"/attachments", "")
	l.ask(0, http.MethodPost, "/v1/job/"+id+"/action", `{"action":"cancel"}`).is(http.StatusOK, "OK")
	if heartbeats, _ := messages[*event.JobHeartbeat](l, eventlog.Jobs); len(heartbeats) != 0 {
		t.Errorf("%d heartbeats came from people's calls", len(heartbeats))
	}
}
