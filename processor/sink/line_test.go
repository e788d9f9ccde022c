package sink_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"regexp"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// line is a member's way to both engines. It sees each step, which is a write to an engine: a commit, a dead letter, an
// insert. At the step that it is told, and before that reaches its engine, it cuts the member off from both for good,
// as a kill -9 would.
type line struct {
	// at is the step to cut at, empty for none.
	at string

	mu    sync.Mutex
	count map[string]int
	steps []string
	isCut bool
	cut   chan struct{}
	conns []net.Conn
}

func newLine(at string) *line {
	return &line{at: at, count: map[string]int{}, cut: make(chan struct{})}
}

var errCut = errors.New("the member is cut off")

// pass notes a step, numbered among those that write the same, and fails when the member is cut off; an empty one is no
// step.
func (l *line) pass(what string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if what != "" && !l.isCut {
		l.count[what]++
		step := fmt.Sprintf("%s %d", what, l.count[what])
		l.steps = append(l.steps, step)
		if step == l.at {
			l.isCut = true
			close(l.cut)
			for _, conn := range l.conns {
				_ = conn.Close()
			}
		}
	}
	if l.isCut {
		return errCut
	}
	return nil
}

func (l *line) seen() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.steps...)
}

// control lets a log's requests pass by the line that is set.
func (s *switchboard) control(cluster *kfake.Cluster) {
	cluster.Control(func(request kmsg.Request) (kmsg.Response, error, bool) {
		line := s.line()
		if line == nil {
			return nil, nil, false
		}
		if err := line.pass(kafkaStep(request)); err != nil {
			cluster.KeepControl()
			return nil, err, true
		}
		return nil, nil, false
	})
}

// switchboard says whose requests the log gets: those of one member at a time pass by its line.
type switchboard struct {
	mu      sync.Mutex
	current *line
}

func (s *switchboard) line() *line {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

func (s *switchboard) set(l *line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = l
}

func kafkaStep(request kmsg.Request) string {
	switch r := request.(type) {
	case *kmsg.ProduceRequest:
		return "append"
	case *kmsg.OffsetCommitRequest:
		mark := "commit"
		if note := r.Topics[0].Partitions[0].Metadata; note != nil && *note != "" {
			mark = "journal"
		}
		return mark + " " + r.Topics[0].Topic
	}
	return ""
}

// clickHouse gives a URL at which the database answers by way of the line.
func (l *line) clickHouse(t *testing.T, database string) string {
	t.Helper()
	target, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	engine := target.Host
	wait.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			wait.Go(func() { l.forward(client, engine) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		l.hangUp()
		wait.Wait()
	})
	target.Host = listener.Addr().String()
	return target.String()
}

func (l *line) hangUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range l.conns {
		_ = conn.Close()
	}
}

// forward carries one connection until either side closes it.
func (l *line) forward(client net.Conn, address string) {
	defer func() { _ = client.Close() }()
	engine, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer func() { _ = engine.Close() }()
	l.mu.Lock()
	l.conns = append(l.conns, client, engine)
	l.mu.Unlock()
	if l.pass("") != nil {
		return
	}
	var answers sync.WaitGroup
	answers.Go(func() {
		_, _ = io.Copy(client, engine)
		_ = client.Close()
	})
	l.requests(client, engine)
	_ = engine.Close()
	answers.Wait()
}

// inserted finds the table that a statement writes: the driver sends a statement in one piece and as it stands, also
// where it compresses rows.
var inserted = regexp.MustCompile("INSERT INTO `\\w+`\\.(\\w+) ")

func (l *line) requests(client, engine net.Conn) {
	chunk := make([]byte, 64<<10)
	for {
		n, err := client.Read(chunk)
		if err != nil {
			return
		}
		step := ""
		if match := inserted.FindSubmatch(chunk[:n]); match != nil {
			step = "insert " + string(match[1])
		}
		if l.pass(step) != nil {
			return
		}
		if _, err := engine.Write(chunk[:n]); err != nil {
			return
		}
	}
}
