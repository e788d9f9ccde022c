package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/loadtest/farm"
	"github.com/millrace/millrace/loadtest/load"
	"github.com/millrace/millrace/loadtest/report"
	"github.com/millrace/millrace/loadtest/wire"
)

// jobRates measures how many jobs a second are submitted and claimed by Testflinger's API, with few and with many jobs
// waiting, beside a bare handler that only appends the same bytes. Each connection submits a job and then claims one, so
// that the number that waits stays; submitting and claiming are one write each.
type jobRates struct {
	Common `yaml:",inline"`
	// Waiting is how many jobs wait, in ascending order.
	Waiting     []int `yaml:"waiting"`
	Connections []int `yaml:"connections"`
	// Pairs is how many jobs each turn submits and claims, Rounds how often each side has its turn.
	Pairs  int `yaml:"pairs"`
	Rounds int `yaml:"rounds"`
	// AtLeast is the share of the bare appends that is promised. Flat is what is promised to be left with the most jobs
	// waiting of the claims with the fewest, both as shares of the bare appends beside them, because the machine is not
	// equally fast all the time. 0 promises nothing.
	AtLeast float64 `yaml:"at_least"`
	Flat    float64 `yaml:"flat"`
}

func (j *jobRates) validate() error {
	errs := []error{
		between("number of waiting", len(j.Waiting), 1, 10), between("number of connections", len(j.Connections), 1, 10),
		between("pairs", j.Pairs, 1, 200_000), between("rounds", j.Rounds, 1, 100),
		checkShare("at_least", j.AtLeast), checkShare("flat", j.Flat),
	}
	for i, n := range j.Waiting {
		errs = append(errs, between(fmt.Sprintf("waiting[%d]", i), n, 1, 2_000_000))
	}
	for i, n := range j.Connections {
		errs = append(errs, between(fmt.Sprintf("connections[%d]", i), n, 1, 1024))
	}
	if !slices.IsSorted(j.Waiting) {
		errs = append(errs, errors.New("waiting: give the numbers in ascending order"))
	}
	return errors.Join(errs...)
}

// jobQueue is where the jobs wait.
const jobQueue = "loadtest"

func (j *jobRates) run(l *lab) error {
	bare, err := l.startBare()
	if err != nil {
		return err
	}
	return errors.Join(j.measure(l, strings.TrimPrefix(bare.Values["URL"], "http://")), bare.Close())
}

func (j *jobRates) measure(l *lab, bareHost string) error {
	table := l.result.Table(fmt.Sprintf("Jobs a second, every write synced (medians of %d turns)", j.Rounds),
		"waiting", "connections", "bare appends", "writes", "ratio", "submissions", "p50 ms", "p99 ms", "claims", "p50 ms", "p99 ms")
	d := newJobDoors(l.target.Host, bareHost)
	claims := map[int][]float64{} // as shares of the bare appends, by connections, in the order of Waiting
	for _, waiting := range j.Waiting {
		if err := j.fill(l, d, waiting); err != nil {
			return err
		}
		for _, connections := range j.Connections {
			share, err := j.compare(l, d, waiting, connections, table)
			if err != nil {
				return err
			}
			claims[connections] = append(claims[connections], share)
		}
	}
	for _, connections := range j.Connections {
		shares := claims[connections]
		left := shares[len(shares)-1] / shares[0]
		l.result.Figure(fmt.Sprintf("jobs.%d.flat", connections), left, "")
		if j.Flat > 0 {
			l.result.Promise(fmt.Sprintf("claims with %d connections, as a share of the bare append, keep %.2f with %d jobs waiting", connections, j.Flat, j.Waiting[len(shares)-1]),
				left >= j.Flat, nil, "%.2f", left)
		}
	}
	taken, twice := d.claimed()
	l.result.Promise("no job is handed out twice", twice == 0 && taken > 0, nil, "%d hand-outs, %d of them repeated", taken, twice)
	return nil
}

