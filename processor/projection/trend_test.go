package projection

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/schemas/clickhouse"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// trend is a row of trend_buckets.
type trend struct {
	machine, config, branch uint64
	metric                  string
	resolution              uint32
	bucket                  int64
	version, count          uint64
	mean, stddev            float64 // stddev is NaN for null
	min, median, p95, p99   float64
	max                     float64
}

// history gives samples of four series, some twice at one time, over some weeks, of several events.
func history(l *lab, events int) (messages []*event.RunSamplesRecorded, records []*eventlog.Record) {
	source := rand.New(rand.NewPCG(1, 2))
	for i := range events {
		m := &event.RunSamplesRecorded{
			RunId: uint64(i), MachineId: 7, ConfigId: uint64(i % 2), BranchId: 1, Metric: []string{"a", "b"}[i/2%2],
		}
		at := runStart.Add(time.Duration(source.IntN(20*24)) * time.Hour).UnixMilli()
		for range 1 + source.IntN(200) {
			m.Times = append(m.Times, at)
			m.Values = append(m.Values, math.Round(source.NormFloat64()*1000)/64)
			at += int64(source.IntN(120_000))
		}
		if i%5 == 0 {
			m.Values[0] = math.Copysign(0, -1)
		}
		messages, records = append(messages, m), append(records, l.record(m))
	}
	return messages, records
}

// reference computes the trends as their definition says.
func reference(messages []*event.RunSamplesRecorded) (trends []trend) {
	type key struct {
		Series
		resolution, bucket int64
	}
	values := make(map[key][]float64)
	for _, m := range messages {
		s := Series{m.MachineId, m.ConfigId, m.BranchId, m.Metric}
		for i, ms := range m.Times {
			for _, resolution := range []int64{Hour, Day, Week} {
				k := key{s, resolution, BucketStart(ms, resolution)}
				values[k] = append(values[k], m.Values[i]+0)
			}
		}
	}
	for k, v := range values {
		slices.Sort(v)
		sum, squares, n := 0.0, 0.0, float64(len(v))
		for _, x := range v {
			sum += x - v[0]
		}
		mean := v[0] + sum/n
		for _, x := range v {
			squares += (x - mean) * (x - mean)
		}
		trends = append(trends, trend{
			machine: k.Machine, config: k.Config, branch: k.Branch, metric: k.Metric, resolution: uint32(k.resolution), bucket: k.bucket,
			version: uint64(len(v)), count: uint64(len(v)), mean: mean, stddev: math.Sqrt(squares / (n - 1)), min: v[0],
			median: quantile(v, 0.5), p95: quantile(v, 0.95), p99: quantile(v, 0.99), max: v[len(v)-1],
		})
	}
	sortTrends(trends)
	return trends
}

func quantile(sorted []float64, p float64) float64 {
	rank := float64(len(sorted)-1) * p
	below := int(rank)
	if below+1 == len(sorted) {
		return sorted[below]
	}
	return sorted[below] + (rank-float64(below))*(sorted[below+1]-sorted[below])
}

func sortTrends(trends []trend) {
	slices.SortFunc(trends, func(a, b trend) int {
		return cmp.Or(cmp.Compare(a.config, b.config), cmp.Compare(a.metric, b.metric), cmp.Compare(a.resolution, b.resolution),
			cmp.Compare(a.bucket, b.bucket))
	})
}

func readTrends(t *testing.T, db *clickhouse.DB) (trends []trend) {
	t.Helper()
	rows, err := db.Query(context.Background(), "SELECT "+trendColumns+" FROM `"+db.Generation(1)+"`.trend_buckets FINAL")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var r trend
		var bucket time.Time
		var stddev *float64
		if err := rows.Scan(&r.machine, &r.config, &r.branch, &r.metric, &r.resolution, &bucket, &r.version, &r.count, &r.mean,
			&stddev, &r.min, &r.median, &r.p95, &r.p99, &r.max); err != nil {
			t.Fatal(err)
		}
		r.bucket, r.stddev = bucket.Unix(), math.NaN()
		if stddev != nil {
			r.stddev = *stddev
		}
		trends = append(trends, r)
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	sortTrends(trends)
	return trends
}

func wantTrends(t *testing.T, db *clickhouse.DB, messages []*event.RunSamplesRecorded) {
	t.Helper()
	equal := gocmp.Comparer(func(a, b float64) bool {
		return a == b || math.IsNaN(a) && math.IsNaN(b) || math.Abs(a-b) <= 1e-12*math.Max(math.Abs(a), math.Abs(b))
	})
	if diff := gocmp.Diff(reference(messages), readTrends(t, db), gocmp.AllowUnexported(trend{}), equal); diff != "" {
		t.Errorf("trends (-want +got):\n%s", diff)
	}
}

