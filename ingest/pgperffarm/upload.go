package pgperffarm

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/processor/access"
	farm "github.com/millrace/millrace/processor/pgperffarm"
	"github.com/millrace/millrace/processor/runs"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// Upload is the one object of an upload document, as far as its members are of one type (contract 6.1). It documents
// the body; package pgperffarm of the processor reads it.
type Upload struct {
	Git              jsontext.Value `json:"git" doc:"remote (an address of git's, without a password), branch and commit"`
	Kernel           jsontext.Value `json:"kernel" doc:"what uname says: uname_s, uname_r, uname_v, uname_m"`
	OSInformation    jsontext.Value `json:"os_information" doc:"distributor, description, release and codename"`
	System           jsontext.Value `json:"system" doc:"cpu.information and memory"`
	SysctlLog        string         `json:"sysctl_log" doc:"a JSON object of kernel parameters, as text"`
	Compiler         string         `json:"compiler" doc:"what SELECT version() says"`
	PostgresSettings string         `json:"postgres_settings" doc:"CSV with the columns name, setting and source"`
	PgCtl            string         `json:"pg_ctl" doc:"the server's log"`
	RunReceivedTime  *string        `json:"run_received_time" doc:"ISO 8601"`
	RunStartTime     string         `json:"run_start_time" doc:"ISO 8601; with the machine it tells runs apart"`
	RunEndTime       *string        `json:"run_end_time" doc:"ISO 8601"`
}

// Refused is the body of a 406.
type Refused struct {
	Error string `json:"error" doc:"what was not accepted, and the limit or the rule"`
	RunID uint64 `json:"run_id,omitzero" doc:"the run that is stored already, where the upload repeats one"`
}

// maxTerms bounds the distinct dictionary values of one upload, so that its event fits a record whatever it shows.
const maxTerms = 16_384

// errTerms is the refusal beyond it.
var errTerms = &farm.DocumentError{
	Member: "the document",
	Reason: "shows more than " + strconv.Itoa(maxTerms) + " different statements, queries and configurations",
}

// upload answers POST /run/upload.
func (f *Farm) upload(c *gin.Context) {
	uploader, _ := route.Principal[access.Uploader](c)
	body := f.bodies.get()
	defer f.bodies.put(body)
	if err := body.read(c); err != nil {
		route.Refuse(c, err)
		return
	}
	key, err := door.Idempotency(c, machineCredential(uploader.Machine), body.bytes, f.config.KeepKeys)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	document, err := f.document(body.bytes)
	if err != nil {
		f.refuseDocument(c, uploader.Machine, body.bytes, err)
		return
	}
	// All of it is here: a sender who leaves now, and never repeats, still finds the run stored.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Request.Context()), f.config.Hold)
	defer cancel()
	request, err := f.request(ctx, uploader.Machine, document, body.bytes)
	if err != nil {
		f.refuseDocument(c, uploader.Machine, body.bytes, err)
		return
	}
	request.Idempotency = key
	outcome, position, err := f.decide(ctx, request)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	f.answer(c, request, body.bytes, outcome, position)
}

// document reads what is uploaded now, which has to fulfil more than what was accepted before.
func (f *Farm) document(body []byte) (*farm.Document, error) {
	document, err := f.systems.Parse(body, f.config.Limits)
	if err != nil {
		return nil, err
	}
	return document, farm.CheckRemote(document.Repository)
}

func machineCredential(id uint64) string { return "machine:" + strconv.FormatUint(id, 10) }

// request makes the event's payload: small, with the document inside, or behind a reference to the blob store.
func (f *Farm) request(ctx context.Context, machine uint64, document *farm.Document, body []byte) (*event.FarmUploadRequested, error) {
	terms := document.Terms()
	if len(terms) > maxTerms {
		return nil, errTerms
	}
	start := document.Start.UnixMicro()
	stored, err := f.stored(ctx, machine, start)
	if err != nil {
		return nil, err
	}
	var packed *event.Document
	err = hold(ctx, always, func() (err error) {
		packed, err = f.Packer.Pack(ctx, body)
		return err
	})
	if err != nil {
		f.Logger.ErrorContext(ctx, "an upload could not be stored", "machine", machine, "bytes", len(body), "error", err)
		return nil, door.OutOfReach("the document store")
	}
	return &event.FarmUploadRequested{
		MachineId: machine, MachineType: document.MachineType, StartTime: start, Document: packed,
		Terms: eventTerms(terms), StoredRunId: stored,
	}, nil
}

// stored looks a natural key up in the projections when the fold may have forgotten it; 0 when no run has it.
func (f *Farm) stored(ctx context.Context, machine uint64, start int64) (run uint64, err error) {
	var through uint64
	f.Runs.View(func(s *runs.State) {
		// What the fold remembers now it may have forgotten by the time that it sees this upload.
		run, through = s.Find(runs.NaturalKey(machine, start)), s.Through(machine, start)
	})
	if through == 0 || run != 0 || f.StoredRun == nil {
		return run, nil
	}
	err = hold(ctx, always, func() (err error) {
		run, err = f.StoredRun(ctx, machine, start, through)
		return err
	})
	if err != nil {
		f.Logger.ErrorContext(ctx, "the stored run of an upload could not be looked up", "machine", machine, "error", err)
		return 0, door.OutOfReach("the store of older runs")
	}
	return run, nil
}

