package target

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// Helper is a program that serves beside the target: it prints its addresses as NAME=VALUE and serves until its standard
// input closes.
type Helper struct {
	// Values are what it printed, by name.
	Values map[string]string

	process *Process
	input   io.Closer
}

// helperTimeout bounds a helper's start: the first one may fetch ClickHouse.
const helperTimeout = 5 * time.Minute

// StartHelper runs a program and returns when it has printed all names. Its complaints go to log.
func StartHelper(ctx context.Context, programs Programs, name string, arguments []string, log io.Writer, names ...string) (*Helper, error) {
	program, err := programs.Path(name)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, arguments...)
	cmd.Stderr = log
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer reader.Close()
	cmd.Stdout = writer
	h := &Helper{Values: map[string]string{}, input: input}
	h.process, err = startProcess(cmd)
	_ = writer.Close() // the child has its own
	if err != nil {
		return nil, err
	}
	if err := errors.Join(reader.SetReadDeadline(time.Now().Add(helperTimeout)), ctx.Err()); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	defer context.AfterFunc(ctx, func() { _ = reader.SetReadDeadline(time.Now()) })()
	if err := h.read(reader, names); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", name, err), h.Close())
	}
	return h, nil
}

// read takes lines until every name has its value.
func (h *Helper) read(out io.Reader, names []string) error {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if name, value, found := strings.Cut(lines.Text(), "="); found {
			h.Values[name] = value
		}
		if !slices.ContainsFunc(names, func(name string) bool { return h.Values[name] == "" }) {
			return nil
		}
	}
	return fmt.Errorf("it did not say %s: %w", strings.Join(names, ", "), errors.Join(lines.Err(), io.ErrUnexpectedEOF))
}

// Close ends the program.
func (h *Helper) Close() error {
	err := h.input.Close()
	select {
	case <-h.process.Ended():
		return err
	case <-time.After(30 * time.Second):
		return errors.Join(err, h.process.Kill())
	}
}
