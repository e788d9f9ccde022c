package native_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/query/native"
	"github.com/millrace/millrace/query/native/labtest"
	"github.com/millrace/millrace/schemas/blob"
	documents "github.com/millrace/millrace/schemas/document"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/keyring"
	"github.com/millrace/millrace/schemas/route"
)

// office serves the endpoints of a lab to everybody, and tells callers by the names of their tokens.
type office struct {
	*labtest.Lab
	http.Handler

	native *native.Native
	keys   *keyring.Keyring
}

func newOffice(t *testing.T) *office {
	t.Helper()
	o := &office{Lab: labtest.New(t)}
	var err error
	if o.keys, err = keyring.Open(filepath.Join(t.TempDir(), "key")); err != nil {
		t.Fatal(err)
	}
	blobs, err := blob.Open(t.Context(), "mem://")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = blobs.Close() })
	packer, err := documents.NewPacker(blobs, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	o.native = native.New(native.Config{
		Answers: o.Answers, Reader: o.Reader, Jobs: o.Jobs, Packer: packer, Keyring: o.keys, MaxWait: time.Minute, Now: func() time.Time { return o.Now },
	})
	byName := route.API{Authorize: func(c *gin.Context, _ route.Access) (any, error) {
		if name, given := strings.CutPrefix(c.GetHeader("Authorization"), "Bearer "); given {
			return access.Bearer{Name: name, Role: event.Role_ROLE_VIEWER}, nil
		}
		return nil, nil
	}}
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	err = route.Mount(engine, o.native.Routes(), route.Options{APIs: map[string]route.API{native.API: byName}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	o.Handler = engine
	return o
}

func (o *office) owner(name string) []byte {
	owner := access.HashTokenOwner(o.keys, name)
	return owner[:]
}

// numbers lists the jobs' numbers on a page.
func numbers(p page) []float64 {
	list := []float64{}
	for _, item := range p.Items {
		list = append(list, item["number"].(float64))
	}
	return list
}

// with is the header of a caller with a token.
var with = []string{"Authorization", "Bearer otter"}

// someJobs are in two queues: 1 has ended, 2 and 4 wait, 3 is out, 5 was cancelled; 6 is a private test.
func someJobs(o *office) {
	o.Together(func() {
		o.Submit("build/arm", `{"n":1}`, &event.JobLabels{Name: "nightly", Tags: []string{"slow", "arm"}}, o.owner("otter"))
		o.Pass(time.Minute)
		o.Submit("build/arm", `{"n":2}`, &event.JobLabels{Name: "hourly", Tags: []string{"arm"}}, o.owner("mink"))
		o.Pass(time.Minute)
		o.Submit("bench", `{"n":3}`, nil, o.owner("otter"))
		o.Submit("bench", `{"n":4}`, nil, nil)
		o.Submit("bench", `{"n":5}`, nil, nil)
		o.Pass(time.Minute)
		o.Claim("build/arm", "agent-1")
		o.Claim("bench", "agent-2")
		o.Pass(time.Minute)
		o.End(1, "agent-1", `{"status":"pass","message":"fine"}`)
		o.Job(&event.JobCancelRequested{Job: labtest.JobNumber(5)})
		o.Job(&event.JobSubmitted{
			Family: event.JobFamily_JOB_FAMILY_DEBCI, Queue: "debci/unstable/amd64", Owner: o.owner("otter"), Document: labtest.Inline(`{}`),
			Labels: &event.JobLabels{Name: "hello", Private: true},
		})
	})
}

func TestJobsAreFoundByWhatWasSubmittedAndWhatBecameOfThem(t *testing.T) {
	o := newOffice(t)
	someJobs(o)
	after := o.Now.Add(-2 * time.Minute).Format(time.RFC3339)
	for query, want := range map[string][]float64{
		"":                                      {6, 5, 4, 3, 2, 1},
		"?sort=submitted_at":                    {1, 2, 3, 4, 5, 6},
		"?sort=-changed_at":                     {6, 5, 1, 3, 4, 2},
		"?queue=bench":                          {5, 4, 3},
		"?queue=bench&state=waiting":            {4},
		"?family=debci":                         {6},
		"?state=running":                        {3},
		"?state=complete":                       {1},
		"?ended=true":                           {5, 1},
		"?ended=false&family=native":            {4, 3, 2},
		"?name=nightly":                         {1},
		"?tag=arm":                              {2, 1},
		"?tag=arm&tag=slow":                     {1},
		"?worker=agent-2":                       {3},
		"?mine=true":                            {6, 3, 1},
		"?mine=true&queue=bench":                {3},
		"?from=" + after:                        {6, 5, 4, 3},
		"?to=" + after:                          {2, 1},
		"?time=changed_at&from=" + after:        {6, 5, 4, 3, 1},
		"?sort=changed_at&queue=bench":          {4, 3, 5},
		"?sort=-changed_at&tag=arm&ended=false": {2},
		"?queue=nothing":                        {},
	} {
		if got := numbers(list(t, o, "/jobs"+query, with...)); !slices.Equal(got, want) {
			t.Errorf("/jobs%s lists %v, want %v", query, got, want)
		}
	}
	first := list(t, o, "/jobs?fields=id,state,ended,attempt,worker,tags,private&queue=build/arm&ended=true", with...)
	if diff := cmp.Diff(map[string]any{
		"id": "job-1", "state": "complete", "ended": true, "attempt": 1., "worker": "agent-1", "tags": []any{"slow", "arm"}, "private": false,
	}, first.Items[0]); diff != "" {
		t.Errorf("the first job (-want +shown):\n%s", diff)
	}
}

func TestPagesOfJobsStayWholeWhileJobsComeAndGo(t *testing.T) {
	o := newOffice(t)
	for range 7 {
		o.Submit("bench", `1`, nil, nil)
	}
	for _, sort := range []string{"submitted_at", "-submitted_at"} {
		var seen []float64
		for next := ""; ; {
			p := list(t, o, "/jobs?limit=3&queue=bench&sort="+sort+next)
			for _, number := range numbers(p) {
				if number <= 7 {
					seen = append(seen, number)
				}
			}
			o.Submit("bench", `1`, nil, nil)
			if p.Next == nil || len(seen) >= 7 {
				break
			}
			next = "&cursor=" + *p.Next
		}
		slices.Sort(seen)
		if !slices.Equal(seen, []float64{1, 2, 3, 4, 5, 6, 7}) {
			t.Errorf("sorted by %s the pages hold %v, want each job once", sort, seen)
		}
	}
}

func TestPrivateJobIsThereForTokensOnlyUntilItIsPublished(t *testing.T) {
	o := newOffice(t)
	someJobs(o)
	for _, path := range []string{"/jobs/debci-6", "/jobs/debci-6/history", "/jobs/debci-6/result"} {
		if answer := ask(t, o, path); answer.Code != http.StatusNotFound {
			t.Errorf("%s is answered %d without a token", path, answer.Code)
		}
		if answer := ask(t, o, path, with...); answer.Code >= 300 {
			t.Errorf("%s is answered %d with a token", path, answer.Code)
		}
	}
	if got := numbers(list(t, o, "/jobs?limit=2")); !slices.Equal(got, []float64{5, 4}) {
		t.Errorf("without a token the newest jobs are %v", got)
	}
	o.Job(&event.JobsPublished{Seqs: []uint64{6}})
	if got := list(t, o, "/jobs?limit=1"); numbers(got)[0] != 6 || got.Items[0]["private"] != false {
		t.Errorf("once published the newest job is %v", got.Items)
	}
}

func TestPayloadIsShownToCallersWithATokenOnly(t *testing.T) {
	o := newOffice(t)
	someJobs(o)
	var job map[string]any
	for _, header := range [][]string{nil, with} {
		clear(job)
		if err := json.Unmarshal(ask(t, o, "/jobs/job-3", header...).Body.Bytes(), &job); err != nil {
			t.Fatal(err)
		}
		payload, shown := job["payload"]
		if shown != (header != nil) || shown && !cmp.Equal(payload, map[string]any{"n": 3.}) {
			t.Errorf("with the header %v the job is %v", header, job)
		}
		if job["id"] != "job-3" || job["state"] != "running" || job["worker"] != "agent-2" || job["queue"] != "bench" {
			t.Errorf("the job is %v", job)
		}
	}
	for _, id := range []string{"job-99", "debci-3", "testflinger-3", "job-03", "x"} {
		if answer := ask(t, o, "/jobs/"+id, with...); answer.Code != http.StatusNotFound || !strings.Contains(answer.Body.String(), "there is no job") {
			t.Errorf("job %s is answered %d %s", id, answer.Code, answer.Body)
		}
	}
}

func TestHistoryHasEveryChangeOfAJobInOrder(t *testing.T) {
	o := newOffice(t)
	someJobs(o)
	var told []string
	for next := ""; ; {
		p := list(t, o, "/jobs/job-1/history?limit=2"+next)
		for _, item := range p.Items {
			told = append(told, fmt.Sprintf("%v %v %v %v %v %v %v", item["at"], item["change"], item["state"], item["attempt"], item["worker"], item["ended"], item["result"]))
		}
		if p.Next == nil {
			break
		}
		next = "&cursor=" + *p.Next
	}
	want := []string{
		"2026-03-02T12:00:00Z submitted waiting 0  false <nil>",
		"2026-03-02T12:03:00Z handed_out running 1 agent-1 false <nil>",
		"2026-03-02T12:04:00Z reported complete 1 agent-1 true map[message:fine status:pass]",
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("the history (-want +told):\n%s", diff)
	}
	other := list(t, o, "/jobs/job-1/history?limit=1")
	if answer := ask(t, o, "/jobs/job-2/history?cursor="+*other.Next); answer.Code != http.StatusBadRequest {
		t.Errorf("the cursor of another job is answered %d", answer.Code)
	}
}

func TestResultIsWaitedForUntilTheJobEnds(t *testing.T) {
	o := newOffice(t)
	someJobs(o)
	if answer := ask(t, o, "/jobs/job-3/result"); answer.Code != http.StatusNoContent || answer.Body.Len() > 0 {
		t.Errorf("the result of a job that runs is answered %d %s", answer.Code, answer.Body)
	}
	answers := make(chan *httptest.ResponseRecorder)
	go func() { answers <- ask(t, o, "/jobs/job-3/result?wait=60", "Millrace-Consistency", "eventual") }()
	o.Jobs.Waited()
	o.Pass(time.Minute)
	o.End(3, "agent-2", `{"status":"fail","exit_code":2}`)
	var got map[string]any
	answer := <-answers
	if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil {
		t.Fatalf("%d %s: %v", answer.Code, answer.Body, err)
	}
	delete(got, "position")
	if diff := cmp.Diff(map[string]any{
		"id": "job-3", "state": "complete", "attempt": 1., "worker": "agent-2", "ended_at": "2026-03-02T12:05:00Z",
		"result": map[string]any{"status": "fail", "exit_code": 2.},
	}, got); diff != "" {
		t.Errorf("the result (-want +got):\n%s", diff)
	}
	if answer := ask(t, o, "/jobs/job-5/result"); !strings.Contains(answer.Body.String(), `"state":"cancelled"`) || !strings.Contains(answer.Body.String(), `"result":null`) {
		t.Errorf("the result of a cancelled job is %d %s", answer.Code, answer.Body)
	}
}

func TestReportAfterTheEndDoesNotMoveTheEnd(t *testing.T) {
	o := newOffice(t)
	someJobs(o)
	o.End(3, "agent-2", `{}`)
	ended := func() (at, state any) {
		answer := ask(t, o, "/jobs/job-3/result")
		var got map[string]any
		if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil {
			t.Fatalf("%d %s: %v", answer.Code, answer.Body, err)
		}
		return got["ended_at"], got["state"]
	}
	first, _ := ended()
	o.Pass(time.Hour)
	late := o.Job(&event.JobStateReported{Job: labtest.JobNumber(3), State: "cleanup", Reporter: "agent-2"})
	if late.Result != jobs.Late {
		t.Fatalf("the fold answers %d", late.Result)
	}
	if at, state := ended(); at != first || state != "cleanup" {
		t.Errorf("the job is %v since %v, want cleanup since %v", state, at, first)
	}
}

func TestWaitForAResultEndsWhenTheProcessDoes(t *testing.T) {
	o := newOffice(t)
	someJobs(o)
	answers := make(chan *httptest.ResponseRecorder)
	go func() { answers <- ask(t, o, "/jobs/job-3/result?wait=60") }()
	o.Jobs.Waited()
	o.native.Drain()
	if answer := <-answers; answer.Code != http.StatusNoContent {
		t.Errorf("the answer is %d, want 204", answer.Code)
	}
}

func TestQueuesShowWhoWaitsAndSinceWhen(t *testing.T) {
	o := newOffice(t)
	someJobs(o)
	o.Claim("debci/unstable/amd64", "agent-3")
	got := list(t, o, "/jobs/queues").Items
	want := []map[string]any{
		{"queue": "bench", "family": "native", "waiting": 1., "out": 1., "oldest_waiting_since": "2026-03-02T12:02:00Z", "changed_at": "2026-03-02T12:04:00Z"},
		{"queue": "build/arm", "family": "native", "waiting": 1., "out": 0., "oldest_waiting_since": "2026-03-02T12:01:00Z", "changed_at": "2026-03-02T12:04:00Z"},
		{"queue": "debci/unstable/amd64", "family": "debci", "waiting": 0., "out": 1., "oldest_waiting_since": nil, "changed_at": "2026-03-02T12:04:00Z"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the queues (-want +shown):\n%s", diff)
	}
	if p := list(t, o, "/jobs/queues?prefix=b&limit=1&sort=queue"); len(p.Items) != 1 || p.Next == nil || list(t, o, "/jobs/queues?prefix=b&limit=1&sort=queue&cursor="+*p.Next).Items[0]["queue"] != "build/arm" {
		t.Errorf("page by page the queues are %v …", p.Items)
	}
}

func TestTrendOfAQueueWeighsItsLengthByTimeAndFillsQuietBuckets(t *testing.T) {
	o := newOffice(t)
	o.Together(func() {
		o.Submit("bench", `1`, nil, nil) // 12:00: one waits for 15 s, then two for 45 s
		o.Pass(15 * time.Second)
		o.Submit("bench", `2`, nil, nil)
		o.Pass(2 * time.Minute) // 12:02:15: one has waited for 135 s
		o.Claim("bench", "agent")
		o.Pass(15 * time.Second) // 12:02:30: the other for as long
		o.Claim("bench", "agent")
	})
	trend := func(query string) (points []map[string]any) {
		var p struct{ Items []map[string]any }
		answer := ask(t, o, "/jobs/trend?queue=bench&"+query)
		if err := json.Unmarshal(answer.Body.Bytes(), &p); err != nil || answer.Code != http.StatusOK {
			t.Fatalf("%d %s: %v", answer.Code, answer.Body, err)
		}
		return p.Items
	}
	point := func(minute int, count, mean, median, p95, p99, least, most float64) map[string]any {
		return map[string]any{
			"time": fmt.Sprintf("2026-03-02T12:%02d:00Z", minute), "count": count, "mean": mean, "median": median, "p95": p95, "p99": p99, "min": least, "max": most,
		}
	}
	waiting := []map[string]any{point(0, 2, 1.75, 2, 2, 2, 1, 2), point(1, 0, 2, 2, 2, 2, 2, 2), point(2, 2, 0.75, 0, 2, 2, 0, 2)}
	if diff := cmp.Diff(waiting, trend("")); diff != "" {
		t.Errorf("waiting (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(waiting[1:], trend("from=2026-03-02T12:01:00Z")); diff != "" {
		t.Errorf("waiting, from a quiet minute on (-want +got):\n%s", diff)
	}
	out := []map[string]any{point(0, 2, 0, 0, 0, 0, 0, 0), point(1, 0, 0, 0, 0, 0, 0, 0), point(2, 2, 1.25, 1, 2, 2, 0, 2)}
	if diff := cmp.Diff(out, trend("metric=out&resolution=minute")); diff != "" {
		t.Errorf("out (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]map[string]any{point(2, 2, 135, 135, 135, 135, 135, 135)}, trend("metric=wait")); diff != "" {
		t.Errorf("wait (-want +got):\n%s", diff)
	}
	week := trend("resolution=week&metric=wait")
	if len(week) != 1 || week[0]["time"] != "2026-03-02T00:00:00Z" {
		t.Errorf("by week the waits are %v, want one bucket from Monday", week)
	}
	if got := trend("from=2026-03-01T00:00:00Z&to=2026-03-01T01:00:00Z"); len(got) != 0 {
		t.Errorf("before its first job the queue was %v long", got)
	}
	if answer := ask(t, o, "/jobs/trend?queue=bench&from=2025-01-01T00:00:00Z&resolution=minute"); answer.Code != http.StatusBadRequest || !strings.Contains(answer.Body.String(), "buckets in this range and the limit is 10000") {
		t.Errorf("too many buckets are answered %d %s", answer.Code, answer.Body)
	}
}

func TestTrendOfAQueueIsTheSameAfterARebuild(t *testing.T) {
	o := newOffice(t)
	someJobs(o)
	items := func() string {
		_, rest, _ := strings.Cut(ask(t, o, "/jobs/trend?queue=bench").Body.String(), `"items"`)
		return rest
	}
	before := items()
	o.Rebuild()
	if after := items(); after != before || !strings.Contains(before, `"count"`) {
		t.Errorf("before the rebuild the trend is %s, after it %s", before, after)
	}
}

func TestOutputIsReadByCursorAnyNumberOfTimes(t *testing.T) {
	o := newOffice(t)
	const id = "11111111-1111-4111-8111-111111111111"
	o.Together(func() {
		o.SubmitTestflinger("vm", id, `{}`, 0)
		o.Submit("bench", `{}`, nil, nil)
		for i, text := range []string{"one\n", "two\n", "three \xff\n"} {
			o.Say(&event.JobOutputAppended{JobId: id, Kind: event.JobOutputKind_JOB_OUTPUT_KIND_OUTPUT, Phase: "test", Fragment: proto.Int64(int64(i)), Document: labtest.Inline(text)})
		}
		o.Say(&event.JobOutputAppended{JobId: id, Kind: event.JobOutputKind_JOB_OUTPUT_KIND_SERIAL, Document: labtest.Inline("boot")})
	})
	type answer struct {
		Items []struct {
			Text, Phase string
			Fragment    *int
		}
		Next  string
		Ended bool
	}
	read := func(query string) (a answer) {
		t.Helper()
		got := ask(t, o, "/jobs/testflinger-"+id+"/output?"+query)
		if err := json.Unmarshal(got.Body.Bytes(), &a); err != nil || got.Code != http.StatusOK {
			t.Fatalf("%s: %d %s: %v", query, got.Code, got.Body, err)
		}
		return a
	}
	for range 2 {
		var texts []string
		for after := ""; ; {
			a := read("limit=2" + after)
			if len(a.Items) == 0 {
				break
			}
			for i := range a.Items {
				texts = append(texts, a.Items[i].Phase+" "+a.Items[i].Text)
			}
			after = "&after=" + a.Next
		}
		if want := []string{"test one\n", "test two\n", "test three \ufffd\n"}; !slices.Equal(texts, want) {
			t.Errorf("the output is %q, want %q", texts, want)
		}
	}
	if a := read("kind=serial"); len(a.Items) != 1 || a.Items[0].Text != "boot" || a.Items[0].Fragment != nil || a.Ended {
		t.Errorf("the serial output is %+v", a)
	}
	o.ReportTestflinger(id, "complete", true)
	if a := read("kind=serial&after=" + read("kind=serial").Next); len(a.Items) != 0 || !a.Ended {
		t.Errorf("behind its end the output of a job that has ended is %+v", a)
	}
	for path, status := range map[string]int{"/jobs/job-2/output": 200, "/jobs/job-99/output": 404, "/jobs/job-2/output?after=x": 400, "/jobs/job-2/output?kind=x": 400} {
		if got := ask(t, o, path); got.Code != status {
			t.Errorf("%s is answered %d %s, want %d", path, got.Code, got.Body, status)
		}
	}
}

func TestParametersOfJobsThatAreWrongAreRefusedByName(t *testing.T) {
	h := server(t, nil)
	for path, want := range map[string]string{
		"/jobs?family=x":                                "query parameter family must be one of native, debci, testflinger",
		"/jobs?mine=true":                               "query parameter mine wants a token",
		"/jobs?ended=1":                                 "query parameter ended must be true or false",
		"/jobs?" + strings.Repeat("tag=x&", 21):         "query parameter tag is given 21 times; the limit is 20",
		"/jobs?queue=a&queue=b":                         "query parameter queue is given 2 times",
		"/jobs?sort=priority":                           "query parameter sort must be one of -submitted_at, submitted_at, -changed_at, changed_at",
		"/jobs/job-1/history?id=job-2":                  `there is no query parameter "id"`,
		"/jobs/job-1/result?wait=-1":                    "query parameter wait must be an integer from 0 to 1000000",
		"/jobs/job-1/result?wiat=1":                     `there is no query parameter "wiat"`,
		"/jobs/job-1?payload=1":                         `there is no query parameter "payload"`,
		"/jobs/trend":                                   "query parameter queue must be given",
		"/jobs/trend?queue=q&metric=depth":              "query parameter metric must be one of waiting, out, wait",
		"/jobs/trend?queue=q&resolution=run":            "query parameter resolution must be one of auto, minute, quarter_hour, hour, day, week",
		"/jobs/trend?queue=q&last=1d&from=1":            "query parameter last takes the place of from and to",
		"/jobs/trend?queue=q&from=2100-01-01T00:00:00Z": "query parameter from is in the future",
		"/jobs/queues?name=x":                           `there is no query parameter "name"; there are: queue, prefix,`,
	} {
		answer := ask(t, h, path)
		if answer.Code != http.StatusBadRequest || !strings.Contains(answer.Body.String(), strings.ReplaceAll(want, `"`, `\"`)) {
			t.Errorf("%s: %d %s, want 400 with %q", path, answer.Code, answer.Body, want)
		}
	}
}
