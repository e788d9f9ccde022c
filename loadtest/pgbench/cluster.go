package pgbench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	port      = "5432" // names the socket file only: the server listens to no network
	superuser = "postgres"

	startLimit = 60 * time.Second
	stopLimit  = 30 * time.Second
)

// cluster is a scratch PostgreSQL server and its folder.
type cluster struct {
	programs installation
	account  *account // nil: the current user
	scratch  *scratch

	server *exec.Cmd     // nil while it does not run
	exited chan struct{} // closed when the server has ended
}

func newCluster(programs installation) (*cluster, error) {
	as, err := serverAccount()
	if err != nil {
		return nil, err
	}
	folder, err := openScratch(as)
	if err != nil {
		return nil, err
	}
	return &cluster{programs: programs, account: as, scratch: folder}, nil
}

// scratchSettings are the settings that make a server private, and give the farm's pg_stat_statements.
func scratchSettings(socketFolder string) map[string]string {
	return map[string]string{
		"listen_addresses":         "",
		"port":                     port,
		"unix_socket_directories":  socketFolder,
		"shared_preload_libraries": "pg_stat_statements",
	}
}

// start makes the data folder and runs the server until it takes connections.
func (c *cluster) start(ctx context.Context, settings map[string]string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("not ready within %s", startLimit))
	defer cancel()
	data := c.scratch.folder(dataFolder)
	initdb := c.command(ctx, c.programs.initdb, "--pgdata="+data, "--username="+superuser, "--auth=trust",
		"--encoding=UTF8", "--no-locale")
	if printed, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w, it ends with: %s", err, tail(string(printed), 500))
	}
	if err := c.configure(settings); err != nil {
		return fmt.Errorf("configure the scratch server: %w", err)
	}
	if err := c.launch(); err != nil {
		return fmt.Errorf("start the scratch server: %w", err)
	}
	if err := c.waitReady(ctx); err != nil {
		return fmt.Errorf("start the scratch server: %w", err)
	}
	return nil
}

// configure appends the settings to postgresql.conf, where the last value of a name counts.
func (c *cluster) configure(settings map[string]string) error {
	path := filepath.Join(c.scratch.folder(dataFolder), "postgresql.conf")
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString("\n" + configLines(settings) + configLines(scratchSettings(c.scratch.folder(socketFolder))))
	return errors.Join(err, file.Close())
}

// configLines writes settings as postgresql.conf has them, sorted by name.
func configLines(settings map[string]string) string {
	var lines strings.Builder
	quote := strings.NewReplacer(`'`, `''`, `\`, `\\`)
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&lines, "%s = '%s'\n", name, quote.Replace(settings[name]))
	}
	return lines.String()
}

// launch starts the server as a child with its log in a file, and watches for its end.
func (c *cluster) launch() error {
	log, err := os.OpenFile(c.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	// No context: stop ends the server, in order, after the context's end too.
	server := c.command(context.Background(), c.programs.postgres, "-D", c.scratch.folder(dataFolder))
	server.SysProcAttr = childAttributes(c.account, syscall.SIGINT)
	server.Stdout, server.Stderr = log, log
	if err := errors.Join(server.Start(), log.Close()); err != nil {
		return err
	}
	c.server, c.exited = server, make(chan struct{})
	go func() {
		defer close(c.exited)
		// How it ended is in its log, and in ProcessState.
		_ = server.Wait()
	}()
	return nil
}

// waitReady tries to connect until the server lets it.
func (c *cluster) waitReady(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := c.connect(ctx)
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-tick.C:
		case <-c.exited:
			return fmt.Errorf("it ended (%s), its log ends with: %s", c.server.ProcessState, tail(c.readLog(), 1000))
		case <-ctx.Done():
			return fmt.Errorf("%w; the last attempt: %w", context.Cause(ctx), err)
		}
	}
}

// connect opens a superuser's session in the database "postgres".
func (c *cluster) connect(ctx context.Context) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(fmt.Sprintf("host='%s' port=%s user=%s dbname=postgres sslmode=disable",
		c.scratch.folder(socketFolder), port, superuser))
	if err != nil {
		return nil, fmt.Errorf("describe the connection: %w", err)
	}
	return pgx.ConnectConfig(ctx, config)
}

// command prepares a program to run as the server's account, in the work folder, with an environment of its own: the
// user's could change the language of what it prints, or the server that it talks to.
func (c *cluster) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = c.scratch.folder(workFolder)
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC", "PATH=/usr/bin:/bin", "HOME=" + cmd.Dir}
	cmd.SysProcAttr = childAttributes(c.account, syscall.SIGTERM)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

func (c *cluster) logPath() string { return c.scratch.folder("server.log") }

// readLog returns the server's log, or why it cannot be had: it serves to explain.
func (c *cluster) readLog() string {
	log, err := os.ReadFile(c.logPath())
	if err != nil {
		return err.Error()
	}
	return string(log)
}

// stop ends the server: first by a fast shutdown, which writes everything out, then at once, then by force.
func (c *cluster) stop() error {
	if c.server == nil {
		return nil
	}
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} {
		if err := c.server.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stop the scratch server: %w", err)
		}
		select {
		case <-c.exited:
			c.server = nil
			return nil
		case <-time.After(stopLimit):
		}
	}
	return fmt.Errorf("the scratch server, process %d, does not end: kill it", c.server.Process.Pid)
}

// remove stops the server and deletes everything. Calling it again does nothing.
func (c *cluster) remove() error {
	if err := c.stop(); err != nil {
		return err
	}
	return c.scratch.remove()
}
