package ui

import (
	"bytes"
	"context"
	"encoding/hex"
	"net/http"
	"unicode/utf8"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/millrace/millrace/query/native/fresh"
	"github.com/millrace/millrace/query/native/lab"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// lettersShown is how many dead letters are listed; more are found by the API.
const lettersShown = 200

// lettersData is what the list of dead letters shows.
type lettersData struct {
	State   string
	Letters []lab.DeadLetter
	More    bool
}

func (u *UI) letters(c *gin.Context) (sight, error) {
	state, err := route.Text(c, "state")
	if err != nil {
		return sight{}, err
	}
	if state != "" && state != lab.Open && state != lab.Requeued {
		return sight{}, route.Errorf(http.StatusBadRequest, "query parameter state must be %s or %s", lab.Open, lab.Requeued)
	}
	return sight{
		scope: fresh.Scope{Topics: []string{eventlog.DeadLetters}}, template: "letters", tab: "letters",
		read: func(ctx context.Context, v *lab.View) (string, any, error) {
			letters, next, err := v.DeadLetters(ctx, lab.LetterFilter{State: state}, lab.Page{Order: lab.LetterOrders()[1], Limit: lettersShown})
			return "Dead letters", &lettersData{State: state, Letters: letters, More: next != nil}, err
		},
	}, nil
}

// letterData is what a dead letter's page shows.
type letterData struct {
	*lab.Record

	// Shown is the record's event in JSON, or its bytes.
	Shown string
	IsRaw bool
	// Cut says that there are more bytes than shown.
	Cut     bool
	Headers [][2]string
}

// bytesShown bounds the bytes of a record that its page shows.
const bytesShown = 4 << 10

func (u *UI) letter(c *gin.Context) (sight, error) {
	id, err := uuid.Parse(c.Param("id"))
	if err != nil {
		return sight{}, route.Errorf(http.StatusNotFound, "there is no such dead letter: an id is a UUID")
	}
	return sight{
		scope: fresh.Scope{Topics: []string{eventlog.DeadLetters}}, template: "letter", tab: "letters",
		read: func(ctx context.Context, v *lab.View) (string, any, error) {
			record, err := v.DeadLetter(ctx, id)
			if err != nil {
				return "", nil, err
			}
			if record == nil {
				return "", nil, route.Errorf(http.StatusNotFound, "there is no dead letter %s", id)
			}
			return "Dead letter", describeLetter(record), nil
		},
	}, nil
}

func describeLetter(record *lab.Record) *letterData {
	d := &letterData{Record: record}
	for _, h := range record.Headers {
		value := string(h.Value)
		if !utf8.Valid(h.Value) {
			value = hex.EncodeToString(h.Value)
		}
		d.Headers = append(d.Headers, [2]string{h.Name, value})
	}
	if record.Unread == "" {
		text := jsontext.Value(bytes.Clone(record.Event))
		if err := text.Indent(); err == nil {
			d.Shown = string(text)
			return d
		}
	}
	raw := record.Value
	if d.Cut = len(raw) > bytesShown; d.Cut {
		raw = raw[:bytesShown]
	}
	d.Shown, d.IsRaw = hex.Dump(raw), true
	return d
}
