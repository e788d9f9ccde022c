package pgbench

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	database       = "pgbench" // the one that pgbench works in
	sampleInterval = time.Second
	maxStatements  = 20 // rows of pg_stat_statements for each invocation, those called most
)

// run is one run of the farm under way; its result grows in upload.
type run struct {
	options Options
	cluster *cluster
	proc    fs.FS // /proc
	db      *pgx.Conn
	printed strings.Builder // what pgbench printed
	upload  upload
}

func (r *run) say(format string, args ...any) {
	if r.options.Progress != nil {
		r.options.Progress(fmt.Sprintf(format, args...))
	}
}

func (r *run) perform(ctx context.Context, received time.Time) error {
	started := time.Now()
	if err := r.describeMachine(); err != nil {
		return fmt.Errorf("describe this machine: %w", err)
	}
	r.say("starting a scratch PostgreSQL")
	if err := r.cluster.start(ctx, r.options.Settings); err != nil {
		return err
	}
	db, err := r.cluster.connect(ctx)
	if err != nil {
		return fmt.Errorf("connect to the scratch server: %w", err)
	}
	r.db = db
	if err := errors.Join(r.measure(ctx), db.Close(context.WithoutCancel(ctx))); err != nil {
		return err
	}
	return r.finish(received, started, time.Now())
}

// measure performs every test on the running server.
func (r *run) measure(ctx context.Context) error {
	if err := r.describeServer(ctx); err != nil {
		return fmt.Errorf("describe the scratch server: %w", err)
	}
	for _, test := range r.options.Tests {
		if err := r.test(ctx, test); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) describeMachine() (err error) {
	etc, sys := os.DirFS("/etc"), os.DirFS("/proc/sys")
	u := &r.upload
	if u.Kernel, err = describeKernel(); err != nil {
		return err
	}
	if u.OSInformation, err = describeOS(etc); err != nil {
		return err
	}
	if u.System, err = describeSystem(r.proc); err != nil {
		return err
	}
	u.SysctlLog, err = describeSysctl(sys)
	return err
}

// describeServer reads version and settings, and makes ready to count statements.
func (r *run) describeServer(ctx context.Context) error {
	if err := r.db.QueryRow(ctx, "SELECT version()").Scan(&r.upload.Compiler); err != nil {
		return fmt.Errorf("read the version: %w", err)
	}
	rows, err := r.db.Query(ctx, "SELECT name, coalesce(setting, ''), source FROM pg_settings ORDER BY name")
	if err != nil {
		return fmt.Errorf("read the settings: %w", err)
	}
	settings, err := pgx.CollectRows(rows, pgx.RowToStructByPos[setting])
	if err != nil {
		return fmt.Errorf("read the settings: %w", err)
	}
	if r.upload.PostgresSettings, err = settingsCSV(settings); err != nil {
		return fmt.Errorf("write the settings as CSV: %w", err)
	}
	if _, err := r.db.Exec(ctx, "CREATE EXTENSION pg_stat_statements"); err != nil {
		return fmt.Errorf("create the extension pg_stat_statements: %w", err)
	}
	return nil
}

// setting is a row of pg_settings.
type setting struct{ Name, Value, Source string }

// settingsCSV writes settings with a heading and CRLF line ends.
func settingsCSV(settings []setting) (string, error) {
	var out strings.Builder
	writer := csv.NewWriter(&out)
	writer.UseCRLF = true
	rows := [][]string{{"name", "setting", "source"}}
	for _, s := range settings {
		rows = append(rows, []string{s.Name, s.Value, s.Source})
	}
	err := writer.WriteAll(rows)
	return out.String(), err
}

// test makes the data set anew for each iteration and tries it with each number of clients.
func (r *run) test(ctx context.Context, test Test) error {
	result := testResult{Clients: test.Clients, Scale: test.Scale, Duration: test.DurationSeconds, ReadOnly: test.ReadOnly}
	for number := range r.options.Iterations {
		seconds, err := r.initialize(ctx, test.Scale)
		if err != nil {
			return fmt.Errorf("make the data set of scale %d: %w", test.Scale, err)
		}
		for _, clients := range test.Clients {
			r.say("pgbench: %s, scale %d, clients %d, %d s, iteration %d",
				modeWord(test.ReadOnly), test.Scale, clients, test.DurationSeconds, number)
			one := invocation{test: test, clients: clients, number: number}
			iteration, err := r.invoke(ctx, one)
			if err != nil {
				return fmt.Errorf("pgbench (%s, scale %d, clients %d): %w", modeWord(test.ReadOnly), test.Scale, clients, err)
			}
			iteration.Init = seconds
			result.Iterations = append(result.Iterations, iteration)
		}
	}
	r.upload.Pgbench = append(r.upload.Pgbench, result)
	return nil
}

// initialize makes an empty database and fills it; the seconds are pgbench's.
func (r *run) initialize(ctx context.Context, scale int) (seconds float64, err error) {
	for _, statement := range []string{"DROP DATABASE IF EXISTS " + database, "CREATE DATABASE " + database} {
		if _, err := r.db.Exec(ctx, statement); err != nil {
			return 0, fmt.Errorf("%s: %w", statement, err)
		}
	}
	begin := time.Now()
	_, err = r.pgbench(ctx, "--initialize", "--quiet", "--scale="+strconv.Itoa(scale))
	return time.Since(begin).Round(time.Millisecond).Seconds(), err
}

// invocation is one run of the pgbench program.
type invocation struct {
	test    Test
	clients int
	number  int // iteration
}

// logPrefix names the per-second logs as the farm's client does.
func (i invocation) logPrefix() string {
	return fmt.Sprintf("pgbench-%s-%d-%d-%d-%d-",
		modeWord(i.test.ReadOnly), i.test.Scale, i.test.DurationSeconds, i.clients, i.number)
}

func (i invocation) arguments() []string {
	clients := strconv.Itoa(i.clients)
	arguments := []string{
		"--client=" + clients, "--jobs=" + clients, "--time=" + strconv.Itoa(i.test.DurationSeconds),
		"--report-per-command", "--log", "--log-prefix=" + i.logPrefix(), "--aggregate-interval=1",
	}
	if i.test.ReadOnly {
		arguments = append(arguments, "--select-only")
	}
	return arguments
}

func modeWord(readOnly bool) string {
	if readOnly {
		return "ro"
	}
	return "rw"
}

// invoke measures once, with the machine sampled meanwhile.
func (r *run) invoke(ctx context.Context, one invocation) (iteration, error) {
	// Without the checkpoint, one invocation would pay for the writes of the one before it.
	for _, statement := range []string{"CHECKPOINT", "SELECT pg_stat_statements_reset()"} {
		if _, err := r.db.Exec(ctx, statement); err != nil {
			return iteration{}, fmt.Errorf("%s: %w", statement, err)
		}
	}
	stopSampling := startSampling(ctx, r.proc, sampleInterval)
	begin := time.Now()
	printed, err := r.pgbench(ctx, one.arguments()...)
	end := time.Now()
	samples, samplingErr := stopSampling()
	if err := errors.Join(err, samplingErr); err != nil {
		return iteration{}, err
	}
	out, err := ParseOutput(printed)
	if err != nil {
		return iteration{}, err
	}
	statements, err := r.statements(ctx)
	if err != nil {
		return iteration{}, fmt.Errorf("read pg_stat_statements: %w", err)
	}
	if err := r.takeLogs(one.logPrefix()); err != nil {
		return iteration{}, fmt.Errorf("take pgbench's logs: %w", err)
	}
	return iteration{
		Mode: out.Mode, Clients: out.Clients, Threads: out.Threads, Latency: out.Latency, TPS: out.TPS,
		StatementLatencies: out.StatementLatencies,
		Start:              unixSeconds(begin), End: unixSeconds(end), Iteration: one.number,
		PgStatStatements: statements, Collectd: samples,
	}, nil
}

// pgbench runs the program and keeps what it prints.
func (r *run) pgbench(ctx context.Context, arguments ...string) (printed string, err error) {
	arguments = append(arguments, "--host="+r.cluster.scratch.folder(socketFolder), "--port="+port,
		"--username="+superuser, database)
	out, err := r.cluster.command(ctx, r.cluster.programs.pgbench, arguments...).CombinedOutput()
	r.printed.Write(out)
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		return "", fmt.Errorf("%w, it ends with: %s", err, tail(string(out), 500))
	}
	return string(out), nil
}

