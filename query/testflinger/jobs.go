package testflinger

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/query/native/lab"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// find gives the job with an id; nil when there is none. Of several it is the one that is live, else the newest.
func (r *reading) find(id string) (*lab.Job, error) {
	return r.Reader.At(r.generation).Job(r.ctx, jobs.Reference{Family: event.JobFamily_JOB_FAMILY_TESTFLINGER, Ref: named(id)})
}

func named(id string) *event.JobRef { return &event.JobRef{Name: &event.JobRef_JobId{JobId: id}} }

// errNoJob means that there is no job.
var errNoJob = errors.New("there is no such job")

// job answers GET /v1/job/{id}: what was submitted.
func (t *Testflinger) job(c *gin.Context) {
	id, err := jobID(c)
	var body []byte
	if err == nil {
		err = t.read(c, func(r *reading) (err error) {
			body, err = r.submission(id)
			return err
		}, eventlog.Jobs)
	}
	switch {
	case errors.Is(err, errNoJob):
		nothing(c)
	case err != nil:
		route.Refuse(c, err)
	default:
		c.Data(http.StatusOK, "application/json", body)
	}
}

// submission gives what was submitted, with the members that the generation always has.
func (r *reading) submission(id string) ([]byte, error) {
	job, err := r.find(id)
	if err != nil {
		return nil, err
	}
	if job == nil {
		return nil, errNoJob
	}
	document, err := r.Reader.At(r.generation).JobDocument(r.ctx, job.Number)
	if err != nil {
		return nil, err
	}
	body, err := r.Packer.Unpack(r.ctx, document)
	if err != nil || r.Generation == testflinger.Seed {
		return body, err
	}
	members := map[string]jsontext.Value{}
	if err := json.Unmarshal(body, &members); err != nil {
		return nil, fmt.Errorf("read what was submitted for job %d: %w", job.Number, err)
	}
	if _, given := members["exclude_agents"]; given {
		return body, nil
	}
	members["exclude_agents"] = jsontext.Value("[]")
	return json.Marshal(members, json.Deterministic(true))
}

// position answers GET /v1/job/{id}/position, by the fold: how many go before the job.
func (t *Testflinger) position(c *gin.Context) {
	id, err := jobID(c)
	if err == nil {
		err = t.Jobs.CatchUp(c.Request.Context())
	}
	if err != nil {
		route.Refuse(c, outOfReach(err))
		return
	}
	var ahead int
	var waits bool
	t.Jobs.View(func(s *jobs.State) { ahead, waits = s.Ahead(named(id)) })
	if !waits {
		access.TestflingerText(c, http.StatusGone, "Job not found or already started")
		return
	}
	access.TestflingerText(c, http.StatusOK, strconv.Itoa(ahead))
}

// outOfReach is the answer when a replica cannot learn what is in the log.
func outOfReach(err error) error {
	if refusal := (*route.Error)(nil); errors.As(err, &refusal) {
		return err
	}
	return fmt.Errorf("%w: %w", route.Busy(time.Second, "the log does not answer; try again"), err)
}

// foundJob is a job in a list.
type foundJob struct {
	ID      string `json:"job_id"`
	Created string `json:"created_at"`
	State   string `json:"job_state"`
	Queue   string `json:"job_queue,omitzero"`
}

// active stands for every state of a job that has not ended, in a search (5).
const active = "active"

func searchStates() []string {
	return []string{"setup", "provision", "firmware_update", "test", "allocate", "allocated", "reserve", "cleanup", testflinger.StateCancelled, testflinger.StateCompleted, active}
}

// search is what a search asks for.
type search struct {
	Tags   []string
	All    bool
	States []string
}

// maxSearch bounds the tags, and the states, of a search.
const maxSearch = 100

func readSearch(c *gin.Context) (search, testflinger.Faults) {
	s, faults := search{Tags: c.QueryArray("tags"), States: c.QueryArray("state")}, testflinger.Faults{}
	for _, match := range c.QueryArray("match") {
		if s.All = match == "all"; !s.All && match != "any" {
			faults["match"] = []string{"Must be one of: any, all."}
		}
	}
	states := testflinger.Faults{}
	for i, state := range s.States {
		if !slices.Contains(searchStates(), state) {
			states[strconv.Itoa(i)] = []string{"Must be one of: " + strings.Join(searchStates(), ", ") + "."}
		}
	}
	if len(states) > 0 {
		faults["state"] = states
	}
	for name, values := range map[string][]string{"tags": s.Tags, "state": s.States} {
		if len(values) > maxSearch {
			faults[name] = []string{fmt.Sprintf("Longer than maximum length %d.", maxSearch)}
		}
	}
	return s, faults
}

