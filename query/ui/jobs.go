package ui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/debci"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/query/download"
	"github.com/millrace/millrace/query/native/artifacts"
	"github.com/millrace/millrace/query/native/cursor"
	"github.com/millrace/millrace/query/native/fresh"
	"github.com/millrace/millrace/query/native/lab"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// seen is what of the visitor a page depends on.
func seen(public bool) string {
	if public {
		return " public"
	}
	return " with a token"
}

func jobsParams() []route.Param {
	return []route.Param{
		{Name: "queue", MaxLength: 1000, Description: "Those of a queue."},
		{Name: "family", Enum: []string{"native", "debci", "testflinger"}, Description: "Those that were submitted to an API."},
		{Name: "state", MaxLength: 1000, Description: "Those in a state."},
		{Name: "before", Type: route.Integer, Min: 1, Max: 1 << 53, Description: "The page behind the job with this number."},
	}
}

// jobsData is what a list of jobs shows.
type jobsData struct {
	Queue, State string
	Families     []option
	Jobs         []lab.Job
	Before       int64
	Newest       string
	Older        string
}

func (u *UI) jobs(c *gin.Context) (sight, error) {
	var filter lab.JobFilter
	for name, field := range map[string]*string{"queue": &filter.Queue, "family": &filter.Family, "state": &filter.State} {
		text, err := route.Text(c, name)
		if err != nil {
			return sight{}, err
		}
		*field = text
	}
	before, err := route.Int(c, "before")
	if err != nil {
		return sight{}, err
	}
	filter.Public = !access.HasToken(c)
	return sight{
		scope: fresh.Scope{Topics: toJobs}, template: "jobs", tab: "jobs", seen: seen(filter.Public),
		read: func(ctx context.Context, v *lab.View) (string, any, error) {
			data, err := readJobs(ctx, v, filter, before)
			return "Jobs", data, err
		},
	}, nil
}

func readJobs(ctx context.Context, v *lab.View, filter lab.JobFilter, before int64) (*jobsData, error) {
	page := lab.Page{Order: lab.JobOrders()[0], Limit: jobsShown}
	if before != 0 {
		page.After = cursor.Key{{Number: uint64(before)}}
	}
	found, next, err := v.Jobs(ctx, filter, page)
	if err != nil {
		return nil, err
	}
	d := &jobsData{Queue: filter.Queue, State: filter.State, Jobs: found, Before: before}
	d.Families = []option{{"", "every API", filter.Family == ""}}
	for _, family := range []string{"native", "debci", "testflinger"} {
		d.Families = append(d.Families, option{family, family, filter.Family == family})
	}
	d.Newest = link("/ui/jobs", "queue", filter.Queue, "family", filter.Family, "state", filter.State)
	if next != nil {
		d.Older = link("/ui/jobs", "queue", filter.Queue, "family", filter.Family, "state", filter.State, "before", next[0].Number)
	}
	return d, nil
}

const (
	// historyShown bounds the changes of a job on its page, logShown the bytes of a log, and piecesShown its pieces.
	historyShown = 200
	logShown     = 64 << 10
	piecesShown  = 500
	// filesShown bounds the files of a job on its page.
	filesShown = 200
)

// jobData is what a job's page shows.
type jobData struct {
	lab.Job

	Verdict verdict
	Public  bool
	// Files are those that the job left, and MoreFiles how many there are besides.
	Files     []jobFile
	MoreFiles int
	// Payload and Result are indented JSON; empty where there is none.
	Payload, Result string
	Phases          []phase
	History         []lab.JobChange
	MoreHistory     bool
	Logs            []jobLog
}

// jobFile is a file that a job left.
type jobFile struct {
	artifacts.Artifact

	// Href is where it is downloaded, by who may.
	Href string
}

// phase is a phase of a job of Testflinger's.
type phase struct {
	Name string
	// Status is the exit status; empty where none was reported.
	Status string
	// Now says that the job is in this phase.
	Now bool
}

// jobLog is the end of a part of a job's output.
type jobLog struct {
	ID, Title, Text string
	// Cut says that there is more than shown.
	Cut bool
}

func (u *UI) job(c *gin.Context) (sight, error) {
	id, err := route.Text(c, "id")
	if err != nil {
		return sight{}, err
	}
	public := !access.HasToken(c)
	return sight{
		scope: fresh.Scope{Topics: []string{eventlog.Jobs, eventlog.Results, eventlog.JobOutput}}, template: "job", tab: "jobs", seen: seen(public),
		read: func(ctx context.Context, v *lab.View) (string, any, error) {
			data, err := u.readJob(ctx, v, id, public)
			if err != nil {
				return "", nil, err
			}
			return data.ID, data, nil
		},
	}, nil
}

