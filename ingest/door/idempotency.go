package door

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/processor/fold"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
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

// StoredKey is an idempotency key as the projections have it.
type StoredKey struct {
	Body []byte
	// Outcome is what the key's request was answered, as JSON.
	Outcome []byte
	// Offset is the request's place in the log; -1 in a log before this one.
	Offset int64
}

// StoredKeys finds a topic's idempotency key in the projections; nil when it was never taken, or its time is over. It is
// asked once the fold has forgotten keys up to an ordinal, which its answer must contain. Its errors are what the client
// is answered.
type StoredKeys func(ctx context.Context, topic string, key []byte, through uint64) (*StoredKey, error)

// ErrKeyNotChecked means that nothing was appended, since it is not known whether the request's key was taken before.
var ErrKeyNotChecked = errors.New("the idempotency key cannot be looked up")

// checkKey makes sure that the fold can tell whether a request's key is new, and says so in the request. A key that the
// fold has forgotten and the projections have is answered here.
func checkKey[S, O any](ctx context.Context, l Log, decider Fold[S, O], request proto.Message,
) (outcome O, position eventlog.Position, answered bool, err error) {
	keyed, _ := request.(interface{ GetIdempotency() *event.Idempotency })
	if keyed == nil || keyed.GetIdempotency() == nil {
		return outcome, position, false, nil
	}
	key, keys := keyed.GetIdempotency(), decider.Keys()
	var forgotten uint64
	decider.View(func(state S) { key.Checked, forgotten = keys.Repeats(state).LookUp(key.GetKey()) })
	if forgotten == 0 {
		return outcome, position, false, nil
	}
	stored, err := decider.StoredKey(ctx, key.GetKey(), forgotten)
	switch {
	case err != nil:
		return outcome, position, false, fmt.Errorf("%w: %w", ErrKeyNotChecked, err)
	case stored == nil:
		return outcome, position, false, nil
	}
	if stored.Offset >= 0 {
		position = eventlog.At(l.ID, l.PartitionFor(decider.Topic(), nil), stored.Offset)
	}
	if !bytes.Equal(stored.Body, key.GetBody()) {
		return keys.Answer(fold.Reused, outcome), position, true, nil
	}
	if err := json.Unmarshal(stored.Outcome, &outcome); err != nil {
		return outcome, position, false, fmt.Errorf("read what a request was answered: %w", err)
	}
	return keys.Answer(fold.Repeated, outcome), position, true, nil
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
