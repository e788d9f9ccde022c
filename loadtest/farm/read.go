package farm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/millrace/millrace/loadtest/ledger"
	"github.com/millrace/millrace/loadtest/target"
)

// Reader reads the server's lists. A server that cannot answer yet is asked again until the context ends.
type Reader struct {
	Target *target.Target
	HTTP   *http.Client
	Plan   Plan
}

// StatusError is an answer other than 200.
type StatusError struct {
	Path   string
	Status int
	Body   string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("GET %s: status %d: %s", e.Path, e.Status, e.Body)
}

// Get reads a path into a JSON value, and waits while the answer is 503 or there is none.
func (r *Reader) Get(ctx context.Context, path string, into any) error {
	for {
		again, err := r.get(ctx, path, into)
		if err == nil || !again {
			return err
		}
		timer := time.NewTimer(100 * time.Millisecond)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w; the last answer: %w", ctx.Err(), err)
		case <-timer.C:
		}
	}
}

// get makes one attempt; again says whether another may help.
func (r *Reader) get(ctx context.Context, path string, into any) (again bool, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.Target.URL+path, nil)
	if err != nil {
		return false, err
	}
	if r.Target.Token != "" && len(path) > 9 && path[:10] == "/millrace/" {
		request.Header.Set("Authorization", "Bearer "+r.Target.Token)
	}
	response, err := r.HTTP.Do(request)
	if err != nil {
		return true, fmt.Errorf("GET %s: %w", path, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 2000)) // what there is of it explains the status
		busy := response.StatusCode == http.StatusServiceUnavailable || response.StatusCode == http.StatusTooManyRequests
		return busy, &StatusError{Path: path, Status: response.StatusCode, Body: string(text)}
	}
	if into == nil {
		_, err = io.Copy(io.Discard, response.Body)
	} else {
		err = json.NewDecoder(response.Body).Decode(into)
	}
	if err != nil {
		return true, fmt.Errorf("GET %s: read the answer: %w", path, err)
	}
	return false, nil
}

// Configs gives the configuration that each machine has results of, by the machine's id.
func (r *Reader) Configs(ctx context.Context) (map[uint64]uint64, error) {
	var rows []struct {
		MachineID uint64 `json:"machine_id"`
		ConfigID  uint64 `json:"pgbench_benchmark_id"`
	}
	if err := r.Get(ctx, "/benchmark/machines", &rows); err != nil {
		return nil, err
	}
	configs := make(map[uint64]uint64, len(rows))
	for _, row := range rows {
		configs[row.MachineID] = row.ConfigID
	}
	return configs, nil
}

// Trends gives what the farm's trends of some machines show of each upload: an aggregate, since they count results by
// commit. The plan gives each run its own commit.
func (r *Reader) Trends(ctx context.Context, machines Machines) ([]ledger.Sighting, error) {
	configs, err := r.Configs(ctx)
	if err != nil {
		return nil, err
	}
	var sightings []ledger.Sighting
	for _, machine := range r.Target.Machines[machines.First : machines.First+machines.Count] {
		config, has := configs[machine.ID]
		if !has {
			continue
		}
		var rows []trendRow
		path := "/benchmark/pgbench_trends/" + strconv.FormatUint(machine.ID, 10) + "/" + strconv.FormatUint(config, 10)
		if err := r.Get(ctx, path, &rows); err != nil {
			return nil, err
		}
		for _, row := range rows {
			sighting, err := row.sighting(r.Plan.Size.Results())
			if err != nil {
				return nil, fmt.Errorf("GET %s: %w", path, err)
			}
			sightings = append(sightings, sighting)
		}
	}
	return sightings, nil
}

type trendRow struct {
	Commit string `json:"git_commit"`
	Count  int    `json:"count"`
}

// sighting reads a row. Every run has the same number of results: another count is a run of which a part is counted.
func (t trendRow) sighting(results int) (ledger.Sighting, error) {
	upload, err := ParseCommit(t.Commit)
	if err != nil {
		return ledger.Sighting{}, err
	}
	if t.Count%results != 0 {
		return ledger.Sighting{}, fmt.Errorf("%s counts %d results, a run has %d", upload, t.Count, results)
	}
	return ledger.Sighting{Upload: upload, Times: t.Count / results}, nil
}

// Status reads a path once and gives the answer's status, 0 when there is none.
func (r *Reader) Status(ctx context.Context, path string) int {
	_, err := r.get(ctx, path, nil)
	var refusal *StatusError
	switch {
	case err == nil:
		return http.StatusOK
	case errors.As(err, &refusal):
		return refusal.Status
	}
	return 0
}