func (u *UI) readJob(ctx context.Context, v *lab.View, id string, public bool) (*jobData, error) {
	job, err := v.JobNamed(ctx, id, public)
	if err != nil {
		return nil, err
	}
	if job == nil {
		return nil, route.Errorf(http.StatusNotFound, "there is no job %q", clip(id, titleShown))
	}
	d := &jobData{Job: *job, Verdict: verdictOf(job), Public: public}
	history, next, err := v.JobHistory(ctx, job.Number, lab.Page{Order: lab.JobChangeOrders()[0], Limit: historyShown})
	if err != nil {
		return nil, err
	}
	d.History, d.MoreHistory = history, next != nil
	if err := u.addFiles(ctx, v, d); err != nil {
		return nil, err
	}
	if !public {
		if err := u.addPayload(ctx, v, d); err != nil {
			return nil, err
		}
	}
	if job.JobID == "" {
		result, err := v.JobResult(ctx, job.Number)
		d.Result = indented(result)
		return d, err
	}
	return d, u.addPosted(ctx, v, d)
}

func (u *UI) addFiles(ctx context.Context, v *lab.View, d *jobData) error {
	files, _, err := artifacts.Newest(ctx, u.Artifacts.DB, v.Generation, d.ID, "")
	shown := files[:min(len(files), filesShown)]
	for i := range shown {
		d.Files = append(d.Files, jobFile{shown[i], "/ui/jobs/" + url.PathEscape(d.ID) + "/artifacts/" + url.PathEscape(shown[i].Name)})
	}
	d.MoreFiles = len(files) - len(shown)
	return err
}

// artifactRoute gives browsers, whose token is in the cookie, the files that jobs left.
func (u *UI) artifactRoute() route.Route {
	return route.Route{
		Method: http.MethodGet, Path: "/ui/jobs/:id/artifacts/:name", Side: route.Query, API: API, Access: route.TokenViewer,
		Summary: "Download a file that a job left", Timeout: download.Timeout, Streams: true, Handler: u.Artifacts.Get,
		Params: []route.Param{{Name: "id", Description: "The job's id."}, {Name: "name", Description: "The file's name."}},
		Answers: []route.Answer{
			{Status: 200, Body: "", ContentType: "application/octet-stream", Description: "The file."},
			{Status: 401, Body: "", ContentType: "text/html", Description: "No token: a form to sign in."},
			{Status: 404, Body: "", ContentType: "text/html", Description: "There is no such file, or it has expired."},
			{Status: 503, Body: "", ContentType: "text/html", Description: "An engine is out of reach."},
		},
	}
}

func (u *UI) addPayload(ctx context.Context, v *lab.View, d *jobData) error {
	document, err := v.JobDocument(ctx, d.Number)
	if err != nil || document == nil {
		return err
	}
	payload, err := u.Packer.Unpack(ctx, document)
	d.Payload = indented(payload)
	return err
}

// documentShown bounds the bytes of JSON on a page, indentedShown those that indenting makes of them: it makes up to a hundred
// of one, so that more would be a page that no process could hold.
const documentShown, indentedShown = 64 << 10, 256 << 10

// indented gives JSON as people read it, of a long one the beginning, a deep one as it stands; "" for null.
func indented(value jsontext.Value) string {
	if len(value) > documentShown {
		return fmt.Sprintf("%s…\n\nThese are the first %s of %s bytes.", strings.ToValidUTF8(string(value[:documentShown]), ""),
			grouped(strconv.Itoa(documentShown)), grouped(strconv.Itoa(len(value))))
	}
	text := jsontext.Value(bytes.Clone(value))
	if err := text.Indent(); err != nil || string(text) == "null" {
		return ""
	}
	if len(text) > indentedShown {
		return string(value)
	}
	return string(text)
}

// addPosted adds the phases of a job of Testflinger's, the rest of its result, and its logs.
func (u *UI) addPosted(ctx context.Context, v *lab.View, d *jobData) error {
	posted, err := v.Posted(ctx, u.Packer, d.JobID)
	if large, is := errors.AsType[*lab.TooLarge](err); is { // the rest of the page stays useful
		d.Result, err = large.Error(), nil
	}
	if err != nil {
		return err
	}
	d.addPhases(posted)
	if err := u.addLogs(ctx, v, d); err != nil {
		return err
	}
	d.addPostedLogs(posted)
	if len(posted) == 0 {
		return nil
	}
	rest, err := json.Marshal(posted, json.Deterministic(true))
	d.Result = indented(rest)
	return err
}

