package pgperffarm

import "math"

// summary is what a trend says of a sample.
type summary struct {
	mean, min, max float64
	// deviation is the sample standard deviation (n-1), nil for a single value.
	deviation *float64
}

// summarize takes the values in their order: sums of floats depend on it, and a rebuild must give the same digits. The
// values are finite, and so are all results: what overflows is computed again with scaled values.
func summarize(values []float64) summary {
	s := summary{min: values[0], max: values[0]}
	for _, v := range values {
		s.min, s.max = min(s.min, v), max(s.max, v)
	}
	mean, deviation := moments(values, 1)
	if math.IsInf(mean, 0) || math.IsInf(deviation, 0) || math.IsNaN(deviation) {
		scale := max(math.Abs(s.min), math.Abs(s.max))
		mean, deviation = moments(values, scale)
		mean, deviation = mean*scale, min(deviation*scale, math.MaxFloat64)
	}
	s.mean = mean
	if len(values) > 1 {
		s.deviation = &deviation
	}
	return s
}

// moments gives mean and sample standard deviation of the values divided by scale.
func moments(values []float64, scale float64) (mean, deviation float64) {
	for _, v := range values {
		mean += v / scale
	}
	mean /= float64(len(values))
	squares := 0.0
	for _, v := range values {
		d := v/scale - mean
		squares += d * d
	}
	return mean, math.Sqrt(squares / float64(max(1, len(values)-1)))
}
