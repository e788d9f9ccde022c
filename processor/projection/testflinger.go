package projection

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// Fields of table testflinger_queues, and those of testflinger_agents that are looked for: every post writes AgentUpdated.
const (
	AgentUpdated     = "updated_at"
	AgentQueues      = "queues"
	QueueDescription = "description"
	QueueImages      = "images"
)

// said is something that was said by an event.
type said struct {
	batch   *Batch
	rec     *eventlog.Record
	at      time.Time
	version uint64
}

// say adds what an event of a fact says, whole or not at all.
func (b *Batch) say(epoch uint32, rec *eventlog.Record, add func(s *said) error) error {
	var c checks
	s := &said{batch: b, rec: rec, at: c.instant("the record's time", rec.LogTime), version: Version(eventlog.Place{Epoch: epoch, Offset: rec.Offset})}
	if c.err != nil {
		return c.err
	}
	return b.whole(func() error { return add(s) })
}

// AddAgent adds what an agent says of itself.
func (b *Batch) AddAgent(m *event.TestflingerAgentPosted, epoch uint32, rec *eventlog.Record) error {
	return b.say(epoch, rec, func(s *said) error {
		field := func(name, value string) {
			b.tables[testflingerAgents].add(len(m.GetName())+len(value), m.GetName(), name, value, s.at, s.version)
		}
		for _, given := range []struct {
			name  string
			value *string
		}{
			{"state", m.State}, {"comment", m.Comment}, {"location", m.Location}, {"provision_type", m.ProvisionType}, {"job_id", m.JobId},
			{"identifier", m.Identifier},
		} {
			if given.value != nil {
				field(given.name, *given.value)
			}
		}
		if m.GetQueues() != nil {
			queues, err := json.Marshal(orEmpty(m.GetQueues().GetNames()))
			if err != nil {
				return fmt.Errorf("write an agent's queues: %w", err)
			}
			field(AgentQueues, string(queues))
		}
		field(AgentUpdated, s.at.UTC().Format("2006-01-02T15:04:05.000Z"))
		for i, line := range m.GetLog() {
			b.tables[testflingerAgentLog].add(len(m.GetName())+len(line), m.GetName(), s.version, uint32(i), rec.ID, s.at, line)
		}
		return nil
	})
}

// AddProvision adds how a provisioning went.
func (b *Batch) AddProvision(m *event.TestflingerProvisionLogged, epoch uint32, rec *eventlog.Record) error {
	return b.say(epoch, rec, func(s *said) error {
		b.tables[testflingerProvisions].add(len(m.GetAgent())+len(m.GetJobId())+len(m.GetDetail()),
			m.GetAgent(), s.version, rec.ID, s.at, m.GetJobId(), m.GetExitCode(), m.GetDetail())
		return nil
	})
}

// queueField adds something that is said of a queue.
func (s *said) queueField(queue, field, value string) {
	s.batch.tables[testflingerQueues].add(len(queue)+len(value), queue, field, value, s.at, s.version)
}

// AddQueueDescriptions adds what agents say of queues.
func (b *Batch) AddQueueDescriptions(m *event.TestflingerQueuesAdvertised, epoch uint32, rec *eventlog.Record) error {
	return b.say(epoch, rec, func(s *said) error {
		for _, queue := range slices.Sorted(maps.Keys(m.GetDescriptions())) {
			s.queueField(queue, QueueDescription, m.GetDescriptions()[queue])
		}
		return nil
	})
}

// AddImages adds the images of queues.
func (b *Batch) AddImages(m *event.TestflingerImagesPosted, epoch uint32, rec *eventlog.Record) error {
	return b.say(epoch, rec, func(s *said) error {
		for _, queue := range slices.Sorted(maps.Keys(m.GetQueues())) {
			lines := m.GetQueues()[queue].GetLines()
			if lines == nil {
				lines = map[string]string{}
			}
			images, err := json.Marshal(lines)
			if err != nil {
				return fmt.Errorf("write a queue's images: %w", err)
			}
			s.queueField(queue, QueueImages, string(images))
		}
		return nil
	})
}

// AddResult adds to a job's result.
func (b *Batch) AddResult(m *event.TestflingerResultPosted, epoch uint32, rec *eventlog.Record) error {
	return b.say(epoch, rec, func(s *said) error {
		d, members := m.GetDocument(), orEmpty(m.GetMembers())
		b.tables[testflingerResults].add(len(m.GetJobId())+len(d.GetInline())+32*len(members), m.GetJobId(), s.version, rec.ID, s.at,
			members, string(d.GetInline()), string(d.GetBlob().GetSha256()), d.GetBlob().GetSize(), uint8(d.GetEncoding()), d.GetSize())
		return nil
	})
}

// OutputKind is a kind of output as tables job_output and job_output_taken name it; empty for none.
func OutputKind(kind event.JobOutputKind) string {
	switch kind {
	case event.JobOutputKind_JOB_OUTPUT_KIND_OUTPUT:
		return "output"
	case event.JobOutputKind_JOB_OUTPUT_KIND_SERIAL:
		return "serial"
	}
	return ""
}

func checkOutputKind(kind event.JobOutputKind) error {
	if OutputKind(kind) == "" {
		return fmt.Errorf("output of kind %d is not known", kind)
	}
	return nil
}

// AddOutput adds a piece of a job's output.
func (b *Batch) AddOutput(m *event.JobOutputAppended, epoch uint32, rec *eventlog.Record) error {
	if err := checkOutputKind(m.GetKind()); err != nil {
		return err
	}
	return b.say(epoch, rec, func(s *said) error {
		var c checks
		var fragmentAt *time.Time
		if m.FragmentTime != nil {
			at := c.instant("the fragment's time", m.GetFragmentTime())
			fragmentAt = &at
		}
		d := m.GetDocument()
		b.tables[jobOutput].add(len(m.GetJobId())+len(m.GetPhase())+len(d.GetInline()), m.GetJobId(), OutputKind(m.GetKind()), s.version, rec.ID,
			s.at, m.GetPhase(), m.Fragment, fragmentAt, string(d.GetInline()), string(d.GetBlob().GetSha256()), d.GetBlob().GetSize(),
			uint8(d.GetEncoding()), d.GetSize())
		return c.err
	})
}

// AddOutputTaken adds how far the output of a job was handed out.
func (b *Batch) AddOutputTaken(m *event.JobOutputTakeRequested, rec *eventlog.Record) error {
	if err := checkOutputKind(m.GetKind()); err != nil {
		return err
	}
	return b.say(0, rec, func(s *said) error {
		b.tables[jobOutputTaken].add(len(m.GetJobId()), m.GetJobId(), OutputKind(m.GetKind()), m.GetThrough(), s.at)
		return nil
	})
}
