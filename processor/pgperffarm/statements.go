package pgperffarm

import (
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// statementLatencies reads what pgbench prints for each statement (section 6.2). The client's parser does not know the
// heading of PostgreSQL 15 and later and then sends -1 (weakness W20); whatever is no string of lines brings no
// statements.
func (p *parser) statementLatencies() []Statement {
	if p.kind() != jsontext.KindString {
		p.value()
		return nil
	}
	text := p.text(0)
	if strings.IndexByte(text, '\n') < 0 {
		return nil
	}
	var statements []Statement
	for line := range strings.Lines(text) {
		start, end := firstDecimal(line)
		if end == 0 {
			continue // a heading or the rest of a statement, which is no reason to lose the upload (weakness W16)
		}
		latency, ok := parseFloat([]byte(line[start:end]))
		if !ok {
			p.fail("has a latency that is no finite number: %s", shown([]byte(line[start:end])))
			return nil
		}
		if !p.roomFor(&p.counts.statements, 1, "statements") {
			return nil
		}
		statements = append(statements, Statement{
			Line:    len(statements),
			Latency: latency,
			Text:    strings.Clone(strings.TrimSpace(line[end:])),
		})
	}
	return statements
}

// firstDecimal finds the first digits with a point and digits behind them. The end is 0 when there are none.
func firstDecimal(line string) (start, end int) {
	for at := 0; at < len(line); at++ {
		point := strings.IndexByte(line[at:], '.')
		if point < 0 {
			return 0, 0
		}
		at += point
		fraction := digits(line[at+1:])
		start = at
		for start > 0 && line[start-1] >= '0' && line[start-1] <= '9' {
			start--
		}
		if start < at && fraction > 0 {
			return start, at + 1 + fraction
		}
	}
	return 0, 0
}
