package lab

import (
	"context"
	"encoding/hex"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/millrace/millrace/query/native/cursor"
	"github.com/millrace/millrace/schemas/eventlog"
)

// States of dead letters.
const (
	Open     = "open"
	Requeued = "requeued"
)

// DeadLetter is a record of the log that could not be projected.
type DeadLetter struct {
	ID          string    `json:"dead_letter_id" ch:"dead_letter_id"`
	At          time.Time `json:"at" ch:"at" doc:"when it was given up"`
	State       string    `json:"state" ch:"-" doc:"open, or requeued"`
	RequeuedAs  []string  `json:"requeued_as" ch:"-" doc:"ids of the events under which it was appended again"`
	Topic       string    `json:"topic" ch:"topic"`
	Partition   uint16    `json:"partition" ch:"partition"`
	Offset      int64     `json:"offset" ch:"offset"`
	Epoch       uint32    `json:"epoch" ch:"epoch" doc:"number of the log, from 1: offsets begin again in another one"`
	EventID     string    `json:"event_id" ch:"event_id"`
	EventType   string    `json:"event_type" ch:"event_type"`
	Reason      string    `json:"reason" ch:"reason"`
	CodeVersion string    `json:"code_version" ch:"code_version" doc:"version of the code that gave up"`
}

// Record is a dead letter with the record as it was.
type Record struct {
	DeadLetter

	Key     []byte         `json:"key" ch:"-"`
	Headers []Header       `json:"headers" ch:"-"`
	Value   []byte         `json:"value" ch:"-" doc:"the record's value as it was"`
	Event   jsontext.Value `json:"event" ch:"-" doc:"the value as an event in JSON, null when it is none"`
	Unread  string         `json:"event_error,omitempty" ch:"-" doc:"why the value cannot be read as an event"`
}

// Header is a header of a record.
type Header struct {
	Name  string `json:"name"`
	Value []byte `json:"value"`
}

// LetterOrders are the orders of dead letters: by time. There are few, so that their times are read as a whole.
func LetterOrders() []Order {
	return both("at", column{"at", millis}, column{"dead_letter_id", identifier})
}

// LetterFilter says which dead letters are wanted; a zero field wants all.
type LetterFilter struct{ Topic, State string }

// DeadLetters reads a page of dead letters.
func (v *View) DeadLetters(ctx context.Context, filter LetterFilter, page Page) ([]DeadLetter, cursor.Key, error) {
	s := selection{columns: columnsOf[DeadLetter](nil), from: "{db}.dead_letters"}
	equal(&s.where, "topic", filter.Topic)
	switch filter.State {
	case Open:
		s.where.and("dead_letter_id NOT IN (SELECT dead_letter_id FROM {db}.dead_letter_requeues)")
	case Requeued:
		s.where.and("dead_letter_id IN (SELECT dead_letter_id FROM {db}.dead_letter_requeues)")
	}
	letters, next, err := list(ctx, v, "dead letters", s, page, func(l *DeadLetter) cursor.Key {
		return cursor.Key{{Number: uint64(l.At.UnixMilli())}, {Text: l.ID}}
	})
	if err != nil {
		return nil, nil, err
	}
	return letters, next, v.addRequeues(ctx, letters)
}

type requeue struct {
	Letter string `ch:"dead_letter_id"`
	As     string `ch:"requeued_as"`
}

func (v *View) addRequeues(ctx context.Context, letters []DeadLetter) error {
	if len(letters) == 0 {
		return nil
	}
	ids := make([]string, len(letters))
	for i := range letters {
		ids[i] = letters[i].ID
	}
	text := "SELECT dead_letter_id, requeued_as\nFROM {db}.dead_letter_requeues FINAL\nWHERE dead_letter_id IN (?)\nORDER BY at, requeued_as"
	rows, err := scan[requeue](ctx, v, "requeues", in(v.database, text), ids)
	if err != nil {
		return err
	}
	again := make(map[string][]string, len(rows))
	for _, row := range rows {
		again[row.Letter] = append(again[row.Letter], row.As)
	}
	for i := range letters {
		l := &letters[i]
		l.State, l.RequeuedAs = Open, []string{}
		if list := again[l.ID]; len(list) > 0 {
			l.State, l.RequeuedAs = Requeued, list
		}
	}
	return nil
}

