// Package archive is the older part of the log: table event_log, which keeps every event of every log that the
// installation ever had, so that the log itself can be trimmed.
package archive

import (
	"context"
	"errors"
	"fmt"
	"unsafe"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"
	"github.com/segmentio/kafka-go"

	"github.com/millrace/millrace/schemas/clickhouse"
	"github.com/millrace/millrace/schemas/eventlog"
)

// Archive reads and writes event_log.
type Archive struct {
	db    *clickhouse.DB
	table string
}

// New gives the archive in a database.
func New(db *clickhouse.DB) *Archive {
	return &Archive{db: db, table: "`" + db.Name + "`." + tableName}
}

// Epoch gives the number of a log among the logs of this installation: the one it was archived under, or the next.
func (a *Archive) Epoch(ctx context.Context, logID string) (uint32, error) {
	var known, newest uint32
	err := a.db.QueryRow(ctx, "SELECT maxIf(epoch, log_id = ?), max(epoch) FROM "+a.table, logID).Scan(&known, &newest)
	if err != nil {
		return 0, fmt.Errorf("read the log's epoch from the archive: %w", err)
	}
	if known > 0 {
		return known, nil
	}
	return newest + 1, nil
}

// End gives the place after the newest archived record of a partition; the zero place when there is none.
func (a *Archive) End(ctx context.Context, partition eventlog.Partition) (eventlog.Place, error) {
	var place eventlog.Place
	row := a.db.QueryRow(ctx, "SELECT epoch, offset + 1 FROM "+a.table+
		" WHERE topic = ? AND partition = ? ORDER BY topic DESC, partition DESC, epoch DESC, offset DESC LIMIT 1",
		partition.Topic, partition.ID)
	if err := row.Err(); err != nil {
		return place, fmt.Errorf("read the archive's end of %s: %w", partition, err)
	}
	if err := row.Scan(&place.Epoch, &place.Offset); err != nil && err.Error() != "sql: no rows in result set" {
		return place, fmt.Errorf("read the archive's end of %s: %w", partition, err)
	}
	return place, nil
}

// tableName and columns are where records are kept.
const (
	tableName = "event_log"
	columns   = "epoch, log_id, topic, partition, offset, log_time, event_id, type, key, headers, value"
)

// One query of Read asks for as many records as held about chunkBytes in the one before: bounded memory, few queries.
const (
	firstChunk = 256
	maxChunk   = 16_384
	chunkBytes = 16 << 20
)

// ErrHole means that records are missing in the middle of the archive: what follows from it would be wrong.
var ErrHole = errors.New("the archive lacks records")

// Read calls handle with the archived records of a partition from a place on, in order, in chunks, and stops before
// until (the zero place: at the archive's end). The epoch of each chunk's records is given. It fails with ErrHole rather
// than leave anything out.
func (a *Archive) Read(ctx context.Context, partition eventlog.Partition, from, until eventlog.Place,
	handle func(epoch uint32, records []eventlog.Record) error,
) error {
	limit := firstChunk
	for {
		epoch, records, err := a.readChunk(ctx, partition, from, until, limit)
		if err != nil {
			return err
		}
		if len(records) == 0 {
			return nil
		}
		if err := contiguous(partition, from, epoch, records); err != nil {
			return err
		}
		limit = nextChunk(records)
		if err := handle(epoch, records); err != nil {
			return err
		}
		from = eventlog.Place{Epoch: epoch, Offset: records[len(records)-1].Offset + 1}
	}
}

// contiguous checks that records follow from a place without a gap, or begin another log.
func contiguous(partition eventlog.Partition, from eventlog.Place, epoch uint32, records []eventlog.Record) error {
	for i := range records {
		place := eventlog.Place{Epoch: epoch, Offset: records[i].Offset}
		if err := follows(partition, from, place); err != nil {
			return err
		}
		from = eventlog.Place{Epoch: epoch, Offset: place.Offset + 1}
	}
	return nil
}

// follows checks that a record stands at the place that was wanted, or begins another log.
func follows(partition eventlog.Partition, want, place eventlog.Place) error {
	if place.Epoch != want.Epoch {
		want.Offset = 0
	}
	if place.Offset != want.Offset {
		return fmt.Errorf("%w: %s of log %d goes on at offset %d, wanted %d", ErrHole, partition, place.Epoch, place.Offset, want.Offset)
	}
	return nil
}

func nextChunk(records []eventlog.Record) int {
	size := 0
	for i := range records {
		size += len(records[i].Data) + 512
	}
	return min(maxChunk, max(1, chunkBytes*len(records)/max(1, size)))
}

