package pgperffarm_test

import (
	"fmt"
	"testing"

	"github.com/millrace/millrace/processor/pgperffarm"
	"github.com/millrace/millrace/processor/pgperffarm/farmdoc"
)

func BenchmarkParse2KB(b *testing.B) {
	benchmarkParse(b, farmdoc.Synthetic(farmdoc.Small(farmdoc.Options{})))
}

func BenchmarkParse100KB(b *testing.B) {
	benchmarkParse(b, farmdoc.Synthetic(farmdoc.Large(farmdoc.Options{})))
}

// BenchmarkParseCollectd reads what has the most values for its size.
func BenchmarkParseCollectd(b *testing.B) {
	var file []any
	for i := range 40 {
		file = append(file, samples(fmt.Sprintf("%d.500", 1625223600+10*i), "123456.750000")...)
	}
	host := map[string]any{}
	for plugin, columns := range map[string][]string{
		"aggregation-cpu-average": pgperffarm.CollectdTables()[0].Columns, "vmem": pgperffarm.CollectdTables()[8].Columns,
	} {
		files := map[string]any{}
		for _, column := range columns {
			files[metric(column)+"-2021-07-02"] = file
		}
		host[plugin] = files
	}
	benchmarkParse(b, body(b, pgbenchDoc, set(first+"collectd", map[string]any{"h": host})))
}

func BenchmarkTerms(b *testing.B) {
	doc, err := pgperffarm.Parse(farmdoc.Synthetic(farmdoc.Large(farmdoc.Options{})), pgperffarm.DefaultLimits())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		doc.Terms()
	}
}

func benchmarkParse(b *testing.B, upload []byte) {
	b.SetBytes(int64(len(upload)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := pgperffarm.Parse(upload, pgperffarm.DefaultLimits()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkParse2KBOfKnownSystem is what a door does with most uploads.
func BenchmarkParse2KBOfKnownSystem(b *testing.B) {
	upload := farmdoc.Synthetic(farmdoc.Small(farmdoc.Options{}))
	systems := new(pgperffarm.Systems)
	b.SetBytes(int64(len(upload)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := systems.Parse(upload, pgperffarm.DefaultLimits()); err != nil {
			b.Fatal(err)
		}
	}
}
