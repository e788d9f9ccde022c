package pgperffarm

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
)

// TermKind says which dictionary a term belongs to. The numbers are part of the terms' hashes and never change.
type TermKind uint8

// The dictionaries whose ids clients see.
const (
	TermRepository TermKind = 1 + iota
	TermBranch
	TermHardware
	TermSettings
	TermConfig
	TermTPCHConfig
	TermStatement
	TermQuery
)

func (k TermKind) String() string {
	switch k {
	case TermRepository:
		return "repository"
	case TermBranch:
		return "branch"
	case TermHardware:
		return "hardware"
	case TermSettings:
		return "settings"
	case TermConfig:
		return "config"
	case TermTPCHConfig:
		return "tpch_config"
	case TermStatement:
		return "statement"
	case TermQuery:
		return "query"
	}
	return "unknown"
}

// Term is a dictionary value by its hash: the first 16 bytes of SHA-256 over the value's kind and fields.
type Term struct {
	Kind TermKind
	Hash [16]byte
}

// RepositoryTerm identifies a repository by its exact URL.
func RepositoryTerm(url string) Term {
	return newEncoding(TermRepository).text(url).term()
}

// BranchTerm identifies a branch by the repository's URL and its own name.
func BranchTerm(repository, name string) Term {
	return newEncoding(TermBranch).text(repository).text(name).term()
}

// HardwareTerm identifies the hardware. The frequency is left out: it changes from one moment to the next, and with it
// every run would show new hardware (weakness W18).
func HardwareTerm(h Hardware) Term {
	return newEncoding(TermHardware).text(h.CPUBrand).integer(int64(h.Cores)).integer(h.TotalMemory).
		integer(h.TotalSwap).text(h.Mounts).text(h.Sysctl).term()
}

// SettingsTerm identifies a settings set: its rows in their order (section 6.1).
func SettingsTerm(settings []Setting) Term {
	e := newEncoding(TermSettings).integer(int64(len(settings)))
	for _, s := range settings {
		e = e.text(s.Name).text(s.Value).text(s.Source)
	}
	return e.term()
}

// ConfigTerm identifies a pgbench configuration; the duration is in seconds.
func ConfigTerm(clients, scale, duration int, readOnly bool) Term {
	flag := int64(0)
	if readOnly {
		flag = 1
	}
	return newEncoding(TermConfig).integer(int64(clients)).integer(int64(scale)).integer(int64(duration)).
		integer(flag).term()
}

// TPCHConfigTerm identifies a TPC-H configuration by scale factor and streams (section 7).
func TPCHConfigTerm(scaleFactor float64, streams int) Term {
	return newEncoding(TermTPCHConfig).float(scaleFactor).integer(int64(streams)).term()
}

// StatementTerm identifies a statement of a pgbench script by its text.
func StatementTerm(text string) Term {
	return newEncoding(TermStatement).text(text).term()
}

// QueryTerm identifies a query of pg_stat_statements by its text.
func QueryTerm(text string) Term {
	return newEncoding(TermQuery).text(text).term()
}

// Terms returns the dictionary values that the document shows, each once, in the order of their first appearance.
func (d *Document) Terms() []Term {
	terms := make([]Term, 0, 8)
	seen := make(map[Term]struct{})
	add := func(t Term) {
		if _, ok := seen[t]; !ok {
			seen[t] = struct{}{}
			terms = append(terms, t)
		}
	}
	add(RepositoryTerm(d.Repository))
	add(BranchTerm(d.Repository, d.Branch))
	add(HardwareTerm(d.Hardware))
	add(SettingsTerm(d.Settings))
	if d.TPCH != nil {
		add(TPCHConfigTerm(d.TPCH.ScaleFactor, d.TPCH.Streams))
	}
	for i := range d.Results {
		r := &d.Results[i]
		add(ConfigTerm(r.Clients, r.Scale, r.Duration, r.ReadOnly))
		for j := range r.Statements {
			add(StatementTerm(r.Statements[j].Text))
		}
		for j := range r.StatStatements {
			add(QueryTerm(r.StatStatements[j].Query))
		}
	}
	return terms
}

// encoding is the input of a term's hash. Every field has a fixed length or carries its own, so that no two values
// share an encoding.
type encoding []byte

// The version is the first byte: another way to encode must give other hashes.
const encodingVersion = 1

func newEncoding(kind TermKind) encoding {
	return append(make(encoding, 0, 256), encodingVersion, byte(kind))
}

func (e encoding) text(s string) encoding {
	return append(binary.BigEndian.AppendUint64(e, uint64(len(s))), s...)
}

func (e encoding) integer(n int64) encoding {
	return binary.BigEndian.AppendUint64(e, uint64(n))
}

func (e encoding) float(f float64) encoding {
	if f == 0 {
		f = 0 // one encoding for both zeros
	}
	return binary.BigEndian.AppendUint64(e, math.Float64bits(f))
}

func (e encoding) term() Term {
	sum := sha256.Sum256(e)
	return Term{Kind: TermKind(e[1]), Hash: [16]byte(sum[:16])}
}
