package projection

import (
	"context"
	"errors"
	"testing"
)

func TestAWeekThatIsTooLargeStopsNothingAndIsComputedWhenThereIsMemory(t *testing.T) {
	db := openEngine(t)
	l := newLab(t)
	b := NewBatch()
	large, small := samplesMessage("large"), samplesMessage("small")
	for j := range 1_000_000 {
		large.Times, large.Values = append(large.Times, runStart.UnixMilli()+int64(j)), append(large.Values, float64(j))
	}
	small.Times, small.Values = []int64{runStart.UnixMilli()}, []float64{1}
	if err := errors.Join(b.AddSamples(large, l.record(large)), b.AddSamples(small, l.record(small))); err != nil {
		t.Fatal(err)
	}
	w := NewWriter(db, 1)
	w.trendMemory, w.weekMemory = 32<<20, 32<<20
	if err := w.Write(context.Background(), b, "a", false); err != nil {
		t.Fatal(err)
	}
	if trends := readTrends(t, db); len(trends) != 3 || trends[0].metric != "small" || notes(t, db) != 1 {
		t.Fatalf("the trends are %+v with %d notes, want those of the small series and one note", trends, notes(t, db))
	}
	asked := func(m string) Series {
		return Series{Machine: large.GetMachineId(), Config: large.GetConfigId(), Branch: large.GetBranchId(), Metric: m}
	}
	if err := w.SettleSeries(context.Background(), asked("small")); err != nil {
		t.Error(err)
	}
	if _, ok := errors.AsType[*TooLargeError](w.SettleSeries(context.Background(), asked("large"))); !ok || notes(t, db) != 1 {
		t.Errorf("a trend that lacks samples would be shown: %d notes", notes(t, db))
	}
	w.weekMemory = weekMemory
	if err := w.Settle(context.Background()); err != nil || notes(t, db) != 0 {
		t.Fatalf("%d notes are left: %v", notes(t, db), err)
	}
	if trends := readTrends(t, db); len(trends) != 6 || trends[0].count != 1_000_000 || trends[0].median != 499_999.5 {
		t.Errorf("the trends are %+v", trends)
	}
}
