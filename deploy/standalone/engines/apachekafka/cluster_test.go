package apachekafka

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
)

const topic = "runs"

func start(t *testing.T, nodes int) (*Cluster, *kafka.Client) {
	t.Helper()
	if err := Available(); err != nil {
		t.Skipf("Apache Kafka cannot be run here: %v", err)
	}
	began := time.Now()
	c, err := Start(t.Context(), t.TempDir(), nodes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	t.Logf("%d nodes are up after %s", nodes, time.Since(began))
	transport := &kafka.Transport{MetadataTTL: time.Second}
	t.Cleanup(transport.CloseIdleConnections)
	return c, &kafka.Client{Addr: kafka.TCP(c.Brokers()...), Transport: transport, Timeout: 10 * time.Second}
}

func createTopic(t *testing.T, client *kafka.Client, configs ...kafka.ConfigEntry) {
	t.Helper()
	resp, err := client.CreateTopics(t.Context(), &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{
		{Topic: topic, NumPartitions: 1, ReplicationFactor: -1, ConfigEntries: configs},
	}})
	if err == nil {
		err = resp.Errors[topic]
	}
	if err != nil {
		t.Fatal(err)
	}
}

// produce appends until it is acknowledged: leaders move.
func produce(t *testing.T, client *kafka.Client, value string, at time.Time) *kafka.ProduceResponse {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		resp, err := client.Produce(ctx, &kafka.ProduceRequest{
			Topic: topic, RequiredAcks: kafka.RequireAll,
			Records: kafka.NewRecordReader(kafka.Record{Time: at, Value: kafka.NewBytes([]byte(value))}),
		})
		if err == nil {
			err = resp.Error
		}
		if err == nil {
			return resp
		}
		select {
		case <-ctx.Done():
			t.Fatalf("produce %q: %v", value, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func fetchFirst(t *testing.T, client *kafka.Client) *kafka.Record {
	t.Helper()
	resp, err := client.Fetch(t.Context(), &kafka.FetchRequest{Topic: topic, Offset: 0, MinBytes: 1, MaxBytes: 1 << 20, MaxWait: time.Second})
	if err == nil {
		err = resp.Error
	}
	if err != nil {
		t.Fatal(err)
	}
	record, err := resp.Records.ReadRecord()
	if err != nil {
		t.Fatal(err)
	}
	return record
}

// TestAppendTimeIsInTheAcknowledgementOnly: kafka-go takes the producer's time for a record's time even where the topic has
// the time of the append. Whoever needs one time at all replicas must not read it as the append's.
func TestAppendTimeIsInTheAcknowledgementOnly(t *testing.T) {
	_, client := start(t, 1)
	createTopic(t, client, kafka.ConfigEntry{ConfigName: "message.timestamp.type", ConfigValue: "LogAppendTime"})
	produced := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	appended := produce(t, client, "x", produced).LogAppendTime
	if time.Since(appended) > time.Minute {
		t.Errorf("the acknowledgement's append time is %s", appended)
	}
	if got := fetchFirst(t, client).Time; !got.Equal(produced) {
		t.Errorf("the fetched record's time is %s, was produced as %s and appended at %s", got, produced, appended)
	}
}

func TestKilledNodeTakesNothingWithItAndComesBack(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	cluster, client := start(t, 3)
	createTopic(t, client)
	values := []string{"all nodes", "without the first", "all nodes again"}
	produce(t, client, values[0], time.Now())
	if err := cluster.Kill(0); err != nil {
		t.Fatal(err)
	}
	produce(t, client, values[1], time.Now())
	began := time.Now()
	if err := cluster.Restart(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	t.Logf("the node is back after %s", time.Since(began))
	produce(t, client, values[2], time.Now())
	stored := readAll(t, client)
	for _, value := range values {
		if !strings.Contains(stored, value) {
			t.Errorf("%q was acknowledged and is not in the log, which holds %s", value, stored)
		}
	}
}

func readAll(t *testing.T, client *kafka.Client) string {
	t.Helper()
	resp, err := client.Fetch(t.Context(), &kafka.FetchRequest{Topic: topic, Offset: 0, MinBytes: 1, MaxBytes: 1 << 20, MaxWait: time.Second})
	if err == nil {
		err = resp.Error
	}
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	for {
		record, err := resp.Records.ReadRecord()
		if err != nil {
			return strings.Join(values, ", ")
		}
		value, err := kafka.ReadAll(record.Value)
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, string(value))
	}
}

func TestNodeCountIsChecked(t *testing.T) {
	if _, err := Start(t.Context(), t.TempDir(), 2); err == nil || !strings.Contains(err.Error(), "want 1 or 3") {
		t.Errorf("a cluster of 2 nodes: %v, want a refusal", err)
	}
}

func TestWhatIsMissingIsNamed(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := Available()
	if err == nil || !strings.Contains(err.Error(), "java") || !strings.Contains(err.Error(), "mvn") {
		t.Errorf("Available without java and mvn: %v, want both named", err)
	}
}
