package farm

import (
	"context"
	"fmt"
	"net/url"
	"strconv"

	"github.com/millrace/millrace/loadtest/ledger"
)

// pageRows is the largest page of /millrace/v1.
const pageRows = 1000

// pages reads a list of /millrace/v1 to its end.
func pages[T any](ctx context.Context, r *Reader, path string, query url.Values, each func(T) error) error {
	query.Set("limit", strconv.Itoa(pageRows))
	for {
		var page struct {
			Items []T     `json:"items"`
			Next  *string `json:"next"`
		}
		if err := r.Get(ctx, path+"?"+query.Encode(), &page); err != nil {
			return err
		}
		for _, item := range page.Items {
			if err := each(item); err != nil {
				return fmt.Errorf("GET %s: %w", path, err)
			}
		}
		if page.Next == nil {
			return nil
		}
		query.Set("cursor", *page.Next)
	}
}

// Runs gives the runs of some machines as /millrace/v1/runs lists them, page by page.
func (r *Reader) Runs(ctx context.Context, machines Machines) ([]ledger.Sighting, error) {
	type run struct {
		RunID  uint64 `json:"run_id"`
		Commit string `json:"commit"`
	}
	var sightings []ledger.Sighting
	for _, machine := range r.Target.Machines[machines.First : machines.First+machines.Count] {
		query := url.Values{"machine": {strconv.FormatUint(machine.ID, 10)}, "fields": {"run_id,commit"}}
		err := pages(ctx, r, "/millrace/v1/runs", query, func(row run) error {
			upload, err := ParseCommit(row.Commit)
			sightings = append(sightings, ledger.Sighting{Upload: upload, Run: row.RunID, Times: 1})
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return sightings, nil
}

// Series is one series of samples and how many it has, by the sums of its trend.
type Series struct {
	MachineID uint64 `json:"machine_id"`
	ConfigID  uint64 `json:"config_id"`
	BranchID  uint64 `json:"branch_id"`
	Metric    string `json:"metric"`
	Samples   int    `json:"samples"`
}

func (s Series) query() url.Values {
	return url.Values{
		"machine": {strconv.FormatUint(s.MachineID, 10)}, "config": {strconv.FormatUint(s.ConfigID, 10)},
		"branch": {strconv.FormatUint(s.BranchID, 10)}, "metric": {s.Metric},
	}
}

// Series lists the series of a machine.
func (r *Reader) Series(ctx context.Context, machine uint64) ([]Series, error) {
	var list []Series
	query := url.Values{"machine": {strconv.FormatUint(machine, 10)}}
	err := pages(ctx, r, "/millrace/v1/metrics/names", query, func(s Series) error {
		list = append(list, s)
		return nil
	})
	return list, err
}

// Samples counts the raw samples of a series by the run that they belong to.
func (r *Reader) Samples(ctx context.Context, s Series) (map[uint64]int, error) {
	type sample struct {
		RunID uint64 `json:"run_id"`
	}
	counts := map[uint64]int{}
	query := s.query()
	query.Set("fields", "run_id")
	err := pages(ctx, r, "/millrace/v1/metrics", query, func(row sample) error {
		counts[row.RunID]++
		return nil
	})
	return counts, err
}

// TrendCount adds up the counts of all buckets of a series' trend.
func (r *Reader) TrendCount(ctx context.Context, s Series, resolution string) (int, error) {
	query := s.query()
	query.Set("resolution", resolution)
	var trend struct {
		Items []struct {
			Count int `json:"count"`
		} `json:"items"`
	}
	if err := r.Get(ctx, "/millrace/v1/trend?"+query.Encode(), &trend); err != nil {
		return 0, err
	}
	total := 0
	for _, point := range trend.Items {
		total += point.Count
	}
	return total, nil
}

// DeadLetters counts what could not be projected.
func (r *Reader) DeadLetters(ctx context.Context) (int, error) {
	n := 0
	err := pages(ctx, r, "/millrace/v1/dead-letters", url.Values{}, func(struct{}) error {
		n++
		return nil
	})
	return n, err
}

// SamplesPerRun is how many samples of a metric a run of this size has: those of its results, and those of each second of
// their logs.
func (s Size) SamplesPerRun(metric string) int {
	seconds := 5
	if s == Large {
		seconds = 515
	}
	switch metric {
	case "tps", "latency", "init":
		return s.Results()
	case "log.tps", "log.latency":
		return s.Results() * seconds
	}
	return 0
}
