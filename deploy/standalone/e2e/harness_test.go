package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/deploy/standalone/cli"
	chengine "github.com/millrace/millrace/deploy/standalone/engines/clickhouse"
)

// The same tests run against Millrace on different engines. A test that takes a Lab runs on all that are there:
//
//	func TestSomethingIsPromised(t *testing.T) {
//		onEveryLab(t, func(t *testing.T, lab *Lab) {
//			machine := lab.Machine(t)
//			lab.Upload(t, machine, document(1)).Want(t, 201)
//			lab.Get(t, "/machine/list").Want(t, 200).JSON(t, &machines)
//		})
//	}
//
// The labs of a run are shared by its tests, so a test makes machines and users of its own (Machine and Unique do) and
// expects others'. One that needs a Millrace to itself starts it with start(t, "standalone").
//
// Standalone and services on the embedded engines always run. What else joins stands in joinVariable; deploy/test/run
// finds out what can.
const joinVariable = "MILLRACE_TEST_JOIN"

// kinds are the ways in which Millrace runs here.
var kinds = []kind{
	{name: "standalone", start: startStandalone},
	{name: "services", start: startServicesOnEmbeddedEngines},
	{name: "apachekafka", joins: true, start: startServicesOnApacheKafka},
	{name: "containers", joins: true, start: startServicesOnContainers},
	{name: "compose", joins: true, start: startCompose},
}

type kind struct {
	name string
	// joins says that joinVariable must name it.
	joins bool
	start func(ctx context.Context, dir string) (installation, error)
}

// installation is a Millrace that runs somewhere, with its engines.
type installation interface {
	// doors says where it is reached now.
	doors() doors
	// admin runs the operator's command `millrace ARGS --json` and gives what it prints.
	admin(ctx context.Context, args ...string) ([]byte, error)
	// restart ends every process of Millrace and starts it again on what it left behind: in good order, or by kill -9.
	restart(ctx context.Context, kill bool) error
	// logs gives the last lines of every process.
	logs() string
	close() error
}

// doors are the addresses of an installation.
type doors struct {
	// front is the one origin of all APIs, ingest each ingest service by itself.
	front  string
	ingest []string
	// clickhouse is the engine's address as in MILLRACE_CLICKHOUSE.
	clickhouse string
}

// asMillrace makes this test binary behave as the program millrace, so that labs are made of real processes that can
// be killed, of the code under test.
const asMillrace = "MILLRACE_TEST_AS_MILLRACE"

func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == chengine.ChildCommand:
		fmt.Fprintln(os.Stderr, chengine.RunChild(os.Args[2:]))
		os.Exit(1)
	case os.Getenv(asMillrace) != "":
		os.Exit(runMillrace(os.Args[1:]))
	}
	code := m.Run()
	if err := shared.close(); err != nil {
		fmt.Fprintln(os.Stderr, "end the labs:", err)
		code = 1
	}
	os.Exit(code)
}

// runMillrace is the program's main, but ends when the test process does, which holds standard input open.
func runMillrace(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}()
	if err := cli.New("e2e", os.Stdout, os.Stderr).ExecuteContext(ctx, args); err != nil {
		fmt.Fprintln(os.Stderr, "millrace:", err)
		return 1
	}
	return 0
}

// onEveryLab runs a test against Millrace on all engines that are there.
func onEveryLab(t *testing.T, test func(t *testing.T, lab *Lab)) {
	t.Helper()
	for i := range kinds {
		t.Run(kinds[i].name, func(t *testing.T) {
			test(t, shared.lab(t, &kinds[i]))
		})
	}
}

// start gives a test a Millrace to itself, of one of the kinds.
func start(t *testing.T, name string) *Lab {
	t.Helper()
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })
	if i < 0 {
		t.Fatalf("there is no kind of lab %q", name)
	}
	kinds[i].require(t)
	lab, err := kinds[i].open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		lab.tellOnFailure(t)
		if err := lab.close(); err != nil {
			t.Errorf("end the lab: %v", err)
		}
	})
	return lab
}

// require skips the test when the kind is not to be tested in this run.
func (k *kind) require(t *testing.T) {
	t.Helper()
	switch {
	case testing.Short():
		t.Skip("starts processes: not with -short")
	case k.joins && !slices.Contains(strings.Split(os.Getenv(joinVariable), ","), k.name):
		t.Skipf("%s does not name %s; make test finds out whether it can join", joinVariable, k.name)
	}
}

