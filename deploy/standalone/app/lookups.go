package app

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/ingest/native"
	"github.com/millrace/millrace/query/gate"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// lookups are what doors ask the projections: what a fold has forgotten or never knew. Each answer contains everything
// that was in the log when it was asked.
type lookups struct {
	*process
	newest *atomic.Pointer[projectedRun]
}

// current waits until the projections of topics contain what the log holds now, and gives their database.
func (l lookups) current(ctx context.Context, topics ...string) (string, error) {
	if err := l.projected(ctx); err != nil {
		return "", err
	}
	target, err := l.gate.Target(ctx, eventlog.Position{}, topics...)
	if err != nil {
		return "", err
	}
	generation := l.generation.Number()
	err = l.gate.Wait(ctx, generation, target)
	if errors.Is(err, gate.ErrSuperseded) {
		generation = l.generation.Number()
		err = l.gate.Wait(ctx, generation, target)
	}
	return l.db.Generation(generation), err
}

// through waits until the projections contain a run and all before it. That is long so for a run whose natural key the
// fold has forgotten, so it is asked once and then known.
func (l lookups) through(ctx context.Context, run uint64) (string, error) {
	if err := l.projected(ctx); err != nil {
		return "", err
	}
	generation := l.generation.Number()
	database := l.db.Generation(generation)
	if known := l.newest.Load(); known != nil && known.generation == generation && known.run >= run {
		return database, nil
	}
	var newest uint64
	if err := l.db.QueryRow(ctx, "SELECT max(run_id) FROM `"+database+"`.runs").Scan(&newest); err != nil {
		return "", err
	}
	if newest < run {
		return l.current(ctx, eventlog.Runs)
	}
	l.newest.Store(&projectedRun{generation: generation, run: newest})
	return database, nil
}

// projectedRun is a run that a generation of the projections is known to contain, with all before it.
type projectedRun struct {
	generation uint32
	run        uint64
}

// storedRun finds the run of a machine with a start time, 0 when there is none. Runs up to through are looked at.
func (l lookups) storedRun(ctx context.Context, machine uint64, start int64, through uint64) (uint64, error) {
	database, err := l.through(ctx, through)
	if err != nil {
		return 0, outOfReach(err)
	}
	// A time.Time would be bound in whole seconds.
	rows, err := l.db.Query(ctx, "SELECT run_id FROM `"+database+"`.runs WHERE machine_id = ? "+
		"AND start_time = fromUnixTimestamp64Micro(toInt64(?), 'UTC') ORDER BY run_id LIMIT 1", machine, start)
	if err != nil {
		return 0, outOfReach(err)
	}
	var run uint64
	_, err = scanOne(rows, &run)
	return run, err
}

// run finds what samples of a run belong to.
func (l lookups) run(ctx context.Context, run, result uint64) (*native.Run, error) {
	database, err := l.current(ctx, eventlog.Runs)
	if err != nil {
		return nil, outOfReach(err)
	}
	rows, err := l.db.Query(ctx, "SELECT machine_id, branch_id FROM `"+database+"`.runs WHERE run_id = ? LIMIT 1", run)
	if err != nil {
		return nil, outOfReach(err)
	}
	var found native.Run
	if ok, err := scanOne(rows, &found.Machine, &found.Branch); err != nil || !ok {
		return nil, err
	}
	rows, err = l.db.Query(ctx, "SELECT if(uniqExact(config_id) = 1, any(config_id), 0), count() FROM `"+database+
		"`.results WHERE result_id BETWEEN ? AND ? AND (? = 0 OR result_id = ?)", run<<10, run<<10+1023, result, result)
	if err != nil {
		return nil, outOfReach(err)
	}
	var results uint64
	if _, err := scanOne(rows, &found.Config, &results); err != nil {
		return nil, err
	}
	if result != 0 && results == 0 {
		return nil, nil
	}
	return &found, nil
}

// deadLetter finds a dead letter.
func (l lookups) deadLetter(ctx context.Context, id string) (*event.DeadLetter, error) {
	database, err := l.current(ctx, eventlog.DeadLetters)
	if err != nil {
		return nil, outOfReach(err)
	}
	rows, err := l.db.Query(ctx, "SELECT epoch, topic, partition, offset, event_id, event_type, reason, code_version, key, headers, value FROM `"+
		database+"`.dead_letters WHERE dead_letter_id = ? LIMIT 1", id)
	if err != nil {
		return nil, outOfReach(err)
	}
	letter := &event.DeadLetter{Place: &event.Place{}}
	var partition uint16
	var key, value string
	var headers [][]any
	ok, err := scanOne(rows, &letter.Place.Epoch, &letter.Place.Topic, &partition, &letter.Place.Offset, &letter.EventId,
		&letter.EventType, &letter.Reason, &letter.CodeVersion, &key, &headers, &value)
	if err != nil || !ok {
		return nil, err
	}
	letter.Place.Partition, letter.Key, letter.Value = int32(partition), []byte(key), []byte(value)
	for _, header := range headers {
		name, _ := header[0].(string)
		text, _ := header[1].(string)
		letter.Headers = append(letter.Headers, &event.RecordHeader{Key: name, Value: []byte(text)})
	}
	return letter, nil
}

// scanOne reads the only row of an answer; ok is false when there is none.
func scanOne(rows driver.Rows, into ...any) (ok bool, err error) {
	defer func() { _ = rows.Close() }()
	if !rows.Next() {
		return false, rows.Err()
	}
	return true, rows.Scan(into...)
}

// outOfReach is the answer to a write for which the projections are missing; what the gate says is kept.
func outOfReach(err error) error {
	if refusal := (*route.Error)(nil); errors.As(err, &refusal) {
		return err
	}
	return fmt.Errorf("%w: %w", door.OutOfReach("ClickHouse"), err)
}
