// Package apachekafka runs Apache Kafka itself, from its jars, so that tests can hold Millrace and the embedded log to what
// a real cluster does, and end its nodes under load. Millrace does not use it otherwise.
package apachekafka

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/millrace/millrace/deploy/standalone/engines/internal/process"
	"github.com/millrace/millrace/deploy/standalone/internal/port"
)

// readyTimeout bounds the wait for the nodes' first common answer: three nodes need 15 s on two busy cores.
const readyTimeout = 3 * time.Minute

// Cluster is a number of nodes on loopback, each of them broker and controller.
type Cluster struct {
	nodes []*node
	libs  string
}

// node is one broker: its files, its ports, and its process while it runs.
type node struct {
	id         int
	dir        string
	broker     int // port
	controller int // port
	process    *os.Process
	ended      chan struct{} // closed when the process has ended
}

// Start runs a new cluster of 1 or 3 nodes in dir, which holds the data and one log file for each node. With three nodes
// topics have three replicas, of which two must be in sync. It returns when all nodes answer as one cluster.
func Start(ctx context.Context, dir string, nodes int) (*Cluster, error) {
	if nodes != 1 && nodes != 3 {
		return nil, fmt.Errorf("a cluster of %d nodes: want 1 or 3", nodes)
	}
	if err := Available(); err != nil {
		return nil, err
	}
	libs, err := jars(ctx)
	if err != nil {
		return nil, err
	}
	c := &Cluster{libs: libs}
	if err := c.start(ctx, dir, nodes); err != nil {
		c.Close()
		return nil, fmt.Errorf("start Apache Kafka in %s: %w", dir, err)
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context, dir string, nodes int) error {
	ports, err := port.Free(2 * nodes)
	if err != nil {
		return err
	}
	for i := range nodes {
		c.nodes = append(c.nodes, &node{
			id: i + 1, dir: filepath.Join(dir, fmt.Sprintf("node-%d", i+1)), broker: ports[2*i], controller: ports[2*i+1],
		})
	}
	id := newClusterID()
	for _, n := range c.nodes {
		if err := c.format(ctx, n, id); err != nil {
			return err
		}
	}
	for _, n := range c.nodes {
		if err := c.run(n); err != nil {
			return err
		}
	}
	return c.awaitNodes(ctx, c.nodes)
}

// newClusterID makes an id as Kafka's own tool does: none begins with a hyphen, which that tool would take for an option.
func newClusterID() string {
	for {
		var id [16]byte
		_, _ = rand.Read(id[:]) // never fails
		if text := base64.RawURLEncoding.EncodeToString(id[:]); text[0] != '-' {
			return text
		}
	}
}

func (c *Cluster) voters() string {
	voters := make([]string, 0, len(c.nodes))
	for _, n := range c.nodes {
		voters = append(voters, fmt.Sprintf("%d@127.0.0.1:%d", n.id, n.controller))
	}
	return strings.Join(voters, ",")
}

func (n *node) configFile() string { return filepath.Join(n.dir, "server.properties") }

// config is a small broker that keeps everything and rebalances groups at once.
func (c *Cluster) config(n *node) string {
	replicas := len(c.nodes)
	return strings.Join([]string{
		"process.roles=broker,controller",
		fmt.Sprintf("node.id=%d", n.id),
		"controller.quorum.voters=" + c.voters(),
		"controller.listener.names=CONTROLLER",
		fmt.Sprintf("listeners=PLAINTEXT://127.0.0.1:%d,CONTROLLER://127.0.0.1:%d", n.broker, n.controller),
		"log.dirs=" + filepath.Join(n.dir, "data"),
		"auto.create.topics.enable=false",
		"log.retention.ms=-1",
		"group.initial.rebalance.delay.ms=0",
		fmt.Sprintf("default.replication.factor=%d", replicas),
		fmt.Sprintf("offsets.topic.replication.factor=%d", replicas),
		fmt.Sprintf("transaction.state.log.replication.factor=%d", replicas),
		fmt.Sprintf("min.insync.replicas=%d", replicas/2+1),
		"offsets.topic.num.partitions=1",
		"broker.session.timeout.ms=3000",
		"",
	}, "\n")
}

// format prepares the node's folder for the cluster.
func (c *Cluster) format(ctx context.Context, n *node, clusterID string) error {
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(n.configFile(), []byte(c.config(n)), 0o600); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "java", "-Xmx256m", "-cp", c.classPath(), "kafka.tools.StorageTool",
		"format", "-t", clusterID, "-c", n.configFile()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("format node %d: %w: %s", n.id, err, strings.TrimSpace(string(out)))
	}
	return nil
}

func (c *Cluster) classPath() string { return filepath.Join(c.libs, "*") }

// run starts the node's process, which ends with this one.
func (c *Cluster) run(n *node) error {
	output, err := os.OpenFile(filepath.Join(n.dir, "output.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd := exec.Command("java", "-Xmx384m", "-cp", c.classPath(), "kafka.Kafka", n.configFile())
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = process.Attributes()
	started := make(chan error)
	n.ended = make(chan struct{})
	go func() {
		runtime.LockOSThread() // see process.Attributes
		defer close(n.ended)
		defer output.Close()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended does not matter: it is killed
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("run node %d: %w", n.id, err)
	}
	n.process = cmd.Process
	return nil
}

// Brokers are the host and port of each node, those that do not run included.
func (c *Cluster) Brokers() []string {
	addrs := make([]string, 0, len(c.nodes))
	for _, n := range c.nodes {
		addrs = append(addrs, n.addr())
	}
	return addrs
}

func (n *node) addr() string { return fmt.Sprintf("127.0.0.1:%d", n.broker) }

// Kill ends a node (0 is the first) as kill -9 does, and returns when it is gone.
func (c *Cluster) Kill(i int) error {
	n := c.nodes[i]
	if err := n.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill node %d: %w", n.id, err)
	}
	<-n.ended
	return nil
}

// Restart runs a killed node again and returns when it and the others that run answer as one cluster.
func (c *Cluster) Restart(ctx context.Context, i int) error {
	if err := c.run(c.nodes[i]); err != nil {
		return err
	}
	return c.awaitNodes(ctx, slices.DeleteFunc(slices.Clone(c.nodes), (*node).hasEnded))
}

func (n *node) hasEnded() bool {
	select {
	case <-n.ended:
		return true
	default:
		return false
	}
}

// Close kills every node.
func (c *Cluster) Close() {
	for _, n := range c.nodes {
		if n.process != nil {
			_ = n.process.Kill() // it may have ended already
			<-n.ended
		}
	}
}

// awaitNodes returns when each of the nodes sees all of them.
func (c *Cluster) awaitNodes(ctx context.Context, nodes []*node) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for _, n := range nodes {
		for {
			err := n.sees(ctx, len(nodes))
			if err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("node %d is not ready: %w; see %s", n.id, err, n.dir)
			case <-n.ended:
				return fmt.Errorf("node %d ended; see %s", n.id, n.dir)
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	return nil
}

func (n *node) sees(ctx context.Context, count int) error {
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(n.addr()), Transport: transport, Timeout: 5 * time.Second}
	meta, err := client.Metadata(ctx, &kafka.MetadataRequest{})
	if err != nil {
		return err
	}
	if len(meta.Brokers) < count {
		return fmt.Errorf("it sees %d of %d nodes", len(meta.Brokers), count)
	}
	return nil
}
