package processor

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/schemas/route"
)

// lookForLossesEvery is how many measurements of the lag pass between two looks for records that were lost.
const lookForLossesEvery = 15

// losses are the records that the log deleted before they were archived, by partition.
type losses struct {
	mu    sync.Mutex
	found map[string]int64
}

// CheckLog fails when the log deleted records that were not archived. What they said is lost, and no rebuild brings it
// back: only a backup may.
func (s *Service) CheckLog(context.Context) error {
	s.losses.mu.Lock()
	defer s.losses.mu.Unlock()
	if len(s.losses.found) == 0 {
		return nil
	}
	var list []string
	for partition, records := range s.losses.found {
		list = append(list, fmt.Sprintf("%d of %s", records, partition))
	}
	slices.Sort(list)
	return route.Errorf(http.StatusServiceUnavailable, "the log deleted records before they were archived: %s", strings.Join(list, ", "))
}

// standStill leaves the projections alone for a while: nothing can follow what is lost, and a person must be told by a
// process that still answers.
func (s *Service) standStill(ctx context.Context, lost error) error {
	s.logger.Error("the projections stand still", "error", lost)
	if err := s.lookForLosses(ctx); err != nil {
		return err
	}
	timer := time.NewTimer(10 * time.Second)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// lookForLosses compares where the log begins with where the archive ends.
func (s *Service) lookForLosses(ctx context.Context) error {
	starts, err := s.client.Starts(ctx, s.client.Partitions()...)
	if err != nil {
		return fmt.Errorf("look for lost records: %w", err)
	}
	for partition, start := range starts {
		archived, err := s.sink.Archive.End(ctx, partition)
		if err != nil {
			return fmt.Errorf("look for lost records: %w", err)
		}
		if archived.Epoch != s.sink.Epoch {
			archived.Offset = 0
		}
		s.noteLoss(partition.String(), max(0, start-archived.Offset), archived.Offset)
	}
	return nil
}

func (s *Service) noteLoss(partition string, records, from int64) {
	s.losses.mu.Lock()
	defer s.losses.mu.Unlock()
	s.lost.WithLabelValues(partition).Set(float64(records))
	if records == 0 {
		delete(s.losses.found, partition)
		return
	}
	if s.losses.found[partition] != records {
		s.logger.Error("the log deleted records before they were archived: restore a backup, and give Kafka's topics more retention",
			"partition", partition, "records", records, "from_offset", from)
	}
	if s.losses.found == nil {
		s.losses.found = map[string]int64{}
	}
	s.losses.found[partition] = records
}
