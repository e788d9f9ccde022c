// Package door is what every write endpoint does on its way to the log: wrap the request in an event, append it, wait
// for its outcome where the log decides, and put what the log cannot do into words for the client.
package door

import (
	"context"
	"errors"
	"time"

	"github.com/gin-gonic/gin"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/processor/fold"
	"github.com/millrace/millrace/schemas/document"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
	"github.com/millrace/millrace/schemas/telemetry"
)

// Log is the log as doors see it.
type Log struct {
	// ID is the log's id, for positions.
	ID string
	// PartitionFor picks the partition of a topic for a key.
	PartitionFor func(topic string, key []byte) eventlog.Partition
	// Append puts an event into a partition and returns its offset once all in-sync replicas have it.
	Append func(ctx context.Context, partition eventlog.Partition, event eventlog.Event) (int64, error)
}

// Connect gives the log behind a client and its appender.
func Connect(client *eventlog.Client, appender *eventlog.Appender) Log {
	return Log{ID: client.LogID, PartitionFor: client.PartitionFor, Append: appender.Append}
}

// Fold is a fold over a topic that decides. Bind makes one from a replica.
type Fold[S, O any] interface {
	Topic() string
	// View lets a function read the state; it must not keep what it is shown.
	View(look func(S))
	// CatchUp waits until everything is folded that was in the log when it was called.
	CatchUp(ctx context.Context) error
	// Await waits until the state is as look wants it; look must not keep what it is shown.
	Await(ctx context.Context, look func(S) bool) error
	// Decide appends a request and gives its outcome with its offset.
	Decide(ctx context.Context, event eventlog.Event) (O, int64, error)
	// Keys is how the fold answers by idempotency keys.
	Keys() *fold.Keys[S, O]
	// StoredKey finds an idempotency key in the projections, see StoredKey.
	StoredKey(ctx context.Context, key []byte, through uint64) (*StoredKey, error)
}

// Bind gives a replica of a topic's fold the appender for its requests, and what finds the keys that it forgot;
// that may be nil where no request has a key.
func Bind[S, O any](topic string, replica *fold.Replica[S, O], appender *eventlog.Appender, stored StoredKeys) Fold[S, O] {
	return &bound[S, O]{Replica: replica, topic: topic, appender: appender, stored: stored}
}

type bound[S, O any] struct {
	*fold.Replica[S, O]
	topic    string
	appender *eventlog.Appender
	stored   StoredKeys
}

func (b *bound[S, O]) Topic() string { return b.topic }

func (b *bound[S, O]) StoredKey(ctx context.Context, key []byte, through uint64) (*StoredKey, error) {
	return b.stored(ctx, b.topic, key, through)
}

func (b *bound[S, O]) Decide(ctx context.Context, event eventlog.Event) (O, int64, error) {
	return b.Replica.Decide(ctx, b.appender, event)
}

// Record appends a fact and gives its position. Its errors are what the client is answered.
func (l Log) Record(ctx context.Context, topic string, key []byte, event eventlog.Event) (eventlog.Position, error) {
	event.Key = key
	partition := l.PartitionFor(topic, key)
	offset, err := l.Append(ctx, partition, event)
	if err != nil {
		return eventlog.Position{}, Refusal(err)
	}
	return eventlog.At(l.ID, partition, offset), nil
}

// Decide appends a request and gives the outcome that the log decides for it, with its position. A request whose
// idempotency key was taken before is given the first one's. Its errors are what the client is answered.
func Decide[S, O any](ctx context.Context, l Log, decider Fold[S, O], source string, request proto.Message) (O, eventlog.Position, error) {
	outcome, position, err := TryDecide(ctx, l, decider, source, request)
	return outcome, position, Refusal(err)
}

// TryDecide is Decide with the log's own errors.
func TryDecide[S, O any](ctx context.Context, l Log, decider Fold[S, O], source string, request proto.Message) (O, eventlog.Position, error) {
	for {
		outcome, position, answered, err := checkKey(ctx, l, decider, request)
		if answered || err != nil {
			return outcome, position, err
		}
		event, err := NewEvent(ctx, source, request)
		if err != nil {
			return outcome, position, err
		}
		outcome, offset, err := decider.Decide(ctx, event)
		if err != nil {
			return outcome, position, err
		}
		if !decider.Keys().Unchecked(outcome) {
			return outcome, eventlog.At(l.ID, l.PartitionFor(decider.Topic(), nil), offset), nil
		}
		// So many keys came between the look and the request that it did not count. The replica has folded them all by now.
	}
}

// NewEvent wraps a payload, with the request's trace and the name of the blob that it refers to.
func NewEvent(ctx context.Context, source string, payload proto.Message) (eventlog.Event, error) {
	wrapped, err := eventlog.NewEvent(source, payload)
	if err != nil {
		return eventlog.Event{}, err
	}
	if carrier, ok := payload.(interface{ GetDocument() *event.Document }); ok {
		wrapped.DataRef = document.DataRef(carrier.GetDocument())
	}
	telemetry.Inject(ctx, &wrapped.Trace)
	return wrapped, nil
}

// SetPosition tells the client where its write stands in the log.
func SetPosition(c *gin.Context, position eventlog.Position) {
	if text := position.String(); text != "" {
		c.Header(eventlog.PositionHeader, text)
	}
}

// What clients are told to wait.
const (
	retryOverload  = time.Second
	retryUnsettled = 5 * time.Second
)

// Refusal says to the client what the log could not do; other errors are kept, and that the client has gone.
func Refusal(err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, eventlog.ErrOverloaded):
		return route.Busy(retryOverload, "too many writes are waiting for the log: this one was not taken; send it again")
	case errors.Is(err, eventlog.ErrUnsettled):
		return route.Busy(retryUnsettled, "the log did not answer in time, so it is not known whether this write took effect: "+
			"send the same request again with the same Idempotency-Key, and its answer settles what happened")
	case errors.Is(err, eventlog.ErrClosed):
		return route.Busy(retryOverload, "this server is shutting down: the write was not taken; send it again")
	}
	return err
}

// OutOfReach is the refusal of a write for which an engine other than the log is missing.
func OutOfReach(engine string) *route.Error {
	return route.Busy(retryUnsettled, "%s is out of reach: the write was not taken; send it again", engine)
}
