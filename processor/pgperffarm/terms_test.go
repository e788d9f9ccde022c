package pgperffarm_test

import (
	"encoding/hex"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/processor/pgperffarm"
)

var hardware = pgperffarm.Hardware{
	CPUBrand: "Example CPU", Hz: 3000000000, Cores: 16, TotalMemory: 34359738368, Mounts: "[]",
	Sysctl: `{"vm.swappiness":"10"}`,
}

// Dictionary ids follow from these hashes through every rebuild, so they must never change.
func TestHashesOfTermsNeverChange(t *testing.T) {
	cases := []struct {
		term pgperffarm.Term
		kind pgperffarm.TermKind
		hash string
	}{
		{pgperffarm.RepositoryTerm("https://github.com/postgres/postgres.git"), pgperffarm.TermRepository, "d0a8b59cc17b36e77d9c6712b90b8a20"},
		{pgperffarm.BranchTerm("https://github.com/postgres/postgres.git", "master"), pgperffarm.TermBranch, "648751c4f43219cb314b913a3e5e6c2e"},
		{pgperffarm.HardwareTerm(hardware), pgperffarm.TermHardware, "578dd3589558b07d86cb66051c751b76"},
		{pgperffarm.SettingsTerm([]pgperffarm.Setting{{Name: "work_mem", Source: "configuration file", Value: "65536"}}), pgperffarm.TermSettings, "e6302d7adbb013ba02490b41f6244811"},
		{pgperffarm.SettingsTerm(nil), pgperffarm.TermSettings, "e915d30112f4fb9e25984b4687c3732a"},
		{pgperffarm.ConfigTerm(8, 20, 120, true), pgperffarm.TermConfig, "43db4ad1329d9d8306b5862babd6bd8d"},
		{pgperffarm.TPCHConfigTerm(10, 3), pgperffarm.TermTPCHConfig, "a0933359c0c2a0a1a2e6ff56150586d7"},
		{pgperffarm.StatementTerm("SELECT 1;"), pgperffarm.TermStatement, "95ef0de2abdce1ddf87e8316d7bc3056"},
		{pgperffarm.QueryTerm("SELECT 1;"), pgperffarm.TermQuery, "38c7c26552d519c1d4db8b65258f4674"},
	}
	for _, c := range cases {
		if got := hex.EncodeToString(c.term.Hash[:]); c.term.Kind != c.kind || got != c.hash {
			t.Errorf("%v: %v %s, want %s", c.kind, c.term.Kind, got, c.hash)
		}
	}
}

func TestDifferentValuesAreDifferentTerms(t *testing.T) {
	change := func(f func(*pgperffarm.Hardware)) pgperffarm.Term {
		h := hardware
		f(&h)
		return pgperffarm.HardwareTerm(h)
	}
	set := func(rows ...pgperffarm.Setting) pgperffarm.Term { return pgperffarm.SettingsTerm(rows) }
	a, b := pgperffarm.Setting{Name: "a", Source: "s", Value: "v"}, pgperffarm.Setting{Name: "b", Source: "s", Value: "v"}
	terms := []pgperffarm.Term{
		pgperffarm.RepositoryTerm(""), pgperffarm.RepositoryTerm("x"),
		pgperffarm.BranchTerm("ab", "c"), pgperffarm.BranchTerm("a", "bc"), pgperffarm.BranchTerm("a", "b"),
		pgperffarm.HardwareTerm(hardware),
		change(func(h *pgperffarm.Hardware) { h.CPUBrand = "x" }), change(func(h *pgperffarm.Hardware) { h.Cores = 1 }),
		change(func(h *pgperffarm.Hardware) { h.TotalMemory = 0 }), change(func(h *pgperffarm.Hardware) { h.TotalSwap = 1 }),
		change(func(h *pgperffarm.Hardware) { h.Mounts = "[{}]" }), change(func(h *pgperffarm.Hardware) { h.Sysctl = "{}" }),
		set(), set(a), set(b), set(a, b), set(b, a), set(pgperffarm.Setting{Name: "a", Source: "v", Value: "s"}),
		set(pgperffarm.Setting{Name: "as", Source: "", Value: "v"}),
		pgperffarm.ConfigTerm(1, 2, 3, true), pgperffarm.ConfigTerm(1, 2, 3, false), pgperffarm.ConfigTerm(2, 1, 3, true),
		pgperffarm.ConfigTerm(1, 3, 2, true), pgperffarm.ConfigTerm(1+1<<32, 2, 3, true),
		pgperffarm.TPCHConfigTerm(1, 2), pgperffarm.TPCHConfigTerm(2, 1), pgperffarm.TPCHConfigTerm(1.5, 2),
		pgperffarm.StatementTerm("x"), pgperffarm.StatementTerm("x\x00"), pgperffarm.QueryTerm("x"),
	}
	seen := map[pgperffarm.Term]int{}
	for i, term := range terms {
		if other, again := seen[term]; again {
			t.Errorf("values %d and %d share the term %v", other, i, term.Kind)
		}
		seen[term] = i
	}
}

