package testflinger

import (
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/processor/testflinger"
)

const (
	// maxQueueLabels bounds the queues that are counted each: the first that jobs come for. The others are counted together,
	// as otherQueues, since anybody can name a queue.
	maxQueueLabels = 200
	otherQueues    = "other queues"
)

// counters count what was submitted, by queue (1).
type counters struct {
	jobs, reservations *prometheus.CounterVec

	mu     sync.Mutex
	queues map[string]bool
}

func newCounters(registry prometheus.Registerer) (*counters, error) {
	help := fmt.Sprintf(" by queue; the first %d queues are counted each.", maxQueueLabels)
	counts := &counters{
		jobs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_testflinger_jobs_total", Help: "Jobs that were submitted to Testflinger" + help,
		}, []string{"queue"}),
		reservations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_testflinger_reservations_total", Help: "Jobs with a reservation that were submitted to Testflinger" + help,
		}, []string{"queue"}),
		queues: map[string]bool{},
	}
	for _, counter := range []*prometheus.CounterVec{counts.jobs, counts.reservations} {
		if err := registry.Register(counter); err != nil {
			return nil, fmt.Errorf("register the counters of Testflinger's jobs: %w", err)
		}
	}
	return counts, nil
}

func (c *counters) submitted(job *testflinger.Job) {
	label := c.label(job.Queue)
	c.jobs.WithLabelValues(label).Inc()
	if job.Reserves {
		c.reservations.WithLabelValues(label).Inc()
	}
}

// label is what a queue is counted as.
func (c *counters) label(queue string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.queues[queue] && len(c.queues) >= maxQueueLabels {
		return otherQueues
	}
	c.queues[queue] = true
	return queue
}
