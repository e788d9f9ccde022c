package lab

import (
	"context"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/query/native/cursor"
	"github.com/millrace/millrace/schemas/event"
)

// Jobs is the replica of the jobs' fold.
type Jobs interface {
	View(look func(*jobs.State))
}

// Job is a job, as it was submitted and as it is now.
type Job struct {
	ID          string    `json:"id" ch:"-" doc:"job-N, debci-N or testflinger-UUID; a UUID that was submitted several times stands for several jobs"`
	Number      uint64    `json:"number" ch:"seq" doc:"its ordinal among all jobs"`
	Family      string    `json:"family" ch:"family" doc:"the API that it was submitted to: native, debci or testflinger"`
	Queue       string    `json:"queue" ch:"queue"`
	JobID       string    `json:"-" ch:"job_id"`
	Priority    int64     `json:"priority" ch:"priority" doc:"higher goes first"`
	Name        string    `json:"name" ch:"name"`
	Parent      string    `json:"parent" ch:"parent" doc:"the parent's id, as the client gave it"`
	Tags        []string  `json:"tags" ch:"tags"`
	Private     bool      `json:"private" ch:"private" doc:"only callers with a token see it"`
	RetryOf     uint64    `json:"retry_of" ch:"retry_of" doc:"number of the job that this one repeats; 0 when it repeats none"`
	SubmittedAt time.Time `json:"submitted_at" ch:"submitted_at"`
	State       string    `json:"state" ch:"-" doc:"waiting, running, cancelled, complete, …; what a worker reports may be any text"`
	Ended       bool      `json:"ended" ch:"-" doc:"nothing follows"`
	Attempt     uint32    `json:"attempt" ch:"-" doc:"number of hand-outs so far"`
	Worker      string    `json:"worker" ch:"-" doc:"who got the job last, or reported on it"`
	ChangedAt   time.Time `json:"changed_at" ch:"-" doc:"when the newest change was"`
	// EndedAt is when the job ended, if it has: what is reported later does not move it.
	EndedAt time.Time `json:"-" ch:"-"`
	// Status is the member status of its result, as pass or fail; empty where its newest change tells none.
	Status string `json:"-" ch:"-"`
}

// jobState is the newest change of a job.
type jobState struct {
	Number uint64    `ch:"seq"`
	At     time.Time `ch:"at"`
	State  string    `ch:"state"`
	Ended  bool      `ch:"ended"`
	Result string    `ch:"result"`
	Status string    `ch:"status"`
}

// jobWork is who got a job last, or reported on it, how often it was handed out, and when it ended first.
type jobWork struct {
	Number  uint64    `ch:"seq"`
	Worker  string    `ch:"worker"`
	Attempt uint32    `ch:"attempts"`
	EndedAt time.Time `ch:"ended_at"`
}

var (
	jobNumber    = column{"seq", unsigned}
	jobChanged   = column{"at", millis}
	jobSubmitted = column{"submitted_at", millis}
)

// JobOrders are the orders of jobs: by number, which is the order in which they were submitted, as the table is stored; and
// by their newest change, for which the states of all jobs are compared.
func JobOrders() []Order {
	submitted, changed := both("submitted_at", jobNumber), both("changed_at", jobChanged, jobNumber)
	return []Order{submitted[1], submitted[0], changed[1], changed[0]}
}

// JobFilter says which jobs are wanted; a zero field wants all.
type JobFilter struct {
	Queue, Family, Name, Parent string
	// Tags must all be there.
	Tags []string
	// Owner is the hash of who submitted them, in hexadecimal digits.
	Owner         string
	State, Worker string
	Ended         *bool
	// From and To bound the time of submission, or of the newest change when ByChange is set.
	From, To time.Time
	ByChange bool
	// Public wants those that everybody may see.
	Public bool
}

// public is the condition of jobs that everybody may see.
const public = "(NOT private OR seq IN (SELECT seq FROM {db}.job_publications))"

// submission are the conditions on what was submitted, state those on what became of it.
func (f *JobFilter) submission() (w where) {
	equal(&w, "queue", f.Queue)
	equal(&w, "family", f.Family)
	equal(&w, "name", f.Name)
	equal(&w, "parent", f.Parent)
	for _, tag := range f.Tags {
		w.and("has(tags, ?)", tag)
	}
	if f.Owner != "" {
		w.and("owner = unhex(?)", f.Owner)
	}
	if f.Worker != "" {
		w.and("seq IN (SELECT seq FROM {db}.job_changes WHERE asker = ?)", f.Worker)
	}
	if !f.ByChange {
		w.since(jobSubmitted, f.From, f.To)
	}
	if f.Public {
		w.and(public)
	}
	return w
}

func (f *JobFilter) state() (w where) {
	equal(&w, "state", f.State)
	w.is("ended", f.Ended)
	if f.ByChange {
		w.since(jobChanged, f.From, f.To)
	}
	return w
}

