package projection

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/schemas/clickhouse"
)

func TestWeeksThatTakeLongRestAndSlowOnesAreLeftToRun(t *testing.T) {
	now := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	weeks := map[string]week{"quick": {start: monday}, "tiring": {start: monday + Week}, "slow": {start: monday + 2*Week}}
	p := pace{rests: make(map[week]rest)}
	p.took([]week{weeks["quick"]}, 20*time.Millisecond, now)
	p.took([]week{weeks["tiring"]}, 100*time.Millisecond, now)
	p.took([]week{weeks["slow"]}, 10*time.Second, now)
	postponed := func(after time.Duration) (names []string) {
		for _, name := range []string{"quick", "tiring", "slow"} {
			if _, later := p.split([]touchedHour{{hour: weeks[name].start}}, now.Add(after)); later != nil {
				names = append(names, name)
			}
		}
		return names
	}
	if got := postponed(0); got != nil {
		t.Errorf("postponed although nobody runs: %v", got)
	}
	p.run(1)
	for _, test := range []struct {
		after      time.Duration
		want       []string
		slowRested bool
	}{
		{0, []string{"tiring", "slow"}, false},
		{399 * time.Millisecond, []string{"tiring", "slow"}, false},
		{400 * time.Millisecond, []string{"slow"}, false},
		{40 * time.Second, []string{"slow"}, true},
	} {
		if diff := cmp.Diff(test.want, postponed(test.after)); diff != "" {
			t.Errorf("postponed after %v (-want +got):\n%s", test.after, diff)
		}
		if rested := p.rested(weeks["slow"], now.Add(test.after)); rested != test.slowRested {
			t.Errorf("after %v the slow week is rested: %v", test.after, rested)
		}
	}
	p.took([]week{weeks["slow"]}, time.Millisecond, now.Add(time.Minute))
	if got := postponed(time.Minute); got != nil {
		t.Errorf("postponed when all are quick: %v", got)
	}
}

func TestRestsAreForgottenInTheEnd(t *testing.T) {
	now := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	p := pace{rests: make(map[week]rest)}
	p.took([]week{{start: 0}}, time.Second, now)
	p.took([]week{{start: Week}}, time.Second, now.Add(2*rememberSlow))
	if len(p.rests) != 1 {
		t.Errorf("%d weeks are remembered, want 1", len(p.rests))
	}
}

// tire makes a writer believe that the weeks of all samples took a time to recompute.
func tire(w *Writer, b *Batch, took time.Duration) {
	weeks, _ := firstWeeks(b.metrics.touched(), weeksAtOnce)
	w.pace.took(weeks, took, time.Now())
}

func TestPostponedTrendsAreCompletedByWhoeverAsks(t *testing.T) {
	for name, settle := range map[string]func(t *testing.T, db *clickhouse.DB, w *Writer) error{
		"the writer": func(_ *testing.T, _ *clickhouse.DB, w *Writer) error { return w.Settle(context.Background()) },
		"another process": func(_ *testing.T, db *clickhouse.DB, _ *Writer) error {
			return NewWriter(db, 1).Settle(context.Background())
		},
		"readers of the series": func(_ *testing.T, db *clickhouse.DB, _ *Writer) error {
			var errs []error
			for _, config := range []uint64{0, 1} {
				for _, metric := range []string{"a", "b"} {
					s := Series{Machine: 7, Config: config, Branch: 1, Metric: metric}
					errs = append(errs, NewWriter(db, 1).SettleSeries(context.Background(), s))
				}
			}
			return errors.Join(errs...)
		},
		"another process's Run": func(t *testing.T, db *clickhouse.DB, _ *Writer) error {
			ctx, stop := context.WithCancel(context.Background())
			ended := make(chan error)
			other := NewWriter(db, 1)
			go func() { ended <- other.Run(ctx, slog.New(slog.DiscardHandler), nil) }()
			err := awaitNoNotes(t, db)
			stop()
			if ended := <-ended; !errors.Is(ended, context.Canceled) {
				err = errors.Join(err, ended)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			db := openEngine(t)
			messages, records := history(newLab(t), 40)
			w := NewWriter(db, 1)
			writeSamples(t, w, messages[:20], records[:20], "a")
			w.pace.run(1)
			b := NewBatch()
			for i := 20; i < 40; i++ {
				if err := b.AddSamples(messages[i], records[i]); err != nil {
					t.Fatal(err)
				}
			}
			tire(w, b, time.Hour)
			for range 2 { // the second is another try of the same batch
				if err := w.Write(context.Background(), b, "b", false); err != nil {
					t.Fatal(err)
				}
			}
			wantTrends(t, db, messages[:20])
			if notes(t, db) == 0 {
				t.Fatal("nothing notes that trends are postponed")
			}
			if err := settle(t, db, w); err != nil {
				t.Fatal(err)
			}
			wantTrends(t, db, messages)
			if n := notes(t, db); n != 0 {
				t.Errorf("%d notes are left", n)
			}
		})
	}
}

func notes(t *testing.T, db *clickhouse.DB) (n uint64) {
	t.Helper()
	if err := db.QueryRow(context.Background(), "SELECT count() FROM `"+db.Generation(1)+"`.postponed_trends").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func awaitNoNotes(t *testing.T, db *clickhouse.DB) error {
	ticker, deadline := time.NewTicker(20*time.Millisecond), time.After(time.Minute)
	defer ticker.Stop()
	for notes(t, db) > 0 {
		select {
		case <-ticker.C:
		case <-deadline:
			return errors.New("after a minute there are notes of postponed trends")
		}
	}
	return nil
}

func TestRunLeavesAWeekAloneWhileItRests(t *testing.T) {
	db := openEngine(t)
	messages, records := history(newLab(t), 10)
	w := NewWriter(db, 1)
	w.pace.run(1)
	b := NewBatch()
	for i := range messages {
		if err := b.AddSamples(messages[i], records[i]); err != nil {
			t.Fatal(err)
		}
	}
	tire(w, b, time.Hour)
	if err := w.Write(context.Background(), b, "a", false); err != nil {
		t.Fatal(err)
	}
	before := notes(t, db)
	left, err := w.settle(context.Background(), everySeries(), func(p week) bool { return w.pace.rested(p, time.Now()) })
	if err != nil || uint64(left) != before || notes(t, db) != before {
		t.Errorf("%d of %d notes are left, %d told: %v", notes(t, db), before, left, err)
	}
}

func TestStatementOverItsMemoryIsTriedAgainInParts(t *testing.T) {
	db := openEngine(t)
	l := newLab(t)
	var b = NewBatch()
	for i := range 8 {
		m := samplesMessage(fmt.Sprint("m", i))
		for j := range 200_000 {
			m.Times, m.Values = append(m.Times, runStart.UnixMilli()+int64(j)), append(m.Values, float64(j))
		}
		if err := b.AddSamples(m, l.record(m)); err != nil {
			t.Fatal(err)
		}
	}
	w := NewWriter(db, 1)
	w.trendMemory = 16 << 20
	if err := w.Write(context.Background(), b, "a", false); err != nil {
		t.Fatal(err)
	}
	trends := readTrends(t, db)
	if len(trends) != 8*3 {
		t.Fatalf("there are %d trends, want 24", len(trends))
	}
	for _, r := range trends {
		if r.count != 200_000 || r.median != 99_999.5 || r.max != 199_999 {
			t.Errorf("trend is %+v", r)
		}
	}
}
