package jobs

import (
	"crypto/sha256"

	"github.com/google/uuid"
	"github.com/tidwall/btree"

	"github.com/millrace/millrace/processor/fold"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// The states that the fold gives a job; the others come with reports. A job of a batch that ends at once is rejected.
const (
	StateWaiting   = "waiting"
	StateRunning   = "running"
	StateCancelled = "cancelled"
	StateRejected  = "rejected"
)

// Name is the key of a job id that a client chose; the zero Name is none.
type Name [16]byte

// ToName gives the key of a job id. Two spellings of a UUID are two ids.
func ToName(id string) Name {
	if id == "" {
		return Name{}
	}
	if parsed, err := uuid.Parse(id); err == nil && parsed.String() == id {
		return Name(parsed)
	}
	sum := sha256.Sum256([]byte(id))
	return Name(sum[:len(Name{})])
}

// Attachments says how far a job's attachments are.
type Attachments uint8

// A job has none, or waits for them, or has them.
const (
	NoAttachments Attachments = iota
	AwaitsAttachments
	HasAttachments
)

// Job is a live job, as it was at one moment.
type Job struct {
	// Seq is the job's number, from 1.
	Seq    uint64
	Family event.JobFamily
	Queue  string
	Name   Name
	// Priority: higher goes first.
	Priority int64
	// Submitted is Unix milliseconds of log time.
	Submitted int64
	// Attempt counts the hand-outs so far.
	Attempt     uint32
	Attachments Attachments
	// Out says that somebody works on it; what follows is zero otherwise.
	Out       bool
	Cancelled bool
	Asker     string
	// Claim is the event of the newest claim that was answered with this hand-out.
	Claim uuid.UUID
	// Since and Expires are Unix milliseconds of log time; Expires is 0 without a lease.
	Since, Expires int64
	// Lease is how long the hand-out holds without news, in milliseconds; 0: for ever. ByAnyCall says that every call which
	// names the job is news of it.
	Lease     int64
	ByAnyCall bool
}

// Result is what became of an event.
type Result uint8

// The results. Their numbers are stored: a new one comes last.
const (
	// Ignored is an event that asks for nothing, cannot be read, or stands in the log a second time.
	Ignored Result = iota
	Done
	// Nothing is there that the asker of a claim may have.
	Nothing
	// NotFound is a job that does not live: it never did, or it has ended.
	NotFound
	// NotWaiting is a job that has been handed out.
	NotWaiting
	// NotAwaiting is a job that wants no attachments, and Known one that has them.
	NotAwaiting
	Known
	// Cancelled is a job that was cancelled before.
	Cancelled
	// Stale is an attempt that is over, or a claim that was taken back or repeated.
	Stale
	// Early is an expiry whose time has not come.
	Early
	// Late is a report on a job that has ended: it is kept, and changes nothing.
	Late
	KeyReused
	// KeyUnchecked is a request whose key may be a forgotten one: it had no effect.
	KeyUnchecked
)

// Outcome is the answer that the log gives to an event. Its fields are stored, for repeats.
type Outcome struct {
	Result Result
	// Repeated marks the answer to a repeated idempotency key: the effect is the first request's.
	Repeated bool
	// Job is the job as it is after the event (the first one of a batch).
	Job Job
	// Count is the number of jobs that were submitted.
	Count uint32
	// State is the job's after the event; empty when the event does not speak of it.
	State string
	// Ended says that the job has left the fold.
	Ended bool
	// Waiting and Out count the jobs of the queue after the event.
	Waiting, Out uint64
}

// State is what the fold knows of the jobs that live. Read it through the methods.
type State struct {
	// last is the number of the newest job, now the log time of the newest event.
	last   uint64
	now    int64
	queues map[string]*queue
	lanes  map[laneID]*lane
	// lastLane is the id of the newest lane.
	lastLane laneID
	jobs     shelf
	// named are the jobs with an id that no other live job has, by number; groups those that share one.
	named  map[Name]uint64
	groups map[Name]*group
	// handouts are those of the jobs that somebody works on, by number; leased has the ends of their leases.
	handouts map[uint64]*handout
	leased   *btree.BTreeG[leaseEnd]
	recent   fold.Recent
	repeats  fold.Repeats[Outcome]
	taken    taken
}

// Fold is the jobs' fold.
func Fold() *fold.Definition[*State, Outcome] {
	return &fold.Definition[*State, Outcome]{
		Name: "jobs", Version: 3, Topic: eventlog.Jobs, New: NewState, Apply: Apply, Encode: encode, Decode: decode,
		Keys: &fold.Keys[*State, Outcome]{
			Repeats: func(s *State) *fold.Repeats[Outcome] { return &s.repeats }, Answer: answer,
			Unchecked: func(o Outcome) bool { return o.Result == KeyUnchecked },
		},
	}
}

// NewState knows no job.
func NewState() *State {
	return &State{
		queues: map[string]*queue{}, lanes: map[laneID]*lane{}, jobs: newShelf(0), named: map[Name]uint64{}, groups: map[Name]*group{},
		handouts: map[uint64]*handout{}, leased: newTree(endsFirst),
	}
}
