package dispatch

import (
	"container/list"
	"context"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/singleflight"

	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/schemas/document"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// Submission is what was submitted for a job.
type Submission struct {
	// JobID is the client's own id, as it was spelled.
	JobID    string
	Document *event.Document
	// Owner is the keyed hash of who owns the job, and Submitter who submitted it, sealed; both empty when nobody signed in.
	Owner, Submitter []byte
}

// Find reads submissions in the projections, by job number. It must find needed; of the others those that are there.
type Find func(ctx context.Context, needed uint64, others []uint64) (map[uint64]*Submission, error)

// readAhead is how many jobs of a queue are read at a time once one is asked for.
const readAhead = 1024

// Documents gives what was submitted to who gets the job. The newest submissions are at hand as they came by the log;
// others are read from the projections, many at a time, in the order in which they will be asked for.
type Documents struct {
	limit  int
	find   Find
	packer *document.Packer
	flight singleflight.Group

	mu    sync.Mutex
	kept  map[uint64]*list.Element
	age   *list.List // of keptSubmission, oldest first
	bytes int
}

type keptSubmission struct {
	seq        uint64
	submission *Submission
	bytes      int
}

// NewDocuments keeps submissions of limit bytes at hand.
func NewDocuments(limit int, find Find, packer *document.Packer) *Documents {
	return &Documents{limit: limit, find: find, packer: packer, kept: map[uint64]*list.Element{}, age: list.New()}
}

// Watch is for fold.Replica.Watch: it keeps what comes by.
func (d *Documents) Watch(record *eventlog.Record, outcome jobs.Outcome) {
	if outcome.Result != jobs.Done || outcome.Repeated || outcome.Count != 1 || outcome.Job.Attempt != 0 || outcome.Ended {
		return
	}
	message, err := record.Decode()
	if m, ok := message.(*event.JobSubmitted); ok && err == nil {
		d.keep(outcome.Job.Seq, &Submission{
			JobID: m.GetJobId(), Document: m.GetDocument(), Owner: m.GetOwner(), Submitter: m.GetSealedSubmitter(),
		})
	}
}

func (d *Documents) keep(seq uint64, s *Submission) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.kept[seq]; known {
		return
	}
	size := len(s.JobID) + len(s.Document.GetInline()) + len(s.Owner) + len(s.Submitter) + 256
	d.kept[seq] = d.age.PushBack(keptSubmission{seq, s, size})
	d.bytes += size
	for d.bytes > d.limit && d.age.Len() > 1 {
		d.drop(d.age.Front())
	}
}

func (d *Documents) drop(e *list.Element) {
	k, _ := d.age.Remove(e).(keptSubmission)
	delete(d.kept, k.seq)
	d.bytes -= k.bytes
}

// take gives a submission that is at hand, and keeps it no longer: few jobs are handed out twice.
func (d *Documents) take(seq uint64) *Submission {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.kept[seq]
	if e == nil {
		return nil
	}
	k, _ := e.Value.(keptSubmission)
	d.drop(e)
	return k.submission
}

// Get gives what was submitted for a job. next lists the jobs of a queue that will be asked for next.
func (d *Documents) Get(ctx context.Context, job jobs.Job, next func(queue string, n int) []uint64) (*Submission, error) {
	if s := d.take(job.Seq); s != nil {
		return s, nil
	}
	_, err, _ := d.flight.Do(job.Queue, func() (any, error) { return nil, d.read(ctx, job, next(job.Queue, readAhead)) })
	if err == nil {
		if s := d.take(job.Seq); s != nil {
			return s, nil
		}
	}
	// Somebody else's flight was over before this job was asked for, or its asker has gone.
	found, err := d.find(ctx, job.Seq, nil)
	if err != nil {
		return nil, fmt.Errorf("read what was submitted for job %d: %w", job.Seq, err)
	}
	return found[job.Seq], nil
}

func (d *Documents) read(ctx context.Context, job jobs.Job, others []uint64) error {
	found, err := d.find(ctx, job.Seq, others)
	if err != nil {
		return err
	}
	// What is asked for first is kept last: too many are dropped from the other end.
	for _, seq := range slices.Backward(append([]uint64{job.Seq}, others...)) {
		if s := found[seq]; s != nil {
			d.keep(seq, s)
		}
	}
	return nil
}

// Unpack gives the bytes that were submitted.
func (d *Documents) Unpack(ctx context.Context, s *Submission) ([]byte, error) {
	return d.packer.Unpack(ctx, s.Document)
}
