package operator

import (
	"context"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/segmentio/kafka-go"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// Requeued is the answer to a requeue.
type Requeued struct {
	DeadLetterID string `json:"dead_letter_id"`
	RequeuedAs   string `json:"requeued_as" doc:"event id of the record in its new place"`
}

// requeueSpace makes a requeued record's event id from its dead letter's, so that a command that is repeated puts the
// same event into the log, which counts once.
var requeueSpace = uuid.MustParse("0f6a6b0c-5a55-4d0e-9a7e-3c7c7e1f4b92")

// requeue answers POST /millrace/v1/dead-letters/{id}/requeue: the letter's record is appended once more, and then the
// fact that it was.
func (o *Operator) requeue(c *gin.Context) {
	id, err := uuid.Parse(c.Param("id"))
	if err != nil {
		route.Refuse(c, route.Errorf(http.StatusNotFound, "nothing has this address: a dead letter's id is a UUID"))
		return
	}
	letter, err := o.DeadLetter(c.Request.Context(), id.String())
	switch {
	case err != nil:
		route.Refuse(c, err)
		return
	case letter == nil:
		route.Refuse(c, route.Errorf(http.StatusNotFound, "there is no dead letter %s", id))
		return
	}
	again, err := requeued(id, letter)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	position, err := o.append(c.Request.Context(), id, letter, again)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	door.SetPosition(c, position)
	c.JSON(http.StatusAccepted, Requeued{DeadLetterID: id.String(), RequeuedAs: again.ID.String()})
}

// requeued is the letter's record as an event of its own, which names the one it repeats.
func requeued(id uuid.UUID, letter *event.DeadLetter) (eventlog.Event, error) {
	headers := make([]kafka.Header, len(letter.GetHeaders()))
	for i, h := range letter.GetHeaders() {
		headers[i] = kafka.Header{Key: h.GetKey(), Value: h.GetValue()}
	}
	record := eventlog.NewRecord(eventlog.Partition{Topic: letter.GetPlace().GetTopic()}, 0, 0, letter.GetKey(), headers, letter.GetValue())
	if record.Malformed != nil {
		return eventlog.Event{}, route.Errorf(http.StatusUnprocessableEntity, "the record cannot be requeued: it has %s", record.Malformed)
	}
	again := record.Event
	again.ID, again.RequeueOf = uuid.NewSHA1(requeueSpace, id[:]), record.ID
	return again, nil
}

func (o *Operator) append(ctx context.Context, id uuid.UUID, letter *event.DeadLetter, again eventlog.Event) (eventlog.Position, error) {
	position, err := o.Log.Record(ctx, letter.GetPlace().GetTopic(), letter.GetKey(), again)
	if err != nil {
		return position, err
	}
	fact, err := door.NewEvent(ctx, source, &event.DeadLetterRequeued{DeadLetterId: id.String(), RequeuedAs: again.ID.String()})
	if err != nil {
		return position, err
	}
	noted, err := o.Log.Record(ctx, eventlog.DeadLetters, nil, fact)
	return position.Merge(noted), err
}
