package ui_test

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/query/native/lab"
	"github.com/millrace/millrace/query/native/labtest"
	"github.com/millrace/millrace/schemas/event"
)

// tested is the id of a job of Testflinger's.
const tested = "11111111-1111-4111-8111-111111111111"

// busy has queues with a day of jobs, and an agent that tests a board.
func busy(t *testing.T) *labtest.Lab {
	l := labtest.New(t)
	l.Together(func() {
		for hour := range 6 {
			for range hour + 1 {
				l.Submit("build/arm", `{"commit":"abc"}`, &event.JobLabels{Name: "nightly", Tags: []string{"slow"}}, nil)
			}
			l.Pass(10 * time.Minute)
			done := l.Claim("build/arm", "builder")
			l.Pass(50 * time.Minute)
			l.End(done.Job.Seq, "builder", `{"status":"pass","message":"fine & well"}`)
		}
		l.SubmitTestflinger("rpi4", tested, `{"job_queue":"rpi4","test_data":{"test_cmds":"secret"}}`, 0)
		l.Claim("testflinger/rpi4", "otter")
		l.ReportTestflinger(tested, "test", false)
		l.Say(&event.TestflingerAgentPosted{
			Name: "otter", State: proto.String("test"), JobId: proto.String(tested), Location: proto.String("shelf 3"), Comment: proto.String("<b>new</b>"),
			Queues: &event.TestflingerQueues{Names: []string{"rpi4"}}, Log: []string{"hello", "working"},
		})
		l.Say(&event.TestflingerProvisionLogged{Agent: "otter", JobId: tested, ExitCode: 46, Detail: "no link"})
		l.Say(&event.TestflingerResultPosted{JobId: tested, Document: labtest.Inline(`{"device_info":{"device_ip":"10.0.0.9"},"status":{"setup":0,"provision":46}}`), Members: []string{"device_info", "status"}})
		output(l, "setup", 0, "it begins\n")
		output(l, "test", 1, "<script>alert(1)</script>\n")
		l.Job(&event.JobSubmitted{
			Family: event.JobFamily_JOB_FAMILY_DEBCI, Queue: "debci/unstable/amd64", Document: labtest.Inline(`{}`), Labels: &event.JobLabels{Name: "hidden", Private: true},
		})
	})
	return l
}

func output(l *labtest.Lab, phase string, number int64, text string) {
	l.Say(&event.JobOutputAppended{
		JobId: tested, Kind: event.JobOutputKind_JOB_OUTPUT_KIND_OUTPUT, Phase: phase, Fragment: proto.Int64(number),
		FragmentTime: proto.Int64(l.Now.UnixMilli()), Document: labtest.Inline(text),
	})
}

func serveBusy(t *testing.T, l *labtest.Lab) site {
	return serveAt(t, l, tokens{}, func() time.Time { return l.Now })
}

// coreDump is the content of a file that a job left.
const coreDump = "core dump"

func leave(l *labtest.Lab, job, name, uploader string) {
	sum := sha256.Sum256([]byte(coreDump))
	l.Say(&event.JobArtifactStored{
		Job: job, Name: name, ContentType: "text/plain", Uploader: uploader, Attempt: 1,
		Document: &event.Document{Place: &event.Document_Blob{Blob: &event.BlobRef{Sha256: sum[:], Size: uint64(len(coreDump))}}},
	})
}

