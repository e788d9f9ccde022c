package scenario

import (
	"fmt"
	"time"

	"github.com/millrace/millrace/loadtest/farm"
	"github.com/millrace/millrace/loadtest/ledger"
)

// verify compares what was acknowledged with everything that shows uploads: aggregates, raw rows and their samples. when
// begins its promises.
func (l *lab) verify(when string, books *ledger.Ledger, plan farm.Plan, machines farm.Machines) error {
	l.progress.Phase("verifying", nil)
	reader := &farm.Reader{Target: l.target, HTTP: client(4, time.Minute), Plan: plan}
	trends, err := reader.Trends(l.ctx, machines)
	if err != nil {
		return err
	}
	l.promiseOnce(when, books.Compare("farm's trends", trends))
	runs, err := reader.Runs(l.ctx, machines)
	if err != nil {
		return err
	}
	l.promiseOnce(when, books.Compare("list of runs", runs))
	if err := l.verifySamples(when, reader, machines, runs); err != nil {
		return err
	}
	letters, err := reader.DeadLetters(l.ctx)
	if err != nil {
		return err
	}
	l.result.Promise(when+"no good event becomes a dead letter", letters == 0, nil, "%d dead letters", letters)
	return nil
}

// verifySamples compares the samples of each listed run, raw and in the sums of trends, with what its document holds.
func (l *lab) verifySamples(when string, reader *farm.Reader, machines farm.Machines, runs []ledger.Sighting) error {
	check := &sampleCheck{reader: reader}
	for m := machines.First; m < machines.First+machines.Count; m++ {
		listed := map[uint64]bool{}
		for _, run := range runs {
			if run.Machine == m {
				listed[run.Run] = true
			}
		}
		if err := check.machine(l, l.target.Machines[m].ID, listed); err != nil {
			return err
		}
	}
	l.result.Promise(when+"raw samples hold each sample of each run once", check.rawWrong == 0, check.examples,
		"%d samples of metric tps, %d runs with another number", check.raw, check.rawWrong)
	l.result.Promise(when+"trends count each sample of each run once", check.trendWrong == 0, check.examples,
		"%d samples in the trends of %d series, %d series with another number", check.trend, check.series, check.trendWrong)
	l.result.Promise(when+"the list of series counts each sample of each run once", check.listWrong == 0, check.examples,
		"%d series, %d with another number", check.series, check.listWrong)
	return nil
}

// sampleCheck adds up what it finds.
type sampleCheck struct {
	reader                          *farm.Reader
	raw, trend, series              int
	rawWrong, trendWrong, listWrong int
	examples                        []string
}

func (c *sampleCheck) wrong(counter *int, format string, args ...any) {
	*counter++
	if len(c.examples) < maxComplaints {
		c.examples = append(c.examples, fmt.Sprintf(format, args...))
	}
}

func (c *sampleCheck) machine(l *lab, machine uint64, listed map[uint64]bool) error {
	list, err := c.reader.Series(l.ctx, machine)
	if err != nil {
		return err
	}
	size := c.reader.Plan.Size
	if len(list) == 0 && len(listed) > 0 {
		c.wrong(&c.listWrong, "machine %d has %d runs and no series", machine, len(listed))
	}
	for _, s := range list {
		c.series++
		wanted := len(listed) * size.SamplesPerRun(s.Metric)
		weeks, err := c.reader.TrendCount(l.ctx, s, "week")
		if err != nil {
			return err
		}
		c.trend += weeks
		if weeks != wanted {
			c.wrong(&c.trendWrong, "metric %s of machine %d: %d runs have %d samples, the trend counts %d", s.Metric, machine, len(listed), wanted, weeks)
		}
		if s.Samples != wanted {
			c.wrong(&c.listWrong, "metric %s of machine %d: %d runs have %d samples, the list of series counts %d",
				s.Metric, machine, len(listed), wanted, s.Samples)
		}
		if s.Metric == "tps" {
			if err := c.rawSamples(l, s, listed); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *sampleCheck) rawSamples(l *lab, s farm.Series, listed map[uint64]bool) error {
	counts, err := c.reader.Samples(l.ctx, s)
	if err != nil {
		return err
	}
	wanted := c.reader.Plan.Size.SamplesPerRun(s.Metric)
	for run := range listed {
		c.raw += counts[run]
		if counts[run] != wanted {
			c.wrong(&c.rawWrong, "run %d has %d raw samples of %s, its document %d", run, counts[run], s.Metric, wanted)
		}
		delete(counts, run)
	}
	for run, n := range counts {
		c.wrong(&c.rawWrong, "run %d has %d raw samples of %s and is in no list", run, n, s.Metric)
	}
	return nil
}
