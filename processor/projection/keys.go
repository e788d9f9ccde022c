package projection

import "github.com/millrace/millrace/schemas/eventlog"

// Key is an idempotency key that a request took, and what the request was answered.
type Key struct {
	Topic string
	// Key and Body are hashes, see event.Idempotency.
	Key, Body string
	// Ordinal is the key's among those that the topic's fold took.
	Ordinal uint64
	// Until is the log time at which the key is free again, Unix milliseconds.
	Until int64
	Place eventlog.Place
	// Outcome is the fold's, as JSON.
	Outcome string
}

// AddKey adds an idempotency key that was taken.
func (b *Batch) AddKey(k Key) {
	b.tables[keys].add(len(k.Key)+len(k.Body)+len(k.Outcome),
		k.Topic, k.Key, k.Body, k.Ordinal, k.Until, k.Place.Epoch, k.Place.Offset, k.Outcome)
}