func TestJobsThatFailedDoNotLookLikeThoseThatPassed(t *testing.T) {
	l := labtest.New(t)
	wants := map[string]string{
		`{"status":"pass","exit_code":0}`: `<span class="badge good">complete</span>`,
		`{"status":"fail","exit_code":3}`: `<span class="badge bad" title="complete">fail</span>`,
		`{"status":"tmpfail"}`:            `<span class="badge bad" title="complete">tmpfail</span>`,
		`{"status":"neutral"}`:            `<span class="badge " title="complete">neutral</span>`,
	}
	badges := map[uint64]string{}
	const provisioned, passed = "22222222-2222-4222-8222-222222222222", "33333333-3333-4333-8333-333333333333"
	l.Together(func() {
		for result, badge := range wants {
			for _, queue := range []string{"build", "debci/unstable/amd64"} {
				family := map[bool]event.JobFamily{true: event.JobFamily_JOB_FAMILY_NATIVE, false: event.JobFamily_JOB_FAMILY_DEBCI}[queue == "build"]
				seq := l.Job(&event.JobSubmitted{Family: family, Queue: queue, Document: labtest.Inline(`{}`)}).Job.Seq
				l.Claim(queue, "builder")
				l.End(seq, "builder", result)
				badges[seq] = badge
			}
		}
		for id, status := range map[string]string{provisioned: `{"setup":0,"provision":46}`, passed: `{"setup":0,"provision":0,"test":0}`} {
			l.SubmitTestflinger("rpi4", id, `{"job_queue":"rpi4"}`, 0)
			l.Claim("testflinger/rpi4", "otter")
			l.Say(&event.TestflingerResultPosted{JobId: id, Document: labtest.Inline(`{"status":` + status + `}`), Members: []string{"status"}})
			l.ReportTestflinger(id, "complete", true)
		}
	})
	s := serveBusy(t, l)
	list := s.page("/ui/jobs")
	for seq, badge := range badges {
		family := "job"
		if !strings.Contains(list, fmt.Sprintf(`href="/ui/jobs/job-%d"`, seq)) {
			family = "debci"
		}
		path := fmt.Sprintf("/ui/jobs/%s-%d", family, seq)
		_, row, _ := strings.Cut(list, `href="`+path+`"`)
		row, _, _ = strings.Cut(row, "</tr>")
		if !strings.Contains(row, badge) {
			t.Errorf("the list does not show %s as %s: %.300s", path, badge, row)
		}
		if page := s.page(path); !strings.Contains(page, badge) {
			t.Errorf("%s does not show %s", path, badge)
		}
	}
	for id, badge := range map[string]string{
		provisioned: `<span class="badge bad" title="complete">provision failed</span>`, passed: `<span class="badge good">complete</span>`,
	} {
		if page := s.page("/ui/jobs/testflinger-" + id); !strings.Contains(page, badge) {
			t.Errorf("the job with the phases of %s does not show %s", id, badge)
		}
	}
}

func TestFilesOfAJobAreListedAndForPeopleWithAToken(t *testing.T) {
	l := busy(t)
	leave(l, "job-1", "core.gz", "builder")
	leave(l, "job-12", "other", "builder")
	leave(l, "testflinger-"+tested, "artifacts.tgz", "")
	s := serveBusy(t, l)
	viewer := s.signIn("viewer-token", "").Result().Cookies()[0]
	s.shows("/ui/jobs/job-1", "Files Name Size Type Stored By core.gz 9 B text/plain 2 Mar 2026 18:00:00 builder", "People with a token can download them.")
	s.shows("/ui/jobs/testflinger-"+tested, "artifacts.tgz 9 B text/plain 2 Mar 2026 18:00:00 –")
	const path = "/ui/jobs/job-1/artifacts/core.gz"
	if page := s.page("/ui/jobs/job-1"); strings.Contains(page, path) || strings.Contains(page, "other") {
		t.Errorf("without a token the page leads to files: %s", page)
	}
	if page := s.get("/ui/jobs/job-1", viewer).Body.String(); !strings.Contains(page, `<a href="`+path+`">core.gz</a>`) || strings.Contains(page, "People with a token") {
		t.Errorf("with a token the page does not lead to the file: %s", page)
	}
	file := s.get(path, viewer)
	if file.Code != http.StatusOK || file.Body.String() != coreDump || !strings.HasPrefix(file.Header().Get("Content-Disposition"), "attachment") || file.Header().Get("Content-Security-Policy") != "sandbox" {
		t.Errorf("GET %s: %d %q with header %v", path, file.Code, file.Body, file.Header())
	}
	if refused := s.get(path); refused.Code != http.StatusUnauthorized || !strings.Contains(refused.Body.String(), `name="next" value="`+path+`"`) {
		t.Errorf("GET %s without a token: %d %s", path, refused.Code, refused.Body)
	}
	if missing := s.get("/ui/jobs/job-1/artifacts/none", viewer); missing.Code != http.StatusNotFound || !strings.Contains(visible(missing.Body.String()), "The job left no file of this name") {
		t.Errorf("a file that is not there: %d %s", missing.Code, missing.Body)
	}
}

