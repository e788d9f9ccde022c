package eventlog

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// PositionHeader carries a position in requests and answers.
const PositionHeader = "Millrace-Position"

// maxPositionPartitions bounds what a client may send as a position.
const maxPositionPartitions = 4096

// Position says how far a log is known: for each partition the offset of the newest record that is contained.
// Its text form is "LOG;TOPIC/PARTITION=OFFSET,…", for example "4L6g3nSh;registry/0=12,runs/0=3456".
type Position struct {
	// Log is the id of the log: offsets of one log mean nothing in another.
	Log     string
	Offsets map[Partition]int64
}

// At is the position of one record.
func At(log string, partition Partition, offset int64) Position {
	return Position{Log: log, Offsets: map[Partition]int64{partition: offset}}
}

// Merge gives the position that contains both. Of two logs the receiver's is kept.
func (p Position) Merge(other Position) Position {
	if p.Log == "" {
		return other
	}
	if other.Log != p.Log {
		return p
	}
	merged := Position{Log: p.Log, Offsets: maps.Clone(p.Offsets)}
	for partition, offset := range other.Offsets {
		if known, ok := merged.Offsets[partition]; !ok || offset > known {
			merged.Offsets[partition] = offset
		}
	}
	return merged
}

func (p Position) String() string {
	if p.Log == "" {
		return ""
	}
	var text strings.Builder
	text.WriteString(p.Log)
	separator := byte(';')
	for _, partition := range slices.SortedFunc(maps.Keys(p.Offsets), comparePartitions) {
		text.WriteByte(separator)
		text.WriteString(partition.Topic)
		text.WriteByte('/')
		text.WriteString(strconv.Itoa(partition.ID))
		text.WriteByte('=')
		text.WriteString(strconv.FormatInt(p.Offsets[partition], 10))
		separator = ','
	}
	return text.String()
}

// ParsePosition reads the text form. The empty text is the empty position.
func ParsePosition(text string) (Position, error) {
	if text == "" {
		return Position{}, nil
	}
	log, list, found := strings.Cut(text, ";")
	if log == "" || !found {
		return Position{}, fmt.Errorf("position %q: want LOG;TOPIC/PARTITION=OFFSET,…", shorten(text))
	}
	position := Position{Log: log, Offsets: map[Partition]int64{}}
	for entry := range strings.SplitSeq(list, ",") {
		partition, offset, err := parseEntry(entry)
		if err != nil {
			return Position{}, fmt.Errorf("position %q: %w", shorten(text), err)
		}
		if len(position.Offsets) == maxPositionPartitions {
			return Position{}, fmt.Errorf("position %q: more than %d partitions", shorten(text), maxPositionPartitions)
		}
		position.Offsets[partition] = max(offset, position.Offsets[partition])
	}
	return position, nil
}

func parseEntry(entry string) (Partition, int64, error) {
	name, number, found := strings.Cut(entry, "=")
	topic, id, slash := strings.Cut(name, "/")
	if !found || !slash || topic == "" {
		return Partition{}, 0, fmt.Errorf("entry %q is not TOPIC/PARTITION=OFFSET", shorten(entry))
	}
	partition, err := strconv.ParseUint(id, 10, 16)
	if err != nil {
		return Partition{}, 0, fmt.Errorf("entry %q: partition is not a number up to 65535", shorten(entry))
	}
	offset, err := strconv.ParseUint(number, 10, 63)
	if err != nil {
		return Partition{}, 0, fmt.Errorf("entry %q: offset is not a number", shorten(entry))
	}
	return Partition{Topic: topic, ID: int(partition)}, int64(offset), nil
}

func shorten(text string) string {
	if len(text) > 80 {
		return text[:80] + "…"
	}
	return text
}
