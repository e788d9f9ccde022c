package lab

import (
	"context"
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
