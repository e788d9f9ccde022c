package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/loadtest/direct"
	"github.com/millrace/millrace/loadtest/farm"
	"github.com/millrace/millrace/loadtest/load"
	"github.com/millrace/millrace/schemas/blob"
	"github.com/millrace/millrace/schemas/document"
)

// boundedLog writes many times what the embedded log may take, kills the standalone in the middle and at the end, and
// watches disk and memory all the while. Afterwards it looks at what the archive took.
type boundedLog struct {
	Common `yaml:",inline"`
	// Bound is what the log is meant to take, in bytes, and Times how often that is written.
	Bound int64 `yaml:"bound"`
	Times int   `yaml:"times"`
	// AtMost is the multiple of Bound that the log's folder never exceeds, Memory what the process never exceeds, in bytes.
	AtMost float64 `yaml:"at_most"`
	Memory int64   `yaml:"memory"`
	// Document is the size of the uploads, Rate how many are sent a second, InFlight how many at most wait for an answer.
	// What is not projected yet stays in the log, until its limit holds the writers back.
	Document farm.Size `yaml:"document"`
	Rate     float64   `yaml:"rate"`
	InFlight int       `yaml:"in_flight"`
	// Patience bounds a start, and the wait until uploads are settled at the end.
	Patience time.Duration `yaml:"patience"`
}

func (b *boundedLog) validate() error {
	errs := []error{b.Document.Validate(), between("times", b.Times, 1, 10_000), checkLoad(b.Rate, b.InFlight)}
	bad := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(b.Bound < 1<<20, "bound: %d bytes are less than 1 MB, which no log stays under", b.Bound)
	bad(!(b.AtMost > 0), "at_most: %g is no multiple of the bound", b.AtMost)
	bad(b.Memory < 1<<20, "memory: %d bytes are less than any process takes", b.Memory)
	bad(b.Patience <= 0, "patience: %s is no time to wait", b.Patience)
	bad(b.Target.Start == "" || b.Target.Engines == "apart", "target: only a standalone that is started here has an embedded log to watch")
	return errors.Join(errs...)
}

func (b *boundedLog) run(l *lab) error {
	plan := farm.Plan{Seed: l.seed, Size: b.Document}
	machines := farm.Machines{Count: len(l.target.Machines)}
	size, err := measureUploads(l.ctx, plan, machines)
	if err != nil {
		return err
	}
	wanted := int(float64(b.Bound)*float64(b.Times)/size.record) + 1
	if wanted > machines.Count*farm.MaxNumber {
		return fmt.Errorf("%d uploads are needed, which are too many for %d machines", wanted, machines.Count)
	}
	watch := l.watchFootprint()
	defer watch.end()
	uploads := l.newOpenUploads(machines, plan, []farm.Policy{farm.Careful}, load.Open{Rate: b.Rate, InFlight: b.InFlight})
	middle, err := b.write(l, watch, uploads, int64(wanted))
	if err != nil {
		return err
	}
	written := watch.sofar()
	l.progress.Phase("starting again", nil)
	end, err := b.killAndStart(l, watch)
	if err != nil {
		return err
	}
	uploads.promiseSettled()
	if err := l.verify("", uploads.sender.Ledger, plan, machines); err != nil {
		return err
	}
	watch.end()
	rest, err := l.target.LogBytes()
	if err != nil {
		return err
	}
	b.tell(l, watch.sofar(), written, rest, middle, end)
	if watch.err != nil {
		return watch.err
	}
	return b.inspect(l, size.document*float64(uploads.sender.Counts.Stored.Load()))
}

// uploadSize is the mean size of an upload as it is sent and as it is appended, in bytes.
type uploadSize struct{ document, record float64 }

// measureUploads packs some of the plan's documents as ingest does.
func measureUploads(ctx context.Context, plan farm.Plan, machines farm.Machines) (size uploadSize, err error) {
	blobs, err := blob.Open(ctx, "mem://")
	if err != nil {
		return size, err
	}
	defer func() { err = errors.Join(err, blobs.Close()) }()
	packer, err := document.NewPacker(blobs, 1<<30)
	if err != nil {
		return size, err
	}
	const some = 32
	for i := range some {
		body := plan.Document(machines.Upload(i))
		packed, err := packer.Pack(ctx, body)
		if err != nil {
			return size, err
		}
		size.document += float64(len(body)) / some
		size.record += float64(len(packed.GetInline())) / some
	}
	return size, nil
}

