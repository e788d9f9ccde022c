package native

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/query/cache"
	"github.com/millrace/millrace/query/native/fresh"
	"github.com/millrace/millrace/query/native/lab"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// Output is touched.Index over topic job_output, by the jobs' own ids.
type Output interface {
	Watermark(ctx context.Context, job string, ends map[eventlog.Partition]int64) (mark string, ok bool)
	Moved(ctx context.Context, job, mark string) error
}

// OutputPage is a part of a job's output.
type OutputPage struct {
	Items    []OutputPiece `json:"items"`
	Next     string        `json:"next" doc:"to be sent as after, for what follows"`
	Ended    bool          `json:"ended" doc:"the job has ended"`
	Position string        `json:"position" doc:"position of the log that the answer contains; empty for an eventual read"`
}

// OutputPiece is a piece of a job's output.
type OutputPiece struct {
	At       time.Time  `json:"at" doc:"when the log took it"`
	Phase    string     `json:"phase" doc:"empty where the worker did not say"`
	Fragment *int64     `json:"fragment" doc:"the worker's number of the piece; null where it did not say"`
	SentAt   *time.Time `json:"sent_at" doc:"by the worker's clock; null where it did not say"`
	Text     string     `json:"text"`
}

// noOutput begins an answer without a piece.
const noOutput = `{"items":[]`

// maxOutput bounds the text on a page in bytes; one piece is always given.
const maxOutput = 4 << 20

var toOutput = []string{eventlog.Jobs, eventlog.JobOutput}

func (n *Native) outputRoute() route.Route {
	params := append([]route.Param{
		jobParam(),
		{Name: "kind", Enum: lab.OutputKinds(), Default: lab.OutputKinds()[0], Description: "Output of commands, or of the serial console."},
		{Name: "after", MaxLength: 20, Description: "Continue behind an answer: its member next."},
		{Name: "limit", Type: route.Integer, Min: 1, Max: maxLimit, Default: "100", Description: "Number of pieces in an answer; it is shorter when they are long."},
		waitParam("the next piece"),
	}, consistencyParams()...)
	return route.Route{
		Method: http.MethodGet, Path: prefix + "/jobs/:id/output", Side: route.Query, API: API, Access: route.LoopbackOrViewer,
		Summary: "Show a job's output, any number of times, or wait for more", Params: params,
		Answers: answers(route.LoopbackOrViewer, OutputPage{}, noSuchJob), Timeout: n.MaxWait + 30*time.Second, Waits: true,
		Handler: func(c *gin.Context) {
			if err := n.output(c, params); err != nil {
				route.Refuse(c, err)
			}
		},
	}
}

// outputQuery asks for a part of a job's output.
type outputQuery struct {
	id, kind string
	public   bool
	after    uint64
	limit    int
}

func (n *Native) output(c *gin.Context, params []route.Param) error {
	if err := checkNames(c, params); err != nil {
		return err
	}
	r := &reader{c: c}
	q := outputQuery{id: r.text("id"), kind: r.text("kind"), public: !access.HasToken(c), limit: int(r.id("limit"))}
	wait := time.Duration(r.id("wait")) * time.Second
	if after := r.text("after"); after != "" {
		var err error
		if q.after, err = strconv.ParseUint(after, 10, 63); err != nil {
			r.keep(route.Errorf(http.StatusBadRequest, "query parameter after must be the member next of an answer"))
		}
	}
	if r.err != nil {
		return r.err
	}
	body, err := n.outputWithin(c, q, wait)
	if err == nil {
		respond(c, body)
	}
	return err
}

// outputWithin gives an answer, if it is to wait when there is a piece or the time is over.
func (n *Native) outputWithin(c *gin.Context, q outputQuery, wait time.Duration) ([]byte, error) {
	waiting, stop := n.patience(c.Request.Context(), wait)
	defer stop()
	named, _ := jobs.ParseID(q.id)
	job, header := named.Ref.GetJobId(), c.Request.Header
	for {
		mark, known := "", false
		if wait > 0 {
			mark, known = n.outputMark(waiting, job)
		}
		body, err := n.outputNow(c.Request.Context(), header, q)
		if err != nil || !known || !bytes.HasPrefix(body, []byte(noOutput)) || bytes.Contains(body, []byte(`"ended":true`)) {
			return body, err
		}
		if n.Output.Moved(waiting, job, mark) != nil {
			return body, nil
		}
		header = http.Header{} // what was waited for must be in the answer
	}
}

// outputMark gives the watermark of a job's output, as it is now or later.
func (n *Native) outputMark(ctx context.Context, job string) (mark string, known bool) {
	target, err := n.Answers.Gate.Target(ctx, eventlog.Position{}, eventlog.JobOutput)
	for err == nil && !known && ctx.Err() == nil {
		mark, known = n.Output.Watermark(ctx, job, target)
	}
	return mark, known
}

func (n *Native) outputNow(ctx context.Context, header http.Header, q outputQuery) ([]byte, error) {
	key := fmt.Sprintf("%s/jobs/%s/output?%s&%d&%d&%t", prefix, q.id, q.kind, q.after, q.limit, q.public)
	return n.Answers.Get(ctx, header, fresh.Scope{Topics: toOutput}, key, func(ctx context.Context, at fresh.At) (cache.Value, error) {
		v := n.Reader.At(at.Generation)
		job, err := readJob(ctx, v, q.id, q.public)
		if err != nil {
			return cache.Value{}, err
		}
		page := OutputPage{Items: []OutputPiece{}, Next: strconv.FormatUint(q.after, 10), Ended: job.Ended, Position: at.Position.String()}
		if job.JobID != "" {
			err = n.addOutput(ctx, v, q, job.JobID, &page)
		}
		if err != nil {
			return cache.Value{}, err
		}
		return encode(page)
	})
}

// addOutput adds as many pieces as a page holds.
func (n *Native) addOutput(ctx context.Context, v *lab.View, q outputQuery, job string, page *OutputPage) error {
	pieces, err := v.Output(ctx, job, q.kind, q.after, q.limit)
	if err != nil {
		return err
	}
	size := uint64(0)
	for i := range pieces {
		p := &pieces[i]
		if size += p.Size; size > maxOutput && i > 0 {
			break
		}
		text, err := n.Packer.Unpack(ctx, p.Document())
		if err != nil {
			return fmt.Errorf("read output of job %s: %w", q.id, err)
		}
		page.Items = append(page.Items, OutputPiece{At: p.At, Phase: p.Phase, Fragment: p.Fragment, SentAt: p.SentAt, Text: strings.ToValidUTF8(string(text), "\ufffd")})
		page.Next = strconv.FormatUint(p.Place, 10)
	}
	return nil
}
