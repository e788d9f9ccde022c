package sink

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/millrace/millrace/schemas/eventlog"
)

// mapping is the version of how records become rows. It is part of every token: a batch that was begun by other code
// must not be taken for written.
const mapping = 4

// batchRange is what the journal says of a batch: its first and last offset.
type batchRange struct{ first, last int64 }

// note is the text that stands in the group's commit while a batch is being written.
func (b batchRange) note() string { return fmt.Sprintf("pending %d %d", b.first, b.last) }

// pendingBatch reads a note back; ok is false when no batch was being written.
func pendingBatch(note string) (b batchRange, ok bool) {
	_, err := fmt.Sscanf(note, "pending %d %d", &b.first, &b.last)
	return b, err == nil && b.first <= b.last
}

// token identifies a batch's rows: the same records projected by the same code with the same places left out.
func (b batchRange) token(group, logID string, partition eventlog.Partition, skipped []int64) string {
	slices.Sort(skipped)
	text := fmt.Sprintf("%s\n%s\n%s\n%d\n%d\n%d\n%v", group, logID, partition, b.first, b.last, mapping, skipped)
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}
