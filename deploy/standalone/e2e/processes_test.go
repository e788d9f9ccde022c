package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/millrace/millrace/deploy/standalone/internal/port"
)

// startStandalone runs all of Millrace in one process, which brings its own engines.
func startStandalone(ctx context.Context, dir string) (installation, error) {
	p := &processes{dir: dir, engines: &engines{}}
	all, err := p.add("standalone", "standalone")
	if err != nil {
		return nil, err
	}
	p.front, p.ingest = all, []*process{all}
	return p.started(ctx)
}

// startServicesOnEmbeddedEngines runs Millrace as services; the engines live in this process.
func startServicesOnEmbeddedEngines(ctx context.Context, dir string) (installation, error) {
	return startServices(ctx, dir, &engines{})
}

// startServices runs Millrace as services on engines, and on embedded ones for those that are missing: a processor, two
// ingest services, a query service and the proxy.
func startServices(ctx context.Context, dir string, e *engines) (installation, error) {
	p := &processes{dir: dir, engines: e}
	if err := p.addServices(ctx); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p.started(ctx)
}

// processes are Millrace as processes of this machine.
type processes struct {
	dir     string
	engines *engines
	all     []*process // in the order in which they start
	ingest  []*process
	front   *process
}

func (p *processes) addServices(ctx context.Context) error {
	if err := p.engines.embed(ctx, filepath.Join(p.dir, "engines")); err != nil {
		return err
	}
	settings := []string{
		"MILLRACE_KAFKA=" + p.engines.kafka, "MILLRACE_CLICKHOUSE=" + p.engines.clickhouse, "MILLRACE_REDIS=" + p.engines.redis,
		"MILLRACE_KEY_FILE=" + filepath.Join(p.dir, "key"), "MILLRACE_BLOB=file://" + filepath.Join(p.dir, "blobs"),
		"MILLRACE_TRUSTED_PROXIES=127.0.0.1", // so that reads through the proxy are this machine's
	}
	if p.engines.cluster != nil {
		settings = append(settings, "MILLRACE_ENGINES_KAFKA_REPLICATION="+strconv.Itoa(replicas))
	}
	if _, err := p.add("processor", "processor", settings...); err != nil {
		return err
	}
	for _, name := range []string{"ingest1", "ingest2"} {
		service, err := p.add(name, "ingest", settings...)
		if err != nil {
			return err
		}
		p.ingest = append(p.ingest, service)
	}
	query, err := p.add("query", "query", settings...)
	if err != nil {
		return err
	}
	p.front, err = p.add("proxy", "proxy", "MILLRACE_PROXY_INGEST="+p.ingest[0].url(), "MILLRACE_PROXY_QUERY="+query.url())
	return err
}

func (p *processes) add(name, role string, settings ...string) (*process, error) {
	service, err := newProcess(p.dir, name, role, settings)
	if err == nil {
		p.all = append(p.all, service)
	}
	return service, err
}

func (p *processes) started(ctx context.Context) (installation, error) {
	if err := p.start(ctx); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *processes) start(ctx context.Context) error {
	for _, service := range p.all {
		if err := service.start(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (p *processes) stop() error {
	var errs []error
	for _, service := range slices.Backward(p.all) {
		errs = append(errs, service.stop())
	}
	return errors.Join(errs...)
}

func (p *processes) doors() doors {
	d := doors{front: p.front.url(), clickhouse: p.engines.clickhouse}
	for _, service := range p.ingest {
		d.ingest = append(d.ingest, service.url())
	}
	return d
}

func (p *processes) admin(ctx context.Context, args ...string) ([]byte, error) {
	cmd, _, err := p.ingest[0].command(append(args, "--json")...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })()
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	answer, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, bytes.TrimSpace(complaints.Bytes()))
	}
	return answer, nil
}

func (p *processes) restart(ctx context.Context, kill bool) error {
	if !kill {
		return errors.Join(p.stop(), p.start(ctx))
	}
	for _, service := range p.all {
		service.kill()
	}
	return p.start(ctx)
}

func (p *processes) logs() string {
	var text strings.Builder
	for _, service := range p.all {
		log, _ := os.ReadFile(service.log)
		fmt.Fprintf(&text, "--- %s\n%s\n", service.name, lastLines(log, 30))
	}
	return text.String()
}

func (p *processes) close() error { return errors.Join(p.stop(), p.engines.close()) }

// process is a process of Millrace, which can be ended and started again at the same address and on the same data.
type process struct {
	name, role string
	address    string
	env        []string
	log        string // file

	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended, for the reason err
	err   error
}

func newProcess(dir, name, role string, settings []string) (*process, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	var env []string
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "MILLRACE_") {
			env = append(env, entry)
		}
	}
	env = append(env, asMillrace+"=on", "MILLRACE_LISTEN="+address, "MILLRACE_DATA="+filepath.Join(dir, name), patientReads)
	env = append(append(env, loginSettings()...), settings...)
	return &process{name: name, role: role, address: address, env: env, log: filepath.Join(dir, name+".log")}, nil
}

// patientReads lets reads wait longer than they do for people: installations of several kinds share this machine.
const patientReads = "MILLRACE_QUERY_WAIT=25s"

// freeAddress finds an address of this machine at which nobody listens, and which stays free until its process starts
// again.
func freeAddress() (string, error) {
	ports, err := port.Free(1)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("127.0.0.1:%d", ports[0]), nil
}

func (p *process) url() string { return "http://" + p.address }

// command prepares millrace with the process's settings. It runs until its standard input is closed, at the latest.
func (p *process) command(args ...string) (*exec.Cmd, io.Closer, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(program, args...)
	cmd.Env = p.env
	input, err := cmd.StdinPipe()
	return cmd, input, err
}

// start runs the process and waits until it is ready.
func (p *process) start(ctx context.Context) error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd, _, err := p.command(p.role)
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	p.cmd, p.ended = cmd, ended
	go func() {
		p.err = cmd.Wait()
		close(ended)
	}()
	if err := p.awaitReady(ctx); err != nil {
		text, _ := os.ReadFile(p.log)
		return fmt.Errorf("%s: %w; its log ends with\n%s", p.name, err, lastLines(text, 30))
	}
	return nil
}

func (p *process) awaitReady(ctx context.Context) error {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		answer, err := try(ctx, http.MethodGet, p.url()+"/readyz", nil)
		if err == nil && answer.Status == http.StatusOK {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("it is not ready: %s", answer.Body)
		}
		select {
		case <-p.ended:
			return fmt.Errorf("it ended: %w", p.err)
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-ticker.C:
		}
	}
}

// patience is how long a process may take to end in good order: longer than its own bound for requests in flight.
const patience = time.Minute

// stop ends the process in good order; any other exit status than 0 is an error, a found data race among them.
func (p *process) stop() error {
	if p.cmd == nil {
		return nil
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		p.kill()
		return fmt.Errorf("%s did not end within %s of SIGTERM", p.name, patience)
	}
	p.cmd = nil
	if p.err != nil {
		text, _ := os.ReadFile(p.log)
		return fmt.Errorf("%s ended with %w; its log ends with\n%s", p.name, p.err, lastLines(text, 60))
	}
	return nil
}

// kill ends the process at once.
func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill() // fails when it has ended
	<-p.ended
	p.cmd = nil
}