// fill lets so many jobs wait.
func (j *jobRates) fill(l *lab, d *jobDoors, waiting int) error {
	missing := waiting - d.waiting
	l.progress.Phase(fmt.Sprintf("submitting %d jobs", missing), nil)
	before := l.target.Memory()
	round, err := load.Closed{Senders: 64, Requests: missing}.Run(l.ctx, d.submitters(nil))
	if err != nil {
		return err
	}
	d.waiting = waiting
	name := "jobs." + strconv.Itoa(waiting)
	l.result.Figure(name+".fill", round.Rate(), "jobs/s")
	if err := j.settle(l); err != nil {
		return err
	}
	if grown := l.target.Memory() - before; missing >= 100_000 && grown > 0 {
		l.result.Figure(name+".memory", float64(grown)/float64(missing), "bytes/job")
	}
	return nil
}

// settle waits until the jobs' projections contain everything, and the machine has nothing left to do.
func (j *jobRates) settle(l *lab) error {
	reader := &farm.Reader{Target: l.target, HTTP: client(1, time.Minute)}
	if err := reader.Get(l.ctx, "/millrace/v1/jobs?limit=1", nil); err != nil {
		return err
	}
	return l.quiet()
}

// pairTimes is what the turns of one comparison gave.
type pairTimes struct {
	writes, bare    []float64
	submits, claims *load.Latencies
}

// compare lets both sides take turns with a number of connections, and gives the claims as a share of the bare appends.
func (j *jobRates) compare(l *lab, d *jobDoors, waiting, connections int, table *report.Table) (float64, error) {
	p := &pairTimes{submits: load.NewLatencies(), claims: load.NewLatencies()}
	for turn := range j.Rounds + 1 {
		l.progress.Phase(fmt.Sprintf("%d waiting, %d connections, turn %d of %d", waiting, connections, turn, j.Rounds), nil)
		pairs := j.Pairs
		if turn == 0 { // it warms both up and does not count
			pairs = max(connections, pairs/10)
		}
		if err := j.turn(l, d, connections, pairs, turn > 0, p); err != nil {
			return 0, err
		}
	}
	writes, bare, submits, claims := median(p.writes), median(p.bare), p.submits.Summary(), p.claims.Summary()
	submitted, claimed, ratio := 1000*float64(connections)/submits.Mean, 1000*float64(connections)/claims.Mean, writes/bare
	name := fmt.Sprintf("jobs.%d.%d.", waiting, connections)
	for _, f := range []report.Figure{
		{Name: "bare", Value: bare, Unit: "appends/s"}, {Name: "writes", Value: writes, Unit: "writes/s"}, {Name: "ratio", Value: ratio},
		{Name: "submissions", Value: submitted, Unit: "jobs/s"}, {Name: "submit.p50", Value: submits.P50, Unit: "ms"},
		{Name: "submit.p99", Value: submits.P99, Unit: "ms"}, {Name: "claims", Value: claimed, Unit: "jobs/s"},
		{Name: "claim.p50", Value: claims.P50, Unit: "ms"}, {Name: "claim.p99", Value: claims.P99, Unit: "ms"},
	} {
		l.result.Figure(name+f.Name, f.Value, f.Unit)
	}
	table.Row(strconv.Itoa(waiting), strconv.Itoa(connections), fmt.Sprintf("%.0f", bare), fmt.Sprintf("%.0f", writes),
		fmt.Sprintf("%.2f", ratio), fmt.Sprintf("%.0f", submitted), fmt.Sprintf("%.2f", submits.P50), fmt.Sprintf("%.2f", submits.P99),
		fmt.Sprintf("%.0f", claimed), fmt.Sprintf("%.2f", claims.P50), fmt.Sprintf("%.2f", claims.P99))
	if j.AtLeast > 0 {
		l.result.Promise(fmt.Sprintf("with %d jobs waiting, submissions and claims with %d connections reach %.2f of the bare append", waiting, connections, j.AtLeast),
			ratio >= j.AtLeast, nil, "%.2f", ratio)
	}
	return claimed / bare, nil
}

