package pgbench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"
)

// sampleHost stands where collectd puts the machine's name, which the farm ignores: the upload's secret says who sends.
const sampleHost = "localhost"

// startSampling reads the machine's state every interval, in the form of collectd's CSV files, until stop is called.
// stop waits for the sampling to end, and returns the samples.
func startSampling(ctx context.Context, proc fs.FS, interval time.Duration) (stop func() (collectd, error)) {
	ctx, cancel := context.WithCancel(ctx)
	s := &sampler{proc: proc, plugins: plugins(), samples: map[string]map[string][]point{}}
	done := make(chan error, 1)
	go func() { done <- s.run(ctx, interval) }()
	return func() (collectd, error) {
		cancel()
		if err := <-done; err != nil {
			return nil, fmt.Errorf("sample the machine: %w", err)
		}
		return collectd{sampleHost: s.samples}, nil
	}
}

// sampler belongs to the goroutine of run.
type sampler struct {
	proc    fs.FS
	plugins []plugin
	samples map[string]map[string][]point
}

func (s *sampler) run(ctx context.Context, interval time.Duration) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	// Percentages need a first reading to count from.
	if _, err := s.read(); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case at := <-tick.C:
			readings, err := s.read()
			if err != nil {
				return err
			}
			s.keep(at, readings)
		}
	}
}

// read asks every plugin. One whose files this kernel does not have is left out.
func (s *sampler) read() (map[string][]metric, error) {
	readings := map[string][]metric{}
	for _, plugin := range s.plugins {
		metrics, err := plugin.read(s.proc)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", plugin.name, err)
		}
		readings[plugin.name] = metrics
	}
	return readings, nil
}

// keep files the readings under plugin and "metric-date", with the time as their common epoch.
func (s *sampler) keep(at time.Time, readings map[string][]metric) {
	epoch := strconv.FormatFloat(unixSeconds(at), 'f', 3, 64)
	date := at.UTC().Format("-2006-01-02")
	for name, metrics := range readings {
		files := s.samples[name]
		if files == nil {
			files = map[string][]point{}
			s.samples[name] = files
		}
		for _, m := range metrics {
			files[m.name+date] = append(files[m.name+date], point{Epoch: epoch, Value: m.value})
		}
	}
}
