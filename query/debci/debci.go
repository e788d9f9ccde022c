// Package debci is the read side of the debci API: results, the reject list, keys and the page that documents it all.
// Section numbers in comments are those of the API's wire contract.
package debci

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/millrace/millrace/processor/debci"
	"github.com/millrace/millrace/query/gate"
	"github.com/millrace/millrace/schemas/clickhouse"
	"github.com/millrace/millrace/schemas/document"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// API is the name of this API in the route tables.
const API = "debci"

// Config is what the read side works with. All is required.
type Config struct {
	DB *clickhouse.DB
	// Generation is the number of the projections' current generation.
	Generation func() uint32
	Gate       *gate.Gate
	Packer     *document.Packer
	Rejected   *debci.RejectFile
	// Rules are shown on the page.
	Rules debci.Rules
	// MaxRows bounds the results of one answer.
	MaxRows int
}

// Debci serves the read endpoints.
type Debci struct {
	Config

	// page documents the API.
	page *template.Template
}

// New gives the read side.
func New(c Config) *Debci {
	return &Debci{Config: c, page: template.Must(template.New("doc").Parse(docPage))}
}

// read gives a function the database of a generation that contains every job which was in the log when the request came,
// or what the position that it carries names. Errors are *route.Error, or the context's.
func (d *Debci) read(ctx context.Context, header http.Header, look func(database string) error) error {
	need, err := gate.Need(header)
	if err != nil {
		return err
	}
	target, err := d.Gate.Target(ctx, need, eventlog.Jobs)
	if err != nil {
		return err
	}
	for {
		generation := d.Generation()
		if generation == 0 {
			return route.Busy(time.Second, "the projections are being built; try again")
		}
		if err = d.Gate.Wait(ctx, generation, target); err == nil {
			err = look("`" + d.DB.Generation(generation) + "`")
		}
		if !errors.Is(err, gate.ErrSuperseded) {
			return err
		}
		if d.Generation() == generation {
			return fmt.Errorf("%w: %w", route.Busy(time.Second, "the projections are being replaced; try again"), err)
		}
	}
}

// Codes of ClickHouse's exceptions.
const (
	codeUnknownTable    = 60
	codeUnknownDatabase = 81
	codeTimeout         = 159
	codeTooMany         = 202
	codeMemory          = 241
)

// fault says what an error of ClickHouse means to the reader: a generation that was dropped, an engine that is missing or
// overloaded, or a mistake of ours.
func fault(ctx context.Context, err error) error {
	exception, answered := errors.AsType[*ch.Exception](err)
	_, misread := errors.AsType[*ch.OpError](err)
	switch {
	case err == nil || ctx.Err() != nil || misread:
		return err
	case !answered:
		return unavailable(err)
	}
	switch exception.Code {
	case codeUnknownTable, codeUnknownDatabase:
		return fmt.Errorf("%w: %w", gate.ErrSuperseded, err)
	case codeTimeout, codeTooMany, codeMemory:
		return unavailable(err)
	}
	return fmt.Errorf("read debci's tests: %w", err)
}

func unavailable(err error) error {
	return fmt.Errorf("%w: %w", route.Busy(2*time.Second, "ClickHouse does not answer; try again"), err)
}