// rawRecord is what a dead letter's row has beside its description.
type rawRecord struct {
	Key     string  `ch:"key"`
	Headers [][]any `ch:"headers"`
	Value   string  `ch:"value"`
}

// DeadLetter reads a dead letter with its record, nil when there is none.
func (v *View) DeadLetter(ctx context.Context, id uuid.UUID) (*Record, error) {
	const where = "\nFROM {db}.dead_letters\nWHERE dead_letter_id = ?\nLIMIT 1"
	described, err := scan[DeadLetter](ctx, v, "a dead letter",
		in(v.database, "SELECT "+strings.Join(columnsOf[DeadLetter](nil), ", ")+where), id.String())
	if err != nil || len(described) == 0 {
		return nil, err
	}
	if err := v.addRequeues(ctx, described); err != nil {
		return nil, err
	}
	rows, err := scan[rawRecord](ctx, v, "a dead letter", in(v.database, "SELECT key, headers, value"+where), id.String())
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	record := &Record{DeadLetter: described[0], Key: []byte(rows[0].Key), Value: []byte(rows[0].Value), Headers: headers(rows[0].Headers)}
	record.decode()
	return record, nil
}

func headers(rows [][]any) []Header {
	list := make([]Header, 0, len(rows))
	for _, pair := range rows {
		name, _ := pair[0].(string)
		value, _ := pair[1].(string)
		list = append(list, Header{Name: name, Value: []byte(value)})
	}
	return list
}

// decode tries to show the record's value as an event.
func (r *Record) decode() {
	r.Event = jsontext.Value("null")
	of := eventlog.Event{Type: r.EventType, Data: r.Value}
	message, err := of.Decode()
	if err != nil {
		r.Unread = err.Error()
		return
	}
	text, err := protojson.Marshal(message)
	if err != nil {
		r.Unread = err.Error()
		return
	}
	r.Event = text
	if err := r.Event.Compact(); err != nil {
		r.Event, r.Unread = jsontext.Value("null"), err.Error()
	}
}

// Refusal is an upload that was turned away.
type Refusal struct {
	At        time.Time `json:"at" ch:"at"`
	EventID   string    `json:"event_id" ch:"event_id"`
	MachineID uint64    `json:"machine_id" ch:"machine_id" doc:"0 when the secret named no machine"`
	Status    uint16    `json:"status" ch:"status" doc:"HTTP status that it was answered with"`
	Reason    string    `json:"reason" ch:"reason"`
	SHA256    string    `json:"sha256" ch:"sha256" doc:"of the body as received, in hexadecimal"`
	Size      uint64    `json:"size" ch:"size" doc:"of the body as received, bytes"`
}

// RefusalOrders are the orders of refused uploads: by time, as the table is stored.
func RefusalOrders() []Order { return both("at", column{"at", millis}, column{"event_id", identifier}) }

// RefusalFilter says which refused uploads are wanted; a zero field wants all.
type RefusalFilter struct {
	Machine  uint64
	From, To time.Time
}

// Refusals reads a page of refused uploads.
func (v *View) Refusals(ctx context.Context, filter RefusalFilter, page Page) ([]Refusal, cursor.Key, error) {
	s := selection{columns: columnsOf[Refusal](nil), from: "{db}.refused_uploads"}
	equal(&s.where, "machine_id", filter.Machine)
	s.where.since(column{"at", millis}, filter.From, filter.To)
	refusals, next, err := list(ctx, v, "refused uploads", s, page, func(r *Refusal) cursor.Key {
		return cursor.Key{{Number: uint64(r.At.UnixMilli())}, {Text: r.EventID}}
	})
	for i := range refusals {
		refusals[i].SHA256 = hex.EncodeToString([]byte(refusals[i].SHA256))
	}
	return refusals, next, err
}
