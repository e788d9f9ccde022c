package sink

import (
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// addWords writes what agents say, of themselves, of queues and of jobs; false when the event is something else.
func addWords(message proto.Message, epoch uint32, record *eventlog.Record, batch *projection.Batch) (is bool, err error) {
	switch m := message.(type) {
	case *event.TestflingerAgentPosted:
		err = batch.AddAgent(m, epoch, record)
	case *event.TestflingerProvisionLogged:
		err = batch.AddProvision(m, epoch, record)
	case *event.TestflingerQueuesAdvertised:
		err = batch.AddQueueDescriptions(m, epoch, record)
	case *event.TestflingerImagesPosted:
		err = batch.AddImages(m, epoch, record)
	case *event.TestflingerResultPosted:
		err = batch.AddResult(m, epoch, record)
	case *event.JobOutputAppended:
		err = batch.AddOutput(m, epoch, record)
	default:
		return false, nil
	}
	return true, asPoison(err)
}
