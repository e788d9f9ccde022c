package lab_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/query/native/lab"
	"github.com/millrace/millrace/query/native/labtest"
)

var series = lab.Series{MachineID: 1, ConfigID: 1, BranchID: 1, Metric: "probe"}

// monday is the first moment of a week.
var monday = time.Date(2026, 2, 2, 0, 0, 0, 0, time.UTC)

// probes adds a run of n samples, a second apart.
func probes(l *labtest.Lab, run uint64, start time.Time, values ...float64) {
	times := make([]int64, len(values))
	for i := range times {
		times[i] = start.Add(time.Duration(i) * time.Second).UnixMilli()
	}
	l.AddSamples(series, run, times, values)
}

func trend(t *testing.T, l *labtest.Lab, q lab.TrendQuery) *lab.Trend {
	t.Helper()
	q.Series = series
	if q.Points == 0 {
		q.Points = lab.DefaultPoints
	}
	got, err := l.View().Trend(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestPointsOfATrendHoldTheStatisticsOfTheirSamples(t *testing.T) {
	l := labtest.New(t)
	probes(l, 7, monday.Add(time.Hour), 4, 1, 3, 2)
	probes(l, 8, monday.Add(26*time.Hour), 10)
	deviation := math.Sqrt(5.0 / 3)
	four := lab.Point{Count: 4, Mean: 2.5, Median: 2.5, P95: 3.8499999999999996, P99: 3.9699999999999998, StdDev: &deviation, Min: 1, Max: 4}
	one := lab.Point{Count: 1, Mean: 10, Median: 10, P95: 10, P99: 10, Min: 10, Max: 10}
	at := func(p lab.Point, hour int, run uint64) lab.Point {
		p.Time, p.RunID = monday.Add(time.Duration(hour)*time.Hour), run
		return p
	}
	for resolution, want := range map[lab.Resolution][]lab.Point{
		lab.PerRun: {at(four, 1, 7), at(one, 26, 8)},
		lab.Hour:   {at(four, 1, 0), at(one, 26, 0)},
		lab.Day:    {at(four, 0, 0), at(one, 24, 0)},
	} {
		got := trend(t, l, lab.TrendQuery{Resolution: resolution})
		if diff := cmp.Diff(want, got.Points); diff != "" {
			t.Errorf("resolution %s (-want +got):\n%s", resolution, diff)
		}
	}
	week := trend(t, l, lab.TrendQuery{Resolution: lab.Week}).Points
	if len(week) != 1 || week[0].Count != 5 || week[0].Mean != 4 || week[0].Max != 10 || !week[0].Time.Equal(monday) {
		t.Errorf("the week's points are %+v", week)
	}
	raw := trend(t, l, lab.TrendQuery{Resolution: lab.Raw}).Points
	if len(raw) != 5 || raw[1].Mean != 1 || raw[1].P99 != 1 || raw[1].StdDev != nil || raw[4].RunID != 8 {
		t.Errorf("raw points are %+v", raw)
	}
}

// What is computed when it is asked for must be what the processor keeps, to the last bit.
func TestRunsAndHoursWithTheSameSamplesHaveTheSameStatistics(t *testing.T) {
	l := labtest.New(t)
	values := make([]float64, 997)
	for i := range values {
		values[i] = math.Mod(float64(i)*math.Pi*1e5, 17.3) - 5
	}
	values[3], values[4] = 0, math.Copysign(0, -1)
	probes(l, 7, monday, values...)
	run, hour := trend(t, l, lab.TrendQuery{Resolution: lab.PerRun}), trend(t, l, lab.TrendQuery{Resolution: lab.Hour})
	run.Points[0].RunID = 0
	if diff := cmp.Diff(hour.Points, run.Points); diff != "" {
		t.Errorf("statistics (-of the hour +of the run):\n%s", diff)
	}
}

func TestAutoTakesTheFinestResolutionWithinThePoints(t *testing.T) {
	l := labtest.New(t)
	l.Together(func() {
		for run := range 30 { // 10 samples in each of two hours of each of 15 days
			start := monday.Add(time.Duration(run/2)*24*time.Hour + time.Duration(run%2)*time.Hour)
			probes(l, uint64(run+1), start, slices.Repeat([]float64{1}, 10)...)
		}
	})
	for points, want := range map[int]lab.Resolution{500: lab.Raw, 300: lab.Raw, 299: lab.PerRun, 30: lab.PerRun, 29: lab.Day, 15: lab.Day, 14: lab.Week, 1: lab.Week} {
		got := trend(t, l, lab.TrendQuery{Resolution: lab.Auto, Points: points})
		if got.Resolution != want || got.Samples != 300 {
			t.Errorf("within %d points: resolution %s of %d samples, want %s of 300", points, got.Resolution, got.Samples, want)
		}
		if len(got.Points) > points && want != lab.Week {
			t.Errorf("within %d points: got %d", points, len(got.Points))
		}
	}
	if got := trend(t, l, lab.TrendQuery{Resolution: lab.Auto, Points: 500, Summed: true}); got.Resolution != lab.PerRun || len(got.Points) != 30 {
		t.Errorf("summed: %d points of resolution %s, want 30 runs", len(got.Points), got.Resolution)
	}
	if got := trend(t, l, lab.TrendQuery{Resolution: lab.Auto, Points: 29, Summed: true}); got.Resolution != lab.Day {
		t.Errorf("summed within 29 points: resolution %s, want day", got.Resolution)
	}
	narrow := trend(t, l, lab.TrendQuery{Resolution: lab.Auto, Points: 14, From: monday, To: monday.Add(30 * time.Minute)})
	if narrow.Resolution != lab.Raw || len(narrow.Points) != 10 {
		t.Errorf("half an hour within 14 points: %d points of resolution %s, want 10 raw ones", len(narrow.Points), narrow.Resolution)
	}
}

func TestRangeShowsTheBucketsThatItTouchesWhole(t *testing.T) {
	l := labtest.New(t)
	for day := range 4 {
		probes(l, uint64(day+1), monday.Add(time.Duration(24*day+12)*time.Hour), 1, 2, 3)
	}
	noon := func(day int) time.Time { return monday.Add(time.Duration(24*day+12) * time.Hour) }
	for name, tc := range map[string]struct {
		resolution lab.Resolution
		from, to   time.Time
		want       int
	}{
		"days from the middle of one to the middle of another": {lab.Day, noon(1), noon(2), 2},
		"a day's end is not in it":                             {lab.Day, monday.Add(24 * time.Hour), monday.Add(48 * time.Hour), 1},
		"without end":                                          {lab.Day, noon(2), time.Time{}, 2},
		"without beginning":                                    {lab.Day, time.Time{}, noon(0).Add(time.Millisecond), 1},
		"raw is exact":                                         {lab.Raw, noon(0).Add(time.Second), noon(1).Add(time.Second), 3},
		"runs are cut":                                         {lab.PerRun, noon(0).Add(time.Second), noon(1).Add(time.Second), 2},
		"nothing":                                              {lab.Auto, noon(9), noon(10), 0},
	} {
		if got := trend(t, l, lab.TrendQuery{Resolution: tc.resolution, From: tc.from, To: tc.to}); len(got.Points) != tc.want {
			t.Errorf("%s: %d points, want %d", name, len(got.Points), tc.want)
		}
	}
}

func TestTrendThatIsTooFineIsRefusedWithTheNumbers(t *testing.T) {
	l := labtest.New(t)
	probes(l, 1, monday, make([]float64, lab.MaxPoints+1)...)
	_, err := l.View().Trend(t.Context(), lab.TrendQuery{Series: series, Resolution: lab.Raw})
	if tooMany, ok := errors.AsType[*lab.TooManyPoints](err); !ok || tooMany.Count != 10_001 || tooMany.Limit != 10_000 {
		t.Errorf("error is %v, want TooManyPoints of 10001 within 10000", err)
	}
	if got := fmt.Sprint(err); got != "resolution raw has 10001 samples in this range and the limit is 10000: take a coarser resolution or a shorter range" {
		t.Errorf("the error says %q", got)
	}
}
