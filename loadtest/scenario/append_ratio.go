package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/loadtest/farm"
	"github.com/millrace/millrace/loadtest/ledger"
	"github.com/millrace/millrace/loadtest/load"
	"github.com/millrace/millrace/loadtest/report"
	"github.com/millrace/millrace/loadtest/target"
	"github.com/millrace/millrace/loadtest/wire"
)

// appendRatio measures how many uploads a second the target takes beside a bare handler that only appends the same bytes.
// The two take turns, so that what else the machine does meets both.
type appendRatio struct {
	Common      `yaml:",inline"`
	Documents   []appendDocument `yaml:"documents"`
	Connections []int            `yaml:"connections"`
	// Rounds is how often each side has its turn; the median counts.
	Rounds int `yaml:"rounds"`
	// AtLeast is the ratio that is promised; 0 promises none.
	AtLeast float64 `yaml:"at_least"`
}

// appendDocument is one size of document.
type appendDocument struct {
	Size farm.Size `yaml:"size"`
	// Uploads is how many each turn sends.
	Uploads int `yaml:"uploads"`
	// Aim is the rate to compare with, uploads a second.
	Aim float64 `yaml:"aim"`
}

func (a *appendRatio) validate() error {
	var errs []error
	for i, d := range a.Documents {
		errs = append(errs, d.Size.Validate(), between(fmt.Sprintf("documents[%d].uploads", i), d.Uploads, 1, 200_000))
	}
	for i, n := range a.Connections {
		errs = append(errs, between(fmt.Sprintf("connections[%d]", i), n, 1, 1024))
	}
	errs = append(errs, between("number of documents", len(a.Documents), 1, a.Target.Machines),
		between("number of connections", len(a.Connections), 1, 10), between("rounds", a.Rounds, 1, 100))
	if a.AtLeast < 0 {
		errs = append(errs, fmt.Errorf("at_least: %g is not a ratio", a.AtLeast))
	}
	return errors.Join(errs...)
}

func between(key string, n, least, most int) error {
	if n < least || n > most {
		return fmt.Errorf("%s: %d is not between %d and %d", key, n, least, most)
	}
	return nil
}

func (a *appendRatio) run(l *lab) error {
	bare, err := l.startBare()
	if err != nil {
		return err
	}
	table := l.result.Table("Uploads a second, every write synced (medians of "+strconv.Itoa(a.Rounds)+" turns)",
		"document", "connections", "bare", "millrace", "ratio", "aim", "p50 ms", "p99 ms", "projected after s",
		"cpu µs each: bare", "millrace", "its clickhouse")
	each := len(l.target.Machines) / len(a.Documents)
	for i, document := range a.Documents {
		machines := farm.Machines{First: i * each, Count: each}
		if err := a.measure(l, bare, document, machines, table); err != nil {
			return errors.Join(err, bare.Close())
		}
	}
	return bare.Close()
}

// startBare starts the handler that only appends; the caller closes it.
func (l *lab) startBare() (*target.Helper, error) {
	complaints, err := os.Create(l.logOf("bareappend"))
	if err != nil {
		return nil, fmt.Errorf("make a log: %w", err)
	}
	defer complaints.Close() // the helper has it open too
	return target.StartHelper(l.ctx, l.options.Programs, "bareappend", []string{l.folder + "/bare"}, complaints, "URL")
}

// measure compares the two sides for one size of document, which has machines of its own.
func (a *appendRatio) measure(l *lab, bare *target.Helper, document appendDocument, machines farm.Machines, table *report.Table) error {
	books := ledger.New(len(l.target.Machines))
	uploads := &closedUploads{
		lab: l, ledger: books, count: document.Uploads, machines: machines,
		bareHandler: bare, bareHost: strings.TrimPrefix(bare.Values["URL"], "http://"),
		plan: farm.Plan{Seed: l.seed, Size: document.Size},
	}
	for _, connections := range a.Connections {
		if err := a.compare(l, uploads, connections, document, table); err != nil {
			return err
		}
	}
	return l.verify(string(document.Size)+" documents: ", books, uploads.plan, machines)
}

// sides is what the turns of both sides gave.
type sides struct {
	mine, theirs []float64
	// settled is how many seconds after the last answer everything was projected.
	settled   []float64
	latencies *load.Latencies
	// Processor time of each program, and the uploads that took it; what Millrace does behind its answers counts.
	uploads                        int
	bareCPU, ownCPU, clickhouseCPU time.Duration
}

// compare lets the two sides take turns with a number of connections.
func (a *appendRatio) compare(l *lab, uploads *closedUploads, connections int, document appendDocument, table *report.Table) error {
	s := &sides{latencies: load.NewLatencies()}
	for turn := range a.Rounds + 1 {
		warm := turn == 0 // the first turn warms both up and does not count
		l.progress.Phase(fmt.Sprintf("%s documents, %d connections, turn %d of %d", document.Size, connections, turn, a.Rounds), nil)
		if err := uploads.prepare(warm); err != nil {
			return err
		}
		if err := s.turn(l, uploads, connections, warm); err != nil {
			return err
		}
	}
	a.tell(l, document, connections, s, table)
	return nil
}

func (s *sides) turn(l *lab, uploads *closedUploads, connections int, warm bool) error {
	own, clickhouse := l.target.CPU()
	round, err := uploads.millrace(connections)
	if err != nil {
		return err
	}
	settled, err := l.settle()
	if err == nil {
		err = l.quiet()
	}
	if err != nil {
		return err
	}
	ownAfter, clickhouseAfter := l.target.CPU()
	bare := uploads.bareHandler.CPU()
	baseline, err := uploads.bare(connections)
	if err != nil || warm {
		return err
	}
	s.mine, s.theirs, s.settled = append(s.mine, round.Rate()), append(s.theirs, baseline.Rate()), append(s.settled, settled.Seconds())
	s.latencies.Merge(round.Latencies)
	s.uploads += round.Requests
	s.bareCPU += uploads.bareHandler.CPU() - bare
	s.ownCPU += ownAfter - own
	s.clickhouseCPU += clickhouseAfter - clickhouse
	return nil
}

