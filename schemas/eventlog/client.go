package eventlog

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// Config says where the log is and how to reach it.
type Config struct {
	// Brokers are host:port addresses.
	Brokers []string
	// Replication is the replication factor of topics that are created.
	Replication int
	// VolumePartitions is the number of partitions of topics that carry volume.
	VolumePartitions int
	// Retention per topic; 0 keeps for ever.
	Retention map[string]time.Duration
	// Username and Password turn on SASL; Mechanism is SCRAM-SHA-256 or SCRAM-SHA-512 (the default).
	Username, Password, Mechanism string
	// TLS turns on TLS; CAFile adds a certificate authority to the system's.
	TLS    bool
	CAFile string
}

// Client is a connection to the log.
type Client struct {
	config Config
	kafka  *kafka.Client
	// LogID names this log among all that ever were: Kafka's cluster id.
	LogID  string
	topics []Topic
}

// Dial connects, creates the topics that are missing and reads the log's id.
func Dial(ctx context.Context, config Config) (*Client, error) {
	if len(config.Brokers) == 0 {
		return nil, errors.New("no Kafka address: set MILLRACE_KAFKA to host:port of one or more brokers")
	}
	transport, err := config.transport()
	if err != nil {
		return nil, err
	}
	client := &Client{
		config: config,
		kafka:  &kafka.Client{Addr: kafka.TCP(config.Brokers...), Transport: transport},
		topics: Topics(max(1, config.VolumePartitions)),
	}
	metadata, err := client.kafka.Metadata(ctx, &kafka.MetadataRequest{})
	if err != nil {
		return nil, fmt.Errorf("read metadata from Kafka at %s: %w", strings.Join(config.Brokers, ","), err)
	}
	if metadata.ClusterID == "" {
		return nil, fmt.Errorf("kafka at %s gives no cluster id", strings.Join(config.Brokers, ","))
	}
	client.LogID = metadata.ClusterID
	if err := client.createTopics(ctx, metadata); err != nil {
		return nil, err
	}
	return client, nil
}

// Close ends idle connections.
func (c *Client) Close() {
	if transport, ok := c.kafka.Transport.(*kafka.Transport); ok {
		transport.CloseIdleConnections()
	}
}

// Ping asks the brokers for their metadata.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.kafka.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{Registry}})
	if err != nil {
		return fmt.Errorf("kafka at %s: %w", strings.Join(c.config.Brokers, ","), err)
	}
	return nil
}

func (c *Config) transport() (*kafka.Transport, error) {
	transport := &kafka.Transport{
		ClientID:    "millrace",
		DialTimeout: 5 * time.Second,
		MetadataTTL: 5 * time.Second,
		Dial:        (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
	}
	mechanism, err := c.mechanism()
	if err != nil {
		return nil, err
	}
	transport.SASL = mechanism
	transport.TLS, err = TLSConfig(c.TLS, c.CAFile)
	return transport, err
}

func (c *Config) mechanism() (sasl.Mechanism, error) {
	if c.Username == "" {
		return nil, nil
	}
	algorithm := scram.SHA512
	switch strings.ToUpper(c.Mechanism) {
	case "", "SCRAM-SHA-512":
	case "SCRAM-SHA-256":
		algorithm = scram.SHA256
	default:
		return nil, fmt.Errorf("kafka mechanism %q: use SCRAM-SHA-256 or SCRAM-SHA-512", c.Mechanism)
	}
	mechanism, err := scram.Mechanism(algorithm, c.Username, c.Password)
	if err != nil {
		return nil, fmt.Errorf("prepare SASL for Kafka: %w", err)
	}
	return mechanism, nil
}

// TLSConfig gives the TLS settings for an engine: nil when off, else the system's authorities and those in caFile.
func TLSConfig(on bool, caFile string) (*tls.Config, error) {
	if !on {
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile == "" {
		return config, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("read certificate authorities: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("certificate authorities in %s: no PEM certificate found", caFile)
	}
	config.RootCAs = pool
	return config, nil
}

func (c *Client) createTopics(ctx context.Context, metadata *kafka.MetadataResponse) error {
	have := map[string]int{}
	for _, topic := range metadata.Topics {
		if topic.Error == nil {
			have[topic.Name] = len(topic.Partitions)
		}
	}
	var missing []kafka.TopicConfig
	for i, topic := range c.topics {
		partitions, found := have[topic.Name]
		switch {
		case !found:
			missing = append(missing, c.newTopic(topic))
		case topic.Decides && partitions != 1:
			return fmt.Errorf("topic %s has %d partitions: it decides and must have exactly one", topic.Name, partitions)
		default:
			c.topics[i].Partitions = partitions
		}
	}
	if len(missing) == 0 {
		return nil
	}
	response, err := c.kafka.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: missing})
	if err != nil {
		return fmt.Errorf("create topics: %w", err)
	}
	for name, err := range response.Errors {
		if err != nil && !errors.Is(err, kafka.TopicAlreadyExists) {
			return fmt.Errorf("create topic %s: %w", name, err)
		}
	}
	return c.awaitTopics(ctx)
}

func (c *Client) newTopic(topic Topic) kafka.TopicConfig {
	config := kafka.TopicConfig{
		Topic:             topic.Name,
		NumPartitions:     topic.Partitions,
		ReplicationFactor: max(1, c.config.Replication),
	}
	for name, value := range topicConfig(c.config.Retention[topic.Name], c.config.Replication) {
		config.ConfigEntries = append(config.ConfigEntries, kafka.ConfigEntry{ConfigName: name, ConfigValue: value})
	}
	return config
}

// awaitTopics waits until every topic has its leaders, since a broker announces a new topic before it serves it.
func (c *Client) awaitTopics(ctx context.Context) error {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		if _, err := c.Ends(ctx, c.Partitions()...); err == nil {
			return nil
		} else if ctx.Err() != nil {
			return fmt.Errorf("wait for new topics: %w", err)
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// Partitions lists the partitions of the given topics, of all when none is named.
func (c *Client) Partitions(topics ...string) []Partition {
	var partitions []Partition
	for _, topic := range c.topics {
		if len(topics) > 0 && !contains(topics, topic.Name) {
			continue
		}
		for id := range topic.Partitions {
			partitions = append(partitions, Partition{Topic: topic.Name, ID: id})
		}
	}
	return partitions
}

func contains(list []string, name string) bool {
	for _, item := range list {
		if item == name {
			return true
		}
	}
	return false
}
