package direct

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/loadtest/farm"
	"github.com/millrace/millrace/loadtest/target"
	"github.com/millrace/millrace/processor/pgperffarm"
	"github.com/millrace/millrace/schemas/document"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// source names the harness in events.
const source = "/loadtest"

// appenders is how many events are on their way to the log at once.
const appenders = 512

// Filler appends the events that uploads and samples give, as the doors do, without the doors.
type Filler struct {
	engines  *Engines
	machines []target.Machine
	all      farm.Machines
	plan     farm.Plan
	packer   *document.Packer
	// samples is how many an event of samples has.
	samples  int
	appended atomic.Int64
}

// NewFiller gives a filler for the target's machines. Documents of the plan ride in their events.
func NewFiller(engines *Engines, machines []target.Machine, plan farm.Plan, samples int) (*Filler, error) {
	packer, err := document.NewPacker(nil, 1<<20)
	if err != nil {
		return nil, err
	}
	return &Filler{
		engines: engines, machines: machines, all: farm.Machines{Count: len(machines)}, plan: plan, packer: packer, samples: samples,
	}, nil
}

// Appended is how many events are in the log by now.
func (f *Filler) Appended() int64 { return f.appended.Load() }

// Fill appends events, a share of them uploads.
func (f *Filler) Fill(ctx context.Context, events int, uploads float64) error {
	group, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range appenders {
		group.Go(func() error {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= events {
					return nil
				}
				if err := f.append(ctx, i, uploads); err != nil {
					return err
				}
				f.appended.Add(1)
			}
			return ctx.Err()
		})
	}
	return group.Wait()
}

// append makes event i an upload or samples, so that the uploads have their share from the beginning.
func (f *Filler) append(ctx context.Context, i int, uploads float64) error {
	before, after := int(float64(i)*uploads), int(float64(i+1)*uploads)
	if after > before || i == 0 {
		return f.upload(ctx, before)
	}
	return f.record(ctx, i-before, uint64(1+before))
}

// upload appends the upload with an ordinal.
func (f *Filler) upload(ctx context.Context, ordinal int) error {
	u := f.all.Upload(ordinal)
	body := f.plan.Document(u)
	parsed, err := pgperffarm.Parse(body, pgperffarm.DefaultLimits())
	if err != nil {
		return fmt.Errorf("parse the document of %s: %w", u, err)
	}
	packed, err := f.packer.Pack(ctx, body)
	if err != nil {
		return err
	}
	request := &event.FarmUploadRequested{
		MachineId: f.machines[u.Machine].ID, MachineType: parsed.MachineType, StartTime: parsed.Start.UnixMicro(), Document: packed,
	}
	for _, term := range parsed.Terms() {
		request.Terms = append(request.Terms, &event.Term{Kind: event.TermKind(term.Kind), Hash: term.Hash[:]})
	}
	e, err := eventlog.NewEvent(source, request)
	if err != nil {
		return err
	}
	_, err = f.engines.Appender.Append(ctx, f.engines.Log.PartitionFor(eventlog.Runs, nil), e)
	return err
}

// record appends samples of a run: the n-th event of samples.
func (f *Filler) record(ctx context.Context, n int, run uint64) error {
	e, key, err := f.samplesEvent(n, run, "load.cpu")
	if err != nil {
		return err
	}
	_, err = f.engines.Appender.Append(ctx, f.engines.Log.PartitionFor(eventlog.Metrics, key), e)
	return err
}

// samplesEvent makes the n-th event of samples of a metric: a sample each second, behind those of the machine's event
// before.
func (f *Filler) samplesEvent(n int, run uint64, metric string) (eventlog.Event, []byte, error) {
	at := f.all.Upload(n)
	machine := f.machines[at.Machine].ID
	message := &event.RunSamplesRecorded{
		RunId: run, MachineId: machine, BranchId: 1, Metric: metric,
		Times: make([]int64, f.samples), Values: make([]float64, f.samples),
	}
	random := rand.New(rand.NewPCG(f.plan.Seed, uint64(n)))
	first := farm.Start(0).UnixMilli() + int64(at.Number*f.samples)*1000
	for i := range f.samples {
		message.Times[i], message.Values[i] = first+int64(i)*1000, float64(random.IntN(100_000))/1000
	}
	e, err := eventlog.NewEvent(source, message)
	e.Key = binary.BigEndian.AppendUint64(nil, machine)
	return e, e.Key, err
}
