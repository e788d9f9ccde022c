package pgperffarm

import (
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/millrace/millrace/schemas/route"
)

// timestamp is a time in the API's form (2.2): UTC with Z, the fraction cut to milliseconds and left out when the
// microseconds are zero.
type timestamp struct{ time.Time }

// JSONForm is for the API's description.
func (timestamp) JSONForm() (route.Kind, string) { return route.String, "date-time" }

// MarshalJSONTo writes the string.
func (t timestamp) MarshalJSONTo(e *jsontext.Encoder) error {
	return e.WriteValue(appendTimestamp(make([]byte, 0, 32), t.Time))
}

func appendTimestamp(b []byte, t time.Time) []byte {
	layout := `"2006-01-02T15:04:05.000Z"`
	if t.Nanosecond() < int(time.Microsecond) {
		layout = `"2006-01-02T15:04:05Z"`
	}
	return t.UTC().AppendFormat(b, layout)
}
