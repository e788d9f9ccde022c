package fold

import "github.com/google/uuid"

// Recent remembers the events of the last minutes of log time. A retried append can put one event at two offsets: a fold
// whose requests are not harmless when they are repeated ignores the second one. Its fields are exported for encoding
// only.
type Recent struct {
	// Order lists the events by age.
	Order []RecentEvent
	known map[uuid.UUID]struct{}
}

// RecentEvent is an event and its log time, Unix milliseconds.
type RecentEvent struct {
	ID   uuid.UUID
	Time int64
}

const (
	// recentTime is longer than any append is retried.
	recentTime = 2 * 60 * 1000
	// maxRecent bounds the memory.
	maxRecent = 200_000
)

// First says whether an event is seen for the first time, and remembers it.
func (r *Recent) First(id uuid.UUID, now int64) bool {
	if r.known == nil {
		r.known = make(map[uuid.UUID]struct{}, len(r.Order))
		for _, e := range r.Order {
			r.known[e.ID] = struct{}{}
		}
	}
	r.expire(now)
	if _, known := r.known[id]; known {
		return false
	}
	r.known[id] = struct{}{}
	r.Order = append(r.Order, RecentEvent{ID: id, Time: now})
	return true
}

func (r *Recent) expire(now int64) {
	gone := 0
	for gone < len(r.Order) && (r.Order[gone].Time < now-recentTime || len(r.Order)-gone >= maxRecent) {
		delete(r.known, r.Order[gone].ID)
		gone++
	}
	r.Order = r.Order[gone:]
}