// addPhases takes the phases' statuses out of a result, in the form of either generation.
func (d *jobData) addPhases(posted map[string]jsontext.Value) {
	status := map[string]jsontext.Value{}
	if json.Unmarshal(posted["status"], &status) == nil { // else it is shown as it is
		delete(posted, "status")
	}
	for _, name := range testflinger.Phases() {
		if flat := posted[name+"_status"]; flat != nil {
			status[name] = flat
		}
		delete(posted, name+"_status")
		p := phase{Name: name, Status: clip(string(status[name]), textShown), Now: !d.Ended && d.State == name}
		d.Phases = append(d.Phases, p)
		if d.Ended && d.Verdict.Style == good && p.Status != "" && p.Status != "0" {
			d.Verdict.Text, d.Verdict.Style = phaseName(name)+" failed", bad
		}
	}
}

// addLogs adds the ends of what was sent piece by piece.
func (u *UI) addLogs(ctx context.Context, v *lab.View, d *jobData) error {
	parts, err := v.OutputParts(ctx, d.JobID)
	if err != nil {
		return err
	}
	for _, part := range parts {
		pieces, err := v.OutputTail(ctx, d.JobID, part, piecesShown)
		if err != nil {
			return err
		}
		var text strings.Builder
		first := len(pieces)
		for size := uint64(0); first > 0 && size < logShown; first-- {
			size += pieces[first-1].Size
		}
		for i := range pieces[first:] {
			piece, err := u.Packer.Unpack(ctx, pieces[first+i].Document())
			if err != nil {
				return err
			}
			_, _ = text.Write(piece)
			if part.Phase == "" { // pieces without a number are joined by a newline
				_ = text.WriteByte('\n')
			}
		}
		d.Logs = append(d.Logs, logOf(part.Kind, part.Phase, text.String(), first > 0 || len(pieces) == piecesShown))
	}
	return nil
}

// logOf cuts a log to its end.
func logOf(kind, phase, text string, cut bool) jobLog {
	if len(text) > logShown {
		text, cut = text[len(text)-logShown:], true
	}
	title := map[string]string{"output": "Output", "serial": "Serial console"}[kind]
	if phase != "" {
		title += ", " + phaseName(phase)
	}
	return jobLog{ID: "log-" + kind + "-" + phase, Title: title, Text: strings.ToValidUTF8(text, "\ufffd"), Cut: cut}
}

// addPostedLogs takes the logs out of a result that came with it as a whole.
func (d *jobData) addPostedLogs(posted map[string]jsontext.Value) {
	for _, name := range testflinger.Phases() {
		for _, log := range []struct{ kind, suffix string }{{"output", "_output"}, {"serial", "_serial"}} {
			var text string
			value := posted[name+log.suffix]
			if value == nil || json.Unmarshal(value, &text) != nil {
				continue
			}
			delete(posted, name+log.suffix)
			if text != "" {
				d.Logs = append(d.Logs, logOf(log.kind, name, text, false))
			}
		}
	}
}

// good and bad are the styles of what went well, and did not.
const good, bad = "good", "bad"

// verdict is how a job stands: its state, or how it ended where it was done and yet did not pass.
type verdict struct{ Text, State, Style string }

func verdictOf(j *lab.Job) verdict {
	v := verdict{Text: j.State, State: j.State, Style: good}
	switch {
	case !j.Ended && j.State == testflinger.StateWaiting:
		v.Style = ""
	case !j.Ended:
	case j.State != testflinger.StateComplete && j.State != testflinger.StateCompleted:
		v.Style = bad
	case j.Status == debci.Neutral:
		v.Text, v.Style = j.Status, ""
	case j.Status != "" && j.Status != debci.Pass:
		v.Text, v.Style = j.Status, bad
	}
	return v
}

// change words are what happened, for people.
func changeTitle(change string, attempt uint32) string {
	words := map[string]string{
		"submitted": "submitted", "attachments": "attachments came", "handed_out": "handed out", "named": "taken up", "released": "given back: its asker had gone",
		"expired": "given back: nothing was heard of it", "reported": "reported", "cancelled": "cancelled",
	}
	if change == "handed_out" && attempt > 1 {
		return "handed out, time " + strconv.FormatUint(uint64(attempt), 10)
	}
	if title := words[change]; title != "" {
		return title
	}
	return change
}
