package door

import (
	"crypto/sha256"
	"encoding/binary"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/route"
)

// KeyHeader carries a key of the client's own: a repeat with the same key gets the first answer again.
const KeyHeader = "Idempotency-Key"

const (
	// DefaultKeep is how long a key is remembered, in log time.
	DefaultKeep = 7 * 24 * time.Hour
	// maxKey bounds a key.
	maxKey = 255
)

// KeyParam describes the header in a route's table.
func KeyParam() route.Param {
	return route.Param{
		Name: KeyHeader, In: route.InHeader, MaxLength: maxKey,
		Description: "A key of your own choice, printable ASCII: a repeat with the same key and body gets the first answer again, another body 422.",
	}
}

// Idempotency gives what the log is told of the request's key; nil when the client sent none. The key counts for one
// credential on one route.
func Idempotency(c *gin.Context, credential string, body []byte, keep time.Duration) (*event.Idempotency, error) {
	key, err := readKey(c.Request.Header)
	if key == "" || err != nil {
		return nil, err
	}
	hash, sum := keyHash(credential, endpoint(c), key), sha256.Sum256(body)
	return &event.Idempotency{Key: hash[:], Body: sum[:], KeepSeconds: int64(keep / time.Second)}, nil
}

// FactID gives the event id of a fact: one that follows from the request's key and body, so that a repeat is the same
// event and counts once, or fallback when the client sent no key. A fact asks the log for no decision, so a key with
// another body is another fact.
func FactID(c *gin.Context, credential string, body []byte, fallback uuid.UUID) (uuid.UUID, error) {
	key, err := readKey(c.Request.Header)
	if key == "" || err != nil {
		return fallback, err
	}
	name := keyHash(credential, endpoint(c), key)
	return uuid.NewHash(sha256.New(), uuid.Nil, append(name[:], body...), 8), nil
}

// readKey gives the header's value; "" when there is none.
func readKey(h http.Header) (string, error) {
	values := h[KeyHeader]
	if len(values) == 0 {
		return "", nil
	}
	key := values[0]
	switch {
	case len(values) > 1:
		return "", badKey("is given %d times: send one", len(values))
	case key == "":
		return "", badKey("is empty: send a key, or no such header")
	case len(key) > maxKey:
		return "", badKey("has %d characters: the limit is %d", len(key), maxKey)
	}
	for i := range len(key) {
		if key[i] < ' ' || key[i] > '~' {
			return "", badKey("has a character that is not printable ASCII at position %d", i)
		}
	}
	return key, nil
}

func badKey(format string, args ...any) error {
	refusal := route.Errorf(http.StatusBadRequest, format, args...)
	refusal.Message = "header " + KeyHeader + " " + refusal.Message
	return refusal
}

// endpoint is what a key counts for: the path as it was asked for, since a part of it may name what is written.
func endpoint(c *gin.Context) string {
	return c.Request.Method + " " + strings.TrimSuffix(c.Request.URL.Path, "/")
}

// keyHash hides the key and keeps apart the keys of different credentials and routes.
func keyHash(parts ...string) [sha256.Size]byte {
	var text []byte
	for _, part := range parts {
		text = binary.BigEndian.AppendUint64(text, uint64(len(part)))
		text = append(text, part...)
	}
	return sha256.Sum256(text)
}

// KeyReused is the answer to a key that came with another body before.
func KeyReused() *route.Error {
	return route.Errorf(http.StatusUnprocessableEntity,
		"this %s was sent before with another body: use a new key for a new request", KeyHeader)
}
