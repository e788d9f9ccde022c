package clickhouse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	clickhousego "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/millrace/millrace/deploy/standalone/engines/internal/process"
)

// parentFolder makes the test binary a process that runs a server in that folder until it is killed.
const parentFolder = "MILLRACE_TEST_CLICKHOUSE_FOLDER"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == ChildCommand {
		fmt.Fprintln(os.Stderr, RunChild(os.Args[2:]))
		os.Exit(1)
	}
	if len(os.Args) > 1 && os.Args[1] == standInCommand {
		fmt.Fprintln(os.Stderr, standIn(os.Args[2:]))
		os.Exit(1)
	}
	if dir := os.Getenv(parentFolder); dir != "" {
		serveUntilKilled(dir)
	}
	os.Exit(m.Run())
}

func serveUntilKilled(dir string) {
	program, err := Fetch(context.Background(), mustCacheDir(), os.Stderr)
	if err == nil {
		var s *Server
		s, err = Start(context.Background(), Options{Dir: dir, Program: program, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
		if err == nil {
			fmt.Println(s.DSN())
			_, _ = io.Copy(io.Discard, os.Stdin)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func mustCacheDir() string {
	dir, err := DefaultCacheDir()
	if err != nil {
		panic(err)
	}
	return dir
}

func library(t *testing.T) Program {
	t.Helper()
	program, err := Fetch(t.Context(), mustCacheDir(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	return program
}

func start(t *testing.T, opts Options) *Server {
	t.Helper()
	opts.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	s, err := Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // fails when the test has closed it
	return s
}

func connect(t *testing.T, s *Server) driver.Conn {
	t.Helper()
	opts, err := clickhousego.ParseDSN(s.DSN())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := clickhousego.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func exec1(t *testing.T, conn driver.Conn, query string) {
	t.Helper()
	if err := conn.Exec(t.Context(), query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func count(ctx context.Context, conn driver.Conn, table string) (n uint64, err error) {
	err = conn.QueryRow(ctx, "SELECT count() FROM "+table).Scan(&n)
	return n, err
}

func childOf(t *testing.T, dir string) record {
	t.Helper()
	text, err := os.ReadFile(recordPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// eventually tries until it succeeds, for a minute.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestKilledChildComesBackWithItsAddressPasswordAndRows(t *testing.T) {
	dir := t.TempDir()
	deaths := make(chan error, 10)
	s := start(t, Options{Dir: dir, Program: library(t), OnDeath: func(reason error) { deaths <- reason }})
	conn := connect(t, s)
	exec1(t, conn, "CREATE TABLE numbers (n UInt64) ENGINE = MergeTree ORDER BY n")
	rows := uint64(0)
	for round := range 3 {
		for range 5 {
			exec1(t, conn, "INSERT INTO numbers SELECT number FROM numbers(1000)")
			rows += 1000
		}
		before := childOf(t, dir)
		if err := syscall.Kill(before.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if reason := <-deaths; reason == nil || !strings.Contains(reason.Error(), "killed") {
			t.Errorf("round %d: reason of the death is %v, want the signal", round, reason)
		}
		began := time.Now()
		eventually(t, "query through the same connections after a kill", func() error {
			n, err := count(t.Context(), conn, "numbers")
			if err == nil && n != rows {
				t.Fatalf("round %d: %d rows after a kill, want %d", round, n, rows)
			}
			return err
		})
		t.Logf("answers %s after its death", time.Since(began))
		if after := childOf(t, dir); after == before {
			t.Errorf("the record still names the dead child %+v", after)
		}
	}
}

func TestChildDiesWithItsParent(t *testing.T) {
	dir := t.TempDir()
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), parentFolder+"="+dir)
	parent.Stderr = t.Output()
	stdin, err := parent.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(stdout, make([]byte, 1)); err != nil {
		t.Fatalf("the parent does not come up: %v", err)
	}
	child := childOf(t, dir)
	if !child.alive() {
		t.Fatal("there is no child")
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	began := time.Now()
	eventually(t, "wait for the child's end", func() error {
		if child.alive() {
			return errors.New("it is alive")
		}
		return nil
	})
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the child outlives its parent by %s", took)
	}
}

func TestLeftoverChildIsEndedBeforeTheFolderIsOpened(t *testing.T) {
	dir, program := t.TempDir(), library(t)
	first := start(t, Options{Dir: dir, Program: program})
	exec1(t, connect(t, first), "CREATE TABLE kept (n UInt64) ENGINE = MergeTree ORDER BY n")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	orphan := exec.Command(os.Args[0], ChildCommand, program.Library, filepath.Join(dir, "config.xml"))
	orphan.Dir = dir
	orphan.Stderr = t.Output()
	stdin, err := orphan.StdinPipe() // held open, as by a parent
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	if err := orphan.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "wait for the orphan", func() error { return first.ask(t.Context(), "SELECT 1") })
	if err := recordChild(dir, orphan.Process.Pid); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- orphan.Wait() }()

	again := start(t, Options{Dir: dir, Program: program})
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the orphan ended with %v, want it killed", err)
	}
	if _, err := count(t.Context(), connect(t, again), "kept"); err != nil {
		t.Errorf("the table of the first run: %v", err)
	}
}

func TestProcessThatOnlyHasTheRecordedPidIsSpared(t *testing.T) {
	dir := t.TempDir()
	stranger := exec.Command("sleep", "60")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stranger.Process.Kill()
		_ = stranger.Wait()
	})
	for _, text := range []string{
		fmt.Sprintf(`{"pid": %d, "started": "another time"}`, stranger.Process.Pid),
		fmt.Sprintf(`{"pid": %d`, stranger.Process.Pid),
		`{"pid": 0, "started": ""}`, `{"pid": -1, "started": ""}`, ``,
	} {
		if err := os.WriteFile(recordPath(dir), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := endLeftover(dir, slog.New(slog.DiscardHandler)); err != nil {
			t.Errorf("record %s: %v", text, err)
		}
		if err := stranger.Process.Signal(syscall.Signal(0)); err != nil {
			t.Fatalf("record %s: the stranger was ended", text)
		}
	}
	started, err := process.StartTime(stranger.Process.Pid)
	if again, _ := process.StartTime(stranger.Process.Pid); err != nil || started == "" || started != again {
		t.Errorf("start time is %q, then %q (%v), want one", started, again, err)
	}
}

func TestOnlyTheRightPasswordGetsIn(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Options{Dir: dir, Program: library(t)})
	first := childOf(t, dir)
	for _, tc := range []struct{ user, password string }{
		{User, "wrong"}, {User, ""}, {"default", ""}, {"default", s.Password()}, {"", ""},
	} {
		conn, err := clickhousego.Open(&clickhousego.Options{
			Addr: []string{s.Addr()}, Auth: clickhousego.Auth{Username: tc.user, Password: tc.password}, MaxOpenConns: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Ping(t.Context()); err == nil {
			t.Errorf("native protocol: user %q with password %q gets in", tc.user, tc.password)
		}
		_ = conn.Close()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.HTTPAddr()+"/", strings.NewReader("SYSTEM STOP LISTEN TCP"))
		if err != nil {
			t.Fatal(err)
		}
		if tc.user != "" {
			req.SetBasicAuth(tc.user, tc.password)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			continue // the connection may be closed before the query is read
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			t.Errorf("HTTP: user %q with password %q gets in", tc.user, tc.password)
		}
	}
	if err := connect(t, s).Ping(t.Context()); err != nil {
		t.Errorf("the right password: %v", err)
	}
	if child := childOf(t, dir); child != first {
		t.Errorf("the child was replaced: %+v, then %+v", first, child)
	}
}

func TestSecretsStayWithTheUser(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Options{Dir: dir, Program: library(t)})
	for _, name := range []string{"config.xml", "users.xml", "child.json"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", name, info.Mode())
		}
		if text, err := os.ReadFile(filepath.Join(dir, name)); err != nil || strings.Contains(string(text), s.Password()) {
			t.Errorf("%s holds the password (%v)", name, err)
		}
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", childOf(t, dir).PID))
	if err == nil && strings.Contains(string(line), s.Password()) {
		t.Errorf("the child's command line holds the password: %q", line)
	}
	other := start(t, Options{Dir: t.TempDir(), Program: library(t)})
	if other.Password() == s.Password() || len(s.Password()) != 32 {
		t.Errorf("passwords %q and %q, want two of 32 digits", s.Password(), other.Password())
	}
}

func TestSettingsAreInForce(t *testing.T) {
	conn := connect(t, start(t, Options{Dir: t.TempDir(), Program: library(t)}))
	for query, want := range map[string]string{
		"SELECT value FROM system.settings WHERE name = 'async_insert'":                                                                "0",
		"SELECT value FROM system.server_settings WHERE name = 'mark_cache_size'":                                                      "67108864",
		"SELECT value FROM system.server_settings WHERE name = 'background_pool_size'":                                                 fmt.Sprint(mergeThreads()),
		"SELECT value FROM system.server_settings WHERE name = 'max_server_memory_usage_to_ram_ratio'":                                 "0.5",
		"SELECT toString(count()) FROM system.tables WHERE database = 'system' AND name LIKE '%\\\\_log' AND engine LIKE '%MergeTree'": "0",
	} {
		var got string
		if err := conn.QueryRow(t.Context(), query).Scan(&got); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", query, got, err, want)
		}
	}
}

func TestCloseIsAtOnceAndKeepsTheRows(t *testing.T) {
	dir, program := t.TempDir(), library(t)
	s := start(t, Options{Dir: dir, Program: program})
	conn := connect(t, s)
	exec1(t, conn, "CREATE TABLE numbers (n UInt64) ENGINE = MergeTree ORDER BY n")
	exec1(t, conn, "INSERT INTO numbers SELECT number FROM numbers(100000)")
	child := childOf(t, dir)
	began := time.Now()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 2*time.Second || child.alive() {
		t.Errorf("Close took %s, the child is alive: %t", took, child.alive())
	}
	began = time.Now()
	again := start(t, Options{Dir: dir, Program: program})
	t.Logf("started in %s", time.Since(began))
	if n, err := count(t.Context(), connect(t, again), "numbers"); err != nil || n != 100000 {
		t.Errorf("%d rows, %v; want 100000", n, err)
	}
}

func TestStartThatFailsSaysWhy(t *testing.T) {
	dir, program := t.TempDir(), library(t)
	notALibrary := filepath.Join(t.TempDir(), "libchdb.so")
	if err := os.WriteFile(notALibrary, []byte("text"), 0o755); err != nil {
		t.Fatal(err)
	}
	start(t, Options{Dir: dir, Program: program})
	unreadable := t.TempDir()
	if err := os.WriteFile(filepath.Join(unreadable, "data"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		opts Options
		want string
	}{
		"folder in use":           {Options{Dir: dir, Program: program}, "another process uses this folder"},
		"library that is none":    {Options{Dir: t.TempDir(), Program: Program{Library: notALibrary}}, "load ClickHouse from " + notALibrary},
		"binary that is missing":  {Options{Dir: t.TempDir(), Program: Program{Binary: "/nowhere/clickhouse"}}, "/nowhere/clickhouse"},
		"data folder that is not": {Options{Dir: unreadable, Program: program}, "data"},
	} {
		tc.opts.Logger = slog.New(slog.DiscardHandler)
		began := time.Now()
		_, err := Start(t.Context(), tc.opts)
		if err == nil || !strings.Contains(err.Error(), tc.want) || time.Since(began) > 30*time.Second {
			t.Errorf("%s: after %s %v; want an error that contains %q", name, time.Since(began), err, tc.want)
		}
	}
}

func TestTakenPortIsNamed(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	s := &Server{opts: Options{Dir: dir, Program: library(t), Logger: slog.New(slog.DiscardHandler)}, password: newPassword()}
	err = s.startAt(t.Context(), taken.Addr().(*net.TCPAddr).Port, 0)
	if err == nil || !strings.Contains(err.Error(), "Address already in use") {
		t.Errorf("start at a taken port: %v, want the words on which another port is tried", err)
	}
}

func TestChildWithoutAParentsArgumentsIsRefused(t *testing.T) {
	if err := RunChild(nil); err == nil || !strings.Contains(err.Error(), "run by Millrace itself") {
		t.Errorf("RunChild without arguments: %v", err)
	}
}
