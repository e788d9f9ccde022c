package archive

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/segmentio/kafka-go"

	"github.com/millrace/millrace/processor/internal/enginetest"
	"github.com/millrace/millrace/schemas/eventlog"
)

var runs0 = eventlog.Partition{Topic: eventlog.Runs}

func open(t *testing.T) *Archive {
	t.Helper()
	return New(enginetest.Open(t, enginetest.Database(t)))
}

// some makes records of a partition, from an offset on.
func some(partition eventlog.Partition, from, n int64) []eventlog.Record {
	records := make([]eventlog.Record, n)
	for i := range records {
		offset := from + int64(i)
		headers := []kafka.Header{{Key: "ce_id", Value: []byte(uuid.NewString())}, {Key: "ce_type", Value: []byte("a")}}
		records[i] = eventlog.NewRecord(partition, offset, 1000+offset, fmt.Append(nil, "key", offset), headers, fmt.Append(nil, "value", offset))
	}
	return records
}

func (a *Archive) mustWrite(t *testing.T, epoch uint32, records []eventlog.Record) {
	t.Helper()
	if err := a.Write(t.Context(), epoch, fmt.Sprint("log", epoch), uuid.NewString(), records, false); err != nil {
		t.Fatal(err)
	}
}

// chunk is what one call of Read's handler gets.
type chunk struct {
	epoch   uint32
	records []eventlog.Record
}

func (a *Archive) read(t *testing.T, partition eventlog.Partition, from, until eventlog.Place) ([]chunk, error) {
	t.Helper()
	var chunks []chunk
	err := a.Read(t.Context(), partition, from, until, func(epoch uint32, records []eventlog.Record) error {
		chunks = append(chunks, chunk{epoch, records})
		return nil
	})
	return chunks, err
}

func (a *Archive) mustRead(t *testing.T, from, until eventlog.Place) []chunk {
	t.Helper()
	chunks, err := a.read(t, runs0, from, until)
	if err != nil {
		t.Fatal(err)
	}
	return chunks
}

// See clickhouse.DB.InsertOnce. A mutation takes the rows away, and the token stays known.
func TestRecordsThatClickHouseLostAlthoughItKnowsTheirTokenAreArchivedByTheNextTry(t *testing.T) {
	a := open(t)
	records := some(runs0, 0, 30)
	write := func(again bool) {
		t.Helper()
		if err := a.Write(t.Context(), 1, "log1", "token", records, again); err != nil {
			t.Fatal(err)
		}
	}
	write(false)
	if err := a.db.Exec(t.Context(), "ALTER TABLE "+a.table+" DELETE WHERE 1 SETTINGS mutations_sync = 1"); err != nil {
		t.Fatal(err)
	}
	write(true)
	write(true)
	if diff := cmp.Diff([]chunk{{1, records}}, a.mustRead(t, eventlog.Place{}, eventlog.Place{}), cmp.AllowUnexported(chunk{})); diff != "" {
		t.Errorf("-written +read:\n%s", diff)
	}
	if n, err := a.Count(t.Context()); err != nil || n != 30 {
		t.Errorf("%d records are stored, %v; want 30", n, err)
	}
}

// While projections are rebuilt, two sinks archive the same records, each in batches of its own.
func TestLostRecordsOfWhichAnotherSinkArchivedTheFirstAreArchivedByTheNextTry(t *testing.T) {
	a := open(t)
	records := some(runs0, 0, 20)
	for _, step := range []struct {
		token    string
		from, to int
		again    bool
	}{{"new", 5, 20, false}, {"live", 0, 10, false}, {"new", 5, 20, true}} {
		if err := a.Write(t.Context(), 1, "log1", step.token, records[step.from:step.to], step.again); err != nil {
			t.Fatal(err)
		}
		if step.token == "new" && !step.again {
			if err := a.db.Exec(t.Context(), "ALTER TABLE "+a.table+" DELETE WHERE 1 SETTINGS mutations_sync = 1"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if diff := cmp.Diff([]chunk{{1, records}}, a.mustRead(t, eventlog.Place{}, eventlog.Place{}), cmp.AllowUnexported(chunk{})); diff != "" {
		t.Errorf("-written +read:\n%s", diff)
	}
}

func TestWhatIsReadBackIsWhatWasArchivedLogByLog(t *testing.T) {
	a := open(t)
	first, second := some(runs0, 0, 30), some(runs0, 0, 20)
	first[3] = eventlog.NewRecord(runs0, 3, 7, nil, []kafka.Header{{Key: "no envelope", Value: []byte{0xff, 0}}}, nil)
	a.mustWrite(t, 1, first[:10])
	a.mustWrite(t, 2, second)
	a.mustWrite(t, 1, first[10:])
	a.mustWrite(t, 1, first[5:15]) // again, under another token
	a.mustWrite(t, 1, some(eventlog.Partition{Topic: eventlog.Runs, ID: 1}, 0, 5))
	same := cmp.Options{cmpopts.EquateErrors(), cmpopts.EquateEmpty(), cmp.AllowUnexported(chunk{}), cmpopts.IgnoreFields(eventlog.Record{}, "Malformed")}
	if diff := cmp.Diff([]chunk{{1, first}, {2, second}}, a.mustRead(t, eventlog.Place{}, eventlog.Place{}), same); diff != "" {
		t.Errorf("the archive gives other records:\n%s", diff)
	}
	part := a.mustRead(t, eventlog.Place{Epoch: 1, Offset: 25}, eventlog.Place{Epoch: 2, Offset: 4})
	if diff := cmp.Diff([]chunk{{1, first[25:]}, {2, second[:4]}}, part, same); diff != "" {
		t.Errorf("from 1:25 until 2:4 the archive gives other records:\n%s", diff)
	}
	if chunks := a.mustRead(t, eventlog.Place{Epoch: 2, Offset: 20}, eventlog.Place{}); len(chunks) != 0 {
		t.Errorf("behind its end the archive gives %v", chunks)
	}
	var keys []string
	if err := a.Keys(t.Context(), runs0, func(key string) { keys = append(keys, key) }); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, r := range slices.Concat(first, second) {
		want = append(want, string(r.Key))
	}
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Errorf("the archive gives other keys:\n%s", diff)
	}
}

func TestAnArchiveWithAHoleIsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		records [][]eventlog.Record // of the first log, the second, …
		refused bool
	}{
		"whole":                     {[][]eventlog.Record{some(runs0, 0, 9)}, false},
		"in the middle":             {[][]eventlog.Record{slices.Concat(some(runs0, 0, 4), some(runs0, 5, 4))}, true},
		"at the beginning":          {[][]eventlog.Record{some(runs0, 3, 4)}, true},
		"where another log begins":  {[][]eventlog.Record{some(runs0, 0, 4), some(runs0, 1, 4)}, true},
		"between two chunks":        {[][]eventlog.Record{slices.Concat(some(runs0, 0, firstChunk), some(runs0, firstChunk+1, 4))}, true},
		"two logs one after other":  {[][]eventlog.Record{some(runs0, 0, 4), some(runs0, 0, 4)}, false},
		"nothing in the second log": {[][]eventlog.Record{some(runs0, 0, 4), nil, some(runs0, 0, 4)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			a := open(t)
			for i, records := range test.records {
				if len(records) > 0 {
					a.mustWrite(t, uint32(i+1), records)
				}
			}
			if _, err := a.read(t, runs0, eventlog.Place{}, eventlog.Place{}); errors.Is(err, ErrHole) != test.refused {
				t.Errorf("reading gives %v, want refused: %v", err, test.refused)
			}
			if err := a.Keys(t.Context(), runs0, func(string) {}); errors.Is(err, ErrHole) != test.refused {
				t.Errorf("reading keys gives %v, want refused: %v", err, test.refused)
			}
		})
	}
}

