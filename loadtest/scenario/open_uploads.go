package scenario

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/loadtest/farm"
	"github.com/millrace/millrace/loadtest/ledger"
	"github.com/millrace/millrace/loadtest/load"
)

// openUploads sends numbered uploads at a rate, whatever becomes of them.
type openUploads struct {
	lab      *lab
	machines farm.Machines
	sender   *farm.Sender
	load     load.Open
	// stored is called with each run that was just acknowledged, beside the load; it may be nil.
	stored func(ctx context.Context, run uint64)
	after  sync.WaitGroup

	latencies *load.Latencies
	sent      atomic.Int64
	mu        sync.Mutex
	complaint []string
}

func (l *lab) newOpenUploads(machines farm.Machines, plan farm.Plan, policies []farm.Policy, o load.Open) *openUploads {
	o.Seed = l.seed
	return &openUploads{
		lab: l, machines: machines, load: o, latencies: load.NewLatencies(),
		sender: &farm.Sender{
			Plan: plan, Policies: policies, Target: l.target, Ledger: ledger.New(len(l.target.Machines)),
			HTTP: client(o.InFlight, attemptTimeout),
		},
	}
}

// start sends until the returned function is called: it waits until everything is settled, for a time at most.
func (o *openUploads) start() (stop func(patience time.Duration)) {
	ctx, cancel := context.WithCancel(o.lab.ctx)
	ending, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		o.load.Run(ctx, ending, o.send)
		o.after.Wait()
	}()
	return func(patience time.Duration) {
		close(ending)
		timer := time.AfterFunc(patience, cancel)
		<-done
		timer.Stop()
		cancel()
	}
}

func (o *openUploads) send(ctx context.Context, i int, meant time.Time) {
	o.sent.Add(1)
	run, err := o.sender.Upload(ctx, o.machines.Upload(i))
	if err != nil {
		o.complain(err)
		return
	}
	o.latencies.Record(time.Since(meant))
	if run != 0 && o.stored != nil {
		o.after.Go(func() { o.stored(ctx, run) })
	}
}

// maxComplaints bounds what is kept.
const maxComplaints = 10

func (o *openUploads) complain(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.complaint) < maxComplaints {
		o.complaint = append(o.complaint, err.Error())
	}
}

func (o *openUploads) status() string {
	c := &o.sender.Counts
	return fmt.Sprintf("%d sent, %d stored, %d repeats, %d without answer, %d busy, %d refused",
		o.sent.Load(), c.Stored.Load(), c.Repeats.Load(), c.Broken.Load(), c.Busy.Load(), c.Refused.Load())
}

// promiseSettled says whether every upload that was repeated until it is settled was, and none was refused.
func (o *openUploads) promiseSettled() {
	refused, open := o.sender.Ledger.Count(ledger.Refused), 0
	for machine := range o.lab.target.Machines {
		if policy := o.sender.Policies[machine%len(o.sender.Policies)]; policy != farm.Once {
			least, most := o.sender.Ledger.Expect(machine)
			open += most - least
		}
	}
	o.lab.result.Promise("every upload that is repeated gets its answer, and no good one is refused", refused == 0 && open == 0,
		o.complaint, "%d sent, %d stored, %d refused, %d never answered", o.sent.Load(), o.sender.Counts.Stored.Load(), refused, open)
}

// readBack reads a share of the runs right after they were acknowledged: who has been told that a run is stored sees it.
type readBack struct {
	reader *farm.Reader
	share  float64
	// slots bounds the reads at a time. Waiting for one counts, since the client has been told by then.
	slots chan struct{}

	mu     sync.Mutex
	random *rand.Rand

	read, busy, broken, missing, faults atomic.Int64
	latencies                           *load.Latencies
}

// readsAtOnce bounds the reads that check what was written.
const readsAtOnce = 512

func (l *lab) newReadBack(share float64) *readBack {
	return &readBack{
		reader: &farm.Reader{Target: l.target, HTTP: client(readsAtOnce, time.Minute)}, share: share, slots: make(chan struct{}, readsAtOnce),
		random: rand.New(rand.NewPCG(l.seed, 2)), latencies: load.NewLatencies(),
	}
}

func (r *readBack) chosen() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.random.Float64() < r.share
}

// check reads a run once. A server that cannot answer says so, which is no fault.
func (r *readBack) check(ctx context.Context, run uint64) {
	if !r.chosen() {
		return
	}
	began := time.Now()
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return
	}
	switch status := r.reader.Status(ctx, fmt.Sprintf("/run/%d", run)); {
	case status == http.StatusOK:
		r.read.Add(1)
		r.latencies.Record(time.Since(began))
	case status == http.StatusNotFound:
		r.missing.Add(1)
	case status == 0:
		r.broken.Add(1)
	case farm.Faulty(status):
		r.faults.Add(1)
	default:
		r.busy.Add(1)
	}
}

func (r *readBack) promise(l *lab) {
	looked := r.read.Load() > 0 || r.share == 0
	l.result.Promise("who has been told 201 sees the run in the next read", r.missing.Load() == 0 && looked, nil,
		"%d read, %d missing, %d asked to come again, %d without an answer", r.read.Load(), r.missing.Load(), r.busy.Load(), r.broken.Load())
}

// promiseNoFaults says whether the server ever answered 500 or the like.
func (l *lab) promiseNoFaults(uploads *openUploads, back *readBack) {
	writes, reads := uploads.sender.Counts.Faults.Load(), back.faults.Load()
	l.result.Promise("no good request is answered with 500", writes == 0 && reads == 0, nil, "%d uploads, %d reads", writes, reads)
}
