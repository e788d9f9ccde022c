package farmdoc_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/millrace/millrace/processor/pgperffarm"
	"github.com/millrace/millrace/processor/pgperffarm/farmdoc"
)

func parse(t *testing.T, o farmdoc.Options) *pgperffarm.Document {
	t.Helper()
	doc, err := pgperffarm.Parse(farmdoc.Synthetic(o), pgperffarm.DefaultLimits())
	if err != nil {
		t.Fatalf("refused: %v", err)
	}
	return doc
}

func TestDocumentHoldsWhatTheOptionsSay(t *testing.T) {
	o := farmdoc.Options{
		Seed: 7, MachineType: "riscv64", Repository: "https://example.org/pg.git", Branch: "REL_14_STABLE", Commit: "abc123",
		Start: time.Date(2024, 2, 29, 1, 2, 3, 0, time.FixedZone("", 3600)),
		Configs: []farmdoc.Config{
			{Clients: 1, Scale: 2, Duration: 3, ReadOnly: true}, {Clients: 4, Scale: 5, Duration: 6},
		},
		Results: 5, TPS: 123.5, LogSeconds: 3, Statements: 2,
	}
	doc := parse(t, o)
	if doc.MachineType != o.MachineType || doc.Repository != o.Repository || doc.Branch != o.Branch ||
		doc.Commit != o.Commit || !doc.Start.Equal(o.Start) || len(doc.Results) != o.Results {
		t.Errorf("document is %+v", doc)
	}
	iterations := map[int]int{}
	for _, r := range doc.Results {
		iterations[r.Clients]++
		if r.TPS != o.TPS || len(r.Log) != o.LogSeconds || len(r.Statements) != o.Statements {
			t.Errorf("result is %+v", r)
		}
		if r.Log[0].Second != o.Start.Unix() {
			t.Errorf("the log begins at %d, want %d", r.Log[0].Second, o.Start.Unix())
		}
		if want := (r.Clients == 1); r.ReadOnly != want {
			t.Errorf("%d clients: read only is %v", r.Clients, r.ReadOnly)
		}
	}
	if iterations[1] != 3 || iterations[4] != 2 {
		t.Errorf("results by clients are %v", iterations)
	}
}

func TestZeroOptionsMakeAnOfficialDocument(t *testing.T) {
	doc := parse(t, farmdoc.Options{})
	if !pgperffarm.OfficialRepository(doc.Repository) || len(doc.Results) != 1 || len(doc.Commit) != 40 {
		t.Errorf("document is %+v", doc)
	}
}

func TestSameOptionsMakeTheSameBytes(t *testing.T) {
	one, two := farmdoc.Synthetic(farmdoc.Large(farmdoc.Options{Seed: 1})), farmdoc.Synthetic(farmdoc.Large(farmdoc.Options{Seed: 1}))
	if !bytes.Equal(one, two) {
		t.Error("the same seed made two documents")
	}
	if bytes.Equal(one, farmdoc.Synthetic(farmdoc.Large(farmdoc.Options{Seed: 2}))) {
		t.Error("two seeds made the same document")
	}
}

func TestSizesAreAsSaid(t *testing.T) {
	for seed := range uint64(20) {
		o := farmdoc.Options{Seed: seed}
		if n := len(farmdoc.Synthetic(farmdoc.Small(o))); n < 1_800 || n > 2_200 {
			t.Errorf("a small document has %d bytes", n)
		}
		if n := len(farmdoc.Synthetic(farmdoc.Large(o))); n < 95_000 || n > 105_000 {
			t.Errorf("a large document has %d bytes", n)
		}
	}
}

func BenchmarkSynthetic2KB(b *testing.B) { benchmark(b, farmdoc.Small) }

func BenchmarkSynthetic100KB(b *testing.B) { benchmark(b, farmdoc.Large) }

func benchmark(b *testing.B, size func(farmdoc.Options) farmdoc.Options) {
	b.ReportAllocs()
	for b.Loop() {
		farmdoc.Synthetic(size(farmdoc.Options{}))
	}
}
