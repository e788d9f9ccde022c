package touched_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/query/native/touched"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// samples is a log to which a test appends samples.
type samples struct {
	*testing.T
	log      *eventlog.Client
	appender *eventlog.Appender
}

func open(t *testing.T) *samples {
	t.Helper()
	broker := os.Getenv("MILLRACE_TEST_KAFKA")
	if broker == "" {
		t.Skip("MILLRACE_TEST_KAFKA names no Kafka, so this test against the real engine is skipped")
	}
	log, err := eventlog.Dial(t.Context(), eventlog.Config{Brokers: []string{broker}, Replication: 1, VolumePartitions: 4})
	if err != nil {
		t.Fatal(err)
	}
	appender := eventlog.NewAppender(log, eventlog.AppenderConfig{MaxWaiting: 1 << 20}, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		appender.Close()
		log.Close()
	})
	return &samples{t, log, appender}
}

// add appends a sample. The topic may have fewer partitions than asked for: whoever came first made it.
func (s *samples) add(partition int, of projection.Series) {
	s.Helper()
	partitions := s.log.Partitions(eventlog.Metrics)
	e, err := eventlog.NewEvent("/test", &event.RunSamplesRecorded{
		MachineId: of.Machine, ConfigId: of.Config, BranchId: of.Branch, Metric: of.Metric, RunId: 1, Times: []int64{1}, Values: []float64{1},
	})
	if err != nil {
		s.Fatal(err)
	}
	if _, err := s.appender.Append(s.Context(), partitions[partition%len(partitions)], e); err != nil {
		s.Fatal(err)
	}
}

// index gives an index that runs, as a process would have it.
func (s *samples) index() *touched.Index[projection.Series] {
	x := touched.New(s.log, eventlog.Metrics, touched.Series, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		_ = x.Run(ctx)
		close(done)
	}()
	s.Cleanup(func() {
		cancel()
		<-done
	})
	return x
}

// watermark gives the watermark as of now.
func (s *samples) watermark(x *touched.Index[projection.Series], of projection.Series) string {
	s.Helper()
	ends, err := s.log.Ends(s.Context(), s.log.Partitions(eventlog.Metrics)...)
	if err != nil {
		s.Fatal(err)
	}
	for s.Context().Err() == nil {
		if mark, ok := x.Watermark(s.Context(), of, ends); ok {
			return mark
		}
	}
	return ""
}

func TestAWatermarkStandsWhileOtherSeriesGetSamplesAndMovesWithItsOwn(t *testing.T) {
	s := open(t)
	one, two := s.index(), s.index()
	mine := projection.Series{Machine: rand.Uint64(), Config: 1, Branch: 1, Metric: "tps"}
	s.watermark(two, mine)
	s.add(0, mine)
	first, elsewhere := s.watermark(one, mine), s.watermark(two, mine)
	moved := 0
	for i := range uint64(100) {
		s.add(int(i%4), projection.Series{Machine: mine.Machine, Config: 2 + i, Branch: 1, Metric: "tps"})
		if s.watermark(one, mine) != first {
			moved++
			first = s.watermark(one, mine)
		}
	}
	if moved > 3 { // a hash that is shared may move it
		t.Errorf("the watermark moved %d times with samples of others", moved)
	}
	for range 10 {
		s.add(1, mine)
		if again := s.watermark(one, mine); again == first {
			t.Fatalf("the watermark stands at %s, samples were added", again)
		} else {
			first = again
		}
		if again := s.watermark(two, mine); again == elsewhere {
			t.Fatalf("another process's watermark stands at %s, samples were added", again)
		} else {
			elsewhere = again
		}
	}
}

func TestAnIndexThatDoesNotRunGivesNoWatermark(t *testing.T) {
	s := open(t)
	mine := projection.Series{Machine: 1, Config: 1, Branch: 1, Metric: "tps"}
	s.add(0, mine)
	ends, err := s.log.Ends(t.Context(), s.log.Partitions(eventlog.Metrics)...)
	if err != nil {
		t.Fatal(err)
	}
	if mark, ok := touched.New(s.log, eventlog.Metrics, touched.Series, slog.New(slog.DiscardHandler)).Watermark(t.Context(), mine, ends); ok {
		t.Errorf("it gives %s", mark)
	}
}

func TestWhoWaitsForASeriesIsWokenByItsNextSamples(t *testing.T) {
	s := open(t)
	x, mine := s.index(), projection.Series{Machine: rand.Uint64(), Config: 1, Branch: 1, Metric: "tps"}
	mark, woken := s.watermark(x, mine), make(chan error)
	go func() { woken <- x.Moved(t.Context(), mine, mark) }()
	s.add(0, mine)
	if err := <-woken; err != nil || s.watermark(x, mine) == mark {
		t.Errorf("the wait ended with %v, the watermark is %s, it was %s", err, s.watermark(x, mine), mark)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if err := x.Moved(gone, mine, s.watermark(x, mine)); err == nil {
		t.Error("who has gone is told of samples that did not come")
	}
}
