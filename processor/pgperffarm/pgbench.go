package pgperffarm

import (
	"github.com/go-json-experiment/json/jsontext"
)

// pgbench reads the results of the built-in scripts and those of custom ones. A document with custom scripts has
// pgbench_custom in the place of pgbench (section 6.4).
func (p *parser) pgbench() {
	if p.present("pgbench_custom") {
		p.doc.Custom = true
		p.tests("pgbench_custom", true)
	}
	if !p.doc.Custom || p.present("pgbench") {
		p.tests("pgbench", false)
	}
	p.aggregateLogs()
}

// present reports whether a member has a value other than null.
func (p *parser) present(member string) bool {
	value := p.members.get(member)
	return value != nil && value.Kind() != jsontext.KindNull
}

func (p *parser) tests(member string, custom bool) {
	p.need(member)
	for range p.elements() {
		p.test(custom)
	}
}

// test reads the results of one configured test. Members may come in any order, so the results learn their
// configuration at the end. Results of a client count that the test does not list are dropped, as upstream does; a count
// that it lists twice counts once.
func (p *parser) test(custom bool) {
	first := len(p.doc.Results)
	counts := make(map[int]struct{})
	var config Result
	p.object([]string{"clients", "scale", "duration", "read_only", "iterations"}, func(name []byte) bool {
		switch string(name) {
		case "clients":
			for range p.elements() {
				counts[int(p.integer(1, maxInt4))] = struct{}{}
			}
		case "scale":
			config.Scale = int(p.integer(1, maxInt4))
		case "duration":
			config.Duration = int(p.integer(1, maxInt4))
		case "read_only":
			config.ReadOnly = p.boolean()
		case "iterations":
			p.iterations()
		default:
			return false
		}
		return true
	})
	kept := p.doc.Results[:first]
	for _, result := range p.doc.Results[first:] {
		if _, listed := counts[result.Clients]; !listed {
			continue
		}
		result.Scale, result.Duration, result.ReadOnly = config.Scale, config.Duration, config.ReadOnly
		result.Custom = custom
		kept = append(kept, result)
	}
	p.doc.Results = kept
}

func (p *parser) iterations() {
	for range p.elements() {
		if len(p.doc.Results) == p.limits.MaxResults {
			p.value()
			p.fail("is one result more than one document may hold, the limit is %d", p.limits.MaxResults)
			return
		}
		p.iteration()
	}
}

func (p *parser) iteration() {
	var r Result
	required := []string{
		"clients", "tps", "latency", "mode", "statement_latencies", "start", "end", "init", "iteration",
		"pg_stat_statements", "collectd",
	}
	p.object(required, func(name []byte) bool {
		switch string(name) {
		case "clients":
			r.Clients = int(p.looseInteger(1, maxInt4))
		case "tps":
			r.TPS = p.measure()
		case "latency":
			r.Latency = p.measure()
		case "mode":
			r.Mode = p.mode()
		case "statement_latencies":
			r.Statements = p.statementLatencies()
		case "start":
			r.Start = p.instant()
		case "end":
			r.End = p.instant()
		case "init":
			r.Init = p.measure()
		case "iteration":
			r.Iteration = int(p.integer(0, maxInt4))
		case "pg_stat_statements":
			r.StatStatements = p.statStatements()
		case "collectd":
			r.Collectd = p.collectd()
		default:
			return false
		}
		return true
	})
	p.doc.Results = append(p.doc.Results, r)
}

// mode reads the query mode. The client sends -1 when it does not find it in pgbench's output.
func (p *parser) mode() string {
	if p.kind() == jsontext.KindNumber {
		p.integer(-1, -1)
		return ""
	}
	return p.text(maxName)
}
