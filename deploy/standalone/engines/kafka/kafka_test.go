package kafka_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/millrace/millrace/deploy/standalone/engines/kafka"
)

const topic = "runs"

func start(t *testing.T, opts kafka.Options) *kafka.Broker {
	t.Helper()
	opts.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	broker, err := kafka.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = broker.Close() }) // fails when the test has closed it
	return broker
}

func stop(t *testing.T, broker *kafka.Broker) {
	t.Helper()
	if err := broker.Close(); err != nil {
		t.Fatal(err)
	}
}

// client returns a client whose connections end with the test.
func client(t testing.TB, addr string) *kafkago.Client {
	transport := &kafkago.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &kafkago.Client{Addr: kafkago.TCP(addr), Transport: transport, Timeout: 10 * time.Second}
}

func createTopic(t testing.TB, c *kafkago.Client, name string, configs ...kafkago.ConfigEntry) {
	t.Helper()
	resp, err := c.CreateTopics(t.Context(), &kafkago.CreateTopicsRequest{Topics: []kafkago.TopicConfig{
		{Topic: name, NumPartitions: 1, ReplicationFactor: 1, ConfigEntries: configs},
	}})
	if err == nil {
		err = resp.Errors[name]
	}
	if err != nil {
		t.Fatal(err)
	}
}

// produce appends one batch and returns the offset of its first record.
func produce(ctx context.Context, c *kafkago.Client, topic string, values ...[]byte) (int64, error) {
	records := make([]kafkago.Record, len(values))
	for i, v := range values {
		records[i] = kafkago.Record{Time: time.Now(), Value: kafkago.NewBytes(v)}
	}
	resp, err := c.Produce(ctx, &kafkago.ProduceRequest{Topic: topic, RequiredAcks: kafkago.RequireAll, Records: kafkago.NewRecordReader(records...)})
	if err != nil {
		return 0, err
	}
	return resp.BaseOffset, resp.Error
}

func mustProduce(t testing.TB, c *kafkago.Client, topic string, values ...[]byte) int64 {
	t.Helper()
	offset, err := produce(t.Context(), c, topic, values...)
	if err != nil {
		t.Fatal(err)
	}
	return offset
}

