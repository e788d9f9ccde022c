// Package projection turns what happened into rows of one generation of the projections, and writes them.
//
// A Batch collects the rows of many records; a Writer brings a batch into ClickHouse under a deduplication token and
// then recomputes the trends that its samples touched. Rows follow from the records alone: the same records give the
// same rows, so that a batch can be written again, and a rebuild gives the same tables.
//
// Whatever Add accepts can be written: a failing Write is the engine's fault and never the data's. Section numbers in
// comments are those of the Performance Farm's wire contract.
package projection

import "github.com/millrace/millrace/processor/pgperffarm"

// Batch is the rows that some records give. A record whose Add fails leaves the batch as it was; the error says what is
// wrong with the record. A batch is not safe for concurrent use.
type Batch struct {
	tables  [tableCount]rows
	metrics samples
	// shown are the dictionary values that have their rows in this batch, in the order in which they came.
	shown   []pgperffarm.Term
	isShown map[pgperffarm.Term]struct{}
}

// rows are the rows of one table, each with a value for every column.
type rows struct {
	values [][]any
	bytes  int
}

// add takes a row whose texts have about size bytes together.
func (r *rows) add(size int, values ...any) {
	r.values = append(r.values, values)
	r.bytes += rowBytes(size, len(values))
}

// rowBytes is about what a row takes: an interface for each value and the texts.
func rowBytes(size, columns int) int { return size + 16*columns }

// NewBatch gives an empty batch.
func NewBatch() *Batch { return &Batch{isShown: make(map[pgperffarm.Term]struct{})} }

// Rows counts the rows of all tables.
func (b *Batch) Rows() int {
	n := b.metrics.rows()
	for i := range b.tables {
		n += len(b.tables[i].values)
	}
	return n
}

// Bytes is about how much memory the rows take.
func (b *Batch) Bytes() int {
	n := b.metrics.bytes()
	for i := range b.tables {
		n += b.tables[i].bytes
	}
	return n
}

// Reset empties the batch and keeps its memory, unless it was uncommonly large.
func (b *Batch) Reset() {
	b.rollBack(mark{})
	if cap(b.metrics.values) > 2*metricsAtOnce {
		b.metrics = samples{}
	}
}

// mark is how far a batch had been filled.
type mark struct {
	rows, bytes      [tableCount]int
	segments, values int
	shown            int
}

func (b *Batch) mark() (m mark) {
	for i := range b.tables {
		m.rows[i], m.bytes[i] = len(b.tables[i].values), b.tables[i].bytes
	}
	m.segments, m.values = len(b.metrics.segments), len(b.metrics.values)
	m.shown = len(b.shown)
	return m
}

func (b *Batch) rollBack(to mark) {
	for i := range b.tables {
		t := &b.tables[i]
		clear(t.values[to.rows[i]:])
		t.values, t.bytes = t.values[:to.rows[i]], to.bytes[i]
	}
	b.metrics.truncate(to.segments, to.values)
	for _, term := range b.shown[to.shown:] {
		delete(b.isShown, term)
	}
	b.shown = b.shown[:to.shown]
}

// whole takes all rows that add adds, or none when it fails.
func (b *Batch) whole(add func() error) error {
	before := b.mark()
	err := add()
	if err != nil {
		b.rollBack(before)
	}
	return err
}
