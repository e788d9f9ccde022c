package app

import (
	"context"
	"encoding/hex"
	"fmt"
	"sync/atomic"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/query/cache"
	"github.com/millrace/millrace/schemas/eventlog"
)

// storedKeys finds the idempotency keys of one topic that its fold has forgotten.
type storedKeys struct {
	lookups
	topic string
	// newest is the newest key that the projections are known to contain.
	newest atomic.Pointer[projectedKey]
	// together shares a query between all who ask: under load, once the fold has forgotten any, every new key is looked up.
	together *cache.Together[keyAsk, *door.StoredKey]
}

// keyAsk asks for a key that the fold may have forgotten, through an ordinal.
type keyAsk struct {
	key     string
	through uint64
}

// projectedKey is the ordinal of a key that a generation of the projections is known to contain, with all before it.
type projectedKey struct {
	generation uint32
	ordinal    uint64
}

// storedKeysOf gives door.StoredKeys for the topics that decide.
func storedKeysOf(look lookups) door.StoredKeys {
	byTopic := map[string]*storedKeys{}
	for _, topic := range eventlog.Topics(1) {
		if topic.Decides {
			s := &storedKeys{lookups: look, topic: topic.Name}
			s.together = cache.NewTogether(look.cache, s.find)
			byTopic[topic.Name] = s
		}
	}
	return func(ctx context.Context, topic string, key []byte, through uint64) (*door.StoredKey, error) {
		return byTopic[topic].together.Get(ctx, keyAsk{string(key), through})
	}
}

// through waits until the projections contain a key and all before it, and gives their database. They long do when a
// fold has forgotten the key, so it is asked once and then known.
func (s *storedKeys) through(ctx context.Context, ordinal uint64) (string, error) {
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

// find looks up which keys were taken and whose time is not over.
func (s *storedKeys) find(ctx context.Context, asks []keyAsk) (map[keyAsk]*door.StoredKey, error) {
	byKey, through := map[string][]keyAsk{}, uint64(0)
	var names []string
	for _, ask := range asks {
		byKey[ask.key] = append(byKey[ask.key], ask)
		names = append(names, hex.EncodeToString([]byte(ask.key)))
		through = max(through, ask.through)
	}
	database, err := s.through(ctx, through)
	if err != nil {
		return nil, outOfReach(err)
	}
	rows, err := s.db.Query(ctx, "SELECT key, body, outcome, if(epoch = {epoch:UInt32}, offset, -1) FROM `"+database+
		"`.idempotency_keys WHERE topic = {topic:String} AND key IN (SELECT unhex(arrayJoin({keys:Array(String)}))) "+
		"AND until > {now:Int64} ORDER BY ordinal DESC LIMIT 1 BY key",
		ch.Named("epoch", s.epoch), ch.Named("topic", s.topic), ch.Named("keys", names), ch.Named("now", time.Now().UnixMilli()))
	if err != nil {
		return nil, outOfReach(err)
	}
	defer func() { _ = rows.Close() }()
	found := map[keyAsk]*door.StoredKey{}
	for rows.Next() {
		var stored door.StoredKey
		var key, body, outcome string
		if err := rows.Scan(&key, &body, &outcome, &stored.Offset); err != nil {
			return nil, fmt.Errorf("read an idempotency key of topic %s: %w", s.topic, err)
		}
		stored.Body, stored.Outcome = []byte(body), []byte(outcome)
		for _, ask := range byKey[key] {
			found[ask] = &stored
		}
	}
	if err := rows.Err(); err != nil {
		return nil, outOfReach(err)
	}
	return found, nil
}