// among adds the condition that a job is among those of another table that fit.
func (w *where) among(table string, of where) {
	if len(of.conditions) > 0 {
		w.and("seq IN (SELECT seq FROM {db}."+table+" WHERE "+strings.Join(of.conditions, " AND ")+")", of.values...)
	}
}

// selection selects the keys of jobs, from the table that is stored in the order.
func (f *JobFilter) selection(order Order) selection {
	if order.columns[0] == jobChanged {
		s := selection{columns: []string{"seq", "at"}, from: "{db}.job_states FINAL", where: f.state()}
		s.where.among("jobs", f.submission())
		return s
	}
	s := selection{columns: []string{"seq"}, from: "{db}.jobs", where: f.submission()}
	s.where.among("job_states FINAL", f.state())
	switch {
	case f.Family != "" || f.Name != "" || f.Parent != "" || len(f.Tags) > 0: // the projections have none of these
	case f.Owner != "" && f.Queue == "":
		s.projection = "by_owner"
	case f.Queue != "" && f.Owner == "":
		s.projection = "by_queue"
	}
	return s
}

// jobKey is what a list of jobs is read by.
type jobKey struct {
	Number uint64    `ch:"seq"`
	At     time.Time `ch:"at"`
}

// Jobs reads a page of jobs: first the keys, then the fields (named as in JSON; all when there are none) of those few.
func (v *View) Jobs(ctx context.Context, filter JobFilter, page Page, fields ...string) ([]Job, cursor.Key, error) {
	keys, next, err := list(ctx, v, "jobs", filter.selection(page.Order), page, func(k *jobKey) cursor.Key {
		if len(page.Order.columns) == 1 {
			return cursor.Key{{Number: k.Number}}
		}
		return cursor.Key{{Number: uint64(k.At.UnixMilli())}, {Number: k.Number}}
	})
	if err != nil {
		return nil, nil, err
	}
	numbers := make([]uint64, len(keys))
	for i := range keys {
		numbers[i] = keys[i].Number
	}
	found, err := v.jobs(ctx, numbers, fields...)
	return found, next, err
}

// jobs reads jobs in the order of their numbers' list; those that do not exist are left out.
func (v *View) jobs(ctx context.Context, numbers []uint64, fields ...string) ([]Job, error) {
	columns := columnsOf[Job](fields, "seq", "family", "job_id", "submitted_at", "private")
	rows, err := byID(ctx, v, "jobs", "seq", numbers, func(j *Job) uint64 { return j.Number }, columns)
	if err != nil {
		return nil, err
	}
	states, err := byID(ctx, v, "job_states FINAL", "seq", numbers, func(s *jobState) uint64 { return s.Number },
		[]string{"seq", "at", "state", "ended", "JSONExtractString(result, 'status') AS status"})
	if err != nil {
		return nil, err
	}
	work, err := v.work(ctx, numbers)
	if err != nil {
		return nil, err
	}
	found := make([]Job, 0, len(rows))
	for _, number := range numbers {
		if job, ok := rows[number]; ok {
			state := states[number]
			job.ID = jobs.ID(familyNamed(job.Family), number, job.JobID)
			job.State, job.Ended, job.ChangedAt, job.Status = state.State, state.Ended, state.At, state.Status
			job.Worker, job.Attempt, job.EndedAt = work[number].Worker, work[number].Attempt, work[number].EndedAt
			found = append(found, job)
		}
	}
	return found, v.publish(ctx, found)
}

// work tells who works, or worked, on jobs. A report that comes after a job's end knows nothing of the hand-outs, so that
// they are those of all changes.
func (v *View) work(ctx context.Context, numbers []uint64) (map[uint64]jobWork, error) {
	work := make(map[uint64]jobWork, len(numbers))
	if len(numbers) == 0 {
		return work, nil
	}
	rows, err := scan[jobWork](ctx, v, "who works on jobs", in(v.database, `SELECT seq, argMaxIf(asker, (epoch, offset), asker != '') AS worker,
	max(attempt) AS attempts, minIf(at, ended) AS ended_at
FROM {db}.job_changes
WHERE seq IN (?)
GROUP BY seq`), numbers)
	for _, row := range rows {
		work[row.Number] = row
	}
	return work, err
}

func familyNamed(name string) event.JobFamily {
	for number := range event.JobFamily_name {
		if family := event.JobFamily(number); projection.FamilyName(family) == name {
			return family
		}
	}
	return event.JobFamily_JOB_FAMILY_UNSPECIFIED
}

type publication struct {
	Number uint64 `ch:"seq"`
}

// publish marks jobs that were private once.
func (v *View) publish(ctx context.Context, found []Job) error {
	var private []uint64
	for i := range found {
		if found[i].Private {
			private = append(private, found[i].Number)
		}
	}
	published, err := byID(ctx, v, "job_publications", "seq", private, func(p *publication) uint64 { return p.Number }, []string{"seq"})
	for i := range found {
		if _, ok := published[found[i].Number]; ok {
			found[i].Private = false
		}
	}
	return err
}

// maxNamesakes bounds the jobs with one id that are looked through.
const maxNamesakes = 1000