// write sends until so many uploads are stored, and kills the standalone when half of them are; it says how long the
// start took.
func (b *boundedLog) write(l *lab, watch *footprint, uploads *openUploads, wanted int64) (middle time.Duration, err error) {
	l.progress.Phase("writing", func() string { return fmt.Sprintf("%s; %s", uploads.status(), watch) })
	stop := uploads.start()
	defer func() { stop(b.Patience) }()
	stored := func() int64 { return uploads.sender.Counts.Stored.Load() }
	if err := reach(l.ctx, stored, wanted/2); err != nil {
		return 0, err
	}
	if middle, err = b.killAndStart(l, watch); err != nil {
		return 0, err
	}
	return middle, reach(l.ctx, stored, wanted)
}

// reach waits until a count is at least wanted.
func reach(ctx context.Context, count func() int64, wanted int64) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for count() < wanted {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
	return nil
}

// killAndStart ends the standalone as kill -9 does and says how long it takes until it is ready again.
func (b *boundedLog) killAndStart(l *lab, watch *footprint) (time.Duration, error) {
	if err := watch.replace(func() error { return errors.Join(l.target.Kill(), l.target.Start()) }); err != nil {
		return 0, err
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(l.ctx, b.Patience)
	defer cancel()
	err := l.target.AwaitReady(ctx)
	return time.Since(began), err
}

// megabytes for people.
func megabytes(bytes int64) string { return fmt.Sprintf("%.1f MB", float64(bytes)/1e6) }

func (b *boundedLog) tell(l *lab, most, written extent, rest int64, middle, end time.Duration) {
	multiple := float64(most.log) / float64(b.Bound)
	l.result.Promise("the log's disk stays bounded", multiple <= b.AtMost && most.log > 0, nil,
		"at most %s, which is %.2f of the bound of %s; promised is %g", megabytes(most.log), multiple, megabytes(b.Bound), b.AtMost)
	l.result.Promise("the process's memory stays bounded", most.memory <= b.Memory && most.memory > 0, nil,
		"at most %s, promised are %s", megabytes(most.memory), megabytes(b.Memory))
	table := l.result.Table("The embedded log", "bound", "most on disk", "of the bound", "at the end", "most memory", "while writing",
		"ready again ms, in the middle", "at the end")
	table.Row(megabytes(b.Bound), megabytes(most.log), fmt.Sprintf("%.2f", multiple), megabytes(rest), megabytes(most.memory),
		megabytes(written.memory), fmt.Sprint(middle.Milliseconds()), fmt.Sprint(end.Milliseconds()))
	l.result.Figure("bounded-log.disk_of_bound", multiple, "")
	l.result.Figure("bounded-log.disk_at_end", float64(rest), "bytes")
	l.result.Figure("bounded-log.memory", float64(most.memory), "bytes")
	l.result.Figure("bounded-log.start_middle", float64(middle.Milliseconds()), "ms")
	l.result.Figure("bounded-log.start_end", float64(end.Milliseconds()), "ms")
}

// inspect looks at the archive that is left.
func (b *boundedLog) inspect(l *lab, uploaded float64) error {
	l.progress.Phase("looking at the archive", nil)
	if err := l.target.Inspect(l.ctx); err != nil {
		return err
	}
	engines, err := direct.Connect(l.ctx, l.target)
	if err != nil {
		return err
	}
	defer engines.Close()
	archive, err := engines.Archive(l.ctx)
	if err != nil {
		return err
	}
	wanted := b.Bound * int64(b.Times)
	l.result.Promise(fmt.Sprintf("%d times the bound went through the log", b.Times), archive.Payload >= wanted, nil,
		"%s of payload are archived, wanted %s", megabytes(archive.Payload), megabytes(wanted))
	perEvent, perByte := float64(archive.Disk)/float64(archive.Events), float64(archive.Disk)/uploaded
	table := l.result.Table("The archive", "events", "payload", "on disk", "bytes an event", "bytes an uploaded byte")
	table.Row(fmt.Sprint(archive.Events), megabytes(archive.Payload), megabytes(archive.Disk), fmt.Sprintf("%.0f", perEvent), fmt.Sprintf("%.3f", perByte))
	l.result.Figure("bounded-log.archive_per_event", perEvent, "bytes")
	l.result.Figure("bounded-log.archive_per_uploaded_byte", perByte, "")
	return nil
}
