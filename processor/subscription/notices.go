package subscription

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// pageRows bounds one read of notices.
const pageRows = 500

// spot is where a reader of notices stands: at a record, before one of the things that it tells of.
type spot struct {
	offset  int64
	ordinal uint32
}

// notice is a row of the projection.
type notice struct {
	at      spot
	event   uuid.UUID
	time    time.Time
	kind    string
	queue   string
	seq     uint64
	subject string
	data    string
}

// id is the same for every delivery of one thing: the event's, with the number among those of one event behind the first.
func (n *notice) id() string {
	if n.at.ordinal == 0 {
		return n.event.String()
	}
	return fmt.Sprintf("%s.%d", n.event, n.at.ordinal)
}

// filter is what a subscription wants of a partition.
type filter struct {
	kinds, queues []string
}

// where is the condition on rows from a spot on that came before an end.
func (f *filter) where(partition eventlog.Partition, epoch uint32, from spot, end int64) (string, []any) {
	version := func(offset int64) uint64 { return projection.Version(eventlog.Place{Epoch: epoch, Offset: offset}) }
	condition := "topic = ? AND partition = ? AND version >= ? AND version < ? AND (version > ? OR ordinal >= ?) AND kind IN (?)"
	args := []any{partition.Topic, uint16(partition.ID), version(from.offset), version(end), version(from.offset), from.ordinal, f.kinds}
	if len(f.queues) == 0 {
		return condition, args
	}
	names, beginnings := []string{""}, []string{}
	for _, queue := range f.queues {
		if beginning, found := strings.CutSuffix(queue, "*"); found {
			beginnings = append(beginnings, beginning)
		} else {
			names = append(names, queue)
		}
	}
	condition += " AND (queue IN (?)"
	args = append(args, names)
	for _, beginning := range beginnings {
		condition += " OR startsWith(queue, ?)"
		args = append(args, beginning)
	}
	return condition + ")", args
}

// read gives up to pageRows rows in the order of the log.
func (d *Deliverer) read(ctx context.Context, database string, partition eventlog.Partition, f *filter, from spot, end int64) ([]*notice, error) {
	condition, args := f.where(partition, d.Epoch, from, end)
	rows, err := d.DB.Query(ctx, "SELECT version, ordinal, event_id, at, kind, queue, seq, subject, data FROM `"+database+"`.notices WHERE "+
		condition+" ORDER BY version, ordinal LIMIT 1 BY version, ordinal LIMIT ?", append(args, pageRows)...)
	if err != nil {
		return nil, fmt.Errorf("read what happened: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var notices []*notice
	for rows.Next() {
		n := new(notice)
		var version uint64
		if err := rows.Scan(&version, &n.at.ordinal, &n.event, &n.time, &n.kind, &n.queue, &n.seq, &n.subject, &n.data); err != nil {
			return nil, fmt.Errorf("read what happened: %w", err)
		}
		n.at.offset = int64(version & (1<<44 - 1))
		notices = append(notices, n)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read what happened: %w", err)
	}
	return notices, d.nameJobs(ctx, database, notices)
}

// count counts the rows.
func (d *Deliverer) count(ctx context.Context, database string, partition eventlog.Partition, f *filter, from spot, end int64) (uint64, error) {
	condition, args := f.where(partition, d.Epoch, from, end)
	var rows uint64
	err := d.DB.QueryRow(ctx, "SELECT count() FROM `"+database+"`.notices WHERE "+condition, args...).Scan(&rows)
	if err != nil {
		return 0, fmt.Errorf("count what happened: %w", err)
	}
	return rows, nil
}

// nameJobs looks up the ids of jobs that their clients chose.
func (d *Deliverer) nameJobs(ctx context.Context, database string, notices []*notice) error {
	var seqs []uint64
	for _, n := range notices {
		if n.subject == "" && !slices.Contains(seqs, n.seq) {
			seqs = append(seqs, n.seq)
		}
	}
	if len(seqs) == 0 {
		return nil
	}
	rows, err := d.DB.Query(ctx, "SELECT seq, job_id FROM `"+database+"`.jobs WHERE seq IN (?)", seqs)
	if err != nil {
		return fmt.Errorf("look up the ids of jobs: %w", err)
	}
	defer func() { _ = rows.Close() }()
	ids := make(map[uint64]string, len(seqs))
	for rows.Next() {
		var seq uint64
		var id string
		if err := rows.Scan(&seq, &id); err != nil {
			return fmt.Errorf("look up the ids of jobs: %w", err)
		}
		ids[seq] = id
	}
	for _, n := range notices {
		if n.subject == "" {
			n.subject = jobs.ID(event.JobFamily_JOB_FAMILY_TESTFLINGER, n.seq, ids[n.seq])
		}
	}
	return rows.Err()
}

// body is what is delivered of a notice. It is the same for every repeat.
func (d *Deliverer) body(partition eventlog.Partition, n *notice) ([]byte, error) {
	return json.Marshal(message{
		SpecVersion: "1.0", ID: n.id(), Source: "/millrace", Type: "millrace." + n.kind, Subject: n.subject, Time: n.time.UTC(),
		DataContentType: "application/json", Data: json.RawMessage(n.data),
		Position: eventlog.At(d.Client.LogID, partition, n.at.offset).String(),
	})
}