// Job finds the job that a native id names; nil when there is none. Of several with one id it is the newest that is out,
// else the oldest that waits, else the newest.
func (v *View) Job(ctx context.Context, named jobs.Reference) (*Job, error) {
	numbers := []uint64{named.Ref.GetSeq()}
	if id := named.Ref.GetJobId(); id != "" {
		rows, err := scan[publication](ctx, v, "jobs with an id", in(v.database,
			"SELECT DISTINCT seq\nFROM {db}.jobs\nWHERE job_id = ?\nORDER BY seq DESC\nLIMIT ?"), id, maxNamesakes)
		if err != nil {
			return nil, err
		}
		numbers = numbers[:0]
		for _, row := range rows {
			numbers = append(numbers, row.Number)
		}
	}
	found, err := v.jobs(ctx, numbers)
	if err != nil {
		return nil, err
	}
	return current(found, projection.FamilyName(named.Family)), nil
}

// JobNamed finds the job with a native id, if the reader may see it; nil when there is none. public is for readers who may
// see what everybody may.
func (v *View) JobNamed(ctx context.Context, id string, public bool) (*Job, error) {
	named, ok := jobs.ParseID(id)
	if !ok {
		return nil, nil
	}
	job, err := v.Job(ctx, named)
	if err != nil || job == nil || public && job.Private {
		return nil, err
	}
	return job, nil
}

// current chooses among the jobs of a family with one id, the newest first.
func current(namesakes []Job, family string) (chosen *Job) {
	for i := range namesakes {
		j := &namesakes[i]
		waits := !j.Ended && j.State == jobs.StateWaiting
		switch {
		case j.Family != family:
		case !j.Ended && !waits:
			return j
		case chosen == nil, waits:
			chosen = j
		}
	}
	return chosen
}

// JobDocument reads what was submitted for a job.
func (v *View) JobDocument(ctx context.Context, number uint64) (*event.Document, error) {
	rows, err := scan[storedDocument](ctx, v, "what was submitted for a job", in(v.database,
		"SELECT document, blob, blob_size, encoding, size\nFROM {db}.jobs\nWHERE seq = ?\nLIMIT 1"), number)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	stored := projection.StoredDocument(rows[0])
	return stored.Document(), nil
}

// storedDocument is projection.StoredDocument as a row.
type storedDocument struct {
	Inline   string `ch:"document"`
	Blob     string `ch:"blob"`
	BlobSize uint64 `ch:"blob_size"`
	Encoding uint8  `ch:"encoding"`
	Size     uint64 `ch:"size"`
}

// JobResult reads how a job ended, a JSON object; null when its newest change does not tell.
func (v *View) JobResult(ctx context.Context, number uint64) (jsontext.Value, error) {
	rows, err := scan[jobState](ctx, v, "a job's result", in(v.database,
		"SELECT result\nFROM {db}.job_states FINAL\nWHERE seq = ?"), number)
	if err != nil || len(rows) == 0 {
		return orNull(""), err
	}
	return orNull(rows[0].Result), nil
}

func orNull(object string) jsontext.Value {
	if object == "" {
		return jsontext.Value("null")
	}
	return jsontext.Value(object)
}

// JobChange is a change of a job.
type JobChange struct {
	At      time.Time      `json:"at" ch:"at"`
	EventID string         `json:"event_id" ch:"event_id"`
	Change  string         `json:"change" ch:"change" doc:"submitted, attachments, handed_out, named (who got the job has said its name), released, expired, reported or cancelled"`
	State   string         `json:"state" ch:"state" doc:"as it was afterwards; empty when the change does not speak of it"`
	Attempt uint32         `json:"attempt" ch:"attempt" doc:"number of hand-outs until then"`
	Worker  string         `json:"worker" ch:"asker" doc:"who got the job, or reported"`
	Ended   bool           `json:"ended" ch:"ended"`
	Result  jsontext.Value `json:"result" ch:"-" doc:"how it ended, where the change tells; else null"`
	// Stored is Result as the table has it, Epoch and Offset the change's place in the log.
	Stored string `json:"-" ch:"result"`
	Epoch  uint32 `json:"-" ch:"epoch"`
	Offset int64  `json:"-" ch:"offset"`
}

// JobChangeOrders are the orders of a job's changes: as they happened.
func JobChangeOrders() []Order {
	return both("at", column{"epoch", unsigned}, column{"offset", unsigned})
}

// JobHistory reads a page of a job's changes.
func (v *View) JobHistory(ctx context.Context, number uint64, page Page) ([]JobChange, cursor.Key, error) {
	s := selection{columns: columnsOf[JobChange](nil), from: "{db}.job_changes"}
	s.where.and("seq = ?", number)
	changes, next, err := list(ctx, v, "a job's history", s, page, func(c *JobChange) cursor.Key {
		return cursor.Key{{Number: uint64(c.Epoch)}, {Number: uint64(c.Offset)}}
	})
	for i := range changes {
		changes[i].Result = orNull(changes[i].Stored)
	}
	return changes, next, err
}
