package app

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/deploy/standalone/config"
	"github.com/millrace/millrace/ingest/dispatch"
	ingestjobs "github.com/millrace/millrace/ingest/jobs"
	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/schemas/eventlog"
)

func jobsConfig(c config.Config) ingestjobs.Config {
	return ingestjobs.Config{
		Lease: c.Jobs.Lease, Requeues: uint32(c.Jobs.Requeues), MaxWait: c.Jobs.MaxWait, MaxPayload: c.Jobs.PayloadBytes,
		KeepKeys: c.Ingest.IdempotencyWindow,
	}
}

// submissions is dispatch.Find. The projections are waited for only when they lack the one that is needed.
func (l lookups) submissions(ctx context.Context, needed uint64, others []uint64) (map[uint64]*dispatch.Submission, error) {
	if generation := l.generation.Number(); generation > 0 {
		found, err := l.findSubmissions(ctx, l.db.Generation(generation), append(others, needed))
		if err != nil || found[needed] != nil {
			return found, err
		}
	}
	database, err := l.current(ctx, eventlog.Jobs)
	if err != nil {
		return nil, outOfReach(err)
	}
	found, err := l.findSubmissions(ctx, database, append(others, needed))
	if err == nil && found[needed] == nil {
		err = fmt.Errorf("job %d has no row: its submission could not be projected, see the dead letters", needed)
	}
	return found, err
}

func (l lookups) findSubmissions(ctx context.Context, database string, seqs []uint64) (map[uint64]*dispatch.Submission, error) {
	rows, err := l.db.Query(ctx, "SELECT seq, job_id, owner, sealed_submitter, document, blob, blob_size, encoding, size FROM `"+database+
		"`.jobs WHERE seq IN (?)", seqs)
	if err != nil {
		return nil, outOfReach(err)
	}
	defer func() { _ = rows.Close() }()
	found := map[uint64]*dispatch.Submission{}
	for rows.Next() {
		var seq uint64
		var jobID, owner, submitter string
		var d projection.StoredDocument
		if err := rows.Scan(&seq, &jobID, &owner, &submitter, &d.Inline, &d.Blob, &d.BlobSize, &d.Encoding, &d.Size); err != nil {
			return nil, fmt.Errorf("read submissions: %w", err)
		}
		found[seq] = &dispatch.Submission{JobID: jobID, Document: d.Document(), Owner: []byte(owner), Submitter: []byte(submitter)}
	}
	if err := rows.Err(); err != nil {
		return nil, outOfReach(err)
	}
	return found, nil
}