// statements reads pg_stat_statements. PostgreSQL makes text of an oid in JSON, the farm's client sends a number.
func (r *run) statements(ctx context.Context) ([]json.RawMessage, error) {
	rows, err := r.db.Query(ctx, `SELECT to_jsonb(s) || jsonb_build_object('userid', s.userid::bigint, 'dbid', s.dbid::bigint)
		FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
		WHERE d.datname = $1 ORDER BY s.calls DESC, s.queryid LIMIT $2`, database, maxStatements)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[json.RawMessage])
}

// takeLogs moves the per-second logs of an invocation from the work folder to the document.
func (r *run) takeLogs(prefix string) error {
	files, err := filepath.Glob(filepath.Join(r.cluster.scratch.folder(workFolder), prefix+"*"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("it wrote no file %s*", prefix)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		r.upload.Aggregates = append(r.upload.Aggregates, aggregate{aggregateKey(file): string(text)})
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	return nil
}

// aggregateKey is the file's name without its extension: pgbench writes PREFIX.PID for its first thread, and
// PREFIX.PID.N for the others, so these keep the process id.
func aggregateKey(file string) string {
	base := filepath.Base(file)
	return strings.TrimSuffix(base, filepath.Ext(base))
}

// finish ends the server and fills in what is known only then.
func (r *run) finish(received, started, ended time.Time) error {
	r.say("stopping the scratch PostgreSQL")
	if err := r.cluster.stop(); err != nil {
		return err
	}
	u := &r.upload
	u.PgCtl, u.PgbenchLog = r.cluster.readLog(), r.printed.String()
	if err := r.cluster.remove(); err != nil {
		return err
	}
	u.CleanupRuntime = runtimeText(time.Since(ended))
	u.Meta = meta{Benchmark: "pgbench", Date: started.UTC().Format("2006-01-02 15:04:05.000000-07"), Name: "pgbench-basic"}
	u.Git = git{Remote: Repository, Branch: r.options.Branch, Commit: r.options.Commit}
	u.RunReceivedTime, u.RunStartTime, u.RunEndTime = timeText(received), timeText(started), timeText(ended)
	return nil
}

// timeText is the farm's form of a time, in whole seconds.
func timeText(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05-0700") }

// runtimeText is the farm's form of a duration: H:MM:SS.ffffff.
func runtimeText(d time.Duration) string {
	seconds := int64(d / time.Second)
	return fmt.Sprintf("%d:%02d:%02d.%06d", seconds/3600, seconds/60%60, seconds%60, d%time.Second/time.Microsecond)
}

// unixSeconds has milliseconds, like the farm's.
func unixSeconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
