package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// jobsPath is the native API of jobs.
const jobsPath = "/millrace/v1/jobs"

// claimedJob is what a claim is answered.
type claimedJob struct {
	ID, Queue string
	Payload   json.RawMessage
	Lease     struct {
		Token     string
		ExpiresAt time.Time `json:"expires_at"`
	}
}

// writer calls with a token of role writer.
func (l *Lab) writer(t testing.TB) *caller {
	return l.visitor(t).with("Authorization", "Bearer "+l.Token(t, "writer"))
}

// submitJob puts a job into a queue and gives its id.
func (c *caller) submitJob(t testing.TB, queue string, payload any, priority int) string {
	t.Helper()
	body, err := json.Marshal(map[string]any{"queue": queue, "payload": payload, "priority": priority})
	if err != nil {
		t.Fatal(err)
	}
	var submitted struct{ ID string }
	c.post(t, jobsPath, string(body)).Want(t, http.StatusCreated).JSON(t, &submitted)
	return submitted.ID
}

func (c *caller) claimJob(t testing.TB, body string) (job claimedJob) {
	t.Helper()
	c.post(t, jobsPath+"/claim", body).Want(t, http.StatusOK).JSON(t, &job)
	return job
}

func TestJobGoesToOneWorkerAndEndsWithItsResult(t *testing.T) {
	covers(t, "POST /millrace/v1/jobs", "POST /millrace/v1/jobs/claim", "POST /millrace/v1/jobs/:id/heartbeat", "POST /millrace/v1/jobs/:id/result")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		writer, queue := lab.writer(t), Unique("queue")
		low := writer.submitJob(t, queue, "low", 0)
		high := writer.submitJob(t, queue, "high", 3)
		ask := fmt.Sprintf(`{"queues":["nothing",%q]}`, queue)
		first := writer.keyed("first").claimJob(t, ask)
		if again := writer.keyed("first").claimJob(t, ask); again.ID != first.ID || again.Lease.Token != first.Lease.Token {
			t.Errorf("the claim under the same key gets %s, then %s", first.ID, again.ID)
		}
		if first.ID != high || string(first.Payload) != `"high"` || first.Queue != queue {
			t.Errorf("the first claim gets %+v, want %s", first, high)
		}
		second := writer.claimJob(t, ask)
		if second.ID != low {
			t.Errorf("the second claim gets %s, want %s", second.ID, low)
		}
		writer.post(t, jobsPath+"/claim", ask).Want(t, http.StatusNoContent)
		held := writer.with("Millrace-Lease", first.Lease.Token)
		held.post(t, jobsPath+"/"+high+"/heartbeat", "").Want(t, http.StatusOK)
		held.post(t, jobsPath+"/"+low+"/heartbeat", "").refuses(t, http.StatusConflict)
		held.post(t, jobsPath+"/"+high+"/result", `{"status":"pass"}`).Want(t, http.StatusOK)
		held.post(t, jobsPath+"/"+high+"/heartbeat", "").refuses(t, http.StatusConflict)
	})
}

func TestClaimThatWaitsGetsAJobThatAnotherDoorTook(t *testing.T) {
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		writer, queue := lab.writer(t), Unique("queue")
		got := make(chan claimedJob)
		go func() {
			var job claimedJob
			defer func() { got <- job }()
			answer, err := writer.ask(t.Context(), lab.Ingest()[0], jobsPath+"/claim", fmt.Sprintf(`{"queues":[%q],"wait":30}`, queue))
			if err == nil && answer.Status == http.StatusOK {
				_ = json.Unmarshal(answer.Body, &job)
			}
		}()
		want := writer.submitJob(t, queue, 1, 0)
		if job := <-got; job.ID != want {
			t.Errorf("the claim that waited gets %q, want %s", job.ID, want)
		}
	})
}

// ask posts to one of the doors by itself, for goroutines.
func (c *caller) ask(ctx context.Context, door, path, body string) (Answer, error) {
	return try(ctx, http.MethodPost, door+path, []byte(body), "Authorization", c.header.Get("Authorization"))
}

