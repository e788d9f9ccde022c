package pgperffarm_test

import (
	"testing"
	"time"

	"github.com/millrace/millrace/processor/pgperffarm"
)

func TestStartTimeIsTheSameInstantInEveryNotation(t *testing.T) {
	want := time.Date(2021, 7, 2, 11, 0, 0, 0, time.UTC)
	for _, s := range []string{
		"2021-07-02T11:00:00+0000", "2021-07-02T11:00:00+00:00", "2021-07-02T11:00:00Z", "2021-07-02T11:00:00",
		"2021-07-02 11:00:00", "2021-07-02 11:00:00.000000+00", "2021-07-02t11:00:00z", "2021-07-02T11:00Z",
		"2021-07-02T13:00:00+0200", "2021-07-02T07:30:00-03:30", "2021-07-03T01:00:00+14:00", "2021-07-02T11:00:00.0Z",
		"2021-07-02T11:00:00.0000009Z",
	} {
		if got := accept(t, pgbenchDoc, set("run_start_time", s)).Start; !got.Equal(want) || got.Location() != time.UTC {
			t.Errorf("%s is %v, want %v", s, got, want)
		}
	}
	got := accept(t, pgbenchDoc, set("run_start_time", "2021-07-02T11:00:00.123456789Z")).Start
	if got != want.Add(123456*time.Microsecond) {
		t.Errorf("fraction is read as %v", got)
	}
}

func TestTimeOfAnotherFormIsRefused(t *testing.T) {
	for _, s := range []string{
		"", "2021-07-02", "11:00:00", "yesterday", "1625223600", "2021-7-2T11:00:00Z", "2021-07-02T11:00:60Z",
		"2021-02-30T11:00:00Z", "2021-07-02T24:00:00Z", "2021-07-02T11:00:00,5Z", "2021-07-02T11:00:00.Z",
		"2021-07-02T11:00:00+1", "2021-07-02T11:00:00+24:00", "2021-07-02T11:00:00+00:60", "2021-07-02T11:00:00+0000 ",
		" 2021-07-02T11:00:00Z", "2021-07-02T11:00:00 +0000", "2021-07-02T11:00:00UTC", "2021-07-02_11:00:00",
		"2021-07-02T11:00:00+00:00:00", "2021-07-02T11:00.5Z", "20210702T110000Z", "+2021-07-02T11:00:00Z",
	} {
		t.Run(s, func(t *testing.T) {
			wantRefused(t, body(t, pgbenchDoc, set("run_start_time", s)), pgperffarm.DefaultLimits(),
				"run_start_time", "must be an ISO 8601 date and time")
		})
	}
	for _, s := range []string{"1969-12-31T23:59:59Z", "1970-01-01T00:00:00+0001", "2262-01-01T00:00:00Z", "9999-12-31T00:00:00Z"} {
		t.Run(s, func(t *testing.T) {
			wantRefused(t, body(t, pgbenchDoc, set("run_start_time", s)), pgperffarm.DefaultLimits(),
				"run_start_time", "it must be from 1970 to 2261")
		})
	}
}

func TestOtherTimesAndDurationsMayBeNull(t *testing.T) {
	doc := accept(t, pgbenchDoc, set("run_received_time", nil), set("run_end_time", nil), set("cleanup_runtime", nil))
	if !doc.Received.IsZero() || !doc.End.IsZero() || doc.Runtimes.Cleanup != nil {
		t.Errorf("received %v, end %v, clean-up %v", doc.Received, doc.End, doc.Runtimes.Cleanup)
	}
}

func TestDurationIsReadAsPythonPrintsIt(t *testing.T) {
	day := 24 * time.Hour
	cases := map[string]time.Duration{
		"0:00:00":                0,
		"0:00:02.250000":         2250 * time.Millisecond,
		"1:02:03":                time.Hour + 2*time.Minute + 3*time.Second,
		"23:59:59.999999":        day - time.Microsecond,
		"1 day, 0:00:01":         day + time.Second,
		"12 days, 1:00:00.5":     12*day + time.Hour + 500*time.Millisecond,
		"-1 day, 23:59:58":       -2 * time.Second,
		"30:00:00":               30 * time.Hour,
		"100000 days, 0:00:00":   100000 * day,
		"0:00:00.000000001":      1,
		"-100000 days, 00:00:00": -100000 * day,
	}
	for s, want := range cases {
		if got := accept(t, pgbenchDoc, set("build_runtime", s)).Runtimes.Build; got == nil || *got != want {
			t.Errorf("%s is %v, want %v", s, got, want)
		}
	}
}

func TestDurationOfAnotherFormIsRefused(t *testing.T) {
	for _, s := range []string{
		"", "5", "0:00", "0:60:00", "0:00:60", "0:0:0", "-0:00:01", "0:00:00.", "0:00:00.1234567890", "0:00:00:00", "1:00:00h",
		"1 week, 0:00:00", "x days, 0:00:00", "100001 days, 0:00:00", "1 day", "1 day,0:00:00", ":00:00", "99999:00:00",
		"0:00:00.-1", "0:+1:00",
	} {
		t.Run(s, func(t *testing.T) {
			wantRefused(t, body(t, pgbenchDoc, set("build_runtime", s)), pgperffarm.DefaultLimits(),
				"build_runtime", "must be a duration such as")
		})
	}
}
