package sink

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/schemas/document"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// addJobs writes what an event of topic jobs did.
func (p *projector) addJobs(ctx context.Context, message proto.Message, o jobs.Outcome, epoch uint32, record *eventlog.Record,
	batch *projection.Batch,
) error {
	if o.Result != jobs.Done && o.Result != jobs.Late || o.Repeated {
		return nil
	}
	switch m := message.(type) {
	case *event.JobSubmitted:
		return asPoison(batch.AddJob(m, o, epoch, record))
	case *event.JobBatchSubmitted:
		return p.addJobBatch(ctx, m, o, epoch, record, batch)
	case *event.JobAttachmentsStored:
		return asPoison(batch.AddJobAttachments(m, o, epoch, record))
	case *event.JobsPublished:
		return asPoison(batch.AddJobPublications(m, epoch, record))
	case *event.JobOutputTakeRequested:
		return asPoison(batch.AddOutputTaken(m, record))
	case *event.JobClaimRequested:
		return asPoison(batch.AddJobChange(projection.JobHandedOut, o, m.GetAsker(), nil, epoch, record))
	case *event.JobReleased:
		return asPoison(batch.AddJobChange(projection.JobReleased, o, "", nil, epoch, record))
	case *event.JobWorkerNamed:
		return asPoison(batch.AddJobWorker(m, o, epoch, record))
	case *event.JobLeaseExpired:
		return asPoison(batch.AddJobChange(projection.JobExpired, o, "", nil, epoch, record))
	case *event.JobStateReported:
		return asPoison(batch.AddJobChange(projection.JobReported, o, m.GetReporter(), m.GetResult(), epoch, record))
	case *event.JobCancelRequested:
		return asPoison(batch.AddJobChange(projection.JobCancelled, o, o.Job.Asker, nil, epoch, record))
	}
	return nil
}

func (p *projector) addJobBatch(ctx context.Context, m *event.JobBatchSubmitted, o jobs.Outcome, epoch uint32, record *eventlog.Record,
	batch *projection.Batch,
) error {
	body, err := p.sink.unpack(ctx, m.GetDocument())
	if errors.Is(err, document.ErrUnreadable) {
		return &poison{err}
	}
	if err != nil {
		return err
	}
	var items event.JobItems
	if err := proto.Unmarshal(body, &items); err != nil {
		return &poison{fmt.Errorf("the jobs of a batch cannot be read: %w", err)}
	}
	return asPoison(batch.AddJobBatch(m, items.GetItems(), o, p.jobs.State, epoch, record))
}
