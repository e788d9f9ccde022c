package projection

import (
	"cmp"
	"fmt"
	"math"

	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// Series names what is measured: one metric of one machine, configuration and branch.
type Series struct {
	Machine, Config, Branch uint64
	Metric                  string
}

func (s Series) compare(other Series) int {
	return cmp.Or(cmp.Compare(s.Machine, other.Machine), cmp.Compare(s.Config, other.Config),
		cmp.Compare(s.Branch, other.Branch), cmp.Compare(s.Metric, other.Metric))
}

// segment describes samples that follow each other: they share everything but time, value and ordinal.
type segment struct {
	Series
	run, result uint64
	event       uuid.UUID
	// ordinal is that of the first sample within its event, first its index in the batch.
	ordinal uint32
	first   int
}

// samples are rows of the table metrics. What a segment shares is stored once; times and values stand in columns.
type samples struct {
	segments []segment
	times    []int64
	values   []float64
}

func (s *samples) rows() int { return len(s.values) }

func (s *samples) bytes() int { return 16*len(s.values) + 128*len(s.segments) }

func (s *samples) truncate(segments, values int) {
	clear(s.segments[segments:])
	s.segments = s.segments[:segments]
	s.times, s.values = s.times[:values], s.values[:values]
}

// length is how many samples segment i has.
func (s *samples) length(i int) int {
	if i+1 < len(s.segments) {
		return s.segments[i+1].first - s.segments[i].first
	}
	return len(s.values) - s.segments[i].first
}

// AddSamples adds the samples of a run's metric.
func (b *Batch) AddSamples(m *event.RunSamplesRecorded, rec *eventlog.Record) error {
	if err := checkSamples(m); err != nil {
		return err
	}
	b.metrics.segments = append(b.metrics.segments, segment{
		Series: Series{Machine: m.GetMachineId(), Config: m.GetConfigId(), Branch: m.GetBranchId(), Metric: m.GetMetric()},
		run:    m.GetRunId(), result: m.GetResultId(), event: rec.ID, first: len(b.metrics.values),
	})
	b.metrics.times = append(b.metrics.times, m.GetTimes()...)
	b.metrics.values = append(b.metrics.values, m.GetValues()...)
	return nil
}

func checkSamples(m *event.RunSamplesRecorded) error {
	times, values := m.GetTimes(), m.GetValues()
	if len(times) != len(values) || len(values) > math.MaxUint32 {
		return fmt.Errorf("metric %q has %d times and %d values, it must have as many of both", m.GetMetric(), len(times), len(values))
	}
	if m.GetMetric() == "" || len(values) == 0 {
		return fmt.Errorf("metric %q has %d samples, it must have a name and at least one", m.GetMetric(), len(values))
	}
	for i, v := range values {
		if err := checkSample(times[i], v); err != nil {
			return fmt.Errorf("sample %d of metric %q: %w", i, m.GetMetric(), err)
		}
	}
	return nil
}

func checkSample(ms int64, value float64) error {
	if ms < earliest || ms > latest {
		return fmt.Errorf("its time is %d ms after 1970, it must be from 1970 to 2261", ms)
	}
	if !(math.Abs(value) <= greatest) {
		return fmt.Errorf("its value is %v, it must be from -1e150 to 1e150", value)
	}
	return nil
}