// startTimeout is long enough for a first start, which fetches an engine, under the race detector, on a busy machine.
const startTimeout = 5 * time.Minute

func (k *kind) open(ctx context.Context) (*Lab, error) {
	dir, err := os.MkdirTemp("", "millrace-e2e-")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	i, err := k.start(ctx, dir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the lab %s: %w", k.name, err), os.RemoveAll(dir))
	}
	return &Lab{Kind: k.name, installation: i, dir: dir}, nil
}

// labs are those that the tests of a run share, each started when the first test wants it.
type labs struct {
	mu     sync.Mutex
	opened map[string]*Lab
	failed map[string]error
}

var shared = labs{opened: map[string]*Lab{}, failed: map[string]error{}}

func (l *labs) lab(t *testing.T, k *kind) *Lab {
	t.Helper()
	k.require(t)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.opened[k.name] == nil && l.failed[k.name] == nil {
		l.opened[k.name], l.failed[k.name] = k.open(context.Background())
	}
	if err := l.failed[k.name]; err != nil {
		t.Fatal(err)
	}
	lab := l.opened[k.name]
	t.Cleanup(func() { lab.tellOnFailure(t) })
	return lab
}

func (l *labs) close() error {
	var errs []error
	for _, lab := range l.opened {
		if lab != nil {
			errs = append(errs, lab.close())
		}
	}
	return errors.Join(errs...)
}

// Lab is a running Millrace.
type Lab struct {
	Kind string
	installation
	dir string
}

// URL is the origin of all APIs.
func (l *Lab) URL() string { return l.doors().front }

// Ingest are the ingest services, each by itself: two where Millrace runs as services, one in standalone.
func (l *Lab) Ingest() []string { return l.doors().ingest }

// Admin runs the operator's command `millrace ARGS --json` and reads its answer into a value, unless that is nil.
func (l *Lab) Admin(t testing.TB, into any, args ...string) {
	t.Helper()
	answer, err := l.admin(t.Context(), args...)
	if err != nil {
		t.Fatalf("millrace %s: %v", strings.Join(args, " "), err)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(answer, into); err != nil {
		t.Fatalf("millrace %s --json printed %q: %v", strings.Join(args, " "), answer, err)
	}
}

// RefusedAdmin runs an operator's command that must be refused, and gives the reason.
func (l *Lab) RefusedAdmin(t testing.TB, args ...string) string {
	t.Helper()
	answer, err := l.admin(t.Context(), args...)
	if err == nil {
		t.Fatalf("millrace %s was not refused: %s", strings.Join(args, " "), answer)
	}
	return err.Error()
}

// Restart ends Millrace in good order and starts it again on the same data.
func (l *Lab) Restart(t testing.TB) {
	t.Helper()
	l.startAgain(t, false)
}

// Crash ends every process of Millrace by kill -9 and starts it again on the same data.
func (l *Lab) Crash(t testing.TB) {
	t.Helper()
	l.startAgain(t, true)
}

func (l *Lab) startAgain(t testing.TB, kill bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	if err := l.restart(ctx, kill); err != nil {
		t.Fatalf("start %s again: %v", l.Kind, err)
	}
}

// Settle waits while reads are told to try again. After a crash Kafka gives the killed processor's partitions to the new
// one when a session's timeout has passed, and until then no read can contain what was written since.
func (l *Lab) Settle(t testing.TB) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		answer := l.Get(t, "/benchmark/overview")
		if answer.Status != http.StatusServiceUnavailable || time.Now().After(end) {
			answer.Want(t, http.StatusOK)
			return
		}
		if answer.Header.Get("Retry-After") == "" {
			t.Fatalf("%s: 503 without Retry-After: %s", answer.Asked, answer.Body)
		}
	}
}

func (l *Lab) tellOnFailure(t testing.TB) {
	if t.Failed() {
		t.Logf("the last words of %s:\n%s", l.Kind, l.logs())
	}
}

func (l *Lab) close() error {
	return errors.Join(l.installation.close(), os.RemoveAll(l.dir))
}

// lastLines gives the end of a log.
func lastLines(text []byte, lines int) []byte {
	text = bytes.TrimRight(text, "\n")
	for i := len(text) - 1; i >= 0; i-- {
		if text[i] == '\n' {
			if lines--; lines == 0 {
				return text[i+1:]
			}
		}
	}
	return text
}