func writeSamples(t *testing.T, w *Writer, messages []*event.RunSamplesRecorded, records []*eventlog.Record, token string) {
	t.Helper()
	b := NewBatch()
	for i, m := range messages {
		if err := b.AddSamples(m, records[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Write(context.Background(), b, token, false); err != nil {
		t.Fatal(err)
	}
}

func TestTrendsAreThoseOfTheirDefinition(t *testing.T) {
	db := openEngine(t)
	messages, records := history(newLab(t), 60)
	for i := 0; i < len(messages); i += 7 {
		to := min(i+7, len(messages))
		writeSamples(t, NewWriter(db, 1), messages[i:to], records[i:to], fmt.Sprint(i))
	}
	wantTrends(t, db, messages)
}

func TestEventThatStandsTwiceInTheLogCountsOnce(t *testing.T) {
	db := openEngine(t)
	messages, records := history(newLab(t), 12)
	writeSamples(t, NewWriter(db, 1), messages, records, "first")
	writeSamples(t, NewWriter(db, 1), messages[3:8], records[3:8], "again")
	wantTrends(t, db, messages)
}

func TestRebuildInOtherBatchesGivesTheSameBits(t *testing.T) {
	db := openEngine(t)
	addGeneration(t, db, 2)
	messages, records := history(newLab(t), 60)
	live, rebuilt := NewWriter(db, 1), NewWriter(db, 2)
	for i := range messages {
		writeSamples(t, live, messages[i:i+1], records[i:i+1], fmt.Sprint(i))
	}
	slices.Reverse(messages)
	slices.Reverse(records)
	writeSamples(t, rebuilt, messages[:40], records[:40], "a")
	writeSamples(t, rebuilt, messages[40:], records[40:], "b")
	if diff := gocmp.Diff(checksum(t, db, 1), checksum(t, db, 2)); diff != "" {
		t.Errorf("checksums (-live +rebuilt):\n%s", diff)
	}
}

func TestTrendsDependNeitherOnThreadsNorOnMerges(t *testing.T) {
	db := openEngine(t)
	messages, records := history(newLab(t), 60)
	for i := 0; i < len(messages); i += 5 {
		writeSamples(t, NewWriter(db, 1), messages[i:i+5], records[i:i+5], fmt.Sprint(i))
	}
	database := db.Generation(1)
	touched := "(SELECT machine_id, config_id, branch_id, metric, resolution, toInt64(toUnixTimestamp(bucket)) AS bucket FROM `" +
		database + "`.trend_buckets)"
	sum := func(settings ch.Settings) (sum string) {
		ctx := ch.Context(context.Background(), ch.WithSettings(settings))
		query := "SELECT hex(sum(reinterpretAsUInt128(sipHash128(tuple(" + trendColumns + "))))) FROM (" + TrendQuery(database, touched) + ")"
		if err := db.QueryRow(ctx, query).Scan(&sum); err != nil {
			t.Fatal(err)
		}
		return sum
	}
	want := sum(ch.Settings{"max_threads": 1})
	for range 5 { // more often than it takes for expressions to be compiled
		for _, settings := range []ch.Settings{{"max_threads": 8}, {"max_threads": 3, "max_block_size": 17}} {
			if got := sum(settings); got != want {
				t.Errorf("with %v the trends' checksum is %s, with one thread %s", settings, got, want)
			}
		}
	}
	if err := db.Exec(context.Background(), "OPTIMIZE TABLE `"+database+"`.metrics FINAL"); err != nil {
		t.Fatal(err)
	}
	if got := sum(ch.Settings{"max_threads": 4}); got != want {
		t.Errorf("after a merge the trends' checksum is %s, before it was %s", got, want)
	}
	var stored string
	if err := db.QueryRow(context.Background(), "SELECT hex(sum(reinterpretAsUInt128(sipHash128(tuple("+trendColumns+
		"))))) FROM `"+database+"`.trend_buckets FINAL").Scan(&stored); err != nil {
		t.Fatal(err)
	}
	if stored != want {
		t.Errorf("the stored trends' checksum is %s, that of a new computation %s", stored, want)
	}
}

func TestWritersOfOneSeriesAtTheSameTimeLeaveTheWholeTrend(t *testing.T) {
	db := openEngine(t)
	messages, records := history(newLab(t), 64)
	var group errgroup.Group
	for partition := range 4 {
		group.Go(func() error {
			w := NewWriter(db, 1)
			for i := partition; i < len(messages); i += 4 {
				b := NewBatch()
				if err := b.AddSamples(messages[i], records[i]); err != nil {
					return err
				}
				if err := w.Write(context.Background(), b, fmt.Sprint(i), false); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	wantTrends(t, db, messages)
}

func TestTrendThatWasComputedEarlierButWrittenLaterIsNotTheNewest(t *testing.T) {
	db := openEngine(t)
	messages, records := history(newLab(t), 20)
	database := "`" + db.Generation(1) + "`"
	exec := func(statement string) {
		t.Helper()
		if err := db.Exec(context.Background(), statement); err != nil {
			t.Fatal(err)
		}
	}
	writeSamples(t, NewWriter(db, 1), messages[:10], records[:10], "a")
	exec("CREATE TABLE " + database + ".late ENGINE = Memory AS SELECT * FROM " + database + ".trend_buckets")
	writeSamples(t, NewWriter(db, 1), messages[10:], records[10:], "b")
	exec("INSERT INTO " + database + ".trend_buckets SELECT * FROM " + database + ".late")
	wantTrends(t, db, messages)
}

func TestManySeriesAreRecomputedInSeveralStatements(t *testing.T) {
	db := openEngine(t)
	l := newLab(t)
	var messages []*event.RunSamplesRecorded
	var records []*eventlog.Record
	for i := range 2*weeksAtOnce + 10 {
		m := &event.RunSamplesRecorded{MachineId: 7, ConfigId: uint64(i), Metric: "a", Times: []int64{0, Week * 1000 * int64(i%7)}, Values: []float64{1, 3}}
		messages, records = append(messages, m), append(records, l.record(m))
	}
	writeSamples(t, NewWriter(db, 1), messages, records, "a")
	wantTrends(t, db, messages)
}
