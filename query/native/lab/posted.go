package lab

import (
	"context"
	"fmt"

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

// posting is a document that was posted to a job's result, with the members of which it is the newest.
type posting struct {
	Members  []string `ch:"newest"`
	Document string   `ch:"document"`
	Blob     string   `ch:"blob"`
	BlobSize uint64   `ch:"blob_size"`
	Encoding uint8    `ch:"encoding"`
	Size     uint64   `ch:"size"`
}

// newestPosted are the postings of a job that any member is the newest of. Everybody may post what was replaced a thousand
// times over: that is left out before it is read.
const newestPosted = `FROM {db}.testflinger_results AS r INNER JOIN (SELECT version, groupArray(member) AS newest
	FROM (SELECT arrayJoin(members) AS member, max(version) AS version
		FROM (SELECT version, members FROM {db}.testflinger_results WHERE job_id = ? ORDER BY version LIMIT 1 BY event_id)
		GROUP BY member)
	GROUP BY version) AS n ON n.version = r.version
WHERE r.job_id = ?`

// Posted merges what was posted to the result of a job of Testflinger's, by the id that its client knows. Of each member
// the newest counts.
func (v *View) Posted(ctx context.Context, unpacker Unpacker, job string) (map[string]jsontext.Value, error) {
	sizes, err := scan[postedSize](ctx, v, "the size of a posted result", in(v.database,
		"SELECT sum(size) AS total FROM (SELECT r.version, r.size AS size "+newestPosted+" LIMIT 1 BY r.version)"), job, job)
	if err != nil {
		return nil, err
	}
	if total := sizes[0].Total; total > maxPosted {
		return nil, &TooLarge{total, maxPosted}
	}
	postings, err := scan[posting](ctx, v, "a posted result", in(v.database,
		"SELECT n.newest AS newest, r.document AS document, r.blob AS blob, r.blob_size AS blob_size, r.encoding AS encoding, r.size AS size "+
			newestPosted+" LIMIT 1 BY r.version"), job, job)
	if err != nil {
		return nil, err
	}
	return merge(ctx, unpacker, job, postings)
}

// postedSize is the size of a result, in bytes.
type postedSize struct {
	Total uint64 `ch:"total"`
}

// merge takes from each document the members of which it is the newest.
func merge(ctx context.Context, unpacker Unpacker, job string, postings []posting) (map[string]jsontext.Value, error) {
	merged := map[string]jsontext.Value{}
	for i := range postings {
		p := &postings[i]
		stored := projection.StoredDocument{Inline: p.Document, Blob: p.Blob, BlobSize: p.BlobSize, Encoding: p.Encoding, Size: p.Size}
		members := map[string]jsontext.Value{}
		body, err := unpacker.Unpack(ctx, stored.Document())
		if err == nil {
			err = json.Unmarshal(body, &members, jsontext.AllowInvalidUTF8(true))
		}
		if err != nil {
			return nil, fmt.Errorf("read the result of job %s: %w", job, err)
		}
		for _, name := range p.Members {
			if value := members[name]; value != nil {
				merged[name] = value
			}
		}
	}
	return merged, nil
}
