package projection

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/schemas/clickhouse"
)

// Checksum gives a checksum of the content of every table of a generation, by table, but for the idempotency keys, which
// go when their time is over. It depends on neither the order of rows nor on how they are stored, and repeated rows count
// once: two generations that were built from the same log have the same checksums, once no trends are postponed (see
// Writer.Settle).
func Checksum(ctx context.Context, db *clickhouse.DB, generation uint32) (map[string]string, error) {
	sums := make(map[string]string, len(tables)+2)
	for _, t := range append(tables[:], metricsTable, table{"trend_buckets", trendColumns}) {
		if t == tables[keys] {
			continue
		}
		var rows uint64
		var sum string
		// A tuple makes null a value like others.
		query := fmt.Sprintf("SELECT count(), hex(sum(reinterpretAsUInt128(sipHash128(tuple(%s))))) FROM `%s`.%s FINAL",
			t.columns, db.Generation(generation), t.name)
		if err := db.QueryRow(ctx, query).Scan(&rows, &sum); err != nil {
			return nil, fmt.Errorf("checksum of %s in generation %d: %w", t.name, generation, err)
		}
		sums[t.name] = fmt.Sprintf("%d rows %s", rows, sum)
	}
	return sums, nil
}