func TestCourseOfAQueueBeginsWithTheQueue(t *testing.T) {
	l := labtest.New(t)
	l.Together(func() {
		l.Submit("new", `1`, nil, nil)
		l.Pass(3 * time.Minute)
		l.End(l.Claim("new", "builder").Job.Seq, "builder", `{"status":"pass"}`)
		l.Pass(5 * time.Minute)
	})
	page := serveBusy(t, l).page("/ui/queue?queue=new")
	_, waiting, _ := strings.Cut(page, `id="trend-0"`)
	waiting, _, _ = strings.Cut(waiting, "</table>")
	if rows := strings.Count(waiting, "<tr data-t"); rows != 9 || !strings.Contains(waiting, `data-when="2 Mar 2026 12:00" data-count="1" data-mean="1"`) {
		t.Errorf("a queue of nine minutes is shown in %d points: %s", rows, waiting)
	}
}

func TestPagesShowQueuesJobsAndAgents(t *testing.T) {
	s := serveBusy(t, busy(t))
	s.shows("/ui/queues", "16 jobs wait, 1 is worked on", "build/arm Waiting 15 Worked on 0 Oldest waits for 3 h 0 min", "testflinger/rpi4 Waiting 0 Worked on 1", "Wait until the hand-out, median lately 3 h 10 min")
	s.shows("/ui/queue?queue=build/arm", "build/arm native", "Jobs that wait", "points, each a quarter of an hour", "Newest jobs", "job-21 waiting build/arm nightly")
	s.shows("/ui/queue?queue=testflinger/rpi4", "Agents", "otter test 11111111… rpi4 shelf 3 1 failed", "<b>new</b>")
	s.shows("/ui/jobs", "testflinger-11111111… test testflinger/rpi4", "job-1 complete build/arm nightly")
	s.shows("/ui/jobs?state=complete", "job-1 complete", "job-6 complete")
	s.shows("/ui/jobs/job-1", "job-1 complete nightly", "Worker builder", "Tags slow", `"message": "fine & well"`, "What happened", "submitted waiting", "handed out running builder", "reported complete builder", "Only people with a token see this.")
	s.shows("/ui/jobs/testflinger-"+tested, "Phases setup 0 provision 46 firmware update – test now", "Output, setup it begins", "Output, test <script>alert(1)</script>", `"device_ip": "10.0.0.9"`, "Worker otter")
	s.shows("/ui/agents", "otter test 11111111… rpi4 shelf 3 1 failed 2 Mar 2026 18:00:00 <b>new</b>")
	s.shows("/ui/agents/otter", "otter test", "shelf 3", "hello working", "46 no link", "Jobs that it changed last")
	for _, path := range []string{"/ui/jobs/job-99", "/ui/jobs/x", "/ui/jobs/debci-23", "/ui/queue?queue=none", "/ui/agents/none"} {
		if answer := s.get(path); answer.Code != http.StatusNotFound {
			t.Errorf("%s is answered %d", path, answer.Code)
		}
	}
	if page := visible(s.page("/ui/jobs")); strings.Contains(page, "hidden") {
		t.Error("a private job is listed for everybody")
	}
}

func TestPageOfAJobThatNobodyTookByNameShowsTheAgentThatNamedIt(t *testing.T) {
	const id = "33333333-3333-4333-8333-333333333333"
	l := busy(t)
	l.SubmitTestflinger("rpi4", id, `{"job_queue":"rpi4"}`, 0)
	claimed := l.Claim("testflinger/rpi4", "")
	s := serveBusy(t, l)
	if page := visible(s.page("/ui/jobs/testflinger-" + id)); strings.Contains(page, "mole") {
		t.Errorf("a worker is shown before there is one: %s", page)
	}
	l.Job(&event.JobWorkerNamed{Seq: claimed.Job.Seq, Attempt: 1, Worker: "mole"})
	l.Say(&event.TestflingerAgentPosted{Name: "mole", JobId: proto.String("")}) // it is at no job any more, and had this one
	s.shows("/ui/jobs/testflinger-"+id, "Worker mole", "handed out running", "taken up mole")
}

