package labtest

import (
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// Say adds a fact that an agent of Testflinger's told, and projects it as the processor does.
func (l *Lab) Say(m proto.Message) {
	l.Helper()
	topic := eventlog.Results
	if _, is := m.(*event.JobOutputAppended); is {
		topic = eventlog.JobOutput
	}
	record := l.record(topic, m)
	l.write(topic, func(b *projection.Batch) error {
		switch m := m.(type) {
		case *event.TestflingerAgentPosted:
			return b.AddAgent(m, 1, record)
		case *event.TestflingerProvisionLogged:
			return b.AddProvision(m, 1, record)
		case *event.TestflingerQueuesAdvertised:
			return b.AddQueueDescriptions(m, 1, record)
		case *event.TestflingerImagesPosted:
			return b.AddImages(m, 1, record)
		case *event.TestflingerResultPosted:
			return b.AddResult(m, 1, record)
		case *event.JobOutputAppended:
			return b.AddOutput(m, 1, record)
		case *event.JobArtifactStored:
			return b.AddArtifact(m, 1, record)
		}
		l.Fatalf("%T is no fact that the lab knows", m)
		return nil
	})
}

// SubmitTestflinger puts a job of Testflinger's into a queue, under an id.
func (l *Lab) SubmitTestflinger(queue, id, document string, priority int64, tags ...string) uint64 {
	l.Helper()
	return l.Job(&event.JobSubmitted{
		Family: event.JobFamily_JOB_FAMILY_TESTFLINGER, Queue: "testflinger/" + queue, JobId: id, Priority: priority,
		Labels: &event.JobLabels{Tags: tags}, Document: Inline(document),
	}).Job.Seq
}

// ReportTestflinger reports a state of a job of Testflinger's.
func (l *Lab) ReportTestflinger(id, state string, final bool) {
	l.Helper()
	l.Job(&event.JobStateReported{Job: &event.JobRef{Name: &event.JobRef_JobId{JobId: id}}, State: state, Final: final})
}
