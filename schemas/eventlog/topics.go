// Package eventlog is the log: its topics, the envelope of an event, appending, tailing and positions.
//
// The log is Apache Kafka or anything that speaks its protocol. An event is appended with the acknowledgement of all
// in-sync replicas and is identified by its id, never by its offset: a retried append can put one event at two offsets.
package eventlog

import (
	"slices"
	"strconv"
	"time"
)

// The topics, named by the kind of fact they hold.
const (
	Registry    = "registry"     // machines, users, sessions, tokens, benchmarks, sites, queues
	Runs        = "runs"         // uploads of benchmark runs
	Jobs        = "jobs"         // what decides in a job's life
	Results     = "results"      // results and refusals that decide nothing
	Metrics     = "metrics"      // samples
	JobOutput   = "job_output"   // output of jobs
	DeadLetters = "dead_letters" // records that could not be projected
)

// Topic is a topic as Millrace creates it.
type Topic struct {
	Name string
	// Partitions is 1 for a topic that decides: its fold needs one order.
	Partitions int
	// Decides says that a fold over this topic answers requests.
	Decides bool
}

// Topics lists every topic, with the given number of partitions for those that carry volume.
func Topics(volumePartitions int) []Topic {
	return []Topic{
		{Name: Registry, Partitions: 1, Decides: true},
		{Name: Runs, Partitions: 1, Decides: true},
		{Name: Jobs, Partitions: 1, Decides: true},
		{Name: Results, Partitions: volumePartitions},
		{Name: Metrics, Partitions: volumePartitions},
		{Name: JobOutput, Partitions: volumePartitions},
		{Name: DeadLetters, Partitions: 1},
	}
}

// maxClockSkew bounds how far the clock of an appending process may be from the broker's: the broker refuses a record
// outside it, so that no single bad clock can move log time.
const maxClockSkew = 10 * time.Minute

// MaxRecordBytes is the largest record that is appended; a larger document travels by the blob store.
const MaxRecordBytes = 512 << 10

// maxBatchBytes keeps a batch of records, their headers included, under the topics' max.message.bytes.
const maxBatchBytes = 900 << 10

func topicConfig(retention time.Duration, replication int) map[string]string {
	retentionMS := "-1"
	if retention > 0 {
		retentionMS = strconv.FormatInt(retention.Milliseconds(), 10)
	}
	return map[string]string{
		"max.message.bytes": "1048588",
		// A write that one broker alone has is not acknowledged where there are others.
		"min.insync.replicas":             strconv.Itoa(max(1, replication-1)),
		"message.timestamp.type":          "CreateTime",
		"message.timestamp.after.max.ms":  strconv.FormatInt(maxClockSkew.Milliseconds(), 10),
		"message.timestamp.before.max.ms": strconv.FormatInt(maxClockSkew.Milliseconds(), 10),
		"retention.ms":                    retentionMS,
		"retention.bytes":                 "-1",
		"cleanup.policy":                  "delete",
	}
}

// Partition names one partition of one topic.
type Partition struct {
	Topic string
	ID    int
}

func (p Partition) String() string { return p.Topic + "/" + strconv.Itoa(p.ID) }

func comparePartitions(a, b Partition) int {
	if a.Topic != b.Topic {
		if a.Topic < b.Topic {
			return -1
		}
		return 1
	}
	return a.ID - b.ID
}

// SortPartitions orders partitions by topic, then number.
func SortPartitions(partitions []Partition) { slices.SortFunc(partitions, comparePartitions) }
