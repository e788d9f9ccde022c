package native_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/millrace/millrace/ingest/door/doortest"
	"github.com/millrace/millrace/ingest/native"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/runs"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.ReleaseMode)
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) { os.Exit(code) }))
}

func now() time.Time { return time.Date(2023, 11, 14, 22, 13, 20, 0, time.UTC) }

// knows run 7 of machine 3, with the result 7169.
func knows(_ context.Context, run, result uint64) (*native.Run, error) {
	if run != 7 || result != 0 && result != 7169 {
		return nil, nil
	}
	return &native.Run{Machine: 3, Branch: 1, Config: 5}, nil
}

func newDoor(t *testing.T) (*gin.Engine, *doortest.Log) {
	t.Helper()
	log := doortest.NewLog(now)
	return newReplica(t, log), log
}

// newReplica is one process of several on a log.
func newReplica(t *testing.T, log *doortest.Log) *gin.Engine {
	t.Helper()
	engine := gin.New()
	n := native.New(native.Dependencies{
		Log: log.Door(), Runs: doortest.NewFold(log, runs.Fold()), KeepKeys: time.Hour, Run: knows, Now: now,
	})
	err := route.Mount(engine, n.Routes(), route.Options{
		APIs: map[string]route.API{native.API: {Authorize: access.Socket}}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

func post(engine *gin.Engine, path, body, key string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	answer := httptest.NewRecorder()
	engine.ServeHTTP(answer, r)
	return answer
}

func TestSamplesStandInTheLogInTheOrderOfTheirTimes(t *testing.T) {
	engine, log := newDoor(t)
	answer := post(engine, "/millrace/v1/runs/7/samples",
		`{"metric": "cpu.user", "result_id": 7169, "points": [[1700000001.5, 2], [1700000000.0004, -1.5e3], [1700000001.5, 3]]}`, "")
	if answer.Code != http.StatusCreated || answer.Body.String() != `{"points":3}` {
		t.Fatalf("answer is %d %s", answer.Code, answer.Body)
	}
	if got := answer.Header().Get(eventlog.PositionHeader); got != "test-log;metrics/0=0" {
		t.Errorf("position is %q", got)
	}
	got, err := log.Records(eventlog.Metrics)[0].Decode()
	if err != nil {
		t.Fatal(err)
	}
	want := &event.RunSamplesRecorded{
		RunId: 7, ResultId: 7169, MachineId: 3, ConfigId: 5, BranchId: 1, Metric: "cpu.user",
		Times: []int64{1700000000000, 1700000001500, 1700000001500}, Values: []float64{-1500, 2, 3},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("event differs (-want +got):\n%s", diff)
	}
}

func TestSamplesRepeatedUnderAKeyAreTheSameEventAtEveryProcess(t *testing.T) {
	engine, log := newDoor(t)
	body := `{"metric": "m", "points": [[1700000000, 1]]}`
	for _, process := range []*gin.Engine{engine, engine, newReplica(t, log)} {
		answer := post(process, "/millrace/v1/runs/7/samples", body, "k1")
		if answer.Code != http.StatusCreated || answer.Body.String() != `{"points":1}` {
			t.Fatalf("answer is %d %s", answer.Code, answer.Body)
		}
	}
	post(engine, "/millrace/v1/runs/7/samples", body, "k2")
	records := log.Records(eventlog.Metrics)
	if records[0].ID != records[1].ID || records[0].ID != records[2].ID || records[0].ID == records[3].ID {
		t.Errorf("the events are %s, %s, %s and under another key %s", records[0].ID, records[1].ID, records[2].ID, records[3].ID)
	}
}

func TestOtherSamplesUnderAKeyAre422AtEveryProcess(t *testing.T) {
	engine, log := newDoor(t)
	post(engine, "/millrace/v1/runs/7/samples", `{"metric": "m", "points": [[1700000000, 1]]}`, "k1")
	for _, process := range []*gin.Engine{engine, newReplica(t, log)} {
		answer := post(process, "/millrace/v1/runs/7/samples", `{"metric": "m", "points": [[1700000000, 2]]}`, "k1")
		if answer.Code != http.StatusUnprocessableEntity || !strings.Contains(answer.Body.String(), "Idempotency-Key") {
			t.Errorf("answer is %d %s, want 422", answer.Code, answer.Body)
		}
	}
	if n := len(log.Records(eventlog.Metrics)); n != 1 {
		t.Errorf("%d events were appended, want that of the first request", n)
	}
}

// TestARepeatRecordsSamplesThatACrashKeptOutOfTheLog: the first request got its key and no further.
func TestARepeatRecordsSamplesThatACrashKeptOutOfTheLog(t *testing.T) {
	engine, log := newDoor(t)
	log.Fail(func(e eventlog.Event) error {
		if e.Type == "millrace.event.v1.RunSamplesRecorded" {
			return eventlog.ErrUnsettled
		}
		return nil
	})
	body, path := `{"metric": "m", "points": [[1700000000, 1]]}`, "/millrace/v1/runs/7/samples"
	if answer := post(engine, path, body, "k1"); answer.Code != http.StatusServiceUnavailable {
		t.Fatalf("answer is %d %s", answer.Code, answer.Body)
	}
	log.Fail(nil)
	if answer := post(newReplica(t, log), path, body, "k1"); answer.Code != http.StatusCreated {
		t.Fatalf("the repeat is answered %d %s", answer.Code, answer.Body)
	}
	first, err := log.Records(eventlog.Runs)[0].Decode()
	if err != nil {
		t.Fatal(err)
	}
	if id := log.Records(eventlog.Metrics)[0].ID; string(id[:]) != string(first.(*event.FactKeyRequested).GetFactId()) {
		t.Errorf("the samples are the event %s, not the one that the first request's were to be", id)
	}
}

func TestSamplesOfOneSeriesGoToOnePartition(t *testing.T) {
	engine, log := newDoor(t)
	for _, metric := range []string{"a", "b", "a"} {
		post(engine, "/millrace/v1/runs/7/samples", `{"metric": "`+metric+`", "points": [[1700000000, 1]]}`, "")
	}
	records := log.Records(eventlog.Metrics)
	if string(records[0].Key) != string(records[2].Key) || string(records[0].Key) == string(records[1].Key) {
		t.Errorf("keys are %x, %x, %x", records[0].Key, records[1].Key, records[2].Key)
	}
}

func TestSamplesOfWhatIsNoRunAre404(t *testing.T) {
	engine, log := newDoor(t)
	for path, body := range map[string]string{
		"/millrace/v1/runs/8/samples":                    `{"metric": "m", "points": [[1700000000, 1]]}`,
		"/millrace/v1/runs/x/samples":                    `{"metric": "m", "points": [[1700000000, 1]]}`,
		"/millrace/v1/runs/-1/samples":                   `{"metric": "m", "points": [[1700000000, 1]]}`,
		"/millrace/v1/runs/99999999999999999999/samples": `{"metric": "m", "points": [[1700000000, 1]]}`,
		"/millrace/v1/runs/7/samples":                    `{"metric": "m", "result_id": 7170, "points": [[1700000000, 1]]}`,
	} {
		if answer := post(engine, path, body, ""); answer.Code != http.StatusNotFound {
			t.Errorf("%s: %d %s, want 404", path, answer.Code, answer.Body)
		}
	}
	if n := len(log.Records(eventlog.Metrics)); n != 0 {
		t.Errorf("%d events were appended", n)
	}
}

func TestSamplesThatAreWrongAre400NamingPlaceAndLimit(t *testing.T) {
	engine, log := newDoor(t)
	points := func(n int) string {
		return "[" + strings.TrimSuffix(strings.Repeat("[1700000000,1],", n), ",") + "]"
	}
	point := func(pair string) string { return `{"metric": "m", "points": [[1700000000, 1], ` + pair + `]}` }
	cases := map[string]struct {
		body string
		says []string
	}{
		"no metric":         {`{"points": [[1700000000, 1]]}`, []string{"metric"}},
		"metric's name":     {`{"metric": "a b", "points": [[1700000000, 1]]}`, []string{"/metric", "100"}},
		"long metric":       {`{"metric": "` + strings.Repeat("a", 101) + `", "points": [[1700000000, 1]]}`, []string{"/metric", "100"}},
		"no points":         {`{"metric": "m"}`, []string{"points"}},
		"points empty":      {`{"metric": "m", "points": []}`, []string{"/points"}},
		"points null":       {`{"metric": "m", "points": null}`, []string{"/points"}},
		"too many":          {`{"metric": "m", "points": ` + points(native.MaxPoints+1) + `}`, []string{"/points", "10001", "10000"}},
		"before 2000":       {point(`[946684799, 1]`), []string{"/points/1/0", "2000-01-01"}},
		"in the future":     {point(`[1700086401, 1]`), []string{"/points/1/0", "a day from now"}},
		"milliseconds":      {point(`[1700000000000, 1]`), []string{"/points/1/0", "milliseconds"}},
		"value too great":   {point(`[1700000000, 2e150]`), []string{"/points/1/1", "1e150"}},
		"value overflows":   {point(`[1700000000, 1e999]`), []string{"/points/1/1"}},
		"value is NaN":      {point(`[1700000000, NaN]`), []string{"JSON"}},
		"value is a string": {point(`[1700000000, "1"]`), []string{"/points/1/1"}},
		"value is null":     {point(`[1700000000, null]`), []string{"/points/1/1"}},
		"half a pair":       {point(`[1700000000]`), []string{"/points/1"}},
		"three":             {point(`[1700000000, 1, 2]`), []string{"/points/1"}},
		"unknown member":    {`{"metric": "m", "points": [[1700000000, 1]], "unit": "s"}`, []string{"unit"}},
		"negative result":   {`{"metric": "m", "result_id": -1, "points": [[1700000000, 1]]}`, []string{"result_id"}},
		"too deep":          {`{"metric": "m", "points": [[[[[1]]]]]}`, []string{"deeper"}},
		"not JSON":          {`{`, []string{"JSON"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			answer := post(engine, "/millrace/v1/runs/7/samples", tc.body, "")
			if answer.Code != http.StatusBadRequest {
				t.Errorf("status is %d, want 400", answer.Code)
			}
			for _, text := range tc.says {
				if !strings.Contains(answer.Body.String(), text) {
					t.Errorf("body is %s, want it to say %q", answer.Body, text)
				}
			}
		})
	}
	if n := len(log.Records(eventlog.Metrics)); n != 0 {
		t.Errorf("%d events were appended", n)
	}
}

func TestTheMostPointsFitARecord(t *testing.T) {
	engine, log := newDoor(t)
	var points strings.Builder
	for i := range native.MaxPoints {
		fmt.Fprintf(&points, "[%d.%03d,%d.5],", 1700000000+i, i%1000, i)
	}
	body := `{"metric": "m", "points": [` + strings.TrimSuffix(points.String(), ",") + `]}`
	if answer := post(engine, "/millrace/v1/runs/7/samples", body, ""); answer.Code != http.StatusCreated {
		t.Fatalf("answer is %d %s", answer.Code, answer.Body)
	}
	if size := len(log.Records(eventlog.Metrics)[0].Data); size > eventlog.MaxRecordBytes-1024 {
		t.Errorf("the event has %d bytes, a record at most %d", size, eventlog.MaxRecordBytes)
	}
}

func TestSamplesWithoutTheLogAre503(t *testing.T) {
	engine, log := newDoor(t)
	log.Fail(func(eventlog.Event) error { return eventlog.ErrOverloaded })
	answer := post(engine, "/millrace/v1/runs/7/samples", `{"metric": "m", "points": [[1700000000, 1]]}`, "")
	if answer.Code != http.StatusServiceUnavailable || answer.Header().Get("Retry-After") == "" {
		t.Errorf("answer is %d %s, want 503 with Retry-After", answer.Code, answer.Body)
	}
}
