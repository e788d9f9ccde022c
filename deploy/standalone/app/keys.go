package app

import (
	"context"
	"encoding/hex"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/schemas/eventlog"
)

// storedKeys finds the idempotency keys of one topic that its fold has forgotten.
type storedKeys struct {
	lookups
	topic string
	// newest is the newest key that the projections are known to contain.
	newest *atomic.Pointer[projectedKey]
}

// projectedKey is the ordinal of a key that a generation of the projections is known to contain, with all before it.
type projectedKey struct {
	generation uint32
	ordinal    uint64
}

// storedKeysOf gives door.StoredKeys for the topics that decide.
func storedKeysOf(look lookups) door.StoredKeys {
	byTopic := map[string]storedKeys{}
	for _, topic := range eventlog.Topics(1) {
		if topic.Decides {
			byTopic[topic.Name] = storedKeys{lookups: look, topic: topic.Name, newest: &atomic.Pointer[projectedKey]{}}
		}
	}
	return func(ctx context.Context, topic string, key []byte, through uint64) (*door.StoredKey, error) {
		return byTopic[topic].find(ctx, key, through)
	}
}

// through waits until the projections contain a key and all before it, and gives their database. They long do when a
// fold has forgotten the key, so it is asked once and then known.
func (s storedKeys) through(ctx context.Context, ordinal uint64) (string, error) {
	generation := s.generation.Number()
	if generation == 0 {
		return s.current(ctx, s.topic)
	}
	database := s.db.Generation(generation)
	if known := s.newest.Load(); known != nil && known.generation == generation && known.ordinal >= ordinal {
		return database, nil
	}
	var newest uint64
	err := s.db.QueryRow(ctx, "SELECT max(ordinal) FROM `"+database+"`.idempotency_keys WHERE topic = ?", s.topic).Scan(&newest)
	if err != nil {
		return "", err
	}
	if newest < ordinal {
		return s.current(ctx, s.topic)
	}
	s.newest.Store(&projectedKey{generation: generation, ordinal: newest})
	return database, nil
}

// find looks a key up whose time is not over.
func (s storedKeys) find(ctx context.Context, key []byte, through uint64) (*door.StoredKey, error) {
	database, err := s.through(ctx, through)
	if err != nil {
		return nil, outOfReach(err)
	}
	rows, err := s.db.Query(ctx, "SELECT body, outcome, if(epoch = ?, offset, -1) FROM `"+database+
		"`.idempotency_keys WHERE topic = ? AND key = unhex(?) AND until > ? ORDER BY ordinal DESC LIMIT 1",
		s.epoch, s.topic, hex.EncodeToString(key), time.Now().UnixMilli())
	if err != nil {
		return nil, outOfReach(err)
	}
	var found door.StoredKey
	var body, outcome string
	ok, err := scanOne(rows, &body, &outcome, &found.Offset)
	if err != nil {
		return nil, outOfReach(err)
	}
	if !ok {
		return nil, nil
	}
	found.Body, found.Outcome = []byte(body), []byte(outcome)
	return &found, nil
}
