package jobs

import (
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/tidwall/btree"

	"github.com/millrace/millrace/schemas/event"
)

// job is a live job. There may be millions: what only a handed-out one needs stands apart.
type job struct {
	seq       uint64
	lane      *lane
	priority  int64
	name      Name
	submitted int64
	// handout is nil while the job waits.
	handout     *handout
	attempt     uint32
	expiries    uint16
	attachments Attachments
}

// handout is what is known of a job that is out.
type handout struct {
	asker string
	claim uuid.UUID
	// key is the claim's idempotency key.
	key       string
	since     int64
	expires   int64
	duration  int64
	requeues  uint32
	endState  string
	byAnyCall bool
	cancelled bool
}

// queue is a queue with jobs that live.
type queue struct {
	name   string
	family event.JobFamily
	lanes  map[string]*lane
	out    uint64
}

// lane holds those jobs of a queue that the same askers may have, so that a claim looks at the first one only.
type lane struct {
	queue *queue
	laneKey
	waiting *btree.BTreeG[*job]
	// jobs counts the live jobs, waiting or out.
	jobs int
}

// laneKey says who may have a lane's jobs.
type laneKey struct {
	// held jobs wait for their attachments: nobody.
	held bool
	// second jobs share their id with one that is out or goes first: only who does not mind.
	second bool
	// excluded lists the agents that may not, in ascending order.
	excluded []string
}

func (k laneKey) String() string {
	mark := [2]byte{'-', '-'}
	if k.held {
		mark[0] = 'h'
	}
	if k.second {
		mark[1] = 's'
	}
	return string(mark[:]) + strings.Join(k.excluded, "\x00")
}

// treeDegree keeps nodes small: a claim moves a node's items.
const treeDegree = 32

func newTree(less func(a, b *job) bool) *btree.BTreeG[*job] {
	return btree.NewBTreeGOptions(less, btree.Options{NoLocks: true, Degree: treeDegree})
}

func bySeq(a, b *job) bool { return a.seq < b.seq }

// goesFirst is the order of a queue.
func goesFirst(a, b *job) bool {
	if a.priority != b.priority {
		return a.priority > b.priority
	}
	return a.seq < b.seq
}

func byExpiry(a, b *job) bool {
	if a.handout.expires != b.handout.expires {
		return a.handout.expires < b.handout.expires
	}
	return a.seq < b.seq
}

func (s *State) queue(name string, family event.JobFamily) *queue {
	q := s.queues[name]
	if q == nil {
		q = &queue{name: name, family: family, lanes: map[string]*lane{}}
		s.queues[name] = q
	}
	return q
}

func (q *queue) lane(k laneKey) *lane {
	name := k.String()
	l := q.lanes[name]
	if l == nil {
		l = &lane{queue: q, laneKey: k, waiting: newTree(goesFirst)}
		q.lanes[name] = l
	}
	return l
}

func (q *queue) waiting() (n uint64) {
	for _, l := range q.lanes {
		n += uint64(l.waiting.Len())
	}
	return n
}

// join makes a job one of a lane.
func (l *lane) join(j *job) {
	j.lane = l
	l.jobs++
	if j.handout == nil {
		l.waiting.Set(j)
	}
}

// leave takes a job out of its lane; empty lanes and queues are forgotten.
func (s *State) leave(j *job) {
	l := j.lane
	if j.handout == nil {
		l.waiting.Delete(j)
	}
	if l.jobs--; l.jobs > 0 {
		return
	}
	delete(l.queue.lanes, l.String())
	if len(l.queue.lanes) == 0 {
		delete(s.queues, l.queue.name)
	}
}

// move brings a job into the lane of its queue that fits.
func (s *State) move(j *job, held, second bool) {
	from := j.lane
	if from.held == held && from.second == second {
		return
	}
	to := from.queue.lane(laneKey{held: held, second: second, excluded: from.excluded})
	s.leave(j)
	to.join(j)
}

// group are the live jobs that share an id.
type group struct {
	waiting, out *btree.BTreeG[*job]
	// front is the waiting one that goes first on the path where an id is one live job; nil while one is out.
	front *job
}

func newGroup() *group { return &group{waiting: newTree(bySeq), out: newTree(bySeq)} }

// put files a job by whether it waits.
func (g *group) put(j *job) {
	if j.handout == nil {
		g.out.Delete(j)
		g.waiting.Set(j)
		return
	}
	g.waiting.Delete(j)
	g.out.Set(j)
}

// enlist makes a new job known by its name.
func (s *State) enlist(j *job) {
	if j.name == (Name{}) {
		return
	}
	g := s.groups[j.name]
	if other := s.named[j.name]; g == nil && other == nil {
		s.named[j.name] = j
		return
	} else if g == nil {
		delete(s.named, j.name)
		g = newGroup()
		s.groups[j.name] = g
		g.put(other)
		g.front = g.first()
		s.move(other, other.lane.held, other != g.front)
	}
	g.put(j)
	s.move(j, j.lane.held, true)
	s.settle(g)
}

// strike forgets a job's name.
func (s *State) strike(j *job) {
	g := s.groups[j.name]
	if g == nil {
		delete(s.named, j.name)
		return
	}
	g.waiting.Delete(j)
	g.out.Delete(j)
	if g.front == j {
		g.front = nil
	}
	s.settle(g)
	if g.waiting.Len()+g.out.Len() > 1 {
		return
	}
	delete(s.groups, j.name)
	last, ok := g.waiting.Min()
	if !ok {
		last, _ = g.out.Min()
	}
	s.move(last, last.lane.held, false)
	s.named[j.name] = last
}

// first is the waiting job of a group that is to go first; nil while one is out.
func (g *group) first() *job {
	if g.out.Len() > 0 {
		return nil
	}
	first, _ := g.waiting.Min()
	return first
}

// regroup notes that a job went out or came back.
func (s *State) regroup(j *job) {
	if g := s.groups[j.name]; g != nil {
		g.put(j)
		s.settle(g)
	}
}

// settle lets the right job of a group go first.
func (s *State) settle(g *group) {
	front := g.first()
	if front == g.front {
		return
	}
	if g.front != nil {
		s.move(g.front, g.front.lane.held, true)
	}
	if front != nil {
		s.move(front, front.lane.held, false)
	}
	g.front = front
}

// mayHave says whether an asker may have the jobs of a lane.
func (l *lane) mayHave(asker string, oneOfID bool) bool {
	if l.held || l.second && oneOfID {
		return false
	}
	_, excluded := slices.BinarySearch(l.excluded, asker)
	return !excluded
}

// best gives the job that a claim over queues gets; nil when there is none.
func (s *State) best(queues []string, asker string, oneOfID bool) (best *job) {
	for _, name := range queues {
		q := s.queues[name]
		if q == nil {
			continue
		}
		for _, l := range q.lanes {
			if !l.mayHave(asker, oneOfID) {
				continue
			}
			if first, ok := l.waiting.Min(); ok && (best == nil || goesFirst(first, best)) {
				best = first
			}
		}
	}
	return best
}