// eventTerms puts terms into their event form with two allocations for all of them.
func eventTerms(terms []farm.Term) []*event.Term {
	values := make([]event.Term, len(terms))
	pointers := make([]*event.Term, len(terms))
	for i := range terms {
		values[i].Kind = event.TermKind(terms[i].Kind)
		values[i].Hash = terms[i].Hash[:]
		pointers[i] = &values[i]
	}
	return pointers
}

// decide appends the upload and gives what the log makes of it. While the log takes no more, or a key that it may have
// forgotten cannot be looked up, the upload is held.
func (f *Farm) decide(ctx context.Context, request *event.FarmUploadRequested) (runs.Outcome, eventlog.Position, error) {
	var outcome runs.Outcome
	var position eventlog.Position
	notAppended := func(err error) bool {
		return errors.Is(err, eventlog.ErrOverloaded) || errors.Is(err, door.ErrKeyNotChecked)
	}
	err := hold(ctx, notAppended, func() (err error) {
		outcome, position, err = door.TryDecide(ctx, f.Log, f.Runs, source, request)
		return err
	})
	return outcome, position, door.Refusal(err)
}

func always(error) bool { return true }

// holdPause is the time between two attempts for an upload that is held.
const holdPause = 100 * time.Millisecond

// hold repeats an attempt that failed for want of an engine until the time is over, and gives its last error then.
func hold(ctx context.Context, again func(error) bool, attempt func() error) error {
	for {
		err := attempt()
		if err == nil || !again(err) {
			return err
		}
		timer := time.NewTimer(holdPause)
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		}
		if ctx.Err() != nil {
			return err
		}
	}
}

// answer puts the log's outcome on the wire.
func (f *Farm) answer(c *gin.Context, request *event.FarmUploadRequested, body []byte, outcome runs.Outcome, position eventlog.Position) {
	if outcome.Result == runs.Accepted {
		door.SetPosition(c, position)
		c.Header("Location", "/run/"+strconv.FormatUint(outcome.Run, 10))
		c.Status(http.StatusCreated)
		c.Writer.WriteHeaderNow()
		return
	}
	status, refused := refusalOf(request, outcome)
	if !outcome.Repeated {
		position = position.Merge(f.refusals.record(c.Request.Context(), request.GetMachineId(), status, refused.Error, body))
	}
	door.SetPosition(c, position)
	c.AbortWithStatusJSON(status, refused)
}

// refusalOf words an outcome that is no acceptance.
func refusalOf(request *event.FarmUploadRequested, outcome runs.Outcome) (int, Refused) {
	switch outcome.Result {
	case runs.Duplicate:
		start := time.UnixMicro(request.GetStartTime()).UTC().Format(time.RFC3339Nano)
		return http.StatusNotAcceptable, Refused{
			Error: "run_start_time: run " + strconv.FormatUint(outcome.Run, 10) + " of this machine, stored before, began at " + start + " too",
			RunID: outcome.Run,
		}
	case runs.OtherType:
		return http.StatusNotAcceptable, Refused{
			Error: "kernel.uname_m: is " + strconv.Quote(request.GetMachineType()) + ", but this machine's first run fixed its type as " +
				strconv.Quote(outcome.Type) + "; register another machine",
		}
	case runs.DictionaryFull:
		return http.StatusNotAcceptable, Refused{
			Error: "the document: shows statements, queries or configurations that no upload has shown before, and the limit " +
				"of different ones that this farm keeps is reached; the operator can say more",
		}
	case runs.KeyReused:
		return http.StatusUnprocessableEntity, Refused{Error: door.KeyReused().Message}
	}
	return http.StatusNotAcceptable, Refused{Error: "the log did not take the upload; report this to the operator"}
}

// refuseDocument answers what is wrong with a body: 400 when it is no upload at all, 406 when the document is.
func (f *Farm) refuseDocument(c *gin.Context, machine uint64, body []byte, err error) {
	var format *farm.FormatError
	var invalid *farm.DocumentError
	switch {
	case errors.As(err, &format):
		route.Refuse(c, route.Errorf(http.StatusBadRequest, "%s", format))
	case errors.As(err, &invalid):
		reason := invalid.Error()
		door.SetPosition(c, f.refusals.record(c.Request.Context(), machine, http.StatusNotAcceptable, reason, body))
		c.AbortWithStatusJSON(http.StatusNotAcceptable, Refused{Error: reason})
	default:
		route.Refuse(c, err)
	}
}

// peekLimit is how much of an upload is read whose sender is not let in, in bytes.
const peekLimit = 1 << 20

// peekPatience is how long who is not let in may take to send it.
const peekPatience = 5 * time.Second

// RefusedUpload is access.FarmConfig.Refused: upstream looks at the JSON before the secret (contract 5.4.1), and every
// refusal after that is in the run log.
func (f *Farm) RefusedUpload(c *gin.Context, machine uint64, refusal *route.Error) error {
	control := http.NewResponseController(c.Writer)
	_ = control.SetReadDeadline(time.Now().Add(peekPatience))
	body, whole := peek(c.Request, peekLimit)
	if whole {
		_ = control.SetReadDeadline(time.Time{}) // it would end the request's context too
		_, err := farm.Parse(body, f.config.Limits)
		var format *farm.FormatError
		if errors.As(err, &format) {
			return route.Errorf(http.StatusBadRequest, "%s", format)
		}
	}
	door.SetPosition(c, f.refusals.record(c.Request.Context(), machine, refusal.Status, refusal.Message, body))
	return refusal
}