func (j *jobRates) turn(l *lab, d *jobDoors, connections, pairs int, counts bool, p *pairTimes) error {
	submits, claims := load.NewLatencies(), load.NewLatencies()
	round, err := load.Closed{Senders: connections, Requests: pairs}.Run(l.ctx, d.pairs(submits, claims))
	if err != nil {
		return err
	}
	if err := j.settle(l); err != nil {
		return err
	}
	baseline, err := load.Closed{Senders: connections, Requests: 2 * pairs}.Run(l.ctx, d.bare)
	if err != nil || !counts {
		return err
	}
	p.submits.Merge(submits)
	p.claims.Merge(claims)
	p.writes, p.bare = append(p.writes, 2*round.Rate()), append(p.bare, baseline.Rate())
	return nil
}

// jobDoors sends jobs and asks for them.
type jobDoors struct {
	host, bareHost                string
	body, submit, claim, bareHead []byte
	waiting                       int

	mu      sync.Mutex
	answers [][]byte
}

func newJobDoors(host, bareHost string) *jobDoors {
	body := []byte(`{"job_queue": "` + jobQueue + `", "name": "load", "tags": ["loadtest"], "provision_data": {"url": "http://images.example/noble.img.xz"}, ` +
		`"test_data": {"test_cmds": "set -e\nssh ubuntu@$DEVICE_IP sudo apt-get install -y stress-ng\nssh ubuntu@$DEVICE_IP stress-ng --matrix 0 -t 5m\n"}}`)
	return &jobDoors{
		host: host, bareHost: bareHost, body: body,
		submit:   wire.Head(http.MethodPost, host, "/v1/job", len(body), "Content-Type", "application/json"),
		claim:    wire.Head(http.MethodGet, host, "/v1/job?queue="+jobQueue, 0),
		bareHead: wire.Head(http.MethodPost, bareHost, "/append", len(body), "Content-Type", "application/json"),
	}
}

func expect(conn *wire.Conn, head, body []byte, status int) (wire.Answer, error) {
	answer, err := conn.Do(head, body)
	if err == nil && answer.Status != status {
		err = fmt.Errorf("status %d, want %d: %s", answer.Status, status, answer.Body)
	}
	return answer, err
}

func (d *jobDoors) submitters(times *load.Latencies) load.Opener {
	return d.opener(d.host, func(conn *wire.Conn) error { return d.submitOne(conn, times) })
}

func (d *jobDoors) submitOne(conn *wire.Conn, times *load.Latencies) error {
	began := time.Now()
	_, err := expect(conn, d.submit, d.body, http.StatusOK)
	if times != nil {
		times.Record(time.Since(began))
	}
	return err
}

// pairs submits a job and claims one.
func (d *jobDoors) pairs(submits, claims *load.Latencies) load.Opener {
	return d.opener(d.host, func(conn *wire.Conn) error {
		if err := d.submitOne(conn, submits); err != nil {
			return err
		}
		began := time.Now()
		answer, err := expect(conn, d.claim, nil, http.StatusOK)
		claims.Record(time.Since(began))
		if err == nil {
			d.mu.Lock()
			d.answers = append(d.answers, slices.Clone(answer.Body))
			d.mu.Unlock()
		}
		return err
	})
}

func (d *jobDoors) bare(ctx context.Context, sender int) (func(int) error, func(), error) {
	return d.opener(d.bareHost, func(conn *wire.Conn) error {
		_, err := expect(conn, d.bareHead, d.body, http.StatusCreated)
		return err
	})(ctx, sender)
}

func (d *jobDoors) opener(host string, send func(*wire.Conn) error) load.Opener {
	return func(ctx context.Context, _ int) (func(int) error, func(), error) {
		conn, err := wire.Dial(ctx, host, attemptTimeout)
		if err != nil {
			return nil, nil, err
		}
		return func(int) error { return send(conn) }, func() { _ = conn.Close() }, nil
	}
}

// claimed counts the hand-outs, and those of a job that had been handed out before.
func (d *jobDoors) claimed() (taken, twice int) {
	seen := map[string]bool{}
	for _, body := range d.answers {
		var job struct {
			ID string `json:"job_id"`
		}
		if err := json.Unmarshal(body, &job); err != nil || job.ID == "" || seen[job.ID] {
			twice++
		}
		seen[job.ID] = true
	}
	return len(d.answers), twice
}
