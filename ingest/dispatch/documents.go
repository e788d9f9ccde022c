package dispatch

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"golang.org/x/sync/singleflight"
	"google.golang.org/protobuf/proto"

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

const (
	// readAhead is how many jobs of a queue are read at a time once one is asked for.
	readAhead = 1024
	// maxDry bounds the queues that wait to be read on; jobs of others are read when they are asked for.
	maxDry = 64
)

// Documents gives what was submitted to who gets the job. The newest submissions are at hand as they came by the log;
// others are read from the projections, many at a time, in the order in which they will be asked for.
type Documents struct {
	limit  int
	find   Find
	packer *document.Packer
	flight singleflight.Group

	mu   sync.Mutex
	kept map[uint64]keptEvent
	// age lists the jobs of kept, oldest first, and some that were taken since.
	age   []aged
	bytes int
	// ahead counts by queue what was read ahead and not taken since. dry names the queues of which it is half gone.
	ahead map[string]int
	dry   chan string
	// ordinal is that of the newest event that was kept.
	ordinal uint64
}

// keptEvent is an encoded event, one piece of memory: there may be so many that the garbage collector minds.
type keptEvent struct {
	encoded []byte
	ordinal uint64
}

// aged is a job, and under which ordinal its event was kept.
type aged struct{ seq, ordinal uint64 }

// NewDocuments keeps submissions of limit bytes at hand.
func NewDocuments(limit int, find Find, packer *document.Packer) *Documents {
	return &Documents{limit: limit, find: find, packer: packer, kept: map[uint64]keptEvent{}, ahead: map[string]int{}, dry: make(chan string, maxDry)}
}

// Watch is for fold.Replica.Watch: it keeps what comes by.
func (d *Documents) Watch(record *eventlog.Record, outcome jobs.Outcome) {
	if record.Type == eventlog.TypeOf(&event.JobSubmitted{}) && outcome.Result == jobs.Done && !outcome.Repeated {
		d.keep(outcome.Job.Seq, record.Data)
	}
}

func (d *Documents) keep(seq uint64, encoded []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.kept[seq]; known {
		return
	}
	d.ordinal++
	d.kept[seq] = keptEvent{encoded, d.ordinal}
	d.age = append(d.age, aged{seq, d.ordinal})
	d.bytes += size(encoded)
	for d.bytes > d.limit && len(d.kept) > 1 {
		if oldest := d.age[0]; d.keeps(oldest) {
			d.drop(oldest.seq)
		}
		d.age = d.age[1:]
	}
	if len(d.age) > 2*len(d.kept)+readAhead {
		d.age = slices.DeleteFunc(d.age, func(a aged) bool { return !d.keeps(a) })
	}
}

// keeps says whether an event is kept as it was kept then, and not taken since.
func (d *Documents) keeps(a aged) bool { return d.kept[a.seq].ordinal == a.ordinal }

// size is about the memory that an event takes here.
func size(encoded []byte) int { return len(encoded) + 64 }

func (d *Documents) drop(seq uint64) {
	if e, known := d.kept[seq]; known {
		delete(d.kept, seq)
		d.bytes -= size(e.encoded)
	}
}

// take gives a submission that is at hand, and keeps it no longer: few jobs are handed out twice.
func (d *Documents) take(seq uint64) (*Submission, error) {
	d.mu.Lock()
	e, known := d.kept[seq]
	d.drop(seq)
	d.mu.Unlock()
	if !known {
		return nil, nil
	}
	var m event.JobSubmitted
	if err := proto.Unmarshal(e.encoded, &m); err != nil {
		return nil, fmt.Errorf("decode what was submitted for job %d: %w", seq, err)
	}
	return &Submission{JobID: m.GetJobId(), Document: m.GetDocument(), Owner: m.GetOwner(), Submitter: m.GetSealedSubmitter()}, nil
}

// Get gives what was submitted for a job. next lists the jobs of a queue that will be asked for next.
func (d *Documents) Get(ctx context.Context, job jobs.Job, next func(queue string, n int) []uint64) (*Submission, error) {
	if s, err := d.take(job.Seq); s != nil || err != nil {
		d.count(job.Queue)
		return s, err
	}
	_, err, _ := d.flight.Do(job.Queue, func() (any, error) { return nil, d.read(ctx, job, next(job.Queue, readAhead)) })
	if err == nil {
		if s, err := d.take(job.Seq); s != nil || err != nil {
			return s, err
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
	return d.keepAhead(job.Queue, append([]uint64{job.Seq}, others...), found)
}

// keepAhead keeps what was read of a queue. What is asked for first is kept last: too many are dropped from the other end.
func (d *Documents) keepAhead(queue string, seqs []uint64, found map[uint64]*Submission) error {
	for _, seq := range slices.Backward(seqs) {
		s := found[seq]
		if s == nil {
			continue
		}
		encoded, err := proto.Marshal(&event.JobSubmitted{JobId: s.JobID, Document: s.Document, Owner: s.Owner, SealedSubmitter: s.Submitter})
		if err != nil {
			return fmt.Errorf("keep what was submitted for job %d: %w", seq, err)
		}
		d.keep(seq, encoded)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ahead[queue] += len(found)
	return nil
}

// count notes that a job of a queue was at hand, and has the queue read on once half of what was read ahead is gone.
func (d *Documents) count(queue string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	left, known := d.ahead[queue]
	if !known {
		return
	}
	d.ahead[queue] = left - 1
	if left == readAhead/2 {
		select {
		case d.dry <- queue:
		default:
		}
	}
	if left <= 1 {
		delete(d.ahead, queue)
	}
}

// Run reads queues on before what was read ahead is gone, so that no claim waits for it, until ctx ends. next lists the
// jobs of a queue that will be asked for next.
func (d *Documents) Run(ctx context.Context, next func(queue string, n int) []uint64, logger *slog.Logger) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case queue := <-d.dry:
			_, err, _ := d.flight.Do(queue, func() (any, error) { return nil, d.readOn(ctx, queue, next(queue, readAhead)) })
			if err != nil && ctx.Err() == nil {
				logger.WarnContext(ctx, "the submissions of a queue could not be read ahead: claims read them", "queue", queue, "error", err)
			}
		}
	}
}

// readOn reads those jobs of a queue that are not at hand.
func (d *Documents) readOn(ctx context.Context, queue string, seqs []uint64) error {
	missing, fits := d.missing(seqs)
	if len(missing) == 0 || !fits {
		return nil
	}
	found, err := d.find(ctx, missing[0], missing[1:])
	if err != nil {
		return err
	}
	return d.keepAhead(queue, missing, found)
}

// missing lists the jobs that are not at hand; fits says whether their submissions would push none out that is needed first.
func (d *Documents) missing(seqs []uint64) (missing []uint64, fits bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, seq := range seqs {
		if _, known := d.kept[seq]; !known {
			missing = append(missing, seq)
		}
	}
	return missing, d.bytes/max(1, len(d.kept))*2*readAhead <= d.limit
}

// Unpack gives the bytes that were submitted.
func (d *Documents) Unpack(ctx context.Context, s *Submission) ([]byte, error) {
	return d.packer.Unpack(ctx, s.Document)
}
