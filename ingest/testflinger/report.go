package testflinger

import (
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// report answers POST /v1/result/{job_id} (4, 5).
func (t *Testflinger) report(c *gin.Context) {
	id, err := jobID(c)
	if err == nil {
		err = t.reported(c, id)
	}
	if err != nil {
		refuse(c, err)
		return
	}
	done(c)
}

func (t *Testflinger) reported(c *gin.Context, id string) error {
	result, err := read(c, of(t, testflinger.ReadResult))
	if err != nil {
		return err
	}
	job, lives, err := t.live(c.Request.Context(), id)
	if err != nil {
		return err
	}
	ref := byID(id)
	if !lives {
		seq, err := t.Find(c.Request.Context(), id)
		if err != nil || seq == 0 {
			return err // of a job that never was, nothing is kept (2)
		}
		ref = bySeq(seq)
	}
	position, err := t.keepResult(c, id, result)
	if err != nil || result.State == nil {
		return err
	}
	reporter := agentOf(c)
	fromAsker := t.latest() && reporter != "" // the older generation's agents do not say who they are when they ask
	if reporter == "" {
		reporter = job.Asker
	}
	return t.reportState(c, id, &event.JobStateReported{
		Job: ref, State: *result.State, Final: testflinger.Ended(*result.State), Reporter: reporter, FromAsker: fromAsker,
	}, position)
}

// keepResult appends what a result says beside the state. It goes first: who sees that a job has ended sees how.
func (t *Testflinger) keepResult(c *gin.Context, id string, result *testflinger.Result) (eventlog.Position, error) {
	if len(result.Members) == 0 {
		return eventlog.Position{}, nil
	}
	text, err := result.Document()
	if err != nil {
		return eventlog.Position{}, err
	}
	packed, err := t.pack(c.Request.Context(), text)
	if err != nil {
		return eventlog.Position{}, err
	}
	return t.record(c, eventlog.Results, id, &event.TestflingerResultPosted{JobId: id, Document: packed, Members: result.Members})
}

// reportState appends a state. A job that has ended meanwhile is named by its number: the state is kept all the same (5).
func (t *Testflinger) reportState(c *gin.Context, id string, m *event.JobStateReported, before eventlog.Position) error {
	ctx := c.Request.Context()
	outcome, position, err := door.Decide(ctx, t.Log, t.Jobs, source, m)
	if err == nil && outcome.Result == jobs.NotFound {
		seq, findErr := t.Find(ctx, id)
		if findErr != nil || seq == 0 {
			return findErr
		}
		m.Job = bySeq(seq)
		_, position, err = door.Decide(ctx, t.Log, t.Jobs, source, m)
	}
	if err == nil {
		door.SetPosition(c, before.Merge(position))
	}
	return err
}

// append answers POST /v1/result/{job_id}/output and …/serial_output (2).
func (t *Testflinger) append(kind event.JobOutputKind) gin.HandlerFunc {
	return func(c *gin.Context) {
		id, err := jobID(c)
		if err == nil {
			var text []byte
			if _, text, err = body(c); err == nil {
				err = t.appended(c, &event.JobOutputAppended{JobId: id, Kind: kind}, text)
			}
		}
		if err != nil {
			refuse(c, err)
			return
		}
		done(c)
	}
}

func (t *Testflinger) appended(c *gin.Context, piece *event.JobOutputAppended, text []byte) error {
	if !utf8.Valid(text) {
		return bad(http.StatusBadRequest, "output must be UTF-8")
	}
	var err error
	if piece.Document, err = t.pack(c.Request.Context(), text); err != nil {
		return err
	}
	_, err = t.record(c, eventlog.JobOutput, piece.GetJobId(), piece)
	return err
}

// logKinds are the types of logs in paths (Latest).
var logKinds = map[string]event.JobOutputKind{
	"output": event.JobOutputKind_JOB_OUTPUT_KIND_OUTPUT, "serial": event.JobOutputKind_JOB_OUTPUT_KIND_SERIAL,
}

// appendFragment answers POST /v1/result/{job_id}/log/{log_type} (2, Latest).
func (t *Testflinger) appendFragment(c *gin.Context) {
	if err := t.fragmentAppended(c); err != nil {
		refuse(c, err)
		return
	}
	done(c)
}

func (t *Testflinger) fragmentAppended(c *gin.Context) error {
	id, err := jobID(c)
	if err != nil {
		return err
	}
	kind, known := logKinds[c.Param(logParam)]
	if !known {
		return bad(http.StatusBadRequest, "Invalid log type specified: want output or serial")
	}
	fragment, err := read(c, testflinger.ReadFragment)
	if err != nil {
		return err
	}
	at := fragment.Time.UnixMilli()
	return t.appended(c, &event.JobOutputAppended{
		JobId: id, Kind: kind, Phase: fragment.Phase, Fragment: &fragment.Number, FragmentTime: &at,
	}, []byte(fragment.Text))
}

// take answers GET /v1/result/{job_id}/output and …/serial_output: what nobody was given before (2). HEAD takes nothing.
func (t *Testflinger) take(kind event.JobOutputKind) gin.HandlerFunc {
	return func(c *gin.Context) {
		id := c.Param(jobParam)
		if !testflinger.IsJobID(id) {
			say(c, http.StatusBadRequest, testflinger.InvalidJobID)
			return
		}
		switch text, err := t.taken(c, id, kind); {
		case err != nil:
			refuse(c, err)
		case text == nil:
			nothing(c)
		default:
			say(c, http.StatusOK, *text)
		}
	}
}

// taken asks for the pieces that come next, until the log says that they are this asker's or there are none.
func (t *Testflinger) taken(c *gin.Context, id string, kind event.JobOutputKind) (*string, error) {
	ctx := c.Request.Context()
	for {
		after, known := t.takenTo(id, kind)
		pieces, err := t.Pieces(ctx, id, kind, after, known, t.config.MaxBody)
		if err != nil || len(pieces.Documents) == 0 {
			return nil, err
		}
		text, err := t.join(c, pieces)
		if err != nil || c.Request.Method == http.MethodHead {
			return text, err
		}
		if err := t.Jobs.CatchUp(ctx); err != nil { // so that nothing is appended for what another replica gave out
			return nil, door.Refusal(err)
		}
		if newer, now := t.takenTo(id, kind); now && newer != pieces.After {
			continue
		}
		outcome, err := t.decideJob(c, &event.JobOutputTakeRequested{JobId: id, Kind: kind, After: pieces.After, Through: pieces.Through})
		if err != nil || outcome.Result == jobs.Done {
			return text, err
		}
	}
}

// takenTo is how far output was given out, as this replica knows.
func (t *Testflinger) takenTo(id string, kind event.JobOutputKind) (place uint64, known bool) {
	t.Jobs.View(func(s *jobs.State) { place, known = s.TakenOutput(id, kind) })
	return place, known
}

func (t *Testflinger) join(c *gin.Context, pieces *Pieces) (*string, error) {
	texts := make([]string, 0, len(pieces.Documents))
	for _, d := range pieces.Documents {
		text, err := t.Packer.Unpack(c.Request.Context(), d)
		if err != nil {
			return nil, err
		}
		texts = append(texts, string(text))
	}
	joined := strings.Join(texts, "\n")
	return &joined, nil
}

// agentNamed finds an agent that is known.
func (t *Testflinger) agentNamed(c *gin.Context, name string) (bool, error) {
	agents, err := t.Agents(c.Request.Context())
	_, known := agents[name]
	return known, err
}

// served says whether an agent serves a queue.
func (t *Testflinger) served(c *gin.Context, queue string) (bool, error) {
	agents, err := t.Agents(c.Request.Context())
	for _, queues := range agents {
		if slices.Contains(queues, queue) {
			return true, nil
		}
	}
	return false, err
}