func bounds(t *testing.T, c *kafkago.Client, topic string) (first, end int64) {
	t.Helper()
	resp, err := c.ListOffsets(t.Context(), &kafkago.ListOffsetsRequest{Topics: map[string][]kafkago.OffsetRequest{
		topic: {kafkago.FirstOffsetOf(0), kafkago.LastOffsetOf(0)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	p := resp.Topics[topic][0]
	if p.Error != nil {
		t.Fatal(p.Error)
	}
	return p.FirstOffset, p.LastOffset
}

// read returns the values from the offset to the end of the partition.
func read(t *testing.T, c *kafkago.Client, topic string, from int64) map[int64]string {
	t.Helper()
	values := make(map[int64]string)
	_, end := bounds(t, c, topic)
	for from < end {
		resp, err := c.Fetch(t.Context(), &kafkago.FetchRequest{Topic: topic, Offset: from, MinBytes: 1, MaxBytes: 8 << 20, MaxWait: time.Second})
		if err == nil {
			err = resp.Error
		}
		if err != nil {
			t.Fatal(err)
		}
		for {
			record, err := resp.Records.ReadRecord()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			value, err := kafkago.ReadAll(record.Value)
			if err != nil {
				t.Fatal(err)
			}
			values[record.Offset] = string(value)
			from = record.Offset + 1
		}
	}
	return values
}

func diskSize(t *testing.T, dir string) (size int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		size += info.Size()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return size
}

func TestClusterIDStaysWithTheFolder(t *testing.T) {
	dir := t.TempDir()
	first := start(t, kafka.Options{Dir: dir})
	id := first.ClusterID()
	meta, err := client(t, first.Addr()).Metadata(t.Context(), &kafkago.MetadataRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if len(id) != 22 || meta.ClusterID != id {
		t.Errorf("ClusterID() = %q and clients see %q, want one id of 22 characters", id, meta.ClusterID)
	}
	stop(t, first)
	if again := start(t, kafka.Options{Dir: dir}).ClusterID(); again != id {
		t.Errorf("cluster id after a restart = %q, want %q", again, id)
	}
	if other := start(t, kafka.Options{Dir: t.TempDir()}).ClusterID(); other == id {
		t.Errorf("another folder has the same cluster id %q", other)
	}
}

func TestFolderInUseIsRefused(t *testing.T) {
	dir := t.TempDir()
	start(t, kafka.Options{Dir: dir})
	_, err := kafka.Start(t.Context(), kafka.Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "another process uses this folder") {
		t.Errorf("Start on a folder in use: %v, want a refusal", err)
	}
}

func TestFolderThatLostItsNameIsRefused(t *testing.T) {
	dir := t.TempDir()
	broker := start(t, kafka.Options{Dir: dir})
	c := client(t, broker.Addr())
	createTopic(t, c, topic)
	mustProduce(t, c, topic, []byte("x"))
	stop(t, broker)
	if err := os.Remove(filepath.Join(dir, "meta.json")); err != nil {
		t.Fatal(err)
	}
	_, err := kafka.Start(t.Context(), kafka.Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "meta.json") {
		t.Errorf("Start without meta.json: %v, want a refusal that names the file", err)
	}
}

func TestUnknownTopicIsNotCreatedByAccident(t *testing.T) {
	broker := start(t, kafka.Options{Dir: t.TempDir()})
	w := &kafkago.Writer{Addr: kafkago.TCP(broker.Addr()), Topic: "nobody-made-this", AllowAutoTopicCreation: true, MaxAttempts: 1, Transport: client(t, broker.Addr()).Transport}
	if err := w.WriteMessages(t.Context(), kafkago.Message{Value: []byte("x")}); !errors.Is(err, kafkago.UnknownTopicOrPartition) {
		t.Errorf("write to an unknown topic: %v, want %v", err, kafkago.UnknownTopicOrPartition)
	}
}

func TestBatchOverTheTopicsLimitIsRefusedAndTheNextIsTaken(t *testing.T) {
	broker := start(t, kafka.Options{Dir: t.TempDir()})
	c := client(t, broker.Addr())
	createTopic(t, c, topic, kafkago.ConfigEntry{ConfigName: "max.message.bytes", ConfigValue: "1048588"})
	for _, tc := range []struct {
		size int
		want error
	}{{1_048_000, nil}, {1_048_588, kafkago.MessageSizeTooLarge}, {10, nil}} {
		if _, err := produce(t.Context(), c, topic, make([]byte, tc.size)); !errors.Is(err, tc.want) {
			t.Errorf("produce %d bytes: %v, want %v", tc.size, err, tc.want)
		}
	}
}

func TestWrongPasswordIsRefused(t *testing.T) {
	dir := t.TempDir()
	for _, password := range []string{"first", "second"} { // a password does not outlive a run
		broker := start(t, kafka.Options{Dir: dir, Password: password})
		for _, tc := range []struct {
			name, password string
			ok             bool
		}{{"right", password, true}, {"wrong", "guess", false}, {"previous", "first", password == "first"}, {"none", "", false}} {
			transport := &kafkago.Transport{}
			if tc.password != "" {
				mechanism, err := scram.Mechanism(scram.SHA512, kafka.User, tc.password)
				if err != nil {
					t.Fatal(err)
				}
				transport.SASL = mechanism
			}
			c := &kafkago.Client{Addr: kafkago.TCP(broker.Addr()), Transport: transport, Timeout: 2 * time.Second}
			_, err := c.Metadata(t.Context(), &kafkago.MetadataRequest{})
			transport.CloseIdleConnections()
			if (err == nil) != tc.ok {
				t.Errorf("password %s: error %v, want success %t", tc.name, err, tc.ok)
			}
		}
		stop(t, broker)
	}
}

func TestGroupOffsetsAndTheirMetadataComeBackAfterAKill(t *testing.T) {
	dir := t.TempDir()
	commit := kafkago.OffsetCommit{Partition: 0, Offset: 1, Metadata: `{"first":1,"last":41,"token":"5f2c"}`}
	broker := runBroker(t, dir)
	c := client(t, broker.addr)
	createTopic(t, c, topic)
	mustProduce(t, c, topic, []byte("a"), []byte("b"))
	resp, err := c.OffsetCommit(t.Context(), &kafkago.OffsetCommitRequest{GroupID: "sink", GenerationID: -1, Topics: map[string][]kafkago.OffsetCommit{topic: {commit}}})
	if err == nil {
		err = resp.Topics[topic][0].Error
	}
	if err != nil {
		t.Fatal(err)
	}
	broker.kill(t)

	c = client(t, runBroker(t, dir).addr)
	fetched, err := c.OffsetFetch(t.Context(), &kafkago.OffsetFetchRequest{GroupID: "sink", Topics: map[string][]int{topic: {0}}})
	if err != nil {
		t.Fatal(err)
	}
	got := fetched.Topics[topic][0]
	if got.Error != nil || got.CommittedOffset != commit.Offset || got.Metadata != commit.Metadata {
		t.Errorf("committed offset after a kill = %+v, want %+v", got, commit)
	}
}

// TestGroupIsJoinedAtOnceAfterARestart: the members of the last run must not hold their places.
func TestGroupIsJoinedAtOnceAfterARestart(t *testing.T) {
	dir := t.TempDir()
	broker := start(t, kafka.Options{Dir: dir})
	createTopic(t, client(t, broker.Addr()), topic)
	left := joinGroup(t, broker.Addr())
	stop(t, broker)
	if took := joinGroup(t, start(t, kafka.Options{Dir: dir}).Addr()); took > 5*time.Second {
		t.Errorf("joining after a restart took %s, and %s before it", took, left)
	}
}

// joinGroup returns how long it took to get the topic's partition as a new member, who stays until the test ends.
func joinGroup(t *testing.T, addr string) time.Duration {
	t.Helper()
	began := time.Now()
	group, err := kafkago.NewConsumerGroup(kafkago.ConsumerGroupConfig{ID: "sink", Brokers: []string{addr}, Topics: []string{topic}, SessionTimeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = group.Close() }) // its broker may be gone
	for {
		generation, err := group.Next(t.Context())
		if err == nil && len(generation.Assignments[topic]) == 1 {
			return time.Since(began)
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("no partition after a minute: %v", err)
		}
	}
}

// TestAcknowledgedRecordsSurviveKills kills the broker while a client writes, and looks for every record that was
// acknowledged at the offset that was given.
func TestAcknowledgedRecordsSurviveKills(t *testing.T) {
	const rounds = 5
	dir := t.TempDir()
	acknowledged := make(map[int64]string)
	for round := range rounds {
		broker := runBroker(t, dir)
		c := client(t, broker.addr)
		if round == 0 {
			createTopic(t, c, topic)
		}
		killed := make(chan struct{})
		time.AfterFunc(time.Duration(50+rand.IntN(200))*time.Millisecond, func() { broker.kill(t); close(killed) })
		for i := 0; ; i++ {
			value := fmt.Sprintf("%d/%d %s", round, i, strings.Repeat("x", 300))
			offset, err := produce(t.Context(), c, topic, []byte(value))
			if err != nil {
				break
			}
			acknowledged[offset] = value
		}
		<-killed
	}
	c := client(t, runBroker(t, dir).addr)
	stored := read(t, c, topic, 0)
	for offset, value := range acknowledged {
		if stored[offset] != value {
			t.Errorf("offset %d holds %.20q, acknowledged was %.20q", offset, stored[offset], value)
		}
	}
	if len(acknowledged) < rounds {
		t.Fatalf("only %d records were acknowledged in %d rounds", len(acknowledged), rounds)
	}
	t.Logf("%d acknowledged, %d stored", len(acknowledged), len(stored))
}

func TestTrimDeletesWhatIsBeforeAndShrinksTheDisk(t *testing.T) {
	const segment, value = 256 << 10, 64 << 10
	dir := t.TempDir()
	broker := start(t, kafka.Options{Dir: dir, SegmentBytes: segment})
	c := client(t, broker.Addr())
	createTopic(t, c, topic)
	for range 256 {
		mustProduce(t, c, topic, make([]byte, value))
	}
	full := diskSize(t, dir)
	if err := broker.TrimTo(t.Context(), map[string]map[int]int64{topic: {0: 250}}); err != nil {
		t.Fatal(err)
	}
	if first, end := bounds(t, c, topic); first != 250 || end != 256 {
		t.Errorf("the partition holds %d up to %d, want 250 up to 256", first, end)
	}
	if left, limit := diskSize(t, dir), int64(6*value+segment+64<<10); left > limit || full < 256*value {
		t.Errorf("the log takes %d bytes, %d before it was trimmed, want at most %d", left, full, limit)
	}
	if got := len(read(t, c, topic, 250)); got != 6 {
		t.Errorf("%d records are left, want 6", got)
	}
}

func TestTrimIsExactAboutWhatItTakes(t *testing.T) {
	broker := start(t, kafka.Options{Dir: t.TempDir()})
	c := client(t, broker.Addr())
	createTopic(t, c, topic)
	createTopic(t, c, "empty")
	for range 10 {
		mustProduce(t, c, topic, []byte("x"))
	}
	for _, tc := range []struct {
		name      string
		to, first int64
	}{{"forward", 4, 4}, {"the same again", 4, 4}, {"backward", 2, 4}, {"past the end", 99, 9}} {
		if err := broker.TrimTo(t.Context(), map[string]map[int]int64{topic: {0: tc.to}, "empty": {0: tc.to}}); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if first, end := bounds(t, c, topic); first != tc.first || end != 10 {
			t.Errorf("%s: the partition holds %d up to %d, want %d up to 10", tc.name, first, end, tc.first)
		}
	}
	if err := broker.TrimTo(t.Context(), map[string]map[int]int64{"missing": {0: 1}}); err == nil {
		t.Error("trimming a topic that does not exist succeeds")
	}
	stop(t, broker)
	if err := broker.TrimTo(t.Context(), map[string]map[int]int64{topic: {0: 5}}); err == nil {
		t.Error("trimming a closed log succeeds")
	}
}

func TestOffsetsGoOnAfterATrimToTheEndAndAKill(t *testing.T) {
	dir := t.TempDir()
	broker := start(t, kafka.Options{Dir: dir, SegmentBytes: 1 << 10})
	c := client(t, broker.Addr())
	createTopic(t, c, topic)
	for range 50 {
		mustProduce(t, c, topic, make([]byte, 500))
	}
	if err := broker.TrimTo(t.Context(), map[string]map[int]int64{topic: {0: 50}}); err != nil {
		t.Fatal(err)
	}
	killedCopy := t.TempDir() // what a kill at this moment leaves
	if err := os.CopyFS(killedCopy, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	for name, left := range map[string]string{"kill": killedCopy, "orderly stop": dir} {
		if left == dir {
			stop(t, broker)
		}
		again := client(t, start(t, kafka.Options{Dir: left}).Addr())
		if offset := mustProduce(t, again, topic, []byte("next")); offset != 50 {
			t.Errorf("after a %s the next record gets offset %d, want 50", name, offset)
		}
	}
}

func TestMemoryAfterARestartIsNotTheLogs(t *testing.T) {
	dir := t.TempDir()
	broker := start(t, kafka.Options{Dir: dir})
	c := client(t, broker.Addr())
	createTopic(t, c, topic)
	block := bytes.Repeat([]byte("millrace"), 100<<10/8)
	for range 40 {
		mustProduce(t, c, topic, block, block, block, block, block, block, block, block)
	}
	stop(t, broker)
	before := heap()
	start(t, kafka.Options{Dir: dir})
	if grown := heap() - before; grown > 4<<20 {
		t.Errorf("opening a log of 32 MB takes %d bytes of memory, want less than 4 MB", grown)
	}
}

func heap() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// TestRetentionOfTheBrokerIsOff: it knows of no archive, an empty partition forgets where it ended, and reads wait for what
// a group has committed.
func TestRetentionOfTheBrokerIsOff(t *testing.T) {
	broker := start(t, kafka.Options{Dir: t.TempDir()})
	c := client(t, broker.Addr())
	resp, err := c.DescribeConfigs(t.Context(), &kafkago.DescribeConfigsRequest{Resources: []kafkago.DescribeConfigRequestResource{
		{ResourceType: kafkago.ResourceTypeBroker, ResourceName: "0", ConfigNames: []string{"log.cleaner.backoff.ms", "offsets.retention.minutes", "offsets.retention.check.interval.ms"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	set := make(map[string]string)
	for _, entry := range resp.Resources[0].ConfigEntries {
		set[entry.ConfigName] = entry.ConfigValue
	}
	want := map[string]string{
		"log.cleaner.backoff.ms": "3153600000000", "offsets.retention.check.interval.ms": "3153600000000", "offsets.retention.minutes": "52560000",
	}
	for name, value := range want {
		if set[name] != value {
			t.Errorf("%s = %q, want %q", name, set[name], value)
		}
	}
}