func TestTheEndIsBehindTheNewestRecordOfTheNewestLog(t *testing.T) {
	a := open(t)
	want := func(partition eventlog.Partition, place eventlog.Place) {
		t.Helper()
		if got, err := a.End(t.Context(), partition); err != nil || got != place {
			t.Errorf("the archive of %s ends at %s (%v), want %s", partition, got, err, place)
		}
	}
	want(runs0, eventlog.Place{})
	a.mustWrite(t, 1, some(runs0, 0, 300))
	want(runs0, eventlog.Place{Epoch: 1, Offset: 300})
	a.mustWrite(t, 2, some(runs0, 0, 7))
	want(runs0, eventlog.Place{Epoch: 2, Offset: 7})
	want(eventlog.Partition{Topic: eventlog.Runs, ID: 1}, eventlog.Place{})
	want(eventlog.Partition{Topic: eventlog.Metrics}, eventlog.Place{})
}

func TestALogKeepsItsEpochAndAnotherGetsTheNext(t *testing.T) {
	a := open(t)
	want := func(log string, epoch uint32) {
		t.Helper()
		if got, err := a.Epoch(t.Context(), log); err != nil || got != epoch {
			t.Errorf("log %s has epoch %d (%v), want %d", log, got, err, epoch)
		}
	}
	empty := func(want bool) {
		t.Helper()
		if got, err := a.Empty(t.Context()); err != nil || got != want {
			t.Errorf("empty: %v (%v), want %v", got, err, want)
		}
	}
	empty(true)
	want("log1", 1)
	a.mustWrite(t, 1, some(runs0, 0, 1))
	empty(false)
	want("log1", 1)
	want("log2", 2)
	a.mustWrite(t, 2, some(runs0, 0, 1))
	want("log1", 1)
	want("log2", 2)
	want("log3", 3)
}

func TestABlobIsReferredToByAnArchivedEnvelope(t *testing.T) {
	a := open(t)
	records := some(runs0, 0, 3)
	records[1].Headers = append(records[1].Headers, kafka.Header{Key: "ce_dataref", Value: []byte("abcdef")})
	a.mustWrite(t, 1, records)
	for blob, want := range map[string]bool{"abcdef": true, "abcde": false} {
		if got, err := a.Refers(t.Context(), blob); err != nil || got != want {
			t.Errorf("blob %q is referred to: %v (%v), want %v", blob, got, err, want)
		}
	}
}

func TestChunksGrowWithSmallRecordsAndShrinkWithLargeOnes(t *testing.T) {
	for bytes, want := range map[int]int{10: maxChunk, 100 << 10: 163, 1 << 20: 15, 20 << 20: 1} {
		records := make([]eventlog.Record, 3)
		for i := range records {
			records[i].Data = make([]byte, bytes)
		}
		if got := nextChunk(records); got != want {
			t.Errorf("behind records of %d bytes come %d, want %d", bytes, got, want)
		}
	}
	a := open(t)
	const n = 2000
	a.mustWrite(t, 1, some(runs0, 0, n))
	chunks := a.mustRead(t, eventlog.Place{}, eventlog.Place{})
	if len(chunks) != 2 || len(chunks[0].records) != firstChunk || len(chunks[1].records) != n-firstChunk {
		t.Errorf("%d small records come in %d chunks, want one of %d and the rest", n, len(chunks), firstChunk)
	}
}
