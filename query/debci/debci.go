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
