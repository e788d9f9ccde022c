package pgperffarm

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// logKey names the invocation of pgbench that a log belongs to.
type logKey struct {
	clients, scale, duration, iteration int
	readOnly                            bool
}

func (k logKey) String() string {
	mode := "rw"
	if k.readOnly {
		mode = "ro"
	}
	return fmt.Sprintf("pgbench-%s-%d-%d-%d-%d-", mode, k.scale, k.duration, k.clients, k.iteration)
}

func (r *Result) logKey() logKey {
	return logKey{
		clients: r.Clients, scale: r.Scale, duration: r.Duration, iteration: r.Iteration, readOnly: r.ReadOnly,
	}
}

// invocation collects the log of one invocation of pgbench, and says how many results share it.
type invocation struct {
	results int
	found   bool
	lines   []LogLine
}

// aggregateLogs reads the per-second logs. Each result gets those of its own iteration, one file for each pgbench
// thread (weakness W16); logs that belong to no result are ignored. A result without a log is refused as upstream does,
// except those of custom scripts, whose log names are not specified.
func (p *parser) aggregateLogs() {
	invocations := make(map[logKey]*invocation, len(p.doc.Results))
	for i := range p.doc.Results {
		key := p.doc.Results[i].logKey()
		if invocations[key] == nil {
			invocations[key] = new(invocation)
		}
		invocations[key].results++
	}
	p.need("pgbench_log_aggregate")
	for range p.elements() {
		p.object(nil, func(name []byte) bool {
			key, ok := parseLogKey(name)
			if !ok || invocations[key] == nil {
				return false
			}
			p.aggregateLog(invocations[key])
			return true
		})
	}
	if p.err != nil {
		return
	}
	for i := range p.doc.Results {
		result := &p.doc.Results[i]
		log := invocations[result.logKey()]
		if !log.found && !result.Custom {
			p.fail("has no log of the result %v", result.logKey())
			return
		}
		result.Log = log.lines
	}
}

// parseLogKey reads pgbench-<ro or rw>-<scale>-<duration>-<clients>-<iteration>-<rest>.
func parseLogKey(name []byte) (key logKey, ok bool) {
	rest, ok := bytes.CutPrefix(name, []byte("pgbench-"))
	if !ok {
		return logKey{}, false
	}
	mode, rest, _ := bytes.Cut(rest, []byte("-"))
	switch string(mode) {
	case "ro":
		key.readOnly = true
	case "rw":
	default:
		return logKey{}, false
	}
	for _, field := range []*int{&key.scale, &key.duration, &key.clients, &key.iteration} {
		var number []byte
		number, rest, _ = bytes.Cut(rest, []byte("-"))
		n, err := strconv.Atoi(string(number))
		if err != nil {
			return logKey{}, false
		}
		*field = n
	}
	return key, true
}

// aggregateLog reads the text of one log file and appends its lines.
func (p *parser) aggregateLog(log *invocation) {
	raw := p.value()
	if p.err == nil && raw.Kind() != '"' {
		p.mustBe("a string", raw)
	}
	if p.err != nil {
		return
	}
	text, separator, lines := p.logText(raw)
	log.found = true
	const shortest = len("0 0 0 0 0 0")
	room := min(lines, (len(text)+1)/(shortest+1), p.limits.MaxRows)
	log.lines = slices.Grow(log.lines, room)
	for number := 1; len(text) > 0; number++ {
		entry, rest, plain := plainLogLine(text, separator)
		if !plain {
			var line []byte
			line, rest, _ = bytes.Cut(text, separator)
			if line = bytes.TrimSpace(line); len(line) == 0 {
				text = rest
				continue
			}
			var bad string
			if entry, bad = parseLogLine(line); bad != "" {
				p.fail("line %d %s", number, bad)
				return
			}
		}
		if entry.Second < earliest.Unix() || entry.Second >= latest.Unix() {
			p.fail("line %d is of second %d, it must be from 1970 to 2261", number, entry.Second)
			return
		}
		if !p.roomFor(&p.counts.logs, log.results, "log lines") {
			return
		}
		log.lines = append(log.lines, entry)
		text = rest
	}
}

// logText gives the content of a JSON string with what separates its lines, and how many there are at most. A string
// whose only escapes are its line feeds is taken as it stands.
func (p *parser) logText(raw jsontext.Value) (text, separator []byte, lines int) {
	text, separator, lines = raw[1:len(raw)-1], []byte(`\n`), 1
	for at := 0; ; lines++ {
		next := bytes.IndexByte(text[at:], '\\')
		if next < 0 {
			return text, separator, lines
		}
		if at += next; text[at+1] != 'n' {
			break
		}
		at += 2
	}
	p.scratch = slices.Grow(p.scratch[:0], len(raw))
	text = p.unquote(raw, p.scratch)
	return text, []byte("\n"), bytes.Count(text, []byte("\n")) + 1
}

// plainLogLine reads the first line of a log as pgbench writes it, six integers with one space between them, and returns
// what follows it. Most of a large document are such lines.
func plainLogLine(text, separator []byte) (entry LogLine, rest []byte, ok bool) {
	var fields [6]int64
	at := 0
	for i := range fields {
		if i > 0 {
			if at == len(text) || text[at] != ' ' {
				return LogLine{}, nil, false
			}
			at++
		}
		start, n := at, int64(0)
		for ; at < len(text) && text[at]-'0' <= 9; at++ {
			n = n*10 + int64(text[at]-'0')
		}
		if at == start || at-start > 18 { // more may not fit
			return LogLine{}, nil, false
		}
		fields[i] = n
	}
	rest, ok = bytes.CutPrefix(text[at:], separator)
	entry = LogLine{
		Second: fields[0], Transactions: fields[1], Sum: fields[2], Sum2: fields[3], Min: fields[4], Max: fields[5],
	}
	return entry, rest, ok || at == len(text)
}

// parseLogLine reads the six integers at the start of a line; what follows them is ignored.
func parseLogLine(line []byte) (entry LogLine, bad string) {
	const want = "six integers: second, transactions, sum, sum of squares, minimum, maximum"
	rest := line
	for i, field := range []*int64{
		&entry.Second, &entry.Transactions, &entry.Sum, &entry.Sum2, &entry.Min, &entry.Max,
	} {
		n, after, ok := leadingInteger(rest)
		if !ok || len(after) > 0 && !space(after[0]) {
			return LogLine{}, fmt.Sprintf("has no integer at place %d, it must begin with %s: %s", i+1, want, shown(line))
		}
		*field = n
		for len(after) > 0 && space(after[0]) {
			after = after[1:]
		}
		rest = after
	}
	return entry, ""
}

func space(c byte) bool { return c == ' ' || c == '\t' }
