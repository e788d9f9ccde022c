package pgperffarm

import (
	"math"
	"testing"
)

func TestSummaryIsMeanAndSampleDeviation(t *testing.T) {
	tests := []struct {
		name                 string
		values               []float64
		mean, min, max       float64
		deviation            float64
		withoutDeviation     bool
		deviationIsUnbounded bool
	}{
		{name: "one value has no deviation", values: []float64{3.5}, mean: 3.5, min: 3.5, max: 3.5, withoutDeviation: true},
		{name: "n-1", values: []float64{2, 4, 4, 4, 5, 5, 7, 9}, mean: 5, min: 2, max: 9, deviation: math.Sqrt(32.0 / 7)},
		{name: "equal values", values: []float64{0.1, 0.1, 0.1, 0.1}, mean: 0.1, min: 0.1, max: 0.1, deviation: 0},
		{name: "zeros", values: []float64{0, 0}},
		{name: "sum overflows", values: []float64{1.5e308, 1.5e308}, mean: 1.5e308, min: 1.5e308, max: 1.5e308},
		{name: "squares overflow", values: []float64{0, 2e200}, mean: 1e200, max: 2e200, deviation: math.Sqrt2 * 1e200},
		{name: "deviation overflows", values: []float64{-math.MaxFloat64, math.MaxFloat64}, min: -math.MaxFloat64,
			max: math.MaxFloat64, deviation: math.MaxFloat64},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := summarize(test.values)
			if !near(s.mean, test.mean) || s.min != test.min || s.max != test.max {
				t.Errorf("mean %v, min %v, max %v", s.mean, s.min, s.max)
			}
			switch {
			case test.withoutDeviation != (s.deviation == nil):
				t.Errorf("deviation %v", s.deviation)
			case s.deviation != nil && !near(*s.deviation, test.deviation):
				t.Errorf("deviation %v, want %v", *s.deviation, test.deviation)
			}
		})
	}
}

func near(got, want float64) bool {
	return got == want || math.Abs(got/want-1) < 1e-14 || math.Abs(got) < 1e-16 && want == 0
}

func FuzzSummaryIsAlwaysFinite(f *testing.F) {
	f.Add(1.0, 2.0, 3.0)
	f.Add(math.MaxFloat64, -math.MaxFloat64, 5e-324)
	f.Fuzz(func(t *testing.T, a, b, c float64) {
		values := []float64{a, b, c}
		for _, v := range values {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				t.Skip("refused at the door")
			}
		}
		s := summarize(values)
		for _, v := range []float64{s.mean, s.min, s.max, *s.deviation} {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				t.Errorf("%v give %v and deviation %v, which are no JSON", values, s, *s.deviation)
			}
		}
		if *s.deviation < 0 {
			t.Errorf("%v give the deviation %v", values, *s.deviation)
		}
	})
}
