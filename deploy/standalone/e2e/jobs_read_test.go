package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// waitFor reads a path that waits, and gives what it is answered.
func (c *caller) waitFor(t testing.TB, path string) <-chan Answer {
	answers := make(chan Answer, 1)
	go func() {
		answer, err := try(context.WithoutCancel(t.Context()), http.MethodGet, c.lab.URL()+path, nil, "Authorization", c.header.Get("Authorization"))
		if err != nil {
			answer.Body = []byte(err.Error())
		}
		answers <- answer
	}()
	return answers
}

func TestJobsAreReadBackAsSoonAsTheyAreAcknowledged(t *testing.T) {
	covers(t, "GET /millrace/v1/jobs", "GET /millrace/v1/jobs/:id", "GET /millrace/v1/jobs/:id/history", "GET /millrace/v1/jobs/:id/result",
		"GET /millrace/v1/jobs/queues", "GET /millrace/v1/jobs/trend", "POST /millrace/v1/jobs/:id/cancel")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		writer, queue := lab.writer(t), Unique("queue")
		of := "queue=" + url.QueryEscape(queue)
		var ids []string
		for i := range 5 {
			ids = append(ids, writer.submitJob(t, queue, i, 0))
			if list, _ := writer.items(t, "/jobs?"+of); len(list) != i+1 || list[0]["id"] != ids[i] || list[0]["state"] != "waiting" {
				t.Fatalf("after %d submissions the queue's jobs are %v", i+1, list)
			}
		}
		first := writer.claimJob(t, fmt.Sprintf(`{"queues":[%q]}`, queue))
		answer := writer.waitFor(t, jobsPath+"/"+first.ID+"/result?wait=30")
		writer.with("Millrace-Lease", first.Lease.Token).post(t, jobsPath+"/"+first.ID+"/result", `{"status":"pass","message":"fine"}`).Want(t, http.StatusOK)
		wantMembers(t, (<-answer).object(t), map[string]any{"id": ids[0], "state": "complete", "attempt": 1})
		writer.post(t, jobsPath+"/"+ids[1]+"/cancel", "").is(t, http.StatusOK, `{"state":"cancelled"}`)
		writer.get(t, jobsPath+"/"+ids[2]+"/result").is(t, http.StatusNoContent, "")
		for query, want := range map[string][]string{
			"state=waiting": {ids[4], ids[3], ids[2]}, "ended=true": {ids[1], ids[0]}, "mine=true&sort=submitted_at&limit=2": ids[:2], "state=cancelled": {ids[1]},
		} {
			if list, _ := writer.items(t, "/jobs?"+of+"&"+query); !slices.Equal(column(list, "id"), want) {
				t.Errorf("%s: %v, want %v", query, column(list, "id"), want)
			}
		}
		changes, _ := writer.items(t, "/jobs/"+ids[0]+"/history")
		if got := column(changes, "change"); !slices.Equal(got, []string{"submitted", "handed_out", "reported"}) {
			t.Errorf("the history is %v", got)
		}
		if payload := writer.get(t, jobsPath+"/"+ids[3]).object(t)["payload"]; payload != 3. {
			t.Errorf("the payload is %v, want 3", payload)
		}
		queues, _ := writer.items(t, "/jobs/queues?"+of)
		wantMembers(t, queues[0], map[string]any{"queue": queue, "waiting": 3, "out": 0})
		waits := writer.get(t, jobsPath+"/trend?metric=wait&"+of).object(t)["items"].([]any)
		if len(waits) != 1 || waits[0].(map[string]any)["count"] != 1. {
			t.Errorf("the waits are %v, want one hand-out", waits)
		}
	})
}

func TestPayloadsWantATokenAlsoOnThisMachine(t *testing.T) {
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		id := lab.writer(t).submitJob(t, Unique("queue"), "secret", 0)
		open := lab.visitor(t).get(t, jobsPath+"/"+id)
		if open.Status != http.StatusOK || strings.Contains(string(open.Body), "secret") {
			t.Errorf("without a token the answer is %d %s", open.Status, open.Body)
		}
		viewer := lab.visitor(t).with("Authorization", "Bearer "+lab.Token(t, "viewer"))
		viewer.get(t, jobsPath+"/"+id).says(t, http.StatusOK, `"payload":"secret"`)
	})
}

