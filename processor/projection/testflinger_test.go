package projection

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/schemas/event"
)

// addWords adds rows for every table of what Testflinger's agents say.
func addWords(t *testing.T, b *Batch, l *lab) {
	t.Helper()
	agent := &event.TestflingerAgentPosted{
		Name: "otter", State: proto.String("größe"), Comment: proto.String(""), JobId: proto.String("id"),
		Queues: &event.TestflingerQueues{Names: []string{"q", `"`}}, Log: []string{"one", "two"},
	}
	provision := &event.TestflingerProvisionLogged{Agent: "otter", JobId: "id", ExitCode: -3, Detail: "why"}
	queues := &event.TestflingerQueuesAdvertised{Descriptions: map[string]string{"q": "of otters", "r": ""}}
	images := &event.TestflingerImagesPosted{Queues: map[string]*event.TestflingerImages{"q": {Lines: map[string]string{"core": "url: x"}}, "r": {}}}
	document := &event.Document{Place: &event.Document_Inline{Inline: []byte("{}")}, Encoding: event.Encoding_ENCODING_IDENTITY, Size: 2}
	result := &event.TestflingerResultPosted{JobId: "id", Document: document, Members: []string{"device_info", "status"}}
	piece := &event.JobOutputAppended{JobId: "id", Kind: event.JobOutputKind_JOB_OUTPUT_KIND_OUTPUT, Document: document}
	fragment := &event.JobOutputAppended{
		JobId: "id", Kind: event.JobOutputKind_JOB_OUTPUT_KIND_SERIAL, Document: document, Phase: "test", Fragment: proto.Int64(0),
		FragmentTime: proto.Int64(runStart.UnixMilli()),
	}
	taken := &event.JobOutputTakeRequested{JobId: "id", Kind: event.JobOutputKind_JOB_OUTPUT_KIND_OUTPUT, After: 1, Through: 2}
	for what, err := range map[string]error{
		"agent":     b.AddAgent(agent, 1, l.record(agent)),
		"provision": b.AddProvision(provision, 1, l.record(provision)),
		"queues":    b.AddQueueDescriptions(queues, 1, l.record(queues)),
		"images":    b.AddImages(images, 1, l.record(images)),
		"result":    b.AddResult(result, 1, l.record(result)),
		"piece":     b.AddOutput(piece, 1, l.record(piece)),
		"fragment":  b.AddOutput(fragment, 1, l.record(fragment)),
		"taken":     b.AddOutputTaken(taken, l.record(taken)),
	} {
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

func TestOutputThatCannotBeShownIsRefusedWhole(t *testing.T) {
	l, b := newLab(t), NewBatch()
	for want, m := range map[string]*event.JobOutputAppended{
		"kind 7":              {JobId: "id", Kind: 7},
		"kind 0":              {JobId: "id"},
		"the fragment's time": {JobId: "id", Kind: event.JobOutputKind_JOB_OUTPUT_KIND_OUTPUT, FragmentTime: proto.Int64(-1)},
	} {
		if err := b.AddOutput(m, 1, l.record(m)); err == nil || !strings.Contains(err.Error(), want) || b.Rows() != 0 {
			t.Errorf("%v: error %v with %d rows, want one about %s", m, err, b.Rows(), want)
		}
	}
}
