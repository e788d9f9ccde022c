package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// How to run Docker Compose ("docker compose", or a program), and the image to test. deploy/test/run sets both.
const (
	composeVariable = "MILLRACE_TEST_COMPOSE"
	imageVariable   = "MILLRACE_TEST_IMAGE"
)

// composeStack is the stack of docker-compose.yml, with two ingest services.
type composeStack struct {
	project string
	env     []string
	at      doors
}

// startCompose brings up docker-compose.yml under a project name of its own, which keeps it apart from a person's.
func startCompose(ctx context.Context, dir string) (installation, error) {
	front, err := freeAddress()
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(front)
	if err != nil {
		return nil, err
	}
	s := &composeStack{project: filepath.Base(strings.ToLower(dir)), at: doors{front: "http://" + front}}
	s.env = append(os.Environ(), "MILLRACE_PORT="+port, "MILLRACE_IMAGE="+os.Getenv(imageVariable), patientReads)
	s.env = append(s.env, loginSettings()...)
	if err := s.up(ctx); err != nil {
		return nil, errors.Join(err, errors.New(s.logs()), s.close())
	}
	return s, nil
}

// up starts what does not run, waits until all of it is healthy, and finds the services, whose addresses change.
func (s *composeStack) up(ctx context.Context) error {
	if _, err := s.compose(ctx, "up", "--detach", "--wait", "--no-build", "--pull", "never", "--scale", "ingest=2"); err != nil {
		return err
	}
	s.at.ingest = nil
	containers, err := s.compose(ctx, "ps", "--quiet", "ingest")
	if err != nil {
		return err
	}
	for container := range strings.FieldsSeq(string(containers)) {
		address, err := output(ctx, s.env, "docker", "inspect", "--format",
			`{{(index .NetworkSettings.Networks "`+s.project+`_services").IPAddress}}`, container)
		if err != nil {
			return err
		}
		s.at.ingest = append(s.at.ingest, "http://"+strings.TrimSpace(string(address))+":8080")
	}
	if len(s.at.ingest) != 2 {
		return fmt.Errorf("the stack has %d ingest services, want 2", len(s.at.ingest))
	}
	return nil
}

func (s *composeStack) compose(ctx context.Context, args ...string) ([]byte, error) {
	program := strings.Fields(os.Getenv(composeVariable))
	if len(program) == 0 {
		return nil, fmt.Errorf("%s does not say how to run Docker Compose", composeVariable)
	}
	line := append(program[1:len(program):len(program)], "--project-name", s.project, "--file", "../../../docker-compose.yml")
	return output(ctx, s.env, program[0], append(line, args...)...)
}

// output runs a program and gives what it prints.
func output(ctx context.Context, env []string, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = env
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	answer, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", filepath.Base(program), strings.Join(args, " "), err, lastLines(complaints.Bytes(), 30))
	}
	return answer, nil
}

func (s *composeStack) doors() doors { return s.at }

func (s *composeStack) admin(ctx context.Context, args ...string) ([]byte, error) {
	return s.compose(ctx, append(append([]string{"exec", "-T", "ingest", "millrace"}, args...), "--json")...)
}

// restart takes the engines along. An orderly one even removes the containers: what must last is in the volumes.
func (s *composeStack) restart(ctx context.Context, kill bool) error {
	end := []string{"down"}
	if kill {
		end = []string{"kill"}
	}
	if _, err := s.compose(ctx, end...); err != nil {
		return err
	}
	return s.up(ctx)
}

func (s *composeStack) logs() string {
	text, err := s.compose(context.Background(), "logs", "--no-color", "--tail", "25")
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (s *composeStack) close() error {
	_, err := s.compose(context.Background(), "down", "--volumes", "--timeout", "5")
	return err
}
