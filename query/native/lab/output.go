package lab

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/schemas/event"
)

// OutputKinds lists where output of jobs comes from: commands, and serial consoles.
func OutputKinds() []string {
	return []string{
		projection.OutputKind(event.JobOutputKind_JOB_OUTPUT_KIND_OUTPUT), projection.OutputKind(event.JobOutputKind_JOB_OUTPUT_KIND_SERIAL),
	}
}

// Piece is a piece of a job's output.
type Piece struct {
	// Place tells pieces of a job apart: it grows with each.
	Place    uint64     `ch:"version"`
	EventID  string     `ch:"event_id"`
	At       time.Time  `ch:"at"`
	Phase    string     `ch:"phase"`
	Fragment *int64     `ch:"fragment"`
	SentAt   *time.Time `ch:"fragment_at"`
	Inline   string     `ch:"document"`
	Blob     string     `ch:"blob"`
	BlobSize uint64     `ch:"blob_size"`
	Encoding uint8      `ch:"encoding"`
	Size     uint64     `ch:"size"`
}

// Document gives the piece's text, for unpacking.
func (p *Piece) Document() *event.Document {
	stored := projection.StoredDocument{Inline: p.Inline, Blob: p.Blob, BlobSize: p.BlobSize, Encoding: p.Encoding, Size: p.Size}
	return stored.Document()
}

// Output reads pieces of a job's output behind a place, 0 for all, by the id that the job's client knows. A piece that
// stands in the log twice is given once.
func (v *View) Output(ctx context.Context, job, kind string, after uint64, limit int) ([]Piece, error) {
	text := "SELECT " + strings.Join(columnsOf[Piece](nil), ", ") + "\nFROM {db}.job_output\nWHERE job_id = ? AND kind = ? AND version > ?"
	values := []any{job, kind, after}
	if after > 0 {
		text += "\nAND event_id NOT IN (SELECT event_id FROM {db}.job_output WHERE job_id = ? AND kind = ? AND version <= ?)"
		values = append(values, job, kind, after)
	}
	text += "\nORDER BY version\nLIMIT 1 BY event_id\nLIMIT ?"
	return scan[Piece](ctx, v, "a job's output", in(v.database, text), append(values, limit)...)
}

// OutputPart is a part of a job's output that can be read by itself: of one kind, and of one phase where the worker says
// which it is in.
type OutputPart struct {
	Kind  string `ch:"kind"`
	Phase string `ch:"phase"`
}

// OutputParts lists the parts of a job's output, in the order in which they began.
func (v *View) OutputParts(ctx context.Context, job string) ([]OutputPart, error) {
	return scan[OutputPart](ctx, v, "the parts of a job's output", in(v.database, `SELECT kind, phase
FROM {db}.job_output
WHERE job_id = ?
GROUP BY kind, phase
ORDER BY min(version)`), job)
}

// OutputTail reads the newest pieces of a part of a job's output, the oldest of them first.
func (v *View) OutputTail(ctx context.Context, job string, part OutputPart, limit int) ([]Piece, error) {
	pieces, err := scan[Piece](ctx, v, "the end of a job's output", in(v.database, "SELECT "+strings.Join(columnsOf[Piece](nil), ", ")+`
FROM {db}.job_output
WHERE job_id = ? AND kind = ? AND phase = ?
ORDER BY version DESC
LIMIT 1 BY event_id
LIMIT ?`), job, part.Kind, part.Phase, limit)
	slices.Reverse(pieces)
	return pieces, err
}
