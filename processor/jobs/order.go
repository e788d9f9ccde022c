package jobs

import (
	"cmp"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/tidwall/btree"

	"github.com/millrace/millrace/schemas/event"
)

// job is a live job. There may be millions: it has no pointers, so that the garbage collector has nothing to follow in
// them, and what only a handed-out one needs stands apart.
type job struct {
	seq         uint64
	priority    int64
	name        Name
	submitted   int64
	lane        laneID
	attempt     uint32
	expiries    uint16
	attachments Attachments
	// out says that the job is handed out: State.handouts has it then.
	out bool
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
	id      laneID
	waiting *btree.BTreeG[place]
	// jobs counts the live jobs, waiting or out.
	jobs int
}

// laneID stands for a lane in its jobs.
type laneID uint64

// place is where a job stands in its lane.
type place struct {
	priority int64
	seq      uint64
}

func (j *job) place() place { return place{j.priority, j.seq} }

// goesFirst is the order of a queue.
func goesFirst(a, b place) bool {
	if a.priority != b.priority {
		return a.priority > b.priority
	}
	return a.seq < b.seq
}

// leaseEnd is when a lease ends, and whose.
type leaseEnd struct {
	expires int64
	seq     uint64
}

func endsFirst(a, b leaseEnd) bool {
	if a.expires != b.expires {
		return a.expires < b.expires
	}
	return a.seq < b.seq
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

func newTree[T any](less func(a, b T) bool) *btree.BTreeG[T] {
	return btree.NewBTreeGOptions(less, btree.Options{NoLocks: true, Degree: treeDegree})
}

func (s *State) queue(name string, family event.JobFamily) *queue {
	q := s.queues[name]
	if q == nil {
		q = &queue{name: name, family: family, lanes: map[string]*lane{}}
		s.queues[name] = q
	}
	return q
}

// lane gives a queue's lane.
func (s *State) lane(q *queue, k laneKey) *lane {
	name := k.String()
	l := q.lanes[name]
	if l == nil {
		s.lastLane++
		l = &lane{queue: q, laneKey: k, id: s.lastLane, waiting: newTree(goesFirst)}
		q.lanes[name], s.lanes[l.id] = l, l
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
	j.lane = l.id
	l.jobs++
	if !j.out {
		l.waiting.Set(j.place())
	}
}

// leave takes a job out of its lane; empty lanes and queues are forgotten.
func (s *State) leave(j *job) {
	l := s.lanes[j.lane]
	if !j.out {
		l.waiting.Delete(j.place())
	}
	if l.jobs--; l.jobs > 0 {
		return
	}
	delete(l.queue.lanes, l.String())
	delete(s.lanes, l.id)
	if len(l.queue.lanes) == 0 {
		delete(s.queues, l.queue.name)
	}
}

// move brings a job into the lane of its queue that fits.
func (s *State) move(j *job, held, second bool) {
	from := s.lanes[j.lane]
	if from.held == held && from.second == second {
		return
	}
	to := s.lane(from.queue, laneKey{held: held, second: second, excluded: from.excluded})
	s.leave(j)
	to.join(j)
}

// second moves a job to those of its lane that go second, or from there.
func (s *State) second(j *job, second bool) { s.move(j, s.lanes[j.lane].held, second) }

// group are the live jobs that share an id, by their numbers.
type group struct {
	waiting, out *btree.BTreeG[uint64]
	// front is the waiting one that goes first on the path where an id is one live job; 0 while one is out.
	front uint64
}

func newGroup() *group {
	return &group{waiting: newTree(cmp.Less[uint64]), out: newTree(cmp.Less[uint64])}
}

// put files a job by whether it waits.
func (g *group) put(j *job) {
	if j.out {
		g.waiting.Delete(j.seq)
		g.out.Set(j.seq)
		return
	}
	g.out.Delete(j.seq)
	g.waiting.Set(j.seq)
}

// enlist makes a new job known by its name.
func (s *State) enlist(j *job) {
	if j.name == (Name{}) {
		return
	}
	g := s.groups[j.name]
	if other, known := s.named[j.name]; g == nil && !known {
		s.named[j.name] = j.seq
		return
	} else if g == nil {
		g = s.share(j.name, s.jobs.get(other))
		g.front = g.first()
		s.second(s.jobs.get(other), g.front != other)
	}
	g.put(j)
	s.second(j, true)
	s.settle(g)
}

// share makes a group of a name that one job had.
func (s *State) share(name Name, j *job) *group {
	delete(s.named, name)
	g := newGroup()
	s.groups[name] = g
	g.put(j)
	return g
}

// strike forgets a job's name.
func (s *State) strike(j *job) {
	g := s.groups[j.name]
	if g == nil {
		delete(s.named, j.name)
		return
	}
	g.waiting.Delete(j.seq)
	g.out.Delete(j.seq)
	if g.front == j.seq {
		g.front = 0
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
	s.second(s.jobs.get(last), false)
	s.named[j.name] = last
}

// first is the waiting job of a group that is to go first; 0 while one is out.
func (g *group) first() uint64 {
	if g.out.Len() > 0 {
		return 0
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
	if g.front != 0 {
		s.second(s.jobs.get(g.front), true)
	}
	if front != 0 {
		s.second(s.jobs.get(front), false)
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
func (s *State) best(queues []string, asker string, oneOfID bool) *job {
	var best place
	for _, name := range queues {
		q := s.queues[name]
		if q == nil {
			continue
		}
		for _, l := range q.lanes {
			if !l.mayHave(asker, oneOfID) {
				continue
			}
			if first, ok := l.waiting.Min(); ok && (best.seq == 0 || goesFirst(first, best)) {
				best = first
			}
		}
	}
	return s.jobs.get(best.seq)
}
