package projection

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/ext"
)

// touchedHour is an hour of a series that got samples.
type touchedHour struct {
	Series
	hour int64
}

// bucket is the start of the bucket that the hour is in.
func (t touchedHour) bucket(resolution int64) int64 { return BucketStart(t.hour*1000, resolution) }

func (t touchedHour) week() week { return week{t.Series, t.bucket(Week)} }

// compare orders hours by week and series.
func (t touchedHour) compare(other touchedHour) int {
	return cmp.Or(t.week().compare(other.week()), cmp.Compare(t.hour, other.hour))
}

// week is a week of a series: what one recomputation reads.
type week struct {
	Series
	start int64
}

func (w week) compare(other week) int {
	return cmp.Or(cmp.Compare(w.start, other.start), w.Series.compare(other.Series))
}

// hours are all hours of the week, for a recomputation that does not know which were touched.
func (w week) hours() []touchedHour {
	hours := make([]touchedHour, 0, Week/Hour)
	for hour := w.start; hour < w.start+Week; hour += Hour {
		hours = append(hours, touchedHour{w.Series, hour})
	}
	return hours
}

// touched lists the hours that got samples, by week and series.
func (s *samples) touched() []touchedHour {
	hours := make(map[touchedHour]struct{})
	for i := range s.segments {
		segment := &s.segments[i]
		for from, to := segment.first, segment.first+s.length(i); from < to; {
			hour := BucketStart(s.times[from], Hour)
			hours[touchedHour{segment.Series, hour}] = struct{}{}
			for from < to && s.times[from] >= hour*1000 && s.times[from] < (hour+Hour)*1000 {
				from++
			}
		}
	}
	return slices.SortedFunc(maps.Keys(hours), touchedHour.compare)
}

const (
	// weeksAtOnce bounds the weeks of series that one statement recomputes.
	weeksAtOnce = 256
	// trendMemory is the default bound of a statement over several weeks, in bytes.
	trendMemory = 2 << 30
	// weekMemory is the default bound of one over a single week, in bytes. 20 million samples keep within 1 GiB.
	weekMemory = 8 << 30
	// memoryExceeded is the engine's code for a statement over its limit.
	memoryExceeded = 241
)

// TooLargeError names weeks of series that have more samples than there is memory to recompute their trends. Their notes
// stay: they are tried again, and nobody is shown a trend that lacks them.
type TooLargeError struct {
	weeks []week
	cause error
}

func (e *TooLargeError) Error() string { return fmt.Sprintf("%s: %v", e.Week(), e.cause) }

// Week says which week is too large, the first of several.
func (e *TooLargeError) Week() string {
	first := e.weeks[0]
	return fmt.Sprintf("metric %s of machine %d, configuration %d and branch %d has more samples in the week of %s than there is memory for",
		first.Metric, first.Machine, first.Config, first.Branch, time.Unix(first.start, 0).UTC().Format(time.DateOnly))
}

func (e *TooLargeError) Unwrap() error { return e.cause }

// tooLarge says whether an error names a week as too large.
func tooLarge(err error, w week) bool {
	named, ok := errors.AsType[*TooLargeError](err)
	return ok && slices.Contains(named.weeks, w)
}

// recompute computes the trends of all buckets that the hours are in, which come by week, in statements of a bounded
// size. Each statement's time is told to the pace. A *TooLargeError names the weeks that were left out.
func (w *Writer) recompute(ctx context.Context, hours []touchedHour) error {
	atOnce := weeksAtOnce
	var left *TooLargeError
	for len(hours) > 0 {
		weeks, n := firstWeeks(hours, atOnce)
		started := time.Now()
		err := w.recomputeWeeks(ctx, hours[:n], len(weeks) == 1)
		exception, answered := errors.AsType[*ch.Exception](err)
		switch exceeded := answered && exception.Code == memoryExceeded; {
		case exceeded && len(weeks) > 1:
			atOnce = len(weeks) / 2
			continue
		case exceeded:
			if left == nil {
				left = &TooLargeError{cause: err}
			}
			left.weeks = append(left.weeks, weeks[0])
			w.pace.tooLarge(weeks[0], time.Now())
			hours = hours[n:]
			continue
		case err != nil:
			return fmt.Errorf("recompute trends: %w", err)
		}
		w.pace.took(weeks, time.Since(started), time.Now())
		hours = hours[n:]
	}
	if left != nil {
		return left
	}
	return nil
}

// firstWeeks lists the first weeks of the hours, at most limit, and counts their hours.
func firstWeeks(hours []touchedHour, limit int) (weeks []week, n int) {
	for i, t := range hours {
		if i > 0 && t.week() == weeks[len(weeks)-1] {
			continue
		}
		if len(weeks) == limit {
			return weeks, i
		}
		weeks = append(weeks, t.week())
	}
	return weeks, len(hours)
}

// recomputeWeeks runs one statement. A single week, which cannot be parted, may take more memory.
func (w *Writer) recomputeWeeks(ctx context.Context, hours []touchedHour, single bool) error {
	table, err := touchedTable(hours)
	if err != nil {
		return err
	}
	// Rows that a failed attempt left are computed again and replace themselves: there is nothing to deduplicate.
	memory := w.trendMemory
	if single {
		memory = w.weekMemory
	}
	settings := ch.Settings{
		"insert_deduplicate": 0, "max_memory_usage": memory, "max_bytes_before_external_group_by": memory / 2, "max_bytes_ratio_before_external_group_by": 0,
	}
	ctx = ch.Context(ctx, ch.WithExternalTable(table), ch.WithSettings(settings))
	return w.db.Exec(ctx, "INSERT INTO "+w.qualified("trend_buckets")+" ("+trendColumns+") "+TrendQuery(w.database, table.Name()))
}

// touchedTable lists the buckets that the hours are in, each once.
func touchedTable(hours []touchedHour) (*ext.Table, error) {
	table, err := ext.NewTable("touched", ext.Column("machine_id", "UInt64"), ext.Column("config_id", "UInt64"),
		ext.Column("branch_id", "UInt64"), ext.Column("metric", "String"), ext.Column("resolution", "UInt32"),
		ext.Column("bucket", "Int64"))
	if err != nil {
		return nil, fmt.Errorf("list the touched buckets: %w", err)
	}
	for i, t := range hours {
		for _, resolution := range [...]int64{Hour, Day, Week} {
			bucket := t.bucket(resolution)
			if i > 0 && hours[i-1].Series == t.Series && hours[i-1].bucket(resolution) == bucket {
				continue
			}
			if err := table.Append(t.Machine, t.Config, t.Branch, t.Metric, uint32(resolution), bucket); err != nil {
				return nil, fmt.Errorf("list the touched buckets: %w", err)
			}
		}
	}
	return table, nil
}
