package lab

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/schemas/event"
)

// Unpacker gives the bytes of documents, as document.Packer does.
type Unpacker interface {
	Unpack(ctx context.Context, d *event.Document) ([]byte, error)
}

// TooLarge is returned for a result that would take too much memory.
type TooLarge struct{ Size, Limit uint64 }

func (e *TooLarge) Error() string {
	return fmt.Sprintf("the result has %d bytes, and an answer has at most %d", e.Size, e.Limit)
}

// maxPosted bounds a posted result in bytes.
const maxPosted = 64 << 20

// posting is what was posted to a job's result at a time.
type posting struct {
	Version  uint64   `ch:"version"`
	Members  []string `ch:"members"`
	Document string   `ch:"document"`
	Blob     string   `ch:"blob"`
	BlobSize uint64   `ch:"blob_size"`
	Encoding uint8    `ch:"encoding"`
	Size     uint64   `ch:"size"`
}

// Posted merges what was posted to the result of a job of Testflinger's, by the id that its client knows. Of each member
// the newest counts.
func (v *View) Posted(ctx context.Context, unpacker Unpacker, job string) (map[string]jsontext.Value, error) {
	postings, err := scan[posting](ctx, v, "a posted result", in(v.database, `SELECT version, members, size
FROM {db}.testflinger_results
WHERE job_id = ?
ORDER BY version
LIMIT 1 BY event_id`), job)
	if err != nil {
		return nil, err
	}
	newest, sizes := map[string]uint64{}, map[uint64]uint64{}
	for _, p := range postings {
		sizes[p.Version] = p.Size
		for _, member := range p.Members {
			newest[member] = p.Version
		}
	}
	needed := slices.Compact(slices.Sorted(maps.Values(newest)))
	total := uint64(0)
	for _, version := range needed {
		total += sizes[version]
	}
	if total > maxPosted {
		return nil, &TooLarge{total, maxPosted}
	}
	return v.merge(ctx, unpacker, job, needed, newest)
}

// merge reads documents, and takes from each the members of which it is the newest.
func (v *View) merge(ctx context.Context, unpacker Unpacker, job string, needed []uint64, newest map[string]uint64) (map[string]jsontext.Value, error) {
	merged := make(map[string]jsontext.Value, len(newest)+1)
	if len(needed) == 0 {
		return merged, nil
	}
	postings, err := scan[posting](ctx, v, "a posted result", in(v.database, `SELECT version, document, blob, blob_size, encoding, size
FROM {db}.testflinger_results
WHERE job_id = ? AND version IN (?)
LIMIT 1 BY version`), job, needed)
	if err != nil {
		return nil, err
	}
	for _, p := range postings {
		stored := projection.StoredDocument{Inline: p.Document, Blob: p.Blob, BlobSize: p.BlobSize, Encoding: p.Encoding, Size: p.Size}
		members := map[string]jsontext.Value{}
		body, err := unpacker.Unpack(ctx, stored.Document())
		if err == nil {
			err = json.Unmarshal(body, &members, jsontext.AllowInvalidUTF8(true))
		}
		if err != nil {
			return nil, fmt.Errorf("read the result of job %s: %w", job, err)
		}
		for name, value := range members {
			if newest[name] == p.Version {
				merged[name] = value
			}
		}
	}
	return merged, nil
}
