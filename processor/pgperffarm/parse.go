package pgperffarm

import (
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Limits bound what one document may hold. A limit outside its range counts as its maximum.
type Limits struct {
	MaxDepth   int // nesting of arrays and objects, 1 to 1000
	MaxResults int // pgbench invocations, 1 to 1023
	MaxRows    int // rows of one kind (log lines, statements, ...) in the whole document, 1 to 1<<20-1
}

// The largest limits. Ids of rows are the run's id with the row's number in 20 bits, those of results with 10 bits.
const (
	depthCeiling   = 1000
	resultsCeiling = 1<<10 - 1
	rowsCeiling    = 1<<20 - 1
)

// DefaultLimits returns the limits of the API: a depth of 64 and the largest number of results and rows.
func DefaultLimits() Limits {
	return Limits{MaxDepth: 64, MaxResults: resultsCeiling, MaxRows: rowsCeiling}
}

func (l Limits) bounded() Limits {
	bound := func(limit, ceiling int) int {
		if limit < 1 || limit > ceiling {
			return ceiling
		}
		return limit
	}
	return Limits{
		MaxDepth:   bound(l.MaxDepth, depthCeiling),
		MaxResults: bound(l.MaxResults, resultsCeiling),
		MaxRows:    bound(l.MaxRows, rowsCeiling),
	}
}

// Lengths in characters, from the data model (sections 4.2 to 4.5).
const (
	maxName     = 100
	maxCompiler = 200
)

const maxInt4 = 1<<31 - 1

// Parse reads one upload (section 6). It fails with a *FormatError when the body is not an upload at all, and with a
// *DocumentError when a member is missing, invalid or over a limit; the first one in the order of section 6 is named,
// wherever it stands in the body. Unknown members are ignored. The document shares no memory with body.
func Parse(body []byte, limits Limits) (*Document, error) { return (*Systems)(nil).Parse(body, limits) }

// Parse is the function Parse, quicker for documents of a system that is known.
func (s *Systems) Parse(body []byte, limits Limits) (*Document, error) {
	limits = limits.bounded()
	found, err := split(body, limits.MaxDepth)
	if err != nil {
		return nil, err
	}
	p := &parser{
		systems: s,
		limits:  limits,
		members: found,
		doc:     new(Document),
	}
	p.within = make([]container, 0, usualDepth)
	p.origin()
	p.system()
	p.times()
	p.logs()
	if p.doc.Benchmark == BenchmarkTPCH {
		p.tpch()
	} else {
		p.pgbench()
	}
	if p.err != nil {
		return nil, p.err
	}
	return p.doc, nil
}

// parser reads the members of a document one after the other.
type parser struct {
	reader

	systems *Systems
	limits  Limits
	members *members
	doc     *Document

	counts  rowCounts
	scratch []byte // content of the log text that is read
}

// rowCounts holds the rows of each kind in the whole document.
type rowCounts struct {
	statements     int
	statStatements int
	logs           int
	collectd       [tableCount]int
}

// has turns to a top-level member, if there is one.
func (p *parser) has(member string) bool {
	value := p.members.get(member)
	if value == nil || p.err != nil {
		return false
	}
	p.start(member, value)
	return true
}

// need turns to a top-level member and fails when there is none.
func (p *parser) need(member string) {
	if !p.has(member) && p.err == nil {
		p.err = &DocumentError{Member: member, Reason: "is missing"}
	}
}

// roomFor fails when more rows of a kind do not fit.
func (p *parser) roomFor(count *int, more int, kind string) bool {
	*count += more
	if p.err == nil && *count > p.limits.MaxRows {
		p.fail("brings more %s than one document may hold, the limit is %d", kind, p.limits.MaxRows)
	}
	return p.err == nil
}

// origin reads what was measured: the benchmark and the commit.
func (p *parser) origin() {
	p.benchmark()
	p.need("git")
	p.object([]string{"remote", "branch", "commit"}, func(name []byte) bool {
		switch string(name) {
		case "remote":
			p.doc.Repository = p.checkedText(badRepository)
		case "branch":
			p.doc.Branch = p.checkedText(badBranch)
		case "commit":
			p.doc.Commit = p.checkedText(badCommit)
		default:
			return false
		}
		return true
	})
}

// benchmark finds out which benchmark the document reports. The oldest clients do not say.
func (p *parser) benchmark() {
	p.doc.Benchmark = BenchmarkPgbench
	if p.members.get("qphh_size") != nil {
		p.doc.Benchmark = BenchmarkTPCH
	}
	if !p.has("meta") {
		return
	}
	p.object(nil, func(name []byte) bool {
		if string(name) != "benchmark" {
			return false
		}
		p.doc.Benchmark = p.text(0)
		if b := p.doc.Benchmark; p.err == nil && b != BenchmarkPgbench && b != BenchmarkTPCH {
			p.fail("must be %q or %q, not %s", BenchmarkPgbench, BenchmarkTPCH, shown([]byte(b)))
		}
		return true
	})
}

// checkedText reads a name that bad finds nothing wrong with.
func (p *parser) checkedText(bad func(string) string) string {
	s := p.text(maxName)
	if p.err == nil {
		if reason := bad(s); reason != "" {
			p.fail("%s", reason)
		}
	}
	return s
}

func (p *parser) times() {
	p.doc.Received = p.time("run_received_time")
	p.doc.Start = p.time("run_start_time")
	if p.err == nil && p.doc.Start.IsZero() {
		p.fail("is null; it tells the runs of a machine apart and is needed")
	}
	p.doc.End = p.time("run_end_time")
	p.doc.Runtimes = Runtimes{
		GitClone:  p.runtime("git_clone_runtime"),
		GitPull:   p.runtime("git_pull_runtime"),
		Configure: p.runtime("configure_runtime"),
		Build:     p.runtime("build_runtime"),
		Install:   p.runtime("install_runtime"),
		Cleanup:   p.runtime("cleanup_runtime"),
	}
}

// time reads a time that may be null, which gives the zero time.
func (p *parser) time(member string) time.Time {
	p.need(member)
	if p.kind() == jsontext.KindNull {
		p.value()
		return time.Time{}
	}
	s := p.text(0)
	if p.err != nil {
		return time.Time{}
	}
	t, bad := parseTime(s)
	if bad != "" {
		p.fail("%s", bad)
	}
	return t
}

// runtime reads a duration that may be null.
func (p *parser) runtime(member string) *time.Duration {
	p.need(member)
	if p.kind() == jsontext.KindNull {
		p.value()
		return nil
	}
	s := p.text(0)
	if p.err != nil {
		return nil
	}
	d, bad := parseRuntime(s)
	if bad != "" {
		p.fail("%s", bad)
		return nil
	}
	return &d
}

func (p *parser) logs() {
	p.doc.Logs = Logs{
		GitClone:  p.log("git_clone_log"),
		Configure: p.log("configure_log"),
		Build:     p.log("build_log"),
		Install:   p.log("install_log"),
		Cleanup:   p.log("cleanup_log"),
	}
	p.need("pg_ctl")
	p.doc.Logs.Postgres = p.text(0)
	if p.doc.Benchmark == BenchmarkPgbench {
		p.need("pgbench_log")
		p.doc.Logs.Benchmark = p.text(0)
	}
}

func (p *parser) log(member string) string {
	if !p.has(member) {
		return ""
	}
	return p.textOrNull(0)
}
