package debci

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/debci"
	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/route"
)

// runsHeader names the first and the last run that a request made, which debci's own answers do not tell.
const runsHeader = "Millrace-Runs"

// submission is a request as it was read.
type submission struct {
	user     access.DebciUser
	form     form
	priority int64
	key      *event.Idempotency
}

func bad(format string, args ...any) error {
	return route.Errorf(http.StatusBadRequest, format, args...)
}

// read reads a request's form, its key and the priority.
func (d *Debci) read(c *gin.Context) (*submission, error) {
	body, err := route.ReadBody(c)
	if err != nil {
		return nil, err
	}
	s := &submission{priority: debci.DefaultPriority}
	s.user, _ = route.Principal[access.DebciUser](c)
	if s.key, err = door.Idempotency(c, "debci:"+hex.EncodeToString(s.user.Hash[:]), body, d.config.KeepKeys); err != nil {
		return nil, err
	}
	if s.form, err = parseForm(c.Request.URL.RawQuery, c.GetHeader("Content-Type"), body); err != nil {
		return nil, err
	}
	text, given := s.form["priority"]
	if !given {
		return s, nil
	}
	s.priority, err = strconv.ParseInt(text, 10, 32)
	if err != nil || s.priority < debci.MinPriority || s.priority > debci.MaxPriority {
		return nil, bad("Invalid priority: %s", text)
	}
	return s, nil
}

// tests answers POST /api/v1/test/{suite}/{arch}.
func (d *Debci) tests(c *gin.Context) {
	suite, arch := c.Param("suite"), c.Param("arch")
	if fault := d.config.Rules.CheckTarget(suite, arch); fault != "" {
		route.Refuse(c, bad("%s", fault))
		return
	}
	s, err := d.read(c)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	document, given := s.form["tests"]
	if !given {
		route.Refuse(c, errNoTests())
		return
	}
	requests, err := debci.ParseTests([]byte(document), &d.config.Rules, s.user.Name, suite, arch, d.config.MaxTests)
	d.submit(c, s, requests, refusalOf(err, "Invalid request: "))
}

// batch answers POST /api/v1/test/batch.
func (d *Debci) batch(c *gin.Context) {
	s, err := d.read(c)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	document, given := s.form["tests"]
	if !given {
		route.Refuse(c, errNoTests())
		return
	}
	requests, err := debci.ParseBatch([]byte(document), &d.config.Rules, s.user.Name, d.config.MaxTests)
	d.submit(c, s, requests, refusalOf(err, "Error: "))
}

func errNoTests() error { return bad("Error: No tests") }

// refusalOf words what is wrong with a document of tests.
func refusalOf(err error, prefix string) error {
	syntax, invalid := (*debci.SyntaxError)(nil), (*debci.InvalidError)(nil)
	switch {
	case errors.As(err, &syntax):
		return bad("%s", syntax)
	case errors.As(err, &invalid):
		return bad("%s%s", prefix, invalid)
	}
	return err
}

// one answers POST /api/v1/test/{suite}/{arch}/{package}.
func (d *Debci) one(c *gin.Context) {
	request := debci.Request{Suite: c.Param("suite"), Arch: c.Param("arch"), Package: c.Param("package")}
	if fault := d.config.Rules.CheckTarget(request.Suite, request.Arch); fault != "" {
		route.Refuse(c, bad("%s", fault))
		return
	}
	s, err := d.read(c)
	if err == nil {
		err = d.complete(&request, s)
	}
	d.submit(c, s, []debci.Request{request}, err)
}

// complete checks a request for one package and reads what else it says.
func (d *Debci) complete(request *debci.Request, s *submission) error {
	if fault := debci.BadPackage(request.Package); fault != "" {
		return bad("%s", fault)
	}
	rejected, err := d.Rejected.List()
	if err != nil {
		return err
	}
	if rejected.Contains(request.Package, request.Suite, request.Arch) {
		return bad("Package: %s is in the reject list", request.Package)
	}
	switch private := s.form["is_private"]; private {
	case "", "false":
	case "true":
		request.Private = true
	default:
		return bad("%s", debci.BadPrivate(request.Package))
	}
	text, given := s.form["extra_apt_sources"]
	if !given {
		return nil
	}
	names, err := debci.ParseNames([]byte(text))
	if err != nil {
		return refusalOf(err, "")
	}
	var refused []string
	if request.AptSources, refused = d.config.Rules.Sources(s.user.Name, names); len(refused) > 0 {
		return bad("Invalid extra apt sources: %s", strings.Join(refused, ", "))
	}
	return nil
}

// submit appends what a request asks for and answers, unless there is something wrong with it.
func (d *Debci) submit(c *gin.Context, s *submission, requests []debci.Request, err error) {
	if err != nil {
		route.Refuse(c, err)
		return
	}
	if len(requests) == 0 {
		answer(c, http.StatusCreated)
		return
	}
	batch, err := d.batchOf(c, s, requests)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	d.decide(c, batch, http.StatusCreated)
}

// decide has the log take tests and answers with a status.
func (d *Debci) decide(c *gin.Context, request proto.Message, status int) {
	outcome, position, err := door.Decide(c.Request.Context(), d.Log, d.Jobs, source, request)
	switch {
	case err != nil:
		route.Refuse(c, err)
		return
	case outcome.Result == jobs.KeyReused:
		route.Refuse(c, door.KeyReused())
		return
	case outcome.Result != jobs.Done:
		route.Refuse(c, fmt.Errorf("submit tests: the jobs' fold answers %d", outcome.Result))
		return
	}
	door.SetPosition(c, position)
	if outcome.Count > 0 {
		first := outcome.Job.Seq
		c.Header(runsHeader, fmt.Sprintf("%d-%d", first, first+uint64(outcome.Count)-1))
	}
	answer(c, status)
}

