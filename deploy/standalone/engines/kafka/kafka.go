// Package kafka is the log of a single machine: a Kafka broker inside the process, which has synced every batch to disk
// when it acknowledges it. It is one node without replication.
//
// The broker is kfake, which was made for tests. What of it would break the promises of the log is set right here:
//
//   - After a crash it takes the end of a partition from the records that are left, so that a partition without any would
//     begin at offset 0 again. TrimTo always leaves the last batch, and kfake's own retention, which leaves nothing and
//     knows of no archive, is off whatever a topic's configuration says.
//   - It forgets the offsets of consumer groups that were idle for seven days; here they stay.
//   - It restores the members of consumer groups after an orderly stop. They lived in this process and are gone, and their
//     successors would wait for their sessions to time out, so they are not restored.
//
// Unlike Apache Kafka it does not know message.timestamp.type: records keep the time that their producer gave them.
package kafka

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/millrace/millrace/deploy/standalone/engines/internal/folder"
)

// User is who clients are when the broker wants a password. The mechanism is SCRAM-SHA-512.
const User = "millrace"

// DefaultSegmentBytes is the size at which a partition begins a new file. Only whole files are deleted, so a partition
// takes up to this much more on disk, and while it is being opened in memory, than what it was trimmed to.
const DefaultSegmentBytes = 8 << 20

// Options say where the broker keeps its log and how it is reached.
type Options struct {
	// Dir is the folder of the log. It belongs to one broker at a time.
	Dir string
	// Port on 127.0.0.1; 0 takes a free one.
	Port int
	// Password of User. Without one everybody on this machine may read and write the log.
	Password string
	// SegmentBytes replaces DefaultSegmentBytes when it is not 0.
	SegmentBytes int64
	// Logger receives the broker's warnings and errors, and its requests at debug level.
	Logger *slog.Logger
}

// Broker is a running broker.
type Broker struct {
	lock      *folder.Lock
	addr      string
	clusterID string

	mu      sync.RWMutex // held for writing while the cluster is closed: it answers nothing afterwards
	cluster *kfake.Cluster
}

// Start opens the log in opts.Dir, or creates it, and serves it until Close.
func Start(ctx context.Context, opts Options) (*Broker, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	lock, err := folder.Acquire(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("start the embedded log: %w", err)
	}
	b := &Broker{lock: lock}
	if err := b.open(opts); err != nil {
		return nil, errors.Join(fmt.Errorf("start the embedded log in %s: %w", opts.Dir, err), b.Close())
	}
	return b, nil
}

func (b *Broker) open(opts Options) error {
	if err := prepareFolder(opts.Dir); err != nil {
		return err
	}
	cluster, err := kfake.NewCluster(clusterOptions(opts)...)
	if err != nil {
		return err
	}
	debug.FreeOSMemory() // kfake has read the whole log to index it; the records themselves are garbage now
	b.cluster = cluster
	b.addr = cluster.ListenAddrs()[0]
	b.clusterID, err = readClusterID(opts.Dir)
	return err
}

// metaFile is where kfake keeps the cluster id. It is written before anything else.
const metaFile = "meta.json"

// prepareFolder refuses a folder that kfake would take for a new one and write over, and removes what must not outlive a
// run: the members of consumer groups, and the password.
func prepareFolder(dir string) error {
	_, metaErr := os.Stat(filepath.Join(dir, metaFile))
	_, logErr := os.Stat(filepath.Join(dir, "partitions"))
	if errors.Is(metaErr, fs.ErrNotExist) && logErr == nil {
		return fmt.Errorf("it holds partitions but no %s, which names the log; restore the folder from a backup", metaFile)
	}
	for _, name := range []string{"session_state.json", "sasl.json"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("clear the state of the last run: %w", err)
		}
	}
	return nil
}

func clusterOptions(opts Options) []kfake.Opt {
	segment := opts.SegmentBytes
	if segment == 0 {
		segment = DefaultSegmentBytes
	}
	// A century; kfake counts in nanoseconds, of which an int64 holds 292 years.
	const century = 100 * 365 * 24 * time.Hour
	never := strconv.FormatInt(century.Milliseconds(), 10)
	options := []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.Ports(opts.Port),
		kfake.DataDir(opts.Dir),
		kfake.SyncWrites(),
		kfake.ClusterID(newClusterID()), // an existing folder keeps its own
		kfake.DefaultNumPartitions(1),
		kfake.WithLogger(clusterLogger{opts.Logger}),
		kfake.BrokerConfigs(map[string]string{
			"default.replication.factor": "1",
			"log.cleaner.backoff.ms":     never, // how often retention and compaction run
			"log.retention.ms":           "-1",
			"log.retention.bytes":        "-1",
			"log.segment.bytes":          strconv.FormatInt(segment, 10),
			// kfake does not know what a group of kafka-go is subscribed to, and would drop what it committed.
			"offsets.retention.minutes":           strconv.Itoa(int(century.Minutes())),
			"offsets.retention.check.interval.ms": never,
		}),
	}
	if opts.Password != "" {
		options = append(options, kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", User, opts.Password))
	}
	return options
}

// newClusterID makes an id as Kafka's own tools do: 16 random bytes in URL-safe base64, 22 characters.
func newClusterID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(id[:])
}

func readClusterID(dir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, metaFile))
	if err != nil {
		return "", fmt.Errorf("read the cluster id: %w", err)
	}
	var meta struct {
		ClusterID string `json:"cluster_id"`
	}
	if err := json.Unmarshal(text, &meta); err != nil || meta.ClusterID == "" {
		return "", fmt.Errorf("%s names no cluster; restore the folder from a backup", filepath.Join(dir, metaFile))
	}
	return meta.ClusterID, nil
}

// Addr is the host and port of the broker.
func (b *Broker) Addr() string { return b.addr }

// ClusterID names this log among all logs. It is made with the folder and stays with it.
func (b *Broker) ClusterID() string { return b.clusterID }

// Close stops the broker. What it acknowledged is on disk already.
func (b *Broker) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cluster != nil {
		b.cluster.Close()
		b.cluster = nil
	}
	return b.lock.Close()
}

// clusterLogger writes kfake's lines to slog. What kfake says at info level concerns single requests.
type clusterLogger struct{ log *slog.Logger }

func (l clusterLogger) Logf(level kfake.LogLevel, format string, args ...any) {
	to := slog.LevelDebug
	switch level {
	case kfake.LogLevelError:
		to = slog.LevelError
	case kfake.LogLevelWarn:
		to = slog.LevelWarn
	}
	ctx := context.Background()
	if l.log.Enabled(ctx, to) {
		l.log.Log(ctx, to, "embedded log: "+fmt.Sprintf(format, args...))
	}
}
