package pgbench

import (
	"fmt"
	"strconv"
	"strings"
)

// Output is what the farm's client cuts out of pgbench's report. The numbers stay text, as they are sent.
type Output struct {
	Mode    string // query mode, "simple" unless pgbench was told otherwise
	Clients string
	Threads string
	Latency string // average, milliseconds
	TPS     string // transactions per second, without the time to connect
	// StatementLatencies has one line "<ms> <statement>" for each command of the script, after an empty first line.
	StatementLatencies string
}

// ParseOutput reads the report that pgbench -r of PostgreSQL 9.6 and later prints for one script. It refuses a report
// that lacks any of the members, and a latency or rate that is not a finite number.
func ParseOutput(text string) (Output, error) {
	var out Output
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		line = strings.TrimSuffix(line, "\r")
		switch {
		case cutInto(&out.Mode, line, "query mode: ", ""):
		case cutInto(&out.Clients, line, "number of clients: ", ""):
		case cutInto(&out.Threads, line, "number of threads: ", ""):
		case cutInto(&out.Latency, line, "latency average = ", " ms"):
		case cutInto(&out.Latency, line, "latency average = ", " ms (including failures)"): // 15 and later
		case cutInto(&out.TPS, line, "tps = ", " (without initial connection time)"): // 14 and later
		case cutInto(&out.TPS, line, "tps = ", " (excluding connections establishing)"): // up to 13
		case strings.HasPrefix(line, statementHeading):
			out.StatementLatencies = statementLatencies(strings.TrimPrefix(line, statementHeading), lines[i+1:])
		}
	}
	return out, out.check(text)
}

// cutInto stores what stands between prefix and suffix in target, and says whether both were there.
func cutInto(target *string, line, prefix, suffix string) bool {
	rest, hasPrefix := strings.CutPrefix(line, prefix)
	value, hasSuffix := strings.CutSuffix(rest, suffix)
	if !hasPrefix || !hasSuffix {
		return false
	}
	*target = strings.TrimSpace(value)
	return true
}

func (o Output) check(text string) error {
	for _, member := range []struct{ name, value string }{
		{"query mode", o.Mode}, {"number of clients", o.Clients}, {"number of threads", o.Threads},
		{"latency average", o.Latency}, {"tps", o.TPS}, {statementHeading, o.StatementLatencies},
	} {
		if member.value == "" {
			return fmt.Errorf("pgbench's report has no %q, it ends with %q", member.name, tail(text, 300))
		}
	}
	for _, number := range []string{o.Latency, o.TPS} {
		if !isDecimal(number) {
			return fmt.Errorf("pgbench reported %q where a decimal number is due", number)
		}
	}
	return nil
}

// statementHeading begins the list of statements. PostgreSQL 15 and later go on with " and failures", or with
// ", failures and retries" when transactions may be tried again, and print these counts after the latency.
const statementHeading = "statement latencies in milliseconds"

// statementLatencies rewrites the list under the heading to lines of latency and statement only.
func statementLatencies(headingRest string, lines []string) string {
	counts := 0
	switch {
	case strings.Contains(headingRest, "retries"):
		counts = 2
	case strings.Contains(headingRest, "failures"):
		counts = 1
	}
	var out strings.Builder
	for _, line := range lines {
		latency, statement, ok := cutStatement(line, counts)
		if !ok {
			break
		}
		fmt.Fprintf(&out, "\n%14s  %s", latency, statement)
	}
	if out.Len() == 0 {
		return ""
	}
	return out.String() + "\n"
}

// cutStatement splits "<ms> [count...] <statement>" and drops the counts.
func cutStatement(line string, counts int) (latency, statement string, ok bool) {
	latency, rest := cutField(line)
	if !isDecimal(latency) {
		return "", "", false
	}
	for range counts {
		var count string
		count, rest = cutField(rest)
		if _, err := strconv.ParseUint(count, 10, 64); err != nil {
			return "", "", false
		}
	}
	statement = strings.TrimSpace(rest)
	return latency, statement, statement != ""
}

// cutField splits a line at the first space after its first word.
func cutField(line string) (field, rest string) {
	field, rest, _ = strings.Cut(strings.TrimLeft(line, " \t"), " ")
	return strings.TrimRight(field, "\r"), rest
}

// isDecimal reports whether text is digits with a decimal point and nothing else: no sign, exponent, NaN or infinity.
func isDecimal(text string) bool {
	whole, fraction, hasPoint := strings.Cut(text, ".")
	return hasPoint && isDigits(whole) && isDigits(fraction)
}

func isDigits(text string) bool {
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return text != ""
}

// tail returns the last limit bytes of text, trimmed.
func tail(text string, limit int) string {
	return strings.TrimSpace(text[max(0, len(text)-limit):])
}
