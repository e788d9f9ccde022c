// Package cursor writes and reads the places at which a list is continued.
//
// A cursor is opaque to clients, bound to the query that it continues, and holds the sort key of the last row that was
// shown. Sort keys follow from the log alone, so a cursor outlives a rebuild of the projections. It is no secret and
// grants nothing: whoever may ask the query may see every place in its answer. So it is checked, and not signed.
package cursor

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math"
	"unicode/utf8"
)

// Kind is the kind of a value in a sort key.
type Kind uint8

// The kinds.
const (
	Number Kind = iota
	Text
)

// Value is one value of a sort key, by its kind.
type Value struct {
	Number uint64
	Text   string
}

// Key is the sort key of a row. Its kinds are known from the list's order.
type Key []Value

// Errors of Parse.
var (
	// ErrMalformed means that the text is no cursor.
	ErrMalformed = errors.New("it is no cursor: pass the member next of an answer as it is")
	// ErrOtherQuery means that the cursor continues another query.
	ErrOtherQuery = errors.New("it continues another query: keep every parameter but limit and fields, or begin without a cursor")
)

// MaxLength bounds the text of a cursor in bytes.
const MaxLength = 1024

// A cursor is, in base64url without padding: version (1 byte), digest of the query (8 bytes), values. A number is a
// varint, a text its length as a varint and its bytes.
const (
	version    = 1
	digestSize = 8
)

// Format writes the cursor behind a row. The query names the list, its filters and its order.
func Format(query string, kinds []Kind, key Key) string {
	sum := sha256.Sum256([]byte(query))
	packed := append([]byte{version}, sum[:digestSize]...)
	for i, kind := range kinds {
		if kind == Number {
			packed = binary.AppendUvarint(packed, key[i].Number)
			continue
		}
		packed = binary.AppendUvarint(packed, uint64(len(key[i].Text)))
		packed = append(packed, key[i].Text...)
	}
	return base64.RawURLEncoding.EncodeToString(packed)
}

// Parse reads a cursor of the query. Only what Format writes is accepted.
func Parse(text, query string, kinds []Kind) (Key, error) {
	if len(text) > MaxLength {
		return nil, ErrMalformed
	}
	packed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(packed) < 1+digestSize || packed[0] != version {
		return nil, ErrMalformed
	}
	sum := sha256.Sum256([]byte(query))
	if string(packed[1:1+digestSize]) != string(sum[:digestSize]) {
		return nil, ErrOtherQuery
	}
	key, ok := values(packed[1+digestSize:], kinds)
	if !ok || Format(query, kinds, key) != text {
		return nil, ErrMalformed
	}
	return key, nil
}

func values(packed []byte, kinds []Kind) (Key, bool) {
	key := make(Key, 0, len(kinds))
	for _, kind := range kinds {
		number, n := binary.Uvarint(packed)
		if n <= 0 {
			return nil, false
		}
		packed = packed[n:]
		if kind == Number {
			key = append(key, Value{Number: number})
			continue
		}
		if number > math.MaxInt32 || int(number) > len(packed) || !utf8.Valid(packed[:number]) {
			return nil, false
		}
		key = append(key, Value{Text: string(packed[:number])})
		packed = packed[number:]
	}
	return key, len(packed) == 0
}
