package pgperffarm

import (
	"strconv"
	"strings"
	"time"
)

// Times must lie in the years that every store and client can show.
var (
	earliest = time.Unix(0, 0).UTC()
	latest   = time.Date(2262, 1, 1, 0, 0, 0, 0, time.UTC)
)

const wantTime = "must be an ISO 8601 date and time such as 2021-07-02T11:00:00+0000, not "

// parseTime reads an ISO 8601 date-time: T or a space between date and time, seconds and fraction optional, offset as
// Z, +hh, +hhmm or +hh:mm, UTC when there is none (section 6.1). The result is cut to microseconds, in UTC. The second
// value says what is wrong, or is "".
func parseTime(s string) (time.Time, string) {
	clock, offset := cutOffset(s)
	layout := "2006-01-02T15:04:05"
	if len(clock) == len("2006-01-02T15:04") {
		layout = "2006-01-02T15:04"
	}
	if len(clock) > 10 && (clock[10] == ' ' || clock[10] == 't') {
		clock = clock[:10] + "T" + clock[11:]
	}
	t, err := time.Parse(layout, clock) // takes a fraction after the seconds without being told
	shift, ok := parseOffset(offset)
	if err != nil || !ok || strings.Contains(clock, ",") {
		return time.Time{}, wantTime + shown([]byte(s))
	}
	t = t.Add(-shift).Truncate(time.Microsecond)
	if t.Before(earliest) || !t.Before(latest) {
		return time.Time{}, "is " + t.Format(time.RFC3339) + ", it must be from 1970 to 2261"
	}
	return t, ""
}

// cutOffset splits a date-time before its offset. A date has hyphens too, so it looks behind it.
func cutOffset(s string) (clock, offset string) {
	const date = len("2006-01-02")
	if len(s) <= date {
		return s, ""
	}
	if i := strings.IndexAny(s[date:], "Zz+-"); i >= 0 {
		return s[:date+i], s[date+i:]
	}
	return s, ""
}

func parseOffset(s string) (time.Duration, bool) {
	if s == "" || s == "Z" || s == "z" {
		return 0, true
	}
	numbers := s[1:]
	if len(numbers) == len("hh:mm") && numbers[2] == ':' {
		numbers = numbers[:2] + numbers[3:]
	}
	if len(numbers) == len("hh") {
		numbers += "00"
	}
	if len(numbers) != len("hhmm") || digits(numbers) != len(numbers) {
		return 0, false
	}
	hours, minutes := twoDigits(numbers), twoDigits(numbers[2:])
	if hours > 23 || minutes > 59 {
		return 0, false
	}
	shift := time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute
	if s[0] == '-' {
		shift = -shift
	}
	return shift, true
}

func twoDigits(s string) int { return int(s[0]-'0')*10 + int(s[1]-'0') }

const maxDays = 100_000 // as many as a time.Duration can hold, rounded down

// parseRuntime reads a duration as Python prints it: H:MM:SS[.ffffff], with "N day, " or "N days, " before it. A clock
// that was set back in between makes N negative. The second value says what is wrong, or is "".
func parseRuntime(s string) (time.Duration, string) {
	days, clock, found := strings.Cut(s, ", ")
	if !found {
		days, clock = "0 days", s
	}
	number, unit, _ := strings.Cut(days, " ")
	n, err := strconv.Atoi(number)
	rest, ok := parseClock(clock)
	if err != nil || !ok || unit != "day" && unit != "days" || n < -maxDays || n > maxDays {
		return 0, "must be a duration such as 0:02:30.500000, not " + shown([]byte(s))
	}
	return time.Duration(n)*24*time.Hour + rest, ""
}

// parseClock reads H:MM:SS[.ffffff].
func parseClock(s string) (time.Duration, bool) {
	s, fraction, hasFraction := strings.Cut(s, ".")
	hours, rest, _ := strings.Cut(s, ":")
	minutes, seconds, _ := strings.Cut(rest, ":")
	h, okHours := clockNumber(hours, 1, 9999)
	m, okMinutes := clockNumber(minutes, 2, 59)
	sec, okSeconds := clockNumber(seconds, 2, 59)
	if !okHours || !okMinutes || !okSeconds || hasFraction && fraction == "" || len(fraction) > 9 ||
		digits(fraction) != len(fraction) {
		return 0, false
	}
	nanoseconds := 0
	for i := range 9 {
		nanoseconds *= 10
		if i < len(fraction) {
			nanoseconds += int(fraction[i] - '0')
		}
	}
	return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute + time.Duration(sec)*time.Second +
		time.Duration(nanoseconds), true
}

// clockNumber reads a number of at least minDigits digits, and at most 4, that is not over high.
func clockNumber(s string, minDigits, high int) (int, bool) {
	if len(s) < minDigits || len(s) > 4 || digits(s) != len(s) {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil && n <= high
}
