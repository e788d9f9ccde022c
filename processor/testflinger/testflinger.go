// Package testflinger is what the two sides of the Testflinger API share: what clients send and how it is checked, the
// permissions of clients, and their tokens. Section numbers in comments are those of the API's wire contract.
//
// The API has two generations: the one that its first description had (Seed), and the newest that clients were seen to
// speak (Latest). Where nothing is said, both behave alike.
//
// A job waits in the queue testflinger/QUEUE; its document is the submitted object with its job_id. What decides in its
// life is in topic jobs, with the job's own id in its events; several jobs may share one (3). Agents, queues, results and
// output are facts: what was said last counts.
package testflinger

import (
	"fmt"
	"strings"
	"time"
)

// Generation is one of the API's generations.
type Generation uint8

// The generations.
const (
	Seed Generation = iota
	Latest
)

// ParseGeneration reads the setting testflinger.api.
func ParseGeneration(text string) (Generation, error) {
	switch text {
	case "seed":
		return Seed, nil
	case "latest":
		return Latest, nil
	}
	return Seed, fmt.Errorf("testflinger.api: %q is neither seed nor latest", text)
}

// String gives the setting's text.
func (g Generation) String() string {
	if g == Latest {
		return "latest"
	}
	return "seed"
}

// queuePrefix keeps Testflinger's queues apart from those of other APIs.
const queuePrefix = "testflinger/"

// Queue is where the jobs of a queue of Testflinger's wait.
func Queue(name string) string { return queuePrefix + name }

// QueueName is the name that Testflinger's clients know a queue by; false for a queue of another API.
func QueueName(queue string) (string, bool) { return strings.CutPrefix(queue, queuePrefix) }

// The states that mean something to the server (5); agents report any text.
const (
	StateWaiting   = "waiting"
	StateRunning   = "running"
	StateComplete  = "complete"
	StateCompleted = "completed"
	StateCancelled = "cancelled"
)

// Ended says that a job in this state has ended: complete, its old spelling, or cancelled.
func Ended(state string) bool {
	return state == StateComplete || state == StateCompleted || state == StateCancelled
}

// Phases of a job, in the order in which agents run them.
func Phases() []string {
	return []string{"setup", "provision", "firmware_update", "test", "allocate", "reserve", "cleanup"}
}

// IsJobID says whether a text is a UUID in one of the spellings that the API's server takes: in braces, as a URN, with and
// without dashes (1).
func IsJobID(id string) bool {
	if len(id) > maxJobID {
		return false
	}
	digits := strings.NewReplacer("urn:", "", "uuid:", "").Replace(id)
	digits = strings.ReplaceAll(strings.Trim(digits, "{}"), "-", "")
	if len(digits) != 32 {
		return false
	}
	for i := range len(digits) {
		if c, lower := digits[i], digits[i]|0x20; (c < '0' || c > '9') && (lower < 'a' || lower > 'f') {
			return false
		}
	}
	return true
}

// maxJobID is longer than any spelling that makes sense.
const maxJobID = 64

// FormatTime writes a time as the API's answers have it (1): of its two forms the one without fractions of a second.
func FormatTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// RememberedFor is how long agents and advertised queues are shown that say nothing any more, and jobs are listed that
// have ended (5).
const RememberedFor = 7 * 24 * time.Hour