func (a *appendRatio) tell(l *lab, document appendDocument, connections int, s *sides, table *report.Table) {
	mine, theirs, times := median(s.mine), median(s.theirs), s.latencies.Summary()
	ratio := mine / theirs
	each := func(cpu time.Duration) float64 { return float64(cpu.Microseconds()) / float64(s.uploads) }
	name := fmt.Sprintf("append.%s.%d.", document.Size, connections)
	for _, f := range []report.Figure{
		{Name: "bare", Value: theirs, Unit: "uploads/s"}, {Name: "millrace", Value: mine, Unit: "uploads/s"}, {Name: "ratio", Value: ratio},
		{Name: "p50", Value: times.P50, Unit: "ms"}, {Name: "p99", Value: times.P99, Unit: "ms"},
		{Name: "settled", Value: median(s.settled), Unit: "s"}, {Name: "cpu.bare", Value: each(s.bareCPU), Unit: "µs"},
		{Name: "cpu.millrace", Value: each(s.ownCPU), Unit: "µs"}, {Name: "cpu.clickhouse", Value: each(s.clickhouseCPU), Unit: "µs"},
	} {
		l.result.Figure(name+f.Name, f.Value, f.Unit)
	}
	table.Row(string(document.Size), strconv.Itoa(connections), fmt.Sprintf("%.0f", theirs), fmt.Sprintf("%.0f", mine),
		fmt.Sprintf("%.2f", ratio), fmt.Sprintf("%.0f", document.Aim), fmt.Sprintf("%.2f", times.P50), fmt.Sprintf("%.2f", times.P99),
		fmt.Sprintf("%.1f", median(s.settled)), fmt.Sprintf("%.0f", each(s.bareCPU)), fmt.Sprintf("%.0f", each(s.ownCPU)),
		fmt.Sprintf("%.0f", each(s.clickhouseCPU)))
	if a.AtLeast > 0 {
		l.result.Promise(fmt.Sprintf("%s uploads with %d connections reach %.2f of the bare append", document.Size, connections, a.AtLeast),
			ratio >= a.AtLeast, nil, "%.2f", ratio)
	}
}

// closedUploads sends prepared uploads as fast as they are answered, to the target and to the bare handler.
type closedUploads struct {
	lab         *lab
	ledger      *ledger.Ledger
	bareHandler *target.Helper
	bareHost    string
	plan        farm.Plan
	machines    farm.Machines
	// count is how many a turn sends, next the ordinal of the next.
	count, next int
	prepared    []preparedUpload
}

// preparedUpload is ready to be sent: whatever is made before the turn does not count.
type preparedUpload struct {
	ledger.Upload
	head, bareHead, body []byte
}

// prepare makes the uploads of a turn, a tenth of them to warm up.
func (c *closedUploads) prepare(warm bool) error {
	count := c.count
	if warm {
		count = max(1, count/10)
	}
	c.prepared = c.prepared[:0]
	for i := range count {
		u := c.machines.Upload(c.next + i)
		body := c.plan.Document(u)
		c.prepared = append(c.prepared, preparedUpload{
			Upload: u, body: body,
			head: wire.Head(http.MethodPost, c.lab.target.Host, "/run/upload/", len(body),
				"Authorization", c.lab.target.Machines[u.Machine].Secret, "Content-Type", "application/json"),
			bareHead: wire.Head(http.MethodPost, c.bareHost, "/append", len(body), "Content-Type", "application/json"),
		})
	}
	c.next += count
	return c.lab.ctx.Err()
}

// attemptTimeout bounds one request of a closed loop: longer than an upload is held.
const attemptTimeout = 90 * time.Second

func (c *closedUploads) millrace(connections int) (load.Round, error) {
	return c.turn(connections, c.lab.target.Host, func(conn *wire.Conn, upload *preparedUpload) error {
		c.ledger.Sent(upload.Upload)
		answer, err := conn.Do(upload.head, upload.body)
		if err != nil {
			return err
		}
		if answer.Status != http.StatusCreated {
			return fmt.Errorf("%s: status %d: %s", upload.Upload, answer.Status, answer.Body)
		}
		run, _ := strconv.ParseUint(strings.TrimPrefix(answer.Header.Get("Location"), "/run/"), 10, 64)
		c.ledger.Stored(upload.Upload, run)
		return nil
	})
}

func (c *closedUploads) bare(connections int) (load.Round, error) {
	return c.turn(connections, c.bareHost, func(conn *wire.Conn, upload *preparedUpload) error {
		answer, err := conn.Do(upload.bareHead, upload.body)
		if err == nil && answer.Status != http.StatusCreated {
			err = fmt.Errorf("the bare handler answered %d", answer.Status)
		}
		return err
	})
}

func (c *closedUploads) turn(connections int, host string, send func(*wire.Conn, *preparedUpload) error) (load.Round, error) {
	closed := load.Closed{Senders: connections, Requests: len(c.prepared)}
	return closed.Run(c.lab.ctx, func(ctx context.Context, _ int) (func(int) error, func(), error) {
		conn, err := wire.Dial(ctx, host, attemptTimeout)
		if err != nil {
			return nil, nil, err
		}
		return func(i int) error { return send(conn, &c.prepared[i]) }, func() { _ = conn.Close() }, nil
	})
}
