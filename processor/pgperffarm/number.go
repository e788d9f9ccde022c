package pgperffarm

import (
	"bytes"
	"math"
	"strconv"
)

// exactFloat bounds the integers that a float64 holds exactly.
const exactFloat = 1 << 53

// parseFloat reads a decimal numeral as tools print them: no hexadecimal, no digit groups, no NaN, no infinity.
func parseFloat(b []byte) (float64, bool) {
	if !decimal(b) {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(b), 64)
	return f, err == nil
}

func decimal(b []byte) bool {
	if len(b) == 0 {
		return false
	}
	for _, c := range b {
		if (c < '0' || c > '9') && c != '.' && c != '-' && c != '+' && c != 'e' && c != 'E' {
			return false
		}
	}
	return true
}

// parseInteger reads an integer; 8.0 and 3e9 are integers too, as long as a float64 holds them exactly.
func parseInteger(b []byte) (int64, bool) {
	if n, rest, ok := leadingInteger(b); ok && len(rest) == 0 {
		return n, true
	}
	f, ok := parseFloat(b)
	if !ok || f != math.Trunc(f) || math.Abs(f) > exactFloat {
		return 0, false
	}
	return int64(f), true
}

// truncated reads a number and cuts its fraction off, towards zero. Plain numerals keep all digits of an int64.
func truncated(b []byte) (int64, bool) {
	if !decimal(b) {
		return 0, false
	}
	whole, fraction, _ := bytes.Cut(b, []byte("."))
	if n, rest, ok := leadingInteger(whole); ok && len(rest) == 0 && digits(fraction) == len(fraction) {
		return n, true
	}
	f, ok := parseFloat(b)
	if !ok || f >= math.MaxInt64 || f <= math.MinInt64 {
		return 0, false
	}
	return int64(f), true
}

// leadingInteger reads the integer at the start of b and returns what follows it. It fails without a digit and beyond
// the range of int64.
func leadingInteger(b []byte) (n int64, rest []byte, ok bool) {
	start := 0
	negative := len(b) > 0 && b[0] == '-'
	if negative || len(b) > 0 && b[0] == '+' {
		start = 1
	}
	end := start
	for ; end < len(b) && b[end] >= '0' && b[end] <= '9'; end++ {
		n = n*10 + int64(b[end]-'0') // wraps around only beyond 18 digits
	}
	if end-start > 18 {
		n, err := strconv.ParseInt(string(b[:end]), 10, 64)
		return n, b[end:], err == nil
	}
	if negative {
		n = -n
	}
	return n, b[end:], end > start
}

// digits counts the digits at the start of b.
func digits[T []byte | string](b T) int {
	for i := range len(b) {
		if b[i] < '0' || b[i] > '9' {
			return i
		}
	}
	return len(b)
}
