package native_test

import (
	"math"
	"net/http"
	"slices"
	"testing"

	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// FuzzSamples sends any body: what is taken can be projected, what is not says why.
func FuzzSamples(f *testing.F) {
	f.Add(`{"metric": "cpu.user", "points": [[1700000001.5, 2], [1700000000, -1.5e3]]}`)
	f.Add(`{"metric": "m", "result_id": 7169, "points": [[946684800, 1e150]]}`)
	f.Add(`{"metric": "m", "points": [[1e308, 1]]}`)
	f.Add(`{"metric": "m", "points": [[-0, 1e-320]]}`)
	f.Fuzz(func(t *testing.T, body string) {
		engine, log := newDoor(t)
		answer := post(engine, "/millrace/v1/runs/7/samples", body, "")
		switch answer.Code {
		case http.StatusBadRequest, http.StatusNotFound, http.StatusRequestEntityTooLarge:
			return
		case http.StatusCreated:
		default:
			t.Fatalf("answer is %d %s", answer.Code, answer.Body)
		}
		decoded, err := log.Records(eventlog.Metrics)[0].Decode()
		if err != nil {
			t.Fatal(err)
		}
		samples := decoded.(*event.RunSamplesRecorded)
		if len(samples.GetTimes()) == 0 || len(samples.GetTimes()) != len(samples.GetValues()) || !slices.IsSorted(samples.GetTimes()) {
			t.Errorf("times are %v of %d values", samples.GetTimes(), len(samples.GetValues()))
		}
		for _, value := range samples.GetValues() {
			if !(math.Abs(value) <= 1e150) {
				t.Errorf("value %g is taken", value)
			}
		}
	})
}
