package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// drainVariable says how many jobs are drained, for a figure; by default few.
const drainVariable = "MILLRACE_E2E_DRAIN"

// drain is a queue of numbered jobs, and the agents that empty it.
type drain struct {
	lab    *Lab
	queue  string
	jobs   int
	client *testflingerClient
	// got counts how often each job was handed out, repeats of a claim not counted.
	got      []atomic.Int32
	received atomic.Int64
	// repeated counts the claims that were sent again, disordered the jobs that came to an agent after one that was to come
	// later.
	repeated, disordered atomic.Int64
	// progress is told each time that a job has come.
	progress chan struct{}
}

const (
	drainAgents, drainSubmitters = 64, 16
	// jobsPerKill is after how many jobs something is killed, drainKills how often at most.
	jobsPerKill, drainKills = 200, 60
	drainPause              = 20 * time.Millisecond // between two attempts
)

func TestJobsAreHandedOutOnceWhileDoorsAndBrokersAreKilled(t *testing.T) {
	lab := start(t, "apachekafka")
	d := &drain{lab: lab, queue: Unique("drain"), jobs: 1200, progress: make(chan struct{}, 1)}
	if text := os.Getenv(drainVariable); text != "" {
		var err error
		if d.jobs, err = strconv.Atoi(text); err != nil || d.jobs < 1 {
			t.Fatalf("%s=%q is no number of jobs", drainVariable, text)
		}
	}
	d.got = make([]atomic.Int32, d.jobs)
	d.client = lab.client(t, "contributor", "--max-priority", d.queue+"=2")
	began := time.Now()
	d.submitAll(t)
	t.Logf("%d jobs submitted in %s", d.jobs, time.Since(began).Round(time.Second))
	began = time.Now()
	kills := d.drainAll(t)
	t.Logf("%d jobs handed out to %d agents in %s, %d kills, %d claims repeated, %d jobs out of order",
		d.received.Load(), drainAgents, time.Since(began).Round(time.Second), kills, d.repeated.Load(), d.disordered.Load())
	lost, twice := 0, 0
	for i := range d.got {
		switch n := d.got[i].Load(); {
		case n == 0:
			lost++
		case n > 1:
			twice++
		}
	}
	if lost+twice > 0 || kills == 0 {
		t.Errorf("%d jobs were lost and %d handed out twice, after %d kills", lost, twice, kills)
	}
	// A job whose asker was gone before its answer goes back, and then comes later than its turn was.
	if d.disordered.Load() > d.repeated.Load() {
		t.Errorf("%d jobs came out of order, although only %d claims were repeated", d.disordered.Load(), d.repeated.Load())
	}
}

// priority is that of a job: its number says it.
func (d *drain) priority(n int) int { return n % 3 }

// submitAll submits the jobs, each submitter its own in ascending order.
func (d *drain) submitAll(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var token atomic.Value
	token.Store(d.client.token(t))
	var submitters sync.WaitGroup
	for s := range drainSubmitters {
		submitters.Go(func() {
			for n := s; n < d.jobs && ctx.Err() == nil; n += drainSubmitters {
				body := fmt.Sprintf(`{"job_queue": %q, "name": "%d", "job_priority": %d}`, d.queue, n, d.priority(n))
				answer := d.insist(ctx, n, http.MethodPost, "/v1/job", body, func() string { return token.Load().(string) })
				if answer.Status != http.StatusOK {
					t.Errorf("job %d: status %d %s", n, answer.Status, answer.Body)
					cancel()
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		submitters.Wait()
		close(done)
	}()
	renew := time.NewTicker(5 * time.Second)
	defer renew.Stop()
	for {
		select {
		case <-done:
			return
		case <-renew.C: // tokens live for 30 seconds
			d.client.until = time.Time{}
			token.Store(d.client.token(t))
		}
	}
}

// insist sends a request to one door after the other until one answers it, with the same key each time.
func (d *drain) insist(ctx context.Context, n int, method, path, body string, token func() string) Answer {
	header := []string{"Idempotency-Key", Unique("key"), "Content-Type", "application/json"}
	for attempt := n; ; attempt++ {
		send := header
		if token != nil {
			send = append(header[:len(header):len(header)], "Authorization", token())
		}
		doors := d.lab.Ingest()
		answer, err := try(ctx, method, doors[attempt%len(doors)]+path, []byte(body), send...)
		expired := token != nil && answer.Status == http.StatusUnauthorized
		if ctx.Err() != nil || err == nil && answer.Status < 500 && !expired {
			return answer
		}
		d.repeated.Add(1)
		select {
		case <-ctx.Done():
		case <-time.After(drainPause):
		}
	}
}

// drainAll lets the agents take the jobs while services and brokers are killed, and says how many were.
func (d *drain) drainAll(t *testing.T) (kills int) {
	d.repeated.Store(0)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var agents sync.WaitGroup
	for a := range drainAgents {
		agents.Go(func() { d.work(ctx, a) })
	}
	random := rand.New(rand.NewPCG(1, 1))
	for int(d.received.Load()) < d.jobs {
		select {
		case <-d.progress:
		case <-time.After(3 * time.Minute):
			t.Errorf("no job came for 3 minutes, after %d of %d and %d kills", d.received.Load(), d.jobs, kills)
			return kills
		}
		if kills < drainKills && int(d.received.Load()) > (kills+1)*max(jobsPerKill, d.jobs/drainKills) {
			d.kill(t, kills, random)
			kills++
		}
	}
	cancel()
	agents.Wait()
	return kills
}

// kill ends an ingest service and a broker in turn, at once, and starts it again.
func (d *drain) kill(t *testing.T, kills int, random *rand.Rand) {
	t.Helper()
	p := d.lab.installation.(*processes)
	if kills%2 == 0 {
		service := p.ingest[random.IntN(len(p.ingest))]
		service.kill()
		if err := service.start(t.Context()); err != nil {
			t.Fatal(err)
		}
		return
	}
	broker := random.IntN(replicas)
	if err := p.engines.cluster.Kill(broker); err != nil {
		t.Fatal(err)
	}
	if err := p.engines.cluster.Restart(t.Context(), broker); err != nil {
		t.Fatal(err)
	}
}

// work is an agent: it claims one job after the other.
func (d *drain) work(ctx context.Context, agent int) {
	lowest := 2                // priority that came
	newest := map[[2]int]int{} // number that came, by priority and submitter
	for n := agent; ctx.Err() == nil; n++ {
		answer := d.insist(ctx, n, http.MethodGet, "/v1/job?queue="+d.queue, "", nil)
		if answer.Status != http.StatusOK {
			select {
			case <-ctx.Done():
			case <-time.After(drainPause):
			}
			continue
		}
		var job struct {
			Name string `json:"name"`
		}
		number := -1
		if json.Unmarshal(answer.Body, &job) == nil {
			number, _ = strconv.Atoi(job.Name)
		}
		if number < 0 || number >= d.jobs {
			continue // it is missing in the end
		}
		lane := [2]int{d.priority(number), number % drainSubmitters}
		if lane[0] > lowest || number < newest[lane] {
			d.disordered.Add(1)
		}
		lowest, newest[lane] = min(lowest, lane[0]), max(newest[lane], number)
		d.got[number].Add(1)
		d.received.Add(1)
		select {
		case d.progress <- struct{}{}:
		default:
		}
	}
}
