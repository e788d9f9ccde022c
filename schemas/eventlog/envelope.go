package eventlog

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/segmentio/kafka-go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// Header names of CloudEvents 1.0 in Kafka's binary content mode, with the extension dataref (claim check) and
// Millrace's own, requeueof.
const (
	headerSpecVersion = "ce_specversion"
	headerID          = "ce_id"
	headerSource      = "ce_source"
	headerType        = "ce_type"
	headerTime        = "ce_time"
	headerRequeueOf   = "ce_requeueof"
	headerDataRef     = "ce_dataref"
	headerContentType = "content-type"

	contentType = "application/protobuf"
)

// Event is a fact or a request on its way to the log or back from it.
type Event struct {
	// ID is a UUIDv7 fixed once for each request and kept through every retry of the append.
	ID uuid.UUID
	// Type is the full name of the payload's Protobuf message, for example millrace.event.v1.LogStarted.
	Type string
	// Source names the door that made the event, for example /pgperffarm.
	Source string
	// Time is the door's clock when the request arrived.
	Time time.Time
	// Key chooses the partition of a topic with several; empty otherwise.
	Key []byte
	// RequeueOf is the event id of the dead letter that this event repeats; the zero UUID otherwise.
	RequeueOf uuid.UUID
	// DataRef is the SHA-256, in hexadecimal, of the blob that the payload refers to; empty when it refers to none. It
	// stands in the envelope so that nobody needs to know the payload to tell whether a blob is needed.
	DataRef string
	// Trace holds W3C trace context headers.
	Trace []kafka.Header
	// Data is the payload, Protobuf.
	Data []byte
}

// Record is an event at its place in the log.
type Record struct {
	Event
	Partition Partition
	Offset    int64
	// LogTime is the record's timestamp in Unix milliseconds: set by the appender, bounded by the broker.
	LogTime int64
	// Headers are the record's headers as they were read.
	Headers []kafka.Header
	// Malformed says why the headers are not an envelope; nil when they are.
	Malformed error
}

// TypeOf is the type under which an event with this payload stands in the log.
func TypeOf(payload proto.Message) string {
	return string(payload.ProtoReflect().Descriptor().FullName())
}

// NewEvent wraps a payload in an envelope with an id of its own.
func NewEvent(source string, payload proto.Message) (Event, error) {
	data, err := proto.Marshal(payload)
	if err != nil {
		return Event{}, fmt.Errorf("encode %s: %w", TypeOf(payload), err)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Event{}, fmt.Errorf("make an event id: %w", err)
	}
	return Event{
		ID:     id,
		Type:   TypeOf(payload),
		Source: source,
		Time:   time.Now().UTC(),
		Data:   data,
	}, nil
}

// ErrUnknownType is returned by Decode for an event type that this version does not know.
var ErrUnknownType = errors.New("unknown event type")

// Decode gives the payload as the message that the event's type names.
func (e *Event) Decode() (proto.Message, error) {
	messageType, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(e.Type))
	if err != nil {
		return nil, fmt.Errorf("%w %q", ErrUnknownType, e.Type)
	}
	message := messageType.New().Interface()
	if err := proto.Unmarshal(e.Data, message); err != nil {
		return nil, fmt.Errorf("decode %s: %w", e.Type, err)
	}
	return message, nil
}

func (e *Event) headers() []kafka.Header {
	headers := make([]kafka.Header, 0, 8+len(e.Trace))
	headers = append(headers,
		kafka.Header{Key: headerSpecVersion, Value: []byte("1.0")},
		kafka.Header{Key: headerID, Value: []byte(e.ID.String())},
		kafka.Header{Key: headerSource, Value: []byte(e.Source)},
		kafka.Header{Key: headerType, Value: []byte(e.Type)},
		kafka.Header{Key: headerTime, Value: e.Time.AppendFormat(nil, time.RFC3339Nano)},
		kafka.Header{Key: headerContentType, Value: []byte(contentType)},
	)
	if e.RequeueOf != uuid.Nil {
		headers = append(headers, kafka.Header{Key: headerRequeueOf, Value: []byte(e.RequeueOf.String())})
	}
	if e.DataRef != "" {
		headers = append(headers, kafka.Header{Key: headerDataRef, Value: []byte(e.DataRef)})
	}
	return append(headers, e.Trace...)
}

// size is about what the event takes in a record batch.
func (e *Event) size() int {
	size := len(e.Data) + len(e.Key) + len(e.Source) + len(e.Type) + 200
	for _, h := range e.Trace {
		size += len(h.Key) + len(h.Value) + 4
	}
	return size
}

// NewRecord reads an envelope back. It never fails: a record that is no envelope says so in Malformed.
func NewRecord(partition Partition, offset, logTime int64, key []byte, headers []kafka.Header, value []byte) Record {
	record := Record{Partition: partition, Offset: offset, LogTime: logTime, Headers: headers}
	record.Key, record.Data = key, value
	for _, h := range headers {
		switch h.Key {
		case headerID:
			record.ID, record.Malformed = parseID(h, record.Malformed)
		case headerRequeueOf:
			record.RequeueOf, record.Malformed = parseID(h, record.Malformed)
		case headerDataRef:
			record.DataRef = string(h.Value)
		case headerSource:
			record.Source = string(h.Value)
		case headerType:
			record.Type = string(h.Value)
		case headerTime:
			// The door's clock is told, never decided on: an unreadable one is left zero.
			record.Time, _ = time.Parse(time.RFC3339Nano, string(h.Value))
		case headerSpecVersion, headerContentType:
		default:
			record.Trace = append(record.Trace, h)
		}
	}
	if record.Malformed == nil && (record.ID == uuid.Nil || record.Type == "") {
		record.Malformed = errors.New("no CloudEvents envelope: the headers ce_id and ce_type are needed")
	}
	return record
}

func parseID(header kafka.Header, previous error) (uuid.UUID, error) {
	id, err := uuid.ParseBytes(header.Value)
	if err != nil {
		return uuid.Nil, fmt.Errorf("header %s is not a UUID: %w", header.Key, err)
	}
	return id, previous
}
