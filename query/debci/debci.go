// Package debci is the read side of the debci API: results, the reject list, keys and the page that documents it all.
// Section numbers in comments are those of the API's wire contract.
package debci

import (
	"context"
	"html/template"
	"net/http"

	"github.com/millrace/millrace/processor/debci"
	"github.com/millrace/millrace/query/gate"
	"github.com/millrace/millrace/schemas/clickhouse"
	"github.com/millrace/millrace/schemas/document"
	"github.com/millrace/millrace/schemas/eventlog"
)

// API is the name of this API in the route tables.
const API = "debci"

// Config is what the read side works with. All is required.
type Config struct {
	DB       *clickhouse.DB
	Gate     *gate.Gate
	Packer   *document.Packer
	Rejected *debci.RejectFile
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
	return d.Gate.Read(ctx, header, func(generation uint32) error { return look("`" + d.DB.Generation(generation) + "`") }, eventlog.Jobs)
}
