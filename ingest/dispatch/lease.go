package dispatch

import (
	"crypto/hmac"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/schemas/keyring"
)

// Leases makes the tokens by which who got a job speaks of it. A token follows from the job and its attempt under the
// installation's key: it cannot be guessed and stands nowhere.
type Leases struct{ keys *keyring.Keyring }

// NewLeases gives the tokens of an installation.
func NewLeases(keys *keyring.Keyring) Leases { return Leases{keys} }

// Token is the token of a hand-out, as SEQ.ATTEMPT.PROOF.
func (l Leases) Token(job jobs.Job) string { return l.token(job.Seq, job.Attempt) }

func (l Leases) token(seq uint64, attempt uint32) string {
	claim := fmt.Sprintf("%d.%d", seq, attempt)
	proof := l.keys.Lookup("job lease", claim)
	return claim + "." + hex.EncodeToString(proof[:16])
}

// Read gives the hand-out that a token speaks of; false when it is none of this installation's.
func (l Leases) Read(token string) (seq uint64, attempt uint32, ok bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return 0, 0, false
	}
	seq, err := strconv.ParseUint(parts[0], 10, 64)
	if err != nil {
		return 0, 0, false
	}
	n, err := strconv.ParseUint(parts[1], 10, 32)
	if err != nil {
		return 0, 0, false
	}
	return seq, uint32(n), hmac.Equal([]byte(token), []byte(l.token(seq, uint32(n))))
}