func TestPageOfAQueueShowsItsAgentsHoweverManyServeOthers(t *testing.T) {
	l := busy(t)
	agent := func(name string, queues ...string) {
		l.Say(&event.TestflingerAgentPosted{Name: name, State: proto.String("waiting"), Queues: &event.TestflingerQueues{Names: queues}})
	}
	l.Together(func() {
		for i := range 500 {
			agent(fmt.Sprintf("a%03d", i), "many", "rpi")
		}
		agent("zander", "rpi4", "many")
		l.SubmitTestflinger("many", "22222222-2222-4222-8222-222222222222", `{"job_queue":"many"}`, 0)
	})
	s := serveBusy(t, l)
	s.shows("/ui/agents", "There are more agents than a page holds")
	s.shows("/ui/queue?queue=testflinger/rpi4", "Agents", "otter test 11111111… rpi4 shelf 3 1 failed", "zander waiting")
	if page := visible(s.page("/ui/queue?queue=testflinger/rpi4")); strings.Contains(page, "a000") {
		t.Error("an agent of another queue is shown")
	}
	s.shows("/ui/queue?queue=testflinger/many", "More agents serve this queue than a page holds")
}

func TestPagesStaySmallWhateverAgentsPost(t *testing.T) {
	l := busy(t)
	nested := strings.Repeat("[", 90) + strings.Repeat("0,", 100_000) + "0" + strings.Repeat("]", 90)
	queues, lines := make([]string, 10_000), make([]string, 100)
	for i := range queues {
		queues[i] = fmt.Sprintf("queue-%d", i)
	}
	for i := range lines {
		lines[i] = strings.Repeat("x", 100_000)
	}
	l.Together(func() {
		l.Say(&event.TestflingerResultPosted{
			JobId: tested, Members: []string{"status", "x"}, Document: labtest.Inline(`{"status":{"setup":` + nested + `},"x":` + nested + `}`),
		})
		l.Say(&event.TestflingerAgentPosted{Name: "mole", Queues: &event.TestflingerQueues{Names: queues}, Log: lines})
	})
	s := serveBusy(t, l)
	s.shows("/ui/jobs/testflinger-"+tested, "These are the first 65\u2009536 of")
	s.shows("/ui/agents", "queue-49 and 9\u2009950 more")
	for _, path := range []string{"/ui/jobs/testflinger-" + tested, "/ui/agents", "/ui/agents/mole"} {
		if size := len(s.page(path)); size > 1<<20 {
			t.Errorf("%s has %d bytes, want at most 1 MiB", path, size)
		}
	}
}

func TestPayloadsAndPrivateJobsAreForPeopleWithAToken(t *testing.T) {
	s := serveBusy(t, busy(t))
	signedIn := func(path string) *httptest.ResponseRecorder {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		request.Header.Set("Authorization", "Bearer viewer-token")
		return s.do(request)
	}
	for range 2 { // in either order, although pages are kept
		if page := visible(s.page("/ui/jobs/job-1")); strings.Contains(page, "commit") {
			t.Errorf("a payload is shown to everybody: %s", page)
		}
		if page := visible(signedIn("/ui/jobs/job-1").Body.String()); !strings.Contains(page, `"commit": "abc"`) {
			t.Errorf("with a token the page is %s", page)
		}
	}
	if answer := signedIn("/ui/jobs/debci-23"); answer.Code != http.StatusOK || !strings.Contains(answer.Body.String(), "hidden") {
		t.Errorf("with a token a private job is answered %d", answer.Code)
	}
}

func TestListOfJobsGoesOnBehindAPage(t *testing.T) {
	l := labtest.New(t)
	l.Together(func() {
		for range 60 {
			l.Submit("q", `1`, nil, nil)
		}
	})
	s := serveBusy(t, l)
	s.shows("/ui/jobs?queue=q", "job-60", "job-11", "Older")
	s.shows("/ui/jobs?queue=q&before=11", "job-10", "job-1", "Newest")
}

func TestBrowserDrawsAQueueFromItsNumbers(t *testing.T) {
	l := busy(t)
	b := browse(t, serveBusy(t, l))
	b.open("/ui/queue?queue=build/arm")
	rows := look[[]string](b, `[...document.querySelectorAll("#trend-0 tbody tr")].map((r) => [...r.cells].map((c) => c.textContent).join(" "))`)
	end := l.Now.Add(time.Minute)
	trend, err := l.View().QueueTrend(t.Context(), lab.QueueTrendQuery{
		Queue: "build/arm", Metric: lab.QueueWaiting, From: end.Add(-6*time.Hour - time.Minute), To: end, Resolution: lab.QuarterHour,
	})
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, p := range trend.Points {
		want = append(want, fmt.Sprintf("%s %d %.4g %g %g %g %g %g", p.Time.Format("2 Jan 2006 15:04"), p.Count, p.Mean, p.Median, p.P95, p.P99, p.Min, p.Max))
	}
	if len(want) != 25 || rows[len(rows)-1] != "2 Mar 2026 18:00 1 15 15 15 15 15 15" {
		t.Errorf("the last of %d rows is %s", len(rows), rows[len(rows)-1])
	}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Errorf("the numbers (-want +shown):\n%s", diff)
	}
	if charts := look[int](b, `document.querySelectorAll("figure.chart svg .mean").length`); charts != 3 {
		t.Errorf("%d charts are drawn, want 3", charts)
	}
}