// readChunk reads records of the first epoch that has any at or after from.
func (a *Archive) readChunk(ctx context.Context, partition eventlog.Partition, from, until eventlog.Place, limit int) (uint32, []eventlog.Record, error) {
	if until == (eventlog.Place{}) {
		until = eventlog.Place{Epoch: 1 << 31}
	}
	rows, err := a.db.Query(ctx, `SELECT epoch, offset, log_time, key, headers, value FROM `+a.table+`
		WHERE topic = ? AND partition = ? AND epoch >= ? AND epoch <= ? AND (epoch, offset) >= (?, ?) AND (epoch, offset) < (?, ?)
		ORDER BY topic, partition, epoch, offset LIMIT 1 BY epoch, offset LIMIT ?`,
		partition.Topic, partition.ID, from.Epoch, until.Epoch, from.Epoch, from.Offset, until.Epoch, until.Offset, limit)
	if err != nil {
		return 0, nil, fmt.Errorf("read the archive of %s from %s: %w", partition, from, err)
	}
	defer func() { _ = rows.Close() }()
	var first uint32
	var records []eventlog.Record
	for rows.Next() {
		var (
			epoch           uint32
			offset, logTime int64
			key, value      string
			headers         [][]any
		)
		if err := rows.Scan(&epoch, &offset, &logTime, &key, &headers, &value); err != nil {
			return 0, nil, fmt.Errorf("read the archive of %s: %w", partition, err)
		}
		if first == 0 {
			first = epoch
		}
		if epoch != first {
			break
		}
		records = append(records, eventlog.NewRecord(partition, offset, logTime, keyBytes(key), toHeaders(headers), []byte(value)))
	}
	return first, records, rows.Err()
}

// Keys calls handle with the key of every archived record of a partition, in order, and reads nothing else of them. It
// fails with ErrHole rather than leave one out.
func (a *Archive) Keys(ctx context.Context, partition eventlog.Partition, handle func(key string)) error {
	rows, err := a.db.Query(ctx, "SELECT epoch, offset, key FROM "+a.table+" WHERE topic = ? AND partition = ?"+
		" ORDER BY topic, partition, epoch, offset LIMIT 1 BY epoch, offset", partition.Topic, partition.ID)
	if err != nil {
		return fmt.Errorf("read the archived keys of %s: %w", partition, err)
	}
	defer func() { _ = rows.Close() }()
	var next eventlog.Place
	for rows.Next() {
		var place eventlog.Place
		var key string
		if err := rows.Scan(&place.Epoch, &place.Offset, &key); err != nil {
			return fmt.Errorf("read the archived keys of %s: %w", partition, err)
		}
		if err := follows(partition, next, place); err != nil {
			return err
		}
		handle(key)
		next = eventlog.Place{Epoch: place.Epoch, Offset: place.Offset + 1}
	}
	return rows.Err()
}

func keyBytes(key string) []byte {
	if key == "" {
		return nil
	}
	return []byte(key)
}

func toHeaders(tuples [][]any) []kafka.Header {
	headers := make([]kafka.Header, 0, len(tuples))
	for _, tuple := range tuples {
		name, _ := tuple[0].(string)
		value, _ := tuple[1].(string)
		headers = append(headers, kafka.Header{Key: name, Value: []byte(value)})
	}
	return headers
}

// Write archives records under a deduplication token. After a failure they may be written again under the same one; again
// says that this may be so.
func (a *Archive) Write(ctx context.Context, epoch uint32, logID, token string, records []eventlog.Record, again bool) error {
	return a.db.InsertOnce(ctx, clickhouse.Block{
		Database: a.db.Name, Table: tableName, Columns: columns, Token: token,
		Fill: func(batch driver.Batch) error {
			for i := range records {
				if err := batch.Append(row(epoch, logID, &records[i])...); err != nil {
					return fmt.Errorf("archive %s at %d: %w", records[i].Partition, records[i].Offset, err)
				}
			}
			return nil
		},
		// All, for while projections are rebuilt two sinks archive the same records, in other batches.
		Witnesses: func() [][]any {
			rows := make([][]any, len(records))
			for i := range records {
				rows[i] = row(epoch, logID, &records[i])
			}
			return rows
		},
	}, again)
}

// row is a record in the order of columns.
func row(epoch uint32, logID string, r *eventlog.Record) []any {
	headers := make([][]any, len(r.Headers))
	for i, h := range r.Headers {
		headers[i] = []any{h.Key, string(h.Value)}
	}
	id := r.ID
	if r.Malformed != nil {
		id = uuid.Nil
	}
	return []any{
		epoch, logID, r.Partition.Topic, uint16(r.Partition.ID), r.Offset, r.LogTime, id, r.Type, string(r.Key), headers, stringOf(r.Data),
	}
}

// stringOf lends bytes to the driver, which copies them at once, without a copy of our own.
func stringOf(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// Count is about how many records are archived.
func (a *Archive) Count(ctx context.Context) (int64, error) {
	var count uint64
	if err := a.db.QueryRow(ctx, "SELECT count() FROM "+a.table).Scan(&count); err != nil {
		return 0, fmt.Errorf("count the archive's records: %w", err)
	}
	return int64(count), nil
}

// Empty says whether nothing was ever archived.
func (a *Archive) Empty(ctx context.Context) (bool, error) {
	var any uint64
	if err := a.db.QueryRow(ctx, "SELECT count() FROM (SELECT 1 FROM "+a.table+" LIMIT 1)").Scan(&any); err != nil {
		return false, fmt.Errorf("look into the archive: %w", err)
	}
	return any == 0, nil
}
