// Package fold turns one partition of the log into state.
//
// A fold is a pure function: state and record in, changed state and outcome out. It reads no clock, configuration,
// randomness or other topic, so that every replica that folds the same records has the same state and the same outcomes.
package fold

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/processor/archive"
	"github.com/millrace/millrace/schemas/clickhouse"
	"github.com/millrace/millrace/schemas/eventlog"
)

// Definition describes a fold with state S, a pointer that Apply changes, and outcomes O.
type Definition[S, O any] struct {
	Name string
	// Version changes whenever Apply or the state's encoding does: an older stored state is then not used.
	Version uint32
	Topic   string
	New     func() S
	// Apply never fails: a record that it cannot use has no effect, the same on every replica. The record's LogTime is
	// the running maximum.
	Apply  func(state S, record *eventlog.Record) O
	Encode func(S) ([]byte, error)
	Decode func([]byte) (S, error)
	Keys   *Keys[S, O]
}

// Partition is the one partition that the fold reads.
func (d *Definition[S, O]) Partition() eventlog.Partition { return eventlog.Partition{Topic: d.Topic} }

// Progress is a fold on its way through the log. It is not safe for concurrent use.
type Progress[S, O any] struct {
	definition *Definition[S, O]
	State      S
	// Next is the place of the next record to fold.
	Next eventlog.Place
	// LogTime is the greatest record time so far, Unix milliseconds.
	LogTime int64
}

// Start gives a fold that has read nothing.
func (d *Definition[S, O]) Start() *Progress[S, O] {
	return &Progress[S, O]{definition: d, State: d.New()}
}

// Apply folds one record of a log.
func (p *Progress[S, O]) Apply(epoch uint32, record *eventlog.Record) O {
	p.LogTime = max(p.LogTime, record.LogTime)
	record.LogTime = p.LogTime
	p.Next = eventlog.Place{Epoch: epoch, Offset: record.Offset + 1}
	return p.definition.Apply(p.State, record)
}

// Store keeps the newest state of each fold in table fold_state.
type Store struct {
	db    *clickhouse.DB
	table string
}

// NewStore gives the store in a database.
func NewStore(db *clickhouse.DB) *Store { return &Store{db: db, table: "`" + db.Name + "`.fold_state"} }

// Snapshot is a fold's state at a place, encoded.
type Snapshot struct {
	fold, topic string
	version     uint32
	next        eventlog.Place
	logTime     int64
	state       []byte
}

// Snapshot encodes the state; nil when nothing was read yet.
func (p *Progress[S, O]) Snapshot() (*Snapshot, error) {
	if p.Next == (eventlog.Place{}) {
		return nil, nil
	}
	d := p.definition
	state, err := d.Encode(p.State)
	if err != nil {
		return nil, fmt.Errorf("encode the state of fold %s: %w", d.Name, err)
	}
	return &Snapshot{fold: d.Name, topic: d.Topic, version: d.Version, next: p.Next, logTime: p.LogTime, state: state}, nil
}

// Save stores a snapshot.
func (store *Store) Save(ctx context.Context, logID string, s *Snapshot) error {
	batch, err := store.db.Insert(ctx, store.table, "fold, version, epoch, log_id, topic, partition, offset, log_time, state", "")
	if err != nil {
		return fmt.Errorf("store the state of fold %s: %w", s.fold, err)
	}
	defer func() { _ = batch.Close() }()
	err = batch.Append(s.fold, s.version, s.next.Epoch, logID, s.topic, uint16(0), s.next.Offset-1, s.logTime, string(s.state))
	if err == nil {
		err = batch.Send()
	}
	if err != nil {
		return fmt.Errorf("store the state of fold %s: %w", s.fold, err)
	}
	return nil
}

// Load reads the newest stored state of the fold's version, or starts anew when there is none.
func Load[S, O any](ctx context.Context, store *Store, d *Definition[S, O]) (*Progress[S, O], error) {
	rows, err := store.db.Query(ctx, "SELECT epoch, offset, log_time, state FROM "+store.table+
		" WHERE fold = ? AND version = ? ORDER BY epoch DESC, offset DESC LIMIT 1", d.Name, d.Version)
	if err != nil {
		return nil, fmt.Errorf("load the state of fold %s: %w", d.Name, err)
	}
	defer func() { _ = rows.Close() }()
	p := d.Start()
	if !rows.Next() {
		return p, rows.Err()
	}
	var bytes string
	if err := rows.Scan(&p.Next.Epoch, &p.Next.Offset, &p.LogTime, &bytes); err != nil {
		return nil, fmt.Errorf("load the state of fold %s: %w", d.Name, err)
	}
	p.Next.Offset++
	if p.State, err = d.Decode([]byte(bytes)); err != nil {
		return nil, fmt.Errorf("decode the state of fold %s at %s: %w", d.Name, p.Next, err)
	}
	return p, nil
}

// Repeats is the state's memory of idempotency keys.
func (p *Progress[S, O]) Repeats() *Repeats[O] { return p.definition.Keys.Repeats(p.State) }

// ReadArchive folds archived records up to until (the zero place: to the archive's end).
func (p *Progress[S, O]) ReadArchive(ctx context.Context, a *archive.Archive, until eventlog.Place) error {
	return a.Read(ctx, p.definition.Partition(), p.Next, until, func(epoch uint32, records []eventlog.Record) error {
		for i := range records {
			p.Apply(epoch, &records[i])
		}
		return nil
	})
}