// ticks are the numbers beside a chart.
const ticks = `[...document.querySelectorAll("figure.chart")].map((f) => [...f.querySelectorAll("text.tick[text-anchor=end]")].filter((t) => t.getAttribute("x") < 60).map((t) => t.textContent).join(" "))`

func TestAxisOfCountsHasWholeNumbers(t *testing.T) {
	l := labtest.New(t)
	l.Together(func() {
		l.Submit("short", `1`, nil, nil)
		done := l.Claim("short", "builder")
		l.Pass(200 * time.Millisecond)
		l.End(done.Job.Seq, "builder", `{"status":"pass"}`)
		l.Pass(5 * time.Hour)
	})
	b := browse(t, serveBusy(t, l))
	b.open("/ui/queue?queue=short")
	if numbers := look[[]string](b, ticks); numbers[1] != "0 1" {
		t.Errorf("the axes have the numbers %q, want 0 and 1 at that of the jobs that are worked on", numbers)
	}
}

func TestJobsPageFollowsTheJobWithoutBeingLoadedAgain(t *testing.T) {
	l := busy(t)
	b := browse(t, serveBusy(t, l))
	b.do(chromedp.Navigate(b.base+"/ui/jobs/testflinger-"+tested), chromedp.WaitVisible("#log-output-test"))
	look[bool](b, `(() => { document.body.dataset.kept = "yes"; document.querySelector("#part-log-output-setup").open = false; return true; })()`)
	l.Together(func() { output(l, "test", 2, "and goes on\n") })
	b.do(chromedp.WaitVisible(`//pre[@id="log-output-test"][contains(., "and goes on")]`))
	if state := look[string](b, `document.body.dataset.kept + " " + document.querySelector("#part-log-output-setup").open`); state != "yes false" {
		t.Errorf("after the log went on the page is %q, want it the same, with what the reader had closed", state)
	}
	l.Pass(time.Minute)
	l.Together(func() { l.ReportTestflinger(tested, "complete", true) })
	b.do(chromedp.WaitVisible(`//span[contains(@class, "badge")][contains(., "provision failed")]`))
	if live := look[int](b, `document.querySelectorAll("[data-live]").length`); live != 0 {
		t.Errorf("%d regions of a job that has ended are read on", live)
	}
	if scripts := look[int](b, `document.querySelectorAll("pre script").length`); scripts != 0 {
		t.Errorf("%d elements of a log became elements of the page", scripts)
	}
}

func TestOnlyTheTokenIsAskedForWhereWhatWasSubmittedIsHidden(t *testing.T) {
	b := browse(t, serveBusy(t, busy(t)))
	b.do(chromedp.Navigate(b.base+"/ui/jobs/job-1"), chromedp.WaitVisible("form.signin"))
	fields := look[[]string](b, `[...document.querySelectorAll("form.signin input")].filter((i) => i.offsetParent).map((i) => i.name)`)
	if diff := cmp.Diff([]string{"token"}, fields); diff != "" {
		t.Errorf("the form asks for (-want +shown):\n%s", diff)
	}
}

func TestBrowserShowsEveryPageOfJobsWithoutComplaint(t *testing.T) {
	b := browse(t, serveBusy(t, busy(t)))
	for _, path := range []string{"/ui/queues", "/ui/queue?queue=testflinger/rpi4", "/ui/jobs", "/ui/jobs/job-1", "/ui/agents", "/ui/agents/otter"} {
		b.do(chromedp.Navigate(b.base+path), chromedp.WaitVisible("h1"))
		if wide := look[string](b, `[document.documentElement.scrollWidth, innerWidth].join(" of ")`); func() bool {
			var content, window int
			_, err := fmt.Sscanf(wide, "%d of %d", &content, &window)
			return err != nil || content > window
		}() {
			t.Errorf("%s is %s pixels wide", path, wide)
		}
	}
}
