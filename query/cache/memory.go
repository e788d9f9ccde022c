package cache

import (
	"container/list"
	"time"
)

// overhead is roughly what an entry takes beside its key and body.
const overhead = 256

// memory is the tier in the process: the least recently used values go first. It is not safe for concurrent use.
type memory struct {
	maxBytes, maxValue, bytes int64
	entries                   map[string]*list.Element
	used                      *list.List // newest use first
}

type entry struct {
	key   string
	value Value
}

func (e *entry) size() int64 { return int64(len(e.key)+len(e.value.Body)) + overhead }

func newMemory(bytes int64) *memory {
	return &memory{maxBytes: bytes, maxValue: bytes / 16, entries: map[string]*list.Element{}, used: list.New()}
}

func (m *memory) get(key string, now time.Time) (Value, bool) {
	element, ok := m.entries[key]
	if !ok {
		return Value{}, false
	}
	value := element.Value.(*entry).value
	if value.expired(now) {
		m.remove(element)
		return Value{}, false
	}
	m.used.MoveToFront(element)
	return value, true
}

func (m *memory) put(key string, value Value) {
	if old, ok := m.entries[key]; ok {
		m.remove(old)
	}
	e := &entry{key: key, value: value}
	if e.size() > m.maxValue {
		return
	}
	m.entries[key] = m.used.PushFront(e)
	m.bytes += e.size()
	for m.bytes > m.maxBytes {
		m.remove(m.used.Back())
	}
}

func (m *memory) remove(element *list.Element) {
	e := m.used.Remove(element).(*entry)
	delete(m.entries, e.key)
	m.bytes -= e.size()
}