func TestFrequencyIsNoPartOfTheHardware(t *testing.T) {
	other := hardware
	other.Hz++
	if pgperffarm.HardwareTerm(hardware) != pgperffarm.HardwareTerm(other) {
		t.Error("another frequency is other hardware")
	}
}

func TestBothZeroScaleFactorsAreOneConfig(t *testing.T) {
	if pgperffarm.TPCHConfigTerm(0, 1) != pgperffarm.TPCHConfigTerm(math.Copysign(0, -1), 1) {
		t.Error("0 and -0 are different configurations")
	}
}

func TestTermsAreDistinctInTheOrderOfTheirFirstAppearance(t *testing.T) {
	doc := accept(t, pgbenchDoc,
		set("pgbench[0].clients", []any{8, 16}),
		set("pgbench[0].iterations", []any{
			result(map[string]any{"statement_latencies": "0.1 b;\n0.1 a;\n0.2 b;\n"}),
			result(map[string]any{"clients": "16", "statement_latencies": "0.1 a;\n0.1 c;\n",
				"pg_stat_statements": []any{map[string]any{"query": "q"}, map[string]any{"query": "a;"}, map[string]any{"query": "q"}}}),
			result(nil),
		}),
		set("pgbench_log_aggregate", []any{map[string]any{"pgbench-ro-20-120-8-0-": "", "pgbench-ro-20-120-16-0-": ""}}))
	want := []pgperffarm.Term{
		pgperffarm.RepositoryTerm(doc.Repository), pgperffarm.BranchTerm(doc.Repository, doc.Branch),
		pgperffarm.HardwareTerm(doc.Hardware), pgperffarm.SettingsTerm(doc.Settings),
		pgperffarm.ConfigTerm(8, 20, 120, true), pgperffarm.StatementTerm("b;"), pgperffarm.StatementTerm("a;"),
		pgperffarm.ConfigTerm(16, 20, 120, true), pgperffarm.StatementTerm("c;"),
		pgperffarm.QueryTerm("q"), pgperffarm.QueryTerm("a;"),
	}
	if diff := cmp.Diff(want, doc.Terms()); diff != "" {
		t.Errorf("terms differ (-want +got):\n%s", diff)
	}
	tpch := accept(t, tpchDoc).Terms()
	if last := tpch[len(tpch)-1]; len(tpch) != 5 || last != pgperffarm.TPCHConfigTerm(10, 3) {
		t.Errorf("terms of TPC-H are %v", tpch)
	}
}

func TestKindsOfTermsHaveNames(t *testing.T) {
	names := map[string]bool{}
	for kind := pgperffarm.TermRepository; kind <= pgperffarm.TermQuery; kind++ {
		names[kind.String()] = true
	}
	if len(names) != 8 || names["unknown"] {
		t.Errorf("names are %v", names)
	}
}