// answer gives an empty answer (1).
func answer(c *gin.Context, status int) {
	c.Header("Content-Type", "text/html;charset=utf-8")
	c.Status(status)
	c.Writer.WriteHeaderNow()
}

// batchOf makes the event of tests that are accepted. Those in the reject list end at once (4).
func (d *Debci) batchOf(c *gin.Context, s *submission, requests []debci.Request) (*event.JobBatchSubmitted, error) {
	rejected, err := d.Rejected.List()
	if err != nil {
		return nil, err
	}
	batch := &event.JobBatchSubmitted{
		Family: event.JobFamily_JOB_FAMILY_DEBCI, Queue: debci.Queue(requests[0].Suite, requests[0].Arch), Priority: s.priority,
		Count: uint32(len(requests)), Owner: s.user.Hash[:], Idempotency: s.key,
	}
	if batch.SealedSubmitter, err = d.SealName(s.user.Hash, s.user.Name); err != nil {
		return nil, err
	}
	items := &event.JobItems{Items: make([]*event.JobItem, len(requests))}
	queue := batch.GetQueue()
	for i := range requests {
		r := &requests[i]
		if next := debci.Queue(r.Suite, r.Arch); next != queue {
			queue = next
			batch.Turns = append(batch.Turns, &event.JobBatchTurn{From: uint32(i), Queue: queue})
		}
		if rejected.Contains(r.Package, r.Suite, r.Arch) {
			batch.Ended = append(batch.Ended, uint32(i))
		}
		document, err := json.Marshal(r)
		if err != nil {
			return nil, fmt.Errorf("encode a test request: %w", err)
		}
		items.Items[i] = &event.JobItem{Document: document, Labels: labels(r)}
	}
	packed, err := proto.Marshal(items)
	if err != nil {
		return nil, fmt.Errorf("encode test requests: %w", err)
	}
	if batch.Document, err = d.Packer.Pack(c.Request.Context(), packed); err != nil {
		return nil, fmt.Errorf("%w: %w", door.OutOfReach("the document store"), err)
	}
	return batch, nil
}

// retry answers POST /api/v1/retry/{run_id}: the same test once more, for the same owner.
func (d *Debci) retry(c *gin.Context) {
	s, err := d.read(c)
	if err == nil {
		var request *event.JobSubmitted
		if request, err = d.retryOf(c, s); err == nil {
			d.decide(c, request, http.StatusOK)
			return
		}
	}
	route.Refuse(c, err)
}

func (d *Debci) retryOf(c *gin.Context, s *submission) (*event.JobSubmitted, error) {
	text := c.Param("run_id")
	run, ok := runID(text)
	if !ok {
		return nil, bad("Job ID not known: %s", text)
	}
	test, err := d.Test(c.Request.Context(), run)
	switch {
	case err != nil:
		return nil, err
	case test == nil:
		return nil, bad("Job ID not known: %s", text)
	case test.Private && string(test.Owner) != string(s.user.Hash[:]):
		return nil, route.Errorf(http.StatusForbidden, "Job %d is private: only its owner may retry it", run)
	}
	request, err := debci.ReadRequest(test.Document)
	if err != nil {
		return nil, err
	}
	rejected, err := d.Rejected.List()
	if err != nil {
		return nil, err
	}
	if rejected.Contains(request.Package, request.Suite, request.Arch) {
		return nil, route.Errorf(http.StatusForbidden, "Package %s is in the REJECT list and cannot be retried", request.Package)
	}
	if request.Private != test.Private { // it was published
		request.Private = test.Private
		if test.Document, err = json.Marshal(&request); err != nil {
			return nil, fmt.Errorf("encode a test request: %w", err)
		}
	}
	packed, err := d.Packer.Pack(c.Request.Context(), test.Document)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", door.OutOfReach("the document store"), err)
	}
	return &event.JobSubmitted{
		Family: event.JobFamily_JOB_FAMILY_DEBCI, Queue: debci.Queue(request.Suite, request.Arch), Priority: debci.DefaultPriority,
		Document: packed, Labels: labels(&request), Owner: test.Owner, SealedSubmitter: test.SealedOwner, RetryOf: run,
		Idempotency: s.key,
	}, nil
}

// runID reads a run's number: digits and nothing else.
func runID(text string) (uint64, bool) {
	run, err := strconv.ParseUint(text, 10, 63)
	return run, err == nil && text[0] != '+' && run > 0
}

// publish answers POST /api/v1/test/publish: the caller's own among the named tests are for everybody from now on; others
// and what names no test are passed over.
func (d *Debci) publish(c *gin.Context) {
	s, err := d.read(c)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	runs, err := d.namedRuns(s.form["run_ids"])
	if err == nil && len(runs) > 0 {
		runs, err = d.Private(c.Request.Context(), s.user.Hash, runs)
	}
	switch {
	case err != nil:
		route.Refuse(c, err)
	case len(runs) == 0:
		answer(c, http.StatusOK)
	default:
		d.decide(c, &event.JobsPublished{Seqs: runs}, http.StatusOK)
	}
}

// namedRuns reads numbers of runs that commas separate.
func (d *Debci) namedRuns(text string) ([]uint64, error) {
	var runs []uint64
	for word := range strings.SplitSeq(text, ",") {
		if run, ok := runID(strings.TrimSpace(word)); ok {
			runs = append(runs, run)
		}
	}
	if len(runs) > d.config.MaxTests {
		return nil, bad("Error: more than %d run_ids: send them in several requests", d.config.MaxTests)
	}
	slices.Sort(runs)
	return slices.Compact(runs), nil
}
