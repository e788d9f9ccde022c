package pgperffarm

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// quick checks JSON in one pass and without allocations, at several times the speed of the library: the check is a good
// part of what an upload costs. It only ever says yes: whatever it does not know for certain, each error and each rarity
// included, is left to the library, which also finds the words for it.
type quick struct {
	text []byte
	at   int
	room int // how many more levels may be opened
	seed maphash.Seed
	// hashes are those of the names in the objects that are open, names their number.
	hashes [maxQuickNames]uint64
	names  int
}

// maxQuickNames bounds the names in the objects that are open at once: each is compared with all before it in its object.
const maxQuickNames = 96

// quickSplit is split for the ordinary document. The text must be UTF-8.
func quickSplit(body []byte, maxDepth int) (*members, bool) {
	q := quick{text: body, room: maxDepth - 1, seed: maphash.MakeSeed()} // within the array
	found := new(members)
	if !q.take('[') || q.next() != '{' || !q.object(found) || !q.take(']') {
		return nil, false
	}
	q.next()
	return found, q.at == len(body)
}

// quickValid reports that a text, which must be UTF-8, certainly is one JSON value without names that stand twice.
func quickValid(text []byte, maxDepth int) bool {
	q := quick{text: text, room: maxDepth, seed: maphash.MakeSeed()}
	ok := q.value()
	q.next()
	return ok && q.at == len(text)
}

// next goes over white space and returns the byte that comes then, 0 at the end.
func (q *quick) next() byte {
	for ; q.at < len(q.text); q.at++ {
		switch c := q.text[q.at]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

func (q *quick) take(c byte) bool {
	if q.next() != c {
		return false
	}
	q.at++
	return true
}

func (q *quick) value() bool {
	switch c := q.next(); c {
	case '{':
		return q.object(nil)
	case '[':
		return q.array()
	case '"':
		_, ok := q.str()
		return ok
	case 't':
		return q.literal("true")
	case 'f':
		return q.literal("false")
	case 'n':
		return q.literal("null")
	default:
		return q.number()
	}
}

func (q *quick) array() bool {
	q.at++
	if q.room--; q.room < 0 {
		return false
	}
	if q.next() != ']' {
		for ok := true; ok; ok = q.take(',') {
			if !q.value() {
				return false
			}
		}
	}
	q.room++
	return q.take(']')
}

// object goes over an object and puts the known members into found, if there is one.
func (q *quick) object(found *members) bool {
	q.at++
	if q.room--; q.room < 0 {
		return false
	}
	outer := q.names
	if q.next() != '}' {
		for ok := true; ok; ok = q.take(',') {
			if !q.member(outer, found) {
				return false
			}
		}
	}
	q.names = outer
	q.room++
	return q.take('}')
}

// member goes over one member of an object whose names' hashes begin at first.
func (q *quick) member(first int, found *members) bool {
	if q.next() != '"' {
		return false
	}
	begin := q.at
	plain, ok := q.str()
	if !ok || !plain || !q.note(first, q.text[begin+1:q.at-1]) {
		return false
	}
	name := q.text[begin+1 : q.at-1]
	if !q.take(':') {
		return false
	}
	q.next()
	begin = q.at
	if !q.value() {
		return false
	}
	if found != nil {
		if place, known := memberPlaces[string(name)]; known {
			found[place] = jsontext.Value(q.text[begin:q.at:q.at])
		}
	}
	return true
}

// note remembers a name. It fails when the name may stand twice.
func (q *quick) note(first int, name []byte) bool {
	hash := maphash.Bytes(q.seed, name)
	if q.names == maxQuickNames || slices.Contains(q.hashes[first:q.names], hash) {
		return false
	}
	q.hashes[q.names] = hash
	q.names++
	return true
}

// str goes over a string; plain means that it has no escapes.
func (q *quick) str() (plain, ok bool) {
	plain = true
	for at := q.at + 1; at < len(q.text); {
		at = special(q.text, at)
		if at == len(q.text) {
			break
		}
		switch q.text[at] {
		case '"':
			q.at = at + 1
			return plain, true
		case '\\':
			length := escape(q.text[at:])
			if length == 0 {
				return false, false
			}
			plain = false
			at += length
		default:
			return false, false // a control character
		}
	}
	return false, false
}

// special returns the position of the first quote, backslash or control character from at on, or the text's length. It
// looks at eight bytes at a time: the lowest byte of a word that a test marks is always marked rightly.
func special(text []byte, at int) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for ; at+8 <= len(text); at += 8 {
		word := binary.LittleEndian.Uint64(text[at:])
		quote, backslash := word^ones*'"', word^ones*'\\'
		marks := ((quote-ones)&^quote | (backslash-ones)&^backslash | (word-ones*' ')&^word) & highs
		if marks != 0 {
			return at + bits.TrailingZeros64(marks)/8
		}
	}
	for ; at < len(text); at++ {
		if c := text[at]; c == '"' || c == '\\' || c < ' ' {
			break
		}
	}
	return at
}

// escape returns the length of the escape at the start of b, 0 when it is none.
func escape(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		for i := 2; i < 6; i++ {
			if i == len(b) || !hexDigit(b[i]) {
				return 0
			}
		}
		return 6
	}
	return 0
}

func hexDigit(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func (q *quick) literal(word string) bool {
	end := q.at + len(word)
	if end > len(q.text) || string(q.text[q.at:end]) != word {
		return false
	}
	q.at = end
	return true
}

func (q *quick) number() bool {
	if q.at < len(q.text) && q.text[q.at] == '-' {
		q.at++
	}
	zero := q.at < len(q.text) && q.text[q.at] == '0'
	whole := q.digits()
	if whole == 0 || zero && whole > 1 {
		return false
	}
	if q.at < len(q.text) && q.text[q.at] == '.' {
		q.at++
		if q.digits() == 0 {
			return false
		}
	}
	if q.at < len(q.text) && q.text[q.at]|' ' == 'e' {
		q.at++
		if q.at < len(q.text) && (q.text[q.at] == '+' || q.text[q.at] == '-') {
			q.at++
		}
		return q.digits() > 0
	}
	return true
}

// digits goes over digits and counts them.
func (q *quick) digits() int {
	count := digits(q.text[q.at:])
	q.at += count
	return count
}