// condition is a part of a query with its values.
type condition struct {
	text   string
	values []any
}

// conditions are those of a search on what was submitted, and on a job's state.
func (s *search) conditions() (submitted, state condition) {
	submitted.text = "family = 'testflinger'"
	if len(s.Tags) > 0 {
		submitted = condition{"family = 'testflinger' AND hasAny(tags, ?)", []any{s.Tags}}
		if s.All {
			submitted.text = "family = 'testflinger' AND hasAll(tags, ?)"
		}
	}
	switch {
	case slices.Contains(s.States, active):
		state = condition{" AND state NOT IN (?)", []any{ended()}}
	case slices.Contains(s.States, testflinger.StateCompleted):
		state = condition{" AND state IN (?)", []any{append(slices.Clone(s.States), testflinger.StateComplete)}}
	case len(s.States) > 0:
		state = condition{" AND state IN (?)", []any{s.States}}
	}
	return submitted, state
}

func ended() []string {
	return []string{testflinger.StateComplete, testflinger.StateCompleted, testflinger.StateCancelled}
}

// search answers GET /v1/job/search.
func (t *Testflinger) search(c *gin.Context) {
	s, faults := readSearch(c)
	if len(faults) > 0 {
		validation(c, faults)
		return
	}
	submitted, state := s.conditions()
	t.list(c, submitted, state, false)
}

// queueJobs answers GET /v1/queues/{queue}/jobs.
func (t *Testflinger) queueJobs(c *gin.Context) {
	t.list(c, condition{"queue = ?", []any{testflinger.Queue(c.Param(queueParam))}}, condition{}, true)
}

// foundJobs selects the jobs of a list, oldest first.
const foundJobs = ` FROM (SELECT seq, job_id, submitted_at, queue FROM {db}.jobs WHERE %s LIMIT 1 BY seq) AS j
	INNER JOIN (SELECT seq, state FROM {db}.job_states FINAL WHERE seq IN (SELECT seq FROM {db}.jobs WHERE %s)%s) AS s ON s.seq = j.seq`

// kept leaves out jobs that ended long ago: clients know them as gone (5), and ask for lists whole, which would grow until
// they were refused.
const kept = " AND (NOT ended OR at >= fromUnixTimestamp64Milli(toInt64(?), 'UTC'))"

// list answers with the jobs that fit some conditions. With ofQueue each has its queue, and no job is no data.
func (t *Testflinger) list(c *gin.Context, submitted, state condition, ofQueue bool) {
	from := fmt.Sprintf(foundJobs, submitted.text, submitted.text, kept+state.text)
	since := t.Now().Add(-testflinger.RememberedFor).UnixMilli()
	parameters := slices.Concat(submitted.values, submitted.values, []any{since}, state.values)
	err := t.read(c, func(r *reading) error {
		var count uint64
		err := r.query("SELECT count()"+from, func(rows driver.Rows) error { return rows.Scan(&count) }, parameters...)
		switch {
		case err != nil:
			return err
		case count > uint64(t.MaxRows):
			return route.Busy(retryTooLarge, "%d jobs fit, and an answer has at most %d: ask for fewer, by tags, state or queue, or page by page at /millrace/v1/jobs", count, t.MaxRows)
		case count == 0 && ofQueue:
			nothing(c)
			return nil
		}
		out := newArray(c)
		err = r.query("SELECT j.job_id, j.submitted_at, s.state, j.queue"+from+" ORDER BY j.seq", func(rows driver.Rows) error {
			var found foundJob
			var at time.Time
			if err := rows.Scan(&found.ID, &at, &found.State, &found.Queue); err != nil {
				return err
			}
			found.Created = testflinger.FormatTime(at)
			if found.Queue, _ = testflinger.QueueName(found.Queue); !ofQueue {
				found.Queue = ""
			}
			return out.add(&found)
		}, parameters...)
		return out.end(err)
	}, eventlog.Jobs)
	if err != nil {
		route.Refuse(c, err)
	}
}
