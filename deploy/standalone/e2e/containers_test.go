package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
)

// The images that compose uses too.
const (
	kafkaImage      = "apache/kafka:4.1.0"
	clickhouseImage = "clickhouse/clickhouse-server:26.7"
	redisImage      = "redis:8"
)

const (
	containerPassword = "e2e"
	containerPatience = 5 * time.Minute // for a container's engine to answer
)

// startServicesOnContainers runs Millrace as services on engines in containers.
func startServicesOnContainers(ctx context.Context, dir string) (installation, error) {
	e := &engines{}
	err := errors.Join(
		// Published ports are found on loopback, and containers end with the test: nothing needs to watch over them.
		os.Setenv("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1"), os.Setenv("TESTCONTAINERS_RYUK_DISABLED", "true"),
		e.containKafka(ctx), e.containClickHouse(ctx), e.containRedis(ctx),
	)
	if err != nil {
		return nil, errors.Join(err, e.close())
	}
	return startServices(ctx, dir, e)
}

// contain starts a container that is removed when the engines end.
func (e *engines) contain(ctx context.Context, image string, options ...testcontainers.ContainerCustomizer) (*testcontainers.DockerContainer, error) {
	started, err := testcontainers.Run(ctx, image, options...)
	if started != nil {
		e.onEnd(func() error { return testcontainers.TerminateContainer(started) })
	}
	if err != nil {
		return nil, fmt.Errorf("start a container of %s: %w", image, err)
	}
	return started, nil
}

// containKafka runs Kafka on the host's network: the address that it tells its clients must be the one they reach.
func (e *engines) containKafka(ctx context.Context) error {
	broker, err := freeAddress()
	if err != nil {
		return err
	}
	controller, err := freeAddress()
	if err != nil {
		return err
	}
	_, err = e.contain(ctx, kafkaImage,
		testcontainers.WithHostConfigModifier(func(c *container.HostConfig) { c.NetworkMode = "host" }),
		testcontainers.WithEnv(map[string]string{
			"KAFKA_NODE_ID":                          "1",
			"KAFKA_PROCESS_ROLES":                    "broker,controller",
			"KAFKA_CONTROLLER_QUORUM_VOTERS":         "1@" + controller,
			"KAFKA_LISTENERS":                        "PLAINTEXT://" + broker + ",CONTROLLER://" + controller,
			"KAFKA_ADVERTISED_LISTENERS":             "PLAINTEXT://" + broker,
			"KAFKA_CONTROLLER_LISTENER_NAMES":        "CONTROLLER",
			"KAFKA_LISTENER_SECURITY_PROTOCOL_MAP":   "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
			"KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
			"KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
		}),
		// Each look is a Java program of its own.
		testcontainers.WithWaitStrategyAndDeadline(containerPatience,
			wait.ForExec([]string{"/opt/kafka/bin/kafka-broker-api-versions.sh", "--bootstrap-server", broker}).WithPollInterval(5*time.Second)),
	)
	e.kafka = broker
	return err
}

func (e *engines) containClickHouse(ctx context.Context) error {
	started, err := e.contain(ctx, clickhouseImage,
		testcontainers.WithExposedPorts("9000/tcp", "8123/tcp"),
		testcontainers.WithEnv(map[string]string{"CLICKHOUSE_USER": "millrace", "CLICKHOUSE_PASSWORD": containerPassword}),
		testcontainers.WithWaitStrategyAndDeadline(containerPatience, wait.ForHTTP("/ping").WithPort("8123/tcp"), wait.ForListeningPort("9000/tcp")),
	)
	if err != nil {
		return err
	}
	address, err := endpoint(ctx, started, "9000/tcp")
	e.clickhouse = "clickhouse://millrace:" + containerPassword + "@" + address + "/millrace"
	return err
}

func (e *engines) containRedis(ctx context.Context) error {
	started, err := e.contain(ctx, redisImage,
		testcontainers.WithExposedPorts("6379/tcp"),
		testcontainers.WithCmd("redis-server", "--bind", "0.0.0.0", "--requirepass", containerPassword),
		testcontainers.WithWaitStrategyAndDeadline(containerPatience, wait.ForListeningPort("6379/tcp")),
	)
	if err != nil {
		return err
	}
	address, err := endpoint(ctx, started, "6379/tcp")
	e.redis = "redis://:" + containerPassword + "@" + address + "/0"
	return err
}

// endpoint gives the address where a container's port is published.
func endpoint(ctx context.Context, c *testcontainers.DockerContainer, port string) (string, error) {
	host, err := c.Host(ctx)
	if err != nil {
		return "", err
	}
	mapped, err := c.MappedPort(ctx, port)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(host, mapped.Port()), nil
}