func TestOutputIsReadAnyNumberOfTimesAndWaitedFor(t *testing.T) {
	covers(t, "GET /millrace/v1/jobs/:id/output")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		anyone := lab.visitor(t)
		id := anyone.queueJob(t, fmt.Sprintf(`{"job_queue": %q}`, Unique("queue")))
		path := jobsPath + "/testflinger-" + id + "/output"
		waiting := anyone.waitFor(t, path+"?wait=30")
		anyone.post(t, "/v1/result/"+id+"/output", "one\n").ok(t)
		var page struct {
			Items []struct{ Text string }
			Next  string
		}
		(<-waiting).Want(t, http.StatusOK).JSON(t, &page)
		if len(page.Items) != 1 || page.Items[0].Text != "one\n" {
			t.Fatalf("who waited gets %+v", page)
		}
		next := anyone.waitFor(t, path+"?wait=30&after="+page.Next)
		anyone.post(t, "/v1/result/"+id+"/output", "two\n").ok(t)
		anyone.get(t, "/v1/result/"+id+"/output").says(t, http.StatusOK, "one\n")
		page.Items = nil
		if (<-next).Want(t, http.StatusOK).JSON(t, &page); len(page.Items) != 1 || page.Items[0].Text != "two\n" {
			t.Errorf("behind the first piece there is %+v", page)
		}
		for range 2 { // although the old path has handed it out
			var all struct{ Items []json.RawMessage }
			if anyone.get(t, path).Want(t, http.StatusOK).JSON(t, &all); len(all.Items) != 2 {
				t.Errorf("the output has %d pieces, want 2", len(all.Items))
			}
		}
	})
}

func TestPagesOfJobsShowThemWithEverythingFromHere(t *testing.T) {
	covers(t, "GET /ui/queues", "GET /ui/queue", "GET /ui/jobs", "GET /ui/jobs/:id", "GET /ui/agents", "GET /ui/agents/:name",
		"GET /agents", "GET /agents/:agent_name", "GET /jobs", "GET /jobs/:job_id", "GET /queues", "GET /queues/:queue_name")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		r := newRound(t, lab)
		r.start()
		id := r.submit(fmt.Sprintf(`{"job_queue": %q, "name": "größe", "test_data": {"test_cmds": "true"}}`, r.queue))
		r.ask().Want(t, http.StatusOK)
		r.work(id)
		operator := lab.operator(t)
		for from, want := range map[string][]string{
			"/queues":            {"Queues"},
			"/queues/" + r.queue: {r.queue, "Wait until the hand-out", "größe", r.agent},
			"/jobs":              {"testflinger-" + id, "größe"},
			"/jobs/" + id:        {"testflinger-" + id, "complete", "provision", "<b>test</b> <span>3</span>", "test one", "What happened"},
			"/agents":            {r.agent, "lab", "1 passed"},
			"/agents/" + r.agent: {r.agent, "provision_success", "otter-1"},
			"/ui/queues":         {"Queues"},
		} {
			path := from
			if !strings.HasPrefix(from, "/ui") {
				path = operator.get(t, from).location(t).String()
			}
			page := operator.get(t, path).Want(t, http.StatusOK)
			for _, text := range want {
				if !strings.Contains(string(page.Body), text) {
					t.Errorf("%s lacks %q", path, text)
				}
			}
			if outside.Match(page.Body) || regexp.MustCompile(`(?i)<script>|\son[a-z]+=`).Match(page.Body) {
				t.Errorf("%s loads something from elsewhere, or has a script of its own", path)
			}
		}
		operator.get(t, "/ui/jobs/job-999999999").Want(t, http.StatusNotFound)
	})
}
