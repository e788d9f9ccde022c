package lab

import (
	"context"
	"strings"
	"time"

	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/query/native/cursor"
	"github.com/millrace/millrace/schemas/event"
)

// Queue is a queue that has, or had, jobs.
type Queue struct {
	Queue     string     `json:"queue" ch:"queue"`
	Family    string     `json:"family" ch:"-" doc:"the API whose jobs it holds: native, debci or testflinger"`
	Waiting   uint64     `json:"waiting" ch:"-" doc:"jobs that wait"`
	Out       uint64     `json:"out" ch:"-" doc:"jobs that somebody works on"`
	Oldest    *time.Time `json:"oldest_waiting_since" ch:"-" doc:"when the job was submitted that has waited longest; null when none waits"`
	ChangedAt time.Time  `json:"changed_at" ch:"last" doc:"when its length last changed"`
	// Began is when its length first changed.
	Began time.Time `json:"-" ch:"first"`
}

// QueueOrders are the orders of queues: by name.
func QueueOrders() []Order { return both("queue", column{"queue", text}) }

// QueueFilter says which queues are wanted; a zero field wants all.
type QueueFilter struct{ Name, Prefix string }

// Queues reads a page of queues. How long they are is known from the fold.
func (v *View) Queues(ctx context.Context, filter QueueFilter, page Page) ([]Queue, cursor.Key, error) {
	s := selection{columns: []string{"queue", "max(at) AS last", "min(at) AS first"}, from: "{db}.queue_changes", group: "queue"}
	equal(&s.where, "queue", filter.Name)
	if filter.Prefix != "" {
		s.where.and("startsWith(queue, ?)", filter.Prefix)
	}
	queues, next, err := list(ctx, v, "queues", s, page, func(q *Queue) cursor.Key { return cursor.Key{{Text: q.Queue}} })
	if err != nil {
		return nil, nil, err
	}
	v.lab.jobs.View(func(s *jobs.State) {
		for i := range queues {
			queues[i].count(s)
		}
	})
	return queues, next, nil
}

func (q *Queue) count(s *jobs.State) {
	now := s.Queue(q.Queue)
	q.Family, q.Waiting, q.Out = familyOf(q.Queue), now.Waiting, now.Out
	if now.Oldest != 0 {
		oldest := time.UnixMilli(now.Oldest).UTC()
		q.Oldest = &oldest
	}
}

// familyOf tells from a queue's name whose jobs it holds: the doors of the old APIs have prefixes of their own.
func familyOf(queue string) string {
	for _, family := range []event.JobFamily{event.JobFamily_JOB_FAMILY_TESTFLINGER, event.JobFamily_JOB_FAMILY_DEBCI} {
		if name := projection.FamilyName(family); strings.HasPrefix(queue, name+"/") {
			return name
		}
	}
	return projection.FamilyName(event.JobFamily_JOB_FAMILY_NATIVE)
}
