package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/millrace/millrace/deploy/standalone/backup"
	"github.com/millrace/millrace/processor"
	"github.com/millrace/millrace/processor/archive"
	"github.com/millrace/millrace/processor/replay"
	"github.com/millrace/millrace/schemas/route"
)

// What the operator's socket and, with a token, the server answer beside the commands that go through the log.
const (
	// SocketName is the operator's Unix socket in the data folder.
	SocketName = "operator.sock"
	ReplayPath = "/millrace/v1/admin/replay"
	BackupPath = "/millrace/v1/admin/backup"
	// FailureTrailer tells why a backup that was begun is not whole.
	FailureTrailer = "Millrace-Failure"
)

// ReplayProgress is one line of a replay's answer.
type ReplayProgress struct {
	Records int64          `json:"records"`
	Report  *replay.Report `json:"report,omitempty"`
	Error   string         `json:"error,omitempty"`
}

// operations are long works of the operator's; one of each kind at a time.
type operations struct {
	process   *process
	replaying sync.Mutex
}

func (o *operations) routes() []route.Route {
	refusals := []route.Answer{
		{Status: 401, Body: route.Failure{}, Description: "No token, or one that is not known."},
		{Status: 403, Body: route.Failure{}, Description: "The token's role is not operator."},
	}
	return []route.Route{{
		Method: http.MethodPost, Path: ReplayPath, Side: route.Each, API: "millrace", Access: route.TokenOperator, Timeout: 7 * 24 * time.Hour,
		Summary: "Build all projections again and make them current", Handler: o.replay,
		Answers: append([]route.Answer{{
			Status: 200, Body: ReplayProgress{}, ContentType: "application/x-ndjson", Description: "Progress, an object in each line; the last has the report.",
		}}, append(refusals, route.Answer{Status: 409, Body: route.Failure{}, Description: "A replay is on its way."})...),
	}, {
		Method: http.MethodPost, Path: BackupPath, Side: route.Each, API: "millrace", Access: route.TokenOperator, Timeout: 7 * 24 * time.Hour,
		Summary: "Save the installation: log, blobs and keys", Handler: o.backup,
		Answers: append([]route.Answer{{
			Status: 200, Body: "", ContentType: "application/gzip", Description: "The backup; trailer " + FailureTrailer + " says why it is not whole.",
		}}, refusals...),
	}}
}

func (o *operations) replay(c *gin.Context) {
	if o.process.processor == nil {
		route.Fail(c, http.StatusConflict, "this process has no processor: run millrace replay beside the cluster")
		return
	}
	if !o.replaying.TryLock() {
		route.Fail(c, http.StatusConflict, "a replay is on its way already")
		return
	}
	defer o.replaying.Unlock()
	control := http.NewResponseController(c.Writer)
	unbounded(control)
	c.Header("Content-Type", "application/x-ndjson")
	c.Status(http.StatusOK)
	tell := func(p ReplayProgress) {
		_ = json.NewEncoder(c.Writer).Encode(p)
		_ = control.Flush()
	}
	report, err := o.process.processor.Rebuild(c.Request.Context(), func(records int64) { tell(ReplayProgress{Records: records}) })
	if err != nil {
		tell(ReplayProgress{Error: err.Error()})
		return
	}
	tell(ReplayProgress{Records: report.Records, Report: &report})
}

// unbounded lifts the server's bounds from a request that may take days; the one on reading would end its context too.
func unbounded(control *http.ResponseController) {
	_ = control.SetReadDeadline(time.Time{})
	_ = control.SetWriteDeadline(time.Time{})
}

func (o *operations) backup(c *gin.Context) {
	unbounded(http.NewResponseController(c.Writer))
	c.Header("Content-Type", "application/gzip")
	c.Header("Trailer", FailureTrailer)
	c.Status(http.StatusOK)
	if _, err := backup.Write(c.Request.Context(), c.Writer, o.process.backupSource()); err != nil {
		o.process.logger.Error("backup failed", "error", err)
		c.Header(FailureTrailer, err.Error())
	}
}

func (p *process) backupSource() backup.Source {
	return backup.Source{
		Log: p.log, Archive: p.archive, Epoch: p.epoch, Blobs: p.blobs, KeyFile: keyFile(p.options.Config), KeyID: p.keys.ID(),
	}
}

// Backup saves the installation that the settings' engines hold. It needs no more of it than these and the key.
func Backup(ctx context.Context, o Options, to io.Writer) (err error) {
	if err := checkBlobs(o.Config); err != nil {
		return err
	}
	keys, err := existingKey(keyFile(o.Config))
	if err != nil {
		return err
	}
	e, err := openEngines(ctx, o.Config, o.Progress, o.Logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	source := backup.Source{
		Log: e.log, Archive: archive.New(e.db), Blobs: e.blobs, KeyFile: keyFile(o.Config), KeyID: keys.ID(),
		Progress: o.counter("saved"),
	}
	if source.Epoch, err = source.Archive.Epoch(ctx, e.log.LogID); err != nil {
		return err
	}
	_, err = backup.Write(ctx, to, source)
	return err
}

// counter shows a person how many records are done.
func (o Options) counter(done string) func(records int64) {
	return func(records int64) { _, _ = fmt.Fprintf(o.Progress, "\r%s %d records ", done, records) }
}

// Restore brings a backup back into the settings' engines, which must hold nothing and be used by nobody.
func Restore(ctx context.Context, o Options, from io.Reader) (backup.Summary, error) {
	if entries, err := os.ReadDir(o.Config.Data); err == nil && len(entries) > 0 && o.Config.ClickHouse == "" {
		return backup.Summary{}, fmt.Errorf("%s: %w", o.Config.Data, backup.ErrNotEmpty)
	}
	if err := os.MkdirAll(o.Config.Data, 0o700); err != nil {
		return backup.Summary{}, fmt.Errorf("make the data folder: %w", err)
	}
	e := &engines{}
	err := e.openBlobs(ctx, o.Config)
	if err == nil {
		err = e.openClickHouse(ctx, o.Config, o.Progress, o.Logger)
	}
	if err != nil {
		return backup.Summary{}, errors.Join(err, e.close())
	}
	summary, err := backup.Read(ctx, from, backup.Target{
		Archive: archive.New(e.db), Blobs: e.blobs, KeyFile: keyFile(o.Config), Progress: o.counter("restored"),
	})
	return summary, errors.Join(err, e.close())
}

// Replay builds a generation in a process of its own, for a cluster.
func Replay(ctx context.Context, o Options, tell func(ReplayProgress) error) error {
	if err := checkBlobs(o.Config); err != nil {
		return err
	}
	metrics := prometheus.NewRegistry()
	k, err := openCore(ctx, o, metrics, keyMustExist)
	if err != nil {
		return err
	}
	defer k.close()
	service, err := processor.New(sinkConfig(o.Config.Processor), processor.Dependencies{
		Client: k.log, DB: k.db, Generation: k.generation, Appender: k.appender, Packer: k.packer, Epoch: k.epoch,
		CodeVersion: o.Version, Registry: metrics, Tracer: noop.NewTracerProvider().Tracer(""), Logger: o.Logger,
	})
	if err != nil {
		return err
	}
	report, err := service.Rebuild(ctx, func(records int64) { _ = tell(ReplayProgress{Records: records}) })
	if err != nil {
		return err
	}
	return tell(ReplayProgress{Records: report.Records, Report: &report})
}
