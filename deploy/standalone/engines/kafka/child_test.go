package kafka_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/millrace/millrace/deploy/standalone/engines/kafka"
)

// brokerFolder makes the test binary a broker in that folder: a process that a test can kill.
const brokerFolder = "MILLRACE_TEST_BROKER_FOLDER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(brokerFolder); dir != "" {
		serveUntilKilled(dir)
	}
	os.Exit(m.Run())
}

func serveUntilKilled(dir string) {
	broker, err := kafka.Start(context.Background(), kafka.Options{Dir: dir, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(broker.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin) // ends when the test does
	os.Exit(0)
}

type brokerProcess struct {
	cmd  *exec.Cmd
	addr string
}

func runBroker(t *testing.T, dir string) *brokerProcess {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), brokerFolder+"="+dir)
	cmd.Stderr = t.Output()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the broker's process says no address: %v", err)
	}
	return &brokerProcess{cmd: cmd, addr: strings.TrimSpace(line)}
}

// kill ends the process as kill -9 does and waits until it is gone.
func (p *brokerProcess) kill(t *testing.T) {
	if err := p.cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = p.cmd.Wait()
}
