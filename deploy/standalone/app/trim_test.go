package app

import (
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/deploy/standalone/config"
	"github.com/millrace/millrace/processor/runs"
	"github.com/millrace/millrace/processor/sink"
	"github.com/millrace/millrace/schemas/eventlog"
)

var runs0 = eventlog.Partition{Topic: eventlog.Runs}

func (k *core) trim(t *testing.T) {
	t.Helper()
	trimmer := &trimmer{
		broker: k.broker, log: k.log, archive: k.archive, epoch: k.epoch, generation: k.generation, logger: slog.New(slog.DiscardHandler),
	}
	if err := trimmer.trim(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (k *core) wantStart(t *testing.T, when string, want int64) {
	t.Helper()
	starts, err := k.log.Starts(t.Context(), runs0)
	if err != nil {
		t.Fatal(err)
	}
	if starts[runs0] != want {
		t.Errorf("%s the log of runs begins at %d, want %d", when, starts[runs0], want)
	}
}

// upTo stores runs that begin a minute apart, from one number to another.
func (l *pipeline) upTo(t *testing.T, from, to int) {
	t.Helper()
	begin := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	for n := from; n <= to; n++ {
		if outcome := l.upload(t, 1, begin.Add(time.Duration(n)*time.Minute), uint64(n)); outcome.Result != runs.Accepted || outcome.Run != uint64(n) {
			t.Fatalf("upload %d: outcome %+v", n, outcome)
		}
	}
}

func TestTheLogIsTrimmedBehindTheArchiveAndTheProjectionsAndNeverBeforeEither(t *testing.T) {
	folder := t.TempDir()
	p := startPipeline(t, folder)
	p.trim(t)
	p.wantStart(t, "when nothing was written", 0)
	p.upTo(t, 1, 20)
	p.awaitProjected(t)
	if err := p.db.Exec(t.Context(), "DELETE FROM `"+p.db.Name+"`.event_log WHERE topic = 'runs' AND offset >= 12"); err != nil {
		t.Fatal(err)
	}
	p.trim(t)
	p.wantStart(t, "when only 12 of 20 records are archived", 12)
	records, err := p.log.Fetch(t.Context(), runs0, 12, 8<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.archive.Write(t.Context(), p.epoch, p.log.LogID, "again", records, false); err != nil {
		t.Fatal(err)
	}
	p.trim(t)
	p.wantStart(t, "when all are archived, the last record stays:", 19)
	p.stop()

	p = startPipeline(t, folder)
	p.upTo(t, 21, 25)
	p.awaitProjected(t)
	p.wantWhole(t, 25)
	p.trim(t)
	p.wantStart(t, "after a restart", 24)
	if _, err := p.processor.Rebuild(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	p.wantWhole(t, 25)
}

func TestABatchThatIsBeingWrittenIsNotTrimmed(t *testing.T) {
	folder := t.TempDir()
	p := startPipeline(t, folder)
	p.upTo(t, 1, 20)
	p.awaitProjected(t)
	p.stop()

	c := config.Default()
	c.Data = folder
	options := Options{Role: Standalone, Config: c, Progress: io.Discard, Logger: slog.New(slog.DiscardHandler)}
	k, err := openCore(t.Context(), options, prometheus.NewRegistry(), keyMayBeNew)
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	// The mark of a processor that was killed while it wrote the records from 7 on.
	member := eventlog.Member{Group: sink.Group(k.generation.Number()), Generation: -1}
	if err := k.log.Commit(t.Context(), member, runs0, eventlog.Commit{Offset: 7, Note: "pending 7 19"}); err != nil {
		t.Fatal(err)
	}
	k.trim(t)
	k.wantStart(t, "with a batch pending from offset 7", 7)
}