func TestManyWorkersAtEveryDoorGetEachJobOnce(t *testing.T) {
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		const jobs = 120
		writer, queue := lab.writer(t), Unique("queue")
		want := make([]string, jobs)
		for i := range want {
			want[i] = writer.submitJob(t, queue, i, 0)
		}
		var mu sync.Mutex
		var got []string
		var workers sync.WaitGroup
		for i := range 8 {
			workers.Go(func() {
				door := lab.Ingest()[i%len(lab.Ingest())]
				for {
					answer, err := writer.ask(t.Context(), door, jobsPath+"/claim", fmt.Sprintf(`{"queues":[%q]}`, queue))
					var job claimedJob
					if err != nil || answer.Status != http.StatusOK || json.Unmarshal(answer.Body, &job) != nil {
						return
					}
					mu.Lock()
					got = append(got, job.ID)
					mu.Unlock()
				}
			})
		}
		workers.Wait()
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%d jobs were handed out, want each of %d once", len(got), jobs)
		}
	})
}

func TestJobsAndLeasesOutliveACrash(t *testing.T) {
	lab := start(t, "standalone")
	writer, queue := lab.writer(t), Unique("queue")
	ids := []string{writer.submitJob(t, queue, 1, 0), writer.submitJob(t, queue, 2, 0), writer.submitJob(t, queue, 3, 9)}
	ask := fmt.Sprintf(`{"queues":[%q]}`, queue)
	out := writer.claimJob(t, ask)
	lab.Crash(t)
	if job := writer.claimJob(t, ask); job.ID != ids[0] {
		t.Errorf("after the crash the first job is %s, want %s", job.ID, ids[0])
	}
	writer.with("Millrace-Lease", out.Lease.Token).post(t, jobsPath+"/"+out.ID+"/result", `{"status":"fail"}`).Want(t, http.StatusOK)
	if job := writer.claimJob(t, ask); job.ID != ids[1] || string(job.Payload) != "2" {
		t.Errorf("the last job is %s with %s, want %s", job.ID, job.Payload, ids[1])
	}
	writer.post(t, jobsPath+"/claim", ask).Want(t, http.StatusNoContent)
}

func TestJobWhoseAskerHasGoneIsTheNextOnes(t *testing.T) {
	lab := start(t, "standalone")
	writer, queue := lab.writer(t), Unique("queue")
	gone, leave := context.WithCancel(t.Context())
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		_, _ = writer.ask(gone, lab.URL(), jobsPath+"/claim", fmt.Sprintf(`{"queues":[%q],"wait":30}`, queue))
	}()
	leave()
	<-asked
	want := writer.submitJob(t, queue, 1, 0)
	if job := writer.claimJob(t, fmt.Sprintf(`{"queues":[%q],"wait":30}`, queue)); job.ID != want {
		t.Errorf("the claim gets %q, want %s", job.ID, want)
	}
}

func TestWorkerRunsACommandForEachJobAndReportsItsExitStatus(t *testing.T) {
	lab := start(t, "standalone")
	writer, queue := lab.writer(t), Unique("queue")
	ids := []string{writer.submitJob(t, queue, map[string]int{"code": 0}, 1), writer.submitJob(t, queue, map[string]int{"code": 7}, 0)}
	out := filepath.Join(t.TempDir(), "seen")
	command := `read line; echo "$MILLRACE_JOB_ID $MILLRACE_JOB_QUEUE $line" >>"$1"; case "$line" in *7*) exit 7;; esac`
	for range ids {
		lab.Admin(t, nil, "worker", "--once", "--queue", queue, "--", "sh", "-c", command+"\n", "sh", out)
	}
	seen, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%s %s {\"code\":0}\n%s %s {\"code\":7}\n", ids[0], queue, ids[1], queue)
	if string(seen) != want {
		t.Errorf("the command saw\n%swant\n%s", seen, want)
	}
	if answer := writer.post(t, jobsPath+"/claim", fmt.Sprintf(`{"queues":[%q]}`, queue)); answer.Status != http.StatusNoContent {
		t.Errorf("jobs are left: %s", answer.Body)
	}
	for _, id := range ids {
		if answer := writer.post(t, jobsPath+"/claim", fmt.Sprintf(`{"id":%q}`, id)); answer.Status != http.StatusNoContent {
			t.Errorf("job %s is there still: %s", id, strings.TrimSpace(string(answer.Body)))
		}
	}
}
