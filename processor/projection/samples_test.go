package projection

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

func samplesMessage(metric string, values ...float64) *event.RunSamplesRecorded {
	m := &event.RunSamplesRecorded{RunId: 3, ResultId: 3<<10 + 1, MachineId: 7, ConfigId: 2, BranchId: 1, Metric: metric, Values: values}
	for i := range values {
		m.Times = append(m.Times, runStart.UnixMilli()+int64(i)*1000)
	}
	return m
}

func TestBadSamplesAreRefusedNamingTheSample(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(*event.RunSamplesRecorded)
		want  string
	}{
		"uneven":   {func(m *event.RunSamplesRecorded) { m.Times = m.Times[:1] }, `metric "tps" has 1 times and 2 values`},
		"empty":    {func(m *event.RunSamplesRecorded) { m.Times, m.Values = nil, nil }, `metric "tps" has 0 samples`},
		"unnamed":  {func(m *event.RunSamplesRecorded) { m.Metric = "" }, `metric "" has 2 samples, it must have a name`},
		"NaN":      {func(m *event.RunSamplesRecorded) { m.Values[1] = math.NaN() }, `sample 1 of metric "tps": its value is NaN`},
		"infinite": {func(m *event.RunSamplesRecorded) { m.Values[0] = math.Inf(-1) }, `sample 0 of metric "tps": its value is -Inf`},
		"huge":     {func(m *event.RunSamplesRecorded) { m.Values[0] = 2e150 }, "its value is 2e+150, it must be from -1e150 to 1e150"},
		"early":    {func(m *event.RunSamplesRecorded) { m.Times[0] = -1 }, `sample 0 of metric "tps": its time is -1 ms`},
		"late": {
			func(m *event.RunSamplesRecorded) {
				m.Times[1] = time.Date(2262, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
			},
			"it must be from 1970 to 2261",
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, b := newLab(t), NewBatch()
			good := samplesMessage("latency", 1)
			if err := b.AddSamples(good, l.record(good)); err != nil {
				t.Fatal(err)
			}
			before := dump(b)
			m := samplesMessage("tps", 1, 2)
			test.spoil(m)
			err := b.AddSamples(m, l.record(m))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want %q", err, test.want)
			}
			if diff := cmp.Diff(before, dump(b)); diff != "" {
				t.Errorf("the batch has changed:\n%s", diff)
			}
		})
	}
}

func TestBucketsBeginAtHoursMidnightsAndMondays(t *testing.T) {
	for _, test := range []struct{ at, hour, day, week string }{
		{"1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "1969-12-29T00:00:00Z"},
		{"2021-07-04T23:59:59.999Z", "2021-07-04T23:00:00Z", "2021-07-04T00:00:00Z", "2021-06-28T00:00:00Z"},
		{"2021-07-05T00:00:00Z", "2021-07-05T00:00:00Z", "2021-07-05T00:00:00Z", "2021-07-05T00:00:00Z"},
		{"2261-12-31T23:59:59.999Z", "2261-12-31T23:00:00Z", "2261-12-31T00:00:00Z", "2261-12-30T00:00:00Z"},
	} {
		at, err := time.Parse(time.RFC3339Nano, test.at)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, resolution := range []int64{Hour, Day, Week} {
			start := time.Unix(BucketStart(at.UnixMilli(), resolution), 0).UTC()
			got = append(got, start.Format(time.RFC3339))
			if resolution == Week && start.Weekday() != time.Monday {
				t.Errorf("the week of %s begins on %s", test.at, start.Weekday())
			}
		}
		if diff := cmp.Diff([]string{test.hour, test.day, test.week}, got); diff != "" {
			t.Errorf("buckets of %s (-want +got):\n%s", test.at, diff)
		}
	}
}

func TestEachTouchedHourIsListedOnce(t *testing.T) {
	b, l := NewBatch(), newLab(t)
	for _, seconds := range [][]int64{{0, 1, 3599, 3600, 7200}, {3600, 0, 3601}} { // of the second message not in order
		m := &event.RunSamplesRecorded{MachineId: 1, Metric: "a"}
		for _, s := range seconds {
			m.Times, m.Values = append(m.Times, s*1000), append(m.Values, 1)
		}
		if err := b.AddSamples(m, l.record(m)); err != nil {
			t.Fatal(err)
		}
	}
	a := Series{Machine: 1, Metric: "a"}
	want := []touchedHour{{a, 0}, {a, 3600}, {a, 7200}}
	if diff := cmp.Diff(want, b.metrics.touched(), cmp.AllowUnexported(touchedHour{})); diff != "" {
		t.Errorf("touched hours (-want +got):\n%s", diff)
	}
}

func TestEntriesThatNoTableHoldsAreRefused(t *testing.T) {
	rec := &eventlog.Record{Event: eventlog.Event{ID: uuid.New()}, LogTime: runStart.UnixMilli()}
	untimed := &eventlog.Record{Event: eventlog.Event{ID: uuid.New()}, LogTime: math.MaxInt64}
	for want, add := range map[string]func(b *Batch) error{
		"does not know the user":    func(b *Batch) error { return b.AddUser(nil, 1) },
		"does not know the machine": func(b *Batch) error { return b.AddMachine(nil, 1) },
		"the user's add time is -1 ms": func(b *Batch) error {
			return b.AddUser(&registry.User{AddTime: -1}, 1)
		},
		"the machine's add time is -1 ms": func(b *Batch) error {
			return b.AddMachine(&registry.Machine{AddTime: -1}, 1)
		},
		"the status is 65536": func(b *Batch) error {
			return b.AddRefusal(&event.FarmUploadRefused{Status: 65536}, rec)
		},
		"the record's time is 9223372036854775807 ms": func(b *Batch) error {
			return b.AddRefusal(&event.FarmUploadRefused{Status: 406}, untimed)
		},
		"the partition is 65536": func(b *Batch) error {
			return b.AddDeadLetter(&event.DeadLetter{Place: &event.Place{Partition: 65536}}, rec)
		},
		`dead_letter_id "x" is no UUID`: func(b *Batch) error {
			return b.AddRequeue(&event.DeadLetterRequeued{DeadLetterId: "x"}, rec)
		},
		`requeued_as "y" is no UUID`: func(b *Batch) error {
			return b.AddRequeue(&event.DeadLetterRequeued{DeadLetterId: uuid.NewString(), RequeuedAs: "y"}, rec)
		},
	} {
		b := NewBatch()
		if err := add(b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %q", err, want)
		}
		if b.Rows() != 0 {
			t.Errorf("%q: the batch has %d rows", want, b.Rows())
		}
	}
}
